//! Counts and times what a store of leases does.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Account, Timing};
use crate::domain::lease::{Claim, Lease};
use crate::domain::{KeyId, Timestamp, Version};
use crate::metrics::Metrics;
use crate::store::{Claimed, Ending, Holder, LeaseStore, Renewed, Result};

/// A store of leases whose operations are counted and timed under a backend's name.
#[derive(Clone)]
pub struct MeteredLeases {
    meter: Arc<Meter>,
    inner: Arc<dyn LeaseStore>,
}

struct Meter {
    account: Account,
    acquire: Timing,
    renew: Timing,
    fence: Timing,
    end: Timing,
    held: Timing,
}

impl MeteredLeases {
    /// Meters a store.
    pub fn new(inner: Arc<dyn LeaseStore>, metrics: &Metrics, backend: &'static str) -> Self {
        let timing = |operation| Timing::new(metrics, backend, operation);
        let meter = Meter {
            account: Account::new(metrics, backend),
            acquire: timing("lease_acquire"),
            renew: timing("lease_renew"),
            fence: timing("lease_fence"),
            end: timing("lease_end"),
            held: timing("lease_held"),
        };
        Self { meter: Arc::new(meter), inner }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LeaseStore for MeteredLeases {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        self.meter.account.time(&self.meter.acquire, self.inner.acquire(claim)).await
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        self.meter.account.time(&self.meter.renew, self.inner.renew(holder, until)).await
    }

    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        self.meter.account.time(&self.meter.fence, self.inner.fence(holder)).await
    }

    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        self.meter.account.time(&self.meter.end, self.inner.end(holder, ending)).await
    }

    async fn revoke(&self, key: KeyId) -> Result<bool> {
        self.meter.account.time(&self.meter.end, self.inner.revoke(key)).await
    }

    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        self.meter.account.time(&self.meter.held, self.inner.held(keys, now)).await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
}

impl fmt::Display for MeteredLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metered({})", self.inner)
    }
}

impl fmt::Debug for MeteredLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
