//! Items that others write, items that nobody can read, and items in the plain layout.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::super::item::{binary, number, read_number, read_text};
use super::*;
use crate::config::ResultsLayout;
use crate::domain::document::{Encoded, encode};
use crate::store::conformance::{bodiless, text_of};
use crate::store::{Condition, DeleteOutcome, Error};

/// An item as the fleet's older code writes it.
fn older(url: &str) -> Item {
    let map = AttributeValue::M(Item::from([("raw_markdown".to_owned(), text("# Page"))]));
    Item::from([
        ("url".to_owned(), text(url)),
        ("html".to_owned(), text("<h1>Page</h1>")),
        ("markdown".to_owned(), map),
        ("success".to_owned(), AttributeValue::Bool(true)),
        ("status_code".to_owned(), number(200_u64)),
        ("created_at".to_owned(), text("2026-01-15T10:30:00.123456")),
        ("ttl".to_owned(), number(NOW + 100)),
        ("some_field".to_owned(), AttributeValue::L(vec![number(1_u64), AttributeValue::Null(true)])),
    ])
}

/// A document whose url is that of its key, as the plain layout needs it.
fn document_put(key: &Key, markdown: &str, second: u64) -> Put {
    let raw =
        serde_json::json!({"url": key.url(), "success": true, "status_code": 200, "markdown": markdown});
    let Encoded { frame, layout, etag, .. } = encode(raw.to_string().as_bytes(), 3).expect("a document");
    let mut put = put_now(key, "", second);
    (put.meta.layout, put.meta.etag, put.frame) = (layout, etag, Some(frame));
    put
}

#[tokio::test]
async fn reading_leaves_what_others_write() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    setup.write(older(PAGE)).await;
    let hit = setup.get(&page()).await.expect("a read").expect("an entry");
    let raw = hit.entry.document().decode().expect("decodes");
    let document: serde_json::Value = serde_json::from_slice(&raw).expect("JSON");
    assert_eq!(document["markdown"]["raw_markdown"], "# Page");
    assert_eq!(hit.entry.meta.expires_at, now(100));
    let metas = setup.store.get_metas(&[page()]).await.expect("metas");
    assert_eq!(format!("{:?}", metas[0].as_ref()), format!("{:?}", Some(&hit.entry.meta)));
    assert_eq!(setup.head(&page()).await, older(PAGE));
}

#[tokio::test]
async fn a_replacement_leaves_nothing_of_an_older_item() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    setup.write(older(PAGE)).await;
    let put = put_now(&page(), "new", 10);
    assert_eq!(setup.put(put.clone()).await, PutOutcome::Replaced);
    let head = setup.head(&page()).await;
    assert!(["html", "markdown", "some_field"].iter().all(|name| !head.contains_key(*name)), "{head:?}");
    assert_eq!(
        read_text(&head, "created_at"),
        Some("2026-01-15T10:30:00.123Z"),
        "the earlier creation stays"
    );
    // And the older code may write over it: what it writes has no version, and counts by its time.
    setup.write(older(PAGE)).await;
    let hit = setup.get(&page()).await.expect("a read").expect("an entry");
    assert!(hit.entry.meta.version < put.meta.version);
    assert_eq!(setup.put(put).await, PutOutcome::Replaced, "by the same version, which is newer");
}

