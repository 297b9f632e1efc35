//! Items as older code writes them, and as nobody should.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;

use super::*;

/// What `boto3` makes of a Python value: the same value as JSON.
fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(value) => AttributeValue::N(value.to_string()),
        Value::String(value) => text(value.as_str()),
        Value::Array(values) => AttributeValue::L(values.iter().map(attribute).collect()),
        Value::Object(members) => {
            AttributeValue::M(members.iter().map(|(name, value)| (name.clone(), attribute(value))).collect())
        }
    }
}

fn item(document: &Value) -> Item {
    let Value::Object(members) = document else { panic!("{document} is no object") };
    members.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn page() -> Value {
    json!({
        "url": URL,
        "success": true,
        "html": "<html><body>Grüße</body></html>",
        "cleaned_html": "<body>Grüße</body>",
        "markdown": {
            "raw_markdown": "Grüße", "markdown_with_citations": "Grüße", "references_markdown": "",
            "fit_markdown": "", "fit_html": ""
        },
        "extracted_content": "",
        "media": {"images": [{"src": "/a.png", "score": 3, "alt": ""}], "videos": []},
        "links": {},
        "metadata": {"title": "Grüße", "ratio": 0.25, "keywords": null},
        "response_headers": {"ETag": "\"v1\"", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        "downloaded_files": [],
        "screenshot": "",
        "status_code": 200,
        "error_message": "",
        "session_id": "",
        "created_at": "2025-01-15T10:30:00Z",
        "updated_at": "2025-01-16T10:30:00Z",
        "ttl": 1_800_000_000
    })
}

fn page_with(name: &str, value: AttributeValue) -> Item {
    let mut item = item(&page());
    item.insert(name.to_owned(), value);
    item
}

#[test]
fn a_page_comes_back_field_for_field() {
    let entry = read(&item(&page()), &key()).expect("is read");
    assert_eq!(Value::Object(object(&json(&entry))), page());
    let meta = &entry.meta;
    let updated_at = Timestamp::parse("2025-01-16T10:30:00Z").expect("a time");
    assert_eq!(meta.created_at, Timestamp::parse("2025-01-15T10:30:00Z").expect("a time"));
    assert_eq!((meta.updated_at, meta.version), (updated_at, Version::first_of(updated_at)));
    assert_eq!(meta.expires_at, Timestamp::from_secs(1_800_000_000));
    assert_eq!((meta.status_code, meta.success), (Some(200), Some(true)));
    assert_eq!(meta.validators.etag.as_deref(), Some("\"v1\""));
    assert_eq!(meta.validators.last_modified.as_deref(), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
    assert_eq!(entry.document().value("markdown").expect("decodes").map(|value| value.len() > 9), Some(true));
}

#[test]
fn the_same_item_is_the_same_frame_and_another_is_not() {
    let first = read(&item(&page()), &key()).expect("is read");
    let again = read(&item(&page()), &key()).expect("is read");
    assert_eq!((first.meta.etag, &first.frame), (again.meta.etag, &again.frame));
    let other = read(&page_with("html", text("<p>")), &key()).expect("is read");
    assert_ne!(other.meta.etag, first.meta.etag);
}

#[test]
fn times_of_older_code() {
    let at = |updated_at: Option<AttributeValue>, created_at: Option<AttributeValue>| {
        let mut item = item(&page());
        item.retain(|name, _| !OWN_TIMES.contains(&name.as_str()));
        item.extend(updated_at.map(|value| ("updated_at".to_owned(), value)));
        item.extend(created_at.map(|value| ("created_at".to_owned(), value)));
        let meta = read(&item, &key()).expect("is read").meta;
        assert_eq!(meta.expires_at, Timestamp::MAX, "no ttl");
        assert_eq!(meta.version, Version::first_of(meta.updated_at));
        (meta.updated_at.as_millis(), meta.created_at.as_millis())
    };
    assert_eq!(at(None, None), (0, 0));
    assert_eq!(at(None, Some(text("2026-01-15T10:30:00.123456"))), (1_768_473_000_123, 1_768_473_000_123));
    assert_eq!(at(Some(text("2026-01-15T10:30:00")), None), (1_768_473_000_000, 1_768_473_000_000));
    assert_eq!(
        at(Some(number(1_768_473_000_u64)), Some(text("yesterday"))),
        (1_768_473_000_000, 1_768_473_000_000)
    );
    assert_eq!(at(Some(AttributeValue::Bool(true)), Some(AttributeValue::L(vec![]))), (0, 0));
}

#[test]
fn an_expiry_that_is_none_is_no_expiry() {
    for (ttl, expected) in [
        (AttributeValue::N("1768473000.75".to_owned()), Timestamp::from_millis(1_768_473_000_750)),
        (text("1768473000"), Timestamp::from_secs(1_768_473_000)),
        (AttributeValue::N("1768473000000".to_owned()), Timestamp::MAX),
        (AttributeValue::N("-1".to_owned()), Timestamp::MAX),
        (AttributeValue::Null(true), Timestamp::MAX),
    ] {
        assert_eq!(
            read(&page_with("ttl", ttl.clone()), &key()).expect("is read").meta.expires_at,
            expected,
            "{ttl:?}"
        );
    }
}

#[test]
fn every_type_has_a_form_in_json() {
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (value, expected) in [
        (
            AttributeValue::N("0.10000000000000000000000000000000000001".to_owned()),
            "0.10000000000000000000000000000000000001",
        ),
        (AttributeValue::N("1E+100".to_owned()), "1E+100"),
        (AttributeValue::B(Blob::new([0, 255, 16])), "\"AP8Q\""),
        (AttributeValue::Ss(strings(&["b", "a"])), r#"["a","b"]"#),
        (AttributeValue::Ns(strings(&["2", "1.5"])), "[1.5,2]"),
        (AttributeValue::Bs(vec![Blob::new([1]), Blob::new([0])]), r#"["AA==","AQ=="]"#),
        (AttributeValue::M(HashMap::new()), "{}"),
        (
            AttributeValue::M(HashMap::from([
                ("b\n".to_owned(), text("\u{1}")),
                ("a".to_owned(), AttributeValue::Null(true)),
            ])),
            r#"{"a":null,"b\n":"\u0001"}"#,
        ),
        (AttributeValue::L(vec![AttributeValue::Bool(false), number(0_u64)]), "[false,0]"),
    ] {
        let entry = read(&page_with("field", value), &key()).expect("is read");
        assert_eq!(entry.document().value("field"), Ok(Some(expected.as_bytes().to_vec())));
    }
}

#[test]
fn a_status_that_is_none_stays_in_the_document() {
    for (value, status_code) in [
        (number(0_u64), Some(0)),
        (text("200"), None),
        (AttributeValue::N("2.5".to_owned()), None),
        (number(70_000_u64), None),
    ] {
        let entry = read(&page_with("status_code", value), &key()).expect("is read");
        assert_eq!(entry.meta.status_code, status_code);
        assert!(entry.document().value("status_code").expect("decodes").is_some());
    }
}

#[test]
fn what_is_no_json_is_an_error() {
    let nested = |levels| (0..levels).fold(text("x"), |value, _| AttributeValue::L(vec![value]));
    assert!(read(&page_with("field", nested(MAX_DEPTH)), &key()).is_ok());
    for value in [
        nested(MAX_DEPTH + 1),
        nested(2000),
        AttributeValue::N("NaN".to_owned()),
        AttributeValue::N(String::new()),
        AttributeValue::N("1,\"x\":2".to_owned()),
        AttributeValue::Ns(vec!["1".to_owned(), "]".to_owned()]),
    ] {
        assert!(read(&page_with("field", value), &key()).is_err());
    }
    let many: Item = (0..20_000).map(|number| (number.to_string(), AttributeValue::Null(true))).collect();
    assert!(read(&many, &key()).is_err());
}

#[test]
fn names_of_ours_are_fields_in_the_items_of_others() {
    let mut item = item(&page());
    for name in BOOKKEEPING.iter().chain(&KEY_PARTS).chain(&INDEXED).filter(|name| **name != PLAIN_ETAG) {
        item.insert((*name).to_owned(), text("theirs"));
    }
    let entry = read(&item.clone(), &key()).expect("is read");
    assert_eq!(object(&json(&entry)).len(), item.len());
    assert_eq!(entry.meta.expires_at, Timestamp::from_secs(1_800_000_000));
    item.insert("listed_at".to_owned(), text(format!("2026-01-15T10:30:00.000Z {}", key().id())));
    let entry = read(&item.clone(), &key()).expect("is read");
    assert_eq!(object(&json(&entry)).len(), item.len() - INDEXED.len(), "an index entry is no field");
}

#[test]
fn an_item_of_another_variant_has_the_page_as_url() {
    let key = Key::new(&Namespace::new("tenant").expect("valid"), URL, "mobile").expect("valid");
    let mut item = item(&page());
    item.insert("url".to_owned(), text(format!("{URL} tenant mobile")));
    item.insert("page_url".to_owned(), text(URL));
    item.insert("namespace".to_owned(), text("tenant"));
    item.insert("variant".to_owned(), text("mobile"));
    let entry = read(&item, &key).expect("is read");
    assert_eq!(Value::Object(object(&json(&entry))), page());
}

#[test]
fn a_change_by_others_is_a_new_etag_and_a_change_of_times_is_not() {
    let raw = format!(r#"{{"url":"{URL}","html":"<p>","status_code":200,"head_fingerprint":"f1"}}"#);
    let item = put(&raw).expect("fits");
    let entry = read(&item.clone(), &key()).expect("is read");
    assert_eq!(entry.meta.etag, stored(&key(), &raw).meta.etag);
    for (name, value, same) in [
        ("updated_at", text("2026-02-01T00:00:00.000Z"), true),
        ("ttl", number(9_u64), true),
        (FINGERPRINT, text("f2"), true),
        ("origin_etag", text("\"v2\""), true),
        ("listed_at", text("x"), true),
        ("html", text("<b>"), false),
        ("head_fingerprint", text("f2"), false),
        ("added", AttributeValue::Bool(true), false),
        (PLAIN_ETAG, text(""), false),
    ] {
        let mut changed = item.clone();
        changed.insert(name.to_owned(), value);
        let read = read(&changed, &key()).expect("is read");
        assert_eq!(read.meta.etag == entry.meta.etag, same, "{name}");
        assert_eq!(read.meta.version, entry.meta.version);
    }
    let mut broken = item;
    broken.insert("etag".to_owned(), text("not 32 digits"));
    assert_ne!(read(&broken, &key()).expect("is read").meta.etag, entry.meta.etag);
}
