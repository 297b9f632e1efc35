//! Preconditions on a session's version: `If-Match`, `If-None-Match` and the `ETag` that they speak of.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::api::negotiate::{Tags, tags};
use crate::api::problem::{Problem, Result};
use crate::domain::Version;

/// What must hold for a change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Nothing.
    None,
    /// There is a session.
    Present,
    /// There is none.
    Absent,
    /// There is one of these versions.
    Versions(Vec<Version>),
}

impl Precondition {
    /// Reads the headers of a change.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self> {
        let if_match = tags(headers, &IF_MATCH)?;
        let if_none_match = tags(headers, &IF_NONE_MATCH)?;
        match (if_match, if_none_match) {
            (None, None) => Ok(Self::None),
            (Some(Tags::Any), None) => Ok(Self::Present),
            (Some(Tags::List(list)), None) => list
                .iter()
                .filter(|tag| !tag.weak)
                .map(|tag| version_in(&tag.opaque))
                .collect::<Option<_>>()
                .map(Self::Versions)
                .ok_or_else(|| unreadable(&IF_MATCH, "must be `*` or the ETag of a session, in quotes")),
            (None, Some(Tags::Any)) => Ok(Self::Absent),
            (None, Some(Tags::List(_))) => {
                Err(unreadable(&IF_NONE_MATCH, "can only be `*` where something is changed"))
            }
            (Some(_), Some(_)) => Err(unreadable(&IF_NONE_MATCH, "excludes if-match")),
        }
    }

    /// Refuses unless it holds for the version of the session that there is.
    pub(super) fn check(&self, current: Option<Version>) -> Result<()> {
        let holds = match self {
            Self::None => true,
            Self::Present => current.is_some(),
            Self::Absent => current.is_none(),
            Self::Versions(versions) => current.is_some_and(|current| versions.contains(&current)),
        };
        if holds {
            return Ok(());
        }
        let detail = match (self, current) {
            (_, None) => "there is no such session",
            (Self::Absent, _) => "there is such a session already",
            (_, Some(_)) => "the session has another version",
        };
        let problem = Problem::new("precondition_failed", detail);
        Err(match current {
            Some(version) => problem.with("version", version.to_string()),
            None => problem,
        })
    }
}

/// Whether `If-None-Match` names the version that would be sent.
pub(super) fn not_modified(headers: &HeaderMap, version: Version) -> Result<bool> {
    Ok(match tags(headers, &IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::List(list)) => list.iter().any(|tag| version_in(&tag.opaque) == Some(version)),
    })
}

/// The `ETag` of a version.
pub(super) fn etag(version: Version) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("\"{version}\"")))
        .unwrap_or(HeaderValue::from_static("\"\""))
}

/// The version in an entity tag without its quotes.
fn version_in(tag: &str) -> Option<Version> {
    let digits = (1..=16).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(tag, 16).ok().map(Version::from_u64))?
}

fn unreadable(name: &HeaderName, detail: &str) -> Problem {
    Problem::new("invalid_header", format!("{name} {detail}")).with("field", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version::from_u64(0x19b_bf11_24c0_0001);

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn reads_what_it_writes() {
        let headers = HeaderMap::from_iter([(IF_MATCH, etag(VERSION))]);
        assert_eq!(Precondition::of(&headers).expect("readable"), Precondition::Versions(vec![VERSION]));
        let headers = HeaderMap::from_iter([(IF_NONE_MATCH, etag(VERSION))]);
        assert!(not_modified(&headers, VERSION).expect("readable"));
        assert!(!not_modified(&headers, VERSION.next()).expect("readable"));
        assert!(not_modified(&with(IF_NONE_MATCH, "*"), VERSION).expect("readable"));
        assert!(!not_modified(&with(IF_NONE_MATCH, "\"foreign\""), VERSION).expect("readable"));
        assert!(!not_modified(&HeaderMap::new(), VERSION).expect("readable"));
    }

    #[test]
    fn refuses_what_is_no_version() {
        for value in ["abc", "\"xyz\"", "\"\"", "\"+1\"", "\"00000000000000001\"", "\"1\", two"] {
            let refused = Precondition::of(&with(IF_MATCH, value)).unwrap_err();
            assert_eq!(refused.code(), "invalid_header", "{value}");
        }
        let refused = Precondition::of(&with(IF_NONE_MATCH, "\"1\"")).unwrap_err();
        assert_eq!(refused.code(), "invalid_header");
        let mut both = with(IF_NONE_MATCH, "*");
        both.insert(IF_MATCH, HeaderValue::from_static("*"));
        assert_eq!(Precondition::of(&both).unwrap_err().code(), "invalid_header");
    }

    #[test]
    fn holds_for_the_right_sessions_only() {
        let one = Some(VERSION);
        for (condition, present, absent) in [
            (Precondition::None, true, true),
            (Precondition::Present, true, false),
            (Precondition::Absent, false, true),
            (Precondition::Versions(vec![VERSION.next(), VERSION]), true, false),
            (Precondition::Versions(vec![VERSION.next()]), false, false),
        ] {
            assert_eq!(condition.check(one).is_ok(), present, "{condition:?}");
            assert_eq!(condition.check(None).is_ok(), absent, "{condition:?}");
        }
    }
}
