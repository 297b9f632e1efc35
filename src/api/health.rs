//! `/livez`, `/readyz`, `/health`, `/metrics` and `/v1/stats`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

use super::caller::Admin;
use super::inspect::{self, Inspected, Verdict};
use super::params::{NoParams, Params};
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::Timestamp;
use crate::domain::routing::Side;
use crate::metrics::{LOOKUP_OPS, LOOKUP_RESULTS};
use crate::store::routed::Routed;
use crate::store::sqlite::ledger::outbox::OutboxStatus;
use crate::store::{Health, Status, dynamodb};

/// Whether the process is up.
#[utoipa::path(get, path = "/livez", tag = "operations", operation_id = "get_livez", responses(
    (status = 200, description = "The process is up", body = String, content_type = "text/plain", example = json!("ok\n")),
))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests can be served. Degraded is still ready.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "get_readyz", responses(
    (status = 200, description = "Ready, maybe degraded", body = String, content_type = "text/plain", example = json!("ok\n")),
    (status = 503, description = "No backend can serve"),
))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str> {
    match inspect::overall(&inspect::backends(&api).await) {
        Verdict::Healthy => Ok("ok\n"),
        Verdict::Degraded => Ok("degraded\n"),
        Verdict::Unhealthy => Err(Problem::new("unavailable", "no backend can serve")),
    }
}

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthReport {
    /// `healthy`, `degraded` or `unhealthy`.
    #[schema(example = "healthy")]
    status: &'static str,
    /// The version that runs.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// When this was found out, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// Each backend by name.
    backends: BTreeMap<&'static str, BackendHealth>,
}

/// How one backend is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackendHealth {
    /// `healthy`, `degraded` or `unhealthy`.
    status: &'static str,
    /// How long the backend took to answer, in milliseconds.
    response_time_ms: f64,
    /// When it was asked, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The health of each backend: status, latency, timestamp.
#[utoipa::path(get, path = "/health", tag = "operations", operation_id = "get_health", responses(
    (status = 200, description = "Healthy or degraded", body = HealthReport),
    (status = 503, description = "Unhealthy", body = HealthReport),
))]
pub(super) async fn health(State(api): State<Api>) -> Response {
    let inspected = inspect::backends(&api).await;
    let status = match inspect::overall(&inspected) {
        Verdict::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        Verdict::Healthy | Verdict::Degraded => StatusCode::OK,
    };
    (status, Json(report(&api, &inspected))).into_response()
}

fn report(api: &Api, inspected: &[Inspected]) -> HealthReport {
    let backend = |found: &Inspected| {
        let health = BackendHealth {
            status: found.verdict().as_str(),
            response_time_ms: found.took.as_secs_f64() * 1000.0,
            timestamp: found.asked_at,
            // The condition is for everybody; its text may name paths and is for the log.
            error: found.trouble().map(|_| "see the log".to_owned()),
        };
        (found.backend, health)
    };
    HealthReport {
        status: inspect::overall(inspected).as_str(),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: api.clock.now(),
        uptime_seconds: api.shared().started.elapsed().as_secs(),
        backends: inspected.iter().map(backend).collect(),
    }
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "get_metrics", responses(
    (status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain",
        example = json!("crawlcache_http_requests_in_flight 1\n")),
))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response> {
    refresh_gauges(&api).await;
    let text = api.metrics.render().map_err(|error| Problem::new("internal_error", error.to_string()))?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Brings the gauges up to date that are read rather than counted.
async fn refresh_gauges(api: &Api) {
    let metrics = &api.metrics;
    for Inspected { backend, health, holds, .. } in inspect::backends(api).await {
        let is_up = health == Ok(Health::Healthy);
        metrics.backend_up.with_label_values(&[backend]).set(i64::from(is_up));
        let Some(status) = holds else { continue };
        let set = |gauge: &prometheus::IntGaugeVec, value| {
            gauge.with_label_values(&[backend]).set(gauge_value(value));
        };
        set(&metrics.store_entries, status.entries);
        set(&metrics.store_sessions, status.sessions);
        set(&metrics.store_size_bytes, status.size_bytes);
        set(&metrics.store_limit_bytes, status.limit_bytes.unwrap_or(0));
        for (state, bytes) in [("stored", status.stored_bytes), ("decoded", status.raw_bytes)] {
            if let Some(bytes) = bytes {
                metrics.store_bytes.with_label_values(&[backend, state]).set(gauge_value(bytes));
            }
        }
    }
    if let Some(routed) = &api.routed {
        refresh_outbox(api, routed).await;
    }
    let results = api.memory.as_ref().map_or((0, 0), crate::store::tiered::Tiered::usage);
    for (kind, (bytes, entries)) in [("results", results), ("answers", api.shared().answers.usage())] {
        metrics.memory_bytes.with_label_values(&[kind]).set(gauge_value(bytes));
        metrics.memory_entries.with_label_values(&[kind]).set(gauge_value(entries));
    }
}

async fn refresh_outbox(api: &Api, routed: &Routed) {
    let (metrics, limit) = (&api.metrics, api.config.routing.outbox_rows);
    metrics.outbox_limit_rows.set(gauge_value(limit));
    // A database that cannot be read is told as a backend that is not up.
    let Ok(outbox) = routed.parts().database.outbox_status().await else { return };
    for (state, rows) in [("queued", outbox.queued), ("parked", outbox.parked)] {
        metrics.outbox_rows.with_label_values(&[state]).set(gauge_value(rows));
    }
    metrics.outbox_oldest_seconds.set(oldest_seconds(&outbox, api.clock.now()));
}

/// The age of the oldest row that waits; 0 when none does.
pub(super) fn oldest_seconds(outbox: &OutboxStatus, now: Timestamp) -> f64 {
    let age = outbox.oldest.map_or(0, |oldest| now.millis_since(oldest));
    Duration::from_millis(age).as_secs_f64()
}

fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The sum, where both are known.
fn both(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one? + other?)
}

