//! Writes of sessions inside a transaction, and how they get there.

use std::borrow::Cow;

use rusqlite::Connection;

use super::unreadable;
use crate::domain::session::SessionId;
use crate::domain::{KeyId, Namespace, Timestamp, Version};
use crate::store::seal::{sealed_part, with_sealed_part};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::ledger::outbox::Queued;
use crate::store::sqlite::ledger::{Fenced, Terms, session_id, tombstone};
use crate::store::sqlite::rows::{blob, signed, time, unsigned};
use crate::store::sqlite::writer::Totals;
use crate::store::{PutSession, Result, SessionCondition, SessionDeleteOutcome, SessionPutOutcome};

impl SqliteStore {
    /// Puts a session on terms.
    pub(in crate::store::sqlite) async fn put_session_on(
        &self,
        put: PutSession,
        terms: Terms,
    ) -> Result<Fenced<SessionPutOutcome>> {
        let sealer = &self.0.sealer;
        let body = sealer.write(&put.namespace, &put.record).map_err(unreadable)?;
        let (keeps_sealed, weight) = (sealer.is_without_key(), body.len());
        let id = session_id(&put.namespace, &put.record.session.id);
        let putting = Putting { put, id, body, keeps_sealed, terms };
        self.write(weight, move |connection, totals| putting.run(connection, totals)).await
    }

    /// Deletes a session on terms.
    pub(in crate::store::sqlite) async fn delete_session_on(
        &self,
        delete: DeleteSession,
        terms: Terms,
    ) -> Result<Fenced<SessionDeleteOutcome>> {
        self.write(0, move |connection, totals| delete.run(connection, totals, &terms)).await
    }
}

/// What a write needs to know of the session it meets.
pub(in crate::store::sqlite) struct Stored {
    row: i64,
    pub(in crate::store::sqlite) version: Version,
    expires_at: Timestamp,
}

impl Stored {
    /// That of an id.
    pub(in crate::store::sqlite) fn find(
        connection: &Connection,
        namespace: &Namespace,
        id: &SessionId,
    ) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(
            "select row, version, expires_at from sessions where namespace = ?1 and id = ?2",
        )?;
        let mut rows = statement.query((namespace.as_str(), id.as_str()))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (version, expires_at) = (Version::from_u64(unsigned(row, 1)?), time(row, 2)?);
        Ok(Some(Self { row: row.get(0)?, version, expires_at }))
    }

    /// Removes it.
    pub(in crate::store::sqlite) fn remove(
        &self,
        connection: &Connection,
        totals: &mut Totals,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached("delete from sessions where row = ?1")?.execute([self.row])?;
        totals.sessions -= 1;
        Ok(())
    }

    /// What a condition looks at.
    fn facts(&self) -> (Version, Timestamp) {
        (self.version, self.expires_at)
    }
}

/// A put on its way to the writer.
struct Putting {
    put: PutSession,
    id: KeyId,
    body: Vec<u8>,
    /// Whether there is no key: what is sealed in the row was not read, and must not get lost.
    keeps_sealed: bool,
    terms: Terms,
}

impl Putting {
    fn run(
        &self,
        connection: &Connection,
        totals: &mut Totals,
    ) -> rusqlite::Result<Result<Fenced<SessionPutOutcome>>> {
        if self.terms.is_outdated(totals) {
            return Ok(Ok(Fenced::Outdated));
        }
        let PutSession { namespace, record, condition } = &self.put;
        let (name, version) = (&record.session.id, record.session.version);
        let stored = Stored::find(connection, namespace, name)?;
        let tombstone = tombstone::find(connection, self.id)?;
        let dead = tombstone.filter(|tombstone| version < tombstone.version);
        let holds = condition.holds(stored.as_ref().map(Stored::facts));
        if dead.is_some() || !holds {
            totals.saw(version);
            self.terms.after_nothing(connection, totals, (self.id, version))?;
            let outcome = match (dead, condition) {
                (Some(deletion), SessionCondition::Absent(_)) if holds => {
                    SessionPutOutcome::Behind(deletion.version)
                }
                _ => SessionPutOutcome::ConditionFailed,
            };
            return Ok(Ok(Fenced::Done(outcome)));
        }
        if let Err(full) = self.terms.room(connection, totals, self.id)? {
            return Ok(Err(full));
        }
        totals.saw(version);
        self.write(connection, stored.as_ref())?;
        totals.sessions += i64::from(stored.is_none());
        let what = || Queued::Session(namespace.clone(), name.clone());
        self.terms.after_put(connection, totals, what, (self.id, version, tombstone))?;
        let outcome = if stored.is_some() { SessionPutOutcome::Replaced } else { SessionPutOutcome::Created };
        Ok(Ok(Fenced::Done(outcome)))
    }

