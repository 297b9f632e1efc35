//! The requests to the table for one item: sent, counted, and their conditions sorted from their failures.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure,
};

use super::super::capacity::{Operation, Retried, Table};
use super::super::item::{Item, text};
use super::Inner;
use super::expression::Terms;
use super::key::URL;
use crate::store::Result;

/// What a conditional write did: returned the attributes asked for, or met something else than its condition says.
pub(super) type Written = std::result::Result<Option<Item>, Unmet>;

/// A condition did not hold.
#[derive(Debug)]
pub(super) struct Unmet {
    /// The item that is there, as far as the endpoint says.
    item: Option<Item>,
    /// Whether that may be what an earlier try of the same request has written, whose answer was lost.
    retried: bool,
}

/// What is under a key.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) item: Option<Item>,
    /// Whether it may be what the very write that met it had written before.
    pub(super) retried: bool,
}

/// What a conditional write is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// Whether it happened.
    Nothing,
    /// If not, what is there instead.
    Met,
    /// And if it did, what was there before: what has changed, or all of an item that is replaced.
    Old,
    /// If it happened, all of the item that an update has changed.
    New,
}

impl Tell {
    const fn on_failure(self) -> OnFailure {
        match self {
            Self::Nothing | Self::New => OnFailure::None,
            Self::Met | Self::Old => OnFailure::AllOld,
        }
    }
}

/// Tells an unmet condition from what has gone wrong.
async fn conditional<T, E>(
    request: impl Future<Output = std::result::Result<T, SdkError<E>>>,
    retried: Retried,
    unmet: impl FnOnce(&E) -> Option<Option<Item>>,
) -> std::result::Result<std::result::Result<T, Unmet>, SdkError<E>> {
    match request.await {
        Ok(output) => Ok(Ok(output)),
        Err(error) => match error.as_service_error().and_then(unmet) {
            Some(item) => Ok(Err(Unmet { item, retried: retried.is_set() })),
            None => Err(error),
        },
    }
}

impl Inner {
    /// One item, as far as `attributes` go; the whole without them.
    pub(super) async fn get_part(
        &self,
        partition: &str,
        attributes: &[&str],
        consistent: bool,
    ) -> Result<Option<Item>> {
        let mut terms = Terms::default();
        let projection = (!attributes.is_empty()).then(|| terms.projection(attributes));
        let (names, _) = terms.finish();
        let request = self
            .aws
            .dynamodb()
            .get_item()
            .table_name(&self.table)
            .key(URL, text(partition))
            .set_projection_expression(projection)
            .set_expression_attribute_names(names)
            .consistent_read(consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let found = self.aws.call(Box::pin(request.send())).await.map_err(|failure| self.error(failure))?;
        self.aws.count(Table::Results, Operation::Get, found.consumed_capacity());
        Ok(found.item)
    }

    /// One whole item.
    pub(super) async fn get_item(&self, partition: &str, consistent: bool) -> Result<Option<Item>> {
        self.get_part(partition, &[], consistent).await
    }

    /// Puts an item in place of whatever is there, if `condition` holds.
    pub(super) async fn put_item(
        &self,
        item: Item,
        condition: String,
        terms: Terms,
        tell: Tell,
    ) -> Result<Written> {
        let (names, values) = terms.finish();
        let request = self
            .aws
            .dynamodb()
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values(if tell == Tell::Old { ReturnValue::AllOld } else { ReturnValue::None })
            .return_values_on_condition_check_failure(tell.on_failure())
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let retried = Retried::default();
        let send = Box::pin(request.customize().interceptor(retried.clone()).send());
        let send = conditional(send, retried, |error| match error {
            PutItemError::ConditionalCheckFailedException(said) => Some(said.item.clone()),
            _ => None,
        });
        Ok(match self.aws.call(send).await.map_err(|failure| self.error(failure))? {
            Ok(output) => {
                self.aws.count(Table::Results, Operation::Put, output.consumed_capacity());
                Ok(output.attributes)
            }
            Err(unmet) => Err(unmet),
        })
    }

    /// Changes an item, or makes one, if `condition` holds.
    pub(super) async fn update_item(
        &self,
        partition: &str,
        update: String,
        condition: String,
        terms: Terms,
        tell: Tell,
    ) -> Result<Written> {
        let (names, values) = terms.finish();
        let request = self
            .aws
            .dynamodb()
            .update_item()
            .table_name(&self.table)
            .key(URL, text(partition))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .return_values(match tell {
                Tell::Nothing | Tell::Met => ReturnValue::None,
                Tell::Old => ReturnValue::UpdatedOld,
                Tell::New => ReturnValue::AllNew,
            })
            .return_values_on_condition_check_failure(tell.on_failure())
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let retried = Retried::default();
        let send = Box::pin(request.customize().interceptor(retried.clone()).send());
        let send = conditional(send, retried, |error| match error {
            UpdateItemError::ConditionalCheckFailedException(said) => Some(said.item.clone()),
            _ => None,
        });
        Ok(match self.aws.call(send).await.map_err(|failure| self.error(failure))? {
            Ok(output) => {
                self.aws.count(Table::Results, Operation::Update, output.consumed_capacity());
                Ok(output.attributes)
            }
            Err(unmet) => Err(unmet),
        })
    }

    /// What a write has met. Endpoints that know nothing of returning it on failure are asked.
    pub(super) async fn met(&self, partition: &str, Unmet { item, retried }: Unmet) -> Result<Seen> {
        let item = match item {
            Some(item) if !item.is_empty() => Some(item),
            _ => self.get_item(partition, true).await?,
        };
        Ok(Seen { item, retried })
    }
}
