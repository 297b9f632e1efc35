//! Variables that a fleet on DynamoDB has already, and the keys they stand for.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::effective::Source;

/// A variable of another program.
#[derive(Debug)]
struct Foreign {
    variable: &'static str,
    path: &'static str,
    meaning: Meaning,
}

/// What its value says about the key.
#[derive(Debug)]
enum Meaning {
    /// The value itself; an empty one says nothing.
    Value,
    /// The value itself, and an empty one too.
    ValueOrEmpty,
    /// Days, where the key has seconds.
    Days,
    /// This value if it is true, and nothing otherwise.
    IfTrue(&'static str),
    /// The share of traffic on DynamoDB: all or nothing.
    Percent,
}

const fn foreign(variable: &'static str, path: &'static str, meaning: Meaning) -> Foreign {
    Foreign { variable, path, meaning }
}

/// A later one of a key wins: of those that choose the store, the way back comes last.
static FOREIGN: [Foreign; 13] = [
    foreign("DYNAMODB_ENDPOINT", "dynamodb.endpoint", Meaning::ValueOrEmpty),
    foreign("AWS_DEFAULT_REGION", "dynamodb.region", Meaning::Value),
    foreign("AWS_REGION", "dynamodb.region", Meaning::Value),
    foreign("DYNAMODB_TABLE_CRAWL_RESULTS", "dynamodb.results_table", Meaning::Value),
    foreign("DYNAMODB_TABLE_SESSIONS", "dynamodb.sessions_table", Meaning::Value),
    foreign("DYNAMODB_MAX_POOL_CONNECTIONS", "dynamodb.max_connections", Meaning::Value),
    foreign("DYNAMODB_BATCH_SIZE", "dynamodb.batch_size", Meaning::Value),
    foreign("DYNAMODB_MAX_RETRIES", "dynamodb.max_retries", Meaning::Value),
    foreign("DYNAMODB_CONSISTENT_READS", "dynamodb.consistent_reads", Meaning::Value),
    foreign("DYNAMODB_MAX_ITEM_SIZE", "dynamodb.max_item_bytes", Meaning::Value),
    foreign("DYNAMODB_TTL_DAYS", "results.ttl_seconds", Meaning::Days),
    foreign("DYNAMODB_MIGRATION_PCT", "store.backend", Meaning::Percent),
    foreign("FORCE_DYNAMODB", "store.backend", Meaning::IfTrue("dynamodb")),
];

/// The last of all: the way back to SQLite overrules every way forward.
static ROLLBACK: Foreign = foreign("FORCE_SQLITE", "store.backend", Meaning::IfTrue("sqlite"));

/// What a variable says: the key, the value as that key's text, and where it came from.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    pub(super) path: &'static str,
    /// `None`: it is not allowed.
    pub(super) text: Option<String>,
    /// As given.
    pub(super) given: String,
    /// What is allowed, where that is not what the key allows.
    pub(super) allowed: Option<&'static str>,
    pub(super) source: Source,
}

/// Whether a variable is one of these.
pub(super) fn is_foreign(name: &str) -> bool {
    all().any(|foreign| foreign.variable == name)
}

/// What the variables say, in the order in which they apply; the way back aside.
pub(super) fn said(environment: &BTreeMap<String, OsString>) -> Vec<Said> {
    FOREIGN.iter().filter_map(|foreign| foreign.read(environment.get(foreign.variable)?)).collect()
}

/// What the variable says that overrules every other one, this program's own included.
pub(super) fn rollback(environment: &BTreeMap<String, OsString>) -> Option<Said> {
    ROLLBACK.read(environment.get(ROLLBACK.variable)?)
}

fn all() -> impl Iterator<Item = &'static Foreign> {
    FOREIGN.iter().chain([&ROLLBACK])
}

