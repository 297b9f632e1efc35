//! Which entries reads have found damaged, so that look-ups without bodies do not call them fresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{KeyId, Version};

/// Entries that are remembered at most: beyond that the store as a whole is in trouble, and each read still finds out.
const MOST: usize = 100_000;

/// Entries whose bodies could not be read, as far as this process has tried. They are forgotten when they are read or
/// stored again, and at a restart.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    /// By key: the version that was damaged; none where even that could not be read.
    found: Mutex<HashMap<KeyId, Option<Version>>>,
    /// How many there are, so that nothing is locked as long as there is none.
    count: AtomicUsize,
}

impl Damaged {
    /// Notes that a read has found an entry damaged.
    pub(super) fn note(&self, id: KeyId, version: Option<Version>) {
        let mut found = self.found();
        if found.len() < MOST || found.contains_key(&id) {
            found.insert(id, version);
            self.count.store(found.len(), Ordering::Relaxed);
        }
    }

    /// Forgets an entry, because it was read or stored.
    pub(super) fn forget(&self, id: KeyId) {
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut found = self.found();
            found.remove(&id);
            self.count.store(found.len(), Ordering::Relaxed);
        }
    }

    /// Whether what is stored, of this version as far as that can be read, is known to be damaged. Where it has another
    /// version it was stored since, maybe by another process.
    pub(super) fn has(&self, id: KeyId, version: Option<Version>) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.found().get(&id) == Some(&version)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<KeyId, Option<Version>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
