//! The results contract on SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, params_from_iter};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::Xxh3;

use super::error::{corrupt, from_sqlite};
use super::rows::{
    META_COLUMNS, META_COUNT, UPDATED_AT, blob, bytes_16, key_of, meta_of, one, signed, time, unsigned,
};
use super::writer::{Operation, Totals};
use super::{BACKEND, SqliteStore};
use crate::domain::{Entry, Etag, Key, Meta, Timestamp, Version};
use crate::store::heat::HeatMap;
use crate::store::{
    Condition, Cursor, DeleteOutcome, Error, GetOptions, Heat, Hit, ListFilter, ListOrder, ListQuery, Page,
    Put, PutOutcome, Result, ResultStore, Source, Stamp, Status,
};

/// Rows that one page of a listing may look at: a filter that matches little ends a page early.
const MAX_SCAN: u32 = 10_000;

#[async_trait]
impl ResultStore for SqliteStore {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        let key = key.clone();
        let found = self.read(move |connection| get(connection, key)).await?;
        Ok(found.map(|(row, entry)| {
            let heat = Heat::new(&self.0.heat, row);
            if !options.scan {
                heat.mark();
            }
            Hit { entry: Arc::new(entry), source: Source::Sqlite, heat }
        }))
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.find_metas(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        let stored = put.meta.layout.stored_size();
        if self.0.max_bytes > 0 && stored > self.0.max_bytes {
            let detail =
                format!("a document of {stored} bytes cannot fit in sqlite.max_bytes = {}", self.0.max_bytes);
            return Err(Error::Full { backend: BACKEND, detail });
        }
        let digest = put.frame.as_ref().map(|frame| digest_of(&put.meta, frame));
        let host = put.meta.key.host();
        let heat = Arc::clone(&self.0.heat);
        self.0
            .writer
            .run(|reply| Box::new(PutOperation { put, digest, host, heat, outcome: None, reply }))
            .await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        let key = key.clone();
        self.0
            .writer
            .run(|reply| Box::new(DeleteOperation { key, version, condition, outcome: None, reply }))
            .await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        let query = query.clone();
        self.read(move |connection| list(connection, &query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.current_status().await
    }
}

/// XXH3-128 of what makes a body this entry's body: the key, the content's hash, the layout, and the frame itself.
fn digest_of(meta: &Meta, frame: &[u8]) -> [u8; 16] {
    let mut hasher = Xxh3::new();
    hasher.update(meta.key.id().as_bytes());
    hasher.update(meta.etag.as_bytes());
    hasher.update(meta.layout.as_bytes());
    hasher.update(frame);
    hasher.digest128().to_le_bytes()
}

fn get(connection: &Connection, key: Key) -> Result<Option<(u64, Entry)>> {
    let sql = format!("select {META_COLUMNS}, row, digest, body from results where id = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(|error| from_sqlite(&error))?;
    let id = *key.id().as_bytes();
    one(&mut statement, [&id[..]], |row| {
        let meta = meta_of(row, key)?;
        let read =
            || Ok((unsigned(row, META_COUNT)?, bytes_16(row, META_COUNT + 1)?, blob(row, META_COUNT + 2)?));
        let (number, digest, body) = read().map_err(|error: rusqlite::Error| from_sqlite(&error))?;
        if digest_of(&meta, body) != digest || body.len() as u64 != meta.layout.stored_size() {
            return Err(corrupt(format!("the body of {} does not match its digest", meta.key.url())));
        }
        Ok((number, Entry { meta, frame: Bytes::copy_from_slice(body) }))
    })
}

/// What a write needs to know of the row it meets.
struct Existing {
    row: i64,
    version: Version,
    etag: Etag,
    created_at: Timestamp,
    expires_at: Timestamp,
    raw_size: i64,
    stored_size: i64,
}

impl Existing {
    fn stamp(&self) -> Stamp {
        Stamp { etag: self.etag, version: self.version, expires_at: self.expires_at }
    }

    fn find(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(
            "select row, version, etag, created_at, expires_at, raw_size, stored_size from results where id = ?1",
        )?;
        let mut rows = statement.query([&key.id().as_bytes()[..]])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Self {
            row: row.get(0)?,
            version: Version::from_u64(unsigned(row, 1)?),
            etag: Etag::from_bytes(bytes_16(row, 2)?),
            created_at: time(row, 3)?,
            expires_at: time(row, 4)?,
            raw_size: row.get(5)?,
            stored_size: row.get(6)?,
        }))
    }
}

struct PutOperation {
    put: Put,
    digest: Option<[u8; 16]>,
    host: String,
    heat: Arc<HeatMap>,
    outcome: Option<PutOutcome>,
    reply: oneshot::Sender<Result<PutOutcome>>,
}

impl PutOperation {
    fn decide(&self, stored: Option<&Existing>) -> PutOutcome {
        if !self.put.condition.holds(stored.map(Existing::stamp)) {
            return PutOutcome::ConditionFailed;
        }
        match stored {
            Some(stored) if stored.version >= self.put.meta.version => PutOutcome::Superseded,
            Some(stored) if stored.etag == self.put.meta.etag => PutOutcome::Refreshed,
            _ if self.put.frame.is_none() => PutOutcome::ConditionFailed,
            Some(_) => PutOutcome::Replaced,
            None => PutOutcome::Created,
        }
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
                signed(meta.created_at.min(stored.created_at).as_millis()),
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
        let created_at = stored.map_or(meta.created_at, |stored| meta.created_at.min(stored.created_at));
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
        connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }
}

impl Operation for PutOperation {
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        let stored = Existing::find(connection, &self.put.meta.key)?;
        let outcome = self.decide(stored.as_ref());
        match (outcome, &stored) {
            (PutOutcome::Refreshed, Some(stored)) => self.refresh(connection, stored)?,
            (PutOutcome::Created | PutOutcome::Replaced, stored) => {
                self.write(connection, stored.as_ref())?;
                let layout = &self.put.meta.layout;
                totals.entries += i64::from(stored.is_none());
                totals.stored_bytes +=
                    signed(layout.stored_size()) - stored.as_ref().map_or(0, |it| it.stored_size);
                totals.raw_bytes += signed(layout.raw_size()) - stored.as_ref().map_or(0, |it| it.raw_size);
            }
            _ => {}
        }
        // Stored again means wanted: the evictor must not take it in the very transaction that acknowledges it.
        if let (PutOutcome::Replaced | PutOutcome::Refreshed, Some(stored)) = (outcome, &stored) {
            Heat::new(&self.heat, u64::try_from(stored.row).unwrap_or(0)).mark();
        }
        totals.saw(self.put.meta.version);
        self.outcome = Some(outcome);
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let outcome = self.outcome.unwrap_or(PutOutcome::ConditionFailed);
        let _ = self.reply.send(committed.map(|()| outcome));
    }

