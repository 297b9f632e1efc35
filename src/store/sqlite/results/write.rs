//! Writes of results inside a transaction, and how they get there.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;

use super::{digest_of, is_sound};
use crate::domain::{Etag, Key, KeyId, Timestamp, Version};
use crate::store::heat::HeatMap;
use crate::store::sqlite::ledger::outbox::Queued;
use crate::store::sqlite::ledger::{Fenced, Terms, Tombstone, tombstone};
use crate::store::sqlite::rows::{bytes_16, readable, signed, time, unsigned};
use crate::store::sqlite::writer::Totals;
use crate::store::sqlite::{BACKEND, SqliteStore};
use crate::store::{Condition, DeleteOutcome, Error, Heat, Placed, Put, PutOutcome, Result, Stamp};

impl SqliteStore {
    /// Puts an entry on terms, and says under which version.
    pub(in crate::store::sqlite) async fn put_on(
        &self,
        put: Put,
        terms: Terms,
    ) -> Result<Fenced<Placed<PutOutcome>>> {
        let stored = put.meta.layout.stored_size();
        if self.0.max_bytes > 0 && stored > self.0.max_bytes {
            let detail =
                format!("a document of {stored} bytes cannot fit in sqlite.max_bytes = {}", self.0.max_bytes);
            return Err(Error::Full { backend: BACKEND, detail });
        }
        let digest = put.frame.as_ref().map(|frame| digest_of(&put.meta, frame));
        let (id, host, heat) = (put.meta.key.id(), put.meta.key.host(), Arc::clone(&self.0.heat));
        let weight = put.frame.as_ref().map_or(0, Bytes::len);
        let given = put.meta.version;
        let mut putting = Putting { put, given, id, digest, host, heat, terms };
        self.write(weight, move |connection, totals| putting.run(connection, totals)).await
    }

    /// Deletes an entry on terms, and says under which version.
    pub(in crate::store::sqlite) async fn delete_on(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
        terms: Terms,
    ) -> Result<Fenced<Placed<DeleteOutcome>>> {
        let deleting = Deleting { key: key.clone(), version, condition, terms };
        self.write(0, move |connection, totals| deleting.run(connection, totals)).await
    }
}

/// What a write needs to know of the row it meets, as far as that can be read.
pub(in crate::store::sqlite) struct Existing {
    row: i64,
    /// Where it cannot be read it is older than everything: any write replaces it.
    pub(in crate::store::sqlite) version: Version,
    etag: Option<Etag>,
    created_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    raw_size: i64,
    stored_size: i64,
}

impl Existing {
    /// What a condition looks at; nothing where it cannot be read.
    fn stamp(&self) -> Option<Stamp> {
        Some(Stamp { etag: self.etag?, version: self.version, expires_at: self.expires_at? })
    }

    /// The earlier of `created_at` and its own time of creation.
    fn first_of(&self, created_at: Timestamp) -> Timestamp {
        self.created_at.map_or(created_at, |own| own.min(created_at))
    }

    /// Removes it.
    pub(in crate::store::sqlite) fn remove(
        &self,
        connection: &Connection,
        totals: &mut Totals,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached("delete from results where row = ?1")?.execute([self.row])?;
        totals.entries -= 1;
        totals.stored_bytes -= self.stored_size;
        totals.raw_bytes -= self.raw_size;
        Ok(())
    }

    /// That of a key.
    pub(in crate::store::sqlite) fn find(
        connection: &Connection,
        key: &Key,
    ) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(
            "select row, version, etag, created_at, expires_at, raw_size, stored_size from results where id = ?1",
        )?;
        let mut rows = statement.query([&key.id().as_bytes()[..]])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self {
            row: row.get(0)?,
            version: readable(unsigned(row, 1))?.map(Version::from_u64).unwrap_or_default(),
            etag: readable(bytes_16(row, 2))?.map(Etag::from_bytes),
            created_at: readable(time(row, 3))?,
            expires_at: readable(time(row, 4))?,
            raw_size: readable(row.get(5))?.unwrap_or(0),
            stored_size: readable(row.get(6))?.unwrap_or(0),
        }))
    }
}

/// A put on its way to the writer.
struct Putting {
    put: Put,
    /// The version that it came with.
    given: Version,
    id: KeyId,
    digest: Option<[u8; 16]>,
    host: String,
    heat: Arc<HeatMap>,
    terms: Terms,
}

impl Putting {
    fn decide(&self, stored: Option<&Existing>, tombstone: Option<Tombstone>) -> PutOutcome {
        if !self.put.condition.holds(stored.and_then(Existing::stamp)) {
            return PutOutcome::ConditionFailed;
        }
        let version = self.put.meta.version;
        if !self.terms.is_newest() && tombstone.is_some_and(|tombstone| version < tombstone.version) {
            return PutOutcome::Superseded;
        }
        match stored {
            Some(stored) if !self.terms.is_newest() && stored.version >= version => PutOutcome::Superseded,
            Some(stored) if stored.etag == Some(self.put.meta.etag) => PutOutcome::Refreshed,
            _ if self.put.frame.is_none() => PutOutcome::ConditionFailed,
            Some(_) => PutOutcome::Replaced,
            None => PutOutcome::Created,
        }
    }

