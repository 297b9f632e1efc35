//! Reads the answers that may carry frames in place of the SDK, whose parser takes the bytes of a frame one by one:
//! those to `GetItem`, `PutItem`, `UpdateItem`, `BatchGetItem` and `Scan`.
//!
//! `Query` is not among them although it carries items: it is asked of indexes only, which are made with nothing but
//! keys (one of Wallcrawler's copies whole sessions), so that there are no frames in its answers.
//!
//! What is not exactly as expected is left to the SDK: whatever it makes of that answer, be it an error, counts. An
//! output that was read here differs from the SDK's own in one thing: it carries no request id, as only the SDK can set
//! one.

mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItem, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItem, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItem, PutItemOutput};
use aws_sdk_dynamodb::operation::scan::{Scan, ScanOutput};
use aws_sdk_dynamodb::operation::update_item::{UpdateItem, UpdateItemOutput};
use aws_sdk_dynamodb::types::ConsumedCapacity;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, Output, OutputOrError,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer};
use serde::Deserialize;

use self::value::{Attributes, Whole};
use super::item::Item;

/// Has the answers of a client read here, as far as [`reader_of`] knows their operations.
#[derive(Debug)]
pub(super) struct ReadItems;

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for ReadItems {
    fn name(&self) -> &'static str {
        "ReadItems"
    }

    fn modify_before_serialization(
        &self,
        _context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(reader) = bag.load::<Metadata>().and_then(|operation| reader_of(operation.name())) {
            bag.interceptor_state().store_put(SharedResponseDeserializer::new(reader));
        }
        Ok(())
    }
}

/// Who reads the answers of an operation; nobody here where they carry no frames.
fn reader_of(operation: &str) -> Option<Reader> {
    Some(match operation {
        "GetItem" => Reader { read: got, sdk: || GetItem::new().config() },
        "PutItem" => Reader { read: put, sdk: || PutItem::new().config() },
        "UpdateItem" => Reader { read: updated, sdk: || UpdateItem::new().config() },
        "BatchGetItem" => Reader { read: batch, sdk: || BatchGetItem::new().config() },
        "Scan" => Reader { read: page, sdk: || Scan::new().config() },
        _ => return None,
    })
}

/// Reads the answers of one operation.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// Reads one here; nothing if the SDK has to.
    read: fn(&[u8]) -> Option<Output>,
    /// The SDK's configuration of the operation, which holds what would read it otherwise.
    sdk: fn() -> Option<FrozenLayer>,
}

impl DeserializeResponse for Reader {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        bag: &ConfigBag,
    ) -> OutputOrError {
        let body = (response.status().as_u16() == 200).then(|| response.body().bytes()).flatten();
        if let Some(output) = body.and_then(self.read) {
            return Ok(output);
        }
        let layer = (self.sdk)();
        match layer.as_ref().and_then(|layer| layer.load::<SharedResponseDeserializer>()) {
            Some(sdk) => sdk.deserialize_nonstreaming_with_config(response, bag),
            None => Err(OrchestratorError::other("the SDK cannot read this answer")),
        }
    }
}

fn got(body: &[u8]) -> Option<Output> {
    let Got { item, consumed_capacity } = parse(body)?;
    let output = GetItemOutput::builder()
        .set_item(item.map(|item| item.0))
        .set_consumed_capacity(consumed(consumed_capacity));
    Some(Output::erase(output.build()))
}

fn put(body: &[u8]) -> Option<Output> {
    let Changed { attributes, consumed_capacity } = parse(body)?;
    let output = PutItemOutput::builder()
        .set_attributes(attributes.map(|item| item.0))
        .set_consumed_capacity(consumed(consumed_capacity));
    Some(Output::erase(output.build()))
}

fn updated(body: &[u8]) -> Option<Output> {
    let Changed { attributes, consumed_capacity } = parse(body)?;
    let output = UpdateItemOutput::builder()
        .set_attributes(attributes.map(|item| item.0))
        .set_consumed_capacity(consumed(consumed_capacity));
    Some(Output::erase(output.build()))
}

fn batch(body: &[u8]) -> Option<Output> {
    let Batch { responses, unprocessed_keys, consumed_capacity } = parse(body)?;
    let by_table = |(table, items)| (table, items_of(items));
    let output = BatchGetItemOutput::builder()
        .set_responses(responses.map(|tables| tables.into_iter().map(by_table).collect()))
        .set_unprocessed_keys(unprocessed_keys.map(|Nothing {}| HashMap::new()))
        .set_consumed_capacity(consumed_capacity.map(|all| all.into_iter().map(Consumed::build).collect()));
    Some(Output::erase(output.build()))
}

fn page(body: &[u8]) -> Option<Output> {
    let Page { items, count, scanned_count, last_evaluated_key, consumed_capacity } = parse(body)?;
    let output = ScanOutput::builder()
        .set_items(items.map(items_of))
        .set_count(count)
        .set_scanned_count(scanned_count)
        .set_last_evaluated_key(last_evaluated_key.map(|key| key.0))
        .set_consumed_capacity(consumed(consumed_capacity));
    Some(Output::erase(output.build()))
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// The answer to `GetItem`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Got {
    item: Option<Whole>,
    consumed_capacity: Option<Consumed>,
}

/// The answer to a write.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Changed {
    attributes: Option<Whole>,
    consumed_capacity: Option<Consumed>,
}

/// The answer to `BatchGetItem`, of which nothing was left over.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Batch {
    responses: Option<HashMap<String, Vec<Whole>>>,
    unprocessed_keys: Option<Nothing>,
    consumed_capacity: Option<Vec<Consumed>>,
}

/// An object without members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The answer to `Scan`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Page {
    items: Option<Vec<Whole>>,
    count: Option<i32>,
    scanned_count: Option<i32>,
    last_evaluated_key: Option<Attributes>,
    consumed_capacity: Option<Consumed>,
}

/// Capacity as it is told where only the total is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Consumed {
    table_name: Option<String>,
    capacity_units: Option<f64>,
    read_capacity_units: Option<f64>,
    write_capacity_units: Option<f64>,
}

impl Consumed {
    fn build(self) -> ConsumedCapacity {
        ConsumedCapacity::builder()
            .set_table_name(self.table_name)
            .set_capacity_units(self.capacity_units)
            .set_read_capacity_units(self.read_capacity_units)
            .set_write_capacity_units(self.write_capacity_units)
            .build()
    }
}

fn consumed(consumed: Option<Consumed>) -> Option<ConsumedCapacity> {
    consumed.map(Consumed::build)
}

fn items_of(items: Vec<Whole>) -> Vec<Item> {
    items.into_iter().map(|item| item.0).collect()
}
