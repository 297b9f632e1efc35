//! The leases contract over both sides: a lease lives with the owner of its key.
//!
//! Where DynamoDB owns a key and cannot be reached, SQLite grants the lease, so that crawls go on. Nothing copies leases
//! from one side to the other: a grant is found where it was made, whoever owns the key by then. So while DynamoDB is
//! away, and for as long as leases last that were granted before ownership moved, a page may be fetched twice. What
//! is stored is settled by version all the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::Inner;
use super::remote::Patience;
use crate::domain::lease::{Claim, Lease};
use crate::domain::routing::Side;
use crate::domain::{KeyId, Timestamp, Version};
use crate::store::{Claimed, Ending, Error, Holder, LeaseStore, Renewed, Result, dynamodb};

/// Grants of DynamoDB that are remembered here at most.
const MOST_GRANTS: usize = 100_000;

/// The router of leases. Clones share everything.
#[derive(Clone)]
pub struct RoutedLeases(Arc<Shared>);

struct Shared {
    router: Arc<Inner>,
    local: Arc<dyn LeaseStore>,
    remote: Arc<dyn LeaseStore>,
    /// What DynamoDB has granted through this process, by key: as long as such a lease lasts its holder may write, and
    /// SQLite grants no other one, although DynamoDB cannot be asked.
    grants: Mutex<HashMap<KeyId, Lease>>,
}

impl RoutedLeases {
    pub(super) fn new(router: Arc<Inner>, local: Arc<dyn LeaseStore>, remote: Arc<dyn LeaseStore>) -> Self {
        Self(Arc::new(Shared { router, local, remote, grants: Mutex::default() }))
    }
}

impl Shared {
    fn owner(&self, id: KeyId) -> Side {
        self.router.in_force().policy.owner(id.bucket())
    }

    /// Asks DynamoDB, which may take as long as it is worth for a key of this owner.
    async fn ask<T>(&self, owner: Side, call: impl Future<Output = Result<T>>) -> Result<T> {
        let patience = match owner {
            Side::Dynamodb => Patience::Owner,
            Side::Sqlite => Patience::Other,
        };
        self.router.remote.ask(patience, call).await
    }

    /// Counts an operation that SQLite has answered.
    fn count_local(&self, operation: &str, owner: Side) {
        self.router.count(operation, Side::Sqlite, reason(owner, Side::Sqlite));
    }

    /// Counts what DynamoDB has answered.
    fn count_remote(&self, operation: &str, owner: Side) {
        self.router.count(operation, Side::Dynamodb, reason(owner, Side::Dynamodb));
    }

    fn grants(&self) -> MutexGuard<'_, HashMap<KeyId, Lease>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, lease: &Lease) {
        let mut grants = self.grants();
        if grants.len() >= MOST_GRANTS {
            let now = self.router.clock.now();
            grants.retain(|_, lease| lease.is_held(now));
        }
        if grants.len() < MOST_GRANTS {
            grants.insert(lease.token.key(), lease.clone());
        }
    }

    /// A grant of DynamoDB that still lasts.
    fn lasting(&self, id: KeyId, now: Timestamp) -> Option<Lease> {
        self.grants().get(&id).filter(|lease| lease.is_held(now)).cloned()
    }

    /// The fence of a grant of DynamoDB that still lasts.
    fn remembered(&self, holder: &Holder) -> Option<Version> {
        let lease = self.lasting(holder.token.key(), self.router.clock.now())?;
        (lease.namespace == holder.namespace && lease.token == holder.token).then_some(lease.fence)
    }

    /// A grant of DynamoDB has ended.
    fn forget(&self, holder: &Holder) {
        let mut grants = self.grants();
        if grants.get(&holder.token.key()).is_some_and(|lease| lease.token == holder.token) {
            grants.remove(&holder.token.key());
        }
    }

    /// Where DynamoDB owns the key: the lease that SQLite has granted instead, or before it did, and that lasts.
    async fn in_the_way(&self, claim: &Claim) -> Result<Option<Lease>> {
        let held = self.local.held(&[claim.token.key()], claim.now).await?;
        Ok(held.into_iter().next().flatten())
    }

    /// Nobody has it but perhaps DynamoDB, which cannot tell.
    fn untold(&self, operation: &str, owner: Side, error: Error) -> Error {
        self.router.count(operation, owner, "refused");
        match owner {
            Side::Sqlite => Error::unasked(dynamodb::BACKEND, &error),
            Side::Dynamodb => error,
        }
    }
}

