//! Every key and what it may be: the one table behind parsing, checking and the words of each mistake.

use std::net::SocketAddr;
use std::str::FromStr;

use toml::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::secret::{EncryptionKey, OlderKeys};
use crate::domain::quality::{MAX_MARKER_CHARS, MAX_MARKERS, Statuses};
use crate::domain::routing::Percent;

/// The longest time to live: a hundred years, within what `Timestamp` can hold.
const CENTURY_SECONDS: i64 = 3_153_600_000;

/// 1 TiB.
const TEBIBYTE: i64 = 1 << 40;

/// A key as `section.name`, and what it may be.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) rule: Rule,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Rule {
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// A share of keys from 0 to 100, as fine as there are buckets.
    Percent,
    Boolean,
    Choice(&'static [&'static str]),
    Address,
    Path,
    OptionalPath,
    EncryptionKey,
    /// Several of them.
    EncryptionKeys,
    Directives,
    /// An HTTP address of a service, or nothing.
    OptionalUrl,
    /// What names something at AWS: up to so many characters of these, at least so many.
    Name {
        min: usize,
        max: usize,
        also: &'static str,
    },
    /// Status codes and classes of them.
    Statuses,
    /// Phrases to look for.
    Markers,
}

const fn key(path: &'static str, rule: Rule) -> Key {
    Key { path, rule }
}

const fn integer(path: &'static str, min: i64, max: i64) -> Key {
    key(path, Rule::Integer { min, max })
}

const fn name(min: usize, max: usize, also: &'static str) -> Rule {
    Rule::Name { min, max, also }
}

