//! What the tests share: a server process, an HTTP client that sends any bytes, documents, and waiting.

pub(crate) mod documents;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod server;

pub(crate) use http::{Answer, Connection, Request};
pub(crate) use server::{Server, backend, bucket, dynamodb_local, on_sqlite, required, variable};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it: only a test that fails waits for so long, and a machine with
/// much else to do is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `look` finds something, and panics with `what` when it does not in time.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// Percent-encodes everything but letters and digits.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The target of one result: `/v1/result?url=…` with more parameters.
pub(crate) fn result_of(url: &str, more: &[(&str, &str)]) -> String {
    at("/v1/result", &[&[("url", url)], more].concat())
}

/// A path with query parameters, percent-encoded.
pub(crate) fn at(path: &str, parameters: &[(&str, &str)]) -> String {
    let query: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}
