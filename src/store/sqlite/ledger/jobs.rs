//! Where long work is, so that it goes on there after a restart.

use crate::domain::Timestamp;
use crate::store::Result;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::error::from_sqlite;
use crate::store::sqlite::rows::{signed, time};

/// The state of a piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its state in its own terms: JSON.
    pub state: String,
    /// When it was written.
    pub updated_at: Timestamp,
}

impl SqliteStore {
    /// Writes down where a piece of work is.
    ///
    /// # Errors
    /// As any write.
    pub async fn save_job(&self, job: Job) -> Result<()> {
        self.write(job.state.len(), move |connection, _| {
            connection
                .prepare_cached("insert or replace into jobs (name, state, updated_at) values (?1, ?2, ?3)")?
                .execute((&job.name, &job.state, signed(job.updated_at.as_millis())))?;
            Ok(Ok(()))
        })
        .await
    }

    /// All pieces of work, by name.
    ///
    /// # Errors
    /// As any read.
    pub async fn jobs(&self) -> Result<Vec<Job>> {
        self.read(|connection| {
            let read = || {
                connection
                    .prepare_cached("select name, state, updated_at from jobs order by name")?
                    .query_map([], |row| {
                        Ok(Job { name: row.get(0)?, state: row.get(1)?, updated_at: time(row, 2)? })
                    })?
                    .collect::<rusqlite::Result<_>>()
            };
            read().map_err(|error| from_sqlite(&error))
        })
        .await
    }

    /// Forgets a piece of work.
    ///
    /// # Errors
    /// As any write.
    pub async fn forget_job(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.write(0, move |connection, _| {
            connection.prepare_cached("delete from jobs where name = ?1")?.execute([&name])?;
            Ok(Ok(()))
        })
        .await
    }
}
