//! The shards of an index as one sequence: a few rows of each are held, and only what every shard has passed is given
//! out.

use std::collections::VecDeque;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use futures_util::future::try_join_all;

use super::super::capacity::{Operation, Table};
use super::super::item::{Item, read_text, text};
use super::Inner;
use super::expression::Terms;
use super::key::URL;
use crate::store::{ListOrder, Result};

/// Which rows of an index.
#[derive(Debug)]
pub(super) struct Rows {
    /// The index.
    pub(super) index: &'static str,
    /// The attribute that is its partition key.
    pub(super) partition: &'static str,
    /// The partitions, one a shard.
    pub(super) shards: Vec<String>,
    /// The first place and the last, both included.
    pub(super) range: (String, String),
    /// In which order.
    pub(super) order: ListOrder,
    /// Of which urls; hashed ones are among the rows in any case.
    pub(super) urls: Urls,
}

/// What the partition keys say about urls.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Urls {
    /// All.
    All,
    /// Those that begin so.
    Prefix(String),
    /// This one, in all variants.
    One(String),
}

/// One row: the place in the index, and the partition key of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// `listed_at`.
    pub(super) place: String,
    /// The key of the table.
    pub(super) url: String,
}

/// The rows in order.
pub(super) struct Merge<'i> {
    inner: &'i Inner,
    rows: &'i Rows,
    shards: Vec<Shard>,
    /// How many rows one request may look at.
    step: i32,
    /// How many may be looked at in all.
    left: usize,
}

#[derive(Debug, Default)]
struct Shard {
    held: VecDeque<Row>,
    /// Where the last request ended; nothing before the first.
    passed: Option<Item>,
    ended: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A row.
    Row(Row),
    /// No row, but more have to be looked at than one page may: all up to this place have been.
    Tired(String),
    /// No more rows.
    End,
}

impl<'i> Merge<'i> {
    /// A merge that looks at about `step` rows of each shard at a time, and at about `most` in all.
    pub(super) fn new(inner: &'i Inner, rows: &'i Rows, step: usize, most: usize) -> Self {
        let shards = rows.shards.iter().map(|_| Shard::default()).collect();
        Self { inner, rows, shards, step: i32::try_from(step).unwrap_or(i32::MAX).max(1), left: most }
    }

    /// Whether `a` comes before `b`.
    fn precedes(&self, a: &str, b: &str) -> bool {
        match self.rows.order {
            ListOrder::Newest => a > b,
            ListOrder::Oldest => a < b,
        }
    }

    /// The next row.
    pub(super) async fn next(&mut self) -> Result<Next> {
        loop {
            if let Some(row) = self.pop() {
                return Ok(Next::Row(row));
            }
            let wanting = |shard: &Shard| shard.held.is_empty() && !shard.ended;
            if !self.shards.iter().any(wanting) {
                return Ok(Next::End);
            }
            if self.left == 0
                && let Some(place) = self.passed()
            {
                return Ok(Next::Tired(place));
            }
            self.fill().await?;
        }
    }

    /// How far every shard has been looked at; nothing before the first requests.
    fn passed(&self) -> Option<String> {
        let wanting = self.shards.iter().filter(|shard| shard.held.is_empty() && !shard.ended);
        let passed: Vec<&str> = wanting.map(Shard::place).collect::<Option<_>>()?;
        let passed = match self.rows.order {
            ListOrder::Newest => passed.into_iter().max(),
            ListOrder::Oldest => passed.into_iter().min(),
        };
        passed.map(str::to_owned)
    }

    /// The first of the rows held, if no shard can still have one before it.
    fn pop(&mut self) -> Option<Row> {
        let (mut first, mut passed): (Option<usize>, Option<&str>) = (None, None);
        for (number, shard) in self.shards.iter().enumerate() {
            if let Some(row) = shard.held.front() {
                let best = first.and_then(|best| self.shards[best].held.front());
                if best.is_none_or(|best| self.precedes(&row.place, &best.place)) {
                    first = Some(number);
                }
            } else if !shard.ended {
                let place = shard.place()?;
                if passed.is_none_or(|passed| self.precedes(place, passed)) {
                    passed = Some(place);
                }
            }
        }
        let row = self.shards[first?].held.front()?;
        if passed.is_some_and(|passed| self.precedes(passed, &row.place)) {
            return None;
        }
        self.shards[first?].held.pop_front()
    }

    /// Asks all shards that have nothing to show.
    async fn fill(&mut self) -> Result<()> {
        let wanting: Vec<usize> = (0..self.shards.len())
            .filter(|&at| self.shards[at].held.is_empty() && !self.shards[at].ended)
            .collect();
        let asked = wanting.iter().map(|&at| self.ask(&self.rows.shards[at], self.shards[at].passed.clone()));
        let answers = try_join_all(asked).await?;
        for (at, (rows, passed, seen)) in wanting.into_iter().zip(answers) {
            self.left = self.left.saturating_sub(seen);
            let shard = &mut self.shards[at];
            shard.ended = passed.is_none();
            shard.passed = passed;
            shard.held.extend(rows);
        }
        Ok(())
    }

    async fn ask(&self, shard: &str, passed: Option<Item>) -> Result<(Vec<Row>, Option<Item>, usize)> {
        let mut terms = Terms::default();
        let (first, last) = &self.rows.range;
        let key = format!(
            "{} AND {} BETWEEN {} AND {}",
            terms.compare(self.rows.partition, "=", text(shard)),
            terms.name("listed_at"),
            terms.value(text(first)),
            terms.value(text(last)),
        );
        let filter = match &self.rows.urls {
            Urls::All => None,
            Urls::Prefix(prefix) => {
                Some(format!("begins_with({}, {})", terms.name(URL), terms.value(text(prefix))))
            }
            Urls::One(url) => {
                let variants =
                    format!("begins_with({}, {})", terms.name(URL), terms.value(text(format!("{url} "))));
                Some(format!("{} OR {variants}", terms.compare(URL, "=", text(url))))
            }
        };
        let filter = filter.map(|filter| {
            format!("{filter} OR begins_with({}, {})", terms.name(URL), terms.value(text("blake3 ")))
        });
        let (names, values) = terms.finish();
        let request = self
            .inner
            .aws
            .dynamodb()
            .query()
            .table_name(&self.inner.table)
            .index_name(self.rows.index)
            .key_condition_expression(key)
            .set_filter_expression(filter)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .scan_index_forward(self.rows.order == ListOrder::Oldest)
            .set_exclusive_start_key(passed)
            .limit(self.step)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self
            .inner
            .aws
            .call(Box::pin(request.send()))
            .await
            .map_err(|failure| self.inner.error(failure))?;
        self.inner.aws.count(Table::Results, Operation::Query, answer.consumed_capacity());
        let seen = usize::try_from(answer.scanned_count).unwrap_or_default();
        let rows = answer.items.unwrap_or_default();
        let passed = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok((rows.iter().filter_map(Row::of).collect(), passed, seen))
    }
}

impl Shard {
    fn place(&self) -> Option<&str> {
        match self.passed.as_ref()?.get("listed_at")? {
            AttributeValue::S(place) => Some(place),
            _ => None,
        }
    }
}

impl Row {
    fn of(row: &Item) -> Option<Self> {
        Some(Self { place: read_text(row, "listed_at")?.to_owned(), url: read_text(row, URL)?.to_owned() })
    }
}
