//! The policy in force, kept over restarts, and the log of its changes.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::domain::Timestamp;
use crate::domain::routing::Policy;
use crate::store::sqlite::error::{corrupt, from_sqlite};
use crate::store::sqlite::rows::{count, one, signed, time, unsigned};
use crate::store::sqlite::{BACKEND, SqliteStore};
use crate::store::{Error, Result};

/// The policy that was kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// Grows with each change.
    pub generation: u64,
    /// The policy.
    pub policy: Policy,
    /// When it was changed.
    pub changed_at: Timestamp,
}

/// A change of the policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The generation that it began.
    pub generation: u64,
    /// When.
    pub changed_at: Timestamp,
    /// Who: the name of a token, or what else asked for it.
    pub who: String,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// The policy before.
    pub before: Policy,
    /// The policy after.
    pub after: Policy,
}

impl SqliteStore {
    /// The policy that was last set; `None` if nobody has.
    ///
    /// # Errors
    /// As any read.
    pub async fn policy(&self) -> Result<Option<Kept>> {
        self.read(|connection| {
            let read = |error: rusqlite::Error| from_sqlite(&error);
            let mut statement = connection
                .prepare_cached("select generation, policy, changed_at from routing")
                .map_err(read)?;
            one(&mut statement, [], |row| {
                let generation = unsigned(row, 0).map_err(read)?;
                Ok(Kept {
                    generation,
                    policy: policy_of(row, 1, generation)?,
                    changed_at: time(row, 2).map_err(read)?,
                })
            })
        })
        .await
    }

    /// Sets the policy, writes the change into the log, and makes [`Change::generation`] the one that bound writes must
    /// name from here on. False, and nothing is changed, unless the generation before is that of the change less one.
    ///
    /// # Errors
    /// As any write.
    pub async fn change_policy(&self, change: Change) -> Result<bool> {
        let (before, after) = (text_of(&change.before)?, text_of(&change.after)?);
        self.write(0, move |connection, totals| {
            if totals.generation.checked_add(1) != Some(change.generation) {
                return Ok(Ok(false));
            }
            let (generation, changed_at) =
                (signed(change.generation), signed(change.changed_at.as_millis()));
            connection
                .prepare_cached(
                    "insert or replace into routing (one, generation, policy, changed_at) values (1, ?1, ?2, ?3)",
                )?
                .execute((generation, &after, changed_at))?;
            connection
                .prepare_cached(
                    "insert into routing_log (generation, changed_at, who, reason, before, after)
                     values (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((generation, changed_at, &change.who, &change.reason, &before, &after))?;
            totals.generation = change.generation;
            Ok(Ok(true))
        })
        .await
    }

    /// The log, newest first, from before `before` (a generation) on.
    ///
    /// # Errors
    /// As any read.
    pub async fn policy_log(&self, before: Option<u64>, limit: usize) -> Result<Vec<Change>> {
        self.read(move |connection| {
            let read = |error: rusqlite::Error| from_sqlite(&error);
            let mut statement = connection
                .prepare_cached(
                    "select generation, before, after, changed_at, who, reason from routing_log
                     where generation < ?1 order by generation desc limit ?2",
                )
                .map_err(read)?;
            let mut rows = statement.query((before.map_or(i64::MAX, signed), count(limit))).map_err(read)?;
            let mut log = Vec::new();
            while let Some(row) = rows.next().map_err(read)? {
                let generation = unsigned(row, 0).map_err(read)?;
                log.push(Change {
                    generation,
                    changed_at: time(row, 3).map_err(read)?,
                    who: row.get(4).map_err(read)?,
                    reason: row.get(5).map_err(read)?,
                    before: policy_of(row, 1, generation)?,
                    after: policy_of(row, 2, generation)?,
                });
            }
            Ok(log)
        })
        .await
    }
}

/// The generation of the policy that was last set; 0 if nobody has.
pub(in crate::store::sqlite) fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare("select generation from routing")?;
    Ok(statement.query_row([], |row| unsigned(row, 0)).optional()?.unwrap_or(0))
}

fn text_of(policy: &Policy) -> Result<String> {
    serde_json::to_string(policy).map_err(|error| {
        let detail = format!("a routing policy that cannot be written: {error}");
        Error::Backend { backend: BACKEND, detail }
    })
}

fn policy_of(row: &Row<'_>, column: usize, generation: u64) -> Result<Policy> {
    let text: String = row.get(column).map_err(|error| from_sqlite(&error))?;
    serde_json::from_str(&text).map_err(|error| {
        corrupt(format!("the routing policy of generation {generation} cannot be read: {error}"))
    })
}
