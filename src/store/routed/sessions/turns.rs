//! Turns: writes of one session are made one after the other.

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::KeyId;

/// How many queues there are. Sessions that share one by chance only wait a little.
const QUEUES: u16 = 1024;

/// The queues.
pub(in crate::store::routed) struct Turns(Vec<Mutex<()>>);

impl Turns {
    /// Empty queues.
    pub(in crate::store::routed) fn new() -> Self {
        Self((0..QUEUES).map(|_| Mutex::new(())).collect())
    }

    /// Waits for a session's turn, which lasts until the guard is dropped.
    pub(super) async fn take(&self, id: KeyId) -> MutexGuard<'_, ()> {
        self.0[usize::from(id.bucket() % QUEUES)].lock().await
    }
}