    fn run(
        &mut self,
        connection: &Connection,
        totals: &mut Totals,
    ) -> rusqlite::Result<Result<Fenced<Placed<PutOutcome>>>> {
        if self.terms.is_outdated(totals) {
            return Ok(Ok(Fenced::Outdated));
        }
        let stored = Existing::find(connection, &self.put.meta.key)?;
        let tombstone = tombstone::find(connection, self.id)?;
        self.put.meta.version = self.terms.version(self.given, newest(stored.as_ref(), tombstone));
        let meta = &self.put.meta;
        let outcome = match self.decide(stored.as_ref(), tombstone) {
            PutOutcome::ConditionFailed if self.finds_damage(connection, stored.as_ref()) => {
                PutOutcome::Replaced
            }
            outcome => outcome,
        };
        let mends = outcome == PutOutcome::Superseded && self.mends(connection, stored.as_ref(), tombstone);
        let changes = matches!(outcome, PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed);
        if changes && let Err(full) = self.terms.room(connection, totals, self.id)? {
            return Ok(Err(full));
        }
        match (outcome, &stored) {
            (PutOutcome::Refreshed, Some(stored)) if self.put.frame.is_none() => {
                self.refresh(connection, stored)?;
            }
            // The same content is written again, too: what is there may be damaged. Where it is not, SQLite finds its
            // pages unchanged and logs none of them.
            (PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed, stored) => {
                self.write(connection, stored.as_ref())?;
                self.count(totals, stored.as_ref());
            }
            (PutOutcome::Superseded, Some(stored)) if mends => {
                self.mend(connection, stored)?;
                self.count(totals, Some(stored));
            }
            _ => {}
        }
        // Stored again means wanted: the evictor must not take it in the very transaction that acknowledges it.
        if let (PutOutcome::Replaced | PutOutcome::Refreshed, Some(stored)) = (outcome, &stored) {
            Heat::new(&self.heat, u64::try_from(stored.row).unwrap_or(0)).mark();
        }
        totals.saw(meta.version);
        if changes {
            let what = || Queued::Result(meta.key.clone());
            self.terms.after_put(connection, totals, what, (self.id, meta.version, tombstone))?;
        } else {
            self.terms.after_nothing(connection, totals, (self.id, meta.version))?;
        }
        let outcome = if mends { PutOutcome::Refreshed } else { outcome };
        Ok(Ok(Fenced::Done(Placed { outcome, version: meta.version })))
    }

    /// Whether a write that asks for no entry meets only one that cannot be read.
    fn finds_damage(&self, connection: &Connection, stored: Option<&Existing>) -> bool {
        let Some(stored) = stored else { return false };
        let asks_for_none = matches!(self.put.condition, Condition::Absent(_)) && self.put.frame.is_some();
        asks_for_none && self.put.meta.version > stored.version && !is_sound(connection, &self.put.meta.key)
    }

    /// Whether a write that comes too late is what the row should hold, and cannot be read to hold: the very write, or
    /// an earlier one of the same content.
    fn mends(
        &self,
        connection: &Connection,
        stored: Option<&Existing>,
        tombstone: Option<Tombstone>,
    ) -> bool {
        let (Some(stored), meta) = (stored, &self.put.meta) else { return false };
        let is_dead = tombstone.is_some_and(|tombstone| meta.version < tombstone.version);
        let is_its = stored.version == meta.version || stored.etag == Some(meta.etag);
        self.put.frame.is_some() && !is_dead && is_its && !is_sound(connection, &meta.key)
    }

    /// Writes again what the row should hold. What is known since of the same content stays.
    fn mend(&self, connection: &Connection, stored: &Existing) -> rusqlite::Result<()> {
        let Put { meta, frame, .. } = &self.put;
        if stored.version == meta.version {
            return self.write(connection, Some(stored));
        }
        connection
            .prepare_cached(
                "update results set status_code = ?2, success = ?3, raw_size = ?4, stored_size = ?5, layout = ?6,
                 digest = ?7, body = ?8 where row = ?1",
            )?
            .execute((
                stored.row,
                meta.status_code,
                meta.success,
                signed(meta.layout.raw_size()),
                signed(meta.layout.stored_size()),
                meta.layout.as_bytes(),
                self.digest.as_ref().map(|digest| &digest[..]),
                frame.as_deref(),
            ))?;
        Ok(())
    }

    /// Counts what was written in the place of what was there.
    fn count(&self, totals: &mut Totals, stored: Option<&Existing>) {
        let layout = &self.put.meta.layout;
        totals.entries += i64::from(stored.is_none());
        totals.stored_bytes += signed(layout.stored_size()) - stored.map_or(0, |it| it.stored_size);
        totals.raw_bytes += signed(layout.raw_size()) - stored.map_or(0, |it| it.raw_size);
    }