#[tokio::test]
async fn conditions_and_versions_hold_for_older_items() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    setup.write(older(PAGE)).await;
    let etag = setup.get(&page()).await.expect("a read").expect("an entry").entry.meta.etag;
    let mut ancient = put(&page(), "ancient", 10);
    assert_eq!(setup.put(ancient.clone()).await, PutOutcome::Superseded);
    ancient.condition = Condition::Matches(vec![ancient.meta.etag]);
    assert_eq!(setup.put(ancient).await, PutOutcome::ConditionFailed);
    let absent = Put { condition: Condition::Absent(now(50)), ..put_now(&page(), "new", 50) };
    assert_eq!(setup.put(absent).await, PutOutcome::ConditionFailed);
    let early = setup.store.delete(&page(), Version::first_of(at(10)), Condition::Any).await;
    assert_eq!(early, Ok(DeleteOutcome::Absent));
    assert_eq!(setup.head(&page()).await, older(PAGE));
    // A refresh of it keeps the document and its etag.
    let mut refresh = bodiless(put_now(&page(), "", 60));
    refresh.meta.etag = etag;
    assert_eq!(setup.put(refresh).await, PutOutcome::Refreshed);
    let entry = setup.get(&page()).await.expect("a read").expect("an entry").entry;
    assert_eq!((entry.meta.etag, entry.meta.updated_at), (etag, now(60)));
    let raw = entry.document().decode().expect("decodes");
    assert!(raw.windows(6).any(|bytes| bytes == b"# Page"));
    let condition = Condition::Matches(vec![etag]);
    let deleted = setup.store.delete(&page(), Version::first_of(now(70)), condition).await;
    assert_eq!(deleted, Ok(DeleteOutcome::Deleted));
    assert!(setup.get(&page()).await.expect("a read").is_none());
}

#[tokio::test]
async fn garbled_items_are_corrupt_and_can_be_written_over() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    setup.put(put_now(&page(), "text", 10)).await;
    let good = setup.head(&page()).await;
    let with = |name: &str, value: Option<AttributeValue>| {
        let mut item = good.clone();
        match value {
            Some(value) => drop(item.insert(name.to_owned(), value)),
            None => drop(item.remove(name)),
        }
        item
    };
    let mut second = 20;
    for garbled in [
        with("version", None),
        with("version", Some(text("one"))),
        with("etag", Some(text("é".repeat(16)))),
        with("etag", Some(number(1_u64))),
        with("layout", Some(binary(vec![7, 7, 7]))),
        with("frame", Some(text("text"))),
        with("frame", Some(binary(vec![0; 3]))),
        with("frame", None),
        with("frame_bytes", Some(number(u64::MAX))),
        with("created_at", Some(text("yesterday"))),
        with("expires_at", Some(AttributeValue::Null(true))),
        with("status_code", Some(number(70_000_u64))),
        {
            let mut item = with("frame", None);
            item.insert("parts".to_owned(), number(u64::MAX));
            item.insert("parts_until".to_owned(), number(1_u64));
            item.insert("frame_id".to_owned(), text("x"));
            item
        },
        {
            let mut item = with("frame", None);
            item.insert("parts".to_owned(), text("many"));
            item
        },
    ] {
        setup.write(garbled.clone()).await;
        let error = setup.get(&page()).await.expect_err("garbled");
        let says = matches!(&error, Error::Corrupt { detail, .. }
            if detail.contains(&page().id().to_string()) && !detail.contains("example.com"));
        assert!(says, "{error}: {garbled:?}");
        setup.store.get_metas(&[page()]).await.expect("one such item fails no batch");
        second += 1;
        let put = put_now(&page(), "text again", second);
        let outcome = setup.put(put).await;
        assert!(matches!(outcome, PutOutcome::Created | PutOutcome::Replaced), "{outcome:?}: {garbled:?}");
        let entry = setup.get(&page()).await.expect("a read").expect("an entry").entry;
        assert_eq!(text_of(&entry), "text again");
    }
}

#[tokio::test]
async fn a_tombstone_stops_an_older_put() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let delete = async |second| {
        setup.store.delete(&page(), Version::first_of(now(second)), Condition::Any).await.expect("a deletion")
    };
    assert_eq!(delete(20).await, DeleteOutcome::Absent);
    for put in [put_now(&page(), "a", 10), put_now(&page(), "a", 20), bodiless(put_now(&page(), "a", 15))] {
        assert_eq!(setup.put(put).await, PutOutcome::Superseded);
    }
    let late = Put { condition: Condition::Present, ..put_now(&page(), "a", 10) };
    assert_eq!(setup.put(late).await, PutOutcome::ConditionFailed);
    assert!(setup.get(&page()).await.expect("a read").is_none());
    let tombstone = setup.head(&page()).await;
    let life = setup.config.results.max_ttl_seconds + setup.config.results.keep_stale_seconds;
    assert_eq!(read_number(&tombstone, "ttl"), Some(NOW + life));
    assert!(!tombstone.contains_key("time_shard"));
    assert_eq!(delete(10).await, DeleteOutcome::Absent);
    assert_eq!(setup.head(&page()).await, tombstone, "an older deletion changes nothing");
    assert_eq!(setup.put(put_now(&page(), "b", 30)).await, PutOutcome::Created);
    let head = setup.head(&page()).await;
    assert!(!head.contains_key("deleted"));
    assert_eq!(read_text(&head, "created_at"), Some(now(30).to_string().as_str()));
}

