//! JSON values as attributes and back, what an attribute holds apart from how it is written, and how large it is.
//!
//! JSON has no sets and no binary data. Attributes of these types are not shown, and what is written over a map
//! or list that holds some keeps them: shown as arrays or base64 text, they would come back as lists and strings.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Number, Value};

use super::super::item::Item;

/// How deep values may be nested in an attribute; DynamoDB ends at 32, the attribute included.
const DEEPEST: usize = 30;

/// What every number of `DynamoDB` is below.
const TOO_LARGE: f64 = 1e126;

/// How small, other than 0.
const SMALLEST: f64 = 1e-130;

/// The attribute that says what `value` does; `None` if DynamoDB has none.
///
/// What it reads as may still be another value: it has no negative zero, and 1.0 is 1.
pub(super) fn to_attribute(value: &Value) -> Option<AttributeValue> {
    to_attribute_at(value, 0)
}

fn to_attribute_at(value: &Value, depth: usize) -> Option<AttributeValue> {
    if depth > DEEPEST {
        return None;
    }
    Some(match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(number) => AttributeValue::N(to_number(number)?),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(items) => {
            let items = items.iter().map(|item| to_attribute_at(item, depth + 1));
            AttributeValue::L(items.collect::<Option<_>>()?)
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                let named = (!name.is_empty()).then(|| name.clone());
                named.zip(to_attribute_at(value, depth + 1))
            });
            AttributeValue::M(members.collect::<Option<_>>()?)
        }
    })
}

fn to_number(number: &Number) -> Option<String> {
    if !number.is_f64() {
        return Some(number.to_string());
    }
    let float = number.as_f64()?;
    if float == 0.0 {
        return Some("0".to_owned());
    }
    // As the service would write it; what is longer takes an exponent.
    let plain = float.to_string();
    let fits = (SMALLEST..TOO_LARGE).contains(&float.abs());
    fits.then(|| if plain.len() <= 30 { plain } else { format!("{float:e}") })
}

/// What an attribute says in JSON; `None` if JSON cannot say it.
pub(super) fn from_attribute(attribute: &AttributeValue) -> Option<Value> {
    Some(match attribute {
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::N(text) => Value::Number(from_number(text)?),
        AttributeValue::S(text) => Value::String(text.clone()),
        AttributeValue::L(items) => {
            // A place in a list stays a place in a list.
            Value::Array(items.iter().map(|item| from_attribute(item).unwrap_or_default()).collect())
        }
        AttributeValue::M(members) => {
            let members =
                members.iter().filter_map(|(name, value)| Some((name.clone(), from_attribute(value)?)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => return None,
    })
}

/// A whole number where it is one that JSON readers agree on, otherwise the nearest double.
fn from_number(text: &str) -> Option<Number> {
    let Decimal { negative, digits, exponent } = Decimal::of(text)?;
    let zeros = usize::try_from(exponent).ok().filter(|zeros| digits.len() + zeros <= 20);
    if let Some(zeros) = zeros {
        let whole = format!("{}{digits}{}", if negative { "-" } else { "" }, "0".repeat(zeros));
        if let Ok(number) = whole.parse::<u64>() {
            return Some(number.into());
        }
        if let Ok(number) = whole.parse::<i64>() {
            return Some(number.into());
        }
    }
    Number::from_f64(text.parse().ok()?)
}

/// A number apart from how it is written: digits without zeros at either end, and the power of ten behind them.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let leading = digits.trim_start_matches('0');
        let trimmed = leading.trim_end_matches('0');
        if trimmed.is_empty() {
            return Some(Self { negative: false, digits: "0".to_owned(), exponent: 0 });
        }
        let exponent = exponent.checked_add(i64::try_from(leading.len() - trimmed.len()).ok()?)?;
        Some(Self { negative, digits: trimmed.to_owned(), exponent })
    }
}

/// `fresh`, with what `old` holds in the same places and says just as well, or that JSON cannot say.
pub(super) fn over(old: &AttributeValue, fresh: AttributeValue) -> AttributeValue {
    match (old, fresh) {
        (AttributeValue::M(old), AttributeValue::M(mut fresh)) => {
            for (name, old) in old {
                match fresh.remove(name) {
                    Some(value) => drop(fresh.insert(name.clone(), over(old, value))),
                    None if from_attribute(old).is_none() => drop(fresh.insert(name.clone(), old.clone())),
                    None => {}
                }
            }
            AttributeValue::M(fresh)
        }
        (AttributeValue::L(old), AttributeValue::L(fresh)) => {
            let mut old = old.iter();
            AttributeValue::L(fresh.into_iter().map(|fresh| keep(old.next(), fresh)).collect())
        }
        (old, fresh) if from_attribute(old) == from_attribute(&fresh) => old.clone(),
        (_, fresh) => fresh,
    }
}

/// An element of a list: what JSON cannot say is shown as null there.
fn keep(old: Option<&AttributeValue>, fresh: AttributeValue) -> AttributeValue {
    match old {
        Some(old) if fresh.is_null() && from_attribute(old).is_none() => old.clone(),
        Some(old) => over(old, fresh),
        None => fresh,
    }
}

/// Feeds `hasher` with an item, but for the attributes of these names: equal for equal content, however numbers are
/// written and sets ordered.
pub(super) fn digest(hasher: &mut blake3::Hasher, item: &Item, without: &[&str]) {
    let named = item.iter().filter(|(name, _)| !without.contains(&name.as_str()));
    hash_members(hasher, named);
}

fn hash_members<'m>(
    hasher: &mut blake3::Hasher,
    members: impl Iterator<Item = (&'m String, &'m AttributeValue)>,
) {
    let mut members: Vec<_> = members.collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    hash_part(hasher, b'M', &(members.len() as u64).to_le_bytes());
    for (name, value) in members {
        hash_part(hasher, b'k', name.as_bytes());
        hash_value(hasher, value);
    }
}

