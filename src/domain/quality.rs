//! Good and failed results: a block page or an error page must not stand where a good result was.
//!
//! A result is failed if its document says so (`success` is false), if the origin's status, the first one or that at the end
//! of its redirects, is one of those that count as failures, or if its `html` holds a *block marker*: a phrase that the pages have on which a site tells a crawler off.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use aho_corasick::AhoCorasick;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::document::{Document, Encoded, Facts};
use super::entry::Meta;

/// Pages above this size are not searched for block markers: one that turns a crawler away is small.
pub const MAX_SEARCHED_BYTES: u64 = 1 << 20;

/// Nor those in documents of which more than this lies before the page's end: it would have to be decoded.
const MAX_DECODED_BYTES: u64 = 4 << 20;

/// The most block markers.
pub const MAX_MARKERS: usize = 256;

/// The longest block marker in characters.
pub const MAX_MARKER_CHARS: usize = 200;

/// Why a result is a failed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The document's `success` is false.
    Success,
    /// The document's `status_code` counts as a failure, or its `redirected_status_code` does.
    Status,
    /// The page has a block marker.
    Blocked,
}

impl Why {
    /// The word that answers and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Status => "status",
            Self::Blocked => "blocked",
        }
    }
}

/// Which of the two results of a key one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// What was asked for.
    Good,
    /// What came instead.
    Failed(Why),
}

impl Quality {
    /// The word that answers use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it is failed; nothing if it is good.
    pub const fn why(self) -> Option<Why> {
        match self {
            Self::Good => None,
            Self::Failed(why) => Some(why),
        }
    }
}

/// Which results a caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The good one if it will do, else the failed one.
    #[default]
    Best,
    /// Only the good one.
    Good,
    /// Only the failed one.
    Failed,
}

impl Wanted {
    /// Whether a result of that quality is wanted.
    pub const fn admits(self, quality: Quality) -> bool {
        match self {
            Self::Best => true,
            Self::Good => matches!(quality, Quality::Good),
            Self::Failed => matches!(quality, Quality::Failed(_)),
        }
    }
}

/// Status codes that count as failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

/// A text that is neither a status code nor a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status is a code from 100 to 999, or a class such as 4xx")]
pub struct StatusError;

