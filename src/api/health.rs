//! `/livez`, `/readyz`, `/health`, `/metrics` and `/v1/stats`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use utoipa::ToSchema;

use super::caller::Admin;
use super::params::{NoParams, Params};
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::Timestamp;
use crate::metrics::{LOOKUP_OPS, LOOKUP_RESULTS};
use crate::store::{self, Health, Status};

/// A backend that has not answered by then is down.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process is up.
#[utoipa::path(get, path = "/livez", tag = "operations", responses(
    (status = 200, description = "The process is up", body = String, content_type = "text/plain", example = json!("ok\n")),
))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests can be served. Degraded is still ready.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "Ready, maybe degraded", body = String, content_type = "text/plain", example = json!("ok\n")),
    (status = 503, description = "No backend can serve"),
))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str> {
    match check(&api).await.0.status {
        "healthy" => Ok("ok\n"),
        "degraded" => Ok("degraded\n"),
        _ => Err(Problem::new("unavailable", "no backend can serve")),
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
#[utoipa::path(get, path = "/health", tag = "operations", responses(
    (status = 200, description = "Healthy or degraded", body = HealthReport),
    (status = 503, description = "Unhealthy", body = HealthReport),
))]
pub(super) async fn health(State(api): State<Api>) -> Response {
    let (report, _) = check(&api).await;
    let status = if report.status == "unhealthy" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report)).into_response()
}

/// Asks the store how it is.
async fn check(api: &Api) -> (HealthReport, Option<Status>) {
    let begun = Instant::now();
    let timestamp = api.clock.now();
    let answer = tokio::time::timeout(PATIENCE, statuses(api)).await;
    let (status, error, found) = match answer {
        Ok(Ok(found)) => match found.health.clone() {
            Health::Healthy => ("healthy", None, Some(found)),
            Health::Degraded(reason) => ("degraded", Some(reason), Some(found)),
            Health::Down(reason) => ("unhealthy", Some(reason), Some(found)),
        },
        Ok(Err(error)) => ("unhealthy", Some(error.to_string()), None),
        Err(_) => ("unhealthy", Some(format!("no answer within {} s", PATIENCE.as_secs())), None),
    };
    let backend = found.as_ref().map_or(api.backend, |found| found.backend);
    let response_time_ms = begun.elapsed().as_secs_f64() * 1000.0;
    // The condition is for everybody; its text may name paths and is for the log.
    if let Some(error) = &error {
        tracing::warn!(backend, status, error, "a backend is not healthy");
    }
    let error = error.map(|_| "see the log".to_owned());
    let backends = BTreeMap::from([(backend, BackendHealth { status, response_time_ms, timestamp, error })]);
    let uptime_seconds = api.shared().started.elapsed().as_secs();
    let report =
        HealthReport { status, version: env!("CARGO_PKG_VERSION"), timestamp, uptime_seconds, backends };
    (report, found)
}

/// How the stores of results and of sessions are, as one: the worse of the two.
async fn statuses(api: &Api) -> store::Result<Status> {
    let (results, sessions) = futures_util::try_join!(api.results.status(), api.sessions.status())?;
    let health = match (results.health, sessions.health) {
        (Health::Down(reason), _) | (_, Health::Down(reason)) => Health::Down(reason),
        (Health::Degraded(reason), _) | (_, Health::Degraded(reason)) => Health::Degraded(reason),
        (Health::Healthy, Health::Healthy) => Health::Healthy,
    };
    Ok(Status { health, sessions: sessions.sessions, ..results })
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
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
    let (report, found) = check(api).await;
    for (backend, health) in &report.backends {
        metrics.backend_up.with_label_values(&[backend]).set(i64::from(health.status == "healthy"));
    }
    if let Some(status) = found {
        let backend = status.backend;
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
    let results = api.memory.as_ref().map_or((0, 0), crate::store::tiered::Tiered::usage);
    for (kind, (bytes, entries)) in [("results", results), ("answers", api.shared().answers.usage())] {
        metrics.memory_bytes.with_label_values(&[kind]).set(gauge_value(bytes));
        metrics.memory_entries.with_label_values(&[kind]).set(gauge_value(entries));
    }
}

fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What is stored and how it is used.
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
    /// Bytes of results held in memory.
    memory_bytes: u64,
    /// Look-ups since the start, by what they came to.
    lookups: BTreeMap<&'static str, u64>,
    /// Hits and stale answers over all look-ups since the start, 0 to 1; missing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_ratio: Option<f64>,
}

/// What is stored and how it is used since the start, over all namespaces; needs the scope `admin`.
#[utoipa::path(get, path = "/v1/stats", tag = "operations", responses(
    (status = 200, description = "Sizes, counts and the hit ratio", body = Stats),
))]
pub(super) async fn stats(State(api): State<Api>, _: Admin, _: Params<NoParams>) -> Result<Json<Stats>> {
    let status = statuses(&api).await?;
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
        entries: status.entries,
        sessions: status.sessions,
        stored_bytes: status.stored_bytes,
        raw_bytes: status.raw_bytes,
        size_bytes: status.size_bytes,
        limit_bytes: status.limit_bytes,
        memory_bytes: api.memory.as_ref().map_or(0, |memory| memory.usage().0),
        lookups,
        hit_ratio,
    }))
}
