//! Keeps the database within its bound: a SIEVE hand walks the rows and takes those nobody asked for.

use std::sync::Arc;

use prometheus::IntCounter;
use rusqlite::{Connection, OptionalExtension as _};

use super::rows::{self, bytes_16};
use super::writer::Totals;
use crate::domain::KeyId;
use crate::store::heat::HeatMap;

/// Rows looked at in one step of the hand.
const STEP: u32 = 64;

/// Steps in one transaction: a batch of writes must not wait for a walk over the whole table.
const MAX_STEPS: u32 = 64;

/// Rows taken in one transaction, unless the batch wrote so much that more must go: where the bound was lowered the
/// surplus goes batch by batch. Taking 4,096 rows of a million held the writes of a batch up for more than a second.
const PATIENT_ROWS: u64 = 256;

const TAKE: &str = "delete from results where row = ?1 returning id";

/// What the outbox names stays: it is the only copy of a write that was acknowledged.
const TAKE_UNQUEUED: &str = "delete from results where row = ?1
     and not exists (select 1 from outbox where outbox.id = results.id) returning id";

/// The hand.
pub(super) struct Evictor {
    max_bytes: u64,
    heat: Arc<HeatMap>,
    /// The last row looked at.
    hand: i64,
    /// The greatest row that may go: those above are of the transaction under way, and none of them has been
    /// answered, let alone asked for.
    limit: i64,
    /// How many entries were taken.
    evicted: IntCounter,
    /// How many the transaction under way has taken.
    taken: u64,
    /// Bytes of their bodies.
    freed: i64,
    /// Their keys.
    removed: Vec<KeyId>,
}

impl Evictor {
    pub(super) fn new(max_bytes: u64, heat: Arc<HeatMap>, evicted: IntCounter) -> Self {
        Self { max_bytes, heat, hand: 0, limit: 0, evicted, taken: 0, freed: 0, removed: Vec::new() }
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) {
        self.limit = i64::MAX;
        self.taken = 0;
        self.freed = 0;
        self.removed.clear();
    }

    /// Puts the rows that the next operation of the transaction inserts out of the hand's reach.
    ///
    /// Before each operation, not once: when one deletes the last row, the next one gets that row's number.
    pub(super) fn spare_new_rows(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.max_bytes > 0 {
            let mut last = connection.prepare_cached("select coalesce(max(row), 0) from results")?;
            self.limit = self.limit.min(last.query_row([], |row| row.get(0))?);
        }
        Ok(())
    }

    /// Deletes the coldest entries until the pages in use fit, inside the caller's transaction; never one that the
    /// transaction inserted, so a batch may leave the database above the bound until the next one; and never one that
    /// the outbox names. A batch that wrote `written` bytes of bodies takes at least twice as many where so much is to
    /// go, so that a surplus shrinks however it came about.
    pub(super) fn make_room(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        written: usize,
    ) -> rusqlite::Result<()> {
        if self.max_bytes == 0 {
            return Ok(());
        }
        for _ in 0..MAX_STEPS {
            if self.is_enough(connection, written)? || !self.step(connection, totals, written)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Counts what the transaction has taken, now that it is committed, and tells the keys.
    pub(super) fn committed(&mut self) -> Vec<KeyId> {
        self.evicted.inc_by(std::mem::take(&mut self.taken));
        std::mem::take(&mut self.removed)
    }

    /// Moves the hand over a few rows; false when there are none that it may look at.
    fn step(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
        written: usize,
    ) -> rusqlite::Result<bool> {
        let mut select = connection.prepare_cached(
            "select row, stored_size, raw_size from results where row > ?1 and row <= ?2 order by row limit ?3",
        )?;
        let seen: Vec<(i64, i64, i64)> = select
            .query_map((self.hand, self.limit, STEP), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if seen.is_empty() {
            let wrapped = self.hand > 0;
            self.hand = 0;
            return Ok(wrapped);
        }
        for (row, stored, raw) in seen {
            self.hand = row;
            if self.heat.take(u64::try_from(row).unwrap_or(0)) {
                continue;
            }
            let mut delete =
                connection.prepare_cached(if totals.outbox_rows() > 0 { TAKE_UNQUEUED } else { TAKE })?;
            let Some(id) = delete.query_row([row], |row| Ok(bytes_16(row, 0).ok())).optional()? else {
                continue;
            };
            // A damaged row goes like any other: it has no key that anybody could have asked for.
            self.removed.extend(id.map(KeyId::from_bytes));
            self.taken += 1;
            self.freed += stored;
            totals.entries -= 1;
            totals.stored_bytes -= stored;
            totals.raw_bytes -= raw;
            if self.is_enough(connection, written)? {
                break;
            }
        }
        Ok(true)
    }

    /// Whether the transaction under way needs to take no more.
    fn is_enough(&self, connection: &Connection, written: usize) -> rusqlite::Result<bool> {
        let written = i64::try_from(written).unwrap_or(i64::MAX);
        let patient = self.taken >= PATIENT_ROWS && self.freed >= written.saturating_mul(2);
        Ok(patient || used_bytes(connection)? <= self.max_bytes)
    }
}

/// Bytes of the pages that hold something.
fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| {
        connection
            .prepare_cached(name)
            .and_then(|mut pragma| pragma.query_row([], |row| rows::unsigned(row, 0)))
    };
    let pages = pragma("pragma page_count")?.saturating_sub(pragma("pragma freelist_count")?);
    Ok(pages * pragma("pragma page_size")?)
}
