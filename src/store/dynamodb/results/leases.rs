//! The leases contract on DynamoDB: an item a key in the table of results, decided by the conditions of its writes.

use std::collections::HashSet;

use async_trait::async_trait;

use super::super::item::{Item, binary, number, read_number, read_text, read_time, text, time};
use super::super::pauses::Pauses;
use super::expression::Terms;
use super::key::URL;
use super::requests::Tell;
use super::{BACKEND, DynamodbResults, Inner};
use crate::domain::lease::{Claim, KEEP_SECONDS, Lease, LeaseState, LeaseToken};
use crate::domain::{KeyId, Namespace, Timestamp, Version};
use crate::store::{Claimed, Ending, Error, Holder, LeaseStore, Renewed, Result};

/// What the keys of leases begin with: no url has a space, and no other item such a beginning.
pub(super) const PREFIX: &str = "lease ";

/// How often a free lease is claimed that others claim and end at the same time.
const TRIES: usize = 16;

/// The partition key of the lease of a key.
fn partition(id: KeyId) -> String {
    format!("{PREFIX}{id}")
}

#[async_trait]
impl LeaseStore for DynamodbResults {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        self.0.acquire(claim).await
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        self.0.renew(holder, until).await
    }

    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        let id = holder.token.key();
        let lease =
            self.0.get_item(&partition(id), true).await?.map(|item| lease_of(&item, id)).transpose()?;
        let own = lease.filter(|lease| lease.namespace == holder.namespace);
        Ok(own.and_then(|lease| lease.fence_of(&holder.token)))
    }

    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        let mut terms = Terms::default();
        let condition = is_held_by(&mut terms, holder);
        let update = format!("SET {}", terms.compare("state", "=", text(ending.state().as_str())));
        let partition = partition(holder.token.key());
        // What has ended, or is another's, stays as it is.
        let ended = self.0.update_item(&partition, update, condition, terms, Tell::Nothing).await?;
        Ok(ended.is_ok())
    }

    async fn revoke(&self, key: KeyId) -> Result<bool> {
        let partition = partition(key);
        // Most keys have none, and a condition that does not hold costs as much as a write.
        if self.0.get_part(&partition, &[URL], true).await?.is_none() {
            return Ok(false);
        }
        let mut terms = Terms::default();
        let condition = terms.exists(URL);
        let update = format!("SET {}", terms.compare("state", "=", text(LeaseState::Released.as_str())));
        let revoked = self.0.update_item(&partition, update, condition, terms, Tell::Old).await?;
        let before = revoked.ok().flatten();
        Ok(before.is_some_and(|item| read_text(&item, "state") == Some(LeaseState::Held.as_str())))
    }

    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        let distinct: HashSet<KeyId> = keys.iter().copied().collect();
        let partitions = distinct.into_iter().map(partition).collect();
        let items = self.0.items(partitions, &[], self.0.consistent).await?;
        let read = |id: &KeyId| {
            let lease = lease_of(items.get(&partition(*id))?, *id);
            // One such item must not hide the others.
            let lease =
                lease.inspect_err(|error| tracing::error!(%error, "a damaged lease was left out")).ok()?;
            lease.is_held(now).then_some(lease)
        };
        Ok(keys.iter().map(read).collect())
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Inner {
    /// One write where the lease is free, or held, and nobody's fence is ahead of the claim's.
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        let id = claim.token.key();
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        let mut before: Option<Lease> = None;
        for again in 0..TRIES {
            let lease = match Lease::grant(claim, before.as_ref()) {
                Ok(lease) => lease,
                Err(held) => return Ok(Claimed::Held(held)),
            };
            // To raise the fence needs no rest, to do it again does: others are at it.
            if again > 1 && !pauses.pause().await {
                break;
            }
            let mut terms = Terms::default();
            let has_ended = terms.compare("state", "<>", text(LeaseState::Held.as_str()));
            let has_run_out = terms.compare("until", "<=", time(claim.now));
            let is_older = terms.compare("fence", "<", number(lease.fence.as_u64()));
            let condition =
                format!("{} OR (({has_ended} OR {has_run_out}) AND {is_older})", terms.lacks(URL));
            let Err(unmet) = self.put_item(item_of(&lease), condition, terms, Tell::Met).await? else {
                return Ok(Claimed::Won(lease));
            };
            let seen = self.met(&partition(id), unmet).await?;
            before = seen.item.map(|item| lease_of(&item, id)).transpose()?;
            // The first try of this very request happened, and its answer was lost.
            if let Some(own) = before.as_ref().filter(|own| seen.retried && own.token == claim.token) {
                return Ok(Claimed::Won(own.clone()));
            }
        }
        let detail = format!("contended: others keep claiming and ending the lease of {id}");
        Err(Error::Overloaded { backend: BACKEND, detail })
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        let mut terms = Terms::default();
        let condition = is_held_by(&mut terms, holder);
        let set = [
            terms.compare("until", "=", time(until)),
            terms.compare("ttl", "=", number(ttl(until.plus_secs(KEEP_SECONDS)))),
        ];
        let (id, update) = (holder.token.key(), format!("SET {}", set.join(", ")));
        match self.update_item(&partition(id), update, condition, terms, Tell::New).await? {
            Ok(item) => Ok(Renewed::Renewed(lease_of(&item.unwrap_or_default(), id)?)),
            Err(_) => Ok(Renewed::Lost),
        }
    }
}

/// That the last grant is a holder's and has not ended.
fn is_held_by(terms: &mut Terms, holder: &Holder) -> String {
    let clauses = [
        terms.compare("secret", "=", binary(*holder.token.secret())),
        terms.compare("namespace", "=", text(holder.namespace.as_str())),
        terms.compare("state", "=", text(LeaseState::Held.as_str())),
    ];
    clauses.join(" AND ")
}

/// When DynamoDB may remove what may be forgotten at a time, in Unix seconds.
fn ttl(forget_at: Timestamp) -> u64 {
    forget_at.as_millis().div_ceil(1000)
}

pub(super) fn item_of(lease: &Lease) -> Item {
    let attributes = [
        (URL, text(partition(lease.token.key()))),
        ("namespace", text(lease.namespace.as_str())),
        ("secret", binary(*lease.token.secret())),
        ("fence", number(lease.fence.as_u64())),
        ("granted_at", time(lease.granted_at)),
        ("until", time(lease.until)),
        ("state", text(lease.state.as_str())),
        ("ttl", number(ttl(lease.forget_at()))),
    ];
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn lease_of(item: &Item, id: KeyId) -> Result<Lease> {
    let secret = item.get("secret").and_then(|value| value.as_b().ok());
    let read = || {
        Some(Lease {
            namespace: Namespace::new(read_text(item, "namespace")?).ok()?,
            token: LeaseToken::new(id, secret?.as_ref().try_into().ok()?),
            fence: Version::from_u64(read_number(item, "fence")?),
            granted_at: read_time(item, "granted_at")?,
            until: read_time(item, "until")?,
            state: LeaseState::of(read_text(item, "state")?)?,
        })
    };
    let detail = || format!("the lease of {id} cannot be read");
    read().ok_or_else(|| Error::Corrupt { backend: BACKEND, detail: detail() })
}
