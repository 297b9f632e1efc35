//! One partition of an index, read in order: what a listing merges.

use std::cmp::Ordering;
use std::collections::VecDeque;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::super::capacity::{Operation, Table};
use super::super::failure::Kind;
use super::super::item::{Item, read_text, text};
use super::DynamodbSessions;
use super::layout::{IndexKeys, Layout};
use crate::store::{Error, Result};

/// The value of an index's sort key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Text(String),
    /// As it is written: others may have written a fraction.
    Number(String),
}

impl Place {
    pub(super) fn of(attribute: &AttributeValue) -> Option<Self> {
        match attribute {
            AttributeValue::S(text) => Some(Self::Text(text.clone())),
            AttributeValue::N(text) => Some(Self::Number(text.clone())),
            _ => None,
        }
    }

    pub(super) fn text(place: impl Into<String>) -> Self {
        Self::Text(place.into())
    }

    pub(super) fn number(place: u64) -> Self {
        Self::Number(place.to_string())
    }

    fn attribute(&self) -> AttributeValue {
        match self {
            Self::Text(place) => text(place),
            Self::Number(place) => AttributeValue::N(place.clone()),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => {
                let float = |text: &str| text.parse::<f64>().unwrap_or(0.0);
                float(a).total_cmp(&float(b))
            }
            // Of two types there never is one index.
            _ => Ordering::Equal,
        }
    }
}

/// Where a reader of a partition is: the last place and key that were used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) place: Place,
    pub(super) key: String,
}

/// An entry of an index.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) position: Position,
    /// The attributes that the index holds.
    pub(super) item: Item,
}

/// The part of a partition that a listing wants, and how far it has been read.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) index: IndexKeys,
    pub(super) hash: String,
    pub(super) from: Option<Place>,
    pub(super) until: Option<Place>,
    pub(super) descends: bool,
    /// The last entry that was used.
    pub(super) after: Option<Position>,
    /// Entries that were read and not used yet.
    pub(super) ahead: VecDeque<Found>,
    /// Whether there are no more entries than those.
    pub(super) is_read: bool,
}

impl Partition {
    /// Whether there is nothing left.
    pub(super) fn is_over(&self) -> bool {
        self.is_read && self.ahead.is_empty()
    }

    /// Whether its next entry comes before that of another one.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        match (self.ahead.front(), other.ahead.front()) {
            (Some(own), Some(other)) => {
                let order = own.position.place.order(&other.position.place);
                if self.descends { order.is_gt() } else { order.is_lt() }
            }
            (own, _) => own.is_some(),
        }
    }

    /// Takes its next entry, and remembers that.
    pub(super) fn take(&mut self) -> Option<Found> {
        let found = self.ahead.pop_front()?;
        self.after = Some(found.position.clone());
        Some(found)
    }

    /// Where to begin: behind what was used or read, unless the bounds, which move with the time, begin later.
    fn begin(&self) -> Option<&Position> {
        let last = self.ahead.back().map(|found| &found.position).or(self.after.as_ref())?;
        let (first, order) = if self.descends {
            (self.until.as_ref(), Ordering::Less)
        } else {
            (self.from.as_ref(), Ordering::Greater)
        };
        let is_within = first.is_none_or(|first| {
            let found = last.place.order(first);
            found == order || found == Ordering::Equal
        });
        is_within.then_some(last)
    }

    /// Whether what was used last lies at or beyond the far bound, or the bounds exclude everything.
    fn is_beyond(&self) -> bool {
        let crossed = |from: Option<&Place>, until: Option<&Place>| match (from, until) {
            (Some(from), Some(until)) => from.order(until).is_gt(),
            _ => false,
        };
        let last = self.begin().map(|last| &last.place);
        crossed(self.from.as_ref(), self.until.as_ref())
            || if self.descends {
                crossed(self.from.as_ref(), last)
            } else {
                crossed(last, self.until.as_ref())
            }
    }
}

impl DynamodbSessions {
    /// Reads more of a partition, at most `limit` entries, if it has any and none were left.
    pub(super) async fn fill(&self, layout: Layout, partition: &mut Partition, limit: usize) -> Result<()> {
        if !partition.ahead.is_empty() || partition.is_read {
            return Ok(());
        }
        if partition.is_beyond() {
            partition.is_read = true;
            return Ok(());
        }
        let index = partition.index;
        let (condition, bounds) = match (&partition.from, &partition.until) {
            (None, None) => ("#h = :h", vec![]),
            (Some(from), None) => ("#h = :h AND #r >= :a", vec![(":a", from)]),
            (None, Some(until)) => ("#h = :h AND #r <= :b", vec![(":b", until)]),
            (Some(from), Some(until)) => {
                ("#h = :h AND #r BETWEEN :a AND :b", vec![(":a", from), (":b", until)])
            }
        };
        let begin = partition.begin().map(|Position { place, key }| {
            Item::from([
                (layout.names().id.to_owned(), text(key)),
                (index.hash.to_owned(), text(&partition.hash)),
                (index.range.to_owned(), place.attribute()),
            ])
        });
        let mut request = self
            .0
            .aws
            .dynamodb()
            .query()
            .table_name(&self.0.table)
            .index_name(index.name)
            .key_condition_expression(condition)
            .expression_attribute_names("#h", index.hash)
            .expression_attribute_values(":h", text(&partition.hash))
            .scan_index_forward(!partition.descends)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(begin)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if !bounds.is_empty() {
            request = request.expression_attribute_names("#r", index.range);
        }
        for (name, bound) in bounds {
            request = request.expression_attribute_values(name, bound.attribute());
        }
        let answer = self.0.aws.call(request.send()).await.map_err(|failure| {
            // It is the one value that comes from a client.
            let is_about_cursor = failure.kind == Kind::Other
                && ["starting key", "start key", "ExclusiveStartKey"]
                    .iter()
                    .any(|words| failure.detail.contains(words));
            if is_about_cursor { Error::Cursor } else { self.failed(failure) }
        })?;
        self.0.aws.count(Table::Sessions, Operation::Query, answer.consumed_capacity());
        // Nothing is filtered, so a page without entries is the end.
        partition.is_read = answer.last_evaluated_key.is_none() || answer.items().is_empty();
        for item in answer.items.unwrap_or_default() {
            let place = item.get(index.range).and_then(Place::of);
            if let (Some(place), Some(key)) = (place, read_text(&item, layout.names().id).map(str::to_owned))
            {
                partition.ahead.push_back(Found { position: Position { place, key }, item });
            }
        }
        Ok(())
    }
}