/// Every key, in the order of `config/default.toml`.
pub(super) static KEYS: &[Key] = &[
    key("server.listen", Rule::Address),
    key("server.data_dir", Rule::Path),
    key("server.insecure", Rule::Boolean),
    integer("server.shutdown_seconds", 0, 3600),
    integer("limits.body_bytes", 1024, 1 << 30),
    integer("limits.decoded_bytes", 1024, 1 << 32),
    integer("limits.body_memory_bytes", 1024, TEBIBYTE),
    integer("limits.header_seconds", 1, 3600),
    // hyper panics when told to buffer less than 8 KiB.
    integer("limits.header_bytes", 8192, 1 << 20),
    integer("limits.request_seconds", 1, 3600),
    integer("limits.concurrency", 1, 1_000_000),
    integer("limits.connections", 1, 1_000_000),
    integer("results.ttl_seconds", 1, CENTURY_SECONDS),
    integer("results.max_ttl_seconds", 1, CENTURY_SECONDS),
    integer("results.keep_stale_seconds", 0, CENTURY_SECONDS),
    integer("results.compression_level", 1, 19),
    key("results.canonical_urls", Rule::Choice(&["off", "v1"])),
    key("results.guard", Rule::Boolean),
    key("results.failed_statuses", Rule::Statuses),
    integer("results.failed_ttl_seconds", 1, CENTURY_SECONDS),
    key("results.block_markers", Rule::Markers),
    key("results.learn_ttl", Rule::Boolean),
    integer("results.learn_min_seconds", 1, CENTURY_SECONDS),
    integer("results.learn_max_seconds", 1, CENTURY_SECONDS),
    key("results.learn_confidence", Rule::Number { min: 0.01, max: 0.99 }),
    integer("leases.seconds", 1, 86_400),
    integer("leases.max_seconds", 1, 86_400),
    integer("leases.max_wait_seconds", 0, 3600),
    integer("leases.max_waiters", 0, 1_000_000),
    integer("memory.bytes", 0, TEBIBYTE),
    integer("memory.decoded_bytes", 0, TEBIBYTE),
    integer("memory.trust_seconds", 0, 86_400),
    integer("memory.outage_seconds", 0, 2_592_000),
    key("store.backend", Rule::Choice(&["sqlite", "dynamodb", "routed"])),
    key("store.abandon_outbox", Rule::Boolean),
    integer("sqlite.readers", 1, 64),
    integer("sqlite.cache_bytes", 1 << 16, 1 << 34),
    integer("sqlite.max_bytes", 0, 1 << 50),
    integer("sqlite.sweep_seconds", 1, 86_400),
    integer("sqlite.queue", 1, 1_000_000),
    key("dynamodb.endpoint", Rule::OptionalUrl),
    key("dynamodb.region", name(0, 64, "-")),
    // A table's name has 3 to 255 of these characters (DynamoDB, naming rules).
    key("dynamodb.table_prefix", name(0, 200, "-_.")),
    key("dynamodb.results_table", name(3, 255, "-_.")),
    key("dynamodb.sessions_table", name(3, 255, "-_.")),
    key("dynamodb.create_tables", Rule::Boolean),
    key("dynamodb.results_layout", Rule::Choice(&["packed", "plain"])),
    key("dynamodb.consistent_reads", Rule::Boolean),
    key("dynamodb.time_index", Rule::Boolean),
    key("dynamodb.host_index", Rule::Boolean),
    // DynamoDB takes 409,600 bytes an item, names included: what stands beside the body needs room too.
    integer("dynamodb.max_item_bytes", 16_384, 380_000),
    integer("dynamodb.batch_size", 1, 25),
    integer("dynamodb.batch_window_micros", 0, 100_000),
    integer("dynamodb.max_connections", 1, 10_000),
    integer("dynamodb.max_retries", 0, 20),
    integer("dynamodb.attempt_millis", 50, 600_000),
    integer("dynamodb.operation_millis", 50, 600_000),
    key("routing.percent", Rule::Percent),
    key("routing.force", Rule::Choice(&["none", "sqlite", "dynamodb"])),
    key("routing.dual_write", Rule::Boolean),
    key("routing.shadow_read", Rule::Number { min: 0.0, max: 1.0 }),
    key("routing.on_owner_failure", Rule::Choice(&["queue", "reject"])),
    integer("routing.outbox_rows", 0, 1_000_000_000),
    integer("routing.relay_concurrency", 1, 1024),
    integer("routing.owner_millis", 50, 600_000),
    integer("routing.other_millis", 10, 600_000),
    integer("routing.circuit_failures", 1, 1000),
    integer("routing.circuit_seconds", 1, 3600),
    key("s3.bucket", name(0, 63, "-.")),
    key("s3.prefix", name(0, 512, "-_./")),
    key("s3.endpoint", Rule::OptionalUrl),
    key("s3.region", name(0, 64, "-")),
    key("s3.path_style", Rule::Boolean),
    key("s3.checksums", Rule::Choice(&["when_required", "always"])),
    integer("s3.attempt_millis", 50, 600_000),
    integer("s3.operation_millis", 50, 600_000),
    integer("sessions.browser_ttl_seconds", 1, CENTURY_SECONDS),
    integer("sessions.mcp_ttl_seconds", 1, CENTURY_SECONDS),
    integer("sessions.max_bytes", 1024, 1 << 26),
    integer("sessions.max_events", 1, 100_000),
    integer("sessions.max_event_bytes", 1, 1 << 26),
    key("sessions.encryption_key", Rule::EncryptionKey),
    key("sessions.older_encryption_keys", Rule::EncryptionKeys),
    key("auth.tokens_file", Rule::OptionalPath),
    key("log.format", Rule::Choice(&["auto", "text", "json"])),
    key("log.level", Rule::Directives),
    key("log.sample", Rule::Number { min: 0.0, max: 1.0 }),
    key("log.slow_seconds", Rule::Number { min: 0.0, max: 86_400.0 }),
];

/// Pairs of keys of which the first must not be more than the second.
pub(super) const AT_MOST: [(&str, &str); 7] = [
    ("limits.body_bytes", "limits.body_memory_bytes"),
    ("results.ttl_seconds", "results.max_ttl_seconds"),
    ("leases.seconds", "leases.max_seconds"),
    ("leases.max_wait_seconds", "limits.request_seconds"),
    ("results.learn_min_seconds", "results.learn_max_seconds"),
    ("dynamodb.attempt_millis", "dynamodb.operation_millis"),
    ("s3.attempt_millis", "s3.operation_millis"),
];

/// The key of that path, if there is one.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

