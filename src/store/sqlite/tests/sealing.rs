//! What the embedded store keeps of the credentials in sessions: nothing that a stolen disk would tell.

use std::path::Path;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::EncryptionKey;
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
    let options = Options {
        data_dir: directory.to_owned(),
        readers: 1,
        cache_bytes: 1 << 20,
        max_bytes: 0,
        queue: 16,
        encryption_key: EncryptionKey::from_hex(&key.repeat(32)).expect("64 digits or none"),
        tombstone_seconds: 0,
        outbox_rows: 0,
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
    assert_eq!(many, [Some(made(0)), None]);
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
    let Error::Corrupt { detail, .. } = refused else { panic!("{refused}") };
    assert!(detail.contains("sealed under the key"), "{detail}");
    let told = Value::String(detail).to_string();
    assert!(!told.contains(&"0a".repeat(4)) && !told.contains(SECRET), "{told}");
}
