//! `/v1/admin/clock`: whether the wall clock is believed where it removes what has expired.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Admin;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::clock::ClockGuard;
use crate::domain::Timestamp;

/// What the clock says, and what is believed of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Clock)]
pub(super) struct ClockDocument {
    /// Whether it is believed. If not, what has expired only by its jump is kept.
    #[schema(example = false)]
    believed: bool,
    /// What the clock says, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// The time by which expired results, sessions and leases are removed.
    #[schema(value_type = String, format = DateTime)]
    removes_by: Timestamp,
    /// Seconds until the clock is believed if it stays as it is; null where it is.
    #[schema(example = 86_400)]
    believed_in_seconds: Option<u64>,
}

/// See whether the clock is believed.
///
/// A jump ahead of more than a day, while the service runs or since it last ran, is not believed for a day: until then
/// nothing is removed that has expired by that jump alone.
#[utoipa::path(get, path = "/v1/admin/clock", operation_id = "get_clock", tag = "admin", responses(
    (status = 200, description = "What it says, and what is believed", body = ClockDocument),
    (status = 501, description = "This service removes nothing by its clock: it has no database of its own"),
))]
pub(super) async fn get(
    State(api): State<Api>,
    _: Admin,
    _: Params<NoParams>,
) -> Result<Json<ClockDocument>> {
    Ok(Json(shown(&api, guard(&api)?)))
}

/// Believe the clock as it is.
///
/// What has expired by it is removed from the next sweep on. Where the clock is believed already nothing changes.
#[utoipa::path(post, path = "/v1/admin/clock/confirm", operation_id = "confirm_clock", tag = "admin", responses(
    (status = 200, description = "It is believed now", body = ClockDocument),
    (status = 501, description = "This service removes nothing by its clock: it has no database of its own"),
))]
pub(super) async fn confirm(
    State(api): State<Api>,
    admin: Admin,
    _: Params<NoParams>,
) -> Result<Json<ClockDocument>> {
    let guard = guard(&api)?;
    if guard.confirm() {
        tracing::warn!(now = %api.clock.now(), who = admin.who(&api), "the clock is believed: its jump was confirmed");
        api.metrics.clock_doubted.set(0);
    }
    Ok(Json(shown(&api, guard)))
}

fn guard(api: &Api) -> Result<&ClockGuard> {
    api.clock_guard.as_ref().ok_or_else(|| {
        let detail =
            "this service has no database of its own: DynamoDB removes what has expired, by its own clock";
        Problem::new("not_supported", detail)
    })
}

fn shown(api: &Api, guard: &ClockGuard) -> ClockDocument {
    let (removes_by, doubt) = guard.seen();
    ClockDocument {
        believed: doubt.is_none(),
        now: api.clock.now(),
        removes_by,
        believed_in_seconds: doubt.map(|doubt| doubt.remaining.as_secs()),
    }
}
