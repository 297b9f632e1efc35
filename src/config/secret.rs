//! The keys that encrypt sensitive session fields, which nothing prints.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// 256 bits that encrypt sensitive fields at rest, or nothing; and the keys before it, which only decrypt.
///
/// Neither `Debug` nor an error ever shows the bits; only [`EncryptionKey::expose`] and [`EncryptionKey::older`] do.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncryptionKey(Option<[u8; 32]>, OlderKeys);

/// Keys that only decrypt. `Debug` says how many there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OlderKeys(Vec<[u8; 32]>);

impl OlderKeys {
    /// The most keys: whoever rotates them seals everything anew before that.
    pub(super) const MOST: usize = 16;

    /// Reads texts of 64 hexadecimal digits. `None` for anything else, and for too many.
    pub fn from_hex(texts: &[impl AsRef<str>]) -> Option<Self> {
        let read = |text: &str| blake3::Hash::from_hex(text).ok().map(|bits| *bits.as_bytes());
        let keys = texts.iter().map(|text| read(text.as_ref())).collect::<Option<Vec<_>>>()?;
        (keys.len() <= Self::MOST).then_some(Self(keys))
    }
}

impl fmt::Debug for OlderKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} set)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for OlderKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Self::from_hex(&texts)
            .ok_or_else(|| serde::de::Error::custom("expected lists of 64 hexadecimal digits"))
    }
}

impl EncryptionKey {
    /// Reads 64 hexadecimal digits; an empty text is no key. `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        blake3::Hash::from_hex(text).ok().map(|bits| Self(Some(*bits.as_bytes()), OlderKeys::default()))
    }

    /// The bits, for the cipher alone.
    pub const fn expose(&self) -> Option<&[u8; 32]> {
        self.0.as_ref()
    }

    /// The bits of those before it, for the cipher alone.
    pub fn older(&self) -> &[[u8; 32]] {
        &self.1.0
    }

    /// The same key, and these before it.
    #[must_use]
    pub fn with_older(&self, older: &OlderKeys) -> Self {
        Self(self.0, older.clone())
    }

    /// Whether there is a key.
    pub const fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "(set)" } else { "(not set)" })
    }
}

impl<'de> Deserialize<'de> for EncryptionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly_64_digits_or_nothing() {
        assert!(!EncryptionKey::from_hex("").expect("no key is fine").is_set());
        let key = EncryptionKey::from_hex(&"0F".repeat(32)).expect("64 digits");
        assert_eq!(key.expose(), Some(&[0x0f; 32]));
        for text in ["0f", &"0f".repeat(33), &"0g".repeat(32), &format!(" {}", "0".repeat(63))] {
            assert!(EncryptionKey::from_hex(text).is_none(), "{text}");
        }
    }

    #[test]
    fn is_never_shown() {
        let key = EncryptionKey::from_hex(&"5a".repeat(32)).expect("64 digits");
        assert_eq!(format!("{key:?} {:?}", EncryptionKey::default()), "(set) (not set)");
        let older = OlderKeys::from_hex(&["5a".repeat(32)]).expect("64 digits");
        assert_eq!(format!("{older:?} {:?}", key.with_older(&older)), "(1 set) (set)");
        assert!(
            OlderKeys::from_hex(&["5a"]).is_none()
                && OlderKeys::from_hex(&vec!["5a".repeat(32); 17]).is_none()
        );
    }
}
