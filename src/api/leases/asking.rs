//! Asks for a page that this caller would fetch: it is there, or the lease is granted, or another has it.

use std::time::Duration;

use tokio::sync::MutexGuard as TurnGuard;
use tokio::time::Instant;

use super::granted::{claim, count};
use super::hub::Waiter;
use super::standing::{
    Looked, Standing, Turnout, floor_of, is_fresh, is_unconfirmed, is_unknown, version_of,
};
use crate::api::lookup::{Accepted, look, look_if_known};
use crate::api::observe::Aside;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::lease::Lease;
use crate::domain::{Freshness, FreshnessLimits, Key, Version};
use crate::store::GetOptions;

/// How often a lease whose fence is not later than what is stored, or was deleted, is asked for anew: once shows how late
/// it has to be.
const CLAIMS: usize = 3;

/// How much earlier than its request a wait ends.
const MARGIN: Duration = Duration::from_millis(500);

/// The least time to sleep for the end of a lease: a store may see it held a little longer.
const LEAST_SLEEP: Duration = Duration::from_millis(20);

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
    /// Whether the caller insists on a try of its own although a failed result is fresh: unless a stale page is there to go
    /// on with, the lease is granted all the same.
    pub(super) insists: bool,
}

impl Asked<'_> {
    /// Looks, asks for the lease, and waits for as long as it is another's and may be waited for.
    pub(super) async fn settle(self) -> Result<Turnout> {
        let (api, mut slept) = (self.api, Duration::ZERO);
        let mut looked = self.look(self.options).await?;
        let standing = if is_fresh(&looked) {
            Standing::Fresh
        } else if let Some(left) = self.has_just_failed(&looked).await {
            Standing::Failed(Some(left))
        } else if self.api.routed.is_none() && looked.as_ref().is_ok_and(is_unconfirmed) {
            // The store that could not be asked for the page has the leases, too: nobody waits for it once more.
            Standing::Unknown(Problem::new("unavailable", "the store of leases cannot be asked just now"))
        } else if looked.is_ok() {
            // Who has a stale answer goes on with that, whatever becomes of the lease.
            match self.claim(&mut looked).await {
                Err(problem) if looked.is_ok() => {
                    tracing::warn!(
                        code = problem.code(),
                        detail = problem.detail(),
                        "a stale page goes without a lease"
                    );
                    Standing::Unknown(problem)
                }
                settled => settled?,
            }
        } else {
            let waiter = (!self.wait.is_zero()).then(|| api.shared().hub.enter(self.key.id())).flatten();
            match waiter {
                Some(waiter) => self.wait(waiter, &mut looked, &mut slept).await?,
                None => self.claim(&mut looked).await?,
            }
        };
        if !slept.is_zero() {
            api.metrics.lease_wait.observe(slept.as_secs_f64());
        }
        if let Some(name) = standing.name() {
            count(api, name);
        }
        Ok(Turnout { looked, standing, waited: slept })
    }

    /// For how many seconds a failed result is still fresh that is newer than the good one: so soon nobody has to try again.
    async fn has_just_failed(&self, looked: &Looked) -> Option<u64> {
        // Where there is nothing at all nothing has failed, and nobody has to look.
        version_of(looked)?;
        if !self.api.guard().is_on() {
            return None;
        }
        // Of what is missing: a failed result that only lacks something is not told from none.
        if let Err(missed) = looked
            && (self.insists || (missed.failed.is_none() && self.accepted.require.is_empty()))
        {
            return None;
        }
        let mut keys = vec![self.key.failed()];
        // A stale answer is the good one; of what is missing nobody knows whose version it is.
        keys.extend(looked.is_err().then(|| self.key.clone()));
        let metas = self.api.results.get_metas(&keys).await.ok()?;
        let failed = metas.first()?.as_ref()?;
        let good = match looked {
            Ok(_) => version_of(looked),
            Err(_) => metas.get(1).and_then(|good| Some(good.as_ref()?.version)),
        };
        if good > Some(failed.version) {
            return None;
        }
        let freshness = Freshness::of(failed, self.api.clock.now());
        freshness.check(FreshnessLimits { stale: 0, ..self.accepted.limits }).ok()?;
        Some(freshness.ttl.unsigned_abs())
    }

    /// What there is. With a router SQLite grants leases while DynamoDB, which owns the page, cannot be asked for it.
    async fn look(&self, options: GetOptions) -> Result<Looked> {
        let Self { api, key, accepted, .. } = *self;
        match api.routed {
            Some(_) => look_if_known(api, key, options, accepted).await,
            None => look(api, key, options, accepted).await,
        }
    }

    /// Asks for the lease once, and looks again when it is granted.
    async fn claim(&self, looked: &mut Looked) -> Result<Standing> {
        for _ in 0..CLAIMS {
            let granted = match claim(self.api, self.key, self.seconds, floor_of(looked)).await? {
                Err(held) => return Ok(Standing::Held(held)),
                Ok(granted) => granted,
            };
            // Somebody may have stored it since it was looked for: then nobody needs to fetch it.
            let now = self.look(GetOptions::consistent(true)).await?;
            // A copy to go on with stays where no more can be known.
            if looked.is_err() || !is_unknown(&now) {
                *looked = now;
            }
            if is_fresh(looked) {
                granted.give_back().await;
                return Ok(Standing::Fresh);
            }
            if floor_of(looked).is_none_or(|floor| floor < granted.lease().fence) {
                return Ok(Standing::Won(granted));
            }
            granted.give_back().await;
        }
        Err(Problem::new("write_conflict", "others store this page all the time"))
    }

    /// Asks for the lease, and again whenever that may help, until the time is up.
    async fn wait(
        &self,
        mut waiter: Waiter<'_>,
        looked: &mut Looked,
        slept: &mut Duration,
    ) -> Result<Standing> {
        // A little before the request itself would be given up.
        let most = self.api.config.limits.request_timeout().saturating_sub(MARGIN);
        let deadline = Instant::now() + self.wait.min(most);
        let before = version_of(looked);
        let mut aside = Some(Aside::step(self.api));
        // The lease that is waited for, and the fence of the first such.
        let mut other: Option<(Lease, Version)> = None;
        loop {
            let standing = self.claim_in_turn(&waiter, looked, &mut aside, deadline).await?;
            let is_tried =
                |looked: &Looked, fence| version_of(looked) > before && version_of(looked) >= Some(fence);
            let (held, fence) = match (standing, other) {
                (Some(Standing::Held(held)), other) if looked.is_err() => {
                    let fence = other.map_or(held.fence, |(_, fence)| fence);
                    (held, fence)
                }
                // Its holder was quicker than the one who looked before.
                (Some(Standing::Won(granted)), Some((_, fence))) if is_tried(looked, fence) => {
                    granted.give_back().await;
                    return Ok(Standing::tried(looked));
                }
                (Some(settled), _) => return Ok(settled),
                (None, Some((held, _))) => return Ok(Standing::Held(held)),
                (None, None) => {
                    let detail = "how the lease of this page stands could not be found out in time";
                    return Err(Problem::new("unavailable", detail));
                }
            };
            aside.get_or_insert_with(|| Aside::step(self.api));
            let begun = Instant::now();
            let woken = self.sleep(&mut waiter, &held, deadline).await;
            *slept += begun.elapsed();
            let Some(polls) = woken else { return Ok(Standing::Held(held)) };
            waiter.take_note();
            *looked = self.look_again(&waiter, polls, deadline).await?;
            if is_fresh(looked) {
                return Ok(Standing::Fresh);
            }
            if is_tried(looked, fence) {
                return Ok(Standing::tried(looked));
            }
            other = Some((held, fence));
        }
    }

    /// Waits for the turn to ask for the lease; none when the time is up, or the service stops.
    async fn turn<'w>(&self, waiter: &'w Waiter<'_>, deadline: Instant) -> Option<TurnGuard<'w, ()>> {
        tokio::select! {
            biased;
            turn = waiter.turn() => Some(turn),
            () = self.api.shared().hub.closed() => None,
            () = tokio::time::sleep_until(deadline) => None,
        }
    }

    /// Looks whether the page is there by now. Where others write as well one here reads past every copy, and so brings the
    /// copy up to date that answers the rest.
    async fn look_again(&self, waiter: &Waiter<'_>, polls: bool, deadline: Instant) -> Result<Looked> {
        if !self.api.leases.is_shared() {
            return self.look(self.options).await;
        }
        let turn = self.turn(waiter, deadline).await;
        let wakes = waiter.wakes();
        if turn.is_none() || (!polls && waiter.is_looked_at(wakes)) {
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

    /// Asks for the lease when no other request here knows how it stands; none when the time is up before it is this one's
    /// turn. Who only stands in line takes no place from others: `aside` is taken when it asks.
    async fn claim_in_turn(
        &self,
        waiter: &Waiter<'_>,
        looked: &mut Looked,
        aside: &mut Option<Aside>,
        deadline: Instant,
    ) -> Result<Option<Standing>> {
        let Some(_turn) = self.turn(waiter, deadline).await else { return Ok(None) };
        let wakes = waiter.wakes();
        if let Some(held) = waiter.held(self.api.clock.now()) {
            return Ok(Some(Standing::Held(held)));
        }
        drop(aside.take());
        let standing = self.claim(looked).await?;
        match &standing {
            Standing::Won(granted) => waiter.saw(granted.lease().clone(), wakes),
            Standing::Held(held) => waiter.saw(held.clone(), wakes),
            Standing::Fresh | Standing::Failed(_) | Standing::Unknown(_) => {}
        }
        Ok(Some(standing))
    }

    /// Waits until it may help to look again, and says whether that is this one's part among all here. None when the time
    /// is up, or the service stops.
    async fn sleep(&self, waiter: &mut Waiter<'_>, held: &Lease, deadline: Instant) -> Option<bool> {
        let (api, hub) = (self.api, &self.api.shared().hub);
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
