//! The identity of a result: namespace, url and variant, and the frozen hashes made of the three.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// The longest url in bytes. Browsers and servers agree on about 8 KiB (RFC 9110 section 4.1 asks for 8,000 octets).
pub const MAX_URL_BYTES: usize = 8192;

/// The longest variant in characters.
pub const MAX_VARIANT_CHARS: usize = 256;

/// What follows the caller's variant in the key of a failed result. No caller's variant can contain a space.
const FAILED: &str = " failed";

/// The longest namespace in bytes.
const MAX_NAMESPACE_BYTES: usize = 64;

/// Why a namespace, url or variant cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No url, or one of zero length.
    #[error("url is empty")]
    UrlEmpty,
    /// Longer than [`MAX_URL_BYTES`].
    #[error("url has {bytes} bytes; at most {MAX_URL_BYTES} are accepted")]
    UrlTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// White space or a control character.
    #[error(
        "url has {found} at byte {at}; percent-encode it (a `+` in a query string reads as a space: send %2B)"
    )]
    UrlCharacter {
        /// The character, by name.
        found: &'static str,
        /// Its byte offset.
        at: usize,
    },
    /// No scheme, or a web scheme without a host.
    #[error("url is not absolute; it must begin with a scheme and, for http and https, name a host")]
    UrlRelative,
    /// The url has no canonical form, although the configuration asks for one.
    #[error("url cannot be parsed: {0}")]
    UrlUnparsable(String),
    /// Longer than [`MAX_VARIANT_CHARS`].
    #[error("variant has {chars} characters; at most {MAX_VARIANT_CHARS} are accepted")]
    VariantTooLong {
        /// Its length in characters.
        chars: usize,
    },
    /// White space or a control character.
    #[error("variant must not contain white space or control characters")]
    VariantCharacter,
    /// Not 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`.
    #[error("namespace must be 1 to {MAX_NAMESPACE_BYTES} characters of a-z, 0-9, `-`, `_` and `.`")]
    Namespace,
}

/// The tenant that an entry belongs to: `default` unless the caller's token names another.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`KeyError::Namespace`] unless it is 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAMESPACE_BYTES || !name.bytes().all(allowed) {
            return Err(KeyError::Namespace);
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// BLAKE3-128 of namespace, url and variant: the key under which every store keeps a result.
///
/// Frozen: the test vectors below are part of the storage format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 16]);

impl KeyId {
    pub(super) fn of(namespace: &str, url: &str, variant: &str) -> Self {
        // Zero bytes separate the parts: none of the three may contain one.
        let parts = [namespace.as_bytes(), &[0], url.as_bytes(), &[0], variant.as_bytes()];
        let mut buffer = [0; 512];
        let mut length = 0;
        let fits = parts.iter().all(|part| {
            let begin = length;
            length += part.len();
            buffer.get_mut(begin..length).map(|free| free.copy_from_slice(part)).is_some()
        });
        // In one piece, that takes two thirds of the time.
        let hash = if fits {
            blake3::hash(&buffer[..length])
        } else {
            parts.iter().fold(&mut blake3::Hasher::new(), |hasher, part| hasher.update(part)).finalize()
        };
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Self(id)
    }

