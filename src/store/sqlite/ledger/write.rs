//! Writes that a router makes: an entry or a session, what they leave for the other side, and the policy's fence.

use rusqlite::{Connection, OptionalExtension as _};

use super::{Beside, Fenced, Known, Terms, Tombstone, queue, session_id, tombstone};
use crate::domain::session::SessionId;
use crate::domain::{Key, KeyId, Namespace, Version};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::error::from_sqlite;
use crate::store::sqlite::results::Existing;
use crate::store::sqlite::rows::{readable, unsigned};
use crate::store::sqlite::sessions::{DeleteSession, Stored};
use crate::store::{
    Condition, DeleteOutcome, Placed, Put, PutOutcome, PutSession, Result, SessionCondition,
    SessionDeleteOutcome, SessionPutOutcome, Versioning,
};

impl SqliteStore {
    /// What is known of each key, in their order; one read. What a session holds is not found by its id alone: that is
    /// [`SqliteStore::known_sessions`].
    ///
    /// # Errors
    /// As any read.
    pub async fn known(&self, ids: &[KeyId]) -> Result<Vec<Known>> {
        let ids = ids.to_vec();
        self.read(move |connection| {
            ids.into_iter()
                .map(|id| known(connection, id, held_result(connection, id)?))
                .collect::<rusqlite::Result<_>>()
                .map_err(|error| from_sqlite(&error))
        })
        .await
    }

