//! What gets into the outbox, what is refused, and what settles it.

use super::*;

#[tokio::test]
async fn a_key_has_one_row_that_stands_for_all_its_writes() {
    let directory = directory();
    let store = remembering(directory.path());
    put_key(&store, 2, 5, QUEUE).await;
    put_at(&store, 10, Beside::Queue { due_at: at(1010) }).await;
    let first = store.outbox_row(url(1).id()).await.expect("a read").expect("a row");
    let expected = Row {
        seq: 2,
        what: Queued::Result(url(1)),
        version: version(10),
        enqueued_at: at(NOW),
        due_at: at(1010),
        attempts: 0,
        error: None,
    };
    assert_eq!(first, expected);
    assert_eq!(put_at(&store, 20, Beside::Queue { due_at: at(1020) }).await, PutOutcome::Replaced);
    let row = store.outbox_row(url(1).id()).await.expect("a read").expect("a row");
    assert_eq!(row, Row { version: version(20), ..first.clone() });
    assert_eq!(store.outbox_due(at(1010), 10).await.expect("rows").len(), 2, "due as the first write was");
    assert_eq!(delete_at(&store, 30, QUEUE).await, DeleteOutcome::Deleted);
    let row = store.outbox_row(url(1).id()).await.expect("a read").expect("a row");
    assert_eq!(row, Row { version: version(30), due_at: at(NOW), ..first });
    assert_eq!(outbox(&store).await, OutboxStatus { queued: 2, parked: 0, oldest: Some(at(NOW)) });
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_new_write_gives_a_failed_row_another_chance() {
    for failure in [Tried::Later { due_at: at(5000), error: "no".into() }, Tried::Park { error: "no".into() }]
    {
        let directory = directory();
        let store = remembering(directory.path());
        put_at(&store, 10, QUEUE).await;
        store.outbox_tried(vec![(url(1).id(), failure)]).await.expect("noted");
        let failed = the_row(&store).await;
        assert_eq!((failed.attempts, failed.error.as_deref()), (1, Some("no")));
        put_at(&store, 20, Beside::Queue { due_at: at(1500) }).await;
        let row = the_row(&store).await;
        assert_eq!(row, Row { version: version(20), due_at: at(1500), attempts: 0, error: None, ..failed });
        assert_eq!(store.outbox_due(at(1499), 10).await, Ok(vec![]));
        assert_eq!(store.outbox_due(at(1500), 10).await, Ok(vec![row]), "due when the new write says");
        assert_eq!((outbox(&store).await.queued, outbox(&store).await.parked), (1, 0));
        recount(&connection(directory.path()));
    }
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_not_queued() {
    let directory = directory();
    let store = remembering(directory.path());
    put_at(&store, 20, Beside::Nothing).await;
    assert_eq!(put_at(&store, 20, QUEUE).await, PutOutcome::Superseded);
    let put = Put { condition: Condition::Absent(at(0)), ..put(&url(1), "text", 30) };
    let failed = store.put_beside(put, None, QUEUE).await;
    assert_eq!(failed, Ok(Fenced::Done(PutOutcome::ConditionFailed)));
    assert_eq!(known(&store).await.queued, None);
}

#[tokio::test]
async fn what_the_other_side_has_is_settled() {
    let directory = directory();
    let store = remembering(directory.path());
    put_at(&store, 10, QUEUE).await;
    assert_eq!(put_at(&store, 20, Beside::Nothing).await, PutOutcome::Replaced);
    assert_eq!(known(&store).await.queued, Some(version(10)), "not by a write that says nothing of it");
    assert_eq!(put_at(&store, 9, Beside::Settle).await, PutOutcome::Superseded);
    assert_eq!(known(&store).await.queued, Some(version(10)), "nor by an older one");
    // The replay of a write whose answer was lost: it changes nothing, and the other side has it all the same.
    assert_eq!(put_at(&store, 20, Beside::Settle).await, PutOutcome::Superseded);
    assert_eq!(known(&store).await.queued, None);
    put_at(&store, 30, QUEUE).await;
    assert_eq!(delete_at(&store, 40, Beside::Settle).await, DeleteOutcome::Deleted);
    assert_eq!(known(&store).await.queued, None);
    assert_eq!(outbox(&store).await, OutboxStatus::default());
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_full_outbox_refuses_new_keys_only() {
    let directory = directory();
    let store = bounded(directory.path(), 2);
    put_key(&store, 1, 10, QUEUE).await;
    put_key(&store, 2, 10, QUEUE).await;
    store.outbox_tried(vec![(url(2).id(), Tried::Park { error: "no".into() })]).await.expect("noted");
    put_key(&store, 3, 10, Beside::Nothing).await;
    let three = put(&url(3), "text", 20);
    let is_full =
        |error: &Error| matches!(error, Error::Full { detail, .. } if detail.contains("holds 2 rows"));
    let refused = store.put_beside(three, None, QUEUE).await.expect_err("full");
    assert!(is_full(&refused) && refused.to_string().contains("routing.outbox_rows"), "{refused}");
    let refused = store.delete_beside(&url(3), version(20), Condition::Any, None, QUEUE).await;
    assert!(refused.as_ref().is_err_and(is_full), "{refused:?}");
    let refused = store.intend(Queued::Result(url(3)), version(20), at(0)).await;
    assert!(refused.as_ref().is_err_and(is_full), "{refused:?}");
    let record = PutSession {
        namespace: Namespace::default(),
        record: session("s", 10),
        condition: SessionCondition::Any,
    };
    let refused = store.put_session_beside(record, None, QUEUE).await;
    assert!(refused.as_ref().is_err_and(is_full), "{refused:?}");
    assert!(!session_exists(&store, "s").await);
    let three = known_of(&store, 3).await;
    assert_eq!(three, Known { held: Some(version(10)), ..Known::default() }, "nothing changed");
    // What is no new row, or none at all, goes on.
    assert_eq!(put_key(&store, 1, 20, QUEUE).await, PutOutcome::Replaced);
    assert_eq!(put_key(&store, 2, 20, QUEUE).await, PutOutcome::Replaced);
    assert_eq!(put_key(&store, 3, 20, Beside::Floor).await, PutOutcome::Replaced);
    assert_eq!(put_key(&store, 3, 15, QUEUE).await, PutOutcome::Superseded, "an outcome, not an error");
    assert_eq!(store.0.writer.problem().map(|problem| format!("{problem:?}")), None, "the disk is fine");
    put_key(&store, 1, 30, Beside::Settle).await;
    assert_eq!(put_key(&store, 3, 30, QUEUE).await, PutOutcome::Replaced);
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_full_outbox_does_not_take_others_in_its_transaction_with_it() {
    let directory = directory();
    let store = bounded(directory.path(), 3);
    let puts = (0..8).map(|number| {
        let beside = if number % 2 == 0 { QUEUE } else { Beside::Nothing };
        store.put_beside(put(&url(number), "text", 10), None, beside)
    });
    let outcomes = futures_util::future::join_all(puts).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let refused = number == 6;
        assert_eq!(outcome.is_err(), refused, "{number}: {outcome:?}");
        assert_eq!(said(&store, &url(number as u64)).await.is_none(), refused, "{number}");
    }
    assert_eq!(outbox(&store).await.queued, 3);
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn an_intention_is_a_row_and_nothing_else() {
    let directory = directory();
    let store = remembering(directory.path());
    let intend = async |second, due| {
        store.intend(Queued::Result(url(1)), version(second), at(due)).await.expect("noted");
    };
    intend(20, 1030).await;
    assert_eq!(known(&store).await, Known { queued: Some(version(20)), ..Known::default() });
    assert_eq!(look(&store, 1).await, Look::Absent);
    intend(10, 1040).await;
    assert_eq!(known(&store).await.queued, Some(version(20)), "the newer of the two");
    assert_eq!(store.outbox_due(at(1029), 10).await, Ok(vec![]));
    assert_eq!(store.outbox_due(at(1030), 10).await.expect("rows").len(), 1);
    drop(store);
    let store = remembering(directory.path());
    assert_eq!(the_row(&store).await.version, version(20), "it outlives the process");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn what_the_outbox_names_is_not_evicted() {
    const MAX_BYTES: u64 = 2 << 20;
    let directory = directory();
    let options = Options { max_bytes: MAX_BYTES, ..options(directory.path()) };
    let store = SqliteStore::open(&options, &Clock::manual(at(NOW)), &Metrics::new()).expect("opens");
    for number in 0..10 {
        store.put_beside(noise(number, 20_000), None, QUEUE).await.expect("a put");
    }
    let parked = (0..5).map(|number| (url(number).id(), Tried::Park { error: "no".into() })).collect();
    store.outbox_tried(parked).await.expect("noted");
    for number in 10..300 {
        put_result(&store, noise(number, 20_000)).await;
    }
    let own = connection(directory.path());
    assert!(used(&own) <= MAX_BYTES, "{} bytes", used(&own));
    for number in 0..10 {
        assert!(known_of(&store, number).await.held.is_some(), "entry {number} is nowhere else");
    }
    assert_eq!(known_of(&store, 10).await.held, None, "the first that nobody waits for is gone");
    for number in 0..10 {
        let delivered = Tried::Delivered { version: version(10) };
        store.outbox_tried(vec![(url(number).id(), delivered)]).await.expect("noted");
    }
    // Opened anew, the hand begins with the first rows.
    drop(store);
    let store = SqliteStore::open(&options, &Clock::manual(at(NOW)), &Metrics::new()).expect("opens");
    for number in 300..310 {
        put_result(&store, noise(number, 20_000)).await;
    }
    assert_eq!(known_of(&store, 0).await.held, None, "delivered, it goes like any other");
    recount(&own);
}

#[tokio::test]
async fn a_sweep_leaves_what_the_other_side_has_yet_to_get() {
    let directory = directory();
    let store = remembering(directory.path());
    put_at(&store, 10, QUEUE).await;
    assert_eq!(store.sweep_batch(Timestamp::MAX, at(0)).await.expect("a sweep").results, 0);
    let waiting = Known { held: Some(version(10)), queued: Some(version(10)), ..Known::default() };
    assert_eq!(known(&store).await, waiting);
    let delivered = Tried::Delivered { version: version(10) };
    store.outbox_tried(vec![(url(1).id(), delivered)]).await.expect("noted");
    assert_eq!(store.sweep_batch(Timestamp::MAX, at(0)).await.expect("a sweep").results, 1);
    assert_eq!(known(&store).await, Known::default());
    recount(&connection(directory.path()));
}
