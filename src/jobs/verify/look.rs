//! Looks at both sides of one thing.

use super::super::insist::Halt;
use super::super::purse::read_cost;
use super::Verification;
use super::verdict::{Both, Held, Here, Subject, There};
use crate::domain::{Entry, Key};
use crate::store::{Error, GetOptions, Look, Result as StoreResult, ResultStore, SessionStore};

impl Verification {
    /// What both sides have now, or nearly: who writes in between is found out by another look.
    pub(super) async fn look(&self, subject: &Subject) -> Result<Both, Halt> {
        match subject {
            Subject::Result(key) => {
                let there = self.look_there(key).await?;
                let here = match self
                    .insist
                    .on(|| self.sides.database.get_metas(std::slice::from_ref(key)))
                    .await?
                {
                    Ok(metas) => match metas.into_iter().next().flatten() {
                        Some(meta) => Here::Held(Held::Result(Box::new(meta))),
                        None => Here::Absent,
                    },
                    Err(error) => Here::Unreadable(error.to_string()),
                };
                let ids = [key.id()];
                let known = self.insist.must(|| self.sides.database.known(&ids)).await?;
                Ok(Both { here, there, known: known.first().copied().unwrap_or_default() })
            }
            Subject::Session(namespace, id) => {
                let get = self.insist.on(|| self.sides.sessions.get(namespace, id));
                let there = match self.purse.spend(1.0, get).await? {
                    Ok(Some(record)) => There::Held(Held::Session(Box::new(record))),
                    Ok(None) => There::Absent,
                    Err(error) => There::Unreadable(error.to_string()),
                };
                let here =
                    match self.insist.on(|| SessionStore::get(&self.sides.database, namespace, id)).await? {
                        Ok(Some(record)) => Here::Held(Held::Session(Box::new(record))),
                        Ok(None) => Here::Absent,
                        Err(error) => Here::Unreadable(error.to_string()),
                    };
                let ids = [id.clone()];
                let known = self.insist.must(|| self.sides.database.known_sessions(namespace, &ids)).await?;
                Ok(Both { here, there, known: known.first().copied().unwrap_or_default() })
            }
        }
    }

    /// Listings leave out what they cannot read; a read of one entry says so.
    async fn look_there(&self, key: &Key) -> Result<There, Halt> {
        let look = self.insist.on(|| self.sides.results.look(key, GetOptions::scan()));
        Ok(match self.purse.spend(1.0, look).await? {
            Ok(Look::Entry(hit)) => There::Held(Held::Result(Box::new(hit.entry.meta.clone()))),
            Ok(Look::Deleted(version)) => There::Deleted(version),
            Ok(Look::Absent) => There::Absent,
            Err(error) => There::Unreadable(error.to_string()),
        })
    }

    /// The whole entry in DynamoDB.
    pub(super) async fn entry_there(&self, key: &Key) -> Result<StoreResult<Option<Entry>>, Halt> {
        let get = self.insist.on(|| self.sides.results.get(key, GetOptions::scan()));
        let got: Result<_, Error> = self.purse.spend(read_cost(0), get).await?;
        Ok(got.map(|hit| hit.map(|hit| std::sync::Arc::unwrap_or_clone(hit.entry))))
    }

    /// The whole entry in SQLite.
    pub(super) async fn entry_here(&self, key: &Key) -> Result<StoreResult<Option<Entry>>, Halt> {
        let got = self.insist.on(|| ResultStore::get(&self.sides.database, key, GetOptions::scan())).await?;
        Ok(got.map(|hit| hit.map(|hit| std::sync::Arc::unwrap_or_clone(hit.entry))))
    }
}
