//! What is learned of hosts, on SQLite.

use async_trait::async_trait;

use super::SqliteStore;
use super::error::from_sqlite;
use super::rows::{one, signed, unsigned};
use crate::domain::Namespace;
use crate::domain::learning::{Counters, MANY, Visit};
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
        self.write(host.len(), move |connection, _| {
            let sql =
                "insert into hosts (namespace, host, visits, changes, seconds) values (?1, ?2, 1, ?3, ?4)
                 on conflict (namespace, host) do update set
                     visits = visits / (1 + (visits >= ?5)) + 1,
                     changes = changes / (1 + (visits >= ?5)) + ?3,
                     seconds = seconds / (1 + (visits >= ?5)) + ?4";
            connection.prepare_cached(sql)?.execute((
                namespace.as_str(),
                &host,
                visit.changed,
                // So many years add up to no more than a column holds.
                signed(visit.seconds.min(u64::from(u32::MAX))),
                signed(MANY),
            ))?;
            Ok(Ok(()))
        })
        .await
    }
}
