//! Splits a JSON object into its top-level fields, and reads the few facts that entries keep.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DocumentError, HEAD_VALUE_BYTES, HOT, MAX_FIELDS, MAX_NAME_BYTES};
use crate::domain::entry::Validators;

/// Name and raw value text of each top-level field, in the order of the input.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// Splits `raw` into its top-level fields without copying a value; how deeply a value nests does not matter.
pub(crate) fn split(raw: &[u8]) -> Result<Members<'_>, DocumentError> {
    let object: Object<'_> = serde_json::from_slice(raw).map_err(|error| {
        if error.is_data() && first_byte(raw) != Some(b'{') {
            DocumentError::NotAnObject
        } else {
            DocumentError::Syntax(error.to_string())
        }
    })?;
    check_names(object.0.iter().map(|(name, _)| name.as_ref()))?;
    Ok(object.0)
}

fn first_byte(raw: &[u8]) -> Option<u8> {
    raw.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Refuses duplicates, absurd counts and absurd lengths.
pub(super) fn check_names<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Result<(), DocumentError> {
    if names.len() > MAX_FIELDS {
        return Err(DocumentError::TooManyFields);
    }
    let mut seen = HashSet::with_capacity(names.len());
    let mut bytes = 0;
    for name in names {
        bytes += name.len();
        if bytes > MAX_NAME_BYTES {
            return Err(DocumentError::NamesTooLong);
        }
        if !seen.insert(name) {
            return Err(DocumentError::DuplicateField(name.to_owned()));
        }
    }
    Ok(())
}

struct Object<'a>(Members<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(32));
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    members.push((name.0, map.next_value::<&'de RawValue>()?.get()));
                    // One more than is allowed tells that there are too many: the rest is only checked.
                    if members.len() > MAX_FIELDS {
                        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                        break;
                    }
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A field name, borrowed unless it has escapes. (`Cow<str>` alone always copies.)
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The order in which fields are stored: the head first, then a segment for each large field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Indices of the small fields, in the order of the input.
    pub(super) head: Vec<usize>,
    /// Indices of the large fields: the hot ones, then by size, the largest last.
    pub(super) large: Vec<usize>,
}

/// Decides the order from names and value lengths.
pub(super) fn order<'n>(fields: impl Iterator<Item = (&'n str, u64)>) -> Order {
    let mut head = Vec::new();
    let mut large = Vec::new();
    for (index, (name, length)) in fields.enumerate() {
        if length <= HEAD_VALUE_BYTES {
            head.push(index);
        } else {
            let hot = HOT.iter().position(|hot| *hot == name).unwrap_or(HOT.len());
            large.push((hot, if hot < HOT.len() { 0 } else { length }, index));
        }
    }
    large.sort_unstable();
    Order { head, large: large.into_iter().map(|(.., index)| index).collect() }
}

/// Whether a raw value is `null`, `""`, `[]` or `{}`.
pub(super) fn is_blank(value: &str) -> bool {
    match value.as_bytes() {
        b"null" | b"\"\"" => true,
        [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => inner.iter().all(u8::is_ascii_whitespace),
        _ => false,
    }
}

/// What an entry keeps of a document beside its body. A field of another type than expected is no fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The document's `url`.
    pub url: Option<String>,
    /// The document's `status_code`.
    pub status_code: Option<u16>,
    /// The document's `redirected_status_code`: the status at the end of the redirects that `status_code` began.
    pub redirected_status_code: Option<u16>,
    /// The document's `success`.
    pub success: Option<bool>,
    /// `etag` and `last-modified` of its `response_headers` (names in any case), and its `head_fingerprint`.
    pub validators: Validators,
}

impl Facts {
    /// The facts in a JSON object.
    ///
    /// # Errors
    /// [`DocumentError`] unless it is one.
    pub fn of(raw: &[u8]) -> Result<Self, DocumentError> {
        let mut facts = Self::default();
        for (name, value) in split(raw)? {
            facts.note(&name, value);
        }
        Ok(facts)
    }

