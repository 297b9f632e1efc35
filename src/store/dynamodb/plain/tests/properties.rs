//! Properties of the plain layout: any document, any item.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use proptest::prelude::*;

use super::*;

/// JSON text with the forms of numbers and strings that do not survive.
fn value(odd: bool) -> impl Strategy<Value = String> {
    let numbers: &[&str] = if odd {
        &["1.0", "1e5", "-0", "0.10", "1E400", "123456789012345678901234567890123456789", "0", "-7.25"]
    } else {
        &["0", "1", "-7.25", "12345678901234567890.125", "0.5", "100000000000000000000"]
    };
    let strings: &[&str] =
        if odd { &[r#""\ud800""#, r#""\u0061""#] } else { &[r#""\u0061""#, r#""\/""#, r#""\ud83d\ude00""#] };
    let leaf = prop_oneof![
        prop::sample::select(&["null", "true", "false", "[]", "{}", "[ ]"][..]).prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        ".{0,40}".prop_map(|text| quoted(&text)),
        "[a-z <>/]{0,4000}".prop_map(|text| quoted(&text)),
        prop::sample::select(numbers).prop_map(str::to_owned),
        prop::sample::select(strings).prop_map(str::to_owned),
    ];
    let name: &'static str = if odd { ".{0,3}" } else { ".{1,8}" };
    // Two members may have the same name.
    let most = if odd { 6 } else { 1 };
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|values| format!("[{}]", values.join(" ,"))),
            prop::collection::hash_map(name, inner.clone(), 0..6).prop_map(members_of),
            prop::collection::vec((name, inner), 0..=most).prop_map(members_of),
        ]
    })
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("serialises")
}

fn members_of(members: impl IntoIterator<Item = (String, String)>) -> String {
    let members = members.into_iter().map(|(name, value)| format!("{} : {value}", quoted(&name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn name(odd: bool) -> impl Strategy<Value = String> {
    let mut known =
        vec!["html", "markdown", "media", "created_at", "ttl", "head_fingerprint", "status_code", "success"];
    if odd {
        known.extend(["version", "listed_at", "frame", "variant"]);
    }
    prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => "[A-Za-zé_]{1,12}_"]
}

pub(super) fn document(odd: bool) -> impl Strategy<Value = String> {
    let url = if odd { vec![quoted(URL), "null".to_owned()] } else { vec![quoted(URL)] };
    let members = prop::collection::hash_map(name(odd), value(odd), 0..8);
    (members, prop::sample::select(url)).prop_map(|(mut members, url)| {
        members.insert("url".to_owned(), url);
        members_of(members)
    })
}

/// The digits of all numbers, outside of strings, in order of size.
pub(super) fn numbers(json: &str) -> Vec<String> {
    fn walk(json: &str, found: &mut Vec<String>) {
        match json.as_bytes()[0] {
            b'{' => {
                let members: HashMap<String, &serde_json::value::RawValue> =
                    serde_json::from_str(json).expect("JSON");
                members.values().for_each(|value| walk(value.get(), found));
            }
            b'[' => {
                let values: Vec<&serde_json::value::RawValue> = serde_json::from_str(json).expect("JSON");
                values.iter().for_each(|value| walk(value.get(), found));
            }
            b'-' | b'0'..=b'9' => found.push(json.to_owned()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let members: HashMap<String, &serde_json::value::RawValue> = serde_json::from_str(json).expect("JSON");
    let kept = members.iter().filter(|(name, _)| !OWN_TIMES.contains(&name.as_str()));
    kept.for_each(|(_, value)| walk(value.get(), &mut found));
    found.sort_unstable();
    found
}

fn comes_back(raw: &str) -> Result<(), TestCaseError> {
    let entry = stored(&key(), raw);
    let item =
        write(&entry.meta, &entry.frame, LIMIT).map_err(|refused| TestCaseError::reject(refused.as_str()))?;
    let item = complete(item, &entry.meta);
    prop_assert!(size::of_item(&item) <= LIMIT);
    let back = read(&item.clone(), &key()).map_err(TestCaseError::fail)?;
    prop_assert_eq!(without_times(&json(&back)), without_times(raw));
    prop_assert_eq!(numbers(&json(&back)), numbers(raw));
    let (read, put) = (&back.meta, &entry.meta);
    prop_assert_eq!((read.etag, read.version, read.created_at), (put.etag, put.version, put.created_at));
    prop_assert_eq!((read.updated_at, read.expires_at), (put.updated_at, put.expires_at));
    prop_assert_eq!((read.status_code, read.success), (put.status_code, put.success));
    prop_assert_eq!(&read.validators, &put.validators);
    Ok(())
}

fn attribute() -> impl Strategy<Value = AttributeValue> {
    let numbers =
        prop_oneof![any::<i64>().prop_map(|number| number.to_string()), "[-+0-9.eE]{0,12}", ".{0,4}"];
    let leaf = prop_oneof![
        ".{0,30}".prop_map(AttributeValue::S),
        numbers.prop_map(AttributeValue::N),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<bool>().prop_map(AttributeValue::Null),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
        prop::collection::vec(".{0,5}", 0..4).prop_map(AttributeValue::Ss),
        prop::collection::vec("[0-9]{1,5}", 0..4).prop_map(AttributeValue::Ns),
        prop::collection::vec(any::<u8>(), 0..4)
            .prop_map(|bytes| AttributeValue::Bs(bytes.into_iter().map(|byte| Blob::new([byte])).collect())),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(AttributeValue::L),
            prop::collection::hash_map(".{0,6}", inner, 0..6).prop_map(AttributeValue::M),
        ]
    })
}

fn foreign() -> impl Strategy<Value = Item> {
    let known =
        [&BOOKKEEPING[..], &INDEXED, &KEY_PARTS, &OWN_TIMES, &["url", "status_code", "response_headers"]]
            .concat();
    let name = prop_oneof![prop::sample::select(known).prop_map(str::to_owned), ".{0,8}"];
    prop::collection::hash_map(name, attribute(), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_it_holds_comes_back(raw in document(false)) {
        comes_back(&raw)?;
    }

    #[test]
    fn any_document_comes_back_or_is_refused(raw in document(true)) {
        match comes_back(&raw) {
            Err(TestCaseError::Reject(_)) => {}
            done => done?,
        }
    }

    #[test]
    fn any_item_is_read_or_an_error(item in foreign()) {
        let copy: Item = item.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let count = item.len();
        let (first, second) = (read(&item, &key()), read(&copy, &key()));
        prop_assert_eq!(first.is_ok(), second.is_ok());
        if let (Ok(first), Ok(second)) = (first, second) {
            prop_assert_eq!(first.frame, second.frame, "maps have no order, documents have");
            prop_assert_eq!(first.meta.etag, second.meta.etag);
            prop_assert!(first.meta.layout.fields().count() <= count + 1);
        }
    }
}
