//! Walks over whole tables, for tools: a segment at a time, page by page, each from where the last one ended.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::Aws;
use super::capacity::{Operation, Table};
use super::failure::Failure;
use super::item::{Item, read_text, text};

/// A part of a table, of which several are walked at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which one, from 0 on.
    pub number: u32,
    /// How many there are, 1 to 1,000,000.
    pub of: u32,
    /// The key of the last item that was seen; nothing at the beginning.
    pub after: Option<String>,
}

/// What one request has found.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What there is.
    pub items: Vec<T>,
    /// The key to go on behind; nothing at the end.
    pub next: Option<String>,
}

/// What to read of each item.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    /// The attributes; whole items without.
    pub(super) projection: Option<String>,
    /// Which items.
    pub(super) filter: Option<String>,
    /// The names in both.
    pub(super) names: Option<HashMap<String, String>>,
    /// The values in the filter.
    pub(super) values: Option<Item>,
}

impl Aws {
    /// One page of a segment of a table whose key is the string `key`. What was written before it began is seen.
    pub(super) async fn scan(
        &self,
        (table, name): (Table, &str),
        key: &str,
        segment: &Segment,
        limit: usize,
        attributes: Attributes,
    ) -> Result<Page<Item>, Failure> {
        let start = segment.after.as_ref().map(|after| Item::from([(key.to_owned(), text(after))]));
        let request = self
            .dynamodb()
            .scan()
            .table_name(name)
            .segment(i32::try_from(segment.number).unwrap_or(i32::MAX))
            .total_segments(i32::try_from(segment.of).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .set_projection_expression(attributes.projection)
            .set_filter_expression(attributes.filter)
            .set_expression_attribute_names(attributes.names)
            .set_expression_attribute_values(attributes.values)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            // What is missed is missing on the other side: twice the price is less.
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = self.call(Box::pin(request.send())).await?;
        self.count(table, Operation::Scan, answer.consumed_capacity());
        let next =
            answer.last_evaluated_key.as_ref().and_then(|last| read_text(last, key)).map(str::to_owned);
        Ok(Page { items: answer.items.unwrap_or_default(), next })
    }
}
