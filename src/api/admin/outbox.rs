//! `/v1/admin/outbox`: the writes that DynamoDB has yet to get, and those that it refuses.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit::{cursor, page_limit, read_cursor};
use super::routed;
use crate::api::body::json;
use crate::api::caller::Admin;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::Timestamp;
use crate::store::sqlite::ledger::outbox::{Queued, Row};

/// What marks the cursors of this listing, of parked rows and of all.
const FINGERPRINTS: [u64; 2] = [u64::from_le_bytes(*b"outboxpk"), u64::from_le_bytes(*b"outboxal")];

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OutboxParams {
    /// Only those that are parked: DynamoDB refused them for their own sake, and they are not tried again by themselves.
    #[serde(default)]
    parked: bool,
    /// At most so many a page, 1 to 1000; 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Where the last page ended.
    cursor: Option<String>,
}

/// A write that DynamoDB has yet to get.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutboxRow {
    /// Its place in the order.
    #[schema(example = 42)]
    seq: i64,
    /// `result` or `session`.
    #[schema(example = "result")]
    kind: &'static str,
    /// The tenant.
    #[schema(example = "default")]
    namespace: String,
    /// The url of a result; null for a session.
    #[schema(example = "https://example.com/")]
    url: Option<String>,
    /// The variant of a result; null for a session.
    variant: Option<String>,
    /// `failed` for the failed result of that url and variant; null for the good one, and for a session.
    quality: Option<&'static str>,
    /// The id of a session; null for a result.
    session_id: Option<String>,
    /// The version that DynamoDB must have at least.
    version: String,
    /// When the first write came that it stands for, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    enqueued_at: Timestamp,
    /// How long ago that is, in seconds.
    age_seconds: u64,
    /// How often it was tried.
    attempts: u32,
    /// What the last try said.
    error: Option<String>,
}

impl OutboxRow {
    fn of(row: Row, now: Timestamp) -> Self {
        let kind = row.what.kind();
        let quality = matches!(&row.what, Queued::Result(key) if key.is_failed()).then_some("failed");
        let (namespace, url, variant, session_id) = match row.what {
            Queued::Result(key) => {
                let (url, variant) = (key.url().to_owned(), key.caller_variant().to_owned());
                (key.namespace().to_string(), Some(url), Some(variant), None)
            }
            Queued::Session(namespace, id) => (namespace.to_string(), None, None, Some(id.to_string())),
        };
        Self {
            seq: row.seq,
            kind,
            namespace,
            url,
            variant,
            quality,
            session_id,
            version: row.version.to_string(),
            enqueued_at: row.enqueued_at,
            age_seconds: now.secs_since(row.enqueued_at),
            attempts: row.attempts,
            error: row.error,
        }
    }
}

/// One page of the outbox.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutboxPage {
    /// The rows, oldest first.
    items: Vec<OutboxRow>,
    /// Send it as `cursor=` for the next page; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List the writes that DynamoDB has yet to get, oldest first.
#[utoipa::path(get, path = "/v1/admin/outbox", tag = "admin", operation_id = "list_outbox", params(OutboxParams), responses(
    (status = 200, description = "One page", body = OutboxPage),
    (status = 409, description = "The service keeps everything in one store"),
))]
pub(super) async fn list(
    State(api): State<Api>,
    _: Admin,
    Params(params): Params<OutboxParams>,
) -> Result<Json<OutboxPage>> {
    let database = &routed(&api)?.parts().database;
    let limit = page_limit(params.limit)?;
    let fingerprint = FINGERPRINTS[usize::from(!params.parked)];
    let after = params.cursor.as_deref().map(|text| read_cursor(fingerprint, text)).transpose()?.unwrap_or(0);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = database.outbox_rows(params.parked, after, limit + 1).await?;
    let is_more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor =
        rows.last().filter(|_| is_more).map(|last| cursor(fingerprint, last.seq.unsigned_abs()));
    let now = api.clock.now();
    Ok(Json(OutboxPage { items: rows.into_iter().map(|row| OutboxRow::of(row, now)).collect(), next_cursor }))
}

/// Which parked rows to try again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryRequest {
    /// The one with this place; all of them when missing.
    #[serde(default)]
    #[schema(example = 42)]
    seq: Option<i64>,
}

/// What will be tried again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetryReport {
    /// How many rows are no longer parked.
    #[schema(example = 1)]
    retried: u64,
}

/// Try parked writes again: all, or one.
#[utoipa::path(post, path = "/v1/admin/outbox/retry", tag = "admin", operation_id = "retry_outbox",
    request_body(content = RetryRequest, content_type = "application/json", example = json!({"seq": 42})),
    responses(
        (status = 200, description = "They are tried again from now on", body = RetryReport),
        (status = 404, description = "No row of that place is parked"),
        (status = 409, description = "The service keeps everything in one store"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn retry(
    State(api): State<Api>,
    admin: Admin,
    _: Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RetryReport>> {
    let database = &routed(&api)?.parts().database;
    let request: RetryRequest = json(&api, &headers, body).await?;
    let retried = database.outbox_unpark(request.seq, api.clock.now()).await?;
    if let (Some(seq), 0) = (request.seq, retried) {
        return Err(not_parked(seq));
    }
    tracing::info!(who = admin.who(&api), retried, "parked writes are tried again");
    Ok(Json(RetryReport { retried }))
}

/// Give up a parked write: DynamoDB will not be told of it.
#[utoipa::path(delete, path = "/v1/admin/outbox/{seq}", tag = "admin", operation_id = "discard_outbox_row",
    params(("seq" = i64, Path, description = "The place of the row")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No row of that place is parked"),
        (status = 409, description = "The service keeps everything in one store"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn discard(
    State(api): State<Api>,
    admin: Admin,
    Path(seq): Path<String>,
    _: Params<NoParams>,
) -> Result<StatusCode> {
    let database = &routed(&api)?.parts().database;
    let seq: i64 = seq.parse().map_err(|error| Problem::parameter("seq", error))?;
    if !database.outbox_discard(seq).await? {
        return Err(not_parked(seq));
    }
    tracing::warn!(who = admin.who(&api), seq, "a write that DynamoDB refused was given up");
    Ok(StatusCode::NO_CONTENT)
}

fn not_parked(seq: i64) -> Problem {
    Problem::new("outbox_row_not_found", format!("no row {seq} is parked")).with("seq", seq)
}
