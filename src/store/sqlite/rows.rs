//! Between rows and entries.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement};

use super::error::{corrupt, from_sqlite};
use crate::domain::{Etag, Key, Layout, Meta, Namespace, Timestamp, Validators, Version};
use crate::store::{Error, Result};

/// The columns that [`meta_of`] reads, in its order.
pub(super) const META_COLUMNS: &str = "version, etag, created_at, updated_at, expires_at, status_code, success, \
     origin_etag, origin_modified, head_fingerprint, layout";

/// The place of `updated_at` in [`META_COLUMNS`].
pub(super) const UPDATED_AT: usize = 3;

/// How many columns [`META_COLUMNS`] names.
pub(super) const META_COUNT: usize = 11;

/// The metadata in a row whose first columns are [`META_COLUMNS`].
pub(super) fn meta_of(row: &Row<'_>, key: Key) -> Result<Meta> {
    let read = || -> rusqlite::Result<_> {
        Ok((
            Version::from_u64(unsigned(row, 0)?),
            bytes_16(row, 1)?,
            time(row, 2)?,
            time(row, 3)?,
            time(row, 4)?,
            row.get::<_, Option<u16>>(5)?,
            row.get::<_, Option<bool>>(6)?,
            Validators { etag: row.get(7)?, last_modified: row.get(8)?, head_fingerprint: row.get(9)? },
        ))
    };
    let (version, etag, created_at, updated_at, expires_at, status_code, success, validators) =
        read().map_err(|error| broken(&key, &error))?;
    let layout = row.get_ref(10).map_err(|error| broken(&key, &error))?;
    let layout = layout.as_blob().map_err(|_| corrupt(format!("the layout of {}", key.url())))?;
    let layout = Layout::from_bytes(layout).map_err(|error| corrupt(format!("{}: {error}", key.url())))?;
    Ok(Meta {
        key,
        version,
        etag: Etag::from_bytes(etag),
        created_at,
        updated_at,
        expires_at,
        status_code,
        success,
        validators,
        layout,
    })
}

/// The key in a row that has its three parts from column `first` on.
pub(super) fn key_of(row: &Row<'_>, namespace: &Namespace, first: usize) -> Result<Key> {
    let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?));
    let damaged = |error: rusqlite::Error| damage(&error, "a row without a key");
    let (url, variant) = (text(first).map_err(damaged)?, text(first + 1).map_err(damaged)?);
    Key::new(namespace, url, variant).map_err(|error| corrupt(format!("a key that cannot be: {error}")))
}

/// What a column that cannot be read says of its row: SQLite failed, or something else is there than was written.
pub(super) fn broken(key: &Key, error: &rusqlite::Error) -> Error {
    damage(error, &format!("the row of {}", key.url()))
}

fn damage(error: &rusqlite::Error, what: &str) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(..) => from_sqlite(error),
        _ => corrupt(format!("{what}: {error}")),
    }
}

/// What was read of a column; nothing where that is damaged.
pub(super) fn readable<T>(read: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error @ rusqlite::Error::SqliteFailure(..)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A number that is never negative.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// A time in milliseconds.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    unsigned(row, column).map(Timestamp::from_millis)
}

/// Sixteen bytes.
pub(super) fn bytes_16(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; 16]> {
    row.get(column)
}

/// A number as SQLite keeps it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One of the sums over the tables.
pub(super) fn total(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("select value from totals where name = ?1")?
        .query_row([name], |row| unsigned(row, 0))
}

/// A limit as SQLite takes it.
pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A blob, borrowed from the row.
pub(super) fn blob<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r [u8]> {
    match row.get_ref(column)? {
        ValueRef::Blob(bytes) => Ok(bytes),
        other => Err(rusqlite::Error::InvalidColumnType(column, "blob".to_owned(), other.data_type())),
    }
}

/// Runs a statement that returns at most one row.
pub(super) fn one<T>(
    statement: &mut Statement<'_>,
    parameters: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut rows = statement.query(parameters).map_err(|error| from_sqlite(&error))?;
    rows.next().map_err(|error| from_sqlite(&error))?.map(read).transpose()
}