    /// As [`SqliteStore::known`], of sessions.
    ///
    /// # Errors
    /// As any read.
    pub async fn known_sessions(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Known>> {
        let (namespace, ids) = (namespace.clone(), ids.to_vec());
        self.read(move |connection| {
            ids.iter()
                .map(|id| {
                    let held = Stored::find(connection, &namespace, id)?.map(|stored| stored.version);
                    known(connection, session_id(&namespace, id), held)
                })
                .collect::<rusqlite::Result<_>>()
                .map_err(|error| from_sqlite(&error))
        })
        .await
    }

    /// As [`crate::store::ResultStore::put`], with what it leaves for the other side. A put older than the key's
    /// tombstone is superseded. `generation` is that of the policy it was made under; `None` binds it to none.
    ///
    /// # Errors
    /// As any write; [`crate::store::Error::Full`] where it needs a new row in an outbox that is full.
    pub async fn put_beside(
        &self,
        put: Put,
        generation: Option<u64>,
        beside: Beside,
    ) -> Result<Fenced<PutOutcome>> {
        let put = self.put_on(put, Terms::routed(self, generation, beside)).await?;
        Ok(put.map(|placed| placed.outcome))
    }

    /// As [`SqliteStore::put_beside`], of either kind, and says under which version.
    ///
    /// # Errors
    /// As [`SqliteStore::put_beside`].
    pub async fn write_beside(
        &self,
        put: Put,
        versioning: Versioning,
        generation: u64,
        beside: Beside,
    ) -> Result<Fenced<Placed<PutOutcome>>> {
        self.put_on(put, Terms::routed(self, Some(generation), beside).of(versioning)).await
    }

    /// As [`crate::store::ResultStore::delete`], and leaves a tombstone of `version` whether or not there was an entry
    /// (unless the condition failed, or what is there is newer).
    ///
    /// # Errors
    /// As [`SqliteStore::put_beside`].
    pub async fn delete_beside(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
        generation: Option<u64>,
        beside: Beside,
    ) -> Result<Fenced<DeleteOutcome>> {
        let deleted =
            self.delete_on(key, version, condition, Terms::routed(self, generation, beside)).await?;
        Ok(deleted.map(|placed| placed.outcome))
    }

    /// As [`SqliteStore::delete_beside`], of either kind, and says under which version.
    ///
    /// # Errors
    /// As [`SqliteStore::put_beside`].
    pub async fn erase_beside(
        &self,
        (key, version, condition): (&Key, Version, Condition),
        versioning: Versioning,
        generation: u64,
        beside: Beside,
    ) -> Result<Fenced<Placed<DeleteOutcome>>> {
        let terms = Terms::routed(self, Some(generation), beside).of(versioning);
        self.delete_on(key, version, condition, terms).await
    }

    /// Removes what is older than `version`: the other side has that version, or a deletion of it. Leaves a tombstone,
    /// and drops the key's row in the outbox if it is no newer.
    ///
    /// # Errors
    /// As any write.
    pub async fn supersede(&self, key: &Key, version: Version, deleted: bool) -> Result<()> {
        let key = key.clone();
        let life = (self.0.clock.now(), self.0.limits.tombstone_seconds);
        self.write(0, move |connection, totals| {
            totals.saw(version);
            let stored = Existing::find(connection, &key)?;
            queue::settle(connection, totals, key.id(), version)?;
            if stored.as_ref().is_none_or(|stored| stored.version < version) {
                if let Some(stored) = stored {
                    stored.remove(connection, totals)?;
                }
                tombstone::raise(connection, key.id(), Tombstone { version, deleted }, life)?;
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Notes that the other side is about to get `version` of a result: if this process dies before it says what came
    /// of that, the relay settles the key. A row that is already there stays, with the newer version of the two.
    ///
    /// # Errors
    /// As [`SqliteStore::put_beside`].
    pub async fn intend(
        &self,
        what: super::outbox::Queued,
        version: Version,
        due_at: crate::domain::Timestamp,
    ) -> Result<()> {
        let (came_at, limit) = (self.0.clock.now(), self.0.limits.outbox_rows);
        self.write(0, move |connection, totals| {
            if let Err(full) = queue::room(connection, totals, what.id(), limit)? {
                return Ok(Err(full));
            }
            totals.saw(version);
            queue::add(connection, totals, &what, queue::Write { version, came_at, due_at })?;
            Ok(Ok(()))
        })
        .await
    }

    /// As [`crate::store::SessionStore::put`], with what it leaves for the other side. A put older than the session's
    /// tombstone fails its condition.
    ///
    /// # Errors
    /// As [`SqliteStore::put_beside`].
    pub async fn put_session_beside(
        &self,
        put: PutSession,
        generation: Option<u64>,
        beside: Beside,
    ) -> Result<Fenced<SessionPutOutcome>> {
        self.put_session_on(put, Terms::routed(self, generation, beside)).await
    }

    /// As [`crate::store::SessionStore::delete`], and leaves a tombstone of `version` unless the condition failed.
    ///
    /// # Errors
    /// As [`SqliteStore::put_beside`].
    pub async fn delete_session_beside(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
        version: Version,
        generation: Option<u64>,
        beside: Beside,
    ) -> Result<Fenced<SessionDeleteOutcome>> {
        let delete =
            DeleteSession { namespace: namespace.clone(), id: id.clone(), condition, version: Some(version) };
        self.delete_session_on(delete, Terms::routed(self, generation, beside)).await
    }

    /// As [`SqliteStore::supersede`], of a session.
    ///
    /// # Errors
    /// As any write.
    pub async fn supersede_session(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        version: Version,
        deleted: bool,
    ) -> Result<()> {
        let (namespace, name) = (namespace.clone(), id.clone());
        let life = (self.0.clock.now(), self.0.limits.tombstone_seconds);
        self.write(0, move |connection, totals| {
            totals.saw(version);
            let id = session_id(&namespace, &name);
            let stored = Stored::find(connection, &namespace, &name)?;
            queue::settle(connection, totals, id, version)?;
            if stored.as_ref().is_none_or(|stored| stored.version < version) {
                if let Some(stored) = stored {
                    stored.remove(connection, totals)?;
                }
                tombstone::raise(connection, id, Tombstone { version, deleted }, life)?;
            }
            Ok(Ok(()))
        })
        .await
    }
}

fn held_result(connection: &Connection, id: KeyId) -> rusqlite::Result<Option<Version>> {
    version(connection, "select version from results where id = ?1", id)
}

fn known(connection: &Connection, id: KeyId, held: Option<Version>) -> rusqlite::Result<Known> {
    let tombstone = tombstone::find(connection, id)?;
    let queued = version(connection, "select version from outbox where id = ?1", id)?;
    Ok(Known { held, tombstone, queued })
}

fn version(connection: &Connection, sql: &str, id: KeyId) -> rusqlite::Result<Option<Version>> {
    connection
        .prepare_cached(sql)?
        // What is damaged is older than everything.
        .query_row([&id.as_bytes()[..]], |row| {
            Ok(readable(unsigned(row, 0))?.map(Version::from_u64).unwrap_or_default())
        })
        .optional()
}
