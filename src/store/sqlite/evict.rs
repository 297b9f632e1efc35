//! Keeps the database within its bound: a SIEVE hand walks the rows and takes those nobody asked for.

use std::sync::Arc;

use prometheus::IntCounter;
use rusqlite::{Connection, OptionalExtension as _};

use super::rows::{self, bytes_16, readable};
use super::writer::Totals;
use crate::domain::KeyId;
use crate::store::heat::HeatMap;

/// Rows looked at in one step of the hand.
const STEP: u32 = 64;

/// Rows passed over in one transaction: a batch of writes must not wait for a walk over the whole table.
const MAX_PASSED: u32 = 4096;

/// Rows taken in one transaction, unless the database has not shrunk enough by then: where the bound was lowered the
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
    /// How many it has passed over.
    passed: u32,
    /// Bytes of the pages that held something before it.
    used_before: u64,
    /// The keys of those that it has taken.
    removed: Vec<KeyId>,
    /// Whether it left the database above the bound although it has taken some.
    surplus: bool,
}

impl Evictor {
    pub(super) fn new(max_bytes: u64, heat: Arc<HeatMap>, evicted: IntCounter) -> Self {
        Self {
            max_bytes,
            heat,
            hand: 0,
            limit: 0,
            evicted,
            taken: 0,
            passed: 0,
            used_before: 0,
            removed: Vec::new(),
            surplus: false,
        }
    }

    /// Begins a transaction, before its first operation.
    pub(super) fn begin(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.limit = i64::MAX;
        self.taken = 0;
        self.passed = 0;
        self.removed.clear();
        self.surplus = false;
        if self.max_bytes > 0 {
            self.used_before = used_bytes(connection)?;
        }
        Ok(())
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
    /// the outbox names.
    ///
    /// A surplus shrinks with each transaction, by a page at least, and by as much again as the operations took: in
    /// pages, since nothing else tells what a row takes with its url and its places in the indexes. Only where more
    /// rows must be passed over than one transaction may does it have to wait.
    pub(super) fn make_room(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        if self.max_bytes == 0 {
            return Ok(());
        }
        let grown = used_bytes(connection)?.saturating_sub(self.used_before);
        let goal = self.used_before.saturating_sub(grown.max(1));
        while self.passed < MAX_PASSED && !self.is_enough(connection, goal)? {
            if !self.step(connection, totals, goal)? {
                break;
            }
        }
        self.surplus = self.taken > 0 && used_bytes(connection)? > self.max_bytes;
        Ok(())
    }

    /// Whether the last transaction left the database above the bound although it has taken some: the next one would
    /// take more.
    pub(super) fn has_surplus(&self) -> bool {
        self.surplus
    }

    /// Counts what the transaction has taken, now that it is committed, and tells the keys.
    pub(super) fn committed(&mut self) -> Vec<KeyId> {
        self.evicted.inc_by(std::mem::take(&mut self.taken));
        std::mem::take(&mut self.removed)
    }

    /// Moves the hand over a few rows; false when there are none that it may look at.
    fn step(&mut self, connection: &Connection, totals: &mut Totals, goal: u64) -> rusqlite::Result<bool> {
        let mut select = connection.prepare_cached(
            "select row, stored_size, raw_size from results where row > ?1 and row <= ?2 order by row limit ?3",
        )?;
        let seen: Vec<(i64, i64, i64)> = select
            .query_map((self.hand, self.limit, STEP), |row| {
                let size = |column| readable(row.get(column)).map(Option::unwrap_or_default);
                Ok((row.get(0)?, size(1)?, size(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        if seen.is_empty() {
            let wrapped = self.hand > 0;
            self.hand = 0;
            return Ok(wrapped);
        }
        for (row, stored, raw) in seen {
            self.hand = row;
            if self.heat.take(u64::try_from(row).unwrap_or(0)) {
                self.passed += 1;
                continue;
            }
            let mut delete =
                connection.prepare_cached(if totals.outbox_rows() > 0 { TAKE_UNQUEUED } else { TAKE })?;
            let Some(id) = delete.query_row([row], |row| Ok(bytes_16(row, 0).ok())).optional()? else {
                self.passed += 1;
                continue;
            };
            // A damaged row goes like any other: it has no key that anybody could have asked for.
            self.removed.extend(id.map(KeyId::from_bytes));
            self.taken += 1;
            totals.entries -= 1;
            totals.stored_bytes -= stored;
            totals.raw_bytes -= raw;
            if self.is_enough(connection, goal)? {
                break;
            }
        }
        Ok(true)
    }

    /// Whether the transaction under way needs to take no more: what is used fits, or is down to `goal` after so many
    /// rows that the others may wait.
    fn is_enough(&self, connection: &Connection, goal: u64) -> rusqlite::Result<bool> {
        let used = used_bytes(connection)?;
        Ok(used <= self.max_bytes || (self.taken >= PATIENT_ROWS && used <= goal))
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
