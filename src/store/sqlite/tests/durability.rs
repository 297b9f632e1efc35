//! What is acknowledged is there after reopening, and what a closed store says.

use futures_util::future::join_all;

use super::*;
use crate::domain::Version;
use crate::domain::session::Status as SessionStatus;
use crate::store::{
    Condition, DeleteOutcome, Error, ListQuery, PutOutcome, SessionFilter, SessionPutOutcome, SessionQuery,
};

#[tokio::test]
async fn concurrent_puts_are_all_there_after_reopening() {
    let directory = directory();
    let store = open(directory.path());
    let puts = join_all((0..64).map(|entry| ResultStore::put(&store, noise(entry, 2000)))).await;
    assert!(puts.iter().all(|outcome| *outcome == Ok(PutOutcome::Created)), "{puts:?}");
    // Not closed: an acknowledged put needs no farewell.
    drop(store);
    let store = open(directory.path());
    for entry in 0..64 {
        let frame = stored(&store, &url(entry)).await.expect("a get").expect("an entry").frame.clone();
        assert_eq!(Some(frame), noise(entry, 2000).frame, "entry {entry}");
    }
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn concurrent_puts_share_transactions() {
    let directory = directory();
    let store = open(directory.path());
    put_result(&store, noise(1000, 100)).await;
    let log = directory.path().join("crawlcache.db-wal");
    let length = || std::fs::metadata(&log).expect("a log").len();
    let before = length();
    put_result(&store, noise(1001, 100)).await;
    let alone = length() - before;
    let before = length();
    join_all((0..64).map(|entry| ResultStore::put(&store, noise(entry, 100)))).await;
    let together = length() - before;
    assert!(together < 32 * alone, "64 puts wrote {together} bytes, one wrote {alone}");
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let directory = directory();
    let store = open(directory.path());
    put_result(&store, put(&url(1), "first", 10)).await;
    put_result(&store, put(&url(1), "second", 20)).await;
    put_result(&store, put(&url(2), "deleted", 10)).await;
    let version = Version::first_of(at(30));
    let deleted = ResultStore::delete(&store, &url(2), version, Condition::Any).await;
    assert_eq!(deleted, Ok(DeleteOutcome::Deleted));
    put_session(&store, "s", 10).await;
    let before = status(&store).await;
    store.close().await;
    drop(store);
    let store = open(directory.path());
    assert_eq!(said(&store, &url(1)).await.as_deref(), Some("second"));
    assert_eq!(said(&store, &url(2)).await, None);
    assert!(session_exists(&store, "s").await);
    assert_eq!(ResultStore::put(&store, put(&url(1), "old", 15)).await, Ok(PutOutcome::Superseded));
    let after = status(&store).await;
    assert_eq!((after.entries, after.stored_bytes, after.raw_bytes, after.sessions), {
        (before.entries, before.stored_bytes, before.raw_bytes, before.sessions)
    });
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn versions_go_on_after_reopening_with_a_clock_set_back() {
    let directory = directory();
    let write: [(&str, u64); 3] = [("put", 1000), ("session", 2000), ("delete", 3000)];
    for (kind, second) in write {
        let version = Version::first_of(at(second));
        let store = open(directory.path());
        match kind {
            "put" => drop(put_result(&store, put(&url(1), "text", second)).await),
            "session" => put_session(&store, "s", second).await,
            // The row goes, its version must not.
            _ => drop(ResultStore::delete(&store, &url(1), version, Condition::Any).await.expect("a delete")),
        }
        drop(store);
        let clock = Clock::manual(at(10));
        let store = SqliteStore::open(&options(directory.path()), &clock, &Metrics::new()).expect("opens");
        assert!(clock.next_version() > version, "{kind}");
        drop(store);
    }
}

/// A version of hours ahead is of a wrong clock: what is stored then counts as later all the same.
#[tokio::test]
async fn what_is_stored_after_a_wrong_clock_was_set_right_is_later() {
    let directory = directory();
    let wrong = put(&url(1), "wrong", 1_000_000);
    assert_eq!(put_result(&open(directory.path()), wrong.clone()).await, PutOutcome::Created);
    let clock = Clock::manual(at(10));
    let store = SqliteStore::open(&options(directory.path()), &clock, &Metrics::new()).expect("opens");
    assert!(clock.next_version() < Version::first_of(at(20)), "its clock is right");
    let placed = store.put_newest(put(&url(1), "right", 10)).await.expect("stored");
    assert_eq!((placed.outcome, placed.version), (PutOutcome::Replaced, wrong.meta.version.next()));
    let placed = store.delete_newest(&url(1), clock.next_version(), Condition::Any).await.expect("deleted");
    assert_eq!(placed.outcome, DeleteOutcome::Deleted);
}

#[tokio::test]
async fn closing_flushes_what_is_queued() {
    let directory = directory();
    let store = open(directory.path());
    let puts = join_all((0..64).map(|entry| ResultStore::put(&store, noise(entry, 2000))));
    let (puts, ()) = tokio::join!(puts, store.close());
    assert!(
        puts.iter().all(|outcome| *outcome == Ok(PutOutcome::Created)),
        "queued before the close: {puts:?}"
    );
    let log = std::fs::metadata(directory.path().join("crawlcache.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "the log was moved into the database");
    store.close().await;
    drop(store);
    assert_eq!(status(&open(directory.path())).await.entries, 64);
}

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let directory = directory();
    let store = open(directory.path());
    put_result(&store, put(&url(1), "text", 10)).await;
    store.close().await;
    let (namespace, version) = (Namespace::default(), Version::first_of(at(20)));
    let id = SessionId::new("s").expect("an id");
    let session = PutSession {
        namespace: namespace.clone(),
        record: session("s", 10),
        condition: SessionCondition::Any,
    };
    let filter =
        SessionFilter::Status { status: SessionStatus::Active, expires_after: None, expires_before: None };
    let sessions =
        SessionQuery { namespace: namespace.clone(), filter, live_at: None, limit: 1, after: None };
    let refusals = [
        ("get", ResultStore::get(&store, &url(1), GetOptions::default()).await.err()),
        ("get_metas", ResultStore::get_metas(&store, &[url(1)]).await.err()),
        ("put", ResultStore::put(&store, put(&url(1), "text", 20)).await.err()),
        ("delete", ResultStore::delete(&store, &url(1), version, Condition::Any).await.err()),
        ("list", ResultStore::list(&store, &ListQuery::all(&namespace, 1)).await.err()),
        ("status", ResultStore::status(&store).await.err()),
        ("sweep", store.sweep_batch(at(0), at(0)).await.err()),
        ("session get", SessionStore::get(&store, &namespace, &id).await.err()),
        (
            "session get_many",
            SessionStore::get_many(&store, &namespace, std::slice::from_ref(&id)).await.err(),
        ),
        ("session put", SessionStore::put(&store, session).await.err()),
        ("session delete", SessionStore::delete(&store, &namespace, &id, SessionCondition::Any).await.err()),
        ("session list", SessionStore::list(&store, &sessions).await.err()),
        ("session status", SessionStore::status(&store).await.err()),
    ];
    for (operation, refusal) in refusals {
        assert!(matches!(refusal, Some(Error::Unavailable { .. })), "{operation}: {refusal:?}");
    }
}

#[tokio::test]
async fn sums_equal_a_recount_after_every_kind_of_write() {
    let directory = directory();
    let store = open(directory.path());
    let own = connection(directory.path());
    for second in 10..60 {
        let entry = second * 7 % 13;
        match second % 5 {
            0..3 => drop(put_result(&store, put(&url(entry), &second.to_string().repeat(9), second)).await),
            3 => {
                let version = Version::first_of(at(second));
                ResultStore::delete(&store, &url(entry), version, Condition::Any).await.expect("a delete");
            }
            _ => {
                put_session(&store, &format!("s{}", entry % 4), second).await;
                store.sweep_batch(at(second + 980), at(second + 985)).await.expect("a sweep");
            }
        }
        recount(&own);
    }
    let outcome = {
        let condition = SessionCondition::Version(Version::first_of(at(1)));
        let put = PutSession { namespace: Namespace::default(), record: session("new", 1), condition };
        SessionStore::put(&store, put).await
    };
    assert_eq!(outcome, Ok(SessionPutOutcome::ConditionFailed));
    recount(&own);
}
