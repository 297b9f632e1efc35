//! Seals sessions anew under the current key, a page at a time, while others read and write them.

use std::sync::Arc;

use rusqlite::Row;

use super::{damaged, unreadable};
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::seal::{Sealer, Standing, sealed_part};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::error::{corrupt, from_sqlite};
use crate::store::sqlite::ledger::{Fenced, Terms};
use crate::store::sqlite::rows::{blob, count};
use crate::store::{
    Error, PutSession, Resealed, Result, SessionCondition, SessionCursor, SessionPutOutcome, Unreadable,
};

/// A session in its row.
struct Found {
    namespace: Namespace,
    id: SessionId,
    record: Result<(SessionRecord, Standing)>,
}

impl SqliteStore {
    /// See [`crate::store::SessionStore::reseal`].
    pub(super) async fn reseal_page(
        &self,
        after: Option<&SessionCursor>,
        limit: usize,
        dry_run: bool,
    ) -> Result<Resealed> {
        let after = after.map_or(Ok(0), row_of)?;
        let sealer = Arc::clone(&self.0.sealer);
        let page = self
            .read(move |connection| {
                let failed = |error: rusqlite::Error| from_sqlite(&error);
                let sql =
                    "select row, namespace, id, body from sessions where row > ?1 order by row limit ?2";
                let mut statement = connection.prepare_cached(sql).map_err(failed)?;
                let mut rows = statement.query((after, count(limit))).map_err(failed)?;
                let (mut page, mut seen, mut last) = (Vec::new(), 0, 0);
                while let Some(row) = rows.next().map_err(failed)? {
                    seen += 1;
                    last = row.get::<_, i64>(0).map_err(failed)?;
                    match found(row, &sealer) {
                        Err(error) if error.is_of_one() => {
                            tracing::error!(row = last, %error, "a session without a name stays as it is");
                        }
                        found => page.push(found?),
                    }
                }
                Ok((page, seen, last))
            })
            .await?;
        let (page, seen, last) = page;
        let mut report = Resealed { seen: seen as u64, ..Resealed::default() };
        if seen == limit {
            report.next = Some(SessionCursor(last.to_be_bytes().to_vec()));
        }
        for Found { namespace, id, record } in page {
            match record {
                Ok((record, Standing::Outdated)) => {
                    report.resealed += u64::from(dry_run || self.seal_again(namespace, record).await?);
                }
                Ok(_) => {}
                Err(error) => report.unreadable.push(Unreadable { namespace, id, error }),
            }
        }
        Ok(report)
    }

    /// Writes a session as it is, sealed under the current key. False if it was written meanwhile, and so sealed.
    async fn seal_again(&self, namespace: Namespace, record: SessionRecord) -> Result<bool> {
        let condition = SessionCondition::Version(record.session.version);
        let put = PutSession { namespace, record, condition };
        let done = self.put_session_on(put, Terms::plain(self)).await?;
        Ok(done != Fenced::Done(SessionPutOutcome::ConditionFailed))
    }
}

fn found(row: &Row<'_>, sealer: &Sealer) -> Result<Found> {
    let text = |column| row.get::<_, String>(column).map_err(damaged);
    let namespace = Namespace::new(&text(1)?).map_err(|error| corrupt(error.to_string()))?;
    let id = SessionId::new(&text(2)?).map_err(|error| corrupt(error.to_string()))?;
    let record = blob(row, 3).map_err(damaged).and_then(|body| {
        let record = sealer.read(&namespace, body).map_err(unreadable)?;
        let secrets = sealed_part(body).map(String::from_utf8_lossy);
        let beside = Sealer::beside(body).map_err(unreadable)?;
        Ok((record, sealer.standing(secrets.as_deref(), &beside)))
    });
    match record {
        Err(error) if !error.is_of_one() => Err(error),
        record => Ok(Found { namespace, id, record }),
    }
}

fn row_of(cursor: &SessionCursor) -> Result<i64> {
    cursor.0.as_slice().try_into().map(i64::from_be_bytes).map_err(|_| Error::Cursor)
}
