//! What requests cost: capacity units by table and operation, and retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_dynamodb::types::ConsumedCapacity;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use prometheus::{Counter, CounterVec, IntCounter};

use crate::metrics::Metrics;

/// Which of the two tables; its name is the operator's, and no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// That of results.
    Results,
    /// That of sessions.
    Sessions,
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Results, Self::Sessions];

    /// Its word: `results` or `sessions`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Sessions => "sessions",
        }
    }
}

/// An operation of DynamoDB that consumes capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// `GetItem`.
    Get,
    /// `BatchGetItem`.
    BatchGet,
    /// `Query`.
    Query,
    /// `Scan`, for tools only.
    Scan,
    /// `PutItem`.
    Put,
    /// `UpdateItem`.
    Update,
    /// `DeleteItem`.
    Delete,
    /// `BatchExecuteStatement` of insertions.
    Insert,
    /// `BatchWriteItem`.
    BatchWrite,
}

impl Operation {
    const ALL: [Self; 9] = [
        Self::Get,
        Self::BatchGet,
        Self::Query,
        Self::Scan,
        Self::Put,
        Self::Update,
        Self::Delete,
        Self::Insert,
        Self::BatchWrite,
    ];

    /// Its word, and the unit that it consumes.
    const fn label(self) -> (&'static str, &'static str) {
        match self {
            Self::Get => ("get_item", "read"),
            Self::BatchGet => ("batch_get_item", "read"),
            Self::Query => ("query", "read"),
            Self::Scan => ("scan", "read"),
            Self::Put => ("put_item", "write"),
            Self::Update => ("update_item", "write"),
            Self::Delete => ("delete_item", "write"),
            Self::Insert => ("batch_execute_statement", "write"),
            Self::BatchWrite => ("batch_write_item", "write"),
        }
    }
}

/// The counters of consumed capacity.
pub(super) struct Capacity(Vec<Counter>);

impl Capacity {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let units: &CounterVec = &metrics.dynamodb_capacity;
        let counter = |table: Table, operation: Operation| {
            let (word, unit) = operation.label();
            units.with_label_values(&[table.as_str(), word, unit])
        };
        let of = |table| Operation::ALL.map(|operation| counter(table, operation));
        Self(Table::ALL.into_iter().flat_map(of).collect())
    }

    pub(super) fn count<'c>(
        &self,
        table: Table,
        operation: Operation,
        consumed: impl IntoIterator<Item = &'c ConsumedCapacity>,
    ) {
        let units: f64 = consumed.into_iter().filter_map(|consumed| consumed.capacity_units).sum();
        self.0[table as usize * Operation::ALL.len() + operation as usize].inc_by(units.max(0.0));
        // Most requests are on nobody's bill.
        let _ = BILL.try_with(|bill| bill.add(operation.label().1, units));
    }
}

tokio::task_local! {
    /// Whose requests these are.
    static BILL: Arc<Bill>;
}

/// What one piece of work has consumed, in capacity units: what [`Bill::charge`] was given to do.
#[derive(Debug, Default)]
pub struct Bill {
    /// In thousandths, as the other.
    read: AtomicU64,
    write: AtomicU64,
}

impl Bill {
    /// Does some work, whose requests go on this bill. Not those of tasks that it starts.
    pub async fn charge<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        BILL.scope(Arc::clone(self), work).await
    }

    /// Read units.
    pub fn read_units(&self) -> f64 {
        units_of(&self.read)
    }

    /// Write units.
    pub fn write_units(&self) -> f64 {
        units_of(&self.write)
    }

    /// Adds what is on another bill.
    pub fn absorb(&self, other: &Self) {
        self.read.fetch_add(other.read.load(Ordering::Relaxed), Ordering::Relaxed);
        self.write.fetch_add(other.write.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn add(&self, unit: &str, units: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small number, not negative"
        )]
        let thousandths = (units.max(0.0) * 1000.0).round() as u64;
        let sum = if unit == "read" { &self.read } else { &self.write };
        sum.fetch_add(thousandths, Ordering::Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn units_of(thousandths: &AtomicU64) -> f64 {
    thousandths.load(Ordering::Relaxed) as f64 / 1000.0
}

/// Whether an earlier try of a request may have happened although its answer was lost. One that was refused, as a
/// throttled one is, has not.
#[derive(Clone, Debug, Default)]
pub(super) struct Retried(Arc<Tries>);

#[derive(Debug, Default)]
struct Tries {
    /// What became of the last try cannot be known.
    is_unknown: AtomicBool,
    /// The same of one before the last.
    was_unknown: AtomicBool,
}

impl Retried {
    pub(super) fn is_set(&self) -> bool {
        self.0.was_unknown.load(Ordering::Relaxed)
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Retried {
    fn name(&self) -> &'static str {
        "Retried"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if is_further(bag) && self.0.is_unknown.load(Ordering::Relaxed) {
            self.0.was_unknown.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_refused = context.response().is_some_and(|response| response.status().is_client_error());
        self.0.is_unknown.store(!is_refused, Ordering::Relaxed);
        Ok(())
    }
}

fn is_further(bag: &ConfigBag) -> bool {
    bag.load::<RequestAttempts>().is_some_and(|attempts| attempts.attempts() > 1)
}

/// Counts the tries of a request after the first.
#[derive(Debug)]
pub(super) struct CountRetries(IntCounter);

impl CountRetries {
    pub(super) fn new(metrics: &Metrics, service: &str) -> Self {
        Self(metrics.aws_retries.with_label_values(&[service]))
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for CountRetries {
    fn name(&self) -> &'static str {
        "CountRetries"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if is_further(bag) {
            self.0.inc();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_charged_is_on_the_bill() {
        let capacity = Capacity::new(&Metrics::new());
        let consumed = |units| ConsumedCapacity::builder().capacity_units(units).build();
        let bill = Arc::new(Bill::default());
        bill.charge(async {
            capacity.count(Table::Results, Operation::Insert, &[consumed(7.0)]);
            capacity.count(Table::Sessions, Operation::Get, &[consumed(0.5)]);
        })
        .await;
        capacity.count(Table::Results, Operation::Put, &[consumed(9.0)]);
        assert!(
            (bill.write_units() - 7.0).abs() < 1e-9 && (bill.read_units() - 0.5).abs() < 1e-9,
            "{bill:?}"
        );
    }

    #[test]
    fn each_pair_has_its_counter() {
        let metrics = Metrics::new();
        let capacity = Capacity::new(&metrics);
        let consumed = |units| ConsumedCapacity::builder().capacity_units(units).build();
        capacity.count(Table::Sessions, Operation::Update, &[consumed(1.5), consumed(2.0)]);
        capacity.count(Table::Results, Operation::Get, &[consumed(0.5)]);
        let text = metrics.render().expect("renders");
        for line in [
            r#"crawlcache_dynamodb_capacity_units_total{operation="update_item",table="sessions",unit="write"} 3.5"#,
            r#"crawlcache_dynamodb_capacity_units_total{operation="get_item",table="results",unit="read"} 0.5"#,
            r#"crawlcache_dynamodb_capacity_units_total{operation="query",table="results",unit="read"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
