//! Writes under a lease: who comes too late stores nothing.

use http::StatusCode;

use super::granted::{count, end, joined};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::api::write::{Stored, Terms, Written, keep, store};
use crate::domain::document::Encoded;
use crate::domain::lease::LeaseToken;
use crate::domain::quality::Quality;
use crate::domain::{Key, Version};
use crate::store::{Ending, GetOptions, Holder};

/// Stores a document as [`store`] does, or as one of a quality that is known, and wakes who waits for it. Under a lease, if
/// one is named: the fence of the lease is then the version of the write.
pub(in crate::api) async fn store_under(
    api: &Api,
    lease: Option<LeaseToken>,
    op: &'static str,
    key: Key,
    encoded: Encoded,
    terms: Terms,
    quality: Option<Quality>,
) -> Result<Written> {
    let Some(token) = lease else {
        return write(api, op, key, encoded, terms, quality).await;
    };
    let api = api.clone();
    // In a task of its own: a client that leaves meanwhile must not leave the lease behind when its page is stored.
    let tasks = api.shared().hub.tasks().clone();
    joined(
        tasks.spawn(async move { store_fenced(&api, token, op, key, encoded, terms, quality).await }).await,
    )?
}

async fn write(
    api: &Api,
    op: &str,
    key: Key,
    encoded: Encoded,
    terms: Terms,
    quality: Option<Quality>,
) -> Result<Written> {
    let id = key.id();
    let written = match quality {
        Some(quality) => keep(api, op, key, encoded, terms, quality).await,
        None => store(api, op, key, encoded, terms).await,
    };
    api.shared().hub.wake(id);
    written
}

async fn store_fenced(
    api: &Api,
    token: LeaseToken,
    op: &str,
    key: Key,
    encoded: Encoded,
    terms: Terms,
    quality: Option<Quality>,
) -> Result<Written> {
    if token.key() != key.id() {
        return Err(outdated(api, "the lease is of another page"));
    }
    let holder = Holder { namespace: key.namespace().clone(), token };
    let Some(fence) = api.leases.fence(&holder).await? else {
        return Err(outdated(api, "the lease was given up or forgotten, or another was granted since"));
    };
    let written = write(api, op, key.clone(), encoded, Terms { version: fence, ..terms }, quality).await?;
    let written = if written.is_superseded() {
        match repeated(api, &key, &written, fence).await? {
            Some(stored) => Written { status: StatusCode::OK, stored, ..written },
            None => return Err(outdated(api, "something newer is stored")),
        }
    } else {
        written
    };
    if let Err(error) = end(api, &holder, Ending::Stored).await {
        tracing::debug!(%error, lease = ?token, "a lease whose page is stored cannot be ended: it runs out");
    }
    Ok(written)
}

/// What is stored, if it is what the very write has stored before, whose answer was lost.
async fn repeated(api: &Api, key: &Key, written: &Written, fence: Version) -> Result<Option<Stored>> {
    let key = if written.stored.why.is_some() { &key.failed() } else { key };
    let hit = api.results.get(key, GetOptions::consistent(true)).await?;
    Ok(hit
        .map(|hit| hit.entry.meta.clone())
        .filter(|meta| meta.version == fence && meta.etag == written.etag)
        .map(|meta| Stored { outcome: "refreshed", expires_at: meta.expires_at, ..written.stored.clone() }))
}

fn outdated(api: &Api, why: &str) -> Problem {
    count(api, "outdated");
    Problem::new("lease_outdated", format!("{why}; nothing was stored"))
}
