//! Others change or delete an item between our read and our write, or after it.

use super::super::super::item::{number, text};
use super::super::change::Expressions;
use super::super::layout::{Layout, Times};
use super::super::testing::{SessionsTable, Shape};
use super::*;
use crate::store::SessionDeleteOutcome;
use crate::store::dynamodb::capacity::Retried;

const TEXT: Layout = Layout::Wallcrawler(Times::Text);

#[tokio::test]
async fn a_change_by_others_is_another_version() {
    for shape in [Shape::Own, Shape::WallcrawlerText] {
        let Some(table) = SessionsTable::make(shape).await else { return };
        store_any(&table.store, session("s", 10)).await;
        let read = get(&table.store, "s").await;
        let condition = SessionCondition::Version(read.session.version);
        table.set("s", "note", text("theirs")).await;
        let changed = get(&table.store, "s").await.session.version;
        assert_ne!(changed, read.session.version, "{shape:?}");
        assert!(changed < Version::first_of(NOW), "{shape:?}: it must not drive the clock");
        assert_eq!(get(&table.store, "s").await.session.version, changed, "{shape:?}: the same each time");
        let outcome = table.store.put(put(touched(&read), condition)).await;
        assert_eq!(outcome, Ok(SessionPutOutcome::ConditionFailed), "{shape:?}");
        let deleted = table.store.delete(&Namespace::default(), &id("s"), condition).await;
        assert_eq!(deleted, Ok(SessionDeleteOutcome::ConditionFailed), "{shape:?}");
        // Back to what it was: the same content is the same version.
        let current = get(&table.store, "s").await;
        let condition = SessionCondition::Version(current.session.version);
        let outcome = table.store.put(put(touched(&current), condition)).await;
        assert_eq!(outcome, Ok(SessionPutOutcome::Replaced), "{shape:?}");
        let session = get(&table.store, "s").await.session;
        assert_eq!(
            (session.version, &session.extra["note"]),
            (stamp().version, &serde_json::json!("theirs"))
        );
    }
}

/// What the service sees of a write whose read lies behind it: the condition alone keeps it from being lost.
#[tokio::test]
async fn a_change_between_read_and_write_is_not_lost() {
    for (name, value) in [
        ("updatedAt", number(1_u64)),
        ("status", text("STOPPED")),
        ("internalStatus", text("STOPPED")),
        ("ccVersion", number(1_u64)),
        ("ccDigest", text("0")),
        ("state", text("theirs")),
    ] {
        let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
        store_any(&table.store, session("s", 10)).await;
        let read = table.item("s").await.expect("an item");
        let mut target = read.clone();
        target.insert("state".to_owned(), text("ours"));
        target.remove("unknown");
        table.set("s", name, value.clone()).await;
        let between = table.item("s").await;
        let refused =
            table.store.update(TEXT, "s", &read, &target, Retried::default()).await.expect_err(name);
        assert!(refused.is_condition(), "{name}: {refused:?}");
        let refused = table.store.remove(TEXT, "s", Expressions::unchanged(TEXT, &read)).await;
        assert_eq!(refused.is_err(), name != "state", "{name}: {refused:?}");
        if name != "state" {
            assert_eq!(table.item("s").await, between, "{name}");
        }
    }
}

#[tokio::test]
async fn a_write_after_a_deletion_makes_no_ghost() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerNumber).await else { return };
    store_any(&table.store, session("s", 10)).await;
    let read = get(&table.store, "s").await;
    let (layout, item) = (Layout::Wallcrawler(Times::Number), table.item("s").await.expect("an item"));
    table.delete("s").await;
    let mut target = item.clone();
    target.insert("status".to_owned(), text("STOPPED"));
    let refused =
        table.store.update(layout, "s", &item, &target, Retried::default()).await.expect_err("there is none");
    assert!(refused.is_condition());
    let outcome = table.store.put(put(touched(&read), SessionCondition::Version(read.session.version))).await;
    assert_eq!(outcome, Ok(SessionPutOutcome::ConditionFailed));
    assert_eq!(table.item("s").await, None);
}

/// A program that replaces items whole, as Wallcrawler's do, drops what it does not know.
#[tokio::test]
async fn an_item_that_others_have_replaced() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    store_any(&table.store, session("s", 10)).await;
    let mut item = table.item("s").await.expect("an item");
    item.retain(|name, _| !name.starts_with("cc"));
    item.insert("internalStatus".to_owned(), text("STOPPED"));
    item.insert("status".to_owned(), text("COMPLETED"));
    table.write(item).await;
    let read = get(&table.store, "s").await.session;
    assert_eq!((read.status, read.ttl.seconds, read.event_count), (Status::Stopped, 3600, 1));
    change(&table, "s", with_event).await;
    assert_eq!(get(&table.store, "s").await.events[1].index, 1);
}
