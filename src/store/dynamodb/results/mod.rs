//! The results contract on DynamoDB: a document is one item, or one item and what it names.
//!
//! The *head* is the item under the key of the result. It holds everything known about the entry and, where it fits,
//! the frame; otherwise the frame is cut into part items or is an object in S3, both under the hash of their content
//! and written before the head that names them. So a reader who has a head has the whole document.

mod batch;
mod body;
mod delete;
mod expression;
mod gather;
mod get;
mod head;
mod hosts;
mod insert;
mod key;
mod leases;
mod list;
mod mend;
mod merge;
mod objects;
mod parts;
mod pin;
mod put;
mod requests;
mod scan;
mod stored;
#[cfg(test)]
mod tests;

pub use insert::Inserted;
pub use scan::Scanned;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::TableDescription;
use prometheus::{IntCounter, IntCounterVec};
use tokio_util::task::TaskTracker;

use self::body::Upkeep;
use self::gather::Gather;
use self::head::Form;
use self::objects::Objects;
use self::stored::Met;
use super::failure::{Failure, Kind};
use super::{Aws, BACKEND, Bucket};
use crate::clock::Clock;
use crate::config::{Config, ResultsLayout};
use crate::domain::{Key, Meta, Version};
use crate::metrics::Metrics;
use crate::store::{
    Condition, DeleteOutcome, Error, GetOptions, Health, Hit, ListQuery, Look, Page, Placed, Put, PutOutcome,
    Result, ResultStore, Seen, Status, Versioning,
};

/// How long DynamoDB's own count of items and bytes is taken as it is: it renews it every six hours.
const ESTIMATE_LIFE: Duration = Duration::from_mins(1);

/// A key that no result can have: a result's key with a space in it has two.
const NOBODY: &str = "status probe";

/// Results in a table of DynamoDB. Clones share everything.
#[derive(Clone)]
pub struct DynamodbResults(Arc<Inner>);

struct Inner {
    aws: Aws,
    table: String,
    clock: Clock,
    /// Whether every read is consistent.
    consistent: bool,
    layout: ResultsLayout,
    max_item_bytes: usize,
    /// Parts of one body that are written at once.
    writes_at_once: usize,
    /// How long a tombstone stays: longer than anything that it may have to stop.
    tombstone_seconds: u64,
    form: Form,
    upkeep: Upkeep,
    /// Where frames go that no item holds; parts, where there is none.
    objects: Option<Objects>,
    gather: Option<Gather>,
    /// Shared reads outlive the reader who began them, or a client that hangs up would fail the others.
    reads: TaskTracker,
    estimate: Mutex<Option<Estimate>>,
    packed_instead: IntCounterVec,
    unprocessed: IntCounter,
    /// Whether many entries cannot be inserted at once here.
    refuses_inserts: AtomicBool,
}

/// What DynamoDB says of the table's size.
#[derive(Clone, Copy)]
struct Estimate {
    at: Instant,
    entries: u64,
    bytes: u64,
}

impl DynamodbResults {
    /// The results in the configured table. Nothing is asked of it yet.
    pub fn new(aws: Aws, config: &Config, clock: &Clock, metrics: &Metrics) -> Self {
        let (settings, results) = (&config.dynamodb, &config.results);
        let longest_life = results.max_ttl_seconds.saturating_add(results.keep_stale_seconds);
        Self(Arc::new(Inner {
            table: settings.results_table(),
            clock: clock.clone(),
            consistent: settings.consistent_reads,
            layout: settings.results_layout,
            max_item_bytes: settings.max_item_bytes,
            writes_at_once: settings.batch_size,
            tombstone_seconds: longest_life,
            form: Form {
                keep_stale_seconds: results.keep_stale_seconds,
                time_index: settings.time_index,
                host_index: settings.host_index,
            },
            upkeep: Upkeep::new(clock),
            objects: Bucket::of(&aws, config, metrics)
                .map(|bucket| Objects::new(&aws, bucket, &config.s3, clock)),
            gather: (settings.batch_window_micros > 0).then(|| Gather::new(settings.batch_window())),
            reads: TaskTracker::new(),
            estimate: Mutex::new(None),
            packed_instead: metrics.dynamodb_packed.clone(),
            unprocessed: metrics.dynamodb_unprocessed.with_label_values(&["results"]),
            refuses_inserts: AtomicBool::new(false),
            aws,
        }))
    }

    /// The bucket for large bodies, where there is one.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.0.objects.as_ref().map(Objects::backend)
    }
}

impl Inner {
    /// Whether a read has to be consistent.
    fn consistent(&self, options: GetOptions) -> bool {
        self.consistent || options.consistent
    }

    /// A version above a newer one that a write has met; later ones of this process will be, too. Not so above the time
    /// that another program says: that is no version of any clock here.
    fn version_above(&self, newer: Version, met: &Met) -> Version {
        if met.has_own_version() {
            self.clock.observe(newer);
        }
        self.clock.version_above(newer)
    }

    /// A failure, with what helps against it.
    fn error(&self, failure: Failure) -> Error {
        if failure.kind != Kind::MissingTable {
            return failure.into();
        }
        let detail = format!("{} ({}); `crawlcache tables create` makes it", self.table, failure.detail);
        Error::MissingTable { backend: BACKEND, detail }
    }

    async fn status(&self) -> Result<Status> {
        self.get_item(NOBODY, false).await?;
        let Estimate { entries, bytes, .. } = self.estimate().await?;
        Ok(Status {
            backend: BACKEND,
            health: Health::Healthy,
            entries,
            stored_bytes: None,
            raw_bytes: None,
            sessions: 0,
            size_bytes: bytes,
            limit_bytes: None,
        })
    }

    async fn estimate(&self) -> Result<Estimate> {
        let kept = *self.estimate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(estimate) = kept.filter(|estimate| estimate.at.elapsed() < ESTIMATE_LIFE) {
            return Ok(estimate);
        }
        let request = self.aws.dynamodb().describe_table().table_name(&self.table).send();
        let described = self.aws.call(request).await.map_err(|failure| self.error(failure))?;
        let number = |of: fn(&TableDescription) -> Option<i64>| {
            described.table().and_then(of).and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
        };
        let estimate = Estimate {
            at: Instant::now(),
            entries: number(TableDescription::item_count),
            bytes: number(TableDescription::table_size_bytes),
        };
        *self.estimate.lock().unwrap_or_else(PoisonError::into_inner) = Some(estimate);
        Ok(estimate)
    }
}

#[async_trait]
impl ResultStore for DynamodbResults {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        Ok(self.look(key, options).await?.entry())
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        Ok(self.look_metas(keys).await?.into_iter().map(Look::entry).collect())
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        get::look(&self.0, key, options).await
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        self.0.look_metas(keys).await
    }

    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        self.0.survey(keys).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        self.0.put(put, Versioning::Fixed).await.map(|placed| placed.outcome)
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.0.put(put, Versioning::Newest).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        let deleted = self.0.delete(key, version, &condition, Versioning::Fixed).await;
        deleted.map(|placed| placed.outcome)
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.0.delete(key, version, &condition, Versioning::Newest).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.0.list(query).await
    }

    async fn status(&self) -> Result<Status> {
        self.0.status().await
    }

    fn finds_variants(&self) -> bool {
        // Sixteen queries, each through all that was ever stored.
        false
    }
}

impl fmt::Display for DynamodbResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb {} at {}", self.0.table, self.0.aws.place())
    }
}

impl fmt::Debug for DynamodbResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
