//! The terms of a write: the policy that it is bound to, and what it leaves beside what it changes.

use rusqlite::Connection;

use super::outbox::Queued;
use super::{Beside, Tombstone, queue, tombstone};
use crate::clock::Clock;
use crate::domain::{KeyId, Timestamp, Version};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::writer::Totals;
use crate::store::{Result, Versioning};

/// What the ledger is opened with.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::sqlite) struct Limits {
    /// How long tombstones are kept.
    pub(in crate::store::sqlite) tombstone_seconds: u64,
    /// Rows that the outbox may have; 0 means no bound.
    pub(in crate::store::sqlite) outbox_rows: u64,
    /// Whether a router was here and may come back.
    pub(in crate::store::sqlite) waits_for_router: bool,
}

/// See above.
#[derive(Clone, Debug)]
pub(in crate::store::sqlite) struct Terms {
    generation: Option<u64>,
    beside: Beside,
    versioning: Versioning,
    /// Draws the versions of clients' own writes.
    clock: Clock,
    /// Whether a deletion leaves a tombstone.
    remembers: bool,
    /// When the write came.
    now: Timestamp,
    limits: Limits,
}

impl Terms {
    /// Those of a write through the contracts.
    pub(in crate::store::sqlite) fn plain(store: &SqliteStore) -> Self {
        let limits = store.0.limits;
        let remembers = limits.tombstone_seconds > 0;
        let (clock, now) = (store.0.clock.clone(), store.0.clock.now());
        // What the other side has of older versions must not come back with the router.
        let beside = if limits.waits_for_router { Beside::Floor } else { Beside::Nothing };
        let versioning = Versioning::Fixed;
        Self { generation: None, beside, versioning, clock, remembers, now, limits }
    }

    /// The same for a write of this kind.
    pub(in crate::store::sqlite) fn of(self, versioning: Versioning) -> Self {
        Self { versioning, ..self }
    }

    /// Whether the write comes after all that it meets.
    pub(in crate::store::sqlite) fn is_newest(&self) -> bool {
        self.versioning == Versioning::Newest
    }

    /// The version of a write that came with `given`, where the newest of its key is `met`.
    pub(in crate::store::sqlite) fn version(&self, given: Version, met: Option<Version>) -> Version {
        match met {
            Some(met) if self.is_newest() && met >= given => self.clock.version_above(met),
            _ => given,
        }
    }

    /// Those of a router's.
    pub(super) fn routed(store: &SqliteStore, generation: Option<u64>, beside: Beside) -> Self {
        Self { generation, beside, remembers: true, ..Self::plain(store) }
    }

    /// Whether another policy is in force than the one that it is bound to.
    pub(in crate::store::sqlite) fn is_outdated(&self, totals: &Totals) -> bool {
        self.generation.is_some_and(|generation| generation != totals.generation)
    }

    /// Refuses a write that needs a new row in an outbox that is full. To be asked before anything is written.
    pub(in crate::store::sqlite) fn room(
        &self,
        connection: &Connection,
        totals: &Totals,
        id: KeyId,
    ) -> rusqlite::Result<Result<()>> {
        match self.beside {
            Beside::Queue { .. } => queue::room(connection, totals, id, self.limits.outbox_rows),
            Beside::Nothing | Beside::Floor | Beside::Settle => Ok(Ok(())),
        }
    }

    /// Leaves what a put leaves: the key holds `version`. `found` is the tombstone that it met.
    pub(in crate::store::sqlite) fn after_put(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        what: impl FnOnce() -> Queued,
        (id, version, found): (KeyId, Version, Option<Tombstone>),
    ) -> rusqlite::Result<()> {
        if self.beside == Beside::Floor {
            let floor = Tombstone { version, deleted: false };
            tombstone::raise(connection, id, floor, (self.now, self.limits.tombstone_seconds))?;
        } else if found.is_some_and(|found| found.deleted) {
            tombstone::revive(connection, id)?;
        }
        self.outbox(connection, totals, what, id, version)
    }

    /// Leaves what a deletion leaves, whether or not there was something to delete.
    pub(in crate::store::sqlite) fn after_delete(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        what: impl FnOnce() -> Queued,
        (id, version): (KeyId, Version),
    ) -> rusqlite::Result<()> {
        if self.remembers {
            let deletion = Tombstone { version, deleted: true };
            tombstone::raise(connection, id, deletion, (self.now, self.limits.tombstone_seconds))?;
        }
        if self.beside == Beside::Floor
            && self.limits.waits_for_router
            && queue::room(connection, totals, id, self.limits.outbox_rows)?.is_ok()
        {
            // Where there is no room the tombstone keeps the router from showing it, and others are told by a migration.
            let write = queue::Write { version, came_at: self.now, due_at: self.now };
            return queue::add(connection, totals, &what(), write);
        }
        self.outbox(connection, totals, what, id, version)
    }

    /// Leaves what a write leaves that changed nothing: what the other side has, it has all the same.
    pub(in crate::store::sqlite) fn after_nothing(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        (id, version): (KeyId, Version),
    ) -> rusqlite::Result<()> {
        if self.beside == Beside::Settle {
            queue::settle(connection, totals, id, version)?;
        }
        Ok(())
    }

    fn outbox(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        what: impl FnOnce() -> Queued,
        id: KeyId,
        version: Version,
    ) -> rusqlite::Result<()> {
        match self.beside {
            Beside::Queue { due_at } => {
                queue::add(connection, totals, &what(), queue::Write { version, came_at: self.now, due_at })
            }
            Beside::Settle => queue::settle(connection, totals, id, version),
            Beside::Nothing | Beside::Floor => Ok(()),
        }
    }
}