impl Key {
    /// The section and the name.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').expect("every path in the table has a dot (tested)")
    }

    /// Whether its value must never be shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.rule, Rule::EncryptionKey | Rule::EncryptionKeys)
    }
}

impl Rule {
    /// The value as it is kept, or as it was given when it is not allowed.
    pub(super) fn check(&self, value: Value) -> Result<Value, Value> {
        let allowed = match (self, &value) {
            (Self::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(&number),
            (Self::Number { min, max }, Value::Float(number)) => (min..=max).contains(&number),
            (Self::Percent, Value::Float(number)) => Percent::from_number(*number).is_ok(),
            (Self::Number { .. } | Self::Percent, Value::Integer(number)) => {
                // Beyond 32 bits no rule would accept it anyway.
                return match i32::try_from(*number) {
                    Ok(number) => self.check(Value::Float(f64::from(number))),
                    Err(_) => Err(value),
                };
            }
            (Self::Statuses, Value::Array(items)) => {
                // A code may be written as a number: it is kept as a text like the others.
                let texts: Option<Vec<String>> = items.iter().map(status_text).collect();
                return match texts.filter(|texts| Statuses::new(texts).is_ok()) {
                    Some(texts) => Ok(Value::Array(texts.into_iter().map(Value::String).collect())),
                    None => Err(value),
                };
            }
            (Self::Markers, Value::Array(items)) => items.len() <= MAX_MARKERS && items.iter().all(is_marker),
            (Self::Boolean, Value::Boolean(_)) => true,
            (Self::Choice(choices), Value::String(text)) => choices.contains(&text.as_str()),
            (Self::Address, Value::String(text)) => SocketAddr::from_str(text).is_ok(),
            (Self::Path, Value::String(text)) => !text.is_empty() && is_path(text),
            (Self::OptionalPath, Value::String(text)) => is_path(text),
            (Self::EncryptionKey, Value::String(text)) => EncryptionKey::from_hex(text).is_some(),
            (Self::EncryptionKeys, Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts.is_some_and(|texts| OlderKeys::from_hex(&texts).is_some())
            }
            (Self::Directives, Value::String(text)) => are_directives(text),
            (Self::OptionalUrl, Value::String(text)) => text.is_empty() || is_service_url(text),
            (Self::Name { min, max, also }, Value::String(text)) => {
                let known = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
                (*min..=*max).contains(&text.len()) && text.chars().all(known)
            }
            _ => false,
        };
        if allowed { Ok(value) } else { Err(value) }
    }

    /// The value that `text` (a variable, a command line argument) stands for, or `None` when it is not allowed.
    pub(super) fn parse(&self, text: &str) -> Option<Value> {
        let trimmed = text.trim();
        let value = match self {
            Self::Integer { .. } => Value::Integer(without_underscores(trimmed)?.parse().ok()?),
            Self::Number { .. } | Self::Percent => Value::Float(trimmed.parse().ok()?),
            Self::Boolean => Value::Boolean(match trimmed {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return None,
            }),
            Self::Path | Self::OptionalPath => Value::String(text.to_owned()),
            Self::Statuses | Self::Markers | Self::EncryptionKeys => list_in(trimmed)?,
            _ => Value::String(trimmed.to_owned()),
        };
        self.check(value).ok()
    }

    /// What is allowed, as a phrase for people.
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Percent => "a number from 0 to 100 with at most two decimals".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(choices) => {
                let quoted: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                let (last, rest) = quoted.split_last().expect("every choice has options");
                format!("{} or {last}", rest.join(", "))
            }
            Self::Address => "an IP address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::OptionalPath => "a path, or empty".to_owned(),
            Self::EncryptionKey => "64 hexadecimal digits, or empty".to_owned(),
            Self::EncryptionKeys => {
                format!("a list of at most {} texts of 64 hexadecimal digits", OlderKeys::MOST)
            }
            Self::Directives => "levels (off, error, warn, info, debug, trace) and target=level directives, \
                                 separated by commas without spaces"
                .to_owned(),
            Self::OptionalUrl => {
                "a URL of scheme, host and port, such as http://localhost:8000, or empty".to_owned()
            }
            Self::Name { min, max, also } => {
                let also: Vec<String> = also.chars().map(|c| format!("`{c}`")).collect();
                format!("{min} to {max} of A-Z, a-z, 0-9, {}", also.join(", "))
            }
            Self::Statuses => {
                "a list of status codes from 100 to 999 and of classes such as \"4xx\"".to_owned()
            }
            Self::Markers => format!(
                "a list of at most {MAX_MARKERS} texts of 1 to {MAX_MARKER_CHARS} characters, no control characters"
            ),
        }
    }
}

