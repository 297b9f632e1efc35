//! What the relay reads from the outbox, and what it writes down there.

use super::*;

async fn try_it(store: &SqliteStore, number: u64, tried: Tried) {
    store.outbox_tried(vec![(url(number).id(), tried)]).await.expect("noted");
}

/// The keys of rows, by number: each was put at the second that is its number.
fn numbers(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.version.at().as_secs()).collect()
}

async fn due(store: &SqliteStore, second: u64, limit: usize) -> Vec<u64> {
    numbers(&store.outbox_due(at(second), limit).await.expect("rows"))
}

/// A store whose outbox has rows 1 to 5, due at 1001 to 1005.
async fn five(directory: &Path) -> SqliteStore {
    let store = remembering(directory);
    for number in 1..=5 {
        let beside = Beside::Queue { due_at: at(NOW + number) };
        put_key(&store, number, number, beside).await;
    }
    store
}

#[tokio::test]
async fn rows_come_when_they_are_due() {
    let directory = directory();
    let store = five(directory.path()).await;
    assert!(due(&store, 1000, 10).await.is_empty());
    assert_eq!(due(&store, 1003, 10).await, [1, 2, 3]);
    assert_eq!(due(&store, 1003, 2).await, [1, 2]);
    assert_eq!(due(&store, 1003, 2).await, [1, 2], "nothing is marked");
    try_it(&store, 1, Tried::Later { due_at: at(1010), error: "no".into() }).await;
    try_it(&store, 2, Tried::Park { error: "no".into() }).await;
    try_it(&store, 3, Tried::Delivered { version: version(3) }).await;
    assert_eq!(due(&store, 1009, 10).await, [4, 5]);
    assert_eq!(due(&store, 1010, 10).await, [4, 5, 1]);
    assert_eq!(outbox(&store).await, OutboxStatus { queued: 3, parked: 1, oldest: Some(at(NOW)) });
    drop(store);
    let store = remembering(directory.path());
    assert_eq!(due(&store, 1010, 10).await, [4, 5, 1], "after reopening");
    try_it(&store, 1, Tried::Later { due_at: at(1020), error: "still no".into() }).await;
    let row = store.outbox_row(url(1).id()).await.expect("a read").expect("a row");
    assert_eq!((row.attempts, row.error.as_deref()), (2, Some("still no")));
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_row_that_has_grown_meanwhile_stays_and_is_due() {
    let directory = directory();
    let store = remembering(directory.path());
    put_at(&store, 10, Beside::Queue { due_at: at(1500) }).await;
    put_at(&store, 20, Beside::Queue { due_at: at(1500) }).await;
    try_it(&store, 1, Tried::Delivered { version: version(10) }).await;
    assert_eq!(due(&store, NOW, 10).await, [20]);
    try_it(&store, 1, Tried::Delivered { version: version(30) }).await;
    assert_eq!(outbox(&store).await, OutboxStatus::default(), "a newer one counts for it");
    try_it(&store, 1, Tried::Delivered { version: version(30) }).await;
    try_it(&store, 1, Tried::Later { due_at: at(0), error: String::new() }).await;
    try_it(&store, 1, Tried::Park { error: String::new() }).await;
    assert_eq!(outbox(&store).await, OutboxStatus::default(), "a row that is gone stays gone");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn rows_are_listed_in_their_order() {
    let directory = directory();
    let store = five(directory.path()).await;
    for number in [2, 4] {
        try_it(&store, number, Tried::Park { error: "no".into() }).await;
    }
    let list =
        async |parked, after, limit| numbers(&store.outbox_rows(parked, after, limit).await.expect("rows"));
    assert_eq!(list(false, 0, 10).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(false, 2, 2).await, [3, 4]);
    assert_eq!(list(true, 0, 10).await, [2, 4]);
    assert_eq!(list(true, 2, 10).await, [4]);
}

#[tokio::test]
async fn parked_rows_are_tried_again_or_given_up() {
    let directory = directory();
    let store = five(directory.path()).await;
    for number in [2, 3, 4] {
        try_it(&store, number, Tried::Park { error: "no".into() }).await;
    }
    assert_eq!(store.outbox_unpark(Some(1), at(1001)).await, Ok(0), "it is not parked");
    assert_eq!(store.outbox_unpark(Some(3), at(1001)).await, Ok(1));
    assert_eq!(due(&store, 1001, 10).await, [1, 3]);
    assert_eq!(store.outbox_discard(1).await, Ok(false), "it is not parked");
    assert_eq!(store.outbox_discard(4).await, Ok(true));
    assert_eq!(store.outbox_discard(4).await, Ok(false));
    assert_eq!((outbox(&store).await.queued, outbox(&store).await.parked), (3, 1));
    recount(&connection(directory.path()));
    assert_eq!(store.outbox_unpark(None, at(1001)).await, Ok(1));
    assert_eq!(due(&store, 1010, 10).await, [1, 2, 3, 5]);
    assert_eq!(known_of(&store, 4).await.held, Some(version(4)), "given up is not deleted");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn the_age_is_that_of_the_oldest_that_waits() {
    let directory = directory();
    let clock = Clock::manual(at(100));
    let store = SqliteStore::open(&options(directory.path()), &clock, &Metrics::new()).expect("opens");
    for number in 1..=3 {
        clock.set(at(100 * number));
        put_key(&store, number, number, QUEUE).await;
    }
    assert_eq!(outbox(&store).await.oldest, Some(at(100)));
    clock.set(at(900));
    put_key(&store, 1, 9, QUEUE).await;
    assert_eq!(outbox(&store).await.oldest, Some(at(100)), "since its first write");
    try_it(&store, 1, Tried::Park { error: "no".into() }).await;
    assert_eq!(outbox(&store).await.oldest, Some(at(200)));
    let plan: String = connection(directory.path())
        .query_row(
            &format!("explain query plan {}", crate::store::sqlite::ledger::outbox::OLDEST),
            [],
            |row| row.get(3),
        )
        .expect("a plan");
    assert!(plan.contains("outbox_by_age") && !plan.contains("B-TREE"), "{plan}");
}

#[tokio::test]
async fn a_damaged_row_does_not_hold_up_the_others() {
    let directory = directory();
    let store = five(directory.path()).await;
    let own = connection(directory.path());
    own.execute("update outbox set kind = 'letter' where seq = 2", []).expect("damaged");
    own.execute("update outbox set name = 'no url' where seq = 3", []).expect("damaged");
    assert_eq!(due(&store, 1010, 2).await, [1, 4]);
    let refused = store.outbox_row(url(2).id()).await.expect_err("damaged");
    assert!(matches!(&refused, Error::Corrupt { detail, .. } if detail.contains("letter")), "{refused}");
}

#[tokio::test]
async fn a_row_of_a_refused_version_stands_for_what_is_there() {
    let directory = directory();
    let store = remembering(directory.path());
    let intend = async |number: u64, second: u64| {
        let intended = store.intend(Queued::Result(url(number)), version(second), at(1500));
        intended.await.expect("noted");
    };
    put_at(&store, 10, Beside::Queue { due_at: at(1500) }).await;
    intend(1, 20).await;
    try_it(&store, 1, Tried::Refused { version: version(15) }).await;
    assert_eq!(the_row(&store).await.version, version(20), "another write has made it grow");
    try_it(&store, 1, Tried::Refused { version: version(20) }).await;
    assert_eq!(due(&store, NOW, 10).await, [10], "it was queued before, and is due");
    intend(2, 30).await;
    try_it(&store, 2, Tried::Refused { version: version(30) }).await;
    assert_eq!(outbox(&store).await.queued, 1, "nothing is there that a row could stand for");
    recount(&connection(directory.path()));
}