    fn weight(&self) -> usize {
        self.put.frame.as_ref().map_or(0, Bytes::len)
    }
}

struct DeleteOperation {
    key: Key,
    version: Version,
    condition: Condition,
    outcome: Option<DeleteOutcome>,
    reply: oneshot::Sender<Result<DeleteOutcome>>,
}

impl Operation for DeleteOperation {
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        let stored = Existing::find(connection, &self.key)?;
        let holds = self.condition.holds(stored.as_ref().map(Existing::stamp));
        totals.saw(self.version);
        self.outcome = Some(match stored {
            _ if !holds => DeleteOutcome::ConditionFailed,
            Some(stored) if stored.version < self.version => {
                connection.prepare_cached("delete from results where row = ?1")?.execute([stored.row])?;
                totals.entries -= 1;
                totals.stored_bytes -= stored.stored_size;
                totals.raw_bytes -= stored.raw_size;
                DeleteOutcome::Deleted
            }
            // A newer entry came after this delete was asked for: for the delete there is nothing left to do.
            Some(_) | None => DeleteOutcome::Absent,
        });
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let outcome = self.outcome.unwrap_or(DeleteOutcome::Absent);
        let _ = self.reply.send(committed.map(|()| outcome));
    }
}

fn list(connection: &Connection, query: &ListQuery) -> Result<Page> {
    let (sql, parameters) = list_sql(query)?;
    let mut page = Page::default();
    let read = |error: rusqlite::Error| from_sqlite(&error);
    let mut statement = connection.prepare_cached(&sql).map_err(read)?;
    let mut rows = statement.query(params_from_iter(parameters)).map_err(read)?;
    let mut scanned = 0;
    while let Some(row) = rows.next().map_err(read)? {
        scanned += 1;
        let position = (time(row, UPDATED_AT).map_err(read)?, row.get::<_, i64>(META_COUNT).map_err(read)?);
        match key_of(row, &query.namespace, META_COUNT + 1).and_then(|key| meta_of(row, key)) {
            Ok(meta) if query.admits(&meta) => page.items.push(meta),
            Ok(_) => {}
            // One damaged row must not hide those beyond it.
            Err(Error::Corrupt { detail, .. }) => tracing::error!(detail, "a listing left out a damaged row"),
            Err(error) => return Err(error),
        }
        if page.items.len() >= query.limit || scanned >= MAX_SCAN {
            page.next = Some(cursor_at(position));
            break;
        }
    }
    Ok(page)
}