    /// Reads one field, if it is one that facts come from.
    pub(super) fn note(&mut self, name: &str, value: &str) {
        match name {
            "url" => self.url = serde_json::from_str(value).ok(),
            "status_code" => self.status_code = serde_json::from_str(value).ok(),
            "redirected_status_code" => self.redirected_status_code = serde_json::from_str(value).ok(),
            "success" => self.success = serde_json::from_str(value).ok(),
            "head_fingerprint" => self.validators.head_fingerprint = validator(value),
            "response_headers" => {
                let Ok(headers) = split(value.as_bytes()) else { return };
                for (header, value) in headers {
                    if header.eq_ignore_ascii_case("etag") {
                        self.validators.etag = validator(value);
                    } else if header.eq_ignore_ascii_case("last-modified") {
                        self.validators.last_modified = validator(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether [`Facts::note`] looks at fields of this name.
    pub(super) fn wants(name: &str) -> bool {
        matches!(
            name,
            "url"
                | "status_code"
                | "redirected_status_code"
                | "success"
                | "head_fingerprint"
                | "response_headers"
        )
    }
}

/// A validator that can travel in a header: visible ASCII and spaces.
fn validator(value: &str) -> Option<String> {
    let text: String = serde_json::from_str(value).ok()?;
    Validators::accept(&text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_values_as_they_are_written() {
        let members = split(br#" {"a" : 1.50 , "b\n":[ 1,2 ],"c":"\ud800"} "#).expect("an object");
        let expected: Members<'_> =
            vec![("a".into(), "1.50"), ("b\n".into(), "[ 1,2 ]"), ("c".into(), r#""\ud800""#)];
        assert_eq!(members, expected);
        assert!(matches!(members[0].0, Cow::Borrowed(_)), "a plain name is not copied");
    }

    #[test]
    fn refuses_what_is_no_object() {
        for raw in ["[1]", "1", "\"a\"", "null", " true "] {
            assert_eq!(split(raw.as_bytes()).unwrap_err(), DocumentError::NotAnObject, "{raw}");
        }
        for raw in ["", "{", "{\"a\":}", "{\"a\":1,}", "{} x", "{\"a\":01}", "{'a':1}", "{\"a\":\"\u{1}\"}"] {
            assert!(matches!(split(raw.as_bytes()).unwrap_err(), DocumentError::Syntax(_)), "{raw}");
        }
        assert!(matches!(split(b"{\"a\":\"\xff\"}").unwrap_err(), DocumentError::Syntax(_)), "not UTF-8");
        assert_eq!(split(br#"{"a":1,"\u0061":2}"#).unwrap_err(), DocumentError::DuplicateField("a".into()));
    }

    #[test]
    fn refuses_more_names_than_a_layout_should_hold() {
        let longest = "n".repeat(MAX_NAME_BYTES - 1);
        assert_eq!(split(format!("{{\"{longest}\":1,\"a\":2}}").as_bytes()).map(|all| all.len()), Ok(2));
        let long = split(format!("{{\"{longest}\":1,\"aa\":2}}").as_bytes()).unwrap_err();
        assert_eq!(long, DocumentError::NamesTooLong);
        let many = "\"\":0,".repeat(MAX_FIELDS + 5);
        let error = split(format!("{{{many}\"last\":0}}").as_bytes()).unwrap_err();
        assert_eq!(error, DocumentError::TooManyFields);
        let error = split(format!("{{{many}\"last\":}}").as_bytes()).unwrap_err();
        assert!(matches!(error, DocumentError::Syntax(_)), "the rest is checked all the same");
    }

    #[test]
    fn orders_hot_first_and_the_largest_last() {
        let fields =
            [("media", 9000), ("url", 20), ("html", 5000), ("links", 2000), ("markdown", 3000), ("ok", 4)];
        let order = order(fields.into_iter());
        assert_eq!(order, Order { head: vec![1, 5], large: vec![4, 2, 3, 0] });
    }

    #[test]
    fn blank_is_null_or_empty() {
        for value in ["null", "\"\"", "[]", "{}", "[ ]", "{\n}"] {
            assert!(is_blank(value), "{value}");
        }
        for value in ["0", "false", "\" \"", "[0]", "{\"a\":1}"] {
            assert!(!is_blank(value), "{value}");
        }
    }

    #[test]
    fn facts_are_read_in_any_header_case_and_never_guessed() {
        let mut facts = Facts::default();
        facts.note("response_headers", r#"{"Etag":"\"abc\"","LAST-MODIFIED":"Mon"}"#);
        facts.note("status_code", "200");
        facts.note("redirected_status_code", "429");
        facts.note("success", "\"yes\"");
        facts.note("head_fingerprint", "\"line\\nbreak\"");
        assert_eq!(facts.validators.etag.as_deref(), Some("\"abc\""));
        assert_eq!(facts.validators.last_modified.as_deref(), Some("Mon"));
        assert_eq!((facts.status_code, facts.success), (Some(200), None));
        assert_eq!(facts.redirected_status_code, Some(429));
        assert_eq!(facts.validators.head_fingerprint, None, "a control character cannot travel in a header");
    }
}
