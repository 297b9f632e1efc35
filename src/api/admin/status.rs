//! `/v1/admin/status`: everything that an operator wants to see at once.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::policy::RoutingDocument;
use super::work::WorkDocument;
use super::{routed, worker};
use crate::api::caller::Admin;
use crate::api::health::{BackendStats, oldest_seconds};
use crate::api::inspect::{self, Inspected};
use crate::api::params::{NoParams, Params};
use crate::api::problem::Result;
use crate::api::state::Api;
use crate::domain::Timestamp;
use crate::domain::gate::Load;
use crate::domain::routing::Side;
use crate::domain::work::WorkState;
use crate::metrics::{ROUTED_OPERATIONS, ROUTED_REASONS};
use crate::store::circuit::CircuitStatus;

/// How a service over both stores is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusPage {
    /// `healthy`, `degraded` or `unhealthy`.
    #[schema(example = "healthy")]
    status: &'static str,
    /// The version that runs.
    version: &'static str,
    /// When this was found out, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// The policy in force.
    routing: RoutingDocument,
    /// Each backend by name.
    backends: BTreeMap<&'static str, BackendState>,
    /// What keeps callers from waiting for DynamoDB when it does not answer.
    circuit: CircuitDocument,
    /// The same of the bucket for large bodies; null where there is none.
    bucket_circuit: Option<CircuitDocument>,
    /// How DynamoDB did in the last ten minutes, or since the start.
    recent: RecentLoad,
    /// The writes that DynamoDB has yet to get.
    outbox: OutboxState,
    /// Work under way.
    work: Vec<WorkDocument>,
    /// Who answered how often since the start, and why it was them; what never happened is left out.
    traffic: Vec<Traffic>,
}

/// How one backend is, and what it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackendState {
    /// `healthy`, `degraded` or `unhealthy`.
    #[schema(example = "healthy")]
    status: &'static str,
    /// How long it took to answer, in milliseconds.
    response_time_ms: f64,
    /// What it holds; null where it did not say, and for a bucket.
    holds: Option<BackendStats>,
    /// What is wrong.
    error: Option<String>,
}

/// The state of the circuit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Circuit)]
pub(super) struct CircuitDocument {
    /// `closed`, `trial` or `open`.
    #[schema(example = "closed")]
    state: &'static str,
    /// Failures in a row.
    failures: u32,
    /// What the last failure said; null when there was none since the last success.
    error: Option<String>,
}

impl CircuitDocument {
    fn of(CircuitStatus { state, failures, error }: CircuitStatus) -> Self {
        Self { state: state.as_str(), failures, error: Some(error).filter(|error| !error.is_empty()) }
    }
}

/// How a backend did lately.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecentLoad {
    /// How long ago that begins.
    seconds: f64,
    /// Operations.
    operations: u64,
    /// Those that failed.
    errors: u64,
    /// Their share, 0 to 1; null where there were none.
    error_rate: Option<f64>,
    /// The time in seconds within which 99 of 100 operations on one key were done; null where there were none.
    p99_seconds: Option<f64>,
    /// Reads after which both sides were compared.
    compared: u64,
    /// Those of them that found a difference.
    differences: u64,
}

impl RecentLoad {
    fn of(load: Load) -> Self {
        let Load { seconds, operations, errors, p99_seconds, compared, differences } = load;
        Self {
            seconds,
            operations,
            errors,
            error_rate: load.error_rate(),
            p99_seconds,
            compared,
            differences,
        }
    }
}

/// How the outbox is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutboxState {
    /// Rows that wait, parked ones aside.
    queued: u64,
    /// Rows that DynamoDB refused for their own sake.
    parked: u64,
    /// The age of the oldest row that waits, in seconds; 0 when none does.
    oldest_seconds: f64,
    /// The most rows that it may hold; null where there is no bound.
    limit: Option<u64>,
}

/// Who answered how often.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Traffic {
    /// Such as `get`, `put` or `session_get`.
    #[schema(example = "get")]
    operation: &'static str,
    /// `sqlite` or `dynamodb`.
    #[schema(example = "dynamodb")]
    backend: &'static str,
    /// `owner`, `other` (the owner did not have it), `queued`, `fallback` (the owner could not be reached) or `refused`.
    #[schema(example = "owner")]
    reason: &'static str,
    /// How often.
    #[schema(example = 1200)]
    count: u64,
    /// Its share of that operation, 0 to 1.
    #[schema(example = 0.25)]
    share: f64,
}

/// See everything at once: policy, backends, circuit, outbox, work, and who answers how much.
#[utoipa::path(get, path = "/v1/admin/status", tag = "admin", operation_id = "get_routing_status", responses(
    (status = 200, description = "How it is", body = StatusPage),
    (status = 409, description = "The service keeps everything in one store"),
))]
pub(super) async fn get(State(api): State<Api>, _: Admin, _: Params<NoParams>) -> Result<Json<StatusPage>> {
    let parts = routed(&api)?.parts();
    let inspected = inspect::backends(&api).await;
    let outbox = parts.database.outbox_status().await?;
    let work = match worker(&api) {
        Ok(worker) => worker.list().await?,
        Err(_) => Vec::new(),
    };
    let timestamp = api.clock.now();
    let load = api.recent.as_ref().map(|recent| recent.load(Instant::now())).unwrap_or_default();
    Ok(Json(StatusPage {
        status: inspect::overall(&inspected).as_str(),
        version: env!("CARGO_PKG_VERSION"),
        timestamp,
        uptime_seconds: api.shared().started.elapsed().as_secs(),
        routing: RoutingDocument::of(&parts.routing.current()),
        backends: inspected.iter().map(|found| (found.backend, backend(found))).collect(),
        circuit: CircuitDocument::of(parts.remote.circuit.status()),
        bucket_circuit: api.bucket.as_ref().map(|bucket| CircuitDocument::of(bucket.circuit())),
        recent: RecentLoad::of(load),
        outbox: OutboxState {
            queued: outbox.queued,
            parked: outbox.parked,
            oldest_seconds: oldest_seconds(&outbox, timestamp),
            limit: Some(api.config.routing.outbox_rows).filter(|limit| *limit > 0),
        },
        work: work
            .into_iter()
            .filter(|status| status.state == WorkState::Running)
            .map(WorkDocument::of)
            .collect(),
        traffic: traffic(&api),
    }))
}

fn backend(found: &Inspected) -> BackendState {
    BackendState {
        status: found.verdict().as_str(),
        response_time_ms: found.took.as_secs_f64() * 1000.0,
        error: found.trouble(),
        holds: found.holds.as_ref().map(BackendStats::of),
    }
}

fn traffic(api: &Api) -> Vec<Traffic> {
    ROUTED_OPERATIONS.into_iter().flat_map(|operation| shares(api, operation)).collect()
}

/// Who answered one operation.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more precision")]
fn shares(api: &Api, operation: &'static str) -> Vec<Traffic> {
    let count = |backend: Side, reason: &'static str| {
        let count = api.metrics.routed.with_label_values(&[operation, backend.as_str(), reason]).get();
        Traffic { operation, backend: backend.as_str(), reason, count, share: 0.0 }
    };
    let each = |backend| ROUTED_REASONS.map(|reason| count(backend, reason));
    let mut all: Vec<Traffic> = Side::ALL.into_iter().flat_map(each).filter(|one| one.count > 0).collect();
    let sum: u64 = all.iter().map(|one| one.count).sum();
    for one in &mut all {
        one.share = one.count as f64 / sum as f64;
    }
    all
}
