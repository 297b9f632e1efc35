//! Stores for the tests of the tier: one whose every step waits at a gate, one whose hits name another source.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::*;
use crate::store::Status;
use crate::store::memory::MemoryStore;

/// A door that counts who has come to it.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) open: watch::Sender<bool>,
    pub(super) arrived: watch::Sender<usize>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }
    }

    pub(super) async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.subscribe().wait_for(|open| *open).await.expect("the sender is here");
    }

    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(super) async fn arrival(&self) {
        self.arrived.subscribe().wait_for(|arrived| *arrived > 0).await.expect("the sender is here");
    }
}

/// What one operation on the inner store meets: a gate before its work, one after, and perhaps an error.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) before: Gate,
    pub(super) after: Gate,
    pub(super) fails: Option<Error>,
}

impl Passage {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { before: Gate::new(), after: Gate::new(), fails: None })
    }

    pub(super) fn failing(error: Error) -> Arc<Self> {
        let passage = Self { before: Gate::new(), after: Gate::new(), fails: Some(error) };
        passage.before.open();
        passage.after.open();
        Arc::new(passage)
    }
}

/// A store whose next operations go through the passages laid out for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Gated {
    pub(super) store: MemoryStore,
    pub(super) reads: Arc<Mutex<VecDeque<Arc<Passage>>>>,
    pub(super) writes: Arc<Mutex<VecDeque<Arc<Passage>>>>,
    pub(super) gets: Arc<AtomicUsize>,
    pub(super) consistent_gets: Arc<AtomicUsize>,
}

impl Gated {
    pub(super) fn next_read(&self, passage: &Arc<Passage>) {
        self.reads.lock().expect("unpoisoned").push_back(Arc::clone(passage));
    }

    pub(super) fn next_write(&self, passage: &Arc<Passage>) {
        self.writes.lock().expect("unpoisoned").push_back(Arc::clone(passage));
    }

    pub(super) fn gets(&self) -> usize {
        self.gets.load(Ordering::Relaxed)
    }

    pub(super) fn consistent_gets(&self) -> usize {
        self.consistent_gets.load(Ordering::Relaxed)
    }

    async fn through<T>(
        passages: &Mutex<VecDeque<Arc<Passage>>>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let passage = passages.lock().expect("unpoisoned").pop_front();
        let Some(passage) = passage else { return work.await };
        passage.before.pass().await;
        if let Some(error) = &passage.fails {
            return Err(error.clone());
        }
        let done = work.await;
        passage.after.pass().await;
        done
    }
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

#[async_trait]
impl ResultStore for Gated {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.consistent_gets.fetch_add(usize::from(options.consistent), Ordering::Relaxed);
        Self::through(&self.reads, ResultStore::get(&self.store, key, options)).await
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.store.get_metas(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        Self::through(&self.writes, ResultStore::put(&self.store, put)).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        Self::through(&self.writes, self.store.put_newest(put)).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        Self::through(&self.writes, ResultStore::delete(&self.store, key, version, condition)).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        Self::through(&self.writes, self.store.delete_newest(key, version, condition)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        ResultStore::list(&self.store, query).await
    }

    async fn status(&self) -> Result<Status> {
        ResultStore::status(&self.store).await
    }
}

/// A memory store whose hits claim to come from a database.
#[derive(Debug)]
pub(super) struct Relabelled(pub(super) MemoryStore);

impl fmt::Display for Relabelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("relabelled")
    }
}

#[async_trait]
impl ResultStore for Relabelled {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        let found = ResultStore::get(&self.0, key, options).await?;
        Ok(found.map(|hit| Hit { source: Source::Sqlite, ..hit }))
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.0.get_metas(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        ResultStore::put(&self.0, put).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.0.put_newest(put).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        ResultStore::delete(&self.0, key, version, condition).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.0.delete_newest(key, version, condition).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        ResultStore::list(&self.0, query).await
    }

    async fn status(&self) -> Result<Status> {
        ResultStore::status(&self.0).await
    }
}
