//! Writes of instances whose clocks differ, one after the other; and what no clock of ours has written.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
use aws_smithy_mocks::{Rule, mock};

use super::super::super::item::number;
use super::super::body::Place;
use super::made_up::{answered, answered_again};
use super::*;
use crate::store::conformance::text_of;
use crate::store::{Condition, DeleteOutcome, Error, Placed};

/// How far the clock of the other instance is ahead, in milliseconds.
const AHEAD_MILLIS: [u64; 3] = [5, 100, 7000];

/// An instance with a clock of its own, `millis` ahead of that of `setup`.
fn ahead(setup: &Setup, millis: u64) -> (DynamodbResults, Clock) {
    let clock = Clock::manual(Timestamp::from_millis(setup.clock.now().as_millis() + millis));
    (DynamodbResults::new(setup.aws.clone(), &setup.config, &clock, &setup.metrics), clock)
}

/// A client's put through an instance, as it comes in there.
async fn put_through(store: &DynamodbResults, clock: &Clock, text: &str, condition: Condition) -> PutOutcome {
    let mut put = put(&page(), text, 1);
    let now = clock.now();
    (put.meta.created_at, put.meta.updated_at, put.meta.expires_at) = (now, now, now.plus_secs(1000));
    (put.meta.version, put.condition) = (clock.next_version(), condition);
    store.put_newest(put).await.expect("an answer").outcome
}

async fn delete_through(store: &DynamodbResults, clock: &Clock, condition: Condition) -> DeleteOutcome {
    store.delete_newest(&page(), clock.next_version(), condition).await.expect("an answer").outcome
}

async fn said(store: &DynamodbResults) -> Option<String> {
    let found = store.get(&page(), GetOptions::consistent(true)).await.expect("a read");
    found.map(|hit| text_of(&hit.entry))
}

#[tokio::test]
async fn each_write_comes_after_the_one_before_it_whatever_the_clocks_say() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let behind = (setup.store.clone(), setup.clock.clone());
    for millis in AHEAD_MILLIS {
        // Each pair anew: who has met a faster clock goes on from there.
        setup.clock.set(setup.clock.now().plus_secs(60));
        let fast = ahead(&setup, millis);
        let etag = |text: &str| put(&page(), text, 1).meta.etag;
        for second in ["put", "put if it matches", "put if present", "delete", "delete if it matches"] {
            put_through(&fast.0, &fast.1, "first", Condition::Any).await;
            let matches = Condition::Matches(vec![etag("first")]);
            let expected = match second {
                "put" => put_through(&behind.0, &behind.1, second, Condition::Any).await,
                "put if it matches" => put_through(&behind.0, &behind.1, second, matches).await,
                "put if present" => put_through(&behind.0, &behind.1, second, Condition::Present).await,
                "delete" => {
                    assert_eq!(
                        delete_through(&behind.0, &behind.1, Condition::Any).await,
                        DeleteOutcome::Deleted
                    );
                    assert_eq!(said(&fast.0).await, None, "{second} {millis} ms behind");
                    continue;
                }
                _ => {
                    assert_eq!(delete_through(&behind.0, &behind.1, matches).await, DeleteOutcome::Deleted);
                    assert_eq!(said(&fast.0).await, None, "{second} {millis} ms behind");
                    continue;
                }
            };
            assert_eq!(expected, PutOutcome::Replaced, "{second} {millis} ms behind");
            assert_eq!(said(&fast.0).await.as_deref(), Some(second), "{millis} ms behind");
        }
        for condition in [Condition::Any, Condition::Absent(setup.clock.now())] {
            put_through(&fast.0, &fast.1, "first", Condition::Any).await;
            assert_eq!(delete_through(&fast.0, &fast.1, Condition::Any).await, DeleteOutcome::Deleted);
            let outcome = put_through(&behind.0, &behind.1, "anew", condition).await;
            assert_eq!((outcome, said(&fast.0).await.as_deref()), (PutOutcome::Created, Some("anew")));
        }
    }
}