/// No two different lists of parts give the same bytes.
fn hash_part(hasher: &mut blake3::Hasher, kind: u8, bytes: &[u8]) {
    hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

fn hash_value(hasher: &mut blake3::Hasher, value: &AttributeValue) {
    match value {
        AttributeValue::Null(_) => hash_part(hasher, b'0', b""),
        AttributeValue::Bool(value) => hash_part(hasher, b'?', &[u8::from(*value)]),
        AttributeValue::N(text) => hash_part(hasher, b'N', plain_number(text).as_bytes()),
        AttributeValue::S(text) => hash_part(hasher, b'S', text.as_bytes()),
        AttributeValue::B(blob) => hash_part(hasher, b'B', blob.as_ref()),
        AttributeValue::L(items) => {
            hash_part(hasher, b'L', &(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| hash_value(hasher, item));
        }
        AttributeValue::M(members) => hash_members(hasher, members.iter()),
        AttributeValue::Ss(set) => hash_set(hasher, b's', set.iter().map(|text| text.clone().into_bytes())),
        AttributeValue::Ns(set) => {
            hash_set(hasher, b'n', set.iter().map(|text| plain_number(text).into_bytes()));
        }
        AttributeValue::Bs(set) => hash_set(hasher, b'b', set.iter().map(|blob| blob.as_ref().to_vec())),
        other => hash_part(hasher, b'!', format!("{other:?}").as_bytes()),
    }
}

fn hash_set(hasher: &mut blake3::Hasher, kind: u8, members: impl Iterator<Item = Vec<u8>>) {
    let mut members: Vec<Vec<u8>> = members.collect();
    members.sort_unstable();
    hash_part(hasher, kind, &(members.len() as u64).to_le_bytes());
    members.iter().for_each(|member| hash_part(hasher, b'm', member));
}

/// A number in the one form that all ways to write it have in common.
fn plain_number(text: &str) -> String {
    let Some(Decimal { negative, digits, exponent }) = Decimal::of(text) else { return text.to_owned() };
    let mut plain = String::with_capacity(digits.len() + 8);
    let _ = write!(plain, "{}{digits}e{exponent}", if negative { "-" } else { "" });
    plain
}

/// How many bytes an item takes, by the rules of the developer guide, "`DynamoDB` item sizes and formats". A number is
/// taken to be as large as it can be.
pub(super) fn size_of_item(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + size_of(value)).sum()
}

fn size_of(value: &AttributeValue) -> usize {
    const NUMBER: usize = 21;
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(text) => NUMBER.min(text.len() + 1),
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::Ss(set) => set.iter().map(String::len).sum(),
        AttributeValue::Ns(set) => set.len() * NUMBER,
        AttributeValue::Bs(set) => set.iter().map(|blob| blob.as_ref().len()).sum(),
        AttributeValue::L(items) => 3 + items.iter().map(|item| 1 + size_of(item)).sum::<usize>(),
        AttributeValue::M(members) => 3 + size_of_members(members),
        _ => 1,
    }
}

