//! A lease that was granted, and that its holder has yet to hear of.

use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::Key;
use crate::domain::lease::{Claim, Lease, LeaseToken};
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

/// Asks for the lease of a key once: it is granted, or the one that stands in the way comes back.
pub(super) async fn claim(api: &Api, key: &Key, seconds: u64) -> Result<std::result::Result<Granted, Lease>> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)
        .map_err(|error| Problem::new("internal_error", format!("the system has no randomness: {error}")))?;
    let now = api.clock.now();
    let claim = Claim {
        namespace: key.namespace().clone(),
        token: LeaseToken::new(key.id(), secret),
        fence: api.clock.next_version(),
        now,
        until: now.plus_secs(seconds),
    };
    let api = api.clone();
    // In a task of its own: when the client leaves meanwhile, what it would have been granted is given back. Nobody
    // could tell whether a store that was dropped in the middle has granted it.
    let tasks = api.shared().hub.tasks().clone();
    let asking = tasks.spawn(async move {
        match api.leases.acquire(&claim).await {
            Ok(Claimed::Won(lease)) => Ok(Ok(Granted { api, lease, told: false })),
            Ok(Claimed::Held(lease)) => Ok(Err(lease)),
            Err(error) => {
                // It may have been granted all the same.
                let holder = Holder { namespace: claim.namespace, token: claim.token };
                give_back_later(api, holder);
                Err(error)
            }
        }
    });
    Ok(joined(asking.await)??)
}

/// What became of a task; a panic goes on here.
pub(super) fn joined<T>(outcome: std::result::Result<T, tokio::task::JoinError>) -> Result<T> {
    match outcome {
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

async fn give_back(api: &Api, holder: &Holder) {
    if let Err(error) = end(api, holder, Ending::Released).await {
        tracing::debug!(%error, lease = ?holder.token, "a lease cannot be given back: it runs out");
    }
}

/// Ends a lease, counts that, and wakes who waits for it.
pub(super) async fn end(api: &Api, holder: &Holder, ending: Ending) -> crate::store::Result<()> {
    let ended = api.leases.end(holder, ending).await;
    if ended.is_ok() {
        count(api, ending.state().as_str());
    }
    api.shared().hub.wake(holder.token.key());
    ended
}

/// Counts what came of a lease: one of `LEASE_RESULTS`.
pub(super) fn count(api: &Api, result: &str) {
    api.metrics.leases.with_label_values(&[result]).inc();
}
