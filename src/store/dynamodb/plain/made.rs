//! Tells whether a document may be one that was read in the plain layout: it looks as [`read()`](super::read()) writes.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::domain::Layout;
use crate::domain::document::split;

/// Whether `raw` may have been made of attributes: without white space, and names in order at every depth. Such a
/// document has the hash of the one that was once put, and not its own.
pub(in crate::store::dynamodb) fn may_have_made(layout: &Layout, raw: &[u8]) -> bool {
    let Ok(members) = split(raw) else { return false };
    let small = layout.fields().filter(|field| field.segment == 0);
    small.map(|field| field.name).is_sorted()
        && !has_white_space(raw)
        && members.iter().all(|(_, value)| serde_json::from_str::<Ordered>(value).is_ok())
}

/// Whether there is white space between the tokens.
fn has_white_space(raw: &[u8]) -> bool {
    let (mut in_text, mut escaped) = (false, false);
    raw.iter().any(|byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'"' if !was_escaped => in_text = !in_text,
            b'\\' if in_text && !was_escaped => escaped = true,
            _ => {}
        }
        !in_text && byte.is_ascii_whitespace()
    })
}

/// Any value whose objects have their members in the order of their names.
struct Ordered;

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with names in order")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Ordered, E> {
        Ok(Ordered)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Ordered, E> {
        Ok(Ordered)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Ordered, E> {
        Ok(Ordered)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Ordered, E> {
        Ok(Ordered)
    }

    fn visit_str<E>(self, _: &str) -> Result<Ordered, E> {
        Ok(Ordered)
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ordered, A::Error> {
        while list.next_element::<Ordered>()?.is_some() {}
        Ok(Ordered)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut last: Option<String> = None;
        while let Some(name) = map.next_key::<String>()? {
            if last.as_ref().is_some_and(|last| *last >= name) {
                return Err(A::Error::custom("names out of order"));
            }
            map.next_value::<Ordered>()?;
            last = Some(name);
        }
        Ok(Ordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::encode;

    #[test]
    fn only_what_is_in_order_may_come_from_attributes() {
        for (raw, expected) in [
            (r#"{"a":1,"b":[{"x":" \" ","y":null}],"url":"u"}"#, true),
            (r#"{"url":"u","a":1}"#, false),
            (r#"{"a": 1,"url":"u"}"#, false),
            (r#"{"a":[{"y":1,"x":2}]}"#, false),
            (r#"{"a":{"x":{"b":1,"a":2}}}"#, false),
        ] {
            let layout = encode(raw.as_bytes(), 1).expect("a document").layout;
            assert_eq!(may_have_made(&layout, raw.as_bytes()), expected, "{raw}");
        }
    }
}
