//! The embedded store: one SQLite file with one writer thread and a few readers.
//!
//! ```text
//! put, delete ──► queue ──► writer thread: drain, one transaction, fsync, then answer all
//! get, list   ──► queue ──► reader threads: a few requests to one read transaction
//! ```
//!
//! A write is acknowledged after its transaction is on the disk (`synchronous=FULL`), and every read that
//! begins after the acknowledgement sees it, because a reader begins its transaction after it has taken
//! its requests.

mod backup;
mod error;
mod evict;
mod heartbeat;
mod hosts;
mod leases;
pub mod ledger;
mod lock;
mod lookup;
mod readers;
mod results;
mod rows;
mod schema;
mod sessions;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

pub use backup::{BackupError, backup, backup_partial_path, backup_size};
pub use ledger::outbox::left_in;
pub use lock::owner;
pub use schema::OpenError;
pub use sweep::Swept;

use super::heat::HeatMap;
use super::seal::Sealer;
use super::{Error, Health, Result, Status};
use crate::clock::Clock;
use crate::config::EncryptionKey;
use crate::domain::KeyId;
use crate::metrics::Metrics;
use readers::Readers;
use writer::{Problem, Totals, Writer};

/// The name that metrics, logs and answers use.
pub const BACKEND: &str = "sqlite";

/// The database inside the data directory.
const FILE_NAME: &str = "crawlcache.db";

/// How to open the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the database and its lock file live; created if missing.
    pub data_dir: PathBuf,
    /// Reader threads.
    pub readers: usize,
    /// Page cache of each connection in bytes.
    pub cache_bytes: u64,
    /// The bound on the database in bytes; 0 means none.
    pub max_bytes: u64,
    /// Writes that may wait.
    pub queue: usize,
    /// Seals the credentials of sessions.
    pub encryption_key: EncryptionKey,
    /// How long tombstones are kept, in seconds: longer than anything lives that they stop. 0 keeps none but those
    /// that a router asks for.
    pub tombstone_seconds: u64,
    /// Rows that the outbox may have, parked ones included; 0 means no bound.
    pub outbox_rows: u64,
    /// Whether a router opens it, which the database remembers from then on. Where none does and none ever did, deletions
    /// leave nothing; where one did, each write leaves what the router will need to know of it.
    pub is_routed: bool,
}

/// An open database. It fulfils the contracts of results, sessions and leases; clones share it.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    max_bytes: u64,
    heat: Arc<HeatMap>,
    sealer: Arc<Sealer>,
    clock: Clock,
    limits: ledger::Limits,
    last_end: leases::LastEnd,
    /// How much work is under way that copies from the other side.
    copies: Arc<std::sync::atomic::AtomicUsize>,
    readers: Readers,
    writer: Writer,
    /// Dropped last: whoever opens the directory next finds the file at rest.
    _lock: lock::DirectoryLock,
}

impl SqliteStore {
    /// Opens or creates the database in a data directory, takes the directory's lock and applies migrations.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do; the directory is then as it was.
    pub fn open(options: &Options, clock: &Clock, metrics: &Metrics) -> std::result::Result<Self, OpenError> {
        let lock = lock::DirectoryLock::take(&options.data_dir)?;
        let path = options.data_dir.join(FILE_NAME);
        let connection = schema::open_writer(&path, options.cache_bytes)?;
        let totals = Totals::load(&connection).map_err(|error| schema::describe(&path, &error))?;
        let last_end = leases::LastEnd::load(&connection).map_err(|error| schema::describe(&path, &error))?;
        clock.observe(totals.version());
        let heat = HeatMap::new();
        let evictor = evict::Evictor::new(options.max_bytes, Arc::clone(&heat), metrics.removed("size"));
        let mut readers = Vec::with_capacity(options.readers);
        for _ in 0..options.readers.max(1) {
            readers.push(schema::open_reader(&path, options.cache_bytes)?);
        }
        let was_routed = ledger::was_routed(&connection).map_err(|error| schema::describe(&path, &error))?;
        if options.is_routed && !was_routed {
            ledger::remember_router(&connection).map_err(|error| schema::describe(&path, &error))?;
        }
        let limits = ledger::Limits {
            tombstone_seconds: if options.is_routed || was_routed { options.tombstone_seconds } else { 0 },
            outbox_rows: options.outbox_rows,
            waits_for_router: was_routed && !options.is_routed,
        };
        let writer = Writer::start(connection, totals, evictor, options.queue).map_err(OpenError::Thread)?;
        let readers = Readers::start(readers).map_err(OpenError::Thread)?;
        let sealer = Arc::new(Sealer::new(&options.encryption_key));
        Ok(Self(Arc::new(Inner {
            path,
            max_bytes: options.max_bytes,
            heat,
            sealer,
            clock: clock.clone(),
            limits,
            last_end,
            copies: Arc::default(),
            readers,
            writer,
            _lock: lock,
        })))
    }

