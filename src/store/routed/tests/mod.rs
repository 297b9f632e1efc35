//! The router, case by case, and against a model.

mod clocks;
mod leases;
mod model;

use super::testing::{Street, Weather, policy};
use crate::domain::routing::{Force, OnOwnerFailure, Policy, Side};
use crate::domain::{Timestamp, Version};
use crate::store::conformance::{at, key, put, text_of};
use crate::store::sqlite::ledger::outbox::Queued;
use crate::store::{
    Condition, DeleteOutcome, Error, GetOptions, Look, Put, PutOutcome, ResultStore, Seen, Source, Via,
};

const URL: &str = "https://example.com/";

/// What is read under the url, and how it came.
async fn read(street: &Street) -> Option<(String, Source, Via)> {
    let found = street.routed.get(&key(URL), GetOptions::default()).await.expect("an answer");
    found.map(|hit| (text_of(&hit.entry), hit.source, hit.via))
}

/// What one side has.
async fn on(store: &dyn ResultStore) -> Option<(String, Version, Timestamp)> {
    let found = store.get(&key(URL), GetOptions::default()).await.expect("an answer");
    found.map(|hit| (text_of(&hit.entry), hit.entry.meta.version, hit.entry.meta.expires_at))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be missing")]
fn there(text: &str, via: Via) -> Option<(String, Source, Via)> {
    Some((text.to_owned(), Source::Dynamodb, via))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be missing")]
fn here(text: &str, via: Via) -> Option<(String, Source, Via)> {
    Some((text.to_owned(), Source::Sqlite, via))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be missing")]
fn stored(text: &str, second: u64) -> Option<(String, Version, Timestamp)> {
    let entry = put(&key(URL), text, second).meta;
    Some((text.to_owned(), entry.version, entry.expires_at))
}

#[tokio::test]
async fn the_owner_gets_what_is_written_and_answers() {
    let street = Street::new(policy(0, false)).await;
    assert_eq!(street.routed.put(put(&key(URL), "a", 10)).await, Ok(PutOutcome::Created));
    assert_eq!(read(&street).await, here("a", Via::Owner));
    assert_eq!(street.across.asked(), 0, "what SQLite owns and holds is no matter of DynamoDB's");
    street.set(policy(100, false)).await;
    assert_eq!(street.routed.put(put(&key(URL), "b", 11)).await, Ok(PutOutcome::Replaced));
    assert_eq!(read(&street).await, there("b", Via::Owner));
    assert_eq!(on(&street.here).await, None, "what is older is gone before the write is acknowledged");
    let created = street.across.store.get(&key(URL), GetOptions::default()).await.expect("read");
    assert_eq!(created.expect("there").entry.meta.created_at, at(10), "the time of creation has moved along");
}

#[tokio::test]
async fn what_is_replaced_after_ownership_moved_is_not_created() {
    for dual_write in [false, true] {
        let street = Street::new(policy(0, false)).await;
        street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
        street.set(policy(100, dual_write)).await;
        let again = street.routed.put(put(&key(URL), "b", 11)).await;
        assert_eq!(again, Ok(PutOutcome::Replaced), "dual {dual_write}");
        street.relay().await;
        street.set(policy(0, dual_write)).await;
        let back = street.routed.put(put(&key(URL), "c", 12)).await;
        // Of what only DynamoDB has, SQLite knows nothing, and it asks nobody before it stores what it owns.
        let expected = if dual_write { PutOutcome::Replaced } else { PutOutcome::Created };
        assert_eq!(back, Ok(expected), "dual {dual_write}");
    }
}

#[tokio::test]
async fn what_the_owner_lacks_is_copied_to_it_as_it_is() {
    let street = Street::new(policy(0, false)).await;
    street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    street.set(policy(100, false)).await;
    assert_eq!(read(&street).await, here("a", Via::Other));
    street.rest().await;
    assert_eq!(on(&street.across).await, stored("a", 10), "with its own version and times");
    assert_eq!(read(&street).await, there("a", Via::Owner));

    let street = Street::new(policy(100, false)).await;
    street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    street.set(policy(0, false)).await;
    assert_eq!(read(&street).await, there("a", Via::Other));
    street.rest().await;
    assert_eq!(on(&street.here).await, stored("a", 10));
    assert_eq!(read(&street).await, here("a", Via::Owner));
}

#[tokio::test]
async fn going_back_and_forth_never_shows_what_was_replaced() {
    for dual_write in [false, true] {
        let street = Street::new(policy(0, dual_write)).await;
        for (number, percent) in [0, 100, 0, 0, 100, 100, 0].into_iter().enumerate() {
            street.set(policy(percent, dual_write)).await;
            let text = number.to_string();
            street.routed.put(put(&key(URL), &text, 10 + number as u64)).await.expect("stored");
            for after in [0, 100, 0] {
                street.set(policy(after, dual_write)).await;
                let (found, ..) = read(&street).await.expect("it is there");
                assert_eq!(found, text, "written at {percent} %, read at {after} %, dual {dual_write}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_wherever_it_was() {
    for dual_write in [false, true] {
        for (written_at, deleted_at) in [(0, 0), (0, 100), (100, 0), (100, 100)] {
            let street = Street::new(policy(written_at, dual_write)).await;
            street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
            street.set(policy(deleted_at, dual_write)).await;
            street
                .routed
                .delete(&key(URL), Version::first_of(at(11)), Condition::Any)
                .await
                .expect("deleted");
            for delivered in [false, true] {
                for percent in [0, 100] {
                    street.set(policy(percent, dual_write)).await;
                    let place = format!("{written_at} {deleted_at} {percent} {delivered} {dual_write}");
                    assert_eq!(read(&street).await, None, "{place}");
                }
                street.relay().await;
            }
            assert_eq!(on(&street.across).await, None);
            let again = street.routed.put(put(&key(URL), "b", 12)).await;
            assert_eq!(again, Ok(PutOutcome::Created));
            assert_eq!(read(&street).await.map(|(text, ..)| text).as_deref(), Some("b"));
        }
    }
}

#[tokio::test]
async fn a_write_whose_owner_is_away_is_queued_and_delivered() {
    for dual_write in [false, true] {
        for weather in [Weather::Down, Weather::Silent, Weather::Lying] {
            let street = Street::new(policy(100, dual_write)).await;
            street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
            street.across.set(weather);
            let queued = street.routed.put(put(&key(URL), "b", 11)).await;
            assert_eq!(queued, Ok(PutOutcome::Queued), "{weather:?}");
            assert_eq!(read(&street).await, here("b", Via::Queued));
            let status = street.here.outbox_status().await.expect("read");
            assert_eq!((status.queued, status.parked), (1, 0));
            street.across.set(Weather::Fair);
            assert_eq!(street.relay().await, 1);
            assert_eq!(on(&street.across).await, stored("b", 11));
            let deleted = Version::first_of(at(12));
            street.across.set(weather);
            let queued = street.routed.delete(&key(URL), deleted, Condition::Any).await;
            assert_eq!(queued, Ok(DeleteOutcome::Queued));
            assert_eq!(read(&street).await, None);
            street.across.set(Weather::Fair);
            street.relay().await;
            let look = street.across.store.look(&key(URL), GetOptions::default()).await;
            assert!(matches!(look, Ok(Look::Deleted(version)) if version == deleted), "{look:?}");
        }
    }
}

#[tokio::test]
async fn what_is_stored_while_its_row_is_settled_is_not_deleted_across() {
    let street = Street::new(policy(0, true)).await;
    street.routed.delete(&key(URL), Version::first_of(at(10)), Condition::Any).await.expect("deleted");
    street.set(policy(0, false)).await;
    // A put that leaves no row, but a tombstone of its own version, which is no deletion.
    let stored_meanwhile = async {
        street.routed.put(put(&key(URL), "a", 11)).await.expect("stored");
    };
    let settling = Queued::Result(key(URL));
    Box::pin(street.amid(1, street.routed.settle(&settling), stored_meanwhile)).await.expect("settled");
    let look = street.across.store.look(&key(URL), GetOptions::default()).await;
    assert!(matches!(look, Ok(Look::Deleted(version)) if version == Version::first_of(at(10))), "{look:?}");
    for percent in [100, 0] {
        street.set(policy(percent, false)).await;
        assert_eq!(read(&street).await.map(|(text, ..)| text).as_deref(), Some("a"), "at {percent} %");
    }
}

#[tokio::test]
async fn a_look_up_shows_what_is_replaced_while_it_looks() {
    let street = Street::new(policy(100, false)).await;
    street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    street.set(policy(100, true)).await;
    let replaced_meanwhile = async {
        street.routed.put(put(&key(URL), "b", 11)).await.expect("stored");
    };
    let keys = [key(URL)];
    let found = street.amid(1, street.routed.get_metas(&keys), replaced_meanwhile).await.expect("an answer");
    let found = found[0].as_ref().expect("it was there all the time");
    assert!([at(10), at(11)].contains(&found.updated_at), "{found:?}");
}

#[tokio::test]
async fn a_deletion_that_arrives_after_its_answer_was_given_up_reaches_both_sides() {
    for dual_write in [false, true] {
        let reject = Policy { on_owner_failure: OnOwnerFailure::Reject, ..policy(100, dual_write) };
        let street = Street::new(policy(0, true)).await;
        street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
        street.relay().await;
        street.set(reject).await;
        street.across.set(Weather::Late);
        let version = street.clock.next_version();
        street.routed.delete(&key(URL), version, Condition::Any).await.expect_err("no answer");
        street.across.set(Weather::Fair);
        street.rest().await;
        assert_eq!(street.relay_now().await, 0, "nothing is known of it yet");
        assert_eq!(read(&street).await.map(|(text, ..)| text).as_deref(), Some("a"));
        assert_eq!(street.across.arrive().await, 1);
        street.clock.set(street.clock.now().plus_secs(100));
        assert_eq!(street.relay_now().await, 1);
        assert_eq!((on(&street.here).await, on(&street.across.store).await), (None, None));
    }
}

#[tokio::test]
async fn a_write_that_was_judged_and_refused_leaves_no_row() {
    for dual_write in [false, true] {
        let street = Street::new(policy(0, true)).await;
        street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
        street.relay().await;
        street.set(policy(100, dual_write)).await;
        let unmet = Condition::Version(Version::first_of(at(5)));
        let refused = Put { condition: unmet.clone(), ..put(&key(URL), "b", 11) };
        assert_eq!(street.routed.put(refused).await, Ok(PutOutcome::ConditionFailed));
        let version = Version::first_of(at(12));
        let deleted = street.routed.delete(&key(URL), version, unmet).await;
        assert_eq!(deleted, Ok(DeleteOutcome::ConditionFailed));
        street.rest().await;
        street.relay_now().await;
        assert_eq!(street.here.outbox_status().await.expect("read").queued, 0, "dual {dual_write}");
    }
}

#[tokio::test]
async fn a_write_that_may_not_be_queued_changes_nothing() {
    let reject = |dual_write| Policy { on_owner_failure: OnOwnerFailure::Reject, ..policy(100, dual_write) };
    for dual_write in [false, true] {
        let street = Street::new(reject(dual_write)).await;
        street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
        street.across.set(Weather::Down);
        let refused = street.routed.put(put(&key(URL), "b", 11)).await;
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        street.across.set(Weather::Fair);
        assert_eq!(read(&street).await.map(|(text, ..)| text).as_deref(), Some("a"));
        street.relay().await;
        assert_eq!(read(&street).await.map(|(text, ..)| text).as_deref(), Some("a"));
        // The answer is lost and what was asked for has happened; with two sides to keep alike, what SQLite knows is
        // compared first, and there the attempt ends.
        street.across.set(Weather::Lying);
        street.routed.put(put(&key(URL), "c", 12)).await.expect_err("nobody said that it was done");
        street.across.set(Weather::Fair);
        street.relay().await;
        let expected = if dual_write { "a" } else { "c" };
        assert_eq!(read(&street).await, there(expected, Via::Owner));
    }
}

#[tokio::test]
async fn conditions_are_judged_by_what_is_newest_wherever_it_is() {
    for dual_write in [false, true] {
        for (written_at, judged_at) in [(0, 0), (0, 100), (100, 0), (100, 100)] {
            let street = Street::new(policy(written_at, dual_write)).await;
            let first = put(&key(URL), "a", 10);
            let etag = first.meta.etag;
            street.routed.put(first).await.expect("stored");
            street.set(policy(judged_at, dual_write)).await;
            let place = format!("{written_at} {judged_at} {dual_write}");
            let given =
                |condition, text, second| crate::store::Put { condition, ..put(&key(URL), text, second) };
            let absent = street.routed.put(given(Condition::Absent(at(11)), "x", 11)).await;
            assert_eq!(absent, Ok(PutOutcome::ConditionFailed), "{place}");
            let matching = street.routed.put(given(Condition::Matches(vec![etag]), "b", 12)).await;
            assert_eq!(matching, Ok(PutOutcome::Replaced), "{place}");
            let stale = street.routed.put(given(Condition::Matches(vec![etag]), "c", 13)).await;
            assert_eq!(stale, Ok(PutOutcome::ConditionFailed), "{place}");
            let version = Version::first_of(at(14));
            let kept = street.routed.delete(&key(URL), version, Condition::Matches(vec![etag])).await;
            assert_eq!(kept, Ok(DeleteOutcome::ConditionFailed), "{place}");
            let gone = street.routed.delete(&key(URL), version, Condition::Present).await;
            assert_eq!(gone, Ok(DeleteOutcome::Deleted), "{place}");
            assert_eq!(read(&street).await, None, "{place}");
            street.relay().await;
            assert_eq!(on(&street.across).await, None, "{place}");
            assert_eq!(street.here.outbox_status().await.expect("read").queued, 0, "{place}");
        }
    }
}

#[tokio::test]
async fn without_its_owner_a_key_is_read_from_the_other_side_or_not_at_all() {
    let street = Street::new(policy(100, true)).await;
    street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    street.rest().await;
    street.across.set(Weather::Down);
    assert_eq!(read(&street).await, here("a", Via::Fallback));
    let street = Street::new(policy(100, false)).await;
    street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    street.across.set(Weather::Down);
    let unknown = street.routed.get(&key(URL), GetOptions::default()).await;
    assert!(matches!(unknown, Err(Error::Unavailable { .. })), "{unknown:?}");
    // SQLite, which owns it now, has none, and cannot know what DynamoDB has.
    street.set(Policy { force: Force::Sqlite, ..policy(100, false) }).await;
    let unknown = street.routed.get(&key(URL), GetOptions::default()).await;
    assert!(matches!(unknown, Err(Error::Unasked { .. })), "{unknown:?}");
    street.across.set(Weather::Fair);
    assert_eq!(read(&street).await, there("a", Via::Other));
}

#[tokio::test]
async fn many_keys_are_looked_up_on_both_sides_at_once() {
    let street = Street::new(policy(50, false)).await;
    let keys: Vec<_> = (0..40).map(|number| key(&format!("https://example.com/{number}"))).collect();
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 4 != 3) {
        street.routed.put(put(key, "a", 10 + number as u64)).await.expect("stored");
    }
    for percent in [0, 50, 100] {
        street.set(policy(percent, false)).await;
        let before = street.across.asked();
        let metas = street.routed.get_metas(&keys).await.expect("an answer");
        assert_eq!(street.across.asked() - before, 1, "one request for all");
        for (number, meta) in metas.iter().enumerate() {
            assert_eq!(meta.is_some(), number % 4 != 3, "{number} at {percent} %");
        }
    }
    street.across.set(Weather::Down);
    let gone = &keys[0];
    street.set(policy(0, false)).await;
    street.routed.delete(gone, Version::first_of(at(100)), Condition::Any).await.expect("deleted");
    for percent in [0, 50, 100] {
        street.set(policy(percent, false)).await;
        let seen = street.routed.survey(&keys).await.expect("an answer all the same");
        for (key, seen) in keys.iter().zip(&seen) {
            let is_here = street.here.get(key, GetOptions::default()).await.expect("read").is_some();
            let owner = policy(percent, false).owner(key.id().bucket());
            let is_right = match (owner, is_here) {
                _ if key == gone => matches!(seen, Seen::Told(Look::Deleted(_))),
                (Side::Sqlite, true) => matches!(seen, Seen::Told(Look::Entry(_))),
                (Side::Dynamodb, true) => matches!(seen, Seen::Unconfirmed(_, Source::Sqlite)),
                (_, false) => matches!(seen, Seen::Unknown),
            };
            assert!(is_right, "{} of {owner} at {percent} %: {seen:?}", key.url());
        }
        let metas = street.routed.get_metas(&keys).await;
        assert!(matches!(metas, Err(Error::Unasked { .. })), "who needs all of them is told so: {metas:?}");
    }
}

/// What SQLite, which owns a key, cannot know while DynamoDB is away is not taken for absent: neither by a read, nor by a
/// condition, nor by a session.
#[tokio::test]
async fn what_is_only_unseen_is_not_judged() {
    use crate::domain::session::SessionId;
    use crate::store::conformance::session;
    use crate::store::{PutSession, SessionCondition, SessionDeleteOutcome, SessionPutOutcome, SessionStore};
    let is_unasked = |error: Option<Error>| matches!(error, Some(Error::Unasked { .. }));
    for (weather, dual_write) in
        [(Weather::Down, false), (Weather::Down, true), (Weather::Silent, false), (Weather::Silent, true)]
    {
        let place = format!("{weather:?}, dual writes {dual_write}");
        let street = Street::new(policy(0, dual_write)).await;
        street.across.set(weather);
        let etag = put(&key(URL), "a", 10).meta.etag;
        for condition in [
            Condition::Absent(at(10)),
            Condition::Present,
            Condition::Matches(vec![etag]),
            Condition::Version(Version::first_of(at(9))),
        ] {
            let given = crate::store::Put { condition: condition.clone(), ..put(&key(URL), "a", 10) };
            assert!(is_unasked(street.routed.put(given).await.err()), "{place}: put {condition:?}");
            let version = Version::first_of(at(10));
            let deleted = street.routed.delete(&key(URL), version, condition.clone()).await;
            assert!(is_unasked(deleted.err()), "{place}: delete {condition:?}");
        }
        assert!(is_unasked(street.routed.get(&key(URL), GetOptions::default()).await.err()), "{place}");
        // What is known to be deleted is known not to be there: whatever DynamoDB has is older.
        street.routed.delete(&key(URL), Version::first_of(at(11)), Condition::Any).await.expect("deleted");
        let created = crate::store::Put { condition: Condition::Absent(at(12)), ..put(&key(URL), "b", 12) };
        assert_eq!(street.routed.put(created).await, Ok(PutOutcome::Created), "{place}");
        let matching = crate::store::Put { condition: Condition::Present, ..put(&key(URL), "c", 13) };
        assert_eq!(street.routed.put(matching).await, Ok(PutOutcome::Replaced), "{place}: what it holds");

        let (sessions, id) = (street.routed.sessions(), SessionId::new("s-1").expect("an id"));
        let space = crate::domain::Namespace::default();
        assert!(is_unasked(sessions.get(&space, &id).await.err()), "{place}");
        let new = |second, condition| PutSession {
            namespace: space.clone(),
            record: session("s-1", second),
            condition,
        };
        let created = sessions.put(new(20, SessionCondition::Absent(at(20)))).await;
        assert!(is_unasked(created.err()), "{place}");
        let deleted = sessions.delete(&space, &id, SessionCondition::Version(Version::first_of(at(9)))).await;
        assert!(is_unasked(deleted.err()), "{place}");
        let deleted = sessions.delete(&space, &id, SessionCondition::Any).await;
        assert!(matches!(deleted, Ok(SessionDeleteOutcome::Absent)), "{place}: {deleted:?}");
        assert!(matches!(sessions.get(&space, &id).await, Ok(None)), "{place}: known to be gone");
        let later = street.clock.now().as_secs() + 100;
        let created = sessions.put(new(later, SessionCondition::Absent(at(later)))).await;
        assert!(matches!(created, Ok(SessionPutOutcome::Created)), "{place}: {created:?}");
    }
}

#[tokio::test]
async fn a_write_planned_under_another_policy_is_planned_again() {
    let street = Street::new(policy(0, false)).await;
    let old = street.routed.parts().routing.current();
    street.set(policy(100, false)).await;
    let beside = crate::store::sqlite::ledger::Beside::Floor;
    let late = street.here.put_beside(put(&key(URL), "late", 10), Some(old.generation), beside).await;
    assert_eq!(late, Ok(crate::store::sqlite::ledger::Fenced::Outdated));
    assert_eq!(street.routed.put(put(&key(URL), "b", 11)).await, Ok(PutOutcome::Created));
    assert_eq!((on(&street.here).await, on(&street.across).await), (None, stored("b", 11)));
}

#[tokio::test]
async fn another_process_sees_what_dynamodb_owns() {
    let one = Street::new(policy(100, true)).await;
    let two = Street::beside(&one, policy(100, true)).await;
    one.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    assert_eq!(read(&two).await, there("a", Via::Owner));
    two.routed.put(put(&key(URL), "b", 11)).await.expect("stored");
    assert_eq!(read(&one).await, there("b", Via::Owner), "not the older copy of its own");
    two.routed.delete(&key(URL), Version::first_of(at(12)), Condition::Any).await.expect("deleted");
    assert_eq!(read(&one).await, None, "nor that copy once it is deleted elsewhere");
    one.rest().await;
    assert_eq!(on(&one.here).await, None, "and the copy goes");
}

#[tokio::test]
async fn shadow_reads_count_what_differs_by_field() {
    let street = Street::new(Policy { shadow_read: 1.0, ..policy(0, false) }).await;
    ResultStore::put(&street.here, put(&key(URL), "a", 10)).await.expect("stored");
    ResultStore::put(&street.across.store, put(&key(URL), "b", 11)).await.expect("stored");
    read(&street).await.expect("there");
    street.rest().await;
    let count = |result: &str| street.metrics.shadow_reads.with_label_values(&[result]).get();
    assert_eq!((count("different"), count("equal")), (1, 0));
    let fields = |field: &str| street.metrics.shadow_differences.with_label_values(&[field]).get();
    for field in ["version", "etag", "markdown", "html", "updated_at", "expires_at"] {
        assert_eq!(fields(field), 1, "{field}");
    }
    assert_eq!(fields("url"), 0);
    ResultStore::put(&street.here, put(&key(URL), "b", 11)).await.expect("stored");
    street.relay().await;
}

#[tokio::test]
async fn what_is_damaged_on_one_side_is_answered_and_healed_by_the_other() {
    let damage = |store: &crate::store::sqlite::SqliteStore| {
        let file = rusqlite::Connection::open(store.path()).expect("a database");
        let changed = file.execute("update results set body = zeroblob(length(body))", []);
        assert_eq!(changed, Ok(1));
    };
    for percent in [0, 100] {
        let street = Street::new(policy(percent, true)).await;
        street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
        street.relay().await;
        let (owner, answered): (&dyn ResultStore, _) = if percent == 0 {
            damage(&street.here);
            (&street.here, there("a", Via::Other))
        } else {
            damage(&street.across.store);
            (&street.across, here("a", Via::Other))
        };
        assert_eq!(read(&street).await, answered, "{percent} %");
        street.rest().await;
        assert_eq!(on(owner).await, stored("a", 10), "{percent} %");
        assert_eq!(read(&street).await.map(|(_, _, via)| via), Some(Via::Owner), "{percent} %");
    }

    // Where the other side has something older, or nothing, it is damaged.
    let street = Street::new(policy(0, false)).await;
    ResultStore::put(&street.across, put(&key(URL), "older", 9)).await.expect("stored");
    street.routed.put(put(&key(URL), "a", 10)).await.expect("stored");
    damage(&street.here);
    let found = street.routed.get(&key(URL), GetOptions::default()).await;
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
    assert_eq!(street.routed.put(put(&key(URL), "a", 11)).await, Ok(PutOutcome::Refreshed));
    assert_eq!(read(&street).await, here("a", Via::Owner));
}
