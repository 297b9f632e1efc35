//! The sessions contract on `DynamoDB`: tables of our own, those of Crawl4AI's tool server, and Wallcrawler's.
//!
//! The layout is found from the table's keys at first use. Items are plain attributes that other programs read and
//! write, too, so every write to an existing item is an update of exactly what differs from the item that was read:
//! one consistent read and one conditional write. A write without the read would save half a unit, but it could not
//! know which unknown attributes it must remove and which it must leave alone.
//!
//! Reads are always consistent, whatever `dynamodb.consistent_reads` says about results: a change is computed from
//! what was read, and most sessions take one unit. Listings find their sessions in indexes, which are a moment behind,
//! and there is no scan.
//!
//! In our own layout credentials are sealed where a key is configured. In Wallcrawler's tables they stay readable:
//! its own programs hand them to browsers and clients.

mod batch;
mod change;
mod cursor;
mod describe;
mod events;
mod field;
mod layout;
mod list;
mod order;
mod partition;
mod scan;
mod status;
mod stored;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod value;

pub use scan::ScannedSession;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use prometheus::IntCounter;

use self::change::Expressions;
use self::describe::Described;
use self::layout::{Layout, SEALED, Schema};
use self::stored::Stored;
use self::target::{Wanted, target};
use super::capacity::{Operation, Retried, Table};
use super::failure::{Failure, Kind};
use super::item::{Item, read_text, text};
use super::{Aws, BACKEND};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::Namespace;
use crate::domain::session::{Session, SessionId, SessionRecord, take_secrets};
use crate::metrics::Metrics;
use crate::store::seal::{SealError, Sealer, Standing};
use crate::store::{
    Error, Found, PutSession, Resealed, Result, SessionCondition, SessionCursor, SessionDeleteOutcome,
    SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Status,
};

/// How often a write is tried again when somebody else was faster and its condition may still hold.
const ATTEMPTS: usize = 16;

/// Sessions in a table of `DynamoDB`. Clones share everything.
#[derive(Clone)]
pub struct DynamodbSessions(Arc<Inner>);

struct Inner {
    aws: Aws,
    table: String,
    max_item_bytes: usize,
    clock: Clock,
    sealer: Sealer,
    unprocessed: IntCounter,
    described: Described,
}

impl fmt::Display for DynamodbSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BACKEND} {} at {}", self.0.table, self.0.aws.place())
    }
}

impl fmt::Debug for DynamodbSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamodbSessions")
            .field("table", &self.0.table)
            .field("aws", &self.0.aws)
            .finish_non_exhaustive()
    }
}