    /// The bound on the database in bytes, where there is one.
    pub fn limit_bytes(&self) -> Option<u64> {
        (self.0.max_bytes > 0).then_some(self.0.max_bytes)
    }

    /// Whether a router was here before, and none is now: it may come back.
    pub fn waits_for_router(&self) -> bool {
        self.0.limits.waits_for_router
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Has `hook` called with the keys of results that the store removes of itself, in sweeps and evictions: after
    /// their transaction is committed and before those who wait for it are answered. It runs on the writer thread,
    /// so it must be short, must not panic, and must not hold this store.
    ///
    /// There is one hook: the first one stays, and the answer is false when there was one already.
    pub fn on_removed(&self, hook: impl Fn(&[KeyId]) + Send + Sync + 'static) -> bool {
        self.0.writer.on_removed(Box::new(hook))
    }

    /// Writes everything that is queued, moves the log into the database file, and stops the threads.
    /// Later operations fail with [`Error::Unavailable`].
    pub async fn close(&self) {
        self.0.writer.close().await;
        self.0.readers.close();
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.0.readers.run(work).await
    }

    /// Runs `work` in a transaction of the writer and waits until that is committed. It may run more than once: only
    /// the last run counts. An error inside the answer is the caller's alone: nothing may have been changed by then,
    /// and the transaction goes on. `weight` is about how many bytes it writes.
    async fn write<T: Send + 'static>(
        &self,
        weight: usize,
        work: impl FnMut(&Connection, &mut Totals) -> rusqlite::Result<Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.0.writer.run(|reply| Box::new(writer::Work { work, weight, answer: None, reply })).await
    }

    async fn current_status(&self) -> Result<Status> {
        let limit_bytes = self.limit_bytes();
        let health = match self.0.writer.problem() {
            None => Health::Healthy,
            Some(Problem::Failing(reason)) => Health::Degraded(reason),
            Some(Problem::Ended) => Health::Down("the writer thread has ended".to_owned()),
        };
        self.read(move |connection| {
            let total = |name| rows::total(connection, name);
            let pragma = |name: &str| {
                connection.query_row(&format!("pragma {name}"), [], |row| rows::unsigned(row, 0))
            };
            (|| {
                Ok(Status {
                    backend: BACKEND,
                    health,
                    entries: total("entries")?,
                    stored_bytes: Some(total("stored_bytes")?),
                    raw_bytes: Some(total("raw_bytes")?),
                    sessions: total("sessions")?,
                    size_bytes: pragma("page_count")? * pragma("page_size")?,
                    limit_bytes,
                })
            })()
            .map_err(|error| error::from_sqlite(&error))
        })
        .await
    }
}

impl fmt::Display for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite {}", self.0.path.display())
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

/// The store has been closed.
fn closed() -> Error {
    Error::Unavailable { backend: BACKEND, detail: "it has been closed".to_owned() }
}
