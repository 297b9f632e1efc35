//! Tombstones: what they stop, what takes them back, and when they go.

use super::*;

#[tokio::test]
async fn what_is_older_than_a_deletion_stays_dead() {
    let directory = directory();
    let store = remembering(directory.path());
    assert_eq!(put_at(&store, 10, Beside::Nothing).await, PutOutcome::Created);
    assert_eq!(delete_at(&store, 20, Beside::Nothing).await, DeleteOutcome::Deleted);
    assert_eq!(known(&store).await, Known { tombstone: tombstone(20, true), ..Known::default() });
    assert_eq!(put_result(&store, put(&url(1), "text", 19)).await, PutOutcome::Superseded);
    assert_eq!(put_at(&store, 19, QUEUE).await, PutOutcome::Superseded);
    assert_eq!(look(&store, 1).await, Look::Deleted(version(20)));
    assert_eq!(outbox(&store).await, OutboxStatus::default(), "a dead write is not delivered");
    drop(store);
    let store = remembering(directory.path());
    assert_eq!(put_at(&store, 19, Beside::Nothing).await, PutOutcome::Superseded, "after reopening");
    assert_eq!(put_at(&store, 20, Beside::Nothing).await, PutOutcome::Created, "one as new is not dead");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_put_over_a_deletion_leaves_a_floor() {
    for beside in [Beside::Nothing, Beside::Settle] {
        let directory = directory();
        let store = remembering(directory.path());
        delete_at(&store, 20, Beside::Nothing).await;
        assert_eq!(put_at(&store, 30, beside).await, PutOutcome::Created);
        assert_eq!(known(&store).await.tombstone, tombstone(20, false), "{beside:?}");
        assert_eq!(look(&store, 1).await, Look::Entry("at 30".into()));
        store.sweep_batch(Timestamp::MAX, at(0)).await.expect("a sweep");
        assert_eq!(look(&store, 1).await, Look::Absent, "it expired: nobody deleted it");
        assert_eq!(put_at(&store, 19, Beside::Nothing).await, PutOutcome::Superseded);
        assert_eq!(put_at(&store, 25, Beside::Nothing).await, PutOutcome::Created);
    }
}

#[tokio::test]
async fn a_plain_put_takes_a_deletion_back_too() {
    let directory = directory();
    let store = open(directory.path());
    delete_at(&store, 20, Beside::Nothing).await;
    assert_eq!(put_result(&store, put(&url(1), "text", 30)).await, PutOutcome::Created);
    assert_eq!(known(&store).await.tombstone, tombstone(20, false));
}

#[tokio::test]
async fn the_condition_comes_first_and_a_tombstone_is_nothing_stored() {
    let directory = directory();
    let store = remembering(directory.path());
    delete_at(&store, 20, Beside::Nothing).await;
    let given = |condition, second| {
        let put = Put { condition, ..put(&url(1), "text", second) };
        store.put_beside(put, None, Beside::Nothing)
    };
    let outcome = |outcome| Ok(Fenced::Done(outcome));
    assert_eq!(given(Condition::Present, 10).await, outcome(PutOutcome::ConditionFailed));
    assert_eq!(given(Condition::Present, 30).await, outcome(PutOutcome::ConditionFailed));
    assert_eq!(given(Condition::Absent(at(0)), 10).await, outcome(PutOutcome::Superseded));
    assert_eq!(known(&store).await.tombstone, tombstone(20, true), "nothing changed so far");
    assert_eq!(given(Condition::Absent(at(0)), 30).await, outcome(PutOutcome::Created));
}

#[tokio::test]
async fn a_floor_is_no_deletion_and_keeps_the_newest() {
    let directory = directory();
    let store = remembering(directory.path());
    put_at(&store, 10, Beside::Floor).await;
    assert_eq!(known(&store).await.tombstone, tombstone(10, false));
    put_at(&store, 20, Beside::Floor).await;
    put_at(&store, 15, Beside::Floor).await;
    let known = known(&store).await;
    assert_eq!((known.held, known.tombstone), (Some(version(20)), tombstone(20, false)));
    assert!(known.admits(version(20)) && !known.admits(version(19)), "{known:?}");
    put_at(&store, 30, Beside::Nothing).await;
    assert_eq!(super::known(&store).await.tombstone, tombstone(20, false), "a put leaves it");
}

#[tokio::test]
async fn a_deletion_needs_no_entry_and_yields_to_a_newer_one() {
    let directory = directory();
    let store = remembering(directory.path());
    assert_eq!(delete_at(&store, 10, QUEUE).await, DeleteOutcome::Absent);
    let expected = Known { held: None, tombstone: tombstone(10, true), queued: Some(version(10)) };
    assert_eq!(known(&store).await, expected);
    put_at(&store, 30, Beside::Settle).await;
    assert_eq!(delete_at(&store, 20, QUEUE).await, DeleteOutcome::Absent);
    let expected = Known { held: Some(version(30)), tombstone: tombstone(10, false), queued: None };
    assert_eq!(known(&store).await, expected, "the newer entry wins");
    delete_at(&store, 50, Beside::Nothing).await;
    assert_eq!(delete_at(&store, 40, QUEUE).await, DeleteOutcome::Absent);
    let expected = Known { held: None, tombstone: tombstone(50, true), queued: None };
    assert_eq!(known(&store).await, expected, "so does the newer deletion");
    let failed = store.delete_beside(&url(2), version(10), Condition::Present, None, QUEUE).await;
    assert_eq!(failed, Ok(Fenced::Done(DeleteOutcome::ConditionFailed)));
    assert_eq!(known_of(&store, 2).await, Known::default());
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn plain_deletions_are_remembered_where_that_is_asked_for() {
    let directory = directory();
    for (tombstone_seconds, expected) in [(0, Look::Absent), (KEPT, Look::Deleted(version(20)))] {
        let options = Options { tombstone_seconds, ..options(directory.path()) };
        let store = SqliteStore::open(&options, &Clock::manual(at(NOW)), &Metrics::new()).expect("opens");
        put_result(&store, put(&url(1), "text", 10)).await;
        let deleted = ResultStore::delete(&store, &url(1), version(20), Condition::Any).await;
        assert_eq!(deleted, Ok(DeleteOutcome::Deleted));
        assert_eq!(look(&store, 1).await, expected);
    }
}

#[tokio::test]
async fn looks_at_many_tell_deleted_from_unknown() {
    let directory = directory();
    let store = remembering(directory.path());
    for number in 0..40 {
        put_key(&store, number, 10, Beside::Nothing).await;
        if number % 4 != 0 {
            ResultStore::delete(&store, &url(number), version(20), Condition::Any).await.expect("a delete");
        }
        if number % 4 == 2 {
            put_key(&store, number, 30, Beside::Nothing).await;
        }
    }
    let keys: Vec<Key> = (0..1200).map(|place| url(place * 7 % 50)).collect();
    let looks = store.look_metas(&keys).await.expect("looks");
    assert_eq!(looks.len(), keys.len());
    for (place, look) in looks.into_iter().enumerate() {
        let number = place as u64 * 7 % 50;
        let expected = match number % 4 {
            _ if number >= 40 => Look::Absent,
            0 => Look::Entry(version(10)),
            2 => Look::Entry(version(30)),
            _ => Look::Deleted(version(20)),
        };
        let look = match look {
            Look::Entry(meta) => Look::Entry(meta.version),
            Look::Deleted(version) => Look::Deleted(version),
            Look::Absent => Look::Absent,
        };
        assert_eq!(look, expected, "key {number}");
    }
}

#[tokio::test]
async fn what_the_other_side_has_supersedes() {
    // What is done at second 10, the version and kind of what comes, and what is known then.
    let held = |second| Known { held: Some(version(second)), ..Known::default() };
    let dead = |second, deleted| Known { tombstone: tombstone(second, deleted), ..Known::default() };
    for (beside, second, deleted, expected) in [
        (Beside::Nothing, 20, false, dead(20, false)),
        (Beside::Nothing, 20, true, dead(20, true)),
        (QUEUE, 20, true, dead(20, true)),
        (QUEUE, 10, false, held(10)),
        (QUEUE, 9, true, Known { queued: Some(version(10)), ..held(10) }),
        (Beside::Floor, 9, false, Known { tombstone: tombstone(10, false), ..held(10) }),
    ] {
        let directory = directory();
        let store = remembering(directory.path());
        put_at(&store, 10, beside).await;
        store.supersede(&url(1), version(second), deleted).await.expect("superseded");
        assert_eq!(known(&store).await, expected, "{beside:?} {second} {deleted}");
        recount(&connection(directory.path()));
    }
}

#[tokio::test]
async fn superseding_what_is_not_there_leaves_the_newer_tombstone() {
    let directory = directory();
    let store = remembering(directory.path());
    store.supersede(&url(1), version(20), true).await.expect("superseded");
    store.supersede(&url(1), version(10), false).await.expect("superseded");
    assert_eq!(known(&store).await.tombstone, tombstone(20, true));
    store.supersede(&url(1), version(30), false).await.expect("superseded");
    assert_eq!(known(&store).await.tombstone, tombstone(30, false));
    // A clock that was set back must not hand out what the tombstone stops.
    drop(store);
    let clock = Clock::manual(at(1));
    drop(SqliteStore::open(&options(directory.path()), &clock, &Metrics::new()).expect("opens"));
    assert!(clock.next_version() > version(30));
}

#[tokio::test]
async fn tombstones_go_when_nothing_lives_that_they_stop() {
    let directory = directory();
    let store = remembering(directory.path());
    delete_at(&store, 20, Beside::Nothing).await;
    let swept = async |second| store.sweep_batch(at(0), at(second)).await.expect("a sweep").tombstones;
    assert_eq!(swept(20 + KEPT).await, 0, "its last instant counts");
    assert_eq!(swept(21 + KEPT).await, 1);
    assert_eq!(known(&store).await, Known::default());
    // A deletion that the other side has yet to learn of is not forgotten before.
    delete_at(&store, 20, QUEUE).await;
    assert_eq!(swept(NOW + KEPT).await, 0);
    store.outbox_tried(vec![(url(1).id(), Tried::Delivered { version: version(20) })]).await.expect("noted");
    assert_eq!(swept(NOW + KEPT).await, 1);
}

#[tokio::test]
async fn tombstones_are_swept_in_batches() {
    let directory = directory();
    let store = remembering(directory.path());
    for number in 0..130 {
        ResultStore::delete(&store, &url(number), version(20), Condition::Any).await.expect("a delete");
    }
    let first = store.sweep_batch(at(0), at(NOW)).await.expect("a sweep");
    assert_eq!((first.tombstones, first.is_full()), (100, true));
    let second = store.sweep_batch(at(0), at(NOW)).await.expect("a sweep");
    assert_eq!((second.tombstones, second.is_full()), (30, false));
}
