//! What the service says about the table, asked once for its layout and now and then for its size.

use std::sync::{Arc, PoisonError, RwLock};

use super::super::BACKEND;
use super::DynamodbSessions;
use super::layout::Schema;
use crate::domain::Timestamp;
use crate::store::{Error, Health, Result, Status};

/// How long a description answers questions about what changes: the size, and indexes that may have been added.
const RECENT_SECONDS: u64 = 60;

/// A key that no session has.
const NO_SESSION: &str = " ";

/// The last description. A failure is not kept: the table may be made meanwhile.
#[derive(Debug, Default)]
pub(super) struct Described {
    last: RwLock<Option<(Timestamp, Arc<Schema>)>>,
}

impl Described {
    fn last(&self) -> Option<(Timestamp, Arc<Schema>)> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, description: Option<(Timestamp, Arc<Schema>)>) {
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = description;
    }

    /// What was said no longer holds: the table is another one.
    pub(super) fn forget(&self) {
        self.keep(None);
    }
}

impl DynamodbSessions {
    /// The table's layout and indexes as they were found first.
    pub(super) async fn schema(&self) -> Result<Arc<Schema>> {
        self.described(|_| true).await
    }

    /// What the service said a minute ago or later.
    pub(super) async fn recent_schema(&self) -> Result<Arc<Schema>> {
        let now = self.0.clock.now();
        self.described(|at| at.plus_secs(RECENT_SECONDS) > now && at <= now).await
    }

    async fn described(&self, is_good: impl Fn(Timestamp) -> bool + Send) -> Result<Arc<Schema>> {
        let described = &self.0.described;
        let good = || described.last().filter(|(at, _)| is_good(*at)).map(|(_, schema)| schema);
        if let Some(schema) = good() {
            return Ok(schema);
        }
        let request = self.0.aws.dynamodb().describe_table().table_name(&self.0.table);
        let answer = self.0.aws.call(request.send()).await.map_err(|failure| self.failed(failure))?;
        let Some(table) = answer.table() else {
            let detail = format!("nothing was said about the table {}", self.0.table);
            return Err(Error::Backend { backend: BACKEND, detail });
        };
        let schema = Arc::new(Schema::of(&self.0.table, table)?);
        described.keep(Some((self.0.clock.now(), Arc::clone(&schema))));
        Ok(schema)
    }

    /// Whether the table answers, and how many sessions it is said to hold.
    pub(super) async fn current_status(&self) -> Result<Status> {
        let schema = self.recent_schema().await?;
        self.item(schema.layout, NO_SESSION).await?;
        Ok(Status {
            backend: BACKEND,
            health: Health::Healthy,
            entries: 0,
            stored_bytes: None,
            raw_bytes: None,
            sessions: schema.items,
            size_bytes: schema.bytes,
            limit_bytes: None,
        })
    }
}
