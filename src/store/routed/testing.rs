//! A router over two databases for tests: the one across the street can be made to fail in every way.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::policy::{Author, Routing};
use super::remote::Remote;
use super::{Parts, Routed, RoutedLeases, Settled, await_arrival};
use crate::clock::Clock;
use crate::domain::lease::{Claim, Lease};
use crate::domain::routing::{Percent, Policy};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Key, KeyId, Meta, Namespace, Timestamp, Version};
use crate::metrics::Metrics;
use crate::store::circuit::Circuit;
use crate::store::conformance::options;
use crate::store::memory::MemoryStore;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{
    Claimed, Condition, DeleteOutcome, Ending, Error, Found, GetOptions, Hit, Holder, LeaseStore, ListQuery,
    Look, Page, Placed, Put, PutOutcome, PutSession, Renewed, Result, ResultStore, SessionCondition,
    SessionDeleteOutcome, SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Source, Status,
};

/// How the other side behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// As it should.
    Fair,
    /// It says at once that it cannot.
    Down,
    /// It never says anything.
    Silent,
    /// It does what it is asked, and says that it could not.
    Lying,
    /// It reads as it should, says that it could not write, and does that later: see [`Across::arrive`].
    Late,
}

/// A write that is still on its way across.
#[derive(Clone, Debug)]
enum OnItsWay {
    Put(Box<Put>),
    Delete(Key, Version, Condition),
    PutSession(Box<PutSession>),
}

/// Where an operation can be held up, so that another one comes in between: behind each call to either side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Barrier>);

#[derive(Debug, Default)]
struct Barrier {
    /// Calls until the one that is held up; 0 for none.
    left: AtomicUsize,
    reached: Notify,
    opened: Notify,
}

impl Gate {
    async fn pass(&self) {
        let step = |left: usize| left.checked_sub(1);
        if self.0.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) == Ok(1) {
            self.0.reached.notify_one();
            self.0.opened.notified().await;
        }
    }
}

/// SQLite's results behind a gate.
#[derive(Clone, Debug)]
struct Here {
    store: SqliteStore,
    gate: Gate,
}

impl Here {
    async fn pass<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = call.await;
        self.gate.pass().await;
        answer
    }
}

impl std::fmt::Display for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("here")
    }
}

