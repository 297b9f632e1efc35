//! Whether a router has ever opened the database: it may come back, and has to find what became of its keys meanwhile.

use rusqlite::Connection;

use crate::store::sqlite::rows::unsigned;

/// Whether one has. Earlier releases left no mark, but what a router leaves tells it as well.
pub(in crate::store::sqlite) fn was_routed(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "select exists (select 1 from totals where name = 'routed') or exists (select 1 from routing)
             or exists (select 1 from routing_log) or exists (select 1 from tombstones) or exists (select 1 from outbox)",
        [],
        |row| unsigned(row, 0).map(|found| found != 0),
    )
}

/// Leaves a mark that says so.
pub(in crate::store::sqlite) fn remember_router(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("insert or ignore into totals (name, value) values ('routed', 1)", []).map(drop)
}
