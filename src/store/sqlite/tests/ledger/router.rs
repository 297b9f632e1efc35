//! A database that a router had opened, without one: what happens to its keys meanwhile is there when a router is back.

use super::*;

/// As a service without a router opens it.
fn alone(directory: &Path, outbox_rows: u64) -> SqliteStore {
    let options = Options { tombstone_seconds: KEPT, outbox_rows, is_routed: false, ..options(directory) };
    SqliteStore::open(&options, &Clock::manual(at(NOW)), &Metrics::new()).expect("opens")
}

async fn delete_alone(store: &SqliteStore, number: u64, second: u64) -> DeleteOutcome {
    ResultStore::delete(store, &url(number), version(second), Condition::Any).await.expect("a delete")
}

#[tokio::test]
async fn where_no_router_ever_was_nothing_is_left_for_one() {
    let directory = directory();
    for _ in 0..2 {
        let store = alone(directory.path(), 0);
        assert!(!store.waits_for_router());
        put_result(&store, put(&url(1), "text", 10)).await;
        assert_eq!(delete_alone(&store, 1, 20).await, DeleteOutcome::Deleted);
        assert_eq!((known(&store).await, outbox(&store).await), (Known::default(), OutboxStatus::default()));
        store.close().await;
    }
}

#[tokio::test]
async fn what_is_done_without_the_router_is_there_when_it_is_back() {
    let directory = directory();
    // It did nothing but open it.
    remembering(directory.path()).close().await;

    let store = alone(directory.path(), 0);
    assert!(store.waits_for_router());
    put_result(&store, put(&url(1), "changed", 20)).await;
    put_session(&store, "s", 20).await;
    assert_eq!(delete_alone(&store, 2, 20).await, DeleteOutcome::Absent, "only the other side had it");
    put_result(&store, put(&url(3), "text", 20)).await;
    assert_eq!(delete_alone(&store, 3, 30).await, DeleteOutcome::Deleted);
    let (space, gone) = (Namespace::default(), SessionId::new("gone").expect("an id"));
    SessionStore::delete(&store, &space, &gone, SessionCondition::Any).await.expect("deleted");
    store.close().await;
    drop(store);

    let store = remembering(directory.path());
    assert!(!store.waits_for_router());
    assert_eq!(known_of(&store, 1).await.tombstone, tombstone(20, false), "what is older there is dead");
    for (number, second) in [(2, 20), (3, 30)] {
        let known = known_of(&store, number).await;
        assert_eq!((known.tombstone, known.queued), (tombstone(second, true), Some(version(second))));
    }
    let sessions = [SessionId::new("s").expect("an id"), gone];
    let known = store.known_sessions(&space, &sessions).await.expect("a read");
    assert!(known[0].held.is_some() && known[0].queued.is_none(), "{known:?}");
    assert!(known[1].is_deleted() && known[1].queued.is_some(), "{known:?}");
    let rows = store.outbox_rows(false, 0, 10).await.expect("rows");
    assert_eq!(rows.len(), 3, "DynamoDB is told of what was deleted: {rows:?}");
}

#[tokio::test]
async fn a_full_outbox_keeps_nobody_from_deleting_without_the_router() {
    let directory = directory();
    remembering(directory.path()).close().await;
    let store = alone(directory.path(), 1);
    for number in 1..4 {
        put_result(&store, put(&url(number), "text", 10)).await;
        assert_eq!(delete_alone(&store, number, 20).await, DeleteOutcome::Deleted);
        assert!(known_of(&store, number).await.is_deleted());
    }
    assert_eq!(outbox(&store).await.queued, 1);
}

#[tokio::test]
async fn the_router_of_an_earlier_release_is_known_by_what_it_left() {
    let unmarked = |leave: &str| {
        let directory = directory();
        drop(open(directory.path()));
        let connection = connection(directory.path());
        connection.execute("delete from totals where name = 'routed'", []).expect("no mark");
        connection.execute_batch(leave).expect("left");
        drop(connection);
        alone(directory.path(), 0).waits_for_router()
    };
    assert!(!unmarked(""));
    for leave in [
        "insert into routing values (1, 1, '{\"percent\":0,\"force\":\"none\",\"dual_write\":false,\"shadow_read\":0.0,\"on_owner_failure\":\"queue\"}', 0)",
        "insert into routing_log values (1, 0, 'a', '', '{}', '{}')",
        "insert into tombstones values (x'00', 1, 1, 1)",
        "insert into outbox (id, kind, namespace, name, variant, version, enqueued_at, due_at)
             values (x'00', 'result', 'default', 'https://a/', '', 1, 1, 1)",
    ] {
        assert!(unmarked(leave), "{leave}");
    }
}

#[tokio::test]
async fn what_waits_in_a_directory_is_counted_from_outside() {
    use crate::store::sqlite::left_in;
    let directory = directory();
    assert!(left_in(directory.path()).expect("nothing to read").is_none());
    let store = remembering(directory.path());
    let rows = || left_in(directory.path()).expect("read").map(|(rows, _)| rows);
    assert_eq!(rows(), Some(0));
    put_at(&store, 10, QUEUE).await;
    put_key(&store, 2, 10, QUEUE).await;
    assert_eq!(rows(), Some(2), "while it is open");
    store
        .outbox_tried(vec![(url(2).id(), Tried::Park { error: "refused".to_owned() })])
        .await
        .expect("noted");
    store.close().await;
    assert_eq!(rows(), Some(2), "parked ones are acknowledged, too");
    std::fs::write(directory.path().join(FILE_NAME), "no database at all, but a text").expect("written");
    left_in(directory.path()).expect_err("it cannot be read");
}
