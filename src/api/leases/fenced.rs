//! Writes under a lease: who comes too late stores nothing.

use http::StatusCode;

use super::granted::{count, end, joined};
use crate::api::lookup::read;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::api::write::{Place, Stored, Terms, Times, TtlSource, Written, keep, store};
use crate::domain::document::Encoded;
use crate::domain::lease::LeaseToken;
use crate::domain::quality::Quality;
use crate::domain::{Key, Meta, Version};
use crate::store::{Ending, GetOptions, Holder};

/// How much later a write that is repeated may make a page expire, where its time to live tells nothing.
const REPEATED_WITHIN_MILLIS: u64 = 10_000;

/// Stores a document as [`store`] does, or as one of a quality that is known. Under a lease, if one is named: the fence of
/// the lease is then the version of the write.
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
        return write(api, op, key, encoded, terms, quality).await?.met();
    };
    let api = api.clone();
    // In a task of its own: a client that leaves meanwhile must not leave the lease behind when its page is stored.
    joined(&api.clone(), async move { store_fenced(&api, token, op, key, encoded, terms, quality).await })
        .await?
}

async fn write(
    api: &Api,
    op: &str,
    key: Key,
    encoded: Encoded,
    terms: Terms,
    quality: Option<Quality>,
) -> Result<Written> {
    match quality {
        Some(quality) => keep(api, op, key, encoded, terms, quality).await,
        None => store(api, op, key, encoded, terms).await,
    }
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
        return Err(outdated(
            api,
            "the lease was given up or forgotten, the page was deleted, or another was granted since",
        ));
    };
    let written =
        write(api, op, key, encoded, Terms { place: Place::fixed(fence), ..terms }, quality).await?;
    let written = match stored_before(api, &written, fence).await? {
        Before::Nothing => written.met()?,
        Before::Same(stored) => Written { status: StatusCode::OK, stored, ..written },
        Before::Another => return Err(outdated(api, "another write under this lease is stored")),
        Before::Newer => {
            // Nothing can be stored under it any more: the next one may have a try.
            finish(api, &holder, Ending::Released).await;
            return Err(outdated(api, "something newer is stored"));
        }
    };
    finish(api, &holder, Ending::Stored).await;
    Ok(written)
}

async fn finish(api: &Api, holder: &Holder, ending: Ending) {
    if let Err(error) = end(api, holder, ending).await {
        tracing::debug!(%error, lease = ?holder.token, "a lease that is done with cannot be ended: it runs out");
    }
}

/// What a write met that was done before it.
enum Before {
    /// Nothing that is later: it is stored, or its condition does not hold.
    Nothing,
    /// The very write, whose answer was lost.
    Same(Stored),
    /// A write under the same lease that was another.
    Another,
    /// What was stored without the lease.
    Newer,
}

async fn stored_before(api: &Api, written: &Written, fence: Version) -> Result<Before> {
    if !written.is_superseded() && !written.is_unmet() {
        return Ok(Before::Nothing);
    }
    let hit = match read(api, &written.kept.key, GetOptions::consistent(true)).await? {
        Ok(found) => found.entry(),
        // What is damaged cannot be told to be this very write.
        Err(_) => None,
    };
    Ok(match hit.as_ref().map(|hit| &hit.entry.meta).filter(|meta| meta.version == fence) {
        Some(meta) if is_repeated(meta, written) => {
            let expires_at = meta.expires_at;
            Before::Same(Stored { outcome: "refreshed", expires_at, ..written.stored.clone() })
        }
        _ if written.is_unmet() => Before::Nothing,
        Some(_) => Before::Another,
        None => Before::Newer,
    })
}

/// Whether a write says what is stored already. Its times count from when it is done, a little later each time.
fn is_repeated(meta: &Meta, written: &Written) -> bool {
    let Times { updated_at, expires_at, .. } = written.kept.times;
    let lifetime = expires_at.millis_since(updated_at);
    let is_near = |a: u64, b: u64, most| a.abs_diff(b) <= most;
    // What is learned of a host grows with each write.
    let is_learned = written.stored.ttl_source == TtlSource::Learned.as_str();
    meta.etag == written.etag
        && meta.validators == written.kept.validators
        && (is_learned
            || is_near(meta.expires_at.millis_since(meta.updated_at), lifetime, 1000)
            || is_near(meta.expires_at.as_millis(), expires_at.as_millis(), REPEATED_WITHIN_MILLIS))
}

fn outdated(api: &Api, why: &str) -> Problem {
    count(api, "outdated");
    Problem::new("lease_outdated", format!("{why}; nothing was stored"))
}
