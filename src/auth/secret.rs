//! The text of a token, `cc_<id>_<secret>`, and the hash that is stored of it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::AuthError;

/// What every token begins with, so that scanners for leaked secrets can find one.
const PREFIX: &str = "cc_";

/// The characters of an id. The alphabet has 32 of them: 50 random bits.
pub(super) const ID_CHARS: usize = 10;

/// Digits and lower-case letters without the ones that are mistaken for another (i, l, o, u).
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The random bytes of a secret, and their length in base64.
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;

const TEXT_BYTES: usize = PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS;

/// The whole text of a token as its owner keeps it. It is shown once, when the token is made, and never stored.
#[derive(Clone)]
pub struct TokenText(Box<str>);

impl TokenText {
    /// A new token: its id and its text.
    pub(super) fn generate() -> Result<(String, Self), AuthError> {
        let id = random_id()?;
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret)?;
        let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        Ok((id, Self(text.into())))
    }

    /// The text, to hand to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A new random id.
pub(super) fn random_id() -> Result<String, AuthError> {
    let mut bytes = [0; ID_CHARS];
    fill(&mut bytes)?;
    // 256 is a multiple of 32: every character is equally likely.
    Ok(bytes.iter().map(|byte| char::from(ID_ALPHABET[usize::from(byte % 32)])).collect())
}

fn fill(bytes: &mut [u8]) -> Result<(), AuthError> {
    getrandom::fill(bytes).map_err(|error| AuthError::Random(error.to_string()))
}

/// Whether `id` could be the id of a token.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == ID_CHARS && id.bytes().all(|byte| ID_ALPHABET.contains(&byte))
}

/// The id within a presented text, if that has the shape of a token at all.
pub(super) fn id_of(presented: &str) -> Option<&str> {
    if presented.len() != TEXT_BYTES {
        return None;
    }
    let (id, rest) = presented.strip_prefix(PREFIX)?.split_once('_')?;
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (is_id(id) && rest.bytes().all(alphabet)).then_some(id)
}

/// BLAKE3-256 of a token's whole text.
///
/// A plain hash is enough: 256 random bits cannot be guessed, so there is nothing that a slow hash would slow.
#[derive(Clone)]
pub(super) struct TokenHash(blake3::Hash);

impl TokenHash {
    pub(super) fn of(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    /// From 64 hexadecimal digits.
    pub(super) fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(Self)
    }

    pub(super) fn to_hex(&self) -> String {
        self.0.to_hex().to_string()
    }

    /// Whether both are equal, in a time that does not depend on where they differ.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_have_their_shape_and_never_repeat() {
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let (id, text) = TokenText::generate().expect("random bytes");
            assert_eq!(text.expose().len(), TEXT_BYTES);
            assert_eq!(id_of(text.expose()), Some(id.as_str()));
            let secret = text.expose().strip_prefix(&format!("cc_{id}_")).expect("prefix and id");
            assert_eq!(URL_SAFE_NO_PAD.decode(secret).expect("base64url").len(), 32);
            assert!(seen.insert(id) && seen.insert(secret.to_owned()));
        }
    }

    #[test]
    fn other_texts_have_no_id() {
        let (id, text) = TokenText::generate().expect("random bytes");
        let text = text.expose();
        for wrong in [
            "",
            "cc_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}a"),
            &text.replacen("cc_", "cd_", 1),
            &text.replacen(&id, &id.to_uppercase().replace(char::is_numeric, "A"), 1),
            &format!("{}é", &text[..text.len() - 2]),
            &format!("{} ", &text[..text.len() - 1]),
            &"é".repeat(TEXT_BYTES / 2),
        ] {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hashes_match_only_their_text_and_survive_hex() {
        let hash = TokenHash::of("cc_a");
        assert!(hash.matches(&TokenHash::of("cc_a")));
        assert!(!hash.matches(&TokenHash::of("cc_b")));
        assert!(TokenHash::from_hex(&hash.to_hex()).expect("64 digits").matches(&hash));
        assert!(TokenHash::from_hex("abc").is_none());
        // Part of the file format: the published BLAKE3 hash of nothing.
        assert!(TokenHash::of("").to_hex().starts_with("af1349b9f5f9a1a6a0404dea36dcc949"));
    }

    #[test]
    fn neither_text_nor_hash_is_shown() {
        let (_, text) = TokenText::generate().expect("random bytes");
        assert_eq!(format!("{text:?} {:?}", TokenHash::of(text.expose())), "(hidden) (hidden)");
    }
}
