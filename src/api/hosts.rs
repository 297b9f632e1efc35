//! `/v1/hosts/{host}`, and what fetches teach about the pages of a host.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::blocking;
use super::caller::Reader;
use super::params::{NoParams, Params};
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::document::Encoded;
use crate::domain::learning::{Counters, Learning, Visit, has_changed};
use crate::domain::quality::Quality;
use crate::domain::{Document, Entry, Key, Namespace, Timestamp};
use crate::store::GetOptions;

/// The longest host of which anything is learned, in bytes: a name in DNS has 253 characters.
const MAX_HOST_BYTES: usize = 255;

/// Documents of which more than this has to be decoded, both together, are compared off the async threads.
const INLINE_BYTES: u64 = 256 << 10;

/// The bounds of what is learned, where anything is.
pub(super) fn learning(api: &Api) -> Option<Learning> {
    let results = &api.config.results;
    results.learn_ttl.then(|| Learning {
        min_seconds: results.learn_min_seconds.min(results.max_ttl_seconds),
        max_seconds: results.learn_max_seconds.min(results.max_ttl_seconds),
        confidence: results.learn_confidence,
    })
}

/// What a fetch teaches.
#[derive(Debug)]
pub(super) struct Lesson {
    namespace: Namespace,
    host: String,
    visit: Option<Visit>,
    /// How long a page of the host stays fresh, in seconds; nothing as long as too little is known.
    pub(super) ttl: Option<u64>,
}

/// What the fetch of a document teaches that is about to be stored; nothing where nothing is learned. That a store of
/// counters fails is no reason to fail a write.
pub(super) async fn lesson(api: &Api, key: &Key, new: &Encoded, fetched_at: Timestamp) -> Option<Lesson> {
    let learning = learning(api)?;
    let host = host_of(key)?;
    let visit = visit(api, key, new, fetched_at).await;
    let known = api.hosts.counters(key.namespace(), &host).await;
    let known =
        known.inspect_err(|error| tracing::warn!(%error, "what is known of a host cannot be read")).ok()?;
    let counters = visit.map_or(known, |visit| known.and(visit));
    Some(Lesson { namespace: key.namespace().clone(), ttl: learning.ttl(counters), host, visit })
}

/// Notes that the origin confirmed what was stored or confirmed at `before`.
pub(super) async fn confirmed(api: &Api, key: &Key, before: Timestamp) {
    let seconds = api.clock.now().secs_since(before);
    if learning(api).is_some()
        && seconds > 0
        && let Some(host) = host_of(key)
    {
        let visit = Some(Visit::after(seconds, false));
        Lesson { namespace: key.namespace().clone(), host, visit, ttl: None }.take(api).await;
    }
}

impl Lesson {
    /// Keeps what was learned, once the document is stored.
    pub(super) async fn take(self, api: &Api) {
        let Some(visit) = self.visit else { return };
        if let Err(error) = api.hosts.observe(&self.namespace, &self.host, visit).await {
            tracing::warn!(%error, "what was learned of a host cannot be kept");
        }
    }
}

fn host_of(key: &Key) -> Option<String> {
    Some(key.host()).filter(|host| !host.is_empty() && host.len() <= MAX_HOST_BYTES)
}

/// The visit that storing this document is; none where there was no good one, or no time between the two.
async fn visit(api: &Api, key: &Key, new: &Encoded, fetched_at: Timestamp) -> Option<Visit> {
    // A copy in memory will do, and whatever is wrong with the store shows when the document is put there.
    let old = api.results.get(key, GetOptions::default()).await.ok().flatten()?.entry;
    let seconds = fetched_at.secs_since(old.meta.updated_at);
    if seconds == 0 || api.guard().of(&old.meta) != Quality::Good {
        return None;
    }
    if old.meta.etag == new.etag {
        return Some(Visit::after(seconds, false));
    }
    let changed = compared(old, new).await?;
    Some(Visit::after(seconds, changed))
}

/// Whether the content of a page has changed; nothing where that cannot be said.
async fn compared(old: Arc<Entry>, new: &Encoded) -> Option<bool> {
    let size = old.meta.layout.raw_size().saturating_add(new.layout.raw_size());
    let (layout, frame) = (new.layout.clone(), new.frame.clone());
    let compare = move || has_changed(&old.document(), &Document::new(&layout, &frame));
    if size <= INLINE_BYTES { compare() } else { blocking(move || Ok(compare())).await.ok().flatten() }
}

/// What is known of how often the pages of a host change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HostReport {
    /// The host, in lower case.
    #[schema(example = "example.com")]
    host: String,
    /// Whether anything is being learned: `results.learn_ttl`.
    learning: bool,
    /// Fetches of pages that were there already. Past a thousand all counts are halved, so that they follow the host.
    visits: u64,
    /// Those that found another content.
    changes: u64,
    /// Mean time between two fetches of a page, in seconds; missing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_interval: Option<f64>,
    /// How often a page changes in a day, estimated; missing as long as too little is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes_per_day: Option<f64>,
    /// How long a page that is stored without `ttl=` stays fresh, in seconds; missing as long as too little is known, and
    /// where nothing is being learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    learned_ttl: Option<u64>,
}

impl HostReport {
    fn of(host: String, counters: Counters, learning: Option<&Learning>) -> Self {
        Self {
            host,
            learning: learning.is_some(),
            visits: counters.visits,
            changes: counters.changes,
            mean_interval: counters.mean_interval(),
            changes_per_day: counters.change_rate().map(|rate| rate * 86_400.0),
            learned_ttl: learning.and_then(|learning| learning.ttl(counters)),
        }
    }
}

/// What was learned of a host.
///
/// With `results.learn_ttl` the service notes at each fetch whether the page has changed. Of a host of which nothing is
/// known the counts are zero.
#[utoipa::path(get, path = "/v1/hosts/{host}", tag = "results", operation_id = "get_host",
    params(("host" = String, Path, description = "The host of urls, without a port", example = "example.com")),
    responses((status = 200, description = "What is known of it", body = HostReport)))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Reader,
    path: std::result::Result<Path<String>, axum::extract::rejection::PathRejection>,
    _: Params<NoParams>,
) -> Result<Json<HostReport>> {
    let host = path.map(|Path(host)| host.to_lowercase()).unwrap_or_default();
    let fits = !host.is_empty() && host.len() <= MAX_HOST_BYTES;
    if !fits || host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c)) {
        return Err(Problem::parameter("host", "it is no host of a url"));
    }
    let counters = api.hosts.counters(caller.namespace(), &host).await?;
    Ok(Json(HostReport::of(host, counters, learning(&api).as_ref())))
}
