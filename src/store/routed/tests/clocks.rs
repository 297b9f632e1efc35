//! Processes whose clocks differ, one write after the other, over keys that DynamoDB owns.

use super::*;
use crate::clock::Clock;
use crate::store::sqlite::ledger::{Beside, Fenced};
use crate::store::{Put, Versioning};

/// How far ahead the other clock is: a little, and so far that it is not believed.
const AHEAD: [u64; 2] = [7, 1_000_000];

/// Two processes under the same policy, the second of which is ahead.
async fn two(policy: Policy, seconds: u64) -> [Street; 2] {
    let one = Street::new(policy).await;
    let clock = Clock::manual(one.clock.now().plus_secs(seconds));
    let two = Street::beside_at(&one, policy, clock).await;
    [one, two]
}

/// A client's put through a process, as it comes in there.
fn own(street: &Street, text: &str, condition: Condition) -> Put {
    let mut put = put(&key(URL), text, street.clock.now().as_secs());
    (put.meta.version, put.condition) = (street.clock.next_version(), condition);
    put
}

async fn put_through(street: &Street, text: &str, condition: Condition) -> PutOutcome {
    street.routed.put_newest(own(street, text, condition)).await.expect("an answer").outcome
}

async fn delete_through(street: &Street, condition: Condition) -> DeleteOutcome {
    let version = street.clock.next_version();
    street.routed.delete_newest(&key(URL), version, condition).await.expect("an answer").outcome
}

/// What each process shows, and goes on showing when everything is delivered.
async fn shown(streets: &[Street; 2], what: &str) -> Option<String> {
    let mut shown = Vec::new();
    for delivered in [false, true] {
        for street in streets {
            let found = street.routed.get(&key(URL), GetOptions::consistent(true)).await.expect("an answer");
            shown.push(found.map(|hit| text_of(&hit.entry)));
        }
        if !delivered {
            for street in streets {
                street.relay_now().await;
            }
        }
    }
    assert!(shown.iter().all(|text| *text == shown[0]), "{what}: {shown:?}");
    shown.swap_remove(0)
}

async fn shown_at_last(streets: &[Street; 2]) -> Option<String> {
    for street in streets {
        street.relay_now().await;
    }
    shown(streets, "at last").await
}

fn policies() -> Vec<Policy> {
    let of = |dual_write, on_owner_failure| Policy { on_owner_failure, ..policy(100, dual_write) };
    [OnOwnerFailure::Queue, OnOwnerFailure::Reject]
        .into_iter()
        .flat_map(|failure| [of(false, failure), of(true, failure)])
        .collect()
}

#[tokio::test]
async fn the_second_of_two_writes_stays_through_whichever_process() {
    for policy in policies() {
        for seconds in AHEAD {
            let streets = two(policy, seconds).await;
            for (first, second) in [(1, 0), (0, 1), (1, 0)] {
                let (one, other) = (&streets[first], &streets[second]);
                let what = format!("{policy:?}, {seconds} s, {first} then {second}");
                put_through(one, "first", Condition::Any).await;
                assert_eq!(
                    put_through(other, "second", Condition::Any).await,
                    PutOutcome::Replaced,
                    "{what}"
                );
                assert_eq!(shown(&streets, &what).await.as_deref(), Some("second"), "{what}");
                put_through(one, "third", Condition::Any).await;
                let etag = put(&key(URL), "third", 1).meta.etag;
                let matches = || Condition::Matches(vec![etag]);
                assert_eq!(put_through(other, "fourth", matches()).await, PutOutcome::Replaced, "{what}");
                assert_eq!(put_through(one, "no", matches()).await, PutOutcome::ConditionFailed, "{what}");
                assert_eq!(shown(&streets, &what).await.as_deref(), Some("fourth"), "{what}");
                assert_eq!(delete_through(other, Condition::Any).await, DeleteOutcome::Deleted, "{what}");
                assert_eq!(shown(&streets, &what).await, None, "{what}");
                put_through(one, "third", Condition::Any).await;
                assert_eq!(delete_through(other, matches()).await, DeleteOutcome::Deleted, "{what}");
                assert_eq!(shown(&streets, &what).await, None, "{what}");
                let absent = Condition::Absent(other.clock.now());
                assert_eq!(put_through(other, "anew", absent).await, PutOutcome::Created, "{what}");
                assert_eq!(shown(&streets, &what).await.as_deref(), Some("anew"), "{what}");
                delete_through(one, Condition::Any).await;
            }
            let kept = streets[0].clock.now().plus_secs(3600);
            assert!(streets[0].clock.next_version() <= Version::first_of(kept), "its clock is its own");
        }
    }
}