    fn write(&self, connection: &Connection, stored: Option<&Stored>) -> rusqlite::Result<()> {
        let sql = if stored.is_some() {
            "update sessions set project_id = ?3, status = ?4, created_at = ?5, expires_at = ?6, version = ?7, body = ?8
             where namespace = ?1 and id = ?2"
        } else {
            "insert into sessions (namespace, id, project_id, status, created_at, expires_at, version, body)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        };
        let body = match stored {
            Some(stored) if self.keeps_sealed => self.body_over(connection, stored.row)?,
            _ => Cow::Borrowed(self.body.as_slice()),
        };
        let session = &self.put.record.session;
        connection.prepare_cached(sql)?.execute((
            self.put.namespace.as_str(),
            session.id.as_str(),
            &session.project_id,
            session.status.as_str(),
            signed(session.created_at.as_millis()),
            signed(session.expires_at.as_millis()),
            signed(session.version.as_u64()),
            &*body,
        ))?;
        Ok(())
    }

    /// The body, with what is sealed in the row that it replaces. A row made at another time is another session
    /// of the same name.
    fn body_over(&self, connection: &Connection, row: i64) -> rusqlite::Result<Cow<'_, [u8]>> {
        let created_at = signed(self.put.record.session.created_at.as_millis());
        let mut statement =
            connection.prepare_cached("select body from sessions where row = ?1 and created_at = ?2")?;
        let mut rows = statement.query((row, created_at))?;
        let Some(row) = rows.next()? else { return Ok(Cow::Borrowed(&self.body)) };
        Ok(match sealed_part(blob(row, 0)?) {
            Some(sealed) => Cow::Owned(with_sealed_part(&self.body, sealed)),
            None => Cow::Borrowed(&self.body),
        })
    }
}

/// A delete on its way to the writer.
pub(in crate::store::sqlite) struct DeleteSession {
    pub(in crate::store::sqlite) namespace: Namespace,
    pub(in crate::store::sqlite) id: SessionId,
    pub(in crate::store::sqlite) condition: SessionCondition,
    /// Its place in the order of writes; `None`: behind what is there.
    pub(in crate::store::sqlite) version: Option<Version>,
}

impl DeleteSession {
    fn run(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        terms: &Terms,
    ) -> rusqlite::Result<Result<Fenced<SessionDeleteOutcome>>> {
        let outcome = |outcome| Ok(Ok(Fenced::Done(outcome)));
        if terms.is_outdated(totals) {
            return Ok(Ok(Fenced::Outdated));
        }
        let id = session_id(&self.namespace, &self.id);
        let stored = Stored::find(connection, &self.namespace, &self.id)?;
        // Whoever asks without a condition wants it gone, even if its version is ahead of the clock.
        let behind = stored.as_ref().map(|stored| stored.version.next());
        let version = self.version.max(behind);
        let failed = stored.as_ref().is_some_and(|stored| !self.condition.holds(Some(stored.facts())));
        let late = stored.is_none()
            && tombstone::find(connection, id)?.is_some_and(|tombstone| version < Some(tombstone.version));
        let Some(version) = version.filter(|_| !failed && !late) else {
            if let Some(version) = self.version {
                totals.saw(version);
                terms.after_nothing(connection, totals, (id, version))?;
            }
            return outcome(if failed {
                SessionDeleteOutcome::ConditionFailed
            } else {
                SessionDeleteOutcome::Absent
            });
        };
        if let Err(full) = terms.room(connection, totals, id)? {
            return Ok(Err(full));
        }
        totals.saw(version);
        if let Some(stored) = &stored {
            stored.remove(connection, totals)?;
        }
        let what = || Queued::Session(self.namespace.clone(), self.id.clone());
        terms.after_delete(connection, totals, what, (id, version))?;
        outcome(if stored.is_some() { SessionDeleteOutcome::Deleted } else { SessionDeleteOutcome::Absent })
    }
}
