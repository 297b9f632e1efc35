//! The contract for leases: what every store of them does.

use std::fmt;

use async_trait::async_trait;

use super::Result;
use crate::domain::lease::{Claim, Lease, LeaseState, LeaseToken};
use crate::domain::{KeyId, Namespace, Timestamp, Version};

/// Keeps leases: at most one a key, decided in one step whoever asks at once.
///
/// What a lease means is said by [`Lease`]; a store only keeps it, and forgets it no earlier than
/// [`Lease::forget_at`]. An acknowledged grant survives a crash.
#[async_trait]
pub trait LeaseStore: fmt::Debug + fmt::Display + Send + Sync {
    /// Grants a lease unless somebody holds it.
    async fn acquire(&self, claim: &Claim) -> Result<Claimed>;

    /// Prolongs a lease.
    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed>;

    /// The version under which a holder may write; none if it comes too late.
    async fn fence(&self, holder: &Holder) -> Result<Option<Version>>;

    /// Ends a lease, and says whether it was held until then. What has ended already, or is another's, stays as it is.
    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool>;

    /// Ends the last grant of a key, whoever's it is: what it was to be stored under was deleted, and nothing is stored
    /// under the lease any more, nor is what was stored repeated. Says whether it was held until then.
    async fn revoke(&self, key: KeyId) -> Result<bool>;

    /// The leases of many keys that are held at `now`, in their order.
    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>>;

    /// Whether others than this process grant leases here: who waits for one has to look again.
    fn is_shared(&self) -> bool;
}

/// Who says to hold a lease: a token is good in its namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The namespace of the caller.
    pub namespace: Namespace,
    /// The grant.
    pub token: LeaseToken,
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The lease is the caller's.
    Won(Lease),
    /// It is somebody else's.
    Held(Lease),
}

/// What a renewal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is held on.
    Renewed(Lease),
    /// It has ended, or is somebody else's, or nobody remembers it.
    Lost,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// What was fetched is stored.
    Stored,
    /// Its holder gives up.
    Released,
}

impl Ending {
    /// How the lease stands from then on.
    pub const fn state(self) -> LeaseState {
        match self {
            Self::Stored => LeaseState::Stored,
            Self::Released => LeaseState::Released,
        }
    }
}
