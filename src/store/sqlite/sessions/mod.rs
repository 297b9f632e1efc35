//! The sessions contract on SQLite.

mod reseal;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params_from_iter};

use super::error::{corrupt, from_sqlite};
use super::ledger::{Fenced, Terms};
use super::rows::{blob, one, signed, unsigned};
use super::{BACKEND, SqliteStore};
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::seal::{SealError, Sealer};
use crate::store::{
    Error, Found, PutSession, Resealed, Result, SessionCondition, SessionCursor, SessionDeleteOutcome,
    SessionFilter, SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Status, Unreadable,
};
pub(super) use write::{DeleteSession, Stored};

#[async_trait]
impl SessionStore for SqliteStore {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        let (namespace, id, sealer) = (namespace.clone(), id.clone(), Arc::clone(&self.0.sealer));
        self.read(move |connection| get(connection, &sealer, &namespace, &id)).await
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        let (namespace, ids, sealer) = (namespace.clone(), ids.to_vec(), Arc::clone(&self.0.sealer));
        self.read(move |connection| {
            let found = |id: &SessionId| match get(connection, &sealer, &namespace, id) {
                // One that cannot be read must not hide the others.
                Err(error) if !error.is_of_one() => Err(error),
                found => Ok(found),
            };
            ids.iter().map(found).collect()
        })
        .await
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        self.put_session_on(put, Terms::plain(self)).await.map(Fenced::unbound)
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        // A router that comes back must be told of it, also where the session is on the other side only.
        let version = self.waits_for_router().then(|| self.0.clock.next_version());
        let delete = DeleteSession { namespace: namespace.clone(), id: id.clone(), condition, version };
        self.delete_session_on(delete, Terms::plain(self)).await.map(Fenced::unbound)
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        let (query, sealer) = (query.clone(), Arc::clone(&self.0.sealer));
        self.read(move |connection| list(connection, &sealer, &query)).await
    }

    async fn reseal(&self, after: Option<&SessionCursor>, limit: usize, dry_run: bool) -> Result<Resealed> {
        self.reseal_page(after, limit, dry_run).await
    }

    async fn status(&self) -> Result<Status> {
        self.current_status().await
    }
}

pub(super) fn unreadable(error: SealError) -> Error {
    error.into_error(BACKEND)
}

/// What a body says that is none.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn damaged(error: rusqlite::Error) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(..) => from_sqlite(&error),
        _ => corrupt(format!("the body of a session: {error}")),
    }
}

fn get(
    connection: &Connection,
    sealer: &Sealer,
    namespace: &Namespace,
    id: &SessionId,
) -> Result<Option<SessionRecord>> {
    let mut statement = connection
        .prepare_cached("select body from sessions where namespace = ?1 and id = ?2")
        .map_err(|error| from_sqlite(&error))?;
    one(&mut statement, (namespace.as_str(), id.as_str()), |row| {
        let body = blob(row, 0).map_err(damaged)?;
        sealer.read(namespace, body).map_err(unreadable)
    })
}

fn list(connection: &Connection, sealer: &Sealer, query: &SessionQuery) -> Result<SessionPage> {
    let (sql, parameters) = list_sql(query)?;
    let read = |error: rusqlite::Error| from_sqlite(&error);
    let mut statement = connection.prepare_cached(&sql).map_err(read)?;
    let mut rows = statement.query(params_from_iter(parameters)).map_err(read)?;
    let (mut page, mut last, mut nameless) = (SessionPage::default(), None, 0);
    while let Some(row) = rows.next().map_err(read)? {
        if page.items.len() + page.unreadable.len() + nameless == query.limit {
            page.next = last;
            break;
        }
        let position: (u64, i64) = (unsigned(row, 1).map_err(read)?, row.get(2).map_err(read)?);
        let place = SessionCursor([position.0.to_be_bytes(), position.1.to_be_bytes()].concat());
        last = Some(place.clone());
        let record = blob(row, 0)
            .map_err(damaged)
            .and_then(|body| sealer.read(&query.namespace, body).map_err(unreadable));
        match record {
            Ok(record) => {
                page.items.push(record);
                page.places.push(place);
            }
            // One that cannot be read must not hide the others.
            Err(error) if error.is_of_one() => {
                let id: String = row.get(3).map_err(read)?;
                tracing::error!(id, %error, "a listing left out a session");
                match SessionId::new(&id) {
                    Ok(id) => {
                        let namespace = query.namespace.clone();
                        page.unreadable.push(Unreadable { namespace, id, error });
                    }
                    // Not even its name can be told.
                    Err(_) => nameless += 1,
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

/// Every condition is on an indexed column or cheap beside one: nothing is filtered after the fact.
fn list_sql(query: &SessionQuery) -> Result<(String, Vec<rusqlite::types::Value>)> {
    use std::fmt::Write as _;
    let by = match query.filter {
        SessionFilter::Project { .. } => "created_at",
        SessionFilter::Status { .. } => "expires_at",
    };
    let mut sql = format!("select body, {by}, row, id from sessions where namespace = ?1");
    let mut parameters: Vec<rusqlite::types::Value> = vec![query.namespace.as_str().to_owned().into()];
    let mut add = |condition: &str, value: rusqlite::types::Value| {
        parameters.push(value);
        let _ = write!(sql, " and {condition} ?{}", parameters.len());
    };
    let (from, until, status) = match &query.filter {
        SessionFilter::Project { project_id, created_after, created_before, status, .. } => {
            add("project_id =", project_id.clone().into());
            (created_after, created_before, *status)
        }
        SessionFilter::Status { status, expires_after, expires_before } => {
            (expires_after, expires_before, Some(*status))
        }
    };
    if let Some(status) = status {
        add("status =", status.as_str().to_owned().into());
    }
    if let Some(from) = from {
        add(&format!("{by} >="), signed(from.as_millis()).into());
    }
    if let Some(until) = until {
        add(&format!("{by} <"), signed(until.as_millis()).into());
    }
    if let Some(now) = query.live_at {
        add("expires_at >", signed(now.as_millis()).into());
    }
    let (compare, direction) = if query.descends() { ("<", "desc") } else { (">", "asc") };
    if let Some(cursor) = &query.after {
        let (time, row) = cursor.0.split_at_checked(8).ok_or(Error::Cursor)?;
        let time = i64::from_be_bytes(time.try_into().map_err(|_| Error::Cursor)?);
        let row = i64::from_be_bytes(row.try_into().map_err(|_| Error::Cursor)?);
        parameters.extend([time.into(), row.into()]);
        let _ = write!(sql, " and ({by}, row) {compare} (?{}, ?{})", parameters.len() - 1, parameters.len());
    }
    let _ =
        write!(sql, " order by {by} {direction}, row {direction} limit {}", query.limit.saturating_add(1));
    Ok((sql, parameters))
}
