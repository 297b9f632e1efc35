//! Session ids: names that clients choose or the service draws.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::error::SessionError;

/// The longest session id in characters.
pub const MAX_ID_CHARS: usize = 128;

/// A session's name within its namespace: 1 to 128 of `A-Z`, `a-z`, `0-9`, `_`, `-`, `.`, `:`.
///
/// `.` and `..` alone are refused: clients resolve them away as path segments, so nobody could ask for them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`SessionError::InvalidId`].
    pub fn new(name: &str) -> Result<Self, SessionError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        let fits = (1..=MAX_ID_CHARS).contains(&name.len()) && name.bytes().all(allowed);
        if !fits || matches!(name, "." | "..") {
            return Err(SessionError::InvalidId);
        }
        Ok(Self(Arc::from(name)))
    }

    /// `sess_` and eight hexadecimal digits. 32 bits do collide: the store must refuse a name that is taken and
    /// the caller draw again.
    pub fn from_random(random: u32) -> Self {
        Self(Arc::from(format!("sess_{random:08x}")))
    }

    /// `sess_` and 32 hexadecimal digits: no two of them are ever the same, so that nobody has to be asked whether one is
    /// taken.
    pub fn from_unique(random: u128) -> Self {
        Self(Arc::from(format!("sess_{random:032x}")))
    }

    /// The id that a request body names in its `id` field, where it has one.
    ///
    /// # Errors
    /// [`SessionError::InvalidId`] if the field holds anything but an id or null.
    pub fn named_in(body: &Value) -> Result<Option<Self>, SessionError> {
        match body.get("id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => Self::new(name).map(Some),
            Some(_) => Err(SessionError::InvalidId),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn accepts_what_the_alphabet_allows() {
        for name in ["sess_a1b2c3d4", "x", "A-Z_0.9:mcp", "...", &"n".repeat(128)] {
            assert_eq!(SessionId::new(name).expect(name).as_str(), name);
        }
        for name in ["", ".", "..", "a b", "a/b", "é", "a\n", "a%2f", &"n".repeat(129)] {
            assert_eq!(SessionId::new(name).unwrap_err(), SessionError::InvalidId, "{name}");
        }
    }

    #[test]
    fn random_ids_have_a_fixed_width() {
        assert_eq!(SessionId::from_random(0xa1b2_c3d4).as_str(), "sess_a1b2c3d4");
        assert_eq!(SessionId::from_random(7).as_str(), "sess_00000007");
        assert!(SessionId::new(SessionId::from_random(u32::MAX).as_str()).is_ok());
        assert_eq!(SessionId::from_unique(7).as_str(), "sess_00000000000000000000000000000007");
        assert!(SessionId::new(SessionId::from_unique(u128::MAX).as_str()).is_ok());
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_value::<SessionId>(json!("ok")).is_ok());
        assert!(serde_json::from_value::<SessionId>(json!("not ok")).is_err());
        assert_eq!(serde_json::to_value(SessionId::from_random(1)).expect("JSON"), json!("sess_00000001"));
    }

    #[test]
    fn finds_the_id_in_a_body() {
        let named = |body: Value| SessionId::named_in(&body).map(|id| id.map(|id| id.to_string()));
        assert_eq!(named(json!({"id": "mine"})), Ok(Some("mine".to_owned())));
        assert_eq!(named(json!({"id": null})), Ok(None));
        assert_eq!(named(json!({})), Ok(None));
        assert_eq!(named(json!([])), Ok(None));
        assert_eq!(named(json!({"id": 5})), Err(SessionError::InvalidId));
    }
}
