//! Stand-ins: a DynamoDB that can be dead, and somebody who does long work.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::api::{NotStarted, Worker};
use crate::domain::gate::Coverage;
use crate::domain::routing::Percent;
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::work::{Work, WorkState, WorkStatus};
use crate::domain::{Key, Meta, Namespace, Timestamp, Version};
use crate::store::memory::MemoryStore;
use crate::store::{
    Condition, DeleteOutcome, Error, Found, GetOptions, Hit, ListQuery, Page, Placed, Put, PutOutcome,
    PutSession, Result, ResultStore, SessionCondition, SessionDeleteOutcome, SessionPage, SessionPutOutcome,
    SessionQuery, SessionStore, Status,
};

/// A store that answers nothing while it is dead.
#[derive(Clone, Debug, Default)]
pub(super) struct Flaky {
    inner: MemoryStore,
    dead: Arc<AtomicBool>,
}

impl Flaky {
    pub(super) fn die(&self, dead: bool) {
        self.dead.store(dead, Ordering::SeqCst);
    }

    fn alive(&self) -> Result<&MemoryStore> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(Error::Unavailable { backend: "dynamodb", detail: "the plug is pulled".to_owned() });
        }
        Ok(&self.inner)
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flaky")
    }
}

#[async_trait]
impl ResultStore for Flaky {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        ResultStore::get(self.alive()?, key, options).await
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.alive()?.get_metas(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        ResultStore::put(self.alive()?, put).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.alive()?.put_newest(put).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        ResultStore::delete(self.alive()?, key, version, condition).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.alive()?.delete_newest(key, version, condition).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        ResultStore::list(self.alive()?, query).await
    }

    async fn status(&self) -> Result<Status> {
        Ok(Status { backend: "dynamodb", ..ResultStore::status(self.alive()?).await? })
    }

    fn finds_variants(&self) -> bool {
        false
    }
}

#[async_trait]
impl SessionStore for Flaky {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        SessionStore::get(self.alive()?, namespace, id).await
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        self.alive()?.get_many(namespace, ids).await
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        SessionStore::put(self.alive()?, put).await
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        SessionStore::delete(self.alive()?, namespace, id, condition).await
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        SessionStore::list(self.alive()?, query).await
    }

    async fn status(&self) -> Result<Status> {
        Ok(Status { backend: "dynamodb", ..SessionStore::status(self.alive()?).await? })
    }
}

/// Somebody who begins work and leaves it to the test how it ends.
#[derive(Debug, Default)]
pub(super) struct Hand(pub(super) Mutex<Vec<WorkStatus>>);

impl Hand {
    /// Brings everything to its end, with these outcomes.
    pub(super) fn finish(&self, counts: &[(&str, u64)]) {
        for status in self.0.lock().expect("not poisoned").iter_mut() {
            status.state = WorkState::Done;
            status.counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            status.done = counts.iter().map(|(_, count)| count).sum();
        }
    }

    fn find(&self, id: &str) -> Option<WorkStatus> {
        self.0.lock().expect("not poisoned").iter().find(|status| status.id == id).cloned()
    }
}

#[async_trait]
impl Worker for Hand {
    async fn start(&self, work: Work) -> std::result::Result<WorkStatus, NotStarted> {
        let mut all = self.0.lock().expect("not poisoned");
        if let Some(other) = all.iter().find(|status| status.state == WorkState::Running) {
            return Err(NotStarted::Busy { running: other.id.clone() });
        }
        let at = Timestamp::from_secs(crate::api::testing::T0);
        let status = WorkStatus {
            id: format!("{}-{}", work.kind(), all.len() + 1),
            work,
            state: WorkState::Running,
            started_at: at,
            updated_at: at,
            done: 0,
            total: 10,
            rate: 0.0,
            eta_seconds: None,
            counts: std::collections::BTreeMap::new(),
            bytes: 0,
            read_units: 0.0,
            write_units: 0.0,
            findings: Vec::new(),
            error: None,
        };
        all.insert(0, status.clone());
        Ok(status)
    }

    async fn list(&self) -> Result<Vec<WorkStatus>> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }

    async fn get(&self, id: &str) -> Result<Option<WorkStatus>> {
        Ok(self.find(id))
    }

    async fn cancel(&self, id: &str) -> Result<Option<WorkStatus>> {
        for status in self.0.lock().expect("not poisoned").iter_mut().filter(|status| status.id == id) {
            status.state = WorkState::Cancelled;
        }
        Ok(self.find(id))
    }

    async fn coverage(&self, from: Percent, to: Percent) -> Result<Coverage> {
        let keys = u64::from(to.hundredths() - from.hundredths());
        Ok(Coverage { keys, covered: keys })
    }
}
