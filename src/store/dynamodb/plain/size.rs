//! How large an item is, by the rule that DynamoDB documents, rounded up where the rule is vague.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::Item;

/// A map or a list takes this many bytes beside its elements.
const CONTAINER_BYTES: usize = 3;

/// Each element of a map or a list takes one byte beside itself.
const ELEMENT_BYTES: usize = 1;

/// At most how many bytes of its limit an item takes.
pub(in crate::store::dynamodb) fn of_item(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + of_value(value)).sum()
}

fn of_value(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // A byte for two digits and one more; another for the sign, another for an odd exponent.
        AttributeValue::N(text) => text.len() / 2 + 3,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::L(list) => {
            CONTAINER_BYTES + list.iter().map(|value| ELEMENT_BYTES + of_value(value)).sum::<usize>()
        }
        AttributeValue::M(map) => {
            let elements = map.iter().map(|(name, value)| ELEMENT_BYTES + name.len() + of_value(value));
            CONTAINER_BYTES + elements.sum::<usize>()
        }
        AttributeValue::Ss(set) => set.iter().map(String::len).sum(),
        AttributeValue::Ns(set) => set.iter().map(|text| text.len() / 2 + 3).sum(),
        AttributeValue::Bs(set) => set.iter().map(|bytes| bytes.as_ref().len()).sum(),
        // A boolean and a null take one byte, and so will whatever comes next.
        _ => 1,
    }
}
