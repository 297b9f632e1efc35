//! Tombstones inside a transaction: what older copies of a key are measured against.

use rusqlite::{Connection, OptionalExtension as _};

use super::Tombstone;
use crate::clock::FASTEST_CLOCK_SECONDS;
use crate::domain::{KeyId, Timestamp, Version};
use crate::store::sqlite::rows::{signed, unsigned};

/// That of a key.
pub(in crate::store::sqlite) fn find(
    connection: &Connection,
    id: KeyId,
) -> rusqlite::Result<Option<Tombstone>> {
    connection
        .prepare_cached("select version, deleted from tombstones where id = ?1")?
        .query_row([&id.as_bytes()[..]], |row| {
            Ok(Tombstone { version: Version::from_u64(unsigned(row, 0)?), deleted: row.get(1)? })
        })
        .optional()
}

/// Leaves one; a newer one that is there stays.
pub(super) fn raise(
    connection: &Connection,
    id: KeyId,
    tombstone: Tombstone,
    (now, seconds): (Timestamp, u64),
) -> rusqlite::Result<()> {
    // Nothing that it stops was written later than the instant in its version, unless that is of a wrong clock.
    let latest = now.plus_secs(FASTEST_CLOCK_SECONDS);
    let expires_at = tombstone.version.at().min(latest).plus_secs(seconds);
    connection
        .prepare_cached(
            "insert into tombstones (id, version, deleted, expires_at) values (?1, ?2, ?3, ?4)
             on conflict (id) do update set version = excluded.version, deleted = excluded.deleted,
             expires_at = max(expires_at, excluded.expires_at) where excluded.version >= version",
        )?
        .execute((
            &id.as_bytes()[..],
            signed(tombstone.version.as_u64()),
            tombstone.deleted,
            signed(expires_at.as_millis()),
        ))?;
    Ok(())
}

/// Turns that of a deletion into a floor: the key holds something again, and older copies stay dead.
pub(super) fn revive(connection: &Connection, id: KeyId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("update tombstones set deleted = 0 where id = ?1")?
        .execute([&id.as_bytes()[..]])?;
    Ok(())
}

/// Removes up to `limit` that expired before `now`, and says how many. Where the outbox has rows, those that it names
/// stay: what a row of a deletion tells the other side is the tombstone.
pub(in crate::store::sqlite) fn sweep(
    connection: &Connection,
    now: Timestamp,
    limit: u32,
    beside_outbox: bool,
) -> rusqlite::Result<usize> {
    const SWEEP: &str = "delete from tombstones where id in
        (select id from tombstones where expires_at < ?1 limit ?2)";
    const SWEEP_UNQUEUED: &str = "delete from tombstones where id in
        (select id from tombstones where expires_at < ?1
         and not exists (select 1 from outbox where outbox.id = tombstones.id) limit ?2)";
    connection
        .prepare_cached(if beside_outbox { SWEEP_UNQUEUED } else { SWEEP })?
        .execute((signed(now.as_millis()), limit))
}
