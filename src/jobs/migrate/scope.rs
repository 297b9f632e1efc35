//! Which results a migration is about.

use std::collections::HashSet;

use crate::domain::{Key, Timestamp};

/// Some urls, or all, and some time, or any.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    exact: HashSet<String>,
    prefixes: Vec<String>,
    since: Option<Timestamp>,
}

impl Scope {
    /// The results of these urls, or whose url begins with one that ends in `*`; all if there are none. Only those that
    /// were stored or confirmed since then.
    pub(super) fn new(urls: &[String], since: Option<Timestamp>) -> Self {
        let mut scope = Self { since, ..Self::default() };
        for url in urls {
            match url.strip_suffix('*') {
                Some(prefix) => scope.prefixes.push(prefix.to_owned()),
                None => drop(scope.exact.insert(url.clone())),
            }
        }
        scope
    }

    /// Whether some urls are meant.
    pub(super) fn names_urls(&self) -> bool {
        !self.exact.is_empty() || !self.prefixes.is_empty()
    }

    /// Whether a url is meant.
    pub(super) fn admits(&self, key: &Key) -> bool {
        !self.names_urls()
            || self.exact.contains(key.url())
            || self.prefixes.iter().any(|prefix| key.url().starts_with(prefix))
    }

    /// Whether something of that time is meant.
    pub(super) fn admits_time(&self, updated_at: Timestamp) -> bool {
        self.since.is_none_or(|since| updated_at >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Namespace;

    #[test]
    fn urls_and_their_beginnings() {
        let admits = |urls: &[&str], url: &str| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            Scope::new(&urls, None).admits(&Key::new(&Namespace::default(), url, "v").expect("a key"))
        };
        assert!(admits(&[], "https://a/"));
        assert!(admits(&["https://a/"], "https://a/") && !admits(&["https://a/"], "https://a/b"));
        assert!(
            admits(&["https://a/*"], "https://a/b") && !admits(&["https://a/*", "https://c/"], "https://b/")
        );
    }
}
