//! Turns: changes of one session wait for each other here instead of failing on each other in the store.
//!
//! Compare-and-set alone lets one of many writers through a commit, so the last of a crowd would try as often as
//! there are others. With turns, a conflict means a writer in another process.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::Namespace;
use crate::domain::session::SessionId;

/// Sessions that share one of so many queues wait for each other without need; they rarely do.
const QUEUES: usize = 1024;

/// Queues of changes, first come, first served.
#[derive(Debug)]
pub(in crate::api) struct Turns {
    queues: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Turns {
    /// Empty queues.
    pub(in crate::api) fn new() -> Self {
        let queues = (0..QUEUES).map(|_| Mutex::new(())).collect();
        Self { queues, hasher: RandomState::new() }
    }

    /// Waits for a session's turn, which lasts until the guard is dropped.
    pub(super) async fn take(&self, namespace: &Namespace, id: &SessionId) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one((namespace, id));
        let queue = usize::try_from(hash % QUEUES as u64).unwrap_or(0);
        self.queues[queue].lock().await
    }
}
