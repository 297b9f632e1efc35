//! The results contract on SQLite.

mod write;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, Row, params_from_iter};
use xxhash_rust::xxh3::Xxh3;

use super::SqliteStore;
use super::error::{corrupt, from_sqlite};
use super::ledger::{Fenced, Terms, tombstone};
use super::rows::{
    META_COLUMNS, META_COUNT, UPDATED_AT, blob, broken, bytes_16, key_of, meta_of, one, readable, signed,
    time, unsigned,
};
use crate::domain::{Entry, Key, Meta, Timestamp, Version};
use crate::store::{
    Condition, Cursor, DeleteOutcome, Error, GetOptions, Heat, Hit, ListFilter, ListOrder, ListQuery, Look,
    Page, Placed, Put, PutOutcome, Result, ResultStore, Seen, Source, Status, Versioning, Via,
};

pub(super) use write::Existing;

/// Rows that one page of a listing may look at: a filter that matches little ends a page early.
const MAX_SCAN: u32 = 10_000;

#[async_trait]
impl ResultStore for SqliteStore {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        let key = key.clone();
        let found = self.read(move |connection| get(connection, key)).await?;
        Ok(found.map(|found| self.hit(found, options)))
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        let key = key.clone();
        let found = self.read(move |connection| look(connection, key)).await?;
        Ok(match found {
            Look::Entry(found) => Look::Entry(self.hit(found, options)),
            Look::Deleted(version) => Look::Deleted(version),
            Look::Absent => Look::Absent,
        })
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        self.find_looks(keys).await
    }

    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        // Of itself it has nothing to tell of deletions: they are nobody's matter but a router's.
        Ok(self.find_metas(keys).await?.into_iter().map(|meta| Seen::Told(meta.into())).collect())
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.find_metas(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        Ok(self.put_on(put, Terms::plain(self)).await?.unbound().outcome)
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.put_on(put, Terms::plain(self).of(Versioning::Newest)).await.map(Fenced::unbound)
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        Ok(self.delete_on(key, version, condition, Terms::plain(self)).await?.unbound().outcome)
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.delete_on(key, version, condition, Terms::plain(self).of(Versioning::Newest))
            .await
            .map(Fenced::unbound)
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        let query = query.clone();
        self.read(move |connection| list(connection, &query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.current_status().await
    }
}

impl SqliteStore {
    fn hit(&self, (row, entry): (u64, Entry), options: GetOptions) -> Hit {
        let heat = Heat::new(&self.0.heat, row);
        if !options.scan {
            heat.mark();
        }
        Hit { entry: Arc::new(entry), source: Source::Sqlite, via: Via::Owner, heat }
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
    one(&mut statement, [&id[..]], |row| entry_of(row, key))
}

/// The entry in a row whose first columns are [`META_COLUMNS`], the row, the digest and the body; and the row.
pub(super) fn entry_of(row: &Row<'_>, key: Key) -> Result<(u64, Entry)> {
    let meta = meta_of(row, key)?;
    let read =
        || Ok((unsigned(row, META_COUNT)?, bytes_16(row, META_COUNT + 1)?, blob(row, META_COUNT + 2)?));
    let (number, digest, body) = read().map_err(|error: rusqlite::Error| broken(&meta.key, &error))?;
    if digest_of(&meta, body) != digest || body.len() as u64 != meta.layout.stored_size() {
        return Err(corrupt(format!("the body of {} does not match its digest", meta.key.url())));
    }
    Ok((number, Entry { meta, frame: Bytes::copy_from_slice(body) }))
}

/// Whether what is stored under a key can be read.
fn is_sound(connection: &Connection, key: &Key) -> bool {
    // What else keeps it from being read keeps it from being written, too.
    !matches!(get(connection, key.clone()), Err(Error::Corrupt { .. }))
}

/// As [`get`]; where there is nothing, what the tombstone says, in the same transaction.
fn look(connection: &Connection, key: Key) -> Result<Look<(u64, Entry)>> {
    let id = key.id();
    if let Some(found) = get(connection, key)? {
        return Ok(Look::Entry(found));
    }
    let tombstone = tombstone::find(connection, id).map_err(|error| from_sqlite(&error))?;
    let deletion = tombstone.filter(|tombstone| tombstone.deleted);
    Ok(deletion.map_or(Look::Absent, |deletion| Look::Deleted(deletion.version)))
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
        let number: i64 = row.get(META_COUNT).map_err(read)?;
        let Some(at) = readable(time(row, UPDATED_AT)).map_err(read)? else {
            tracing::error!(row = number, "a listing left out a damaged row");
            continue;
        };
        let position = (at, number);
        match key_of(row, &query.namespace, META_COUNT + 1).and_then(|key| meta_of(row, key)) {
            Ok(meta) if query.admits(&meta) => {
                page.items.push(meta);
                page.places.push(cursor_at(position));
            }
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
