//! What is learned of hosts, on SQLite.

use async_trait::async_trait;
use rusqlite::Connection;

use super::SqliteStore;
use super::error::from_sqlite;
use super::rows::{one, signed, unsigned};
use crate::domain::learning::{Counters, KEEP_SECONDS, MANY, Visit};
use crate::domain::{Namespace, Timestamp};
use crate::store::{HostStore, Result};

#[async_trait]
impl HostStore for SqliteStore {
    async fn counters(&self, namespace: &Namespace, host: &str) -> Result<Counters> {
        let (namespace, host) = (namespace.clone(), host.to_owned());
        let found = self.read(move |connection| {
            let read = |error: rusqlite::Error| from_sqlite(&error);
            let sql = "select visits, changes, seconds from hosts where namespace = ?1 and host = ?2";
            let mut statement = connection.prepare_cached(sql).map_err(read)?;
            one(&mut statement, (namespace.as_str(), &host), |row| {
                let number = |column| unsigned(row, column).map_err(read);
                Ok(Counters { visits: number(0)?, changes: number(1)?, seconds: number(2)? })
            })
        });
        Ok(found.await?.unwrap_or_default())
    }

    async fn observe(&self, namespace: &Namespace, host: &str, visit: Visit) -> Result<()> {
        let (namespace, host) = (namespace.clone(), host.to_owned());
        let now = self.0.clock.now();
        self.write(host.len(), move |connection, _| {
            let sql =
                "insert into hosts (namespace, host, visits, changes, seconds, seen_at) values (?1, ?2, 1, ?3, ?4, ?6)
                 on conflict (namespace, host) do update set
                     seen_at = ?6,
                     visits = visits / (1 + (visits >= ?5)) + 1,
                     changes = changes / (1 + (visits >= ?5)) + ?3,
                     seconds = seconds / (1 + (visits >= ?5)) + ?4";
            connection.prepare_cached(sql)?.execute((
                namespace.as_str(),
                &host,
                visit.changed,
                signed(visit.seconds),
                signed(MANY),
                signed(now.as_millis()),
            ))?;
            Ok(Ok(()))
        })
        .await
    }
}

/// Forgets up to `limit` hosts that nobody has visited for long, and says how many.
pub(super) fn sweep(connection: &Connection, now: Timestamp, limit: u32) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "delete from hosts where (namespace, host) in
                 (select namespace, host from hosts where seen_at < ?1 limit ?2)",
        )?
        .execute((signed(now.minus_secs(KEEP_SECONDS).as_millis()), limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::store::conformance::{at, options};

    #[tokio::test]
    async fn who_is_not_visited_any_more_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Clock::manual(at(1000));
        let store = SqliteStore::open(&options(directory.path()), &clock, &Metrics::new()).expect("opens");
        let namespace = Namespace::default();
        let visit = Visit { changed: true, seconds: 10 };
        store.observe(&namespace, "old.example", visit).await.expect("adds");
        clock.set(at(2000));
        store.observe(&namespace, "new.example", visit).await.expect("adds");
        let now = at(1001).plus_secs(KEEP_SECONDS);
        let swept = store.sweep_batch(now, now).await.expect("sweeps");
        assert_eq!(swept.hosts, 1);
        let counters = |host| store.counters(&namespace, host);
        assert_eq!(counters("old.example").await.expect("reads"), Counters::default());
        assert_eq!(counters("new.example").await.expect("reads").visits, 1);
    }
}
