//! Who waits for which lease: requests of this process are woken by key, and one of them at a time asks the store.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard as TurnGuard, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::lease::Lease;
use crate::domain::{KeyId, Timestamp};

/// The first pause before a store is asked that others write to as well.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What that pause grows to.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Wakes who waits. Nothing is kept of a key for which nobody does.
pub(in crate::api) struct Hub {
    spots: Mutex<HashMap<KeyId, (Arc<Spot>, usize)>>,
    waiters: AtomicUsize,
    most: usize,
    closed: CancellationToken,
    /// What goes on when its client has gone.
    tasks: TaskTracker,
}

/// Where those wait who want the same key.
struct Spot {
    /// Counts what has happened to the key.
    wakes: watch::Sender<u64>,
    /// Whose turn it is to ask for the lease: all at once would be as many writes.
    turn: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
}

/// What those who wait have learnt of the lease.
struct Seen {
    held: Option<(u64, Lease)>,
    /// How much had happened when the page was last looked for past every copy.
    looked_at: Option<u64>,
    next_poll: Instant,
    pause: Duration,
}

impl Hub {
    /// For so many who wait at once.
    pub(in crate::api) fn new(most: usize) -> Self {
        Self {
            spots: Mutex::new(HashMap::new()),
            waiters: AtomicUsize::new(0),
            most,
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn spots(&self) -> MutexGuard<'_, HashMap<KeyId, (Arc<Spot>, usize)>> {
        self.spots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to wait at: from now on nothing that happens to the key is missed. None where too many wait already, or
    /// the service is stopping.
    pub(super) fn enter(&self, key: KeyId) -> Option<Waiter<'_>> {
        if self.closed.is_cancelled() {
            return None;
        }
        let room = |waiters| (waiters < self.most).then_some(waiters + 1);
        self.waiters.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).ok()?;
        let mut spots = self.spots();
        let (spot, count) = spots.entry(key).or_insert_with(|| (Arc::new(Spot::new()), 0));
        *count += 1;
        let spot = Arc::clone(spot);
        let wakes = spot.wakes.subscribe();
        Some(Waiter { hub: self, key, spot, wakes })
    }

    /// Says that something was stored under a key, or that its lease has ended.
    pub(in crate::api) fn wake(&self, key: KeyId) {
        // Nobody waits, as a rule: then this costs a load.
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some((spot, _)) = self.spots().get(&key) {
            spot.wakes.send_modify(|wakes| *wakes += 1);
        }
    }

    /// Says that a lease is renewed: who waits for it sleeps until an earlier end, or is woken if it was a later one.
    pub(super) fn renewed(&self, lease: &Lease) {
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some((spot, _)) = self.spots().get(&lease.token.key()) {
            let known = spot.seen().held.as_ref().map(|(_, held)| held.until);
            if known.is_none_or(|until| lease.until < until) {
                spot.wakes.send_modify(|wakes| *wakes += 1);
            }
        }
    }

    /// Lets everybody go who waits, and nobody wait any more: the service stops.
    pub(in crate::api) fn close(&self) {
        self.closed.cancel();
    }