impl Foreign {
    fn read(&self, value: &OsString) -> Option<Said> {
        let given = value.to_string_lossy().trim().to_owned();
        if given.is_empty() && !matches!(self.meaning, Meaning::ValueOrEmpty) {
            return None;
        }
        let (text, allowed) = match self.meaning {
            Meaning::Value => (Some(lower_boolean(&given)), None),
            Meaning::ValueOrEmpty => (Some(given.clone()), None),
            Meaning::Days => {
                let seconds = given.parse::<u64>().ok().and_then(|days| days.checked_mul(86_400));
                (seconds.map(|seconds| seconds.to_string()), Some("a whole number of days, at least 1"))
            }
            Meaning::IfTrue(backend) => match lower_boolean(&given).as_str() {
                "true" | "1" => (Some(backend.to_owned()), None),
                "false" | "0" => return None,
                _ => (None, Some("true or false")),
            },
            Meaning::Percent => {
                let text = match given.parse::<f64>() {
                    Ok(0.0) => Some("sqlite".to_owned()),
                    Ok(100.0) => Some("dynamodb".to_owned()),
                    _ => None,
                };
                (text, Some("0 or 100: this version keeps everything in one store"))
            }
        };
        Some(Said {
            path: self.path,
            text,
            given,
            allowed,
            source: Source::Environment(self.variable.to_owned()),
        })
    }
}

/// Python writes `True` and `False`.
fn lower_boolean(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "true" | "false") { lower } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Vec<(&'static str, Option<String>)> {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        said(&environment)
            .into_iter()
            .chain(rollback(&environment))
            .map(|said| (said.path, said.text))
            .collect()
    }

    fn one(name: &str, value: &str) -> Option<(&'static str, Option<String>)> {
        let mut all = read(&[(name, value)]);
        assert!(all.len() <= 1);
        all.pop()
    }

    #[test]
    fn each_stands_for_its_key() {
        for (name, value, path, text) in [
            ("DYNAMODB_ENDPOINT", "http://localhost:8000", "dynamodb.endpoint", "http://localhost:8000"),
            ("DYNAMODB_ENDPOINT", "", "dynamodb.endpoint", ""),
            ("AWS_REGION", "us-west-2", "dynamodb.region", "us-west-2"),
            ("DYNAMODB_TTL_DAYS", "30", "results.ttl_seconds", "2592000"),
            ("DYNAMODB_CONSISTENT_READS", "True", "dynamodb.consistent_reads", "true"),
            ("DYNAMODB_MIGRATION_PCT", "0", "store.backend", "sqlite"),
            ("DYNAMODB_MIGRATION_PCT", "100.0", "store.backend", "dynamodb"),
            ("FORCE_DYNAMODB", "TRUE", "store.backend", "dynamodb"),
            ("FORCE_SQLITE", "1", "store.backend", "sqlite"),
        ] {
            assert_eq!(one(name, value), Some((path, Some(text.to_owned()))), "{name}={value}");
            assert!(is_foreign(name));
        }
        assert!(!is_foreign("PATH"));
    }

    #[test]
    fn empty_and_false_say_nothing() {
        for (name, value) in [
            ("AWS_REGION", ""),
            ("DYNAMODB_TTL_DAYS", " "),
            ("FORCE_DYNAMODB", "false"),
            ("FORCE_SQLITE", "0"),
        ] {
            assert_eq!(one(name, value), None, "{name}={value}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_not_allowed() {
        for (name, value) in [
            ("DYNAMODB_MIGRATION_PCT", "10"),
            ("DYNAMODB_MIGRATION_PCT", "ten"),
            ("FORCE_DYNAMODB", "maybe"),
            ("DYNAMODB_TTL_DAYS", "-1"),
            ("DYNAMODB_TTL_DAYS", "1.5"),
        ] {
            assert_eq!(one(name, value).map(|(_, text)| text), Some(None), "{name}={value}");
        }
    }

    #[test]
    fn the_way_back_wins() {
        let all =
            read(&[("FORCE_SQLITE", "true"), ("FORCE_DYNAMODB", "true"), ("DYNAMODB_MIGRATION_PCT", "100")]);
        assert_eq!(all.last(), Some(&("store.backend", Some("sqlite".to_owned()))));
    }
}
