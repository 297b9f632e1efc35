//! Inserts many entries at once where nothing is yet: what a migration does most.
//!
//! `BatchWriteItem` knows no conditions and would replace what a live service has just written. An `INSERT` of `PartiQL`
//! is refused where an item is there, costs what a put costs, and 25 of them fit in a request. Where nobody else writes,
//! the former is for whoever knows that nothing is there.

use std::sync::atomic::Ordering;

use aws_sdk_dynamodb::types::{
    BatchStatementErrorCodeEnum as Code, BatchStatementRequest, BatchStatementResponse, ConsumedCapacity,
    PutRequest, ReturnConsumedCapacity, WriteRequest,
};

use super::super::capacity::{Operation, Table};
use super::super::failure::{Failure, Kind};
use super::super::item::Item;
use super::super::pauses::Pauses;
use super::super::plain::size;
use super::body::{BESIDE_FRAME_BYTES, Place};
use super::{DynamodbResults, Inner};
use crate::config::ResultsLayout;
use crate::domain::Entry;
use crate::store::Result;

/// The most entries that one request may have (`BatchExecuteStatement`).
const MOST: usize = 25;

/// What became of one entry of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// There was nothing, and now there is the entry.
    Created,
    /// It was not written: something is there, or it cannot be written in this way. An ordinary put decides.
    Not,
}

impl DynamodbResults {
    /// The most entries that [`DynamodbResults::insert`] takes.
    pub const INSERTS: usize = MOST;

    /// Inserts up to [`DynamodbResults::INSERTS`] entries of distinct keys, as they are, each where nothing is.
    /// Says what became of each, in their order.
    ///
    /// # Errors
    /// When the table cannot be reached: then some may have been written.
    pub async fn insert(&self, entries: &[&Entry]) -> Result<Vec<Inserted>> {
        self.0.insert(entries).await
    }

    /// As [`DynamodbResults::insert`], for whoever knows that none of the keys is there and that nobody else writes: it
    /// replaces what is there all the same. Doing it again after an error does no harm.
    ///
    /// # Errors
    /// As any write.
    pub async fn write_absent(&self, entries: &[&Entry]) -> Result<Vec<Inserted>> {
        self.0.write_absent(entries).await
    }
}

impl Inner {
    async fn insert(&self, entries: &[&Entry]) -> Result<Vec<Inserted>> {
        let mut inserted = vec![Inserted::Not; entries.len()];
        if self.layout == ResultsLayout::Plain || self.refuses_inserts.load(Ordering::Relaxed) {
            return Ok(inserted);
        }
        let (mut tried, mut statements) = (Vec::new(), Vec::new());
        for (place, item) in self.inline_items(entries) {
            tried.push((place, self.cost_of(&item)));
            statements.push(self.statement(item));
        }
        if statements.is_empty() {
            return Ok(inserted);
        }
        let request = self
            .aws
            .dynamodb()
            .batch_execute_statement()
            .set_statements(Some(statements))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = match self.aws.call(Box::pin(request.send())).await {
            Ok(answer) => answer,
            // Not every service that speaks the protocol, and not every policy, knows these requests.
            Err(failure) if matches!(failure.kind, Kind::AccessDenied | Kind::Unknown | Kind::Other) => {
                self.do_without(&failure.detail);
                return Ok(inserted);
            }
            Err(failure) => return Err(self.error(failure)),
        };
        let mut units = 0.0;
        for ((place, cost), response) in tried.into_iter().zip(answer.responses()) {
            match code_of(response) {
                None => {
                    inserted[place] = Inserted::Created;
                    units += cost;
                }
                Some(Code::AccessDenied) => self.do_without("access is denied"),
                Some(_) => {}
            }
        }
        match answer.consumed_capacity() {
            // DynamoDB Local does not say: then it is what DynamoDB says that it costs.
            [] => {
                let consumed = ConsumedCapacity::builder().capacity_units(units).build();
                self.aws.count(Table::Results, Operation::Insert, [&consumed]);
            }
            consumed => self.aws.count(Table::Results, Operation::Insert, consumed),
        }
        Ok(inserted)
    }