impl DynamodbSessions {
    /// The sessions of the configured table. Nothing is asked of the service yet.
    pub fn new(aws: Aws, config: &Config, clock: &Clock, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            aws,
            table: config.dynamodb.sessions_table(),
            max_item_bytes: config.dynamodb.max_item_bytes,
            clock: clock.clone(),
            sealer: Sealer::new(&config.sessions.keys()),
            unprocessed: metrics.dynamodb_unprocessed.with_label_values(&["sessions"]),
            described: Described::default(),
        }))
    }

    /// What went wrong, and what helps.
    fn failed(&self, failure: Failure) -> Error {
        let table = &self.0.table;
        match failure.kind {
            Kind::MissingTable => {
                self.0.described.forget();
                let detail = format!("{table} does not exist; `crawlcache tables create` makes it");
                Error::MissingTable { backend: BACKEND, detail }
            }
            Kind::WrongSchema => {
                self.0.described.forget();
                failure.into()
            }
            Kind::AccessDenied => {
                Error::AccessDenied { backend: BACKEND, detail: format!("{table}: {}", failure.detail) }
            }
            _ => failure.into(),
        }
    }

    /// The key of a session's item.
    fn key(layout: Layout, namespace: &Namespace, id: &SessionId) -> Result<String> {
        match layout {
            Layout::Own => Ok(order::item_key(namespace, id)),
            Layout::Wallcrawler(_) if *namespace == Namespace::default() => Ok(id.to_string()),
            Layout::Wallcrawler(_) => Err(Error::Unsupported {
                backend: BACKEND,
                detail:
                    "a table of Wallcrawler's has no namespaces but `default`; use a table of its own, which \
                         `crawlcache tables create` makes"
                        .to_owned(),
            }),
        }
    }

    async fn item(&self, layout: Layout, key: &str) -> Result<Option<Item>> {
        let request = self
            .0
            .aws
            .dynamodb()
            .get_item()
            .table_name(&self.0.table)
            .key(layout.names().id, text(key))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.0.aws.call(request.send()).await.map_err(|failure| self.failed(failure))?;
        self.0.aws.count(Table::Sessions, Operation::Get, answer.consumed_capacity());
        Ok(answer.item)
    }

    /// The record of an item, its credentials opened.
    fn record(
        &self,
        layout: Layout,
        namespace: &Namespace,
        id: &SessionId,
        item: Item,
    ) -> Result<SessionRecord> {
        let Stored { mut record, item, .. } = Stored::read(layout, id, item)?;
        if let Some(sealed) = sealed_part(layout, &item) {
            self.0.sealer.open(namespace, &mut record.session, sealed).map_err(unreadable)?;
        }
        Ok(record)
    }

    /// The session as it is written, and its credentials as they are sealed.
    fn seal(
        &self,
        layout: Layout,
        put: &PutSession,
        old: Option<&Stored>,
    ) -> Result<(Session, Option<String>)> {
        let session = &put.record.session;
        if layout != Layout::Own {
            return Ok((session.clone(), None));
        }
        let before = old.and_then(|old| Some((old, sealed_part(layout, &old.item)?)));
        if self.0.sealer.is_without_key() {
            // What is sealed was not read, and must not get lost. An item made at another time is another session.
            let kept = before.filter(|(old, _)| old.record.session.created_at == session.created_at);
            return Ok((session.clone(), kept.map(|(_, sealed)| sealed.to_owned())));
        }
        let (public, fresh) = self.0.sealer.seal(&put.namespace, session).map_err(unreadable)?;
        // The same credentials stay as they are sealed. What cannot be opened is replaced, as everything else is.
        let same = before.filter(|(old, sealed)| {
            let mut opened = old.record.session.clone();
            // What is readable beside it was written without a key, and is to be sealed now; so is what an older key
            // has sealed.
            let is_current = self.0.sealer.standing(Some(sealed), &opened) == Standing::Current;
            let is_open = self.0.sealer.open(&put.namespace, &mut opened, sealed).is_ok();
            is_current && is_open && take_secrets(&mut opened) == take_secrets(&mut session.clone())
        });
        let sealed = match same {
            Some((_, sealed)) if fresh.is_some() => Some(sealed.to_owned()),
            _ => fresh,
        };
        Ok((public.into_owned(), sealed))
    }

    /// Puts over what is there now; `None` if somebody else was faster.
    async fn try_put(
        &self,
        schema: &Schema,
        key: &str,
        put: &PutSession,
    ) -> Result<Option<SessionPutOutcome>> {
        let (layout, id) = (schema.layout, &put.record.session.id);
        let old = match self.item(layout, key).await? {
            Some(item) => Some(Stored::read(layout, id, item)?),
            None => None,
        };
        let stored = old.as_ref().map(|old| (old.record.session.version, old.record.session.expires_at));
        if !put.condition.holds(stored) {
            return Ok(Some(SessionPutOutcome::ConditionFailed));
        }
        let (session, sealed) = self.seal(layout, put, old.as_ref())?;
        let wanted = Wanted {
            namespace: &put.namespace,
            session: &session,
            events: &put.record.events,
            sealed,
            limit: self.0.max_item_bytes,
        };
        let target = target(schema, key, &wanted, old.as_ref())?;
        let retried = Retried::default();
        let written = match &old {
            Some(old) => self.update(layout, key, &old.item, &target, retried.clone()).await,
            None => self.insert(layout, target, retried.clone()).await,
        };
        match written {
            Ok(()) if old.is_some() => Ok(Some(SessionPutOutcome::Replaced)),
            Ok(()) => Ok(Some(SessionPutOutcome::Created)),
            // The answer to a try that happened may be lost; the next one then meets what the first has written.
            Err(failure)
                if failure.is_condition()
                    && retried.is_set()
                    && self.holds(layout, key, &put.record).await? =>
            {
                Ok(Some(if old.is_some() { SessionPutOutcome::Replaced } else { SessionPutOutcome::Created }))
            }
            Err(failure) if failure.is_condition() => Ok(None),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// Whether this very record is what is stored.
    async fn holds(&self, layout: Layout, key: &str, record: &SessionRecord) -> Result<bool> {
        let id = &record.session.id;
        let stored = self.item(layout, key).await?.map(|item| Stored::read(layout, id, item)).transpose()?;
        Ok(stored.is_some_and(|stored| {
            let stored = &stored.record;
            stored.session.version == record.session.version && stored.events == record.events
        }))
    }

    async fn update(
        &self,
        layout: Layout,
        key: &str,
        old: &Item,
        target: &Item,
        retried: Retried,
    ) -> std::result::Result<(), Failure> {
        let Expressions { update, condition, names, values } = Expressions::change(layout, old, target);
        if update.is_empty() {
            return Ok(());
        }
        let request = self
            .0
            .aws
            .dynamodb()
            .update_item()
            .table_name(&self.0.table)
            .key(layout.names().id, text(key))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values((!values.is_empty()).then_some(values))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.0.aws.call(request.customize().interceptor(retried).send()).await?;
        self.0.aws.count(Table::Sessions, Operation::Update, answer.consumed_capacity());
        Ok(())
    }

    /// Only where there is nothing: an item of others is never replaced whole.
    async fn insert(&self, layout: Layout, item: Item, retried: Retried) -> std::result::Result<(), Failure> {
        let request = self
            .0
            .aws
            .dynamodb()
            .put_item()
            .table_name(&self.0.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#id)")
            .expression_attribute_names("#id", layout.names().id)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.0.aws.call(request.customize().interceptor(retried).send()).await?;
        self.0.aws.count(Table::Sessions, Operation::Put, answer.consumed_capacity());
        Ok(())
    }

    async fn remove(
        &self,
        layout: Layout,
        key: &str,
        condition: Expressions,
    ) -> std::result::Result<(), Failure> {
        let Expressions { condition, names, values, .. } = condition;
        let request = self
            .0
            .aws
            .dynamodb()
            .delete_item()
            .table_name(&self.0.table)
            .key(layout.names().id, text(key))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values((!values.is_empty()).then_some(values))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.0.aws.call(request.send()).await?;
        self.0.aws.count(Table::Sessions, Operation::Delete, answer.consumed_capacity());
        Ok(())
    }

    /// Deletes what is there now; `None` if somebody else was faster.
    async fn try_delete(
        &self,
        layout: Layout,
        (key, id): (&str, &SessionId),
        condition: SessionCondition,
    ) -> Result<Option<SessionDeleteOutcome>> {
        let unchanged = if condition == SessionCondition::Any {
            Expressions::exists(layout)
        } else {
            let Some(item) = self.item(layout, key).await? else {
                return Ok(Some(SessionDeleteOutcome::Absent));
            };
            let stored = Stored::read(layout, id, item)?;
            let session = &stored.record.session;
            if !condition.holds(Some((session.version, session.expires_at))) {
                return Ok(Some(SessionDeleteOutcome::ConditionFailed));
            }
            Expressions::unchanged(layout, &stored.item)
        };
        match self.remove(layout, key, unchanged).await {
            Ok(()) => Ok(Some(SessionDeleteOutcome::Deleted)),
            Err(failure) if !failure.is_condition() => Err(self.failed(failure)),
            Err(_) if condition == SessionCondition::Any => Ok(Some(SessionDeleteOutcome::Absent)),
            Err(_) => Ok(None),
        }
    }
}

/// The sealed credentials of an item.
fn sealed_part(layout: Layout, item: &Item) -> Option<&str> {
    (layout == Layout::Own).then(|| read_text(item, SEALED)).flatten()
}

fn unreadable(error: SealError) -> Error {
    error.into_error(BACKEND)
}

/// Others changed the session each time.
fn contended(id: &SessionId) -> Error {
    Error::Overloaded { backend: BACKEND, detail: format!("session {id} is changed by others all the time") }
}

#[async_trait]
impl SessionStore for DynamodbSessions {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        let layout = self.schema().await?.layout;
        let key = Self::key(layout, namespace, id)?;
        match self.item(layout, &key).await? {
            Some(item) => self.record(layout, namespace, id, item).map(Some),
            None => Ok(None),
        }
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        let layout = self.schema().await?.layout;
        let keys: Vec<String> =
            ids.iter().map(|id| Self::key(layout, namespace, id)).collect::<Result<_>>()?;
        let items = self.items(layout, keys.clone()).await?;
        // One that cannot be read must not hide the others.
        let record = |(id, key): (&SessionId, &String)| match items.get(key) {
            Some(item) => self.record(layout, namespace, id, item.clone()).map(Some),
            None => Ok(None),
        };
        Ok(ids.iter().zip(&keys).map(record).collect())
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        let schema = self.schema().await?;
        let id = &put.record.session.id;
        let key = Self::key(schema.layout, &put.namespace, id)?;
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.try_put(&schema, &key, &put).await? {
                return Ok(outcome);
            }
            if let SessionCondition::Version(_) = put.condition {
                // Whatever it is now, it is not that version any more.
                return Ok(SessionPutOutcome::ConditionFailed);
            }
        }
        Err(contended(id))
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        let layout = self.schema().await?.layout;
        let key = Self::key(layout, namespace, id)?;
        for _ in 0..ATTEMPTS {
            if let Some(outcome) = self.try_delete(layout, (&key, id), condition).await? {
                return Ok(outcome);
            }
        }
        Err(contended(id))
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        self.page(query).await
    }

    async fn reseal(&self, after: Option<&SessionCursor>, limit: usize, dry_run: bool) -> Result<Resealed> {
        self.reseal_page(after, limit, dry_run).await
    }

    async fn status(&self) -> Result<Status> {
        self.current_status().await
    }
}
