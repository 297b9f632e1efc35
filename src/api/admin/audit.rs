//! `/v1/admin/routing/log`: who changed the policy, when, and why.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::policy::{MemberChange, PolicyDocument, changes};
use super::routed;
use crate::api::caller::Admin;
use crate::api::listing::{MAX_LIMIT, bind, unbind};
use crate::api::params::{Params, bounded};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::Timestamp;
use crate::store::sqlite::ledger::policy::Change;

/// What marks the cursors of this listing.
const FINGERPRINT: u64 = u64::from_le_bytes(*b"auditlog");

/// Which part of a listing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// At most so many a page, 1 to 1000; 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Where the last page ended.
    cursor: Option<String>,
}

/// A change of the policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoggedChange)]
pub(super) struct LoggedChange {
    /// The number of the policy that it put in force.
    #[schema(example = 7)]
    generation: u64,
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
    /// Who: the name of a token.
    #[schema(example = "operator")]
    who: String,
    /// Why, in their words; may be empty.
    #[schema(example = "the second step")]
    reason: String,
    /// The policy before.
    before: PolicyDocument,
    /// The policy after.
    after: PolicyDocument,
    /// What differs between the two.
    changes: Vec<MemberChange>,
}

impl LoggedChange {
    fn of(change: Change) -> Self {
        Self {
            generation: change.generation,
            changed_at: change.changed_at,
            before: PolicyDocument::of(&change.before),
            after: PolicyDocument::of(&change.after),
            changes: changes(&change.before, &change.after),
            who: change.who,
            reason: change.reason,
        }
    }
}

/// One page of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogPage {
    /// The changes, newest first.
    items: Vec<LoggedChange>,
    /// Send it as `cursor=` for the next page; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List the changes of the routing policy, newest first.
#[utoipa::path(get, path = "/v1/admin/routing/log", tag = "admin", operation_id = "list_routing_changes", params(PageParams), responses(
    (status = 200, description = "One page", body = LogPage),
    (status = 409, description = "The service keeps everything in one store"),
))]
pub(super) async fn get(
    State(api): State<Api>,
    _: Admin,
    Params(params): Params<PageParams>,
) -> Result<Json<LogPage>> {
    let database = &routed(&api)?.parts().database;
    let limit = page_limit(params.limit)?;
    let before = params.cursor.as_deref().map(|cursor| read_cursor(FINGERPRINT, cursor)).transpose()?;
    let mut log = database.policy_log(before, limit + 1).await?;
    let is_more = log.len() > limit;
    log.truncate(limit);
    let next_cursor = log.last().filter(|_| is_more).map(|last| cursor(FINGERPRINT, last.generation));
    Ok(Json(LogPage { items: log.into_iter().map(LoggedChange::of).collect(), next_cursor }))
}

/// How many a page.
pub(super) fn page_limit(given: Option<u64>) -> Result<usize> {
    Ok(usize::try_from(bounded("limit", given, 1..=MAX_LIMIT, 100)?).unwrap_or(1000))
}

/// The opaque text of a number, for one listing.
pub(super) fn cursor(fingerprint: u64, number: u64) -> String {
    bind(fingerprint, &number.to_le_bytes())
}

/// The number in a text that [`cursor`] made for the same listing.
pub(super) fn read_cursor(fingerprint: u64, text: &str) -> Result<u64> {
    let bytes = unbind(fingerprint, text)?;
    let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| {
        Problem::new("invalid_cursor", "the cursor does not belong to this listing").with("field", "cursor")
    })?;
    Ok(u64::from_le_bytes(bytes))
}
