//! `/v1/admin/gate`: whether more keys may go to DynamoDB, with the evidence.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{routed, worker};
use crate::api::caller::Admin;
use crate::api::health::oldest_seconds;
use crate::api::params::Params;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::gate::{self, Coverage, Evidence, Verification};
use crate::domain::routing::Percent;

/// How far.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GateParams {
    /// The share of keys that DynamoDB would own, 0 to 100 with at most two decimals.
    #[param(example = 50, minimum = 0, maximum = 100)]
    to: f64,
}

/// The answer, and what it rests on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GateReport {
    /// The share of keys that DynamoDB would own.
    #[schema(value_type = f64, example = 50)]
    to: Percent,
    /// The share that it owns now.
    #[schema(value_type = f64, example = 25)]
    from: Percent,
    /// Whether all checks pass.
    #[schema(example = true)]
    pass: bool,
    /// Each of them.
    checks: Vec<GateCheck>,
}

/// One condition, and whether it is met.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GateCheck {
    /// `coverage`, `verification`, `shadow_reads`, `outbox_age`, `outbox_parked`, `error_rate`, `p99` or `circuit`.
    #[schema(example = "p99")]
    name: &'static str,
    /// Whether it is met.
    #[schema(example = true)]
    pass: bool,
    /// What was measured; null where there was nothing to measure. Shares are 0 to 1, times in seconds.
    #[schema(example = 0.012)]
    measured: Option<f64>,
    /// What it was held against.
    #[schema(example = 0.1)]
    limit: f64,
    /// The same in words, with what to do where it is not met.
    #[schema(example = "99 of 100 operations took at most 12.0 ms in 600 s")]
    detail: String,
}

/// Ask whether DynamoDB is fit to own a greater share of the keys.
///
/// The answer is 200 either way: `pass` says which. How DynamoDB did is that of the last ten minutes, or since the start.
#[utoipa::path(get, path = "/v1/admin/gate", tag = "admin", operation_id = "get_routing_gate", params(GateParams), responses(
    (status = 200, description = "Yes or no, with the evidence", body = GateReport),
    (status = 409, description = "The service keeps everything in one store"),
))]
pub(super) async fn get(
    State(api): State<Api>,
    _: Admin,
    Params(params): Params<GateParams>,
) -> Result<Json<GateReport>> {
    routed(&api)?;
    let to = Percent::from_number(params.to).map_err(|error| Problem::parameter("to", error))?;
    let evidence = gather(&api, to).await?;
    let checks = gate::judge(&evidence).into_iter().map(|check| {
        let gate::Check { name, pass, measured, limit, detail } = check;
        GateCheck { name, pass, measured, limit, detail }
    });
    let checks: Vec<GateCheck> = checks.collect();
    Ok(Json(GateReport { to, from: evidence.from, pass: checks.iter().all(|check| check.pass), checks }))
}

async fn gather(api: &Api, to: Percent) -> Result<Evidence> {
    let parts = routed(api)?.parts();
    let from = parts.routing.current().policy.effective_percent();
    let outbox = parts.database.outbox_status().await?;
    let now = api.clock.now();
    Ok(Evidence {
        now,
        from,
        to,
        coverage: coverage(api, from, to).await,
        verification: last_verification(api).await?,
        outbox_seconds: oldest_seconds(&outbox, now),
        queued: outbox.queued,
        parked: outbox.parked,
        load: api.recent.as_ref().map(|recent| recent.load(Instant::now())).unwrap_or_default(),
        circuit: parts.remote.circuit.status().state.as_str(),
    })
}

async fn coverage(api: &Api, from: Percent, to: Percent) -> Result<Coverage, String> {
    if to <= from {
        return Ok(Coverage::default());
    }
    let worker = worker(api).map_err(|problem| problem.detail().to_owned())?;
    worker.coverage(from, to).await.map_err(|error| error.to_string())
}

/// The last comparison of the two sides that came to its end.
async fn last_verification(api: &Api) -> Result<Option<Verification>> {
    let Ok(worker) = worker(api) else { return Ok(None) };
    let all = worker.list().await?;
    Ok(all.iter().filter_map(Verification::of).max_by_key(|verification| verification.finished_at))
}
