//! A lease that was granted, and that its holder has yet to hear of.

use crate::api::observe::hand_over;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::lease::{Claim, Lease, LeaseToken};
use crate::domain::{Key, Version};
use crate::store::{Claimed, Ending, Holder};

/// A grant. Dropped before anybody was told of it, it is given back: nobody would ever use it.
#[derive(Debug)]
pub(super) struct Granted {
    api: Api,
    lease: Lease,
    told: bool,
}

impl Granted {
    /// The lease.
    pub(super) const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The lease, which is its holder's from now on.
    pub(super) fn tell(mut self) -> Lease {
        self.told = true;
        self.lease.clone()
    }

    /// Gives it back, and says so to who waits.
    pub(super) async fn give_back(mut self) {
        self.told = true;
        give_back(&self.api, &holder(&self.lease)).await;
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        give_back_later(self.api.clone(), holder(&self.lease));
    }
}

/// Asks for the lease of a key once, to write after `floor`: it is granted, or the one that stands in the way comes back.
pub(super) async fn claim(
    api: &Api,
    key: &Key,
    seconds: u64,
    floor: Option<Version>,
) -> Result<std::result::Result<Granted, Lease>> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)
        .map_err(|error| Problem::new("internal_error", format!("the system has no randomness: {error}")))?;
    let now = api.clock.now();
    let claim = Claim {
        namespace: key.namespace().clone(),
        token: LeaseToken::new(key.id(), secret),
        fence: floor.map_or_else(|| api.clock.next_version(), |floor| api.clock.version_above(floor)),
        now,
        until: now.plus_secs(seconds),
    };
    let api = api.clone();
    // In a task of its own: when the client leaves meanwhile, what it would have been granted is given back. Nobody
    // could tell whether a store that was dropped in the middle has granted it.
    let claimed = joined(&api.clone(), async move {
        match api.leases.acquire(&claim).await {
            Ok(Claimed::Won(lease)) => Ok(Ok(Granted { api, lease, told: false })),
            Ok(Claimed::Held(lease)) => Ok(Err(lease)),
            Err(error) => {
                // It may have been granted all the same.
                if error.may_have_happened() {
                    let holder = Holder { namespace: claim.namespace, token: claim.token };
                    give_back_later(api, holder);
                }
                Err(error)
            }
        }
    })
    .await?;
    Ok(claimed?)
}

/// Does the work of a request in a task of its own, which goes on when the client leaves, and takes its place among those
/// that are served along. A panic goes on here.
pub(super) async fn joined<T: Send + 'static>(
    api: &Api,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    let (place, _lent) = hand_over(api);
    let task = api.shared().hub.tasks().spawn(async move {
        let _place = place;
        work.await
    });
    match task.await {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Problem::new("unavailable", "the service is stopping")),
    }
}

/// Who holds a lease.
pub(super) fn holder(lease: &Lease) -> Holder {
    Holder { namespace: lease.namespace.clone(), token: lease.token }
}

/// Gives a lease back in the background.
fn give_back_later(api: Api, holder: Holder) {
    // Where there is no runtime the process is at its end, and the lease runs out.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let tasks = api.shared().hub.tasks().clone();
        tasks.spawn_on(async move { give_back(&api, &holder).await }, &runtime);
    }
}

/// Uncounted: nobody was told of the grant.
async fn give_back(api: &Api, holder: &Holder) {
    match api.leases.end(holder, Ending::Released).await {
        Ok(_) => api.shared().hub.wake(holder.token.key()),
        Err(error) => {
            tracing::debug!(%error, lease = ?holder.token, "a lease cannot be given back: it runs out");
        }
    }
}

/// Ends whatever lease of a page there is, for the page was deleted, and wakes who waits for it. Counted if it was held.
pub(in crate::api) async fn revoke(api: &Api, key: &Key) -> crate::store::Result<()> {
    if api.leases.revoke(key.id()).await? {
        count(api, Ending::Released.state().as_str());
    }
    api.shared().hub.wake(key.id());
    Ok(())
}

/// Ends a lease, and wakes who waits for it. Counted if it was held.
pub(super) async fn end(api: &Api, holder: &Holder, ending: Ending) -> crate::store::Result<()> {
    if api.leases.end(holder, ending).await? {
        count(api, ending.state().as_str());
    }
    api.shared().hub.wake(holder.token.key());
    Ok(())
}

/// Counts what came of a lease: one of `LEASE_RESULTS`.
pub(super) fn count(api: &Api, result: &str) {
    api.metrics.leases.with_label_values(&[result]).inc();
}
