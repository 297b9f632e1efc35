//! Items as maps of attributes: reading an attribute as what it should be, and writing one.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::Timestamp;

/// An item, or the part of one that was read.
pub(super) type Item = HashMap<String, AttributeValue>;

/// A string attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(super) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// A binary attribute.
pub(super) fn binary(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// A time as RFC 3339, so that text order is time order.
pub(super) fn time(at: Timestamp) -> AttributeValue {
    AttributeValue::S(at.to_string())
}

/// The string of a name.
pub(super) fn read_text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// The whole number of a name.
pub(super) fn read_number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// The time of a name: RFC 3339 with or without an offset, or Unix seconds as string or number.
pub(super) fn read_time(item: &Item, name: &str) -> Option<Timestamp> {
    match item.get(name)? {
        AttributeValue::S(text) => Timestamp::parse(text)
            // Python's `isoformat()` of a naive time in UTC names no offset.
            .or_else(|_| Timestamp::parse(&format!("{text}Z")))
            .ok(),
        AttributeValue::N(text) => {
            // A whole number, or seconds with a fraction.
            serde_json::from_str(text).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let moment = Timestamp::from_secs(1_768_473_000);
        for value in [
            text("2026-01-15T10:30:00Z"),
            text("2026-01-15T10:30:00.000Z"),
            text("2026-01-15T10:30:00"),
            text("2026-01-15T11:30:00+01:00"),
            text("1768473000"),
            number(1_768_473_000_u64),
            AttributeValue::N("1768473000.0".to_owned()),
        ] {
            let item = Item::from([("at".to_owned(), value.clone())]);
            assert_eq!(read_time(&item, "at"), Some(moment), "{value:?}");
        }
        let item = Item::from([("at".to_owned(), AttributeValue::Bool(true))]);
        assert_eq!((read_time(&item, "at"), read_time(&item, "b")), (None, None));
    }
}
