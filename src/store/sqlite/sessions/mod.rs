//! The sessions contract on SQLite.

mod write;

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params_from_iter};

use super::SqliteStore;
use super::error::{corrupt, from_sqlite};
use super::ledger::{Fenced, Terms};
use super::rows::{blob, one, signed, unsigned};
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::seal::{SealError, Sealer};
use crate::store::{
    Error, PutSession, Result, SessionCondition, SessionCursor, SessionDeleteOutcome, SessionFilter,
    SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Status,
};
pub(super) use write::{DeleteSession, Stored};

#[async_trait]
impl SessionStore for SqliteStore {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        let (namespace, id, sealer) = (namespace.clone(), id.clone(), Arc::clone(&self.0.sealer));
        self.read(move |connection| get(connection, &sealer, &namespace, &id)).await
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Option<SessionRecord>>> {
        let (namespace, ids, sealer) = (namespace.clone(), ids.to_vec(), Arc::clone(&self.0.sealer));
        self.read(move |connection| ids.iter().map(|id| get(connection, &sealer, &namespace, id)).collect())
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
        let delete = DeleteSession { namespace: namespace.clone(), id: id.clone(), condition, version: None };
        self.delete_session_on(delete, Terms::plain(self)).await.map(Fenced::unbound)
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        let (query, sealer) = (query.clone(), Arc::clone(&self.0.sealer));
        self.read(move |connection| list(connection, &sealer, &query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.current_status().await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
pub(super) fn unreadable(error: SealError) -> Error {
    corrupt(error.to_string())
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
        let body = blob(row, 0).map_err(|error| from_sqlite(&error))?;
        sealer.read(namespace, body).map_err(unreadable)
    })
}

fn list(connection: &Connection, sealer: &Sealer, query: &SessionQuery) -> Result<SessionPage> {
    let (sql, parameters) = list_sql(query)?;
    let read = |error: rusqlite::Error| from_sqlite(&error);
    let mut statement = connection.prepare_cached(&sql).map_err(read)?;
    let mut rows = statement.query(params_from_iter(parameters)).map_err(read)?;
    let mut page = SessionPage::default();
    while let Some(row) = rows.next().map_err(read)? {
        if page.items.len() == query.limit {
            page.next = page.places.last().cloned();
            break;
        }
        let position: (u64, i64) = (unsigned(row, 1).map_err(read)?, row.get(2).map_err(read)?);
        page.places.push(SessionCursor([position.0.to_be_bytes(), position.1.to_be_bytes()].concat()));
        let body = blob(row, 0).map_err(read)?;
        page.items.push(sealer.read(&query.namespace, body).map_err(unreadable)?);
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
    let mut sql = format!("select body, {by}, row from sessions where namespace = ?1");
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