fn is_service_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

/// A list as a variable or an argument has it: as TOML writes it, or its items with commas between them.
fn list_in(text: &str) -> Option<Value> {
    if text.starts_with('[') {
        let mut table: toml::Table = format!("list = {text}").parse().ok()?;
        // More than one line could set other keys; there is no place for them here.
        return table.remove("list").filter(|_| table.is_empty());
    }
    let items = text.split(',').filter(|_| !text.is_empty());
    Some(Value::Array(items.map(|item| Value::String(item.trim().to_owned())).collect()))
}

fn status_text(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => Some(text.clone()),
        Value::Integer(code) => Some(code.to_string()),
        _ => None,
    }
}

fn is_marker(item: &Value) -> bool {
    let fits = |text: &str| {
        let chars = text.chars().count();
        (1..=MAX_MARKER_CHARS).contains(&chars) && !text.trim().is_empty() && !text.contains(char::is_control)
    };
    item.as_str().is_some_and(fits)
}

fn is_path(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// Digits as TOML writes them: underscores may stand between two digits only.
fn without_underscores(text: &str) -> Option<String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let well_placed = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    well_placed.then(|| text.replace('_', ""))
}

/// Stricter than the filter's own grammar, which takes a misspelt level for the name of a target and then
/// logs nothing else.
fn are_directives(text: &str) -> bool {
    let bare_words_are_levels = || {
        text.split(',').all(|directive| {
            let directive = directive.trim();
            directive.contains('=') || (!directive.is_empty() && LevelFilter::from_str(directive).is_ok())
        })
    };
    // Commas within brackets belong to span filters, which only the real parser understands.
    !text.trim().is_empty()
        && EnvFilter::builder().parse(text).is_ok()
        && (text.contains('[') || bare_words_are_levels())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> &'static Rule {
        &find(path).expect(path).rule
    }

    #[test]
    fn paths_are_sections_and_names() {
        for key in KEYS {
            let (section, name) = key.split();
            assert!(!section.is_empty() && !name.is_empty() && !name.contains('.'), "{}", key.path);
        }
    }

    #[test]
    fn integers_have_bounds_and_underscores() {
        let level = rule("results.compression_level");
        for (text, value) in [("1", Some(1)), (" 19 ", Some(19)), ("1_9", Some(19)), ("+3", Some(3))] {
            assert_eq!(level.parse(text), value.map(Value::Integer), "{text}");
        }
        for text in ["0", "20", "-1", "", "3.0", "_3", "3_", "1__9", "three", "0x3", "99999999999999999999"] {
            assert_eq!(level.parse(text), None, "{text}");
        }
        assert!(level.check(Value::Float(3.0)).is_err());
        assert!(level.check(Value::String("3".into())).is_err(), "a file has types");
    }

    #[test]
    fn numbers_take_integers_and_refuse_what_is_none() {
        let sample = rule("log.sample");
        assert_eq!(sample.check(Value::Integer(1)), Ok(Value::Float(1.0)));
        assert_eq!(sample.parse("0.25"), Some(Value::Float(0.25)));
        for text in ["NaN", "inf", "-0.1", "1.01", "5e9", "x"] {
            assert_eq!(sample.parse(text), None, "{text}");
        }
        assert!(sample.check(Value::Integer(i64::MAX)).is_err());
    }

    #[test]
    fn shares_have_at_most_two_decimals() {
        let percent = rule("routing.percent");
        for (text, number) in [("0", 0.0), ("12.5", 12.5), ("33.33", 33.33), ("100", 100.0)] {
            assert_eq!(percent.parse(text), Some(Value::Float(number)), "{text}");
        }
        assert_eq!(percent.check(Value::Integer(25)), Ok(Value::Float(25.0)));
        for text in ["12.345", "-1", "100.01", "NaN", "ten", "", "50%"] {
            assert_eq!(percent.parse(text), None, "{text}");
        }
    }

    #[test]
    fn booleans_choices_addresses_and_paths() {
        let insecure = rule("server.insecure");
        assert_eq!(insecure.parse("1"), Some(Value::Boolean(true)));
        assert_eq!(insecure.parse("false"), Some(Value::Boolean(false)));
        assert_eq!(insecure.parse("maybe"), None);
        assert!(rule("log.format").parse("json").is_some());
        assert!(rule("log.format").parse("JSON").is_none());
        for (text, accepted) in
            [("[::]:80", true), ("127.0.0.1:0", true), ("127.0.0.1", false), ("localhost:80", false)]
        {
            assert_eq!(rule("server.listen").parse(text).is_some(), accepted, "{text}");
        }
        assert!(rule("server.data_dir").parse("").is_none());
        assert!(rule("auth.tokens_file").parse("").is_some());
        assert!(rule("auth.tokens_file").parse("a\nb").is_none());
    }

    #[test]
    fn endpoints_and_names() {
        let endpoint = rule("dynamodb.endpoint");
        for text in
            ["", "http://localhost:8000", "https://dynamodb.eu-west-1.amazonaws.com", "http://[::1]:80/"]
        {
            assert!(endpoint.parse(text).is_some(), "{text}");
        }
        for text in ["localhost:8000", "ftp://a", "http://", "http://u:p@a", "http://a?b", "x y"] {
            assert!(endpoint.parse(text).is_none(), "{text}");
        }
        let table = rule("dynamodb.results_table");
        for (text, accepted) in
            [("abc", true), ("prod-crawl4ai.Results_2", true), ("ab", false), ("a b c", false)]
        {
            assert_eq!(table.parse(text).is_some(), accepted, "{text}");
        }
        assert_eq!(table.allowed(), "3 to 255 of A-Z, a-z, 0-9, `-`, `_`, `.`");
    }

    #[test]
    fn lists_are_toml_or_have_commas() {
        let list = |texts: &[&str]| Some(Value::Array(texts.iter().copied().map(Value::from).collect()));
        let statuses = rule("results.failed_statuses");
        for (text, texts) in [
            ("4xx, 503", list(&["4xx", "503"])),
            ("[404, \"5xx\"]", list(&["404", "5xx"])),
            ("", list(&[])),
            ("[]", list(&[])),
        ] {
            assert_eq!(statuses.parse(text), texts, "{text}");
        }
        for text in ["4yy", "404;500", "[404", "404,", "[true]", "[]\nother = 1", "99", "{}"] {
            assert_eq!(statuses.parse(text), None, "{text}");
        }
        assert_eq!(statuses.check(Value::Integer(404)), Err(Value::Integer(404)), "a file has types");
        let markers = rule("results.block_markers");
        assert_eq!(markers.parse("Access Denied,captcha"), list(&["Access Denied", "captcha"]));
        assert_eq!(markers.parse("[\"Sorry, you\"]"), list(&["Sorry, you"]));
        for text in ["a,,b", "[\"\"]", "[1]", "[\"a\\nb\"]", "[\" \"]"] {
            assert_eq!(markers.parse(text), None, "{text}");
        }
        assert_eq!(markers.parse(&"x".repeat(MAX_MARKER_CHARS + 1)), None);
        assert_eq!(markers.parse(&"x,".repeat(MAX_MARKERS)), None);
    }

    #[test]
    fn a_misspelt_level_is_not_a_target() {
        for text in
            ["info", "WARN", "off", "info,hyper=warn", "warn,crawlcache::store=debug", "[span{a}]=info"]
        {
            assert!(are_directives(text), "{text}");
        }
        for text in ["", " ", "inof", "warn, hyper=info", "info,", "info,hyper", "hyper=loud"] {
            assert!(!are_directives(text), "{text}");
        }
    }
}
