//! The sessions contract on SQLite.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params_from_iter};
use tokio::sync::oneshot;

use super::SqliteStore;
use super::error::{corrupt, from_sqlite};
use super::rows::{blob, one, signed, time, unsigned};
use super::writer::{Operation, Totals};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Namespace, Timestamp, Version};
use crate::store::seal::{SealError, Sealer, sealed_part, with_sealed_part};
use crate::store::{
    Error, PutSession, Result, SessionCondition, SessionCursor, SessionDeleteOutcome, SessionFilter,
    SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Status,
};

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
        let sealer = &self.0.sealer;
        let body = sealer.write(&put.namespace, &put.record).map_err(unreadable)?;
        let keeps_sealed = sealer.is_without_key();
        let outcome = SessionPutOutcome::ConditionFailed;
        self.0.writer.run(|reply| Box::new(PutOperation { put, body, keeps_sealed, outcome, reply })).await
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        let (namespace, id) = (namespace.clone(), id.clone());
        let outcome = SessionDeleteOutcome::Absent;
        self.0
            .writer
            .run(|reply| Box::new(DeleteOperation { namespace, id, condition, outcome, reply }))
            .await
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
fn unreadable(error: SealError) -> Error {
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

/// Row, version and expiry of what a write meets.
fn stored(
    connection: &Connection,
    namespace: &Namespace,
    id: &SessionId,
) -> rusqlite::Result<Option<(i64, (Version, Timestamp))>> {
    let mut statement = connection
        .prepare_cached("select row, version, expires_at from sessions where namespace = ?1 and id = ?2")?;
    let mut rows = statement.query((namespace.as_str(), id.as_str()))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some((row.get(0)?, (Version::from_u64(unsigned(row, 1)?), time(row, 2)?))))
}

struct PutOperation {
    put: PutSession,
    body: Vec<u8>,
    /// Whether there is no key: what is sealed in the row was not read, and must not get lost.
    keeps_sealed: bool,
    outcome: SessionPutOutcome,
    reply: oneshot::Sender<Result<SessionPutOutcome>>,
}

impl PutOperation {
    /// The body, with what is sealed in the row that it replaces. A row made at another time is another session
    /// of the same name.
    fn body_over(&self, connection: &Connection, row: i64) -> rusqlite::Result<Cow<'_, [u8]>> {
        let created_at = signed(self.put.record.session.created_at.as_millis());
        let mut statement =
            connection.prepare_cached("select body from sessions where row = ?1 and created_at = ?2")?;
        let mut rows = statement.query((row, created_at))?;
        let Some(row) = rows.next()? else { return Ok(Cow::Borrowed(&self.body)) };
        Ok(match sealed_part(blob(row, 0)?) {
            Some(sealed) => Cow::Owned(with_sealed_part(&self.body, sealed)),
            None => Cow::Borrowed(&self.body),
        })
    }
}

impl Operation for PutOperation {
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        let session = &self.put.record.session;
        let stored = stored(connection, &self.put.namespace, &session.id)?;
        totals.saw(session.version);
        if !self.put.condition.holds(stored.map(|(_, stored)| stored)) {
            self.outcome = SessionPutOutcome::ConditionFailed;
            return Ok(());
        }
        let sql = if stored.is_some() {
            "update sessions set project_id = ?3, status = ?4, created_at = ?5, expires_at = ?6, version = ?7, body = ?8
             where namespace = ?1 and id = ?2"
        } else {
            "insert into sessions (namespace, id, project_id, status, created_at, expires_at, version, body)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        };
        let body = match stored {
            Some((row, _)) if self.keeps_sealed => self.body_over(connection, row)?,
            _ => Cow::Borrowed(self.body.as_slice()),
        };
        connection.prepare_cached(sql)?.execute((
            self.put.namespace.as_str(),
            session.id.as_str(),
            &session.project_id,
            session.status.as_str(),
            signed(session.created_at.as_millis()),
            signed(session.expires_at.as_millis()),
            signed(session.version.as_u64()),
            &*body,
        ))?;
        totals.sessions += i64::from(stored.is_none());
        self.outcome =
            if stored.is_some() { SessionPutOutcome::Replaced } else { SessionPutOutcome::Created };
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let _ = self.reply.send(committed.map(|()| self.outcome));
    }

    fn weight(&self) -> usize {
        self.body.len()
    }
}

struct DeleteOperation {
    namespace: Namespace,
    id: SessionId,
    condition: SessionCondition,
    outcome: SessionDeleteOutcome,
    reply: oneshot::Sender<Result<SessionDeleteOutcome>>,
}

impl Operation for DeleteOperation {
    fn run(&mut self, connection: &Connection, totals: &mut Totals) -> rusqlite::Result<()> {
        self.outcome = match stored(connection, &self.namespace, &self.id)? {
            None => SessionDeleteOutcome::Absent,
            Some((_, stored)) if !self.condition.holds(Some(stored)) => SessionDeleteOutcome::ConditionFailed,
            Some((row, _)) => {
                connection.prepare_cached("delete from sessions where row = ?1")?.execute([row])?;
                totals.sessions -= 1;
                SessionDeleteOutcome::Deleted
            }
        };
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let _ = self.reply.send(committed.map(|()| self.outcome));
    }
}

fn list(connection: &Connection, sealer: &Sealer, query: &SessionQuery) -> Result<SessionPage> {
    let (sql, parameters) = list_sql(query)?;
    let read = |error: rusqlite::Error| from_sqlite(&error);
    let mut statement = connection.prepare_cached(&sql).map_err(read)?;
    let mut rows = statement.query(params_from_iter(parameters)).map_err(read)?;
    let mut page = SessionPage::default();
    let mut last = (0_u64, 0_i64);
    while let Some(row) = rows.next().map_err(read)? {
        if page.items.len() == query.limit {
            let mut cursor = last.0.to_be_bytes().to_vec();
            cursor.extend_from_slice(&last.1.to_be_bytes());
            page.next = Some(SessionCursor(cursor));
            break;
        }
        last = (unsigned(row, 1).map_err(read)?, row.get(2).map_err(read)?);
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
