//! The router: one store over SQLite and DynamoDB, in which a policy gives each key an owner.
//!
//! What makes it correct is that SQLite, which is at hand, knows the newest version of everything that went through
//! this process, wherever that version is:
//!
//! - SQLite never holds an entry older than a write that this process has acknowledged elsewhere: such a write removes
//!   the older one before it is acknowledged.
//! - So a key that SQLite owns is answered by SQLite alone if it holds it, and one that DynamoDB owns is compared with
//!   what SQLite knows: the newer one counts, and a tombstone in SQLite stops anything older.
//! - Every write to SQLite names the policy that it was planned under, and is refused in the transaction if another one
//!   is in force by then. A write that was on its way when ownership moved is planned again.
//!
//! [`plan`] says what to do, as a table without I/O; `read` and `write` do it; `settle` brings one key to the same
//! version on both sides, for the relay and for whoever cannot wait for it.

mod coverage;
mod leases;
mod list;
pub mod plan;
pub mod policy;
mod read;
pub mod remote;
mod sessions;
mod settle;
mod shadow;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::policy::{InForce, Routing};
use self::remote::Remote;
use self::write::Deletion;
use super::circuit::CircuitState;
use super::sqlite::SqliteStore;
use super::sqlite::ledger::outbox::Queued;
use super::{
    Condition, DeleteOutcome, GetOptions, Health, Hit, LeaseStore, ListQuery, Look, Page, Placed, Put,
    PutOutcome, Result, ResultStore, Seen, SessionStore, Status, Versioning,
};
use crate::clock::Clock;
use crate::domain::routing::Side;
use crate::domain::{Key, KeyId, Meta, Version};
use crate::metrics::Metrics;

pub use coverage::Coverage;
pub use leases::RoutedLeases;
pub use sessions::RoutedSessions;
pub use settle::{Settled, await_arrival};

/// Copies to the owner that are under way at once; beyond, the next reader makes them.
const COPIES_AT_ONCE: usize = 64;

/// Comparisons of the two sides that are under way at once; reads beyond are not compared.
const COMPARISONS_AT_ONCE: usize = 32;

/// What a router is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The embedded database.
    pub database: SqliteStore,
    /// Its results, metered.
    pub local_results: Arc<dyn ResultStore>,
    /// Its sessions, metered.
    pub local_sessions: Arc<dyn SessionStore>,
    /// DynamoDB.
    pub remote: Remote,
    /// The policy in force.
    pub routing: Routing,
    /// The time.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Metrics,
}

/// The router of results. Clones share everything.
#[derive(Clone)]
pub struct Routed(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// Work that goes on behind an answer.
    behind: TaskTracker,
    copies: Arc<Semaphore>,
    comparisons: Arc<Semaphore>,
    /// The keys that are being copied.
    copying: Mutex<HashSet<KeyId>>,
    /// Writes of one session come one after the other.
    turns: sessions::Turns,
    /// Numbers the reads, of which some are compared.
    reads: AtomicU64,
    on_changed: OnceLock<OnChanged>,
}

/// Learns which results have changed without a write through the router.
type OnChanged = Box<dyn Fn(&[KeyId]) + Send + Sync>;

impl std::ops::Deref for Inner {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Routed {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let copies = Arc::new(Semaphore::new(COPIES_AT_ONCE));
        Self(Arc::new(Inner {
            parts,
            behind: TaskTracker::new(),
            copies,
            comparisons: Arc::new(Semaphore::new(COMPARISONS_AT_ONCE)),
            copying: Mutex::default(),
            turns: sessions::Turns::new(),
            reads: AtomicU64::new(0),
            on_changed: OnceLock::new(),
        }))
    }

    /// Has `hook` called with the keys of results that were taken over from another instance: what is kept of them
    /// elsewhere is out of date. The first hook stays; false when there was one.
    pub fn on_changed(&self, hook: impl Fn(&[KeyId]) + Send + Sync + 'static) -> bool {
        self.0.on_changed.set(Box::new(hook)).is_ok()
    }

    /// Brings what a row of the outbox is about to the same version on both sides.
    ///
    /// # Errors
    /// What either side says; nothing is lost then, and it may be tried again.
    pub async fn settle(&self, what: &Queued) -> Result<Settled> {
        match what {
            Queued::Result(key) => self.0.settle(key).await,
            Queued::Session(namespace, id) => sessions::settle(&self.0, namespace, id).await,
        }
    }

    /// The router of sessions over the same parts.
    pub fn sessions(&self) -> RoutedSessions {
        RoutedSessions::new(Arc::clone(&self.0))
    }

    /// The router of leases over the same parts, and these stores of leases on either side.
    pub fn leases(&self, local: Arc<dyn LeaseStore>, remote: Arc<dyn LeaseStore>) -> RoutedLeases {
        RoutedLeases::new(Arc::clone(&self.0), local, remote)
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Waits for the work behind answers.
    pub async fn close(&self) {
        self.0.behind.close();
        self.0.behind.wait().await;
    }
}

impl Inner {
    /// Counts an operation by who answered it, and why.
    fn count(&self, operation: &str, side: Side, reason: &str) {
        self.metrics.routed.with_label_values(&[operation, side.as_str(), reason]).inc();
    }

    fn copying(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.copying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that a result has changed without a write through the router.
    fn changed(&self, key: &Key) {
        if let Some(hook) = self.on_changed.get() {
            hook(&[key.id()]);
        }
    }

    fn in_force(&self) -> Arc<InForce> {
        self.routing.current()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ResultStore for Routed {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        Ok(self.0.look(key, options).await?.entry())
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        Ok(self.look_metas(keys).await?.into_iter().map(Look::entry).collect())
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        self.0.look(key, options).await
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        Seen::all(self.0.survey(keys).await?, super::dynamodb::BACKEND)
    }

    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        self.0.survey(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        self.0.put(put, Versioning::Fixed).await.map(|placed| placed.outcome)
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.0.put(put, Versioning::Newest).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        let deletion = Deletion { key, version, condition, versioning: Versioning::Fixed };
        self.0.delete(deletion).await.map(|placed| placed.outcome)
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.0.delete(Deletion { key, version, condition, versioning: Versioning::Newest }).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.0.list(query).await
    }

    /// SQLite's, and degraded while DynamoDB is left alone.
    async fn status(&self) -> Result<Status> {
        let mut status = self.0.local_results.status().await?;
        let circuit = self.0.remote.circuit.status();
        if status.health == Health::Healthy && circuit.state != CircuitState::Closed {
            status.health = Health::Degraded(format!("DynamoDB cannot be reached: {}", circuit.error));
        }
        Ok(status)
    }

    fn finds_variants(&self) -> bool {
        self.0.remote.results.finds_variants()
    }
}

impl fmt::Display for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.0.routing.current();
        write!(
            f,
            "Routed({} % {}, {})",
            current.policy.effective_percent(),
            self.0.remote.results,
            self.0.local_results
        )
    }
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
