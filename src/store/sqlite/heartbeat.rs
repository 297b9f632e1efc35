//! The wall time at which a service last had this database open.

use rusqlite::OptionalExtension as _;

use super::SqliteStore;
use super::error::from_sqlite;
use super::rows::{signed, time};
use crate::domain::Timestamp;
use crate::store::Result;

impl SqliteStore {
    /// The last heartbeat; nothing in a database that never had one.
    ///
    /// # Errors
    /// As any read.
    pub async fn heartbeat(&self) -> Result<Option<Timestamp>> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("select seen_at from heartbeat")
                .map_err(|error| from_sqlite(&error))?;
            statement.query_row([], |row| time(row, 0)).optional().map_err(|error| from_sqlite(&error))
        })
        .await
    }

    /// Writes a heartbeat.
    ///
    /// # Errors
    /// As any write.
    pub async fn set_heartbeat(&self, now: Timestamp) -> Result<()> {
        self.write(0, move |connection, _| {
            connection
                .prepare_cached("insert or replace into heartbeat (one, seen_at) values (1, ?1)")?
                .execute([signed(now.as_millis())])?;
            Ok(Ok(()))
        })
        .await
    }
}
