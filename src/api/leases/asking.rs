//! Asks for a page that this caller would fetch: it is there, or the lease is granted, or another has it.

use std::time::Duration;

use tokio::time::Instant;

use super::granted::{Granted, claim, count};
use super::hub::Waiter;
use crate::api::lookup::{Accepted, Found, Missed, look};
use crate::api::observe::Aside;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::lease::Lease;
use crate::domain::{Key, MissReason, Version};
use crate::store::GetOptions;

/// How often a lease whose fence is not later than what is stored is asked for anew: once shows how late it has to be.
const CLAIMS: usize = 3;

/// How much earlier than its request a wait ends.
const MARGIN: Duration = Duration::from_millis(500);

/// The least time to sleep for the end of a lease: a store may see it held a little longer.
const LEAST_SLEEP: Duration = Duration::from_millis(20);

/// What a look-up came to.
pub(super) type Looked = std::result::Result<Found, Missed>;

/// What a caller wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) api: &'a Api,
    pub(super) key: &'a Key,
    pub(super) accepted: &'a Accepted,
    pub(super) options: GetOptions,
    /// How long the lease is to last, in seconds.
    pub(super) seconds: u64,
    /// How long to wait for another holder.
    pub(super) wait: Duration,
}

/// What a caller gets.
#[derive(Debug)]
pub(super) struct Turnout {
    /// The page, or why there is none.
    pub(super) looked: Looked,
    /// How its lease stands.
    pub(super) standing: Standing,
    /// How long others were waited for.
    pub(super) waited: Duration,
}

/// How the lease of a page stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// The page is fresh: nobody needs a lease.
    Fresh,
    /// It is the caller's.
    Won(Granted),
    /// It is another's.
    Held(Lease),
    /// Whoever was waited for has stored a failed result, which is no answer: to try again at once would come to the same.
    Failed,
}

impl Standing {
    fn name(&self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Won(_) => "won",
            Self::Held(_) => "held",
            Self::Failed => "failed",
        }
    }
}

