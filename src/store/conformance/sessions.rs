//! The clauses for single sessions: compare-and-set, deletion and lookups.

use futures_util::future::join_all;
use serde_json::json;

use super::fixtures::{LIFE, at, id, namespace, put_session, session};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Namespace, Version};
use crate::store::{
    Found, PutSession, SessionCondition, SessionDeleteOutcome, SessionPutOutcome, SessionStore,
};

const ANY: SessionCondition = SessionCondition::Any;

fn version(second: u64) -> SessionCondition {
    SessionCondition::Version(Version::first_of(at(second)))
}

async fn put(
    store: &dyn SessionStore,
    record: SessionRecord,
    condition: SessionCondition,
) -> SessionPutOutcome {
    store.put(put_session(record, condition)).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn get(store: &dyn SessionStore, name: &str) -> Option<SessionRecord> {
    let found = store.get(&Namespace::default(), &id(name)).await;
    found.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn delete(store: &dyn SessionStore, name: &str, condition: SessionCondition) -> SessionDeleteOutcome {
    let deleted = store.delete(&Namespace::default(), &id(name), condition).await;
    deleted.unwrap_or_else(|error| panic!("{store}: {error}"))
}

pub(super) async fn a_miss_is_none(store: &dyn SessionStore) {
    assert_eq!(get(store, "s").await, None, "{store}");
}

pub(super) async fn what_was_put_comes_back(store: &dyn SessionStore) {
    let record = session("s", 10);
    put(store, record.clone(), ANY).await;
    assert_eq!(get(store, "s").await, Some(record), "{store}");
    let mut bare = session("bare", 10);
    bare.session.project_id = None;
    bare.session.state = None;
    bare.events.clear();
    put(store, bare.clone(), ANY).await;
    assert_eq!(get(store, "bare").await, Some(bare), "{store}");
    assert_eq!(get(store, "S").await, None, "{store}: names differ by case");
}

pub(super) async fn a_put_says_what_it_did(store: &dyn SessionStore) {
    assert_eq!(put(store, session("s", 10), ANY).await, SessionPutOutcome::Created, "{store}");
    let next = session("s", 20);
    assert_eq!(put(store, next.clone(), ANY).await, SessionPutOutcome::Replaced, "{store}");
    assert_eq!(get(store, "s").await, Some(next), "{store}");
}

pub(super) async fn a_put_of_a_version(store: &dyn SessionStore) {
    let failed = SessionPutOutcome::ConditionFailed;
    assert_eq!(put(store, session("s", 20), version(10)).await, failed, "{store}: no session");
    put(store, session("s", 10), ANY).await;
    assert_eq!(put(store, session("s", 20), version(11)).await, failed, "{store}: another version");
    assert_eq!(put(store, session("s", 20), version(10)).await, SessionPutOutcome::Replaced, "{store}");
    assert_eq!(put(store, session("s", 30), version(10)).await, failed, "{store}: no longer its version");
    assert_eq!(get(store, "s").await, Some(session("s", 20)), "{store}");
}

pub(super) async fn a_put_if_absent(store: &dyn SessionStore) {
    let absent = |second| SessionCondition::Absent(at(second));
    assert_eq!(put(store, session("s", 10), absent(10)).await, SessionPutOutcome::Created, "{store}: none");
    let failed = SessionPutOutcome::ConditionFailed;
    assert_eq!(put(store, session("s", 20), absent(9 + LIFE)).await, failed, "{store}: a live one");
    let expired = put(store, session("s", 20), absent(10 + LIFE)).await;
    assert_eq!(expired, SessionPutOutcome::Replaced, "{store}: one that has just expired");
    assert_eq!(get(store, "s").await, Some(session("s", 20)), "{store}");
}

pub(super) async fn a_failed_put_changes_nothing(store: &dyn SessionStore) {
    put(store, session("s", 10), ANY).await;
    put(store, session("s", 20), version(11)).await;
    put(store, session("s", 20), SessionCondition::Absent(at(11))).await;
    assert_eq!(get(store, "s").await, Some(session("s", 10)), "{store}");
    put(store, session("t", 20), version(11)).await;
    assert_eq!(get(store, "t").await, None, "{store}");
}

pub(super) async fn a_delete_says_what_it_did(store: &dyn SessionStore) {
    assert_eq!(delete(store, "s", ANY).await, SessionDeleteOutcome::Absent, "{store}");
    put(store, session("s", 10), ANY).await;
    let failed = SessionDeleteOutcome::ConditionFailed;
    assert_eq!(delete(store, "s", version(11)).await, failed, "{store}: another version");
    assert_eq!(delete(store, "s", SessionCondition::Absent(at(11))).await, failed, "{store}: a live one");
    assert_eq!(get(store, "s").await, Some(session("s", 10)), "{store}");
    assert_eq!(delete(store, "s", version(10)).await, SessionDeleteOutcome::Deleted, "{store}");
    assert_eq!(get(store, "s").await, None, "{store}");
    // What comes after a deletion is newer: older copies of it may still be about.
    put(store, session("s", 2000), ANY).await;
    assert_eq!(delete(store, "s", ANY).await, SessionDeleteOutcome::Deleted, "{store}");
    put(store, session("s", 3000), ANY).await;
    let expired = delete(store, "s", SessionCondition::Absent(at(3000 + LIFE))).await;
    assert_eq!(expired, SessionDeleteOutcome::Deleted, "{store}");
    assert_eq!(delete(store, "s", version(3000)).await, SessionDeleteOutcome::Absent, "{store}");
}

/// Whatever the version of a deletion is, which a clock that is ahead has drawn: a client can create the session again.
pub(super) async fn what_was_deleted_can_be_created_again(store: &dyn SessionStore) {
    put(store, session("s", 5_000), ANY).await;
    assert_eq!(delete(store, "s", ANY).await, SessionDeleteOutcome::Deleted, "{store}");
    let absent = SessionCondition::Absent(at(10));
    let mut record = session("s", 10);
    let mut outcome = put(store, record.clone(), absent).await;
    if let SessionPutOutcome::Behind(deletion) = outcome {
        assert!(deletion > record.session.version, "{store}: {deletion:?}");
        assert_eq!(get(store, "s").await, None, "{store}");
        record.session.version = deletion.next();
        outcome = put(store, record.clone(), absent).await;
    }
    assert_eq!(outcome, SessionPutOutcome::Created, "{store}");
    assert_eq!(get(store, "s").await.as_ref(), Some(&record), "{store}");
    record.session.version = record.session.version.next();
    assert_eq!(put(store, record, absent).await, SessionPutOutcome::ConditionFailed, "{store}: there is one");
}

pub(super) async fn many_come_in_the_order_of_the_ids(store: &dyn SessionStore) {
    put(store, session("a", 10), ANY).await;
    put(store, session("c", 20), ANY).await;
    let many = async |names: &[&str]| {
        let ids: Vec<SessionId> = names.iter().map(|name| id(name)).collect();
        let found = store.get_many(&Namespace::default(), &ids).await.expect("no error");
        let name = |record: Found| record.expect("readable").map(|record| record.session.id.to_string());
        found.into_iter().map(name).collect::<Vec<_>>()
    };
    let (a, c) = (Some("a".to_owned()), Some("c".to_owned()));
    assert_eq!(many(&["c", "b", "a", "c"]).await, [c.clone(), None, a, c], "{store}");
    assert_eq!(many(&[]).await, [], "{store}");
}

pub(super) async fn namespaces_are_apart(store: &dyn SessionStore) {
    let (a, b) = (namespace("a"), namespace("b"));
    let put_in = |namespace: &Namespace, second| PutSession {
        namespace: namespace.clone(),
        ..put_session(session("s", second), SessionCondition::Absent(at(11)))
    };
    assert_eq!(store.put(put_in(&a, 10)).await, Ok(SessionPutOutcome::Created), "{store}");
    assert_eq!(store.put(put_in(&b, 20)).await, Ok(SessionPutOutcome::Created), "{store}");
    assert_eq!(store.delete(&a, &id("s"), ANY).await, Ok(SessionDeleteOutcome::Deleted), "{store}");
    assert_eq!(store.get(&b, &id("s")).await, Ok(Some(session("s", 20))), "{store}");
    assert_eq!(store.get_many(&a, &[id("s")]).await, Ok(vec![Ok(None)]), "{store}");
    assert_eq!(get(store, "s").await, None, "{store}");
}

pub(super) async fn concurrent_increments_lose_nothing(store: &dyn SessionStore) {
    const WRITERS: u64 = 8;
    const TIMES: u64 = 6;
    put(store, session("s", 10), ANY).await;
    let increment = async || {
        for _ in 0..TIMES {
            loop {
                let mut record = get(store, "s").await.expect("a session");
                let read = record.session.version;
                record.session.event_count += 1;
                record.session.version = read.next();
                match put(store, record, SessionCondition::Version(read)).await {
                    SessionPutOutcome::Replaced => break,
                    outcome => assert_eq!(outcome, SessionPutOutcome::ConditionFailed, "{store}"),
                }
            }
        }
    };
    join_all((0..WRITERS).map(|_| increment())).await;
    assert_eq!(get(store, "s").await.expect("a session").session.event_count, WRITERS * TIMES, "{store}");
}

pub(super) async fn large_sessions(store: &dyn SessionStore) {
    let mut record = session(&"n".repeat(128), 10);
    record.session.state = Some(json!({"page": "é".repeat(400_000), "deep": [[[[1.5, -2, null]]]]}));
    put(store, record.clone(), ANY).await;
    assert_eq!(get(store, &"n".repeat(128)).await, Some(record), "{store}");
}

pub(super) async fn the_status_counts(store: &dyn SessionStore) {
    let count = async || store.status().await.expect("a status").sessions;
    assert_eq!(count().await, 0, "{store}");
    put(store, session("a", 10), ANY).await;
    put(store, session("b", 10), ANY).await;
    put(store, session("b", 20), ANY).await;
    put(store, session("b", 30), version(11)).await;
    put(store, session("c", 30), version(11)).await;
    assert_eq!(count().await, 2, "{store}");
    delete(store, "a", ANY).await;
    delete(store, "a", ANY).await;
    assert_eq!(count().await, 1, "{store}");
}
