//! Rows of the outbox inside a transaction, with the sums over them.

use rusqlite::{Connection, OptionalExtension as _};

use super::outbox::Queued;
use crate::domain::{KeyId, Timestamp, Version};
use crate::store::sqlite::BACKEND;
use crate::store::sqlite::rows::signed;
use crate::store::sqlite::writer::Totals;
use crate::store::{Error, Result};

/// A write that the other side has yet to get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    /// What the other side must have at least.
    pub(super) version: Version,
    /// When it came.
    pub(super) came_at: Timestamp,
    /// When it may be taken.
    pub(super) due_at: Timestamp,
}

/// Refuses a key that has no row yet where there are `limit` rows.
pub(super) fn room(
    connection: &Connection,
    totals: &Totals,
    id: KeyId,
    limit: u64,
) -> rusqlite::Result<Result<()>> {
    let rows = totals.outbox_rows();
    if limit == 0 || rows < limit || is_parked(connection, id)?.is_some() {
        return Ok(Ok(()));
    }
    let detail = format!("the outbox holds {rows} rows, as many as routing.outbox_rows allows ({limit})");
    Ok(Err(Error::Full { backend: BACKEND, detail }))
}

/// Adds a row, or makes the one that is there stand for this write, too.
pub(super) fn add(
    connection: &Connection,
    totals: &mut Totals,
    what: &Queued,
    write: Write,
) -> rusqlite::Result<()> {
    let id = what.id();
    let before = if totals.outbox_rows() > 0 { is_parked(connection, id)? } else { None };
    let (namespace, name, variant) = what.parts();
    connection
        .prepare_cached(
            "insert into outbox (id, kind, namespace, name, variant, version, enqueued_at, due_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             on conflict (id) do update set version = max(version, excluded.version),
             due_at = iif(attempts = 0 and parked = 0, min(due_at, excluded.due_at), excluded.due_at),
             attempts = 0, parked = 0, error = null",
        )?
        .execute((
            &id.as_bytes()[..],
            what.kind(),
            namespace.as_str(),
            name,
            variant,
            signed(write.version.as_u64()),
            signed(write.came_at.as_millis()),
            signed(write.due_at.as_millis()),
        ))?;
    totals.outbox += i64::from(before != Some(false));
    totals.parked -= i64::from(before == Some(true));
    Ok(())
}

/// Removes the row of a key unless it stands for something newer than `version`.
pub(super) fn settle(
    connection: &Connection,
    totals: &mut Totals,
    id: KeyId,
    version: Version,
) -> rusqlite::Result<()> {
    if totals.outbox_rows() == 0 {
        return Ok(());
    }
    let parked = connection
        .prepare_cached("delete from outbox where id = ?1 and version <= ?2 returning parked")?
        .query_row((&id.as_bytes()[..], signed(version.as_u64())), |row| row.get(0))
        .optional()?;
    removed(totals, parked);
    Ok(())
}

/// Counts a row that went: whether it was parked.
pub(super) fn removed(totals: &mut Totals, parked: Option<bool>) {
    totals.outbox -= i64::from(parked == Some(false));
    totals.parked -= i64::from(parked == Some(true));
}

/// Whether the row of a key is parked; `None` without one.
fn is_parked(connection: &Connection, id: KeyId) -> rusqlite::Result<Option<bool>> {
    connection
        .prepare_cached("select parked from outbox where id = ?1")?
        .query_row([&id.as_bytes()[..]], |row| row.get(0))
        .optional()
}
