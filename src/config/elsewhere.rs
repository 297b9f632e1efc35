//! Variables that a fleet on DynamoDB has already, and the keys they stand for.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::effective::Source;
use super::environment::PREFIX;

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
    /// This value, whatever its own is: the variable is there.
    Given(&'static str),
}

const fn foreign(variable: &'static str, path: &'static str, meaning: Meaning) -> Foreign {
    Foreign { variable, path, meaning }
}

/// A later one of a key wins.
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
    // A fleet on the move: over both stores, even at 0 and at 100.
    foreign("DYNAMODB_MIGRATION_PCT", "store.backend", Meaning::Given("routed")),
    foreign("DYNAMODB_MIGRATION_PCT", "routing.percent", Meaning::Value),
];

/// A variable that gives everything to one store.
#[derive(Debug)]
struct Force {
    variable: &'static str,
    /// The store.
    side: &'static str,
    /// Whether it overrules this program's own variables, too: the way back must work in a hurry.
    is_way_back: bool,
}

/// The way back comes last, and so overrules the way forward.
static FORCES: [Force; 2] = [
    Force { variable: "FORCE_DYNAMODB", side: "dynamodb", is_way_back: false },
    Force { variable: "FORCE_SQLITE", side: "sqlite", is_way_back: true },
];

/// What is allowed for them.
const TRUE_OR_FALSE: &str = "true or false";

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
    let forces = FORCES.iter().map(|force| force.variable);
    FOREIGN.iter().map(|foreign| foreign.variable).chain(forces).any(|variable| variable == name)
}

/// What the variables say, in the order in which they apply; those that force a store aside.
pub(super) fn said(environment: &BTreeMap<String, OsString>) -> Vec<Said> {
    FOREIGN.iter().filter_map(|foreign| foreign.read(environment.get(foreign.variable)?)).collect()
}

/// What the variables say that force a store, in the order in which they apply.
///
/// Over both stores they set `routing.force`, otherwise `store.backend`; `source_of` says where the value of that key
/// came from, without them.
pub(super) fn forced<'s>(
    environment: &BTreeMap<String, OsString>,
    is_routed: bool,
    source_of: impl Fn(&str) -> Option<&'s Source>,
) -> Vec<Said> {
    let path = if is_routed { "routing.force" } else { "store.backend" };
    let yields = |force: &Force| match source_of(path) {
        Some(Source::CommandLine) => true,
        Some(Source::Environment(name)) => name.starts_with(PREFIX) && !force.is_way_back,
        _ => false,
    };
    FORCES
        .iter()
        .filter_map(|force| force.read(path, is_routed, environment.get(force.variable)?))
        .filter(|(force, said)| said.text.is_none() || !yields(force))
        .map(|(_, said)| said)
        .collect()
}

impl Force {
    fn read(&self, path: &'static str, is_routed: bool, value: &OsString) -> Option<(&Self, Said)> {
        let given = value.to_string_lossy().trim().to_owned();
        let text = match lower_boolean(&given).as_str() {
            "" | "false" | "0" => return None,
            "true" | "1" => Some(self.side.to_owned()),
            _ => None,
        };
        let name = self.variable.to_owned();
        let source = if is_routed { Source::Pin(name) } else { Source::Environment(name) };
        Some((self, Said { path, text, given, allowed: Some(TRUE_OR_FALSE), source }))
    }
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
            Meaning::Given(text) => (Some(text.to_owned()), None),
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
        said(&environment).into_iter().map(|said| (said.path, said.text)).collect()
    }

    fn one(name: &str, value: &str) -> Option<(&'static str, Option<String>)> {
        let mut all = read(&[(name, value)]);
        assert!(all.len() <= 1);
        all.pop()
    }

    fn forces(
        pairs: &[(&str, &str)],
        is_routed: bool,
        source: &Source,
    ) -> Vec<(&'static str, Option<String>, String)> {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let all = forced(&environment, is_routed, |_| Some(source));
        all.into_iter().map(|said| (said.path, said.text, said.source.to_string())).collect()
    }

    #[test]
    fn each_stands_for_its_key() {
        for (name, value, path, text) in [
            ("DYNAMODB_ENDPOINT", "http://localhost:8000", "dynamodb.endpoint", "http://localhost:8000"),
            ("DYNAMODB_ENDPOINT", "", "dynamodb.endpoint", ""),
            ("AWS_REGION", "us-west-2", "dynamodb.region", "us-west-2"),
            ("DYNAMODB_TTL_DAYS", "30", "results.ttl_seconds", "2592000"),
            ("DYNAMODB_CONSISTENT_READS", "True", "dynamodb.consistent_reads", "true"),
        ] {
            assert_eq!(one(name, value), Some((path, Some(text.to_owned()))), "{name}={value}");
            assert!(is_foreign(name));
        }
        for name in ["FORCE_SQLITE", "FORCE_DYNAMODB", "DYNAMODB_MIGRATION_PCT"] {
            assert!(is_foreign(name), "{name}");
        }
        assert!(!is_foreign("PATH"));
    }

    #[test]
    fn a_share_means_both_stores() {
        for share in ["0", "12.5", "100"] {
            let both = [("store.backend", "routed"), ("routing.percent", share)];
            let both = both.map(|(path, text)| (path, Some(text.to_owned())));
            assert_eq!(read(&[("DYNAMODB_MIGRATION_PCT", share)]), both, "{share}");
        }
        assert_eq!(read(&[("DYNAMODB_MIGRATION_PCT", " ")]), []);
    }

    #[test]
    fn a_forced_store_is_a_pin_where_there_are_two() {
        let default = Source::Default;
        for (name, value, side) in [("FORCE_DYNAMODB", "TRUE", "dynamodb"), ("FORCE_SQLITE", "1", "sqlite")] {
            let (text, plain) = (Some(side.to_owned()), format!("environment {name}"));
            let pin = format!("environment {name}, a pin");
            assert_eq!(forces(&[(name, value)], false, &default), [("store.backend", text.clone(), plain)]);
            assert_eq!(forces(&[(name, value)], true, &default), [("routing.force", text, pin)]);
            let refused = forces(&[(name, "maybe")], true, &Source::CommandLine);
            assert_eq!(refused.len(), 1, "a mistake is told even where it does not count");
            assert_eq!(refused[0].1, None);
            for nothing in ["false", "0", ""] {
                assert_eq!(forces(&[(name, nothing)], true, &default), [], "{nothing:?}");
            }
        }
    }

    #[test]
    fn the_way_back_wins() {
        let both = [("FORCE_SQLITE", "true"), ("FORCE_DYNAMODB", "true")];
        let sides = |source: &Source| -> Vec<String> {
            forces(&both, true, source).into_iter().filter_map(|(_, side, _)| side).collect()
        };
        assert_eq!(sides(&Source::Default), ["dynamodb", "sqlite"]);
        let own = Source::Environment("CRAWLCACHE_ROUTING__FORCE".to_owned());
        assert_eq!(sides(&own), ["sqlite"], "only the way back overrules what was said to this program");
        assert!(sides(&Source::CommandLine).is_empty());
    }

    #[test]
    fn empty_says_nothing() {
        for (name, value) in [("AWS_REGION", ""), ("DYNAMODB_TTL_DAYS", " ")] {
            assert_eq!(one(name, value), None, "{name}={value}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_not_allowed() {
        for (name, value) in [("DYNAMODB_TTL_DAYS", "-1"), ("DYNAMODB_TTL_DAYS", "1.5")] {
            assert_eq!(one(name, value).map(|(_, text)| text), Some(None), "{name}={value}");
        }
    }
}
