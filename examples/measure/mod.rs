//! What the load programs share: documents from a folder, connections, and latencies as a line of JSON.

#![allow(dead_code, unused_imports, reason = "each program uses its own part of it")]

pub(crate) mod connection;
mod corpus;

use std::time::{Duration, Instant};

pub(crate) use corpus::read_corpus;

/// The url of entry `number`.
pub(crate) fn url_of(number: usize) -> String {
    format!("https://bench.example/page/{number}")
}

/// The key and the document of request `number`: those of a store that was filled in order, or, where `changed` is
/// set, a document that this key did not have the last time.
pub(crate) fn document_of(number: usize, keys: Option<usize>, changed: bool) -> (usize, usize) {
    let Some(keys) = keys else { return (number, number) };
    let key = number % keys;
    (key, if changed { key + number / keys + 1 } else { key })
}

/// The url of entry `number` in a store of so many hosts, each with ten sections; of one host, as [`url_of`].
pub(crate) fn url_among(number: usize, hosts: usize) -> String {
    if hosts < 2 {
        return url_of(number);
    }
    let (host, section) = (number % hosts, number / hosts % 10);
    format!("https://host-{host}.bench.example/section-{section}/page/{number}")
}

/// How long each request of one client took.
#[derive(Clone, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Notes a request that began then and ends now.
    pub(crate) fn note(&mut self, begun: Instant) {
        self.0.push(begun.elapsed());
    }
}

/// All clients' requests in `elapsed`, as JSON: how many, how many a second, and percentiles in microseconds.
pub(crate) fn report(clients: Vec<Latencies>, elapsed: Duration) -> serde_json::Value {
    let mut all: Vec<Duration> = clients.into_iter().flat_map(|client| client.0).collect();
    all.sort_unstable();
    let percentile = |per_mille: usize| -> u128 {
        let at = (all.len() * per_mille / 1000).min(all.len().saturating_sub(1));
        all.get(at).map_or(0, Duration::as_micros)
    };
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
    let per_second = all.len() as f64 / elapsed.as_secs_f64();
    serde_json::json!({
        "requests": all.len(), "per_second": per_second,
        "p50_us": percentile(500), "p99_us": percentile(990), "p999_us": percentile(999),
    })
}