#[tokio::test]
async fn the_plain_layout_is_written_where_it_can_be() {
    let Some(setup) = Setup::new(|config| config.dynamodb.results_layout = ResultsLayout::Plain).await else {
        return;
    };
    let first = document_put(&page(), "first", 10);
    assert_eq!(setup.put(first.clone()).await, PutOutcome::Created);
    let head = setup.head(&page()).await;
    assert_eq!((read_text(&head, "markdown"), read_number(&head, "status_code")), (Some("first"), Some(200)));
    assert_eq!(read_number(&head, "ttl"), Some(first.meta.expires_at.as_secs()), "exactly the expiry");
    assert!(!head.contains_key("layout") && !head.contains_key("frame"));
    let entry = setup.get(&page()).await.expect("a read").expect("an entry").entry;
    assert_eq!((entry.meta.etag, entry.meta.version), (first.meta.etag, first.meta.version));
    // The same again, without and with its body, and in a table with both layouts.
    for (second, frame) in [(20, None), (30, first.frame.clone())] {
        let again = Put { frame, ..document_put(&page(), "first", second) };
        assert_eq!(setup.put(again).await, PutOutcome::Refreshed);
        let entry = setup.get(&page()).await.expect("a read").expect("an entry").entry;
        assert_eq!((entry.meta.etag, entry.meta.updated_at), (first.meta.etag, now(second)));
        assert_eq!(entry.meta.created_at, now(10));
    }
    let condition = Condition::Matches(vec![first.meta.etag]);
    let second = Put { condition, ..document_put(&page(), "second", 40) };
    assert_eq!(setup.put(second).await, PutOutcome::Replaced);
    let packing = setup.other(|config| config.dynamodb.results_layout = ResultsLayout::Packed);
    assert_eq!(packing.put(document_put(&page(), "third", 50)).await, Ok(PutOutcome::Replaced));
    assert!(!setup.head(&page()).await.contains_key("markdown"));
    assert_eq!(setup.put(document_put(&page(), "fourth", 60)).await, PutOutcome::Replaced);
    let head = setup.head(&page()).await;
    assert!(head.contains_key("markdown") && !head.contains_key("layout") && !head.contains_key("frame"));
}

#[tokio::test]
async fn what_the_plain_layout_cannot_hold_is_packed_and_counted() {
    let Some(setup) = Setup::new(|config| config.dynamodb.results_layout = ResultsLayout::Plain).await else {
        return;
    };
    let put = |field: &str, value: serde_json::Value| {
        let raw = serde_json::json!({"url": PAGE, field: value});
        let Encoded { frame, layout, etag, .. } = encode(raw.to_string().as_bytes(), 3).expect("a document");
        let mut put = put_now(&page(), "", 10);
        (put.meta.layout, put.meta.etag, put.frame) = (layout, etag, Some(frame));
        put
    };
    let deep = (0..40).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    for (reason, mut refused) in [
        ("size", put("html", "x".repeat(400_000).into())),
        ("value", put("deep", deep)),
        ("name", put("version", 1.into())),
    ] {
        refused.meta.key = key(&format!("{PAGE}/{reason}"));
        let raw = refused.frame.clone();
        assert_eq!(setup.put(refused.clone()).await, PutOutcome::Created, "{reason}");
        let hit = setup.get(&refused.meta.key).await.expect("a read").expect("an entry");
        assert_eq!(Some(&hit.entry.frame), raw.as_ref(), "{reason}: byte for byte");
        assert!(setup.head(&refused.meta.key).await.contains_key("layout"), "{reason}");
        let counted = setup.metrics.dynamodb_packed.with_label_values(&[reason]).get();
        assert!(counted >= 1, "{reason}");
    }
}
