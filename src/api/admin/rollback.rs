//! `/v1/admin/rollback`: back to SQLite, or to fewer keys in DynamoDB, in one call.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use utoipa::ToSchema;

use super::precondition::Precondition;
use super::routing::{Change, ChangeDocument};
use super::{reason, routed};
use crate::api::body::{Accepts, read_json, receive};
use crate::api::caller::Admin;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::routing::{Force, Percent, Policy};
use crate::store::routed::policy::Author;

/// The largest body.
const MOST_BYTES: u64 = 64 << 10;

/// How far back, and why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackRequest {
    /// The share of keys that DynamoDB keeps, less than now. When missing, SQLite owns everything from now on:
    /// `force` is `sqlite`.
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 100)]
    to: Option<Percent>,
    /// Why, for the log.
    reason: Option<String>,
}

/// Go back.
///
/// It counts from the next operation on. What only DynamoDB has stays readable for as long as DynamoDB answers. The
/// body may be missing.
#[utoipa::path(post, path = "/v1/admin/rollback", tag = "admin", operation_id = "rollback_routing",
    request_body(content = Option<RollbackRequest>, content_type = "application/json",
        example = json!({"reason": "latency"})),
    responses(
        (status = 200, description = "What is in force now, with what to mind", body = ChangeDocument,
            headers(("etag" = String, description = "The number of the policy in force"))),
        (status = 409, description = "The service keeps everything in one store, a variable holds `force`, or too many changed it at once"),
        (status = 412, description = "Another policy is in force: `current` is what it is"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn post(
    State(api): State<Api>,
    admin: Admin,
    _: Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    routed(&api)?;
    let upload = receive(&api, &headers, body, Accepts::Json).await?.at_most(MOST_BYTES);
    let raw = upload.source.read_whole(MOST_BYTES)?.unwrap_or_default();
    // In a hurry nobody wants to be told that `{}` is missing.
    let request = if raw.is_empty() {
        RollbackRequest::default()
    } else {
        read_json::<Option<RollbackRequest>>(&raw)?.unwrap_or_default()
    };
    let author = Author { who: admin.who(&api), reason: reason(request.reason)? };
    let change = Change { precondition: Precondition::of(&headers)?, author, dry_run: false };
    change.make(&api, |before| back(&before.policy, request.to)).await
}

fn back(policy: &Policy, to: Option<Percent>) -> Result<Policy> {
    let now = policy.effective_percent();
    match to {
        None => Ok(Policy { force: Force::Sqlite, ..*policy }),
        Some(to) if to < now => Ok(Policy { percent: to, force: Force::None, ..*policy }),
        Some(to) => {
            let detail = format!("to: {to} is not less than {now}, which is in force; that is no way back");
            Err(Problem::new("invalid_field", detail).with("field", "to"))
        }
    }
}