#[async_trait]
impl ResultStore for Here {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        self.pass(ResultStore::get(&self.store, key, options)).await
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.pass(self.store.get_metas(keys)).await
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        self.pass(self.store.look(key, options)).await
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        self.pass(self.store.look_metas(keys)).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        self.pass(ResultStore::put(&self.store, put)).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.pass(self.store.put_newest(put)).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        self.pass(ResultStore::delete(&self.store, key, version, condition)).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.pass(self.store.delete_newest(key, version, condition)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.pass(ResultStore::list(&self.store, query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.pass(ResultStore::status(&self.store)).await
    }
}

/// A store that stands for DynamoDB.
#[derive(Clone, Debug)]
pub(crate) struct Across {
    pub(crate) store: SqliteStore,
    /// Its sessions: as in DynamoDB, nothing remembers those that were deleted.
    pub(crate) sessions: MemoryStore,
    weather: Arc<AtomicU8>,
    /// How often it was asked anything.
    asked: Arc<AtomicUsize>,
    gate: Gate,
    late: Arc<Mutex<Vec<OnItsWay>>>,
}

impl Across {
    /// Has what is on its way arrive; says how much that was.
    pub(crate) async fn arrive(&self) -> usize {
        let arriving = std::mem::take(&mut *self.late());
        let count = arriving.len();
        for write in arriving {
            match write {
                OnItsWay::Put(put) => drop(ResultStore::put(&self.store, *put).await),
                OnItsWay::Delete(key, version, condition) => {
                    drop(ResultStore::delete(&self.store, &key, version, condition).await);
                }
                OnItsWay::PutSession(put) => drop(SessionStore::put(&self.sessions, *put).await),
            }
        }
        count
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Vec<OnItsWay>> {
        self.late.lock().expect("no panic")
    }

    /// A write, which is put on its way if it is to be late.
    async fn write<T>(
        &self,
        write: impl FnOnce() -> OnItsWay,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if self.weather() != Weather::Late {
            return self.pass(call).await;
        }
        self.late().push(write());
        self.pass(async { Err(gone()) }).await
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.store(weather as u8, Ordering::Relaxed);
    }

    pub(crate) fn weather(&self) -> Weather {
        use Weather::{Down, Fair, Late, Lying, Silent};
        [Fair, Down, Silent, Lying, Late][usize::from(self.weather.load(Ordering::Relaxed))]
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn pass<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = match self.weather() {
            Weather::Down => Err(gone()),
            Weather::Silent => std::future::pending().await,
            Weather::Lying => call.await.and_then(|_| Err(gone())),
            Weather::Fair | Weather::Late => call.await,
        };
        self.gate.pass().await;
        answer
    }
}

fn gone() -> Error {
    Error::Unavailable { backend: "dynamodb", detail: "it is away".to_owned() }
}

impl std::fmt::Display for Across {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("across")
    }
}

fn from_there(look: Look<Hit>) -> Look<Hit> {
    match look {
        Look::Entry(hit) => Look::Entry(Hit { source: Source::Dynamodb, ..hit }),
        other => other,
    }
}

#[async_trait]
impl ResultStore for Across {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        Ok(self.look(key, options).await?.entry())
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.pass(self.store.get_metas(keys)).await
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        self.pass(self.store.look(key, options)).await.map(from_there)
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        self.pass(self.store.look_metas(keys)).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        let late = put.clone();
        self.write(|| OnItsWay::Put(Box::new(late)), ResultStore::put(&self.store, put)).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        let late = put.clone();
        self.write(|| OnItsWay::Put(Box::new(late)), self.store.put_newest(put)).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        let late = OnItsWay::Delete(key.clone(), version, condition.clone());
        self.write(|| late, ResultStore::delete(&self.store, key, version, condition)).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        let late = OnItsWay::Delete(key.clone(), version, condition.clone());
        self.write(|| late, self.store.delete_newest(key, version, condition)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.pass(ResultStore::list(&self.store, query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.pass(ResultStore::status(&self.store)).await
    }
}

#[async_trait]
impl SessionStore for Across {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        self.pass(SessionStore::get(&self.sessions, namespace, id)).await
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        self.pass(self.sessions.get_many(namespace, ids)).await
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        let late = OnItsWay::PutSession(Box::new(put.clone()));
        self.write(|| late, SessionStore::put(&self.sessions, put)).await
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        self.pass(SessionStore::delete(&self.sessions, namespace, id, condition)).await
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        self.pass(SessionStore::list(&self.sessions, query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.pass(SessionStore::status(&self.sessions)).await
    }
}

#[async_trait]
impl LeaseStore for Across {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        self.pass(self.store.acquire(claim)).await
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        self.pass(self.store.renew(holder, until)).await
    }

    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        self.pass(self.store.fence(holder)).await
    }

    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        self.pass(self.store.end(holder, ending)).await
    }

    async fn revoke(&self, key: KeyId) -> Result<bool> {
        self.pass(self.store.revoke(key)).await
    }

    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        self.pass(self.store.held(keys, now)).await
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// A router and what it stands on.
pub(crate) struct Street {
    pub(crate) routed: Routed,
    pub(crate) here: SqliteStore,
    pub(crate) across: Across,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    gate: Gate,
    held: Vec<tempfile::TempDir>,
}

/// How long deletions are remembered.
const TOMBSTONE_SECONDS: u64 = 1_000_000;

fn database(clock: &Clock, metrics: &Metrics) -> (SqliteStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { tombstone_seconds: TOMBSTONE_SECONDS, ..options(directory.path()) };
    (SqliteStore::open(&options, clock, metrics).expect("opens"), directory)
}

impl Street {
    /// One under this policy.
    pub(crate) async fn new(policy: Policy) -> Self {
        let (clock, metrics) = (Clock::manual(Timestamp::from_secs(1000)), Metrics::new());
        let (here, held) = database(&clock, &metrics);
        let (there, also_held) = database(&clock, &metrics);
        let across = Across {
            store: there,
            sessions: MemoryStore::new(),
            weather: Arc::new(AtomicU8::new(Weather::Fair as u8)),
            asked: Arc::new(AtomicUsize::new(0)),
            gate: Gate::default(),
            late: Arc::default(),
        };
        let mut street = Self::over(here, across, policy, clock, metrics).await;
        street.held = vec![held, also_held];
        street
    }

    /// Another process, which shares what is across and has a database of its own.
    pub(crate) async fn beside(other: &Self, policy: Policy) -> Self {
        Self::beside_at(other, policy, other.clock.clone()).await
    }

    /// The same with a clock of its own.
    pub(crate) async fn beside_at(other: &Self, policy: Policy, clock: Clock) -> Self {
        let metrics = Metrics::new();
        let (here, held) = database(&clock, &metrics);
        let mut street = Self::over(here, other.across.clone(), policy, clock, metrics).await;
        street.held = vec![held];
        street
    }

    /// The process started again, with another clock.
    pub(crate) async fn again_at(self, policy: Policy, clock: Clock) -> Self {
        self.rest().await;
        let Self { routed, here, across, held, .. } = self;
        drop((routed, here));
        let options = Options { tombstone_seconds: TOMBSTONE_SECONDS, ..options(held[0].path()) };
        let metrics = Metrics::new();
        let here = SqliteStore::open(&options, &clock, &metrics).expect("opens");
        let mut street = Self::over(here, across, policy, clock, metrics).await;
        street.held = held;
        street
    }

    async fn over(here: SqliteStore, across: Across, policy: Policy, clock: Clock, metrics: Metrics) -> Self {
        let routing = Routing::open(&here, policy, None, &metrics).await.expect("a policy");
        let gate = across.gate.clone();
        let routed = Routed::new(Parts {
            database: here.clone(),
            local_results: Arc::new(Here { store: here.clone(), gate: gate.clone() }),
            local_sessions: Arc::new(here.clone()),
            remote: Remote {
                results: Arc::new(across.clone()),
                sessions: Arc::new(across.clone()),
                // Open so seldom and so shortly that only its own tests notice it.
                circuit: Circuit::new("dynamodb", 1_000_000, Duration::from_millis(1), &metrics),
                owner_patience: Duration::from_secs(1),
                other_patience: Duration::from_secs(1),
            },
            routing,
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        Self { routed, here, across, clock, metrics, gate, held: Vec::new() }
    }

    /// A router over the same database and other stores across, which may take their time.
    pub(crate) fn over_others(
        &self,
        results: Arc<dyn ResultStore>,
        sessions: Arc<dyn SessionStore>,
    ) -> Routed {
        let parts = self.routed.parts().clone();
        let patience = Duration::from_mins(1);
        let remote =
            Remote { results, sessions, owner_patience: patience, other_patience: patience, ..parts.remote };
        Routed::new(Parts { remote, ..parts })
    }

    /// The router of leases.
    pub(crate) fn leases(&self) -> RoutedLeases {
        self.routed.leases(Arc::new(self.here.clone()), Arc::new(self.across.clone()))
    }

    /// Puts another policy in force.
    pub(crate) async fn set(&self, policy: Policy) {
        let author = Author { who: "a test".to_owned(), reason: String::new() };
        let routing = &self.routed.parts().routing;
        routing.change(None, policy, author, self.clock.now()).await.expect("written").expect("changed");
    }

    /// Lets the work behind answers come to its end.
    pub(crate) async fn rest(&self) {
        while !self.routed.0.behind.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Does `inner` while `outer` is held up behind its call number `calls`, or after it where it makes fewer.
    pub(crate) async fn amid<T>(
        &self,
        calls: usize,
        outer: impl Future<Output = T>,
        inner: impl Future<Output = ()>,
    ) -> T {
        let barrier = &self.gate.0;
        barrier.left.store(calls, Ordering::SeqCst);
        let mut outer = pin!(outer);
        let early = tokio::select! {
            biased;
            () = barrier.reached.notified() => None,
            done = &mut outer => Some(done),
        };
        barrier.left.store(0, Ordering::SeqCst);
        inner.await;
        match early {
            Some(done) => done,
            None => {
                barrier.opened.notify_one();
                outer.await
            }
        }
    }

    /// Delivers the outbox, and what waits to be looked at once more, too. Says how many rows were settled.
    pub(crate) async fn relay(&self) -> usize {
        let mut settled = 0;
        for _ in 0..2 {
            self.clock.set(self.clock.now().plus_secs(100));
            settled += self.relay_now().await;
        }
        settled
    }

    /// The same without waiting for what is not due yet: no time goes by.
    pub(crate) async fn relay_now(&self) -> usize {
        self.rest().await;
        let (mut settled, due) = (0, self.clock.now().plus_secs(100));
        for _ in 0..100 {
            let rows = self.here.outbox_due(due, 100).await.expect("read");
            if rows.is_empty() {
                break;
            }
            for row in rows {
                use crate::store::sqlite::ledger::outbox::Tried;
                let tried = match self.routed.settle(&row.what).await {
                    Ok(Settled::Open) if let Some(wait) = await_arrival(&row, self.clock.now()) => wait,
                    Ok(_) => Tried::Delivered { version: row.version },
                    Err(error) => Tried::Later { due_at: due.plus_secs(1), error: error.to_string() },
                };
                settled += usize::from(matches!(tried, Tried::Delivered { .. }));
                self.here.outbox_tried(vec![(row.what.id(), tried)]).await.expect("written");
            }
        }
        settled
    }
}

/// A policy: so many percent, and both sides or one.
pub(crate) fn policy(percent: u16, dual_write: bool) -> Policy {
    let percent = Percent::from_hundredths(percent * 100).expect("a percentage");
    Policy { percent, dual_write, ..Policy::default() }
}
