//! Credentials at rest: sealed in our own tables where there is a key, readable in Wallcrawler's.

use serde_json::json;

use super::super::super::item::{Item, read_text};
use super::super::testing::{SessionsTable, Shape};
use super::*;
use crate::config::{EncryptionKey, OlderKeys};
use crate::store::{Error, SessionFilter, SessionQuery};

fn with_credentials() -> SessionRecord {
    let mut record = session("s", 10);
    record.session.signing_key = Some("hunter2".to_owned());
    record.session.connect_url = Some("ws://10.0.0.1?signingKey=hunter2".to_owned());
    record.session.model_config =
        json!({"model": "gpt-4", "api_key": "hunter2"}).as_object().expect("an object").clone();
    record
}

fn shows_credentials(item: &Item) -> bool {
    format!("{item:?}").contains("hunter2")
}

#[tokio::test]
async fn sealed_in_our_own_tables() {
    let Some(table) = SessionsTable::make(Shape::Own).await else { return };
    let store = table.with_key("0a");
    store_any(&store, with_credentials()).await;
    let item = table.item("s").await.expect("an item");
    assert!(!shows_credentials(&item) && read_text(&item, "sealed").is_some());
    assert_eq!(get(&store, "s").await, with_credentials());
    // A change of something else leaves them as they are.
    let condition = SessionCondition::Version(with_credentials().session.version);
    let next = touched(&with_credentials());
    assert_eq!(store.put(put(next.clone(), condition)).await, Ok(SessionPutOutcome::Replaced));
    let after = table.item("s").await.expect("an item");
    assert_eq!((read_text(&after, "sealed"), get(&store, "s").await), (read_text(&item, "sealed"), next));
    // So does one without the key, which does not see them.
    let read = get(&table.store, "s").await;
    assert_eq!((&read.session.signing_key, read.session.model_config.len()), (&None, 1));
    store_any(&table.store, patched(json!({"note": 1}))(&read)).await;
    assert_eq!(get(&store, "s").await.session.signing_key.as_deref(), Some("hunter2"));
    // What is written without a key is newer, and sealed by the next write with one.
    let read = get(&table.store, "s").await;
    store_any(&table.store, patched(json!({"signing_key": "newer"}))(&read)).await;
    let read = get(&store, "s").await;
    assert_eq!(read.session.signing_key.as_deref(), Some("newer"));
    store_any(&store, read.clone()).await;
    let item = table.item("s").await.expect("an item");
    assert!(!item.contains_key("signing_key") && !shows_credentials(&item));
    assert_eq!(get(&store, "s").await, read);
    // And what is removed is gone.
    store_any(&store, session("s", 10)).await;
    assert!(!table.item("s").await.expect("an item").contains_key("sealed"));
}

#[tokio::test]
async fn another_key_is_told_and_does_not_block() {
    let Some(table) = SessionsTable::make(Shape::Own).await else { return };
    store_any(&table.with_key("0a"), with_credentials()).await;
    let other = table.with_key("0b");
    let refused = other.get(&Namespace::default(), &id("s")).await.expect_err("another key");
    assert!(
        matches!(&refused, Error::Sealed { detail, .. } if detail.contains("under the key")),
        "{refused}"
    );
    store_any(&other, with_credentials()).await;
    assert_eq!(get(&other, "s").await, with_credentials());
    // Without a key, credentials of an earlier session of the same name are not kept for the next.
    store_any(&table.store, session("s", 20)).await;
    assert!(!table.item("s").await.expect("an item").contains_key("sealed"));
}

#[tokio::test]
async fn readable_in_wallcrawlers_tables() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    let store = table.with_key("0a");
    store_any(&store, with_credentials()).await;
    let item = table.item("s").await.expect("an item");
    assert_eq!(read_text(&item, "signingKey"), Some("hunter2"));
    assert!(!item.contains_key("sealed"));
    assert_eq!(get(&store, "s").await, with_credentials());
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_a_key_is_rotated() {
    let Some(table) = SessionsTable::make(Shape::Own).await else { return };
    let numbered = |number: u64| {
        let mut record = with_credentials();
        record.session.id = id(&format!("s{number}"));
        record.session.project_id = Some("p".to_owned());
        record
    };
    store_any(&table.with_key("0a"), numbered(1)).await;
    for number in [2, 3] {
        store_any(&table.with_key("0b"), numbered(number)).await;
    }
    let other = table.with_key("0b");
    let ids = [id("s1"), id("s2"), id("none")];
    let found = other.get_many(&Namespace::default(), &ids).await.expect("an answer");
    assert!(matches!(found[0], Err(Error::Sealed { .. })), "{found:?}");
    assert_eq!((&found[1], &found[2]), (&Ok(Some(numbered(2))), &Ok(None)));
    let filter = SessionFilter::Project {
        project_id: "p".to_owned(),
        created_after: None,
        created_before: None,
        status: None,
        ascending: true,
    };
    let namespace = Namespace::default();
    let query = SessionQuery { namespace, filter, live_at: None, limit: 10, after: None };
    let page = other.list(&query).await.expect("a page");
    assert_eq!((page.items.len(), page.places.len(), page.unreadable.len()), (2, 2, 1));
    assert_eq!(page.unreadable[0].id, id("s1"));

    let rotated = table.reopened(|config| {
        let older = ["0b", "0a"].map(|digits| digits.repeat(32));
        config.sessions.encryption_key = EncryptionKey::from_hex(&"0c".repeat(32)).expect("64 digits");
        config.sessions.older_encryption_keys = OlderKeys::from_hex(&older).expect("64 digits each");
    });
    for (dry_run, expected) in [(true, 3), (false, 3), (false, 0)] {
        let (mut after, mut seen, mut resealed) = (None, 0, 0);
        loop {
            let page = rotated.reseal(after.as_ref(), 2, dry_run).await.expect("a page");
            assert_eq!(page.unreadable, [], "dry run: {dry_run}");
            seen += page.seen;
            resealed += page.resealed;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen, resealed), (3, expected), "dry run: {dry_run}");
    }
    let current = table.with_key("0c");
    for number in 1..=3 {
        assert_eq!(get(&current, &format!("s{number}")).await, numbered(number), "not even its version");
    }
}