impl Asked<'_> {
    /// Looks, asks for the lease, and waits for as long as it is another's and may be waited for.
    pub(super) async fn settle(self) -> Result<Turnout> {
        let (api, mut slept) = (self.api, Duration::ZERO);
        let looked = self.look(self.options).await?;
        let (looked, standing) = if is_fresh(&looked) {
            (looked, Standing::Fresh)
        } else {
            // Who has a stale answer goes on with that.
            let may_wait = looked.is_err() && !self.wait.is_zero();
            match may_wait.then(|| api.shared().hub.enter(self.key.id())).flatten() {
                Some(waiter) => self.wait(waiter, looked, &mut slept).await?,
                None => self.claim(looked).await?,
            }
        };
        if !slept.is_zero() {
            api.metrics.lease_wait.observe(slept.as_secs_f64());
        }
        count(api, standing.name());
        Ok(Turnout { looked, standing, waited: slept })
    }

    async fn look(&self, options: GetOptions) -> Result<Looked> {
        look(self.api, self.key, options, self.accepted).await
    }

    /// Asks for the lease once.
    async fn claim(&self, mut looked: Looked) -> Result<(Looked, Standing)> {
        for _ in 0..CLAIMS {
            if let Some(stored) = version_of(&looked) {
                self.api.clock.observe(stored);
            }
            let granted = match claim(self.api, self.key, self.seconds).await? {
                Err(held) => return Ok((looked, Standing::Held(held))),
                Ok(granted) => granted,
            };
            // Somebody may have stored it since it was looked for: then nobody needs to fetch it.
            looked = self.look(GetOptions::consistent(true)).await?;
            if is_fresh(&looked) {
                granted.give_back().await;
                return Ok((looked, Standing::Fresh));
            }
            if version_of(&looked).is_none_or(|stored| stored < granted.lease().fence) {
                return Ok((looked, Standing::Won(granted)));
            }
            granted.give_back().await;
        }
        Err(Problem::new("write_conflict", "others store this page all the time"))
    }

    /// Asks for the lease, and again whenever that may help, until the time is up.
    async fn wait(
        &self,
        mut waiter: Waiter<'_>,
        looked: Looked,
        slept: &mut Duration,
    ) -> Result<(Looked, Standing)> {
        // A little before the request itself would be given up.
        let most = self.api.config.limits.request_timeout().saturating_sub(MARGIN);
        let deadline = Instant::now() + self.wait.min(most);
        let before = version_of(&looked);
        let mut looked = looked;
        loop {
            let held;
            (looked, held) = match self.claim_in_turn(&waiter, looked).await? {
                (looked, Standing::Held(held)) if looked.is_err() => (looked, held),
                settled => return Ok(settled),
            };
            let begun = Instant::now();
            let woken = self.sleep(&mut waiter, &held, deadline).await;
            *slept += begun.elapsed();
            let Some(polls) = woken else { return Ok((looked, Standing::Held(held))) };
            waiter.take_note();
            looked = self.look_again(&waiter, polls).await?;
            if is_fresh(&looked) {
                return Ok((looked, Standing::Fresh));
            }
            let is_failed = looked.as_ref().is_err_and(|missed| missed.reason == MissReason::Failed);
            if is_failed && version_of(&looked) > before {
                return Ok((looked, Standing::Failed));
            }
        }
    }

    /// Looks whether the page is there by now. Where others write as well one here reads past every copy, and so brings the
    /// copy up to date that answers the rest.
    async fn look_again(&self, waiter: &Waiter<'_>, polls: bool) -> Result<Looked> {
        if !self.api.leases.is_shared() {
            return self.look(self.options).await;
        }
        let turn = waiter.turn().await;
        let wakes = waiter.wakes();
        if !polls && waiter.is_looked_at(wakes) {
            drop(turn);
            return self.look(self.options).await;
        }
        let looked = self.look(GetOptions::consistent(true)).await?;
        waiter.look_at(wakes);
        if polls && is_fresh(&looked) {
            self.api.shared().hub.wake(self.key.id());
        }
        Ok(looked)
    }

    /// Asks for the lease when no other request here knows how it stands.
    async fn claim_in_turn(&self, waiter: &Waiter<'_>, looked: Looked) -> Result<(Looked, Standing)> {
        let _turn = waiter.turn().await;
        let wakes = waiter.wakes();
        if let Some(held) = waiter.held(self.api.clock.now()) {
            return Ok((looked, Standing::Held(held)));
        }
        let (looked, standing) = self.claim(looked).await?;
        match &standing {
            Standing::Fresh | Standing::Failed => {}
            Standing::Won(granted) => waiter.saw(granted.lease().clone(), wakes),
            Standing::Held(held) => waiter.saw(held.clone(), wakes),
        }
        Ok((looked, standing))
    }

    /// Waits until it may help to look again, and says whether that is this one's part among all here. None when the time
    /// is up, or the service stops.
    async fn sleep(&self, waiter: &mut Waiter<'_>, held: &Lease, deadline: Instant) -> Option<bool> {
        let (api, hub) = (self.api, &self.api.shared().hub);
        let _aside = Aside::step(api);
        let left = Duration::from_millis(held.until.millis_since(api.clock.now()) + 1);
        let end = Instant::now() + left.max(LEAST_SLEEP);
        let shared = api.leases.is_shared();
        loop {
            let poll = waiter.next_poll();
            tokio::select! {
                () = hub.closed() => return None,
                () = tokio::time::sleep_until(deadline) => return None,
                () = waiter.woken() => return Some(false),
                () = tokio::time::sleep_until(end) => return Some(false),
                () = tokio::time::sleep_until(poll), if shared => {
                    if waiter.polls() {
                        self.poll(waiter).await;
                        return Some(true);
                    }
                }
            }
        }
    }

    /// Finds out how the lease stands in a store that others write to as well.
    async fn poll(&self, waiter: &Waiter<'_>) {
        let wakes = waiter.wakes();
        match self.api.leases.held(&[self.key.id()], self.api.clock.now()).await {
            Ok(found) => match found.into_iter().next().flatten() {
                Some(held) => waiter.saw(held, wakes),
                None => {
                    waiter.saw_none();
                    // One looks for all who wait here: they would have to wait for their turn to look.
                    self.api.shared().hub.wake(self.key.id());
                }
            },
            Err(error) => tracing::debug!(%error, "how a lease stands cannot be seen just now"),
        }
    }
}

/// Whether an answer is more than what is shown meanwhile.
fn is_fresh(looked: &Looked) -> bool {
    looked.as_ref().is_ok_and(|found| !found.freshness.is_stale())
}

/// The version of what is stored, whether it is an answer or not.
fn version_of(looked: &Looked) -> Option<Version> {
    match looked {
        Ok(found) => Some(found.hit.entry.meta.version),
        Err(missed) => missed.version,
    }
}
