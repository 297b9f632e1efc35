//! `/v1/results/purge`: deletes by host, prefix or age.

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Sent, json};
use super::caller::Writer;
use super::listing::filter;
use super::params::{NoParams, Params};
use super::problem::{Problem, Result};
use super::result::remove;
use super::state::Api;
use crate::domain::Meta;
use crate::store::{Condition, DeleteOutcome, ListOrder, ListQuery};

/// Deletes that are under way at once: they share transactions.
const AT_ONCE: usize = 64;

/// Metadata that is read at once.
const PAGE: usize = 500;

/// Which results to delete. At least one member must say so.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeRequest {
    /// Those of this host.
    #[schema(example = "example.com")]
    host: Option<String>,
    /// Those whose url begins so.
    prefix: Option<String>,
    /// All variants of this url.
    url: Option<String>,
    /// Those stored or confirmed more than so many seconds ago; 0 means all.
    older_than: Option<u64>,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
}

/// What a purge did, or would do.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct PurgeReport {
    /// How many results were found.
    matched: u64,
    /// How many of them were deleted; 0 in a dry run.
    deleted: u64,
    /// Their stored size in bytes.
    stored_bytes: u64,
    /// Whether nothing was deleted because that was asked for.
    dry_run: bool,
}

/// Delete results by host, prefix, url or age.
///
/// A result that is stored again while the purge runs stays.
#[utoipa::path(post, path = "/v1/results/purge", tag = "results", operation_id = "purge_results",
    request_body(content = PurgeRequest, content_type = "application/json",
        example = json!({"host": "example.com", "dry_run": true})),
    responses(
        (status = 200, description = "What was deleted, or would be", body = PurgeReport),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn purge(
    State(api): State<Api>,
    caller: Writer,
    _: Params<NoParams>,
    Sent { headers, body }: Sent,
) -> Result<Json<PurgeReport>> {
    let request: PurgeRequest = json(&api, &headers, body).await?;
    let named = [&request.host, &request.prefix, &request.url].into_iter().any(Option::is_some);
    if !named && request.older_than.is_none() {
        return Err(Problem::new("invalid_field", "say what to delete: host, prefix, url or older_than"));
    }
    let now = api.clock.now();
    // What is stored from now on is not what was meant; one millisecond later so that "now" itself is.
    let until = match request.older_than {
        Some(0) | None => crate::domain::Timestamp::from_millis(now.as_millis() + 1),
        Some(seconds) => now.minus_secs(seconds),
    };
    let mut query = ListQuery {
        filter: filter(&api, request.host.as_deref(), request.prefix.as_deref(), request.url.as_deref())?,
        until: Some(until),
        order: ListOrder::Oldest,
        ..ListQuery::all(caller.namespace(), PAGE)
    };
    let mut report = PurgeReport { dry_run: request.dry_run, ..PurgeReport::default() };
    // What an instance with a faster clock has stored is there by now, whatever the time that it says. To be listed
    // before anything else: it is not told from what is stored from now on.
    let ahead = match request.older_than {
        Some(1..) => Vec::new(),
        Some(0) | None => all(&api, ListQuery { since: Some(until), until: None, ..query.clone() }).await?,
    };
    loop {
        let page = api.results.list(&query).await?;
        report.take(&api, page.items).await?;
        match page.next {
            Some(cursor) => query.after = Some(cursor),
            None => break,
        }
    }
    report.take(&api, ahead).await?;
    Ok(Json(report))
}

impl PurgeReport {
    /// Deletes some of what was found, unless nothing is to be deleted.
    async fn take(&mut self, api: &Api, items: Vec<Meta>) -> Result<()> {
        self.matched += items.len() as u64;
        self.stored_bytes += items.iter().map(|meta| meta.layout.stored_size()).sum::<u64>();
        if !self.dry_run {
            let deletes = stream::iter(items).map(|meta| delete(api.clone(), meta));
            let outcomes: Vec<DeleteOutcome> = deletes.buffer_unordered(AT_ONCE).try_collect().await?;
            self.deleted += outcomes.iter().filter(|outcome| is_gone(**outcome)).count() as u64;
        }
        Ok(())
    }
}

/// Everything that a listing shows.
async fn all(api: &Api, mut query: ListQuery) -> Result<Vec<Meta>> {
    let mut found = Vec::new();
    loop {
        let page = api.results.list(&query).await?;
        found.extend(page.items);
        match page.next {
            Some(cursor) => query.after = Some(cursor),
            None => return Ok(found),
        }
    }
}

/// Whether the entry can be read no more; the store that owns it may have yet to be told.
const fn is_gone(outcome: DeleteOutcome) -> bool {
    matches!(outcome, DeleteOutcome::Deleted | DeleteOutcome::Queued)
}

/// Deletes what was listed: what was stored since is newer than what was meant.
async fn delete(api: Api, meta: Meta) -> Result<DeleteOutcome> {
    remove(&api, "purge", &meta.key, Condition::Version(meta.version)).await
}
