//! Attributes as DynamoDB's JSON has them: each value is an object whose one member says what it is.

use std::fmt;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::super::item::Item;

/// Attributes by name, in a map that has room for so many from the start.
pub(super) struct Attributes<const ROOM: usize = 0>(pub(super) Item);

/// The attributes of an item, which are about as many as a head has.
pub(super) type Whole = Attributes<20>;

impl<'de, const ROOM: usize> Deserialize<'de> for Attributes<ROOM> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AttributesVisitor::<ROOM>).map(Self)
    }
}

struct AttributesVisitor<const ROOM: usize>;

impl<'de, const ROOM: usize> Visitor<'de> for AttributesVisitor<ROOM> {
    type Value = Item;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("attributes by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Item, A::Error> {
        let mut item = Item::with_capacity(ROOM);
        while let Some((name, Value(value))) = members.next_entry()? {
            item.insert(name, value);
        }
        Ok(item)
    }
}

/// The value of an attribute.
struct Value(AttributeValue);

/// What a value is.
#[derive(Deserialize)]
enum Kind {
    S,
    N,
    B,
    #[serde(rename = "SS")]
    Ss,
    #[serde(rename = "NS")]
    Ns,
    #[serde(rename = "BS")]
    Bs,
    M,
    L,
    #[serde(rename = "NULL")]
    Null,
    #[serde(rename = "BOOL")]
    Bool,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = AttributeValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of one kind")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<AttributeValue, A::Error> {
        let kind = members.next_key()?.ok_or_else(|| A::Error::custom("a value of no kind"))?;
        let value = match kind {
            Kind::S => AttributeValue::S(members.next_value()?),
            Kind::N => AttributeValue::N(members.next_value()?),
            Kind::B => AttributeValue::B(members.next_value::<Binary>()?.0),
            Kind::Ss => AttributeValue::Ss(members.next_value()?),
            Kind::Ns => AttributeValue::Ns(members.next_value()?),
            Kind::Bs => {
                let all: Vec<Binary> = members.next_value()?;
                AttributeValue::Bs(all.into_iter().map(|binary| binary.0).collect())
            }
            Kind::M => AttributeValue::M(members.next_value::<Attributes>()?.0),
            Kind::L => {
                let all: Vec<Value> = members.next_value()?;
                AttributeValue::L(all.into_iter().map(|value| value.0).collect())
            }
            Kind::Null => AttributeValue::Null(members.next_value()?),
            Kind::Bool => AttributeValue::Bool(members.next_value()?),
        };
        match members.next_key::<Kind>()? {
            None => Ok(value),
            Some(_) => Err(A::Error::custom("a value of two kinds")),
        }
    }
}

/// Bytes in base64.
struct Binary(Blob);

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(BinaryVisitor).map(Self)
    }
}

struct BinaryVisitor;

impl Visitor<'_> for BinaryVisitor {
    type Value = Blob;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
        aws_smithy_types::base64::decode(text).map(Blob::new).map_err(E::custom)
    }
}
