//! Looks up the metadata of many keys: two walks in the order of the pages instead of a jump for each key.
//!
//! First the ids, in their own order, through the index that knows their rows; then the rows, in theirs, through
//! the table. For 10,000 of 100,000 entries that takes a fifth to a quarter less CPU time than a jump for each key,
//! whether the keys are neighbours or scattered; sorting the ids alone made neighbours slower.

use rusqlite::Connection;

use super::SqliteStore;
use super::error::from_sqlite;
use super::ledger::{Tombstone, tombstone};
use super::rows::{META_COLUMNS, meta_of, one};
use crate::domain::{Key, KeyId, Meta};
use crate::store::{Error, Look, Result};

/// Keys that one reader looks up at a time: more are spread over the readers.
const CHUNK: usize = 512;

impl SqliteStore {
    /// The metadata of many keys, in their order.
    pub(super) async fn find_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        let mut ids: Vec<(KeyId, usize)> =
            keys.iter().enumerate().map(|(place, key)| (key.id(), place)).collect();
        ids.sort_unstable();
        let mut rows = self.read_chunks(&ids, find_rows).await?;
        rows.sort_unstable();
        let wanted: Vec<(i64, Key)> = rows.iter().map(|&(row, place)| (row, keys[place].clone())).collect();
        let found = self.read_chunks(&wanted, read_rows).await?;
        let mut metas = vec![None; keys.len()];
        for ((_, place), meta) in rows.into_iter().zip(found) {
            metas[place] = meta;
        }
        Ok(metas)
    }

    /// As [`SqliteStore::find_metas`], and tells deleted entries from those that never were.
    pub(super) async fn find_looks(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        let mut looks: Vec<Look<Meta>> = self.find_metas(keys).await?.into_iter().map(Look::from).collect();
        let missed: Vec<(usize, Key)> = (keys.iter().cloned().enumerate())
            .filter(|(place, _)| matches!(looks[*place], Look::Absent))
            .collect();
        for (place, look) in self.read_chunks(&missed, look_again).await? {
            looks[place] = look;
        }
        Ok(looks)
    }

    /// Spreads `items` over the readers, and joins what they find in the order of the items.
    pub(super) async fn read_chunks<I: Clone + Send + 'static, T: Send + 'static>(
        &self,
        items: &[I],
        read: impl Fn(&Connection, Vec<I>) -> Result<Vec<T>> + Copy + Send + 'static,
    ) -> Result<Vec<T>> {
        let chunks = items.chunks(CHUNK).map(|chunk| {
            let chunk = chunk.to_vec();
            self.read(move |connection| read(connection, chunk))
        });
        Ok(futures_util::future::try_join_all(chunks).await?.into_iter().flatten().collect())
    }
}

/// The rows of those ids that are there, each with the number that came with its id.
fn find_rows(connection: &Connection, ids: Vec<(KeyId, usize)>) -> Result<Vec<(i64, usize)>> {
    let failed = |error: rusqlite::Error| from_sqlite(&error);
    let mut statement = connection.prepare_cached("select row from results where id = ?1").map_err(failed)?;
    let mut found = Vec::with_capacity(ids.len());
    for (id, place) in ids {
        let row = one(&mut statement, [&id.as_bytes()[..]], |row| row.get(0).map_err(failed))?;
        found.extend(row.map(|row| (row, place)));
    }
    Ok(found)
}

/// The metadata of keys in known rows.
///
/// Each walk is a transaction of its own. A row that was deleted in between is absent, as it is after the delete;
/// a row that another key got meanwhile is told apart by its id.
fn read_rows(connection: &Connection, wanted: Vec<(i64, Key)>) -> Result<Vec<Option<Meta>>> {
    // The plus keeps SQLite from taking the index again.
    let sql = format!("select {META_COLUMNS} from results where row = ?1 and +id = ?2");
    let mut statement = connection.prepare_cached(&sql).map_err(|error| from_sqlite(&error))?;
    let read = |(row, key): (i64, Key)| {
        let id = *key.id().as_bytes();
        whole(one(&mut statement, (row, &id[..]), |row| meta_of(row, key)))
    };
    wanted.into_iter().map(read).collect()
}

