//! What a router keeps in the database beside the entries: tombstones, the outbox, its policy, and where long work is.
//!
//! Everything that must be true of a write together is one transaction: the entry, its tombstone, its row in the
//! outbox, and the check that the policy it was made under still holds.

pub mod jobs;
pub mod outbox;
pub mod policy;
mod queue;
mod router;
mod terms;
pub(super) mod tombstone;
pub mod walk;
mod write;

pub(super) use policy::generation;
pub(super) use router::{remember_router, was_routed};
pub(super) use terms::{Limits, Terms};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::SqliteStore;
use crate::domain::session::SessionId;
use crate::domain::{KeyId, Namespace, Timestamp, Version};

/// What a write leaves for the other side, in its own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing: the other side has it already, or gets it otherwise. Rows of the outbox stay.
    Nothing,
    /// A row in the outbox, which nobody takes before this time.
    Queue {
        /// Not before.
        due_at: Timestamp,
    },
    /// A tombstone that is no deletion: the other side is not told, and what it has of older versions is dead.
    Floor,
    /// The other side has it: rows of the outbox up to this version go.
    Settle,
}

/// What came of a write that is bound to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced<T> {
    /// It was done, or decided.
    Done(T),
    /// Nothing was changed: another policy is in force by now.
    Outdated,
}

impl<T> Fenced<T> {
    /// What came of what was done.
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Fenced<U> {
        match self {
            Self::Done(outcome) => Fenced::Done(map(outcome)),
            Self::Outdated => Fenced::Outdated,
        }
    }

    /// What came of a write that was bound to no policy.
    pub(super) fn unbound(self) -> T {
        match self {
            Self::Done(outcome) => outcome,
            Self::Outdated => unreachable!("a write that is bound to no policy outlives them all"),
        }
    }
}

/// What the database knows of a key without its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The version of the entry or session that it holds.
    pub held: Option<Version>,
    /// The tombstone, if there is one.
    pub tombstone: Option<Tombstone>,
    /// The version of the row in the outbox, parked or not.
    pub queued: Option<Version>,
}

/// What a tombstone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// What is older is gone.
    pub version: Version,
    /// Whether this is a deletion, and not only a limit to what the other side may answer.
    pub deleted: bool,
}

/// Work that copies from the other side, as long as it is under way.
#[derive(Debug)]
pub struct Copies(Arc<AtomicUsize>);

impl Drop for Copies {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SqliteStore {
    /// Begins to copy from the other side: what is read there from now on may be written here until this is dropped.
    /// Who writes there meanwhile leaves a tombstone here, so that no older copy can follow.
    pub fn begin_copies(&self) -> Copies {
        self.0.copies.fetch_add(1, Ordering::SeqCst);
        Copies(Arc::clone(&self.0.copies))
    }

    /// Whether copies may be on their way from the other side.
    pub fn takes_copies(&self) -> bool {
        self.0.copies.load(Ordering::SeqCst) > 0
    }
}

impl Known {
    /// Whether an entry of this version may be answered: no tombstone is newer.
    pub fn admits(&self, version: Version) -> bool {
        self.tombstone.is_none_or(|tombstone| tombstone.version <= version)
    }

    /// Whether the key is known to be deleted.
    pub fn is_deleted(&self) -> bool {
        self.held.is_none() && self.tombstone.is_some_and(|tombstone| tombstone.deleted)
    }

    /// Whether it has, or may get, something that would be an answer. A tombstone that is no deletion is none.
    pub fn would_answer(&self) -> bool {
        self.held.is_some() || self.queued.is_some() || self.is_deleted()
    }

    /// The newest version that it knows of: held, deleted or queued.
    pub fn newest(&self) -> Option<Version> {
        self.held.max(self.tombstone.map(|tombstone| tombstone.version)).max(self.queued)
    }
}

/// The id under which tombstones and the outbox know a session.
pub fn session_id(namespace: &Namespace, id: &SessionId) -> KeyId {
    crate::domain::routing::session_key(namespace, id)
}