/// What is met costs one more request, and only the first time.
#[tokio::test]
async fn a_clock_that_is_behind_costs_one_request() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let fast = ahead(&setup, 7000);
    put_through(&fast.0, &fast.1, "a", Condition::Any).await;
    // The one that is refused is an update; what replaces exactly what was met puts the whole item.
    let replaced = setup.units("put_item");
    put_through(&setup.store, &setup.clock, "b", Condition::Any).await;
    let once = setup.units("put_item");
    assert!(once > replaced);
    put_through(&setup.store, &setup.clock, "c", Condition::Any).await;
    assert!((setup.units("put_item") - once).abs() < 0.1, "in one request");
}

#[tokio::test]
async fn the_far_future_is_exceeded_but_moves_no_clock() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let wrong = ahead(&setup, 1_000_000_000_000);
    put_through(&wrong.0, &wrong.1, "of another age", Condition::Any).await;
    let sane = setup.clock.now().plus_secs(60);
    assert_eq!(put_through(&setup.store, &setup.clock, "own", Condition::Any).await, PutOutcome::Replaced);
    assert_eq!(said(&setup.store).await.as_deref(), Some("own"));
    assert!(setup.clock.next_version() < Version::first_of(sane), "its clock is as it was");
    // And so after it, on either side.
    assert_eq!(put_through(&wrong.0, &wrong.1, "again", Condition::Any).await, PutOutcome::Replaced);
    assert_eq!(delete_through(&setup.store, &setup.clock, Condition::Any).await, DeleteOutcome::Deleted);
    assert_eq!(said(&wrong.0).await, None);
    assert_eq!(put_through(&setup.store, &setup.clock, "anew", Condition::Any).await, PutOutcome::Created);
    assert_eq!(said(&wrong.0).await.as_deref(), Some("anew"));
    assert!(setup.clock.next_version() < Version::first_of(sane), "its clock is as it was");
    let last = Version::from_u64(u64::MAX);
    setup.store.delete(&page(), last, Condition::Any).await.expect("deleted");
    assert_eq!(put_through(&setup.store, &setup.clock, "last", Condition::Any).await, PutOutcome::Created);
    assert_eq!(said(&setup.store).await.as_deref(), Some("last"));
}

/// An item of another program has no version of ours: the time that it says may be ahead.
#[tokio::test]
async fn what_others_wrote_with_a_time_ahead_is_replaced_and_deleted() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let theirs = |seconds: u64| {
        let time = text(now(seconds).to_string());
        Item::from([
            (URL.to_owned(), text(partition(&page()))),
            ("markdown".to_owned(), text("theirs")),
            ("updated_at".to_owned(), time.clone()),
            ("created_at".to_owned(), time),
        ])
    };
    for seconds in [7, 600, 1_000_000_000] {
        setup.write(theirs(seconds)).await;
        let floor = setup.clock.next_version();
        assert_eq!(
            put_through(&setup.store, &setup.clock, "own", Condition::Any).await,
            PutOutcome::Replaced
        );
        assert_eq!(said(&setup.store).await.as_deref(), Some("own"));
        assert!(setup.clock.next_version().millis() == floor.millis(), "it moves no clock");
        setup.write(theirs(seconds)).await;
        assert_eq!(
            delete_through(&setup.store, &setup.clock, Condition::Any).await,
            DeleteOutcome::Deleted,
            "{seconds}"
        );
        assert_eq!(said(&setup.store).await, None, "{seconds} s ahead");
        assert!(setup.clock.next_version().millis() == floor.millis(), "it moves no clock");
        assert_eq!(
            put_through(&setup.store, &setup.clock, "anew", Condition::Any).await,
            PutOutcome::Created
        );
    }
}

