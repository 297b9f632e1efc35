//! What the embedded store keeps of the credentials in sessions: nothing that a stolen disk would tell.

use std::path::Path;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::{EncryptionKey, OlderKeys};
use crate::domain::session::change::{Stamp, TouchRequest, create, touch};
use crate::domain::session::{Limits, SessionId, SessionRecord, redact};
use crate::domain::{Namespace, Timestamp, Version};
use crate::metrics::Metrics;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{
    Error, PutSession, SessionCondition, SessionFilter, SessionPutOutcome, SessionQuery, SessionStore,
};

const SECRET: &str = "hunter2-hunter2-hunter2";

fn open(directory: &Path, key: &str) -> SqliteStore {
    open_with(directory, key, &[])
}

fn open_with(directory: &Path, key: &str, older: &[&str]) -> SqliteStore {
    let older: Vec<String> = older.iter().map(|digits| digits.repeat(32)).collect();
    let older = OlderKeys::from_hex(&older).expect("64 digits each");
    let options = Options {
        data_dir: directory.to_owned(),
        readers: 1,
        cache_bytes: 1 << 20,
        max_bytes: 0,
        queue: 16,
        encryption_key: EncryptionKey::from_hex(&key.repeat(32))
            .expect("64 digits or none")
            .with_older(&older),
        tombstone_seconds: 0,
        outbox_rows: 0,
        is_routed: true,
    };
    SqliteStore::open(&options, &Clock::system(), &Metrics::new()).expect("opens")
}

fn stamp(second: u64) -> Stamp {
    let now = Timestamp::from_secs(1_768_473_000 + second);
    Stamp { now, version: Version::first_of(now) }
}

fn made(second: u64) -> SessionRecord {
    let body = json!({
        "project_id": "p", "signing_key": SECRET, "model_config": {"model": "m", "api_key": SECRET},
        "user_metadata": {"note": "in plain sight"},
    });
    create(SessionId::from_random(1), body, stamp(second), &Limits::default()).expect("valid")
}

fn redacted(mut record: SessionRecord) -> SessionRecord {
    redact(&mut record.session);
    record
}

async fn put(store: &SqliteStore, record: &SessionRecord) -> SessionPutOutcome {
    let put = PutSession {
        namespace: Namespace::default(),
        record: record.clone(),
        condition: SessionCondition::Any,
    };
    SessionStore::put(store, put).await.expect("stores")
}

async fn get(store: &SqliteStore) -> Result<SessionRecord, Error> {
    let found = SessionStore::get(store, &Namespace::default(), &SessionId::from_random(1)).await;
    found.map(|found| found.expect("stored"))
}

/// How often a text occurs in the files of a directory.
fn occurrences(directory: &Path, text: &str) -> usize {
    std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("readable"))
        .map(|bytes| memchr::memmem::find_iter(&bytes, text.as_bytes()).count())
        .sum()
}

#[tokio::test]
async fn no_file_holds_a_credential_and_reopening_brings_it_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), "0a");
    put(&store, &made(0)).await;
    // Both while everything is in the log still, and after it has moved into the database.
    assert!(directory.path().join("crawlcache.db-wal").metadata().expect("a log").len() > 0);
    assert_eq!(occurrences(directory.path(), SECRET), 0);
    assert!(occurrences(directory.path(), "in plain sight") > 0, "the log is where it would be");
    store.close().await;
    drop(store);
    assert_eq!(occurrences(directory.path(), SECRET), 0);
    assert!(occurrences(directory.path(), "in plain sight") > 0);

    let store = open(directory.path(), "0a");
    assert_eq!(get(&store).await, Ok(made(0)));
    let query = SessionQuery {
        namespace: Namespace::default(),
        filter: SessionFilter::Project {
            project_id: "p".to_owned(),
            created_after: None,
            created_before: None,
            status: None,
            ascending: false,
        },
        live_at: None,
        limit: 10,
        after: None,
    };
    assert_eq!(SessionStore::list(&store, &query).await.expect("lists").items, [made(0)]);
    let ids = [SessionId::from_random(1), SessionId::from_random(2)];
    let many = store.get_many(&Namespace::default(), &ids).await.expect("reads");
    assert_eq!(many, [Ok(Some(made(0))), Ok(None)]);
}

#[tokio::test]
async fn without_the_key_a_change_keeps_what_is_sealed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), "0a");
    put(&store, &made(0)).await;
    store.close().await;
    drop(store);

    let store = open(directory.path(), "");
    let read = get(&store).await.expect("readable");
    assert_eq!(read, redacted(made(0)));
    let touched = touch(&read, TouchRequest::default(), stamp(5), &Limits::default()).expect("valid");
    assert_eq!(put(&store, &touched).await, SessionPutOutcome::Replaced);
    assert_eq!(get(&store).await, Ok(touched));
    store.close().await;
    drop(store);

    let store = open(directory.path(), "0a");
    let wanted = touch(&made(0), TouchRequest::default(), stamp(5), &Limits::default()).expect("valid");
    assert_eq!(get(&store).await, Ok(wanted));
}