/// A process that ends between what it has committed and what it has delivered: nobody was told that it is done.
#[tokio::test]
async fn what_was_only_begun_gives_way_to_what_is_newer() {
    let policy = policy(100, true);
    let streets = two(policy, 7).await;
    put_through(&streets[1], "newer", Condition::Any).await;
    let generation = streets[0].routed.parts().routing.current().generation;
    let begun = own(&streets[0], "begun", Condition::Any);
    let beside = Beside::Queue { due_at: streets[0].clock.now() };
    let committed = streets[0].here.write_beside(begun, Versioning::Newest, generation, beside).await;
    assert!(matches!(committed, Ok(Fenced::Done(_))), "{committed:?}");
    assert_eq!(shown(&streets, "begun").await.as_deref(), Some("newer"));
}

/// A process that ends after its write was acknowledged and before that is noted takes it for undelivered. Meanwhile
/// another one writes: who reads past every copy is told of that.
#[tokio::test]
async fn what_only_seems_to_wait_is_not_shown_for_what_came_after_it() {
    for second in [Some("second"), None] {
        let streets = two(policy(100, true), 7).await;
        let generation = streets[0].routed.parts().routing.current().generation;
        let beside = Beside::Queue { due_at: streets[0].clock.now().plus_secs(60) };
        let first = own(&streets[0], "first", Condition::Any);
        streets[0]
            .here
            .write_beside(first.clone(), Versioning::Newest, generation, beside)
            .await
            .expect("committed");
        streets[0].across.store.put_newest(first).await.expect("delivered");
        match second {
            Some(text) => drop(put_through(&streets[1], text, Condition::Any).await),
            None => drop(delete_through(&streets[1], Condition::Any).await),
        }
        let past = streets[0].routed.get(&key(URL), GetOptions::consistent(true)).await.expect("an answer");
        assert_eq!(past.map(|hit| text_of(&hit.entry)).as_deref(), second);
        assert_eq!(shown_at_last(&streets).await.as_deref(), second);
    }
}

/// The same after a restart with an earlier clock, when SQLite knows what is newer.
#[tokio::test]
async fn a_clock_that_has_gone_back_hides_nothing() {
    for policy in policies() {
        for seconds in AHEAD {
            let before = Street::new(policy).await;
            before.clock.set(before.clock.now().plus_secs(seconds));
            put_through(&before, "before", Condition::Any).await;
            before.relay_now().await;
            let clock = Clock::manual(Timestamp::from_secs(1000));
            let after = before.again_at(policy, clock).await;
            assert_eq!(
                put_through(&after, "after", Condition::Any).await,
                PutOutcome::Replaced,
                "{policy:?}"
            );
            after.relay_now().await;
            assert_eq!(read(&after).await.map(|(text, ..)| text).as_deref(), Some("after"), "{policy:?}");
            assert_eq!(delete_through(&after, Condition::Any).await, DeleteOutcome::Deleted, "{policy:?}");
            after.relay_now().await;
            assert_eq!(read(&after).await, None, "{policy:?}");
            assert_eq!(put_through(&after, "anew", Condition::Any).await, PutOutcome::Created, "{policy:?}");
            after.relay_now().await;
            assert_eq!(read(&after).await.map(|(text, ..)| text).as_deref(), Some("anew"), "{policy:?}");
        }
    }
}
