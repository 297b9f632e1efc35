//! The writer thread: group commit.
//!
//! It drains what is queued, runs it in one transaction, and answers all after the commit. When the
//! transaction fails, each operation is tried again in one of its own, so that an operation which does not
//! fit on the disk does not take the others with it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::error::from_sqlite;
use super::evict::Evictor;
use super::{BACKEND, closed};
use crate::domain::{KeyId, Version};
use crate::store::{Error, Result};

/// At most so many operations share a transaction.
const MAX_BATCH: usize = 512;

/// At most about so many bytes of bodies share a transaction: a larger one would only lengthen the log.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// A write. It may run more than once before it is done: only the last run counts.
pub(super) trait Operation: Send {
    /// Does the work inside a transaction.
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()>;

    /// Answers the caller: the last run was committed, or it was not.
    fn done(self: Box<Self>, committed: Result<()>);

    /// The keys of the results that the last run removed although no caller named them.
    fn removed(&mut self) -> Vec<KeyId> {
        Vec::new()
    }

    /// Learns, when the last run is committed, whether the database is still above its bound although results were
    /// evicted.
    fn learn_surplus(&mut self, _surplus: bool) {}

    /// About how many bytes it writes.
    fn weight(&self) -> usize {
        0
    }
}

/// A write that is a function.
pub(super) struct Work<F, T> {
    /// What it does, and what it answers once that is committed.
    pub(super) work: F,
    /// As [`Operation::weight`].
    pub(super) weight: usize,
    /// What the last run answered.
    pub(super) answer: Option<Result<T>>,
    pub(super) reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Operation for Work<F, T>
where
    F: FnMut(&Connection, &mut Totals) -> rusqlite::Result<Result<T>> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        self.answer = Some((self.work)(connection, totals)?);
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        // What is committed has run.
        let answer = self.answer.unwrap_or_else(|| Err(closed()));
        let _ = self.reply.send(committed.and(answer));
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

/// Sums over the tables, changed in the transactions that change the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) entries: i64,
    pub(super) stored_bytes: i64,
    pub(super) raw_bytes: i64,
    pub(super) sessions: i64,
    /// The newest version ever written.
    pub(super) version: i64,
    /// Rows of the outbox that wait.
    pub(super) outbox: i64,
    /// Rows of the outbox that are parked.
    pub(super) parked: i64,
    /// The generation of the policy in force. It is no sum, and kept where the policy is; but it, too, is what it was
    /// when a transaction fails.
    pub(super) generation: u64,
}

impl Totals {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut totals = Self::default();
        let mut statement = connection.prepare("select name, value from totals")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if let Some((_, field)) = totals.fields_mut().into_iter().find(|(field, _)| *field == name) {
                *field = row.get(1)?;
            }
        }
        totals.generation = super::ledger::generation(connection)?;
        Ok(totals)
    }

    fn save(&mut self, connection: &Connection, before: &mut Self) -> rusqlite::Result<()> {
        for ((name, now), (_, before)) in self.fields_mut().into_iter().zip(before.fields_mut()) {
            if now != before {
                connection
                    .prepare_cached("update totals set value = ?2 where name = ?1")?
                    .execute((name, &*now))?;
            }
        }
        Ok(())
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut i64); 7] {
        [
            ("entries", &mut self.entries),
            ("stored_bytes", &mut self.stored_bytes),
            ("raw_bytes", &mut self.raw_bytes),
            ("sessions", &mut self.sessions),
            ("version", &mut self.version),
            ("outbox", &mut self.outbox),
            ("parked", &mut self.parked),
        ]
    }

    /// Rows of the outbox, parked or not.
    pub(super) fn outbox_rows(&self) -> u64 {
        u64::try_from(self.outbox + self.parked).unwrap_or(0)
    }

    pub(super) fn version(&self) -> Version {
        Version::from_u64(u64::try_from(self.version).unwrap_or(0))
    }

    /// Notes a version that is being written.
    pub(super) fn saw(&mut self, version: Version) {
        self.version = self.version.max(i64::try_from(version.as_u64()).unwrap_or(i64::MAX));
    }
}

/// Learns which results the store has removed of itself.
pub(super) type OnRemoved = Box<dyn Fn(&[KeyId]) + Send + Sync>;

/// The way to the writer thread.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    problem: Arc<Mutex<Option<String>>>,
    on_removed: Arc<OnceLock<OnRemoved>>,
}