    fn refresh(&self, connection: &Connection, stored: &Existing) -> rusqlite::Result<()> {
        let meta = &self.put.meta;
        connection
            .prepare_cached(
                "update results set version = ?2, created_at = ?3, updated_at = ?4, expires_at = ?5,
                 origin_etag = ?6, origin_modified = ?7, head_fingerprint = ?8 where row = ?1",
            )?
            .execute((
                stored.row,
                signed(meta.version.as_u64()),
                signed(stored.first_of(meta.created_at).as_millis()),
                signed(meta.updated_at.as_millis()),
                signed(meta.expires_at.as_millis()),
                &meta.validators.etag,
                &meta.validators.last_modified,
                &meta.validators.head_fingerprint,
            ))?;
        Ok(())
    }

    fn write(&self, connection: &Connection, stored: Option<&Existing>) -> rusqlite::Result<()> {
        const INSERT: &str = "insert into results (id, namespace, url, variant, host, version, etag, created_at,
            updated_at, expires_at, status_code, success, origin_etag, origin_modified, head_fingerprint, raw_size,
            stored_size, layout, digest, body)
            values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";
        // A replaced entry keeps its row, and with it its place in the evictor's walk.
        const UPDATE: &str = "update results set version = ?6, etag = ?7, created_at = ?8, updated_at = ?9,
            expires_at = ?10, status_code = ?11, success = ?12, origin_etag = ?13, origin_modified = ?14,
            head_fingerprint = ?15, raw_size = ?16, stored_size = ?17, layout = ?18, digest = ?19, body = ?20
            where id = ?1 and namespace = ?2 and url = ?3 and variant = ?4 and host = ?5";
        let Put { meta, frame, .. } = &self.put;
        let created_at = stored.map_or(meta.created_at, |stored| stored.first_of(meta.created_at));
        let id = meta.key.id();
        let parameters = rusqlite::params![
            &id.as_bytes()[..],
            meta.key.namespace().as_str(),
            meta.key.url(),
            meta.key.variant(),
            self.host,
            signed(meta.version.as_u64()),
            &meta.etag.as_bytes()[..],
            signed(created_at.as_millis()),
            signed(meta.updated_at.as_millis()),
            signed(meta.expires_at.as_millis()),
            meta.status_code,
            meta.success,
            meta.validators.etag,
            meta.validators.last_modified,
            meta.validators.head_fingerprint,
            signed(meta.layout.raw_size()),
            signed(meta.layout.stored_size()),
            meta.layout.as_bytes(),
            self.digest.as_ref().map(|digest| &digest[..]),
            frame.as_deref(),
        ];
        let sql = if stored.is_some() { UPDATE } else { INSERT };
        if connection.prepare_cached(sql)?.execute(parameters)? == 0 {
            // The columns of its key are damaged, too.
            const KEY: &str =
                "update results set namespace = ?2, url = ?3, variant = ?4, host = ?5 where id = ?1";
            connection.prepare_cached(KEY)?.execute(&parameters[..5])?;
            connection.prepare_cached(UPDATE)?.execute(parameters)?;
        }
        Ok(())
    }
}

/// A delete on its way to the writer.
struct Deleting {
    key: Key,
    version: Version,
    condition: Condition,
    terms: Terms,
}

impl Deleting {
    fn run(
        &self,
        connection: &Connection,
        totals: &mut Totals,
    ) -> rusqlite::Result<Result<Fenced<Placed<DeleteOutcome>>>> {
        if self.terms.is_outdated(totals) {
            return Ok(Ok(Fenced::Outdated));
        }
        let id = self.key.id();
        let stored = Existing::find(connection, &self.key)?;
        let tombstone = tombstone::find(connection, id)?;
        let version = self.terms.version(self.version, newest(stored.as_ref(), tombstone));
        let done = |outcome| Ok(Ok(Fenced::Done(Placed { outcome, version })));
        let holds = self.condition.holds(stored.as_ref().and_then(Existing::stamp));
        // What is newer came after a deletion that is only repeated here: for that there is nothing left to do.
        let late = !self.terms.is_newest()
            && match &stored {
                Some(stored) => stored.version >= version,
                None => tombstone.is_some_and(|tombstone| tombstone.version > version),
            };
        if !holds || late {
            totals.saw(version);
            self.terms.after_nothing(connection, totals, (id, version))?;
            return done(if holds { DeleteOutcome::Absent } else { DeleteOutcome::ConditionFailed });
        }
        if let Err(full) = self.terms.room(connection, totals, id)? {
            return Ok(Err(full));
        }
        totals.saw(version);
        if let Some(stored) = &stored {
            stored.remove(connection, totals)?;
        }
        let what = || Queued::Result(self.key.clone());
        self.terms.after_delete(connection, totals, what, (id, version))?;
        done(if stored.is_some() { DeleteOutcome::Deleted } else { DeleteOutcome::Absent })
    }
}

/// The newest version of a key that the database knows of.
fn newest(stored: Option<&Existing>, tombstone: Option<Tombstone>) -> Option<Version> {
    stored.map(|stored| stored.version).max(tombstone.map(|tombstone| tombstone.version))
}