fn reason(owner: Side, side: Side) -> &'static str {
    if owner == side { "owner" } else { "other" }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LeaseStore for RoutedLeases {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        const OPERATION: &str = "lease_acquire";
        let shared = &self.0;
        if shared.owner(claim.token.key()) == Side::Sqlite {
            let claimed = shared.local.acquire(claim).await?;
            shared.count_local(OPERATION, Side::Sqlite);
            return Ok(claimed);
        }
        if let Some(held) = shared.in_the_way(claim).await? {
            shared.count_local(OPERATION, Side::Dynamodb);
            return Ok(Claimed::Held(held));
        }
        match shared.ask(Side::Dynamodb, shared.remote.acquire(claim)).await {
            Ok(claimed) => {
                shared.count_remote(OPERATION, Side::Dynamodb);
                if let Claimed::Won(lease) = &claimed {
                    shared.remember(lease);
                }
                Ok(claimed)
            }
            Err(error) if error.is_outage() => {
                if let Some(held) = shared.lasting(claim.token.key(), claim.now) {
                    shared.router.count(OPERATION, Side::Sqlite, "fallback");
                    return Ok(Claimed::Held(held));
                }
                tracing::debug!(%error, "a lease is granted by SQLite instead");
                shared.router.count(OPERATION, Side::Sqlite, "fallback");
                shared.local.acquire(claim).await
            }
            Err(error) => {
                shared.router.count(OPERATION, Side::Dynamodb, "refused");
                Err(error)
            }
        }
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        const OPERATION: &str = "lease_renew";
        let (shared, owner) = (&self.0, self.0.owner(holder.token.key()));
        // A token names one grant: where that is known it was made.
        if shared.local.fence(holder).await?.is_some() {
            shared.count_local(OPERATION, owner);
            return shared.local.renew(holder, until).await;
        }
        match shared.ask(owner, shared.remote.renew(holder, until)).await {
            Ok(renewed) => {
                shared.count_remote(OPERATION, owner);
                match &renewed {
                    Renewed::Renewed(lease) => shared.remember(lease),
                    Renewed::Lost => shared.forget(holder),
                }
                Ok(renewed)
            }
            Err(error) => Err(shared.untold(OPERATION, owner, error)),
        }
    }

    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        const OPERATION: &str = "lease_fence";
        let (shared, owner) = (&self.0, self.0.owner(holder.token.key()));
        if let Some(fence) = shared.local.fence(holder).await? {
            shared.count_local(OPERATION, owner);
            return Ok(Some(fence));
        }
        match shared.ask(owner, shared.remote.fence(holder)).await {
            Ok(fence) => {
                shared.count_remote(OPERATION, owner);
                Ok(fence)
            }
            Err(error) => match shared.remembered(holder) {
                Some(fence) if error.is_outage() => {
                    shared.router.count(OPERATION, Side::Sqlite, "fallback");
                    Ok(Some(fence))
                }
                _ => Err(shared.untold(OPERATION, owner, error)),
            },
        }
    }

    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        const OPERATION: &str = "lease_end";
        let (shared, owner) = (&self.0, self.0.owner(holder.token.key()));
        let is_here = shared.local.fence(holder).await?.is_some();
        let mut was_held = false;
        if is_here {
            was_held = shared.local.end(holder, ending).await?;
            if owner == Side::Sqlite {
                shared.count_local(OPERATION, owner);
                return Ok(was_held);
            }
        }
        // Also where SQLite has granted it instead: DynamoDB may have granted it, too, and too late to be heard.
        let ended = shared.ask(owner, shared.remote.end(holder, ending)).await;
        shared.forget(holder);
        match ended {
            Ok(there) if is_here => {
                was_held |= there;
                shared.count_local(OPERATION, owner);
            }
            Err(_) if is_here => shared.count_local(OPERATION, owner),
            Ok(there) => {
                was_held = there;
                shared.count_remote(OPERATION, owner);
            }
            // It runs out, wherever it is, and its holder has said that nothing more will come.
            Err(error) if owner == Side::Sqlite => {
                tracing::debug!(%error, "a lease that SQLite does not know was not looked for in DynamoDB");
                shared.router.count(OPERATION, owner, "refused");
            }
            Err(error) => return Err(shared.untold(OPERATION, owner, error)),
        }
        Ok(was_held)
    }

    async fn revoke(&self, key: KeyId) -> Result<bool> {
        const OPERATION: &str = "lease_end";
        let (shared, owner) = (&self.0, self.0.owner(key));
        let ended_here = shared.local.revoke(key).await?;
        let was_there = shared.grants().remove(&key).is_some();
        if owner == Side::Sqlite && !was_there {
            shared.count_local(OPERATION, owner);
            return Ok(ended_here);
        }
        match shared.ask(owner, shared.remote.revoke(key)).await {
            Ok(ended_remotely) => {
                shared.count_remote(OPERATION, owner);
                Ok(ended_here || ended_remotely)
            }
            // Of a page that SQLite owns: it runs out, wherever it is.
            Err(error) if owner == Side::Sqlite => {
                tracing::debug!(%error, "a lease of DynamoDB was not ended");
                shared.router.count(OPERATION, owner, "refused");
                Ok(ended_here)
            }
            Err(error) => Err(shared.untold(OPERATION, owner, error)),
        }
    }

    /// Where DynamoDB cannot tell, what it has granted through this process is known to be held; an error where that leaves
    /// one of them open.
    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        const OPERATION: &str = "lease_held";
        let shared = &self.0;
        let mut held = shared.local.held(keys, now).await?;
        let policy = shared.router.in_force().policy;
        let wanted: Vec<usize> = (0..keys.len())
            .filter(|at| held[*at].is_none() && policy.owner(keys[*at].bucket()) == Side::Dynamodb)
            .collect();
        let count = |side: Side, reason: &str, keys: usize| {
            shared
                .router
                .metrics
                .routed
                .with_label_values(&[OPERATION, side.as_str(), reason])
                .inc_by(keys as u64);
        };
        count(Side::Sqlite, "owner", keys.len() - wanted.len());
        if wanted.is_empty() {
            return Ok(held);
        }
        let asked: Vec<KeyId> = wanted.iter().map(|at| keys[*at]).collect();
        let call = shared.remote.held(&asked, now);
        match shared.router.remote.ask_many(Patience::Owner, asked.len(), call).await {
            Ok(found) => {
                count(Side::Dynamodb, "owner", asked.len());
                wanted.into_iter().zip(found).for_each(|(at, lease)| held[at] = lease);
            }
            Err(error) => {
                tracing::debug!(%error, keys = asked.len(), "DynamoDB was left out of a look-up of leases");
                count(Side::Dynamodb, "refused", asked.len());
                for at in wanted {
                    match shared.lasting(keys[at], now) {
                        Some(lease) => held[at] = Some(lease),
                        None => return Err(error),
                    }
                }
            }
        }
        Ok(held)
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl fmt::Display for RoutedLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Routed({}, {})", self.0.remote, self.0.local)
    }
}

impl fmt::Debug for RoutedLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