    async fn write_absent(&self, entries: &[&Entry]) -> Result<Vec<Inserted>> {
        let mut inserted = vec![Inserted::Not; entries.len()];
        if self.layout == ResultsLayout::Plain {
            return Ok(inserted);
        }
        let mut left = Vec::new();
        for (place, item) in self.inline_items(entries) {
            inserted[place] = Inserted::Created;
            let put = PutRequest::builder().set_item(Some(item)).build().expect("it has an item");
            left.push(WriteRequest::builder().put_request(put).build());
        }
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        while !left.is_empty() {
            let asked = left.len();
            let request = self
                .aws
                .dynamodb()
                .batch_write_item()
                .request_items(&self.table, left)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let answer =
                self.aws.call(Box::pin(request.send())).await.map_err(|failure| self.error(failure))?;
            self.aws.count(Table::Results, Operation::BatchWrite, answer.consumed_capacity());
            let unprocessed = answer.unprocessed_items.and_then(|mut tables| tables.remove(&self.table));
            left = unprocessed.unwrap_or_default();
            self.unprocessed.inc_by(left.len() as u64);
            if left.len() < asked {
                pauses.restart();
            }
            if !left.is_empty() && !pauses.pause().await {
                let detail =
                    format!("{} writes of a batch were left unprocessed until the time was over", left.len());
                return Err(Failure::new(Kind::Throttled, detail).into());
            }
        }
        Ok(inserted)
    }

    /// The items of those entries that one item can hold, and their places.
    fn inline_items(&self, entries: &[&Entry]) -> Vec<(usize, Item)> {
        let entries = entries.iter().enumerate().take(MOST);
        entries.filter_map(|(place, entry)| Some((place, self.inline_item(entry)?))).collect()
    }

    fn do_without(&self, detail: &str) {
        if !self.refuses_inserts.swap(true, Ordering::Relaxed) {
            tracing::warn!(detail, "entries are written one by one: BatchExecuteStatement is refused");
        }
    }

    /// Write units of an insertion: one for each KiB, and one for each index.
    fn cost_of(&self, item: &Item) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 400 KiB")]
        let units = size::of_item(item).div_ceil(1024) as f64;
        let indexes = [self.form.time_index, self.form.host_index].into_iter().filter(|there| *there);
        indexes.fold(units, |units, _| units + 1.0)
    }

    /// The item of an entry that one item can hold.
    fn inline_item(&self, entry: &Entry) -> Option<Item> {
        let mut item = self.form.packed(&entry.meta);
        let bytes = size::of_item(&item) + BESIDE_FRAME_BYTES + entry.frame.len();
        if bytes > self.max_item_bytes {
            return None;
        }
        item.extend(Place::inline(&entry.frame).attributes(&entry.meta));
        Some(item)
    }

    fn statement(&self, item: Item) -> BatchStatementRequest {
        // In order of name: what has the attributes of another has its text, which is then parsed once.
        let mut item: Vec<_> = item.into_iter().collect();
        item.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let (mut members, mut values) = (String::new(), Vec::with_capacity(item.len()));
        for (name, value) in item {
            if !members.is_empty() {
                members.push_str(", ");
            }
            // The names are ours: none has a quote.
            members.extend(["'", &name, "': ?"]);
            values.push(value);
        }
        let statement = format!("INSERT INTO \"{}\" VALUE {{{members}}}", self.table);
        BatchStatementRequest::builder()
            .statement(statement)
            .set_parameters(Some(values))
            .build()
            .expect("it has a statement")
    }
}

/// Why an entry was not inserted.
fn code_of(response: &BatchStatementResponse) -> Option<&Code> {
    response.error().map(|error| error.code().unwrap_or(&Code::InternalServerError))
}
