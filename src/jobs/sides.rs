//! Both sides of a deployment, as long work sees them: past the router, each for itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::{Entry, KeyId, Timestamp};
use crate::metrics::Metrics;
use crate::store::dynamodb::{DynamodbResults, DynamodbSessions};
use crate::store::sqlite::SqliteStore;
use crate::store::{Condition, Put};

/// Learns which results have changed without a write through the router.
type OnChanged = Arc<dyn Fn(&[KeyId]) + Send + Sync>;

/// How long a side that does not answer is asked again.
const PATIENCE: Duration = Duration::from_mins(1);

/// SQLite, DynamoDB, and what work on both needs. Clones share it.
#[derive(Clone)]
pub struct Sides {
    /// The embedded database.
    pub database: SqliteStore,
    /// The results in DynamoDB.
    pub results: DynamodbResults,
    /// The sessions in DynamoDB.
    pub sessions: DynamodbSessions,
    /// The time.
    pub clock: Clock,
    /// Progress is shown here.
    pub metrics: Metrics,
    /// How long expired results are kept, in seconds.
    pub keep_stale_seconds: u64,
    /// How long a side that does not answer is asked again before the work fails.
    pub patience: Duration,
    /// Whether no service has them: then nobody in this process writes beside the work.
    pub alone: bool,
    changed: Option<OnChanged>,
}

impl Sides {
    /// Puts both sides together.
    pub fn new(
        database: SqliteStore,
        results: DynamodbResults,
        sessions: DynamodbSessions,
        clock: Clock,
        metrics: Metrics,
        keep_stale_seconds: u64,
    ) -> Self {
        let (patience, alone, changed) = (PATIENCE, false, None);
        Self { database, results, sessions, clock, metrics, keep_stale_seconds, patience, alone, changed }
    }

    /// The same with a hook that learns which results were changed on either side.
    #[must_use]
    pub fn on_changed(self, hook: impl Fn(&[KeyId]) + Send + Sync + 'static) -> Self {
        Self { changed: Some(Arc::new(hook)), ..self }
    }

    /// Tells that results were changed.
    pub(super) fn changed(&self, ids: &[KeyId]) {
        if let Some(hook) = self.changed.as_ref().filter(|_| !ids.is_empty()) {
            hook(ids);
        }
    }

    /// Whether a result has expired, and is not even kept for those who accept that.
    pub(super) fn is_over(&self, expires_at: Timestamp) -> bool {
        expires_at.plus_secs(self.keep_stale_seconds) < self.clock.now()
    }
}

impl fmt::Debug for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sides")
            .field("database", &self.database)
            .field("results", &self.results)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

/// An entry as it is, with its own version and times.
pub(super) fn whole(entry: Entry) -> Put {
    Put { meta: entry.meta, frame: Some(entry.frame), condition: Condition::Any }
}
