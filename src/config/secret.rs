//! The key that encrypts sensitive session fields, which nothing prints.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// 256 bits that encrypt sensitive fields at rest, or nothing.
///
/// Neither `Debug` nor an error ever shows the bits; only [`EncryptionKey::expose`] does.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncryptionKey(Option<[u8; 32]>);

impl EncryptionKey {
    /// Reads 64 hexadecimal digits; an empty text is no key. `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(None));
        }
        blake3::Hash::from_hex(text).ok().map(|bits| Self(Some(*bits.as_bytes())))
    }

    /// The bits, for the cipher alone.
    pub const fn expose(&self) -> Option<&[u8; 32]> {
        self.0.as_ref()
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
    }
}
