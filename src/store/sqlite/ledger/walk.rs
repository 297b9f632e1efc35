//! Walks over everything that the database holds, all namespaces, in an order that writes do not disturb.

use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::Tombstone;
use crate::domain::session::SessionRecord;
use crate::domain::{Entry, Key, KeyId, Meta, Namespace, Timestamp, Version};
use crate::store::Result;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::error::{corrupt, from_sqlite};
use crate::store::sqlite::results::entry_of;
use crate::store::sqlite::rows::{
    META_COLUMNS, META_COUNT, UPDATED_AT, blob, bytes_16, count, key_of, meta_of, signed, time, total,
    unsigned,
};
use crate::store::sqlite::sessions::unreadable;

/// A result on the way.
#[derive(Clone, Debug)]
pub struct Walked<T> {
    /// Its place: the walk goes on behind it.
    pub row: i64,
    /// What is there; the error's text if it cannot be read.
    pub item: std::result::Result<T, String>,
}

impl SqliteStore {
    /// Up to `limit` results behind `after` (a row; 0 for the beginning), and not beyond `bytes` of bodies, except that
    /// the first is there whatever its size: whole entries. Only those stored or confirmed at or after `since`. Nothing
    /// is marked as asked for. No results mean the end.
    ///
    /// # Errors
    /// As any read; one that cannot be read is in its place in the list.
    pub async fn walk_entries(
        &self,
        after: i64,
        since: Option<Timestamp>,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Walked<Entry>>> {
        let sql = format!("select {META_COLUMNS}, row, digest, body, namespace, url, variant {RESULTS}");
        let read = |row: &Row<'_>| {
            let entry = entry_of(row, whole_key(row, META_COUNT + 3)?)?.1;
            let size = entry.frame.len();
            Ok((entry, size))
        };
        self.walk(Walk { sql, after, limit, bytes }, updated(since), read).await
    }

