//! Removes what has expired, in batches small enough not to be felt, and gives space back to the disk.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::SqliteStore;
use super::ledger::tombstone;
use super::rows::{bytes_16, readable, signed};
use super::writer::{Operation, Totals};
use super::{hosts, leases};
use crate::domain::{KeyId, Timestamp};
use crate::store::Result;

/// Rows removed in one transaction.
const BATCH: u32 = 100;

/// Free pages given back in one transaction: a full vacuum would stall writes for a second.
const VACUUM_PAGES: usize = 256;

/// What one batch removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Results that had expired.
    pub results: usize,
    /// Sessions that had expired.
    pub sessions: usize,
    /// Tombstones that had nothing to stop any more.
    pub tombstones: usize,
    /// Leases that ended so long ago that nobody has to remember them.
    pub leases: usize,
    /// Hosts whose pages nobody fetches any more.
    pub hosts: usize,
    /// Pages given back to the disk.
    pub pages: u64,
    /// Whether the database is still above its bound although the transaction evicted results, which are not counted
    /// here.
    pub surplus: bool,
}

impl Swept {
    /// Whether another batch would find more.
    pub fn is_full(&self) -> bool {
        [self.results, self.sessions, self.tombstones, self.leases, self.hosts].contains(&(BATCH as usize))
            || self.pages >= VACUUM_PAGES as u64
            || self.surplus
    }
}

impl SqliteStore {
    /// Removes one batch of results that expired before `results_before`, of sessions and tombstones that expired before
    /// `now`, and of leases that may be forgotten by then, and gives a few free pages back. As any write, it evicts
    /// some results where the database is above its bound.
    ///
    /// # Errors
    /// As any write.
    pub async fn sweep_batch(&self, results_before: Timestamp, now: Timestamp) -> Result<Swept> {
        self.0
            .writer
            .run(|reply| {
                let (swept, removed) = (Swept::default(), Vec::new());
                Box::new(SweepOperation { results_before, now, swept, removed, reply })
            })
            .await
    }
}

struct SweepOperation {
    results_before: Timestamp,
    now: Timestamp,
    swept: Swept,
    removed: Vec<KeyId>,
    reply: oneshot::Sender<Result<Swept>>,
}

impl Operation for SweepOperation {
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        let mut results = connection.prepare_cached(
            // What the other side has yet to get would come back from there as it was before.
            "delete from results where row in (select row from results where expires_at < ?1
                 and not exists (select 1 from outbox where outbox.id = results.id) limit ?2)
             returning stored_size, raw_size, id",
        )?;
        let mut removed = results.query((signed(self.results_before.as_millis()), BATCH))?;
        self.swept = Swept::default();
        self.removed.clear();
        while let Some(row) = removed.next()? {
            totals.stored_bytes -= readable(row.get(0))?.unwrap_or(0);
            totals.raw_bytes -= readable(row.get(1))?.unwrap_or(0);
            totals.entries -= 1;
            self.swept.results += 1;
            self.removed.extend(bytes_16(row, 2).ok().map(KeyId::from_bytes));
        }
        let mut sessions = connection.prepare_cached(
            "delete from sessions where row in (select row from sessions where expires_at <= ?1 limit ?2)",
        )?;
        self.swept.sessions = sessions.execute((signed(self.now.as_millis()), BATCH))?;
        totals.sessions -= i64::try_from(self.swept.sessions).unwrap_or(0);
        self.swept.tombstones = tombstone::sweep(connection, self.now, BATCH, totals.outbox_rows() > 0)?;
        self.swept.leases = leases::sweep(connection, self.now, BATCH)?;
        self.swept.hosts = hosts::sweep(connection, self.now, BATCH)?;
        let free = || connection.query_row("pragma freelist_count", [], |row| super::rows::unsigned(row, 0));
        let before = free()?;
        if before > VACUUM_PAGES as u64 {
            // Each step of this statement frees one page.
            let mut vacuum =
                connection.prepare_cached(&format!("pragma incremental_vacuum({VACUUM_PAGES})"))?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
            self.swept.pages = before.saturating_sub(free()?);
        }
        Ok(())
    }

    fn removed(&mut self) -> Vec<KeyId> {
        std::mem::take(&mut self.removed)
    }

    fn learn_surplus(&mut self, surplus: bool) {
        self.swept.surplus = surplus;
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let _ = self.reply.send(committed.map(|()| self.swept));
    }
}