fn size_of_members(members: &HashMap<String, AttributeValue>) -> usize {
    members.iter().map(|(name, value)| 1 + name.len() + size_of(value)).sum()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;
    use serde_json::json;

    use super::*;

    fn there_and_back(value: &Value) -> Option<Value> {
        from_attribute(&to_attribute(value)?)
    }

    #[test]
    fn values_come_back_or_are_told() {
        for exact in [
            json!(null),
            json!(["", -1, u64::MAX, i64::MIN, 1.5, 0.1, 1e22, -2.5e-100, true]),
            json!({"a": {"b": [{}, [], null]}}),
        ] {
            assert_eq!(there_and_back(&exact), Some(exact));
        }
        for inexact in [json!(1.0), json!([-0.0]), json!({"a": 100_000.0})] {
            assert!(there_and_back(&inexact).is_some_and(|back| back != inexact), "{inexact}");
        }
        for impossible in [json!(1e300), json!(1e-200), json!({"": 1}), json!([f64::MAX])] {
            assert_eq!(there_and_back(&impossible), None, "{impossible}");
        }
        let nested = (0..40).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(there_and_back(&nested), None);
    }

    #[test]
    fn numbers_are_read_in_every_form() {
        let read = |text: &str| from_number(text).map(Value::Number);
        assert_eq!(read("1E+2"), Some(json!(100)));
        assert_eq!(read("-7.00"), Some(json!(-7)));
        assert_eq!(read("0.0"), Some(json!(0)));
        assert_eq!(read("120.5"), Some(json!(120.5)));
        assert_eq!(read("12345678901234567890123456789012345678"), Some(json!(1.234_567_890_123_456_8e37)));
        for none in ["", "x", "1e", "--1", "1.2.3"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_kept() {
        let set = AttributeValue::Ss(vec!["a".to_owned()]);
        let member = |name: &str, value: &AttributeValue| (name.to_owned(), value.clone());
        let long = AttributeValue::N("1.00".to_owned());
        let old = AttributeValue::M(HashMap::from([
            member("set", &set),
            member("list", &AttributeValue::L(vec![set.clone(), long.clone()])),
            member("gone", &long),
        ]));
        assert_eq!(from_attribute(&old), Some(json!({"list": [null, 1], "gone": 1})));
        let fresh = to_attribute(&json!({"list": [null, 1, 2], "new": 3})).expect("a map");
        let merged = over(&old, fresh);
        let members = merged.as_m().expect("a map");
        assert_eq!(members["set"], set);
        assert_eq!(members["list"].as_l().expect("a list")[..2], [set, long]);
        assert_eq!(from_attribute(&merged), Some(json!({"list": [null, 1, 2], "new": 3})));
    }

    #[test]
    fn the_digest_is_that_of_the_content() {
        let of = |item: &Item| {
            let mut hasher = blake3::Hasher::new();
            digest(&mut hasher, item, &["skipped"]);
            hasher.finalize()
        };
        let item = |number: &str, set: [&str; 2], skipped: bool| {
            Item::from([
                ("n".to_owned(), AttributeValue::N(number.to_owned())),
                ("s".to_owned(), AttributeValue::Ss(set.map(str::to_owned).to_vec())),
                ("b".to_owned(), AttributeValue::B(Blob::new(b"x"))),
                ("skipped".to_owned(), AttributeValue::Bool(skipped)),
            ])
        };
        let first = of(&item("100", ["a", "b"], true));
        assert_eq!(first, of(&item("1.00E2", ["b", "a"], false)));
        assert_ne!(first, of(&item("101", ["a", "b"], true)));
        assert_ne!(first, of(&item("100", ["a", "c"], true)));
    }
}
