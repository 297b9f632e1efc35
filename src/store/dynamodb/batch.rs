//! Many items by their keys: a hundred a request, and again what a request left unprocessed.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use prometheus::IntCounter;

use super::Aws;
use super::capacity::{Operation, Table};
use super::failure::{Failure, Kind};
use super::item::Item;
use super::pauses::Pauses;

/// The most keys that one request may have (`BatchGetItem`).
pub(super) const MOST_KEYS: usize = 100;

/// What to read.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'w> {
    pub(super) table: Table,
    pub(super) name: &'w str,
    /// The attributes, as an expression and the names in it; whole items without.
    pub(super) projection: Option<(String, HashMap<String, String>)>,
    pub(super) consistent: bool,
    /// Counts the keys that were left unprocessed.
    pub(super) unprocessed: &'w IntCounter,
}

/// What a batch came to.
#[derive(Debug)]
pub(super) struct Batch {
    /// The items of those keys that exist, in no order.
    pub(super) found: Vec<Item>,
    /// What was not asked for.
    pub(super) left: Option<Left>,
}

/// The keys of a batch of which nothing was told.
#[derive(Debug)]
pub(super) struct Left {
    /// Which; `None` for all of them.
    pub(super) keys: Option<Vec<Item>>,
    /// Why.
    pub(super) failure: Failure,
}

impl Aws {
    /// The items of at most [`MOST_KEYS`] distinct keys, in no order; those that do not exist are missing.
    ///
    /// # Errors
    /// [`Kind::Throttled`] if keys are still left over when an operation has to end.
    pub(super) async fn get_many(&self, wanted: Wanted<'_>, keys: Vec<Item>) -> Result<Vec<Item>, Failure> {
        let Batch { found, left } = self.get_some(wanted, keys).await;
        match left {
            None => Ok(found),
            Some(left) => Err(left.failure),
        }
    }

    /// As [`Aws::get_many`], as far as it goes: [`Kind::Throttled`] for the keys that are left over when an operation has
    /// to end.
    pub(super) async fn get_some(&self, wanted: Wanted<'_>, mut keys: Vec<Item>) -> Batch {
        // Of the first round the caller knows them.
        let mut again: Option<Vec<Item>> = None;
        let mut found = Vec::with_capacity(keys.len());
        let mut pauses = Pauses::within(self.operation_timeout());
        let (projection, names) = wanted.projection.unzip();
        loop {
            let asked = keys.len();
            let items = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .set_projection_expression(projection.clone())
                .set_expression_attribute_names(names.clone())
                .consistent_read(wanted.consistent)
                .build()
                .expect("it has keys");
            let request = self
                .dynamodb()
                .batch_get_item()
                .request_items(wanted.name, items)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let answer = match self.call(request.send()).await {
                Ok(answer) => answer,
                Err(failure) => return Batch { found, left: Some(Left { keys: again, failure }) },
            };
            self.count(wanted.table, Operation::BatchGet, answer.consumed_capacity());
            let mut responses = answer.responses.unwrap_or_default();
            found.extend(responses.remove(wanted.name).unwrap_or_default());
            let left = answer.unprocessed_keys.unwrap_or_default().remove(wanted.name);
            keys = left.map(|left| left.keys).unwrap_or_default();
            if keys.is_empty() {
                return Batch { found, left: None };
            }
            wanted.unprocessed.inc_by(keys.len() as u64);
            // An answer holds 16 MB: what is left for that reason alone needs no rest.
            if keys.len() < asked {
                pauses.restart();
            }
            if !pauses.pause().await {
                let detail =
                    format!("{} keys of a batch were left unprocessed until the time was over", keys.len());
                let failure = Failure::new(Kind::Throttled, detail);
                return Batch { found, left: Some(Left { keys: Some(keys), failure }) };
            }
            again = Some(keys.clone());
        }
    }
}
