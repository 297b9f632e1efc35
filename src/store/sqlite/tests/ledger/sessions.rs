//! The ledger of sessions: as that of results, under ids of their own.

use super::*;
use crate::store::sqlite::ledger::session_id;
use crate::store::{SessionDeleteOutcome, SessionPutOutcome};

fn name() -> SessionId {
    SessionId::new("s").expect("an id")
}

async fn put_given(
    store: &SqliteStore,
    second: u64,
    condition: SessionCondition,
    beside: Beside,
) -> SessionPutOutcome {
    let put = PutSession { namespace: Namespace::default(), record: session("s", second), condition };
    store.put_session_beside(put, None, beside).await.expect("a put").unbound()
}

async fn put_now(store: &SqliteStore, second: u64, beside: Beside) -> SessionPutOutcome {
    put_given(store, second, SessionCondition::Any, beside).await
}

async fn delete_now(
    store: &SqliteStore,
    second: u64,
    condition: SessionCondition,
    beside: Beside,
) -> SessionDeleteOutcome {
    let namespace = Namespace::default();
    let deleted =
        store.delete_session_beside(&namespace, &name(), condition, version(second), None, beside).await;
    deleted.expect("a delete").unbound()
}

async fn known(store: &SqliteStore) -> Known {
    store.known_sessions(&Namespace::default(), &[name()]).await.expect("a read")[0]
}

#[tokio::test]
async fn what_is_older_than_a_deletion_stays_dead() {
    let directory = directory();
    let store = remembering(directory.path());
    put_now(&store, 10, QUEUE).await;
    let expected = Known { held: Some(version(10)), tombstone: None, queued: Some(version(10)) };
    assert_eq!(known(&store).await, expected);
    let row = the_row(&store).await;
    assert_eq!(row.what, Queued::Session(Namespace::default(), name()));
    assert_eq!(row.what.id(), session_id(&Namespace::default(), &name()));
    let any = SessionCondition::Any;
    assert_eq!(delete_now(&store, 20, any, Beside::Settle).await, SessionDeleteOutcome::Deleted);
    assert_eq!(known(&store).await, Known { tombstone: tombstone(20, true), ..Known::default() });
    assert_eq!(put_now(&store, 19, QUEUE).await, SessionPutOutcome::ConditionFailed);
    let plain = PutSession {
        namespace: Namespace::default(),
        record: session("s", 19),
        condition: SessionCondition::Any,
    };
    assert_eq!(SessionStore::put(&store, plain).await, Ok(SessionPutOutcome::ConditionFailed));
    assert_eq!(put_now(&store, 30, Beside::Nothing).await, SessionPutOutcome::Created);
    let expected = Known { held: Some(version(30)), tombstone: tombstone(20, false), queued: None };
    assert_eq!(known(&store).await, expected);
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_delete_leaves_a_tombstone_unless_its_condition_fails() {
    let directory = directory();
    let store = remembering(directory.path());
    put_now(&store, 10, Beside::Nothing).await;
    let other = SessionCondition::Version(version(9));
    assert_eq!(delete_now(&store, 20, other, QUEUE).await, SessionDeleteOutcome::ConditionFailed);
    assert_eq!(known(&store).await, Known { held: Some(version(10)), ..Known::default() });
    let older = SessionCondition::OlderThan(version(10));
    assert_eq!(delete_now(&store, 20, older, QUEUE).await, SessionDeleteOutcome::ConditionFailed);
    let older = SessionCondition::OlderThan(version(11));
    assert_eq!(delete_now(&store, 20, older, QUEUE).await, SessionDeleteOutcome::Deleted);
    assert_eq!(delete_now(&store, 30, older, QUEUE).await, SessionDeleteOutcome::Absent);
    let expected = Known { held: None, tombstone: tombstone(30, true), queued: Some(version(30)) };
    assert_eq!(known(&store).await, expected);
    assert_eq!(delete_now(&store, 25, older, QUEUE).await, SessionDeleteOutcome::Absent);
    assert_eq!(known(&store).await, expected, "the newer deletion wins");
}

#[tokio::test]
async fn a_put_of_what_is_newer_only() {
    let directory = directory();
    let store = remembering(directory.path());
    for (second, expected) in [
        (20, SessionPutOutcome::Created),
        (19, SessionPutOutcome::ConditionFailed),
        (20, SessionPutOutcome::ConditionFailed),
        (21, SessionPutOutcome::Replaced),
    ] {
        let newer = SessionCondition::OlderThan(version(second));
        assert_eq!(put_given(&store, second, newer, Beside::Nothing).await, expected, "{second}");
    }
}

/// A version ahead of the clock must not make a session undeletable, nor let its copies live on.
#[tokio::test]
async fn a_delete_without_a_condition_wins_over_any_version() {
    let directory = directory();
    let store = remembering(directory.path());
    put_now(&store, 50, Beside::Nothing).await;
    let any = SessionCondition::Any;
    assert_eq!(delete_now(&store, 20, any, QUEUE).await, SessionDeleteOutcome::Deleted);
    assert_eq!(put_now(&store, 50, Beside::Nothing).await, SessionPutOutcome::ConditionFailed);
    assert_eq!(put_now(&store, 51, Beside::Nothing).await, SessionPutOutcome::Created);
}

#[tokio::test]
async fn plain_deletions_are_remembered_where_that_is_asked_for() {
    let directory = directory();
    for (tombstone_seconds, expected) in
        [(0, SessionPutOutcome::Created), (KEPT, SessionPutOutcome::ConditionFailed)]
    {
        let options = Options { tombstone_seconds, ..options(directory.path()) };
        let store = SqliteStore::open(&options, &Clock::manual(at(NOW)), &Metrics::new()).expect("opens");
        super::put_session(&store, "s", 10).await;
        let any = SessionCondition::Any;
        let deleted = SessionStore::delete(&store, &Namespace::default(), &name(), any).await;
        assert_eq!(deleted, Ok(SessionDeleteOutcome::Deleted));
        assert_eq!(put_now(&store, 10, Beside::Nothing).await, expected, "{tombstone_seconds}");
    }
}

#[tokio::test]
async fn what_the_other_side_has_supersedes() {
    let directory = directory();
    let store = remembering(directory.path());
    let supersede = async |second, deleted| {
        store
            .supersede_session(&Namespace::default(), &name(), version(second), deleted)
            .await
            .expect("done");
    };
    put_now(&store, 10, QUEUE).await;
    supersede(9, true).await;
    let expected = Known { held: Some(version(10)), tombstone: None, queued: Some(version(10)) };
    assert_eq!(known(&store).await, expected);
    supersede(10, false).await;
    assert_eq!(known(&store).await, Known { queued: None, ..expected });
    supersede(20, true).await;
    assert_eq!(known(&store).await, Known { tombstone: tombstone(20, true), ..Known::default() });
    assert!(!session_exists(&store, "s").await);
    recount(&connection(directory.path()));
}
