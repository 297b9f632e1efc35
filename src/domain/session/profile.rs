//! The two sets of rules a session can live by, and how long it lives.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::SessionError;
use super::lifecycle::Status;

/// The longest life that a client may ask for, in seconds: a year.
pub const MAX_TTL_SECONDS: u64 = 31_536_000;

/// What is accepted as a number of seconds.
const SECONDS: &str = "a whole number of seconds from 1 to 31536000";

/// Which rules a session lives by. Never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A browser of a project: its status moves forward only, and it ends an hour after it was created.
    Browser,
    /// A tool server's opaque state: any status, no project needed, ends a day after its last change.
    Mcp,
}

impl Profile {
    /// What a body without a `profile` means.
    pub const fn implied(has_project: bool) -> Self {
        if has_project { Self::Browser } else { Self::Mcp }
    }

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Mcp => "mcp",
        }
    }

    /// The profile of that name in JSON.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Browser, Self::Mcp].into_iter().find(|profile| profile.as_str() == name)
    }

    /// The status of a session created without one.
    pub const fn initial_status(self) -> Status {
        match self {
            Self::Browser => Status::Creating,
            Self::Mcp => Status::Active,
        }
    }

    /// The life of a session created without a `ttl`.
    pub const fn default_ttl(self) -> Ttl {
        match self {
            Self::Browser => Ttl { mode: TtlMode::Fixed, seconds: 3_600 },
            Self::Mcp => Ttl { mode: TtlMode::Sliding, seconds: 86_400 },
        }
    }
}

/// What a session's life is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtlMode {
    /// Its creation.
    Fixed,
    /// Its last change.
    Sliding,
}

/// How long a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ttl {
    /// From when.
    pub mode: TtlMode,
    /// How many seconds.
    pub seconds: u64,
}

impl Ttl {
    /// This with the members that `object` names in place of its own.
    ///
    /// A value equal to the current one is accepted even if it is out of bounds, so that a session that another
    /// writer stored can be sent back as it was read.
    pub(super) fn with(self, object: &Map<String, Value>) -> Result<Self, SessionError> {
        let mut ttl = self;
        for (member, value) in object {
            match (member.as_str(), value) {
                ("mode", Value::String(mode)) if mode == "fixed" => ttl.mode = TtlMode::Fixed,
                ("mode", Value::String(mode)) if mode == "sliding" => ttl.mode = TtlMode::Sliding,
                ("mode", _) => return Err(SessionError::invalid("ttl.mode", "`fixed` or `sliding`")),
                ("seconds", value) if value.as_u64() == Some(self.seconds) => {}
                ("seconds", value) => ttl.seconds = seconds("ttl.seconds", value)?,
                _ => {
                    return Err(SessionError::invalid(
                        format!("ttl.{member}"),
                        "absent; the members are mode and seconds",
                    ));
                }
            }
        }
        Ok(ttl)
    }
}

/// Reads a life in seconds within its bounds.
pub(super) fn seconds(field: &str, value: &Value) -> Result<u64, SessionError> {
    let bounds = 1..=MAX_TTL_SECONDS;
    value
        .as_u64()
        .filter(|seconds| bounds.contains(seconds))
        .ok_or_else(|| SessionError::invalid(field, SECONDS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for profile in [Profile::Browser, Profile::Mcp] {
            assert_eq!(serde_json::to_value(profile).expect("JSON"), json!(profile.as_str()));
            assert_eq!(Profile::parse(profile.as_str()), Some(profile));
        }
        assert_eq!(Profile::parse("Browser"), None);
    }

    #[test]
    fn bounds_seconds() {
        for good in [json!(1), json!(600), json!(31_536_000)] {
            assert!(seconds("ttl_seconds", &good).is_ok(), "{good}");
        }
        for bad in [json!(0), json!(-1), json!(31_536_001), json!(1.5), json!("60"), json!(null)] {
            let refused = seconds("ttl_seconds", &bad).unwrap_err();
            assert_eq!(refused, SessionError::invalid("ttl_seconds", SECONDS), "{bad}");
        }
    }

    #[test]
    fn a_partial_ttl_keeps_the_rest() {
        let ttl = Profile::Browser.default_ttl();
        let with = |value: Value| ttl.with(value.as_object().expect("an object"));
        assert_eq!(with(json!({})), Ok(ttl));
        assert_eq!(with(json!({"seconds": 60})), Ok(Ttl { mode: TtlMode::Fixed, seconds: 60 }));
        assert_eq!(with(json!({"mode": "sliding"})), Ok(Ttl { mode: TtlMode::Sliding, seconds: 3_600 }));
        for (bad, field) in [
            (json!({"mode": "never"}), "ttl.mode"),
            (json!({"mode": null}), "ttl.mode"),
            (json!({"seconds": 0}), "ttl.seconds"),
            (json!({"second": 1}), "ttl.second"),
        ] {
            assert!(
                matches!(with(bad).unwrap_err(), SessionError::InvalidField { field: named, .. } if named == field)
            );
        }
    }

    #[test]
    fn what_was_stored_out_of_bounds_can_be_sent_back() {
        let foreign = Ttl { mode: TtlMode::Fixed, seconds: MAX_TTL_SECONDS * 9 };
        let echo = serde_json::to_value(foreign).expect("JSON");
        assert_eq!(foreign.with(echo.as_object().expect("an object")), Ok(foreign));
    }
}