    /// The id that a store kept as bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The routing bucket, 0 to 9,999: `xxh3_64(id) % 10_000`. Frozen like the id.
    pub fn bucket(&self) -> u16 {
        (xxh3_64(&self.0) % 10_000) as u16
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Namespace, url and variant of one result, checked, with its id.
#[derive(Clone, Debug)]
pub struct Key {
    namespace: Namespace,
    url: Box<str>,
    variant: Box<str>,
    id: KeyId,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

impl Key {
    /// Checks the three parts and hashes them. The url is taken exactly as it is.
    ///
    /// The variant may be the stored text of a failed result's key (see [`Key::failed`]): stores make keys of what they
    /// have kept. Who makes one of what a caller says must refuse those ([`Key::is_failed`]).
    ///
    /// # Errors
    /// The first rule that a part breaks.
    pub fn new(namespace: &Namespace, url: &str, variant: &str) -> Result<Self, KeyError> {
        check_url(url)?;
        check_variant(variant.strip_suffix(FAILED).unwrap_or(variant))?;
        let id = KeyId::of(namespace.as_str(), url, variant);
        Ok(Self { namespace: namespace.clone(), url: url.into(), variant: variant.into(), id })
    }

    /// The tenant.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The url, as the caller gave it or in the configured canonical form.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The variant as stores keep it; empty for the default one. [`Key::caller_variant`] is what callers know.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// The variant that the caller named, whichever of the two results it is.
    pub fn caller_variant(&self) -> &str {
        self.variant.strip_suffix(FAILED).unwrap_or(&self.variant)
    }

    /// Whether it is the key of a failed result.
    pub fn is_failed(&self) -> bool {
        self.variant.ends_with(FAILED)
    }

    /// The key under which the failed result of the same page is kept, beside the good one.
    #[must_use]
    pub fn failed(&self) -> Self {
        if self.is_failed() {
            return self.clone();
        }
        let variant = [&*self.variant, FAILED].concat();
        let id = KeyId::of(self.namespace.as_str(), &self.url, &variant);
        Self { namespace: self.namespace.clone(), url: self.url.clone(), variant: variant.into(), id }
    }

    /// The hash under which stores keep the result.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The host in lower case as listings know it; empty for urls without one (`file:`, or one that no parser accepts).
    pub fn host(&self) -> String {
        host_of(&self.url)
    }
}

/// The host of an absolute url in lower case; empty where there is none.
pub fn host_of(url: &str) -> String {
    url::Url::parse(url).ok().and_then(|parsed| parsed.host_str().map(str::to_owned)).unwrap_or_default()
}

/// Cheap rules only: this runs on every request. What is costly to parse is parsed where a result is stored.
fn check_url(url: &str) -> Result<(), KeyError> {
    if url.is_empty() {
        return Err(KeyError::UrlEmpty);
    }
    if url.len() > MAX_URL_BYTES {
        return Err(KeyError::UrlTooLong { bytes: url.len() });
    }
    if let Some(at) = url.bytes().position(|byte| byte <= b' ' || byte == 0x7f) {
        let found = match url.as_bytes()[at] {
            b' ' => "a space",
            b'\t' | b'\n' | b'\r' => "white space",
            _ => "a control character",
        };
        return Err(KeyError::UrlCharacter { found, at });
    }
    if !url.is_ascii()
        && let Some((at, _)) = url.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control())
    {
        return Err(KeyError::UrlCharacter { found: "white space", at });
    }
    let (scheme, rest) = url.split_once(':').ok_or(KeyError::UrlRelative)?;
    let mut bytes = scheme.bytes();
    let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !starts_well || !bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Err(KeyError::UrlRelative);
    }
    let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let names_host = rest
        .strip_prefix("//")
        .is_some_and(|rest| !rest.starts_with(['/', '?', '#', ':']) && !rest.is_empty());
    if rest.is_empty() || (web && !names_host) {
        return Err(KeyError::UrlRelative);
    }
    Ok(())
}

fn check_variant(variant: &str) -> Result<(), KeyError> {
    if variant.is_empty() {
        return Ok(());
    }
    let chars = variant.chars().count();
    if chars > MAX_VARIANT_CHARS {
        return Err(KeyError::VariantTooLong { chars });
    }
    if variant.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(KeyError::VariantCharacter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(url: &str, variant: &str) -> Result<Key, KeyError> {
        Key::new(&Namespace::default(), url, variant)
    }

    /// Frozen: a change here would orphan every entry of every deployment.
    /// Computed with Python's `blake3` and `xxhash` packages.
    #[test]
    fn ids_and_buckets_are_frozen() {
        let vectors = [
            ("default", "https://example.com/", "", "6429be95f7b727d61d6c905f9659145e", 3958),
            ("default", "https://example.com/", "mobile", "f418359ea63d5646b9b703ab65af2e2a", 7603),
            ("tenant-a", "https://example.com/", "", "6c3c382cd810ebf432a903fdb21f3f9c", 4243),
            ("default", "https://example.com/a?b=c#d", "", "1e7d91d85c35ce2444e9e150ee9250bf", 5786),
            ("default", "https://bücher.example/é", "", "65fbdb78a120a8add7c2c18938881e13", 7392),
        ];
        for (namespace, url, variant, id, bucket) in vectors {
            let key = Key::new(&Namespace::new(namespace).expect("valid"), url, variant).expect("valid");
            assert_eq!((key.id().to_string().as_str(), key.id().bucket()), (id, bucket), "{url}");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let a = Key::new(&Namespace::new("a").expect("valid"), "b:c", "d").expect("valid");
        let b = Key::new(&Namespace::new("a").expect("valid"), "b:cd", "").expect("valid");
        assert_ne!(a.id(), b.id());
    }

    #[test]
    fn accepts_every_absolute_url_as_it_is() {
        for url in [
            "https://example.com",
            "HTTP://EXAMPLE.com/%7Euser?q=1#frag",
            "http://[::1]:8080/",
            "file:///tmp/page.html",
            "https://例え.jp/パス",
            "ftp://host/file",
        ] {
            assert_eq!(key(url, "").expect(url).url(), url);
        }
    }

    #[test]
    fn refuses_what_cannot_name_a_page() {
        assert_eq!(key("", "").unwrap_err(), KeyError::UrlEmpty);
        for url in [
            "/path",
            "example.com/a",
            "//example.com",
            "http:",
            "https://",
            "http:///path",
            "1http://a",
            ":x",
        ] {
            assert_eq!(key(url, "").unwrap_err(), KeyError::UrlRelative, "{url}");
        }
        for url in ["https://a/b c", "https://a/\n", "https://a/\u{7f}", "https://a/\u{a0}"] {
            assert!(matches!(key(url, "").unwrap_err(), KeyError::UrlCharacter { .. }), "{url:?}");
        }
        let long = format!("https://a/{}", "x".repeat(9 * 1024));
        assert!(matches!(key(&long, "").unwrap_err(), KeyError::UrlTooLong { .. }));
    }

    #[test]
    fn bounds_variants_and_namespaces() {
        assert!(key("https://a/", &"é".repeat(256)).is_ok());
        assert!(matches!(key("https://a/", &"v".repeat(257)).unwrap_err(), KeyError::VariantTooLong { .. }));
        assert_eq!(key("https://a/", "a b").unwrap_err(), KeyError::VariantCharacter);
        for name in ["", "Upper", "a b", "a/b", &"n".repeat(65)] {
            assert_eq!(Namespace::new(name).unwrap_err(), KeyError::Namespace, "{name}");
        }
    }

    #[test]
    fn a_failed_result_has_a_key_of_its_own() {
        for variant in ["", "mobile", &"é".repeat(256)] {
            let good = key("https://example.com/", variant).expect("valid");
            let failed = good.failed();
            assert!(!good.is_failed() && failed.is_failed());
            assert_ne!(good.id(), failed.id());
            assert_eq!((good.caller_variant(), failed.caller_variant()), (variant, variant));
            assert_eq!(failed.failed(), failed);
            // As stores read it back.
            let back = key(failed.url(), failed.variant()).expect("a stored key");
            assert_eq!((back.id(), back.is_failed()), (failed.id(), true));
        }
        // Frozen, as the others are.
        let failed = key("https://example.com/", "mobile").expect("valid").failed();
        assert_eq!(failed.variant(), "mobile failed");
        for variant in ["failed", "mobilefailed"] {
            assert!(!key("https://a/", variant).expect("valid").is_failed());
        }
        for variant in [" failed failed", " Failed", "failed ", "a b failed", "  failed", " "] {
            assert_eq!(key("https://a/", variant).unwrap_err(), KeyError::VariantCharacter, "{variant:?}");
        }
    }

    #[test]
    fn knows_hosts() {
        assert_eq!(key("https://User@EXAMPLE.com:8443/x", "").expect("valid").host(), "example.com");
        assert_eq!(key("file:///tmp/x", "").expect("valid").host(), "");
    }
}
