//! What the client accepts and what it already has: content codings and preconditions.

use http::header::{ACCEPT_ENCODING, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::header_text::HeaderText;
use super::problem::{Problem, Result};
use crate::domain::document::Coding;
use crate::domain::{Etag, Timestamp};
use crate::store::Condition;

/// Chooses the coding of an answer (RFC 9110 section 12.5.3). zstd is what is stored, so it wins a tie.
pub(super) fn coding(headers: &HeaderMap) -> Result<Coding> {
    let mut weights = Weights::default();
    let mut any = false;
    for value in headers.get_all(ACCEPT_ENCODING) {
        any = true;
        for item in value.to_str().unwrap_or_default().split(',') {
            weights.note(item);
        }
    }
    if !any {
        return Ok(Coding::Identity);
    }
    weights.best().ok_or_else(|| Problem::new("not_acceptable", "answers come as zstd, gzip or identity"))
}

/// Quality values in thousandths.
#[derive(Debug, Default)]
struct Weights {
    zstd: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    star: Option<u16>,
}

impl Weights {
    fn note(&mut self, item: &str) {
        let mut parts = item.split(';');
        let coding = parts.next().unwrap_or_default().trim();
        let weight = parts
            .find_map(|part| part.trim().strip_prefix("q=").map(|q| q.trim().parse::<f32>().unwrap_or(0.0)))
            .unwrap_or(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
        let weight = Some((weight.clamp(0.0, 1.0) * 1000.0) as u16);
        match coding {
            _ if coding.eq_ignore_ascii_case("zstd") => self.zstd = weight,
            _ if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
                self.gzip = weight;
            }
            _ if coding.eq_ignore_ascii_case("identity") => self.identity = weight,
            "*" => self.star = weight,
            _ => {}
        }
    }

    fn best(&self) -> Option<Coding> {
        // `*` speaks for what is not named, but a client that names nothing is best served plainly.
        let zstd = self.zstd.unwrap_or(0);
        let gzip = self.gzip.unwrap_or(0);
        let identity = self.identity.or(self.star).unwrap_or(1);
        [(zstd, Coding::Zstd), (gzip, Coding::Gzip), (identity, Coding::Identity)]
            .into_iter()
            .filter(|(weight, _)| *weight > 0)
            .rev()
            .max_by_key(|(weight, _)| *weight)
            .map(|(_, coding)| coding)
    }
}

/// The `ETag` of an answer: the content's hash, and the coding, because another coding is other bytes
/// (RFC 9110 section 8.8.3.3).
pub(super) fn etag_header(etag: Etag, coding: Coding) -> HeaderValue {
    let suffix: &[u8] = match coding {
        Coding::Identity => b"",
        Coding::Zstd => b"-zstd",
        Coding::Gzip => b"-gzip",
    };
    let mut text = HeaderText::new();
    text.push(b"\"");
    text.push(&etag.hex());
    text.push(suffix);
    text.push(b"\"");
    text.value("\"\"")
}

/// An `If-Match` or `If-None-Match` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// `*`
    Any,
    /// The tags.
    List(Vec<Tag>),
}

/// One entity tag (RFC 9110 section 8.8.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// What stands between the quotes.
    pub(super) opaque: String,
    /// Whether `W/` stands before them.
    pub(super) weak: bool,
}

/// Reads an entity-tag header; `None` when it is missing.
pub(super) fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>> {
    let mut list = Vec::new();
    let mut any = false;
    for value in headers.get_all(name) {
        any = true;
        let unreadable = || {
            Problem::new(
                "invalid_header",
                format!("{name} must be `*` or quoted entity tags separated by commas"),
            )
            .with("field", name.as_str())
        };
        let text = value.to_str().map_err(|_| unreadable())?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        read_tags(text, &mut list).filter(|()| !list.is_empty()).ok_or_else(unreadable)?;
    }
    Ok(any.then_some(Tags::List(list)))
}

/// Adds the tags of a list to `tags`; empty elements are nothing (RFC 9110 section 5.6.1).
fn read_tags(text: &str, tags: &mut Vec<Tag>) -> Option<()> {
    let mut rest = text.trim_start_matches([',', ' ', '\t']);
    while !rest.is_empty() {
        let weak = rest.starts_with("W/");
        let (opaque, after) = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        tags.push(Tag { opaque: opaque.to_owned(), weak });
        let after = after.trim_start();
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    Some(())
}

/// Whether an `If-None-Match` header names the answer, in whatever coding.
pub(super) fn not_modified(headers: &HeaderMap, etag: Etag) -> Result<bool> {
    if !headers.contains_key(IF_NONE_MATCH) {
        return Ok(false);
    }
    Ok(match tags(headers, &IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::List(list)) => list.iter().any(|tag| content_tag(&tag.opaque) == Some(etag)),
    })
}

