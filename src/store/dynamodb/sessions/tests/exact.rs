//! What comes back is what was stored, whatever attributes can hold; and what is too large for them.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::super::super::item::{number, text};
use super::super::testing::{SessionsTable, Shape};
use super::*;
use crate::store::Error;

const SHAPES: [Shape; 3] = [Shape::Own, Shape::WallcrawlerNumber, Shape::WallcrawlerText];

/// Values that attributes cannot hold, or not quite.
fn difficult() -> SessionRecord {
    let mut record = session("s", 10);
    let nested = (0..60).fold(json!(1.0), |inner, _| json!({"in": [inner]}));
    record.session.state = Some(json!({
        "one": 1.0, "huge": 1e300, "zero": -0.0, "tiny": 5e-324, "third": 0.1, "whole": u64::MAX, "": {"": ""},
        "nested": nested,
    }));
    record.session.user_metadata = json!({"ratio": 2.0, "n": 1}).as_object().expect("a map").clone();
    record.session.extra.insert("float".to_owned(), json!(3.0));
    record.session.extra.insert("session_id".to_owned(), json!("extra"));
    record.session.extra.insert("sessionId".to_owned(), json!("extra"));
    record.session.extra.insert("ttl_mode".to_owned(), json!([1e200]));
    record.session.extra.insert("e".repeat(300), Value::Null);
    record.session.created_at = Timestamp::from_millis(10_123);
    record.session.updated_at = Timestamp::from_millis(10_999);
    record.session.expires_at = Timestamp::from_millis(20_001);
    record.session.ready_at = Some(Timestamp::from_millis(1));
    record.events[0].timestamp = Timestamp::from_millis(12_345);
    record.events[0].detail.insert("took".to_owned(), json!(1.0));
    record
}

#[tokio::test]
async fn every_value_comes_back() {
    for shape in SHAPES {
        let Some(table) = SessionsTable::make(shape).await else { return };
        store_any(&table.store, difficult()).await;
        assert_eq!(get(&table.store, "s").await, difficult(), "{shape:?}");
        let stored = get(&table.store, "s").await.session.state.expect("a state");
        assert!(stored["zero"].as_f64().is_some_and(f64::is_sign_negative), "{shape:?}");
        // Written over itself and taken away again.
        for record in [difficult(), session("s", 10), difficult()] {
            store_any(&table.store, record.clone()).await;
            assert_eq!(get(&table.store, "s").await, record, "{shape:?}");
        }
    }
}

#[tokio::test]
async fn attributes_are_what_others_expect() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerNumber).await else { return };
    store_any(&table.store, difficult()).await;
    let item = table.item("s").await.expect("an item");
    assert_eq!((&item["createdAt"], &item["updatedAt"]), (&number(10_u64), &number(10_u64)));
    assert_eq!(item["expiresAt"], number(21_u64), "nothing is deleted that still lives");
    assert_eq!(item["float"], number(3_u64), "as near as it gets");
    assert!(!item.contains_key("state"), "nothing rather than something else");
    assert_eq!(item["userMetadata"].as_m().expect("a map")["ratio"], number(2_u64));
    let Some(table) = SessionsTable::make(Shape::Own).await else { return };
    store_any(&table.store, difficult()).await;
    let item = table.item("s").await.expect("an item");
    assert_eq!(item["created_at"], text("1970-01-01T00:00:10.123Z"));
    assert_eq!((&item["expires_at"], &item["ttl"]), (&text("1970-01-01T00:00:20.001Z"), &number(21_u64)));
    assert_eq!(item["project_key"], text("default p"));
}