#[tokio::test]
async fn another_session_of_the_name_inherits_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), "0a");
    put(&store, &made(0)).await;
    store.close().await;
    drop(store);
    let store = open(directory.path(), "");
    put(&store, &redacted(made(9))).await;
    store.close().await;
    drop(store);
    assert_eq!(get(&open(directory.path(), "0a")).await, Ok(redacted(made(9))));
}

#[tokio::test]
async fn a_wrong_key_is_a_clear_error_and_plain_sessions_stay_readable() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), "");
    put(&store, &made(0)).await;
    store.close().await;
    drop(store);
    let store = open(directory.path(), "0a");
    assert_eq!(get(&store).await, Ok(made(0)), "written before there was a key");
    put(&store, &made(0)).await;
    store.close().await;
    drop(store);
    let refused = get(&open(directory.path(), "0b")).await.unwrap_err();
    let Error::Sealed { detail, .. } = refused else { panic!("{refused}") };
    assert!(detail.contains("sealed under the key"), "{detail}");
    let told = Value::String(detail).to_string();
    assert!(!told.contains(&"0a".repeat(4)) && !told.contains(SECRET), "{told}");
}

/// A session of a number, in the project.
fn numbered(number: u32) -> SessionRecord {
    let mut record = made(u64::from(number));
    record.session.id = SessionId::from_random(number);
    record
}

fn of_project(limit: usize, after: Option<crate::store::SessionCursor>) -> SessionQuery {
    let filter = SessionFilter::Project {
        project_id: "p".to_owned(),
        created_after: None,
        created_before: None,
        status: None,
        ascending: true,
    };
    SessionQuery { namespace: Namespace::default(), filter, live_at: None, limit, after }
}

/// Five sessions, of which another key has sealed the second, and the fourth is damaged.
async fn mixed(directory: &Path) {
    let store = open(directory, "0a");
    put(&store, &numbered(2)).await;
    store.close().await;
    drop(store);
    let store = open(directory, "0b");
    for number in [1, 3, 4, 5] {
        put(&store, &numbered(number)).await;
    }
    store.close().await;
    let file = rusqlite::Connection::open(store.path()).expect("a database");
    let id = SessionId::from_random(4);
    let damaged = file.execute("update sessions set body = x'7b7d' where id = ?1", [id.as_str()]);
    assert_eq!(damaged, Ok(1));
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_hides_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    mixed(directory.path()).await;
    let store = open(directory.path(), "0b");
    let ids: Vec<SessionId> = (1..=6).map(SessionId::from_random).collect();
    let found = store.get_many(&Namespace::default(), &ids).await.expect("an answer");
    assert!(matches!(found[1], Err(Error::Sealed { .. })), "{found:?}");
    assert!(matches!(found[3], Err(Error::Corrupt { .. })), "{found:?}");
    for (at, number) in [(0, 1), (2, 3), (4, 5)] {
        assert_eq!(found[at], Ok(Some(numbered(number))));
    }
    assert_eq!(found[5], Ok(None));
    for limit in 1..=6 {
        let (mut after, mut items, mut unreadable) = (None, Vec::new(), Vec::new());
        loop {
            let page = SessionStore::list(&store, &of_project(limit, after)).await.expect("a page");
            assert!(
                page.items.len() + page.unreadable.len() <= limit && page.items.len() == page.places.len()
            );
            items.extend(page.items);
            unreadable.extend(page.unreadable.into_iter().map(|unreadable| unreadable.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(items, [1, 3, 5].map(numbered), "{limit} a page");
        assert_eq!(unreadable, [2, 4].map(SessionId::from_random), "{limit} a page");
    }
}

#[tokio::test]
async fn a_key_is_rotated_while_the_sessions_are_used() {
    let directory = tempfile::tempdir().expect("a directory");
    mixed(directory.path()).await;
    let store = open_with(directory.path(), "0c", &["0b", "0a"]);
    assert_eq!(SessionStore::list(&store, &of_project(9, None)).await.expect("a page").items.len(), 4);
    for (dry_run, expected) in [(true, 4), (false, 4), (false, 0)] {
        let (mut after, mut seen, mut resealed, mut unreadable) = (None, 0, 0, Vec::new());
        loop {
            let page = store.reseal(after.as_ref(), 2, dry_run).await.expect("a page");
            seen += page.seen;
            resealed += page.resealed;
            unreadable.extend(page.unreadable.into_iter().map(|unreadable| unreadable.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen, resealed), (5, expected), "dry run: {dry_run}");
        assert_eq!(unreadable, [SessionId::from_random(4)], "dry run: {dry_run}");
    }
    store.close().await;
    drop(store);
    let store = open(directory.path(), "0c");
    let page = SessionStore::list(&store, &of_project(9, None)).await.expect("a page");
    assert_eq!(page.items, [1, 2, 3, 5].map(numbered), "nothing else has changed, not even a version");
    assert_eq!(occurrences(directory.path(), SECRET), 0);
}