    /// For what has to go on when its client has gone.
    pub(super) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits until what goes on without its client has ended.
    pub(in crate::api) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until nobody may wait any more.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("waiters", &self.waiters)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl Spot {
    fn new() -> Self {
        let seen =
            Seen { held: None, looked_at: None, next_poll: Instant::now() + FIRST_PAUSE, pause: FIRST_PAUSE };
        Self { wakes: watch::Sender::new(0), turn: tokio::sync::Mutex::new(()), seen: Mutex::new(seen) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place to wait at, until it is dropped.
pub(super) struct Waiter<'h> {
    hub: &'h Hub,
    key: KeyId,
    spot: Arc<Spot>,
    wakes: watch::Receiver<u64>,
}

impl Waiter<'_> {
    /// Takes note of what has happened so far: [`Waiter::woken`] is about what comes after.
    pub(super) fn take_note(&mut self) {
        self.wakes.mark_unchanged();
    }

    /// Waits until something happens to the key.
    pub(super) async fn woken(&mut self) {
        if self.wakes.changed().await.is_err() {
            // The sender lives as long as this.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the turn to ask for the lease.
    pub(super) async fn turn(&self) -> TurnGuard<'_, ()> {
        self.spot.turn.lock().await
    }

    /// How much has happened to the key.
    pub(super) fn wakes(&self) -> u64 {
        *self.spot.wakes.borrow()
    }

    /// The lease that is held as far as anybody here knows: whoever had the turn before has seen it, and nothing has
    /// happened since.
    pub(super) fn held(&self, now: Timestamp) -> Option<Lease> {
        let wakes = self.wakes();
        let seen = self.spot.seen();
        seen.held
            .as_ref()
            .filter(|(at, lease)| *at == wakes && lease.is_held(now))
            .map(|(_, lease)| lease.clone())
    }

    /// Tells the others here of a lease; `wakes` were counted before it was seen.
    pub(super) fn saw(&self, lease: Lease, wakes: u64) {
        self.spot.seen().held = Some((wakes, lease));
    }

    /// Tells the others here that the lease is not held any more.
    pub(super) fn saw_none(&self) {
        self.spot.seen().held = None;
    }

    /// Whether one of those here has looked for the page since so much has happened.
    pub(super) fn is_looked_at(&self, wakes: u64) -> bool {
        self.spot.seen().looked_at >= Some(wakes)
    }

    /// Tells the others here that the page was looked for; `wakes` were counted before.
    pub(super) fn look_at(&self, wakes: u64) {
        self.spot.seen().looked_at = Some(wakes);
    }

    /// When one of those here has to look whether others than this process did something.
    pub(super) fn next_poll(&self) -> Instant {
        self.spot.seen().next_poll
    }

    /// Whether it is this one's part to look now.
    pub(super) fn polls(&self) -> bool {
        let now = Instant::now();
        let mut seen = self.spot.seen();
        if seen.next_poll > now {
            return false;
        }
        seen.pause = (seen.pause * 2).min(LAST_PAUSE);
        // Up to a quarter more, so that instances do not ask in step.
        let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX) / 4.0;
        seen.next_poll = now + seen.pause.mul_f64(1.0 + jitter);
        true
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut spots = self.hub.spots();
        if let Some((_, count)) = spots.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                spots.remove(&self.key);
            }
        }
        self.hub.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lease::{Claim, LeaseToken};
    use crate::domain::{Namespace, Version};

    const KEY: KeyId = KeyId::from_bytes([1; 16]);

    fn lease() -> Lease {
        let claim = Claim {
            namespace: Namespace::default(),
            token: LeaseToken::new(KEY, [0; 16]),
            fence: Version::from_u64(1),
            now: Timestamp::from_secs(100),
            until: Timestamp::from_secs(130),
        };
        Lease::grant(&claim, None).expect("nobody holds it")
    }

    #[tokio::test]
    async fn those_who_wait_for_a_key_are_woken_and_no_others() {
        let hub = Hub::new(10);
        let mut first = hub.enter(KEY).expect("room");
        let mut second = hub.enter(KEY).expect("room");
        let mut other = hub.enter(KeyId::from_bytes([2; 16])).expect("room");
        hub.wake(KEY);
        first.woken().await;
        second.woken().await;
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, other.woken()).await.is_err());
        assert!(tokio::time::timeout(soon, first.woken()).await.is_err(), "once is enough");
        hub.wake(KEY);
        first.take_note();
        assert!(tokio::time::timeout(soon, first.woken()).await.is_err(), "it was noted");
        hub.close();
        hub.closed().await;
        assert!(hub.enter(KEY).is_none(), "the service stops");
    }

    #[tokio::test]
    async fn only_so_many_wait_and_nothing_is_kept_of_them() {
        let hub = Hub::new(2);
        let first = hub.enter(KEY).expect("room");
        let second = hub.enter(KEY).expect("room");
        assert!(hub.enter(KEY).is_none());
        drop(first);
        let third = hub.enter(KEY).expect("room again");
        drop((second, third));
        assert!(hub.spots().is_empty());
        assert_eq!(hub.waiters.load(Ordering::SeqCst), 0);
        hub.wake(KEY);
    }

    #[tokio::test]
    async fn what_one_has_seen_the_others_know_until_something_happens() {
        let hub = Hub::new(10);
        let (first, second) = (hub.enter(KEY).expect("room"), hub.enter(KEY).expect("room"));
        let now = Timestamp::from_secs(101);
        assert_eq!(second.held(now), None);
        first.saw(lease(), first.wakes());
        assert_eq!(second.held(now), Some(lease()));
        assert_eq!(second.held(Timestamp::from_secs(130)), None, "it has run out");
        let before = first.wakes();
        hub.wake(KEY);
        assert_eq!(second.held(now), None);
        first.saw(lease(), before);
        assert_eq!(second.held(now), None, "it was seen before something happened");
        first.saw(lease(), first.wakes());
        first.saw_none();
        assert_eq!(second.held(now), None);
    }

    #[tokio::test]
    async fn one_at_a_time_looks_with_growing_pauses() {
        let hub = Hub::new(10);
        let (first, second) = (hub.enter(KEY).expect("room"), hub.enter(KEY).expect("room"));
        assert!(!first.polls(), "not yet");
        let (mut before, slack) = (Instant::now(), Duration::from_secs(5));
        for least in [50, 100, 200, 400, 500] {
            tokio::time::sleep_until(first.next_poll()).await;
            let pause = before.elapsed();
            let least = Duration::from_millis(least);
            assert!(pause >= least && pause <= least.mul_f64(1.3) + slack, "{pause:?} for {least:?}");
            before = Instant::now();
            assert!(second.polls());
            assert!(!first.polls(), "the other one looks");
        }
    }
}