/// What is wrong with writing.
#[derive(Debug)]
pub(super) enum Problem {
    /// The last commit failed with this; the next one may succeed.
    Failing(String),
    /// There is no writer any more: nothing but a restart helps.
    Ended,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        totals: Totals,
        evictor: Evictor,
        queue: usize,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let problem = Arc::new(Mutex::new(None));
        let on_removed = Arc::new(OnceLock::new());
        let worker = Worker {
            connection,
            totals,
            evictor,
            problem: Arc::clone(&problem),
            on_removed: Arc::clone(&on_removed),
        };
        let thread =
            thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || worker.work(receiver))?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), problem, on_removed })
    }

    /// Sets who is told of removed results; the first one stays. False when there was one already.
    pub(super) fn on_removed(&self, hook: OnRemoved) -> bool {
        self.on_removed.set(hook).is_ok()
    }

    /// Runs an operation and waits until it is committed: `answer` is how the operation replies.
    pub(super) async fn run<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T>>) -> Box<dyn Operation>,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let queue = lock(&self.queue).clone().ok_or_else(closed)?;
        queue.send(make(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// What the last failed commit said, until one succeeds; or that there is no writer any more.
    pub(super) fn problem(&self) -> Option<Problem> {
        let ended = lock(&self.thread).as_ref().is_some_and(thread::JoinHandle::is_finished);
        if ended { Some(Problem::Ended) } else { lock(&self.problem).clone().map(Problem::Failing) }
    }

    /// Lets the thread finish what is queued and end.
    pub(super) async fn close(&self) {
        drop(lock(&self.queue).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the SQLite writer thread ended in a panic");
            }
        }
    }
}

impl Drop for Writer {
    /// Ends the thread before the directory's lock goes, for a store that nobody closed.
    fn drop(&mut self) {
        drop(lock(&self.queue).take());
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the SQLite writer thread ended in a panic");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The values behind these locks are replaced whole: a panic elsewhere cannot leave them half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    connection: Connection,
    totals: Totals,
    evictor: Evictor,
    problem: Arc<Mutex<Option<String>>>,
    on_removed: Arc<OnceLock<OnRemoved>>,
}

impl Worker {
    fn work(mut self, mut queue: mpsc::Receiver<Box<dyn Operation>>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.weight();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.weight();
                batch.push(next);
            }
            self.commit_batch(batch);
        }
        if let Err(error) = self.connection.execute_batch("pragma optimize; pragma wal_checkpoint(truncate);")
        {
            tracing::warn!(error = %error, "the SQLite log could not be moved into the database at the end");
        }
    }

    fn commit_batch(&mut self, mut batch: Vec<Box<dyn Operation>>) {
        let changes = self.connection.total_changes();
        match self.commit(&mut batch) {
            Ok(()) => {
                // A transaction that wrote nothing proves nothing about the disk.
                if self.connection.total_changes() > changes {
                    self.note(None);
                }
                for operation in batch {
                    operation.done(Ok(()));
                }
            }
            Err(error) if batch.len() == 1 => {
                let error = from_sqlite(&error);
                self.note(Some(&error));
                for operation in batch {
                    operation.done(Err(error.clone()));
                }
            }
            Err(error) => {
                tracing::debug!(error = %error, operations = batch.len(), "a shared transaction failed: one each");
                for operation in batch {
                    self.commit_batch(vec![operation]);
                }
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let mut totals = self.totals;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.evictor.begin(&transaction)?;
        for operation in &mut *batch {
            self.evictor.spare_new_rows(&transaction)?;
            operation.run(&transaction, &mut totals)?;
        }
        self.evictor.make_room(&transaction, &mut totals)?;
        totals.save(&transaction, &mut self.totals.clone())?;
        transaction.commit()?;
        self.totals = totals;
        let mut removed = self.evictor.committed();
        for operation in batch {
            operation.learn_surplus(self.evictor.has_surplus());
            removed.extend(operation.removed());
        }
        // Before anybody is answered: whoever reads after the answer must not find a copy elsewhere.
        if let Some(hook) = self.on_removed.get().filter(|_| !removed.is_empty()) {
            hook(&removed);
        }
        Ok(())
    }

    /// Remembers a failure that makes the store less than healthy; logs it when it is new.
    fn note(&self, error: Option<&Error>) {
        let mut problem = lock(&self.problem);
        let next = error.map(ToString::to_string);
        if *problem != next {
            if let Some(problem) = &next {
                tracing::error!(backend = BACKEND, problem, "a write could not be committed");
            } else {
                tracing::info!(backend = BACKEND, "writes are committed again");
            }
            *problem = next;
        }
    }
}