impl Statuses {
    /// Those that the texts name: codes from 100 to 999, and classes from `1xx` to `9xx`.
    ///
    /// # Errors
    /// [`StatusError`] if one is neither.
    pub fn new(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, StatusError> {
        texts.into_iter().map(|text| range(text.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a code is one of them.
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| range.contains(&code))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, StatusError> {
    let [hundreds @ b'1'..=b'9', rest @ ..] = text.as_bytes() else { return Err(StatusError) };
    let class = u16::from(hundreds - b'0') * 100;
    match rest {
        [b'x' | b'X', b'x' | b'X'] => Ok(class..=class + 99),
        [b'0'..=b'9', b'0'..=b'9'] => u16::from_str(text).map(|code| code..=code).map_err(|_| StatusError),
        _ => Err(StatusError),
    }
}

/// Tells good results from failed ones.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    on: bool,
    statuses: Statuses,
    markers: Option<AhoCorasick>,
}

/// Block markers that cannot be searched for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the block markers cannot be searched for: {0}")]
pub struct MarkerError(String);

impl Guard {
    /// A guard with these failures and markers; one that is not `on` takes every new result for a good one.
    ///
    /// Markers match whatever the case of their ASCII letters is. Other letters match as the marker has them, all in lower
    /// case, or all in upper case.
    ///
    /// # Errors
    /// [`MarkerError`] if there are too many, or too long ones, for a search.
    pub fn new(on: bool, statuses: Statuses, markers: &[String]) -> Result<Self, MarkerError> {
        let mut patterns: Vec<Cow<'_, str>> = Vec::with_capacity(markers.len());
        for marker in markers {
            patterns.push(Cow::Borrowed(marker));
            if !marker.is_ascii() {
                patterns.extend([Cow::Owned(marker.to_lowercase()), Cow::Owned(marker.to_uppercase())]);
            }
        }
        let search = (on && !patterns.is_empty()).then(|| {
            let mut builder = AhoCorasick::builder();
            builder.ascii_case_insensitive(true).build(patterns.iter().map(|pattern| pattern.as_bytes()))
        });
        let markers = search.transpose().map_err(|error| MarkerError(error.to_string()))?;
        Ok(Self { on, statuses, markers })
    }

    /// Whether failed results are kept apart.
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// What a document is that is about to be stored.
    pub fn judge(&self, encoded: &Encoded) -> Quality {
        match self.of_facts(&encoded.facts) {
            Quality::Good if self.is_blocked(encoded) => Quality::Failed(Why::Blocked),
            quality => quality,
        }
    }

    /// Whether [`Guard::judge`] has to decode so much that it should be done elsewhere than on an async thread.
    pub fn is_slow(&self, encoded: &Encoded) -> bool {
        const INLINE_BYTES: u64 = 128 << 10;
        self.searches(encoded) && encoded.layout.field("html").is_some_and(|html| html.raw_end > INLINE_BYTES)
    }

    /// What a document is by what it says of itself, its page not looked at.
    pub fn of_facts(&self, facts: &Facts) -> Quality {
        let statuses = [facts.status_code, facts.redirected_status_code];
        if self.on { self.compare(facts.success, &statuses) } else { Quality::Good }
    }

    /// What a document is by what a good result keeps of it beside its body: as [`Guard::of`] will tell it.
    pub fn of_kept(&self, facts: &Facts) -> Quality {
        if self.on { self.compare(facts.success, &[facts.status_code]) } else { Quality::Good }
    }

    /// Whether a document is failed by the end of its redirects alone, of which nothing is kept beside the body.
    pub fn is_failed_at_the_end(&self, facts: &Facts) -> bool {
        self.of_kept(facts) == Quality::Good && self.of_facts(facts) != Quality::Good
    }

    /// What a stored result is. One in the place of a good result may have been stored before there was a guard: it is
    /// what it says of itself. What is known of a failed one does not tell a page with a marker from one whose redirects
    /// ended in an error: without markers it is the latter.
    pub fn of(&self, meta: &Meta) -> Quality {
        let unsaid = if self.markers.is_some() { Why::Blocked } else { Why::Status };
        match self.compare(meta.success, &[meta.status_code]) {
            Quality::Good if meta.key.is_failed() => Quality::Failed(unsaid),
            quality if self.on || meta.key.is_failed() => quality,
            _ => Quality::Good,
        }
    }

    fn compare(&self, success: Option<bool>, statuses: &[Option<u16>]) -> Quality {
        if success == Some(false) {
            Quality::Failed(Why::Success)
        } else if statuses.iter().flatten().any(|code| self.statuses.contains(*code)) {
            Quality::Failed(Why::Status)
        } else {
            Quality::Good
        }
    }

    fn searches(&self, encoded: &Encoded) -> bool {
        let is_small = |member: std::ops::Range<u64>| member.end - member.start <= MAX_SEARCHED_BYTES;
        let html = self.markers.as_ref().and_then(|_| encoded.layout.field("html"));
        html.is_some_and(|html| is_small(html.member) && html.raw_end <= MAX_DECODED_BYTES)
    }

    fn is_blocked(&self, encoded: &Encoded) -> bool {
        let Some(markers) = self.markers.as_ref().filter(|_| self.searches(encoded)) else { return false };
        // What was just encoded can be decoded; if it cannot, nothing is known against it.
        let html = Document::new(&encoded.layout, &encoded.frame).value("html").ok().flatten();
        html.is_some_and(|html| text_of(&html).is_some_and(|text| markers.is_match(&text[..])))
    }
}

/// The characters of a JSON string, its escapes undone: writers differ in what they escape (non-ASCII letters, `<`, `/`).
/// Nothing for other values. Halves of surrogate pairs are no obstacle: pages have them.
fn text_of(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    struct Characters;
    impl<'de> Visitor<'de> for Characters {
        type Value = Cow<'de, [u8]>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(bytes))
        }
        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(Cow::Owned(bytes.to_vec()))
        }
    }
    serde_json::Deserializer::from_slice(raw).deserialize_bytes(Characters).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::encode;

    fn guard(markers: &[&str]) -> Guard {
        let statuses = Statuses::new(["4xx", "500", "503"]).expect("statuses");
        let markers: Vec<String> = markers.iter().map(|marker| (*marker).to_owned()).collect();
        Guard::new(true, statuses, &markers).expect("a guard")
    }

    fn judged(guard: &Guard, document: &str) -> Option<Why> {
        guard.judge(&encode(document.as_bytes(), 1).expect("a document")).why()
    }

    #[test]
    fn statuses_are_codes_and_classes() {
        let statuses = Statuses::new(["4xx", "503", "9XX"]).expect("statuses");
        for (code, failed) in
            [(200, false), (399, false), (400, true), (499, true), (500, false), (503, true), (999, true)]
        {
            assert_eq!(statuses.contains(code), failed, "{code}");
        }
        for text in ["", "4", "40", "4x", "0xx", "099", "1000", "4xxx", "xxx", "-04", "4 4", "٤٠٤"] {
            assert_eq!(Statuses::new([text]), Err(StatusError), "{text}");
        }
    }

    #[test]
    fn what_a_document_says_of_itself_counts() {
        let guard = guard(&[]);
        for (document, why) in [
            ("{}", None),
            (r#"{"success":true,"status_code":200}"#, None),
            (r#"{"success":false,"status_code":200}"#, Some(Why::Success)),
            (r#"{"success":false,"status_code":404}"#, Some(Why::Success)),
            (r#"{"success":true,"status_code":404}"#, Some(Why::Status)),
            (r#"{"success":true,"status_code":503}"#, Some(Why::Status)),
            (r#"{"success":true,"status_code":502}"#, None),
            (r#"{"success":"no","status_code":"404"}"#, None),
            (r#"{"success":true,"status_code":302,"redirected_status_code":429}"#, Some(Why::Status)),
            (r#"{"redirected_status_code":503}"#, Some(Why::Status)),
            (r#"{"success":true,"status_code":301,"redirected_status_code":200}"#, None),
            (r#"{"success":true,"status_code":302,"redirected_status_code":null}"#, None),
            (r#"{"success":true,"status_code":302,"redirected_status_code":"429"}"#, None),
            (r#"{"success":true,"status_code":302,"redirected_status_code":502}"#, None),
            (r#"{"success":true,"status_code":404,"redirected_status_code":200}"#, Some(Why::Status)),
            (r#"{"success":false,"status_code":302,"redirected_status_code":429}"#, Some(Why::Success)),
        ] {
            assert_eq!(judged(&guard, document), why, "{document}");
            assert_eq!(judged(&Guard::default(), document), None, "a guard that is off");
        }
    }

    #[test]
    fn block_markers_are_found_however_they_are_written() {
        let guard = guard(&["Access Denied", "<title>Just a moment", "zugriff verweigert für", "доступ"]);
        for html in [
            r"Sorry: ACCESS denied.",
            r"\u0041ccess Denied",
            r"<title>just a moment...",
            r"\u003cTITLE\u003eJust a moment",
            r"Zugriff verweigert für",
            r"Zugriff verweigert f\u00fcr",
            r"Zugriff verweigert f\u00FCr",
            r"ZUGRIFF VERWEIGERT FÜR",
            r"ДОСТУП",
            r"доступ",
            r"\u0434\u043e\u0441\u0442\u0443\u043f",
            r"half a pair \ud83d, then access denied",
        ] {
            assert_eq!(judged(&guard, &format!(r#"{{"html":"{html}"}}"#)), Some(Why::Blocked), "{html}");
        }
        for document in [
            r#"{"html":"Access  Denied"}"#,
            r#"{"html":"Access\nDenied"}"#,
            r#"{"html":["Access Denied"]}"#,
            r#"{"html":null}"#,
            r#"{"markdown":"Access Denied"}"#,
        ] {
            assert_eq!(judged(&guard, document), None, "{document}");
        }
        let said = r#"{"status_code":403,"html":"access denied"}"#;
        assert_eq!(judged(&guard, said), Some(Why::Status), "what the document says comes first");
    }

    #[test]
    fn large_pages_are_not_searched() {
        let guard = guard(&["blocked"]);
        let page = |size: usize| {
            let document = format!(r#"{{"html":"{}blocked"}}"#, " ".repeat(size));
            encode(document.as_bytes(), 1).expect("a document")
        };
        assert_eq!(guard.judge(&page(1_000_000)).why(), Some(Why::Blocked));
        assert!(guard.is_slow(&page(1_000_000)) && !guard.is_slow(&page(100)));
        assert_eq!(guard.judge(&page(1 << 20)), Quality::Good);
        // How large the rest of the document is does not matter, unless it comes first and is very large.
        let with = |name: &str, size: usize| {
            let (page, rest) = ("x".repeat(100_000), "x".repeat(size));
            let document = format!(r#"{{"html":"{page} blocked","{name}":"{rest}"}}"#);
            guard.judge(&encode(document.as_bytes(), 1).expect("a document")).why()
        };
        assert_eq!(with("screenshot", 6 << 20), Some(Why::Blocked));
        assert_eq!(with("markdown", 2 << 20), Some(Why::Blocked));
        assert_eq!(with("markdown", 6 << 20), None);
    }

    #[test]
    fn as_many_markers_as_are_allowed_can_be_searched_for() {
        let markers: Vec<String> =
            (0..MAX_MARKERS).map(|number| format!("{number:0>MAX_MARKER_CHARS$}")).collect();
        Guard::new(true, Statuses::default(), &markers).expect("a guard");
    }
}
