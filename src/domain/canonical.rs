//! The opt-in canonical form of urls, versioned because it is part of the key.

use std::borrow::Cow;

use super::key::KeyError;

/// How the url of a request becomes the url of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CanonicalForm {
    /// The exact string, as Crawl4AI keys its own cache.
    #[default]
    Exact,
    /// The first canonical form: see [`CanonicalForm::apply`].
    V1,
}

/// Query parameters that identify a click, never a page. Frozen for [`CanonicalForm::V1`].
const TRACKING_PARAMETERS: [&str; 14] = [
    "dclid",
    "fbclid",
    "gad_source",
    "gbraid",
    "gclid",
    "igshid",
    "mc_cid",
    "mc_eid",
    "msclkid",
    "srsltid",
    "ttclid",
    "twclid",
    "wbraid",
    "yclid",
];

impl CanonicalForm {
    /// Turns a url into the one that the key is made of.
    ///
    /// `V1` parses it by the WHATWG URL standard (lower-case scheme and host, default port dropped, dot
    /// segments resolved), drops the fragment, and drops tracking parameters (`utm_*` and a fixed list).
    /// Everything else stays as it is and in its place: distinct pages keep distinct keys.
    ///
    /// # Errors
    /// [`KeyError::UrlUnparsable`] when the url has no canonical form.
    pub fn apply(self, url: &str) -> Result<Cow<'_, str>, KeyError> {
        match self {
            Self::Exact => Ok(Cow::Borrowed(url)),
            Self::V1 => v1(url).map(Cow::Owned),
        }
    }
}

fn v1(url: &str) -> Result<String, KeyError> {
    if url.is_empty() {
        return Err(KeyError::UrlEmpty);
    }
    let mut parsed = url::Url::parse(url).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => KeyError::UrlRelative,
        other => KeyError::UrlUnparsable(other.to_string()),
    })?;
    parsed.set_fragment(None);
    if let Some(query) = parsed.query() {
        let kept: Vec<&str> = query.split('&').filter(|pair| !is_tracking(pair)).collect();
        if kept.is_empty() || kept == [""] {
            parsed.set_query(None);
        } else {
            let kept = kept.join("&");
            parsed.set_query(Some(&kept));
        }
    }
    Ok(parsed.into())
}

fn is_tracking(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or(pair);
    name.starts_with("utm_") || TRACKING_PARAMETERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frozen like the key itself.
    #[test]
    fn v1_is_frozen() {
        for (url, canonical) in [
            ("HTTP://Example.COM:80/a/../b?x=1#top", "http://example.com/b?x=1"),
            ("https://example.com", "https://example.com/"),
            ("https://example.com/?utm_source=a&id=7&gclid=z", "https://example.com/?id=7"),
            ("https://example.com/?utm_source=a", "https://example.com/"),
            ("https://example.com/?time=1&station=2", "https://example.com/?time=1&station=2"),
            ("https://example.com/?b=1&a=2&b=3", "https://example.com/?b=1&a=2&b=3"),
            ("https://example.com:8443/?a=%20b", "https://example.com:8443/?a=%20b"),
        ] {
            assert_eq!(CanonicalForm::V1.apply(url).expect(url), canonical);
        }
    }

    #[test]
    fn exact_changes_nothing() {
        assert_eq!(CanonicalForm::Exact.apply("HTTP://A:80/#x").expect("any string"), "HTTP://A:80/#x");
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(CanonicalForm::V1.apply("/relative").unwrap_err(), KeyError::UrlRelative);
        assert!(matches!(CanonicalForm::V1.apply("https://a:b/").unwrap_err(), KeyError::UrlUnparsable(_)));
    }

    proptest! {
        #[test]
        fn v1_is_idempotent(path in "[a-zA-Z0-9/._~-]{0,20}", query in "[a-z0-9=&_%]{0,30}") {
            let url = format!("https://example.com/{path}?{query}");
            let once = CanonicalForm::V1.apply(&url).expect("parses").into_owned();
            let twice = CanonicalForm::V1.apply(&once).expect("parses").into_owned();
            prop_assert_eq!(once, twice);
        }
    }
}