/// What is known of keys that were not there a moment ago.
fn look_again(connection: &Connection, missed: Vec<(usize, Key)>) -> Result<Vec<(usize, Look<Meta>)>> {
    let sql = format!("select {META_COLUMNS} from results where id = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(|error| from_sqlite(&error))?;
    let look = |(place, key): (usize, Key)| {
        let id = key.id();
        Ok((
            place,
            match tombstone::find(connection, id).map_err(|error| from_sqlite(&error))? {
                None => Look::Absent,
                Some(Tombstone { version, deleted: true }) => Look::Deleted(version),
                // It may have been deleted a moment ago, and put again since: "nothing that is known" was never true.
                Some(_) => whole(one(&mut statement, [&id.as_bytes()[..]], |row| meta_of(row, key)))?.into(),
            },
        ))
    };
    missed.into_iter().map(look).collect()
}

/// The metadata in a row; nothing where it is damaged: one such row must not hide the others.
fn whole(found: Result<Option<Meta>>) -> Result<Option<Meta>> {
    match found {
        Err(Error::Corrupt { detail, .. }) => {
            tracing::error!(detail, "a look-up left out a damaged row");
            Ok(None)
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::document::encode;
    use crate::domain::{Namespace, Timestamp, Validators};
    use crate::metrics::Metrics;
    use crate::store::sqlite::Options;
    use crate::store::{Condition, Put, ResultStore};

    fn key(number: usize) -> Key {
        Key::new(&Namespace::default(), &format!("https://a/{number}"), "").expect("a key")
    }

    /// A put of key `number`, whose status code tells it from the others.
    fn put(clock: &Clock, number: usize) -> Put {
        let encoded = encode(format!("{{\"n\":{number}}}").as_bytes(), 1).expect("an object");
        let now = Timestamp::from_secs(1);
        let meta = Meta {
            key: key(number),
            version: clock.next_version(),
            etag: encoded.etag,
            created_at: now,
            updated_at: now,
            expires_at: now,
            status_code: u16::try_from(number).ok(),
            success: None,
            validators: Validators::default(),
            layout: encoded.layout,
        };
        Put { meta, frame: Some(encoded.frame), condition: Condition::Any }
    }

    fn open(directory: &tempfile::TempDir, clock: &Clock) -> SqliteStore {
        let data_dir = directory.path().to_owned();
        let encryption_key = crate::config::EncryptionKey::default();
        let options = Options {
            data_dir,
            readers: 2,
            cache_bytes: 1 << 20,
            max_bytes: 0,
            queue: 64,
            encryption_key,
            tombstone_seconds: 0,
            outbox_rows: 0,
            is_routed: true,
        };
        SqliteStore::open(&options, clock, &Metrics::new()).expect("opens")
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_keys() {
        let (directory, clock) = (tempfile::tempdir().expect("a directory"), Clock::system());
        let store = open(&directory, &clock);
        for number in (0..40).step_by(2) {
            store.put(put(&clock, number)).await.expect("stored");
        }
        // More than one chunk, most keys several times, every other one absent.
        let numbers: Vec<usize> = (0..3 * CHUNK).map(|place| place * 7 % 40).collect();
        let keys: Vec<Key> = numbers.iter().map(|&number| key(number)).collect();
        let metas = store.get_metas(&keys).await.expect("read");
        assert_eq!(metas.len(), keys.len());
        for (number, meta) in numbers.into_iter().zip(metas) {
            let expected = (number % 2 == 0).then_some(number);
            let found = meta.and_then(|meta| meta.status_code).map(usize::from);
            assert_eq!(found, expected, "key {number}");
        }
        assert!(store.get_metas(&[]).await.expect("read").is_empty());
        store.close().await;
    }

    #[tokio::test]
    async fn a_row_that_another_key_got_is_not_taken_for_the_first() {
        let (directory, clock) = (tempfile::tempdir().expect("a directory"), Clock::system());
        let store = open(&directory, &clock);
        store.put(put(&clock, 1)).await.expect("stored");
        let found = store
            .read(|connection| {
                let rows = find_rows(connection, vec![(key(1).id(), 0)])?;
                let row = rows[0].0;
                read_rows(connection, vec![(row, key(1)), (row, key(2)), (row + 1, key(1))])
            })
            .await
            .expect("read");
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
        store.close().await;
    }
}