/// The content's hash in an entity tag, whatever coding it was sent in.
fn content_tag(tag: &str) -> Option<Etag> {
    let hex = tag.split('-').next()?.as_bytes();
    if hex.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Etag::from_bytes(bytes))
}

/// The condition of a write.
pub(super) fn condition(headers: &HeaderMap, now: Timestamp) -> Result<Condition> {
    let if_match = tags(headers, &IF_MATCH)?;
    let if_none_match = tags(headers, &IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Any),
        (Some(Tags::Any), None) => Ok(Condition::Present),
        // A tag that is none of ours matches nothing, so it stays in the list only by its absence.
        (Some(Tags::List(list)), None) => {
            // The comparison is strong: a weak tag matches nothing (RFC 9110 section 13.1.1).
            let strong = list.iter().filter(|tag| !tag.weak);
            Ok(Condition::Matches(strong.filter_map(|tag| content_tag(&tag.opaque)).collect()))
        }
        (None, Some(Tags::Any)) => Ok(Condition::Absent(now)),
        (None, Some(Tags::List(_))) => {
            Err(Problem::new("invalid_header", "a write takes If-None-Match only as `*`")
                .with("field", "if-none-match"))
        }
        (Some(_), Some(_)) => {
            Err(Problem::new("invalid_header", "If-Match and If-None-Match exclude each other"))
        }
    }
}

/// Whether the client wants an answer that no copy on the way gave.
pub(super) fn wants_consistent(headers: &HeaderMap) -> bool {
    headers.get_all(http::header::CACHE_CONTROL).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case("no-cache")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(text: &str) -> Result<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(text).expect("a header value"));
        coding(&headers)
    }

    #[test]
    fn chooses_a_coding() {
        assert_eq!(coding(&HeaderMap::new()).expect("fine"), Coding::Identity);
        for (text, chosen) in [
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip, deflate", Coding::Gzip),
            ("deflate, br", Coding::Identity),
            ("", Coding::Identity),
            ("*", Coding::Identity),
            ("identity", Coding::Identity),
            ("zstd;q=0, gzip;q=0.5", Coding::Gzip),
            ("zstd;q=0.5, gzip;q=0.8", Coding::Gzip),
            ("ZSTD;Q=1", Coding::Zstd),
            ("identity;q=0, gzip", Coding::Gzip),
            ("gzip;q=0.5, identity;q=1", Coding::Identity),
        ] {
            assert_eq!(accepting(text).expect(text), chosen, "{text}");
        }
        for text in ["identity;q=0", "*;q=0", "identity;q=0, br"] {
            assert_eq!(accepting(text).unwrap_err().code(), "not_acceptable", "{text}");
        }
    }

    #[test]
    fn an_etag_is_known_in_every_coding() {
        let etag = Etag::of(b"{}");
        for coding in [Coding::Identity, Coding::Zstd, Coding::Gzip] {
            for weak in ["", "W/"] {
                let text = format!("\"other\", {weak}{}", etag_header(etag, coding).to_str().expect("ASCII"));
                let mut headers = HeaderMap::new();
                headers.insert(IF_NONE_MATCH, HeaderValue::from_str(&text).expect("a header value"));
                assert!(not_modified(&headers, etag).expect("readable"), "{text}");
                assert!(!not_modified(&headers, Etag::of(b"[]")).expect("readable"));
            }
        }
    }

    #[test]
    fn unreadable_preconditions_are_refused_and_foreign_ones_match_nothing() {
        let mut headers = HeaderMap::new();
        for unreadable in ["abc", "\"abc", "\"a\" \"b\"", "\"a\"b", ""] {
            headers.insert(IF_MATCH, HeaderValue::from_static(unreadable));
            let error = condition(&headers, Timestamp::default()).unwrap_err();
            assert_eq!(error.code(), "invalid_header", "{unreadable}");
        }
        for foreign in ["\"abc\"", "\"a,b\"", "W/\"abc\" , \"\"", "\"abc\",, \"d\","] {
            headers.insert(IF_MATCH, HeaderValue::from_static(foreign));
            let condition = condition(&headers, Timestamp::default()).expect(foreign);
            assert_eq!(condition, Condition::Matches(vec![]), "{foreign}");
        }
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(condition(&headers, Timestamp::default()).is_err());
    }
}