/// What one backend holds.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct BackendStats {
    /// Results, expired ones that are not yet swept included.
    pub(super) entries: u64,
    /// Sessions, expired ones that are not yet swept included.
    pub(super) sessions: u64,
    /// Stored size of the results in bytes; missing where the backend does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stored_bytes: Option<u64>,
    /// Decoded size of the results in bytes; missing where the backend does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw_bytes: Option<u64>,
    /// Bytes that it takes on its medium.
    pub(super) size_bytes: u64,
    /// The bound on that; missing where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit_bytes: Option<u64>,
    /// Why nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl BackendStats {
    pub(super) fn of(status: &Status) -> Self {
        let Status { entries, sessions, stored_bytes, raw_bytes, size_bytes, limit_bytes, .. } = *status;
        Self { entries, sessions, stored_bytes, raw_bytes, size_bytes, limit_bytes, error: None }
    }
}

/// What is stored and how it is used. Of two backends the sizes and counts are sums: what is on both counts twice.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stats {
    /// The version that runs.
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// The composed store.
    #[schema(example = "Tiered(memory 128 MiB, Metered(sqlite crawlcache-data/crawlcache.db))")]
    store: String,
    /// Results held, expired ones that are not yet swept included.
    entries: u64,
    /// Sessions held, expired ones that are not yet swept included.
    sessions: u64,
    /// Stored size of the results in bytes; missing where the store does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
    /// Decoded size of the results in bytes; missing where the store does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<u64>,
    /// Bytes that the store takes on its medium.
    size_bytes: u64,
    /// The bound on that; missing where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
    /// Each backend by name.
    backends: BTreeMap<&'static str, BackendStats>,
    /// Bytes of results held in memory.
    memory_bytes: u64,
    /// Look-ups since the start, by what they came to.
    lookups: BTreeMap<&'static str, u64>,
    /// Hits and stale answers over all look-ups since the start, 0 to 1; missing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_ratio: Option<f64>,
}

/// What is stored and how it is used since the start, over all namespaces; needs the scope `admin`.
#[utoipa::path(get, path = "/v1/stats", tag = "operations", operation_id = "get_stats", responses(
    (status = 200, description = "Sizes, counts and the hit ratio", body = Stats),
))]
pub(super) async fn stats(State(api): State<Api>, _: Admin, _: Params<NoParams>) -> Result<Json<Stats>> {
    let mut backends = BTreeMap::new();
    for Inspected { backend, health, holds, .. } in inspect::backends(&api).await {
        let stats = match (holds, health) {
            (Some(status), _) => BackendStats::of(&status),
            // A bucket does not count.
            (None, _) if backend == dynamodb::S3 => continue,
            // The service can do without DynamoDB, and so can its statistics.
            (None, Err(error)) if api.routed.is_some() && backend == Side::Dynamodb.as_str() => {
                BackendStats { error: Some(error.to_string()), ..BackendStats::default() }
            }
            (None, Err(error)) => return Err(error.into()),
            (None, Ok(_)) => continue,
        };
        backends.insert(backend, stats);
    }
    let lookups: BTreeMap<&'static str, u64> = LOOKUP_RESULTS
        .iter()
        .map(|result| {
            let count = |op: &&str| api.metrics.lookups.with_label_values(&[*op, *result]).get();
            (*result, LOOKUP_OPS.iter().map(count).sum())
        })
        .collect();
    let all: u64 = lookups.values().sum();
    let hits: u64 = lookups
        .iter()
        .filter(|(name, _)| name.starts_with("hit_") || **name == "stale")
        .map(|(_, n)| n)
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more precision")]
    let hit_ratio = (all > 0).then(|| hits as f64 / all as f64);
    Ok(Json(Stats {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.shared().started.elapsed().as_secs(),
        store: api.results.to_string(),
        entries: backends.values().map(|stats| stats.entries).sum(),
        sessions: backends.values().map(|stats| stats.sessions).sum(),
        stored_bytes: backends.values().map(|stats| stats.stored_bytes).reduce(both).flatten(),
        raw_bytes: backends.values().map(|stats| stats.raw_bytes).reduce(both).flatten(),
        size_bytes: backends.values().map(|stats| stats.size_bytes).sum(),
        limit_bytes: backends.values().find_map(|stats| stats.limit_bytes),
        backends,
        memory_bytes: api.memory.as_ref().map_or(0, |memory| memory.usage().0),
        lookups,
        hit_ratio,
    }))
}