    /// As [`SqliteStore::walk_entries`], without bodies.
    ///
    /// # Errors
    /// As any read.
    pub async fn walk_metas(
        &self,
        after: i64,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Walked<Meta>>> {
        let sql = format!("select {META_COLUMNS}, row, namespace, url, variant {RESULTS}");
        let read = |row: &Row<'_>| Ok((meta_of(row, whole_key(row, META_COUNT + 1)?)?, 0));
        self.walk(Walk { sql, after, limit, bytes: 0 }, updated(since), read).await
    }

    /// Sessions, in the same way. One whose credentials stay sealed for want of a key counts as one that cannot be read:
    /// a copy of it would lack them.
    ///
    /// # Errors
    /// As any read.
    pub async fn walk_sessions(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Walked<(Namespace, SessionRecord)>>> {
        let sql = "select row, namespace, body from sessions where row > ?1 order by row".to_owned();
        let sealer = Arc::clone(&self.0.sealer);
        let read = move |row: &Row<'_>| {
            let namespace = namespace_of(row, 1)?;
            let body = blob(row, 2).map_err(|error| from_sqlite(&error))?;
            let record = sealer.read_whole(&namespace, body).map_err(unreadable)?;
            Ok(((namespace, record), 0))
        };
        self.walk(Walk { sql, after, limit, bytes: 0 }, |_| true, read).await
    }

    /// The tombstones of deletions, by id, behind `after`.
    ///
    /// # Errors
    /// As any read.
    pub async fn walk_tombstones(
        &self,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<(KeyId, Tombstone)>> {
        self.read(move |connection| {
            let after = after.as_ref().map_or(&[][..], |id| &id.as_bytes()[..]);
            let read = || {
                connection
                    .prepare_cached(
                        "select id, version from tombstones where id > ?1 and deleted = 1 order by id limit ?2",
                    )?
                    .query_map((after, count(limit)), |row| {
                        let version = Version::from_u64(unsigned(row, 1)?);
                        Ok((KeyId::from_bytes(bytes_16(row, 0)?), Tombstone { version, deleted: true }))
                    })?
                    .collect::<rusqlite::Result<_>>()
            };
            read().map_err(|error| from_sqlite(&error))
        })
        .await
    }

    /// How many results and sessions a walk will meet.
    ///
    /// # Errors
    /// As any read.
    pub async fn walk_counts(&self, since: Option<Timestamp>) -> Result<(u64, u64)> {
        self.read(move |connection| {
            let read = || {
                let results = match since {
                    None => total(connection, "entries")?,
                    Some(since) => connection
                        .prepare_cached("select count(*) from results where updated_at >= ?1")?
                        .query_row([signed(since.as_millis())], |row| unsigned(row, 0))?,
                };
                Ok((results, total(connection, "sessions")?))
            };
            read().map_err(|error: rusqlite::Error| from_sqlite(&error))
        })
        .await
    }

    /// Walks until there is something to answer or nothing left, a bounded number of rows to a transaction.
    async fn walk<T: Send + 'static>(
        &self,
        mut walk: Walk,
        admits: impl Fn(&Row<'_>) -> bool + Clone + Send + 'static,
        read: impl Fn(&Row<'_>) -> Result<(T, usize)> + Clone + Send + 'static,
    ) -> Result<Vec<Walked<T>>> {
        loop {
            let (step, admits, read) = (walk.clone(), admits.clone(), read.clone());
            let (found, next) = self.read(move |connection| step.take(connection, admits, read)).await?;
            match next {
                Some(next) if found.is_empty() => walk.after = next,
                _ => return Ok(found),
            }
        }
    }
}

/// Rows that one transaction looks at: where `since` admits little, it must not last long all the same.
const MAX_SCAN: usize = 10_000;

/// The order of a walk: that of the table, whatever an index could do for another one.
const RESULTS: &str = "from results where row > ?1 order by row";

/// One step of a walk. Its statement takes the row behind which it begins, and answers the row by that name.
#[derive(Clone)]
struct Walk {
    sql: String,
    after: i64,
    limit: usize,
    bytes: usize,
}

/// What a step found, and where to go on if it stopped before anything else did.
type Step<T> = (Vec<Walked<T>>, Option<i64>);

impl Walk {
    /// Reads rows that it admits; `read` answers how many bytes of the bound each one takes, too.
    fn take<T>(
        self,
        connection: &Connection,
        admits: impl Fn(&Row<'_>) -> bool,
        read: impl Fn(&Row<'_>) -> Result<(T, usize)>,
    ) -> Result<Step<T>> {
        let failed = |error: rusqlite::Error| from_sqlite(&error);
        let mut statement = connection.prepare_cached(&self.sql).map_err(failed)?;
        let place = statement.column_index("row").map_err(failed)?;
        let mut rows = statement.query([self.after]).map_err(failed)?;
        let (mut found, mut left) = (Vec::new(), self.bytes);
        let mut scanned = 0;
        while found.len() < self.limit
            && let Some(row) = rows.next().map_err(failed)?
        {
            let number = row.get(place).map_err(failed)?;
            scanned += 1;
            if admits(row) {
                let item = match read(row) {
                    Ok((_, size)) if size > left && !found.is_empty() => break,
                    Ok((item, size)) => {
                        left = left.saturating_sub(size);
                        Ok(item)
                    }
                    Err(error) => Err(error.to_string()),
                };
                found.push(Walked { row: number, item });
            }
            if scanned == MAX_SCAN {
                return Ok((found, Some(number)));
            }
        }
        Ok((found, None))
    }
}

/// Whether a result was stored or confirmed at or after a time; a row that does not say so is not passed over.
fn updated(since: Option<Timestamp>) -> impl Fn(&Row<'_>) -> bool + Clone + Send + 'static {
    move |row| since.is_none_or(|since| time(row, UPDATED_AT).map_or(true, |at| at >= since))
}

/// The key in a row that has its namespace, its url and its variant from column `first` on.
fn whole_key(row: &Row<'_>, first: usize) -> Result<Key> {
    key_of(row, &namespace_of(row, first)?, first + 1)
}

fn namespace_of(row: &Row<'_>, column: usize) -> Result<Namespace> {
    let text: String = row.get(column).map_err(|error| from_sqlite(&error))?;
    Namespace::new(&text).map_err(|error| corrupt(format!("`{text}`: {error}")))
}
