//! Reads a query string that is as it should be: one allocation a value that has to be decoded, none for the others.

use std::borrow::Cow;

use serde::de::value::{Error, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The query string as a struct; `None` when it is not UTF-8 once decoded, or does not fit.
pub(super) fn read<T: DeserializeOwned>(query: &str) -> Option<T> {
    let mut is_text = true;
    let mut text = |part| {
        decoded(part).unwrap_or_else(|| {
            is_text = false;
            Cow::default()
        })
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (text(name), Value(text(value)))
    });
    let read = T::deserialize(MapDeserializer::new(pairs));
    read.ok().filter(|_| is_text)
}

/// Undoes the form encoding; `None` when that gives no UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let Some(first) = text.bytes().position(|byte| byte == b'%' || byte == b'+') else {
        return Some(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(plain);
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                (high << 4 | low, after)
            }
            (byte, _) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A value, which is a text, a number, or one of the names of an enum.
struct Value<'a>(Cow<'a, str>);

impl<'a> IntoDeserializer<'a> for Value<'a> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($deserialize:ident => $visit:ident,)*) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(serde::de::Error::custom("not of that type")),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.into_deserializer().deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.into_deserializer().deserialize_enum(name, variants, visitor)
    }

    parsed! {
        deserialize_bool => visit_bool,
        deserialize_u8 => visit_u8,
        deserialize_u16 => visit_u16,
        deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64,
        deserialize_i8 => visit_i8,
        deserialize_i16 => visit_i16,
        deserialize_i32 => visit_i32,
        deserialize_i64 => visit_i64,
        deserialize_f32 => visit_f32,
        deserialize_f64 => visit_f64,
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Side {
        #[default]
        Left,
        Right,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        url: String,
        ttl: Option<u64>,
        share: Option<f64>,
        #[serde(default)]
        confirmed: bool,
        #[serde(default)]
        side: Side,
    }

    proptest! {
        /// Where it reads something, the library reads the same; where it does not, the library does not either, unless
        /// the library puts something in the place of what is not UTF-8.
        #[test]
        fn reads_what_the_library_reads(
            pairs in prop::collection::vec(
                (
                    prop::sample::select(vec!["url", "ttl", "share", "confirmed", "side", "%75rl", "ur+l", "", "x"]),
                    prop::sample::select(vec!["=", "", "=="]),
                    prop_oneof!["[a-z0-9%+.é=-]{0,12}", "%[0-9a-fA-F]{2}%[89a-fA-F][0-9]", "[0-9]{1,21}", "true|right|1e3"],
                ),
                0..5,
            ),
            trailing in prop::sample::select(vec!["", "&", "&&"]),
        ) {
            let query = pairs.iter().map(|(name, equals, value)| format!("{name}{equals}{value}")).collect::<Vec<_>>();
            let query = query.join("&") + trailing;
            let expected = serde_urlencoded::from_str::<Sample>(&query).ok();
            let is_text = percent_encoding::percent_decode_str(&query).decode_utf8().is_ok();
            match read::<Sample>(&query) {
                Some(sample) => prop_assert_eq!(Some(sample), expected, "{}", query),
                None => prop_assert!(expected.is_none() || !is_text, "{}", query),
            }
        }
    }
}