/// The statement for what an index can select; [`ListQuery::admits`] checks the rest.
fn list_sql(query: &ListQuery) -> Result<(String, Vec<rusqlite::types::Value>)> {
    use std::fmt::Write as _;
    let mut sql = format!("select {META_COLUMNS}, row, url, variant from results where");
    let mut parameters: Vec<rusqlite::types::Value> = vec![query.namespace.as_str().to_owned().into()];
    // A plus keeps a column out of the choice of an index: one url has few variants, and a walk by time many rows.
    let time = if let ListFilter::Url(url) = &query.filter {
        // The default variant is found by its hash, the others by their index.
        let default =
            Key::new(&query.namespace, url, "").map(|key| key.id().as_bytes().to_vec()).unwrap_or_default();
        parameters.extend([default.into(), url.clone().into()]);
        sql.push_str(" (id = ?2 or (namespace = ?1 and url = ?3 and variant <> ''))");
        "+updated_at"
    } else {
        sql.push_str(" namespace = ?1");
        "updated_at"
    };
    let mut add = |condition: &str, value: rusqlite::types::Value| {
        parameters.push(value);
        let _ = write!(sql, " and {condition} ?{}", parameters.len());
    };
    if let Some(host) = query.filter.host() {
        add("host =", host.into());
    }
    if let Some(since) = query.since {
        add(&format!("{time} >="), signed(since.as_millis()).into());
    }
    if let Some(until) = query.until {
        add(&format!("{time} <"), signed(until.as_millis()).into());
    }
    let (compare, direction) = match query.order {
        ListOrder::Newest => ("<", "desc"),
        ListOrder::Oldest => (">", "asc"),
    };
    if let Some(cursor) = &query.after {
        let (after, row) = position_of(cursor)?;
        parameters.extend([signed(after.as_millis()).into(), row.into()]);
        let _ =
            write!(sql, " and ({time}, row) {compare} (?{}, ?{})", parameters.len() - 1, parameters.len());
    }
    let _ = write!(sql, " order by {time} {direction}, row {direction}");
    Ok((sql, parameters))
}

fn cursor_at((time, row): (Timestamp, i64)) -> Cursor {
    let mut bytes = time.as_millis().to_be_bytes().to_vec();
    bytes.extend_from_slice(&row.to_be_bytes());
    Cursor(bytes)
}

fn position_of(cursor: &Cursor) -> Result<(Timestamp, i64)> {
    let (time, row) = cursor.0.split_at_checked(8).ok_or(Error::Cursor)?;
    let time = u64::from_be_bytes(time.try_into().map_err(|_| Error::Cursor)?);
    let row = i64::from_be_bytes(row.try_into().map_err(|_| Error::Cursor)?);
    Ok((Timestamp::from_millis(time), row))
}
