//! What can be wrong with a configuration, in words that say what to change. Secrets never appear in them.

use std::fmt;
use std::path::PathBuf;

use toml::Value;

use super::effective::Source;
use super::environment::variable;
use super::rules::{KEYS, Key};

/// The longest given value that a mistake repeats, in characters.
const SHOWN_CHARS: usize = 80;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// The configuration file does not exist or cannot be read.
    #[error("the configuration file {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The configuration file is not TOML.
    #[error("the configuration file {} is not valid TOML: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The place and what is wrong there.
        detail: String,
    },
    /// No such key.
    #[error("unknown key `{key}` ({from}){}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The key as given; for a variable, its name.
        key: String,
        /// Where it was given.
        from: Source,
        /// The known key that resembles it most, written the same way.
        nearest: Option<String>,
    },
    /// A single value where a section with keys belongs.
    #[error("`{section}` ({from}) must be a section: write `[{section}]` and its keys below")]
    NotASection {
        /// The section.
        section: &'static str,
        /// Where it was given.
        from: Source,
    },
    /// A value outside of what the key allows.
    #[error("`{key}` ({from}) is {given}; allowed: {allowed}")]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// Where the value was given.
        from: Source,
        /// The value as given, shortened, or `(hidden)`.
        given: String,
        /// What the key allows.
        allowed: String,
    },
    /// Two values that do not go together.
    #[error(
        "`{key}` is {given} ({from}) but must not be more than `{other}`, which is {bound} ({bound_from})"
    )]
    TooGreat {
        /// The key that is too great.
        key: &'static str,
        /// Its value.
        given: String,
        /// Where it was given.
        from: Source,
        /// The key that bounds it.
        other: &'static str,
        /// The value of that key.
        bound: String,
        /// Where that was given.
        bound_from: Source,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

impl Mistake {
    /// A value of the right file, variable or argument that `key` does not allow.
    pub(super) fn not_allowed(key: &Key, from: Source, given: &Value) -> Self {
        let given = if key.is_secret() { "(hidden)".to_owned() } else { shortened(&given.to_string()) };
        Self::NotAllowed { key: key.path, from, given, allowed: key.rule.allowed() }
    }

    /// The same with other words for what is allowed: a variable need not be written as its key is.
    pub(super) fn allowing(self, words: &str) -> Self {
        match self {
            Self::NotAllowed { key, from, given, .. } => {
                Self::NotAllowed { key, from, given, allowed: words.to_owned() }
            }
            other => other,
        }
    }

    /// A key that does not exist. Its value stays unsaid: it may be a secret under a misspelt name.
    pub(super) fn unknown(path: &str, from: Source) -> Self {
        let nearest = nearest(path);
        let (key, nearest) = match &from {
            Source::Environment(name) => (name.clone(), nearest.map(variable)),
            _ => (shortened(path), nearest.map(str::to_owned)),
        };
        Self::UnknownKey { key, from, nearest }
    }
}

/// Every mistake of a configuration, in the order of its layers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.as_slice() {
            [only] => write!(f, "invalid configuration: {only}"),
            all => {
                write!(f, "invalid configuration, {} mistakes:", all.len())?;
                all.iter().try_for_each(|mistake| write!(f, "\n  - {mistake}"))
            }
        }
    }
}

/// The place and the message of a TOML error. Its own `Display` would repeat the line, secrets included.
pub(crate) fn describe_toml_error(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim_end().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// One line of printable text of bounded length.
fn shortened(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// The known key that resembles `path` most, unless none does. The right name in a wrong section counts as close.
fn nearest(path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let distance = |key: &Key| {
        let whole = edit_distance(path, key.path);
        whole.min(edit_distance(name, key.split().1) + 1)
    };
    let (distance, path_of_nearest) = KEYS.iter().map(|key| (distance(key), key.path)).min()?;
    let tolerated = (name.chars().count() / 3).clamp(1, 4);
    (distance <= tolerated + 1).then_some(path_of_nearest)
}

/// How many characters must be inserted, removed or replaced to turn `a` into `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("é", "e", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn suggests_what_was_probably_meant() {
        for (given, meant) in [
            ("limits.body_byte", Some("limits.body_bytes")),
            ("limits_body_bytes", Some("limits.body_bytes")),
            ("limit.body_bytes", Some("limits.body_bytes")),
            ("listen", Some("server.listen")),
            ("sqlite.browser_ttl_seconds", Some("sessions.browser_ttl_seconds")),
            ("auth.encryption_key", Some("sessions.encryption_key")),
            ("log.levle", Some("log.level")),
            ("zebra.crossing", None),
        ] {
            assert_eq!(nearest(given), meant, "{given}");
        }
    }

    #[test]
    fn given_values_stay_short_and_printable() {
        assert_eq!(shortened("a\u{1b}[31m\n"), "a\u{fffd}[31m\u{fffd}");
        assert_eq!(shortened(&"é".repeat(500)), format!("{}…", "é".repeat(SHOWN_CHARS)));
    }

    #[test]
    fn toml_errors_do_not_repeat_the_line() {
        for text in [
            "a = 1\nkey = 5ec4e7 0",
            "a = 1\nkey \"5ec4e7\"",
            "a = 1\nkey = \"5ec4e7",
            "a = 1\nkey = 5ec4e7z",
        ] {
            let error = text.parse::<toml::Table>().expect_err("malformed");
            let described = describe_toml_error(text, &error);
            assert!(described.starts_with("line 2: "), "{described}");
            assert!(!described.contains("5ec4e7"), "{described}");
        }
    }
}