#[tokio::test]
async fn what_others_change_is_what_counts() {
    for shape in SHAPES {
        let Some(table) = SessionsTable::make(shape).await else { return };
        store_any(&table.store, difficult()).await;
        table.set("s", "float", number(4_u64)).await;
        table.set("s", "state", text("theirs")).await;
        let read = get(&table.store, "s").await.session;
        assert_eq!((&read.extra["float"], read.state), (&json!(4), Some(json!("theirs"))), "{shape:?}");
        assert_eq!(read.user_metadata["ratio"], json!(2.0), "{shape:?}");
        assert_ne!(read.version, difficult().session.version, "{shape:?}");
    }
}

#[tokio::test]
async fn large_parts_are_packed() {
    for shape in SHAPES {
        let Some(table) = SessionsTable::make(shape).await else { return };
        let mut record = session("s", 10);
        record.session.state = Some(json!({"page": "lorem ipsum ".repeat(25_000)}));
        for place in 0..40_u64 {
            let mut event = record.events[0].clone();
            event.index = place + 1;
            event.detail.insert("text".to_owned(), json!("dolor sit amet ".repeat(400)));
            record.events.push(event);
        }
        record.session.extra.insert("more".to_owned(), json!({"a": "b".repeat(300_000), "n": 1.0}));
        store_any(&table.store, record.clone()).await;
        assert_eq!(get(&table.store, "s").await, record, "{shape:?}");
        let item = table.item("s").await.expect("an item");
        assert!(!item.contains_key("state") && item["unknown"].is_l(), "{shape:?}");
        let (_, after, _) = change(&table, "s", touched).await;
        let packed = if shape == Shape::Own { "cc_packed" } else { "ccPacked" };
        assert_eq!(after[packed], item[packed], "{shape:?}: what has not changed is not written");
        // Once it fits again it is readable again.
        store_any(&table.store, session("s", 20)).await;
        let item = table.item("s").await.expect("an item");
        assert!(item.contains_key("state") && !item.contains_key(packed), "{shape:?}");
        assert_eq!(get(&table.store, "s").await, session("s", 20), "{shape:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let Some(table) = SessionsTable::make(Shape::Own).await else { return };
    // Hexadecimal digits of hashes: they can be halved, no more.
    let noise: String =
        (0..20_000_u32).map(|number| blake3::hash(&number.to_le_bytes()).to_hex().to_string()).collect();
    let mut record = session("s", 10);
    record.session.state = Some(Value::String(noise));
    let refused = table.store.put(put(record.clone(), SessionCondition::Any)).await.expect_err("too large");
    assert!(matches!(&refused, Error::TooLarge { detail, .. } if detail.contains("session s ")), "{refused}");
    assert_eq!(table.item("s").await, None);
    // An item that others have made larger than the limit can still be changed.
    store_any(&table.store, session("s", 10)).await;
    let blob = AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(vec![7; 360_000]));
    table.set("s", "recording", blob.clone()).await;
    let (_, after, _) = change(&table, "s", with_event).await;
    assert_eq!(after["recording"], blob);
}

#[tokio::test]
async fn many_unknown_attributes() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    let mut record = session("s", 10);
    for number in 0..600 {
        record.session.extra.insert(format!("attribute{number}"), json!(number));
    }
    store_any(&table.store, record.clone()).await;
    assert_eq!(get(&table.store, "s").await, record);
    for value in record.session.extra.values_mut() {
        *value = json!("other");
    }
    store_any(&table.store, record.clone()).await;
    assert_eq!(get(&table.store, "s").await, record);
    store_any(&table.store, session("s", 20)).await;
    assert_eq!(get(&table.store, "s").await, session("s", 20));
    store_any(&table.store, record.clone()).await;
    assert_eq!(get(&table.store, "s").await, record);
}

#[tokio::test]
async fn indexed_attributes_keep_their_type() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    let mut record = session("s", 10);
    record.session.project_id = Some(String::new());
    store_any(&table.store, record.clone()).await;
    assert_eq!(get(&table.store, "s").await, record);
    assert_eq!(at(10), record.session.created_at);
    assert!(
        !table.item("s").await.expect("an item").contains_key("projectId"),
        "no key of an index is empty"
    );
}