/// Copies never rise: what is newer stays.
#[tokio::test]
async fn copies_are_as_old_as_they_say() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let fast = ahead(&setup, 100);
    put_through(&fast.0, &fast.1, "newer", Condition::Any).await;
    let mut copy = put_now(&page(), "copy", 0);
    copy.meta.version = setup.clock.next_version();
    assert_eq!(setup.put(copy).await, PutOutcome::Superseded);
    let deleted = setup.store.delete(&page(), Version::first_of(now(0)), Condition::Any).await;
    assert_eq!(deleted, Ok(DeleteOutcome::Absent));
    assert_eq!(said(&setup.store).await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_deletion_of_what_is_deleted_says_under_which_version() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let fast = ahead(&setup, 7000);
    put_through(&fast.0, &fast.1, "first", Condition::Any).await;
    let there = fast.0.delete_newest(&page(), fast.1.next_version(), Condition::Any).await.expect("deleted");
    let again = setup.store.delete_newest(&page(), setup.clock.next_version(), Condition::Any).await;
    assert_eq!(again, Ok(Placed { outcome: DeleteOutcome::Absent, version: there.version }));
}

/// The item of another's entry of `second`.
fn entry_of(second: u64) -> Item {
    let put = put_now(&page(), "theirs", second);
    let (template, _) = answered(&[], 1000);
    let mut item = template.0.form.packed(&put.meta);
    item.extend(Place::inline(&put.frame.expect("a body")).attributes(&put.meta));
    item
}

fn unmet(item: Item) -> ConditionalCheckFailedException {
    ConditionalCheckFailedException::builder().set_item(Some(item)).build()
}

/// A put whose first try gets this answer, and whose second meets what is newer.
fn put_after(status: u16, body: Option<&'static str>) -> Rule {
    mock!(Client::update_item)
        .sequence()
        .http_status(status, body.map(str::to_owned))
        .error(|| UpdateItemError::ConditionalCheckFailedException(unmet(entry_of(20))))
        .build()
}

const THROTTLED: &str =
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slowly"}"#;

/// What came of the try without an answer is not known: what is newer may have come after it, and is not replaced.
#[tokio::test]
async fn what_may_have_come_after_a_lost_answer_stays() {
    let lost = put_after(500, None);
    let own = put_now(&page(), "own", 10);
    let placed = answered_again(&[&lost]).put_newest(own.clone()).await;
    assert_eq!(placed, Ok(Placed { outcome: PutOutcome::Superseded, version: own.meta.version }));
    assert_eq!(lost.num_calls(), 2);
    // Whether a condition held cannot be said then.
    let matches = Condition::Matches(vec![own.meta.etag]);
    let conditional = Put { condition: matches.clone(), ..own };
    let said = answered_again(&[&put_after(500, None)]).put_newest(conditional.clone()).await;
    assert!(matches!(&said, Err(Error::Overloaded { detail, .. }) if detail.contains("lost")), "{said:?}");
    let said = answered_again(&[&put_after(500, None)]).put(conditional).await;
    assert!(matches!(&said, Err(Error::Overloaded { .. })), "{said:?}");
    // Nor whether nothing is there any more.
    let delete = || {
        mock!(Client::put_item)
            .sequence()
            .http_status(500, None)
            .error(|| PutItemError::ConditionalCheckFailedException(unmet(entry_of(20))))
            .build()
    };
    let version = Version::first_of(now(10));
    for condition in [Condition::Any, matches] {
        let said = answered_again(&[&delete()]).delete_newest(&page(), version, condition).await;
        assert!(matches!(&said, Err(Error::Overloaded { .. })), "{said:?}");
    }
    let said = answered_again(&[&delete()]).delete(&page(), version, Condition::Any).await;
    assert_eq!(said, Ok(DeleteOutcome::Absent), "what is delivered again is late");
}

/// A try that was refused has not happened: what is newer was there before.
#[tokio::test]
async fn what_was_there_before_a_refused_try_is_replaced() {
    let refused = put_after(400, Some(THROTTLED));
    let version = Version::first_of(now(20)).next();
    let replaced = mock!(Client::put_item)
        .match_requests(move |input| {
            input.item().and_then(|item| item.get("version")) == Some(&number(version.as_u64()))
        })
        .then_output(|| PutItemOutput::builder().build());
    let placed = answered_again(&[&refused, &replaced]).put_newest(put_now(&page(), "own", 10)).await;
    assert_eq!(placed, Ok(Placed { outcome: PutOutcome::Replaced, version }));
    assert_eq!((refused.num_calls(), replaced.num_calls()), (2, 1));
}
