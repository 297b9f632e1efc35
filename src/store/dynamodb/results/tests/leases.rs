//! Leases: what their items are, what they cost, that nothing else sees them, and answers that are lost.

use std::collections::HashSet;
use std::sync::Mutex;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure as OnFailure};
use aws_smithy_mocks::{Rule, mock};

use super::super::super::item::number;
use super::super::leases::item_of;
use super::made_up::{answered, answered_again};
use super::*;
use crate::domain::Namespace;
use crate::domain::lease::{Claim, KEEP_SECONDS, Lease, LeaseState};
use crate::store::conformance::{self, granted, holder};
use crate::store::dynamodb::Segment;
use crate::store::{Claimed, Ending, Error, LeaseStore as _, ListQuery, Renewed};

/// A claim of a page at a second after [`NOW`].
fn claim(key: &Key, secret: u8, second: u64) -> Claim {
    conformance::claim(key, secret, NOW + second)
}

fn lease_key(key: &Key) -> String {
    format!("lease {}", key.id())
}

#[tokio::test]
async fn an_item_is_as_it_is_documented() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let first = claim(&page(), 1, 1);
    assert_eq!(setup.store.acquire(&first).await, Ok(Claimed::Won(granted(&first))));
    let mut expected = Item::from(
        [
            ("url", text(format!("lease {}", page().id()))),
            ("namespace", text("default")),
            ("secret", AttributeValue::B(vec![1; 16].into())),
            ("fence", number(first.fence.as_u64())),
            ("granted_at", text(now(1).to_string())),
            ("until", text(now(31).to_string())),
            ("state", text("held")),
            ("ttl", number(NOW + 31 + KEEP_SECONDS)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    assert_eq!(setup.item(&lease_key(&page())).await.as_ref(), Some(&expected));
    let until = Timestamp::from_millis(now(60).as_millis() + 1);
    assert!(matches!(setup.store.renew(&holder(&first), until).await, Ok(Renewed::Renewed(_))));
    expected.insert("until".to_owned(), text(until.to_string()));
    expected.insert("ttl".to_owned(), number(NOW + 61 + KEEP_SECONDS));
    assert_eq!(setup.item(&lease_key(&page())).await.as_ref(), Some(&expected), "no earlier than it may go");
    for (ending, state) in [(Ending::Stored, "stored"), (Ending::Released, "stored")] {
        setup.store.end(&holder(&first), ending).await.expect("ended");
        expected.insert("state".to_owned(), text(state));
        assert_eq!(setup.item(&lease_key(&page())).await.as_ref(), Some(&expected), "{ending:?}");
    }
    // One item for each variant and namespace.
    let tenant = Namespace::new("tenant").expect("a namespace");
    let others = [variant("m"), Key::new(&tenant, PAGE, "").expect("a key")];
    for other in &others {
        assert!(matches!(setup.store.acquire(&claim(other, 2, 1)).await, Ok(Claimed::Won(_))));
        assert!(setup.item(&lease_key(other)).await.is_some());
    }
}

fn variant(name: &str) -> Key {
    conformance::variant(PAGE, name)
}

#[tokio::test]
async fn each_step_is_one_request() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let first = claim(&page(), 1, 1);
    let units = || ["put_item", "update_item", "get_item", "batch_get_item"].map(|name| setup.units(name));
    let spent =
        |before: [f64; 4]| -> Vec<f64> { units().iter().zip(before).map(|(now, then)| now - then).collect() };
    let before = units();
    setup.store.acquire(&first).await.expect("won");
    assert_eq!(spent(before), [1.0, 0.0, 0.0, 0.0], "a write of less than a KiB");
    let before = units();
    assert!(matches!(setup.store.acquire(&claim(&page(), 2, 2)).await, Ok(Claimed::Held(_))));
    assert_eq!(spent(before)[2..], [0.0, 0.0], "the write has told who holds it");
    let before = units();
    setup.store.fence(&holder(&first)).await.expect("read");
    assert_eq!(spent(before), [0.0, 0.0, 1.0, 0.0], "consistent");
    let before = units();
    setup.store.renew(&holder(&first), now(40)).await.expect("renewed");
    setup.store.end(&holder(&first), Ending::Released).await.expect("ended");
    assert_eq!(spent(before), [0.0, 2.0, 0.0, 0.0]);
    let before = units();
    setup.store.acquire(&claim(&page(), 3, 3)).await.expect("won");
    assert_eq!(spent(before), [1.0, 0.0, 0.0, 0.0], "in place of one that has ended");
    let before = units();
    let keys: Vec<_> = (0..200).map(|_| page().id()).collect();
    assert_eq!(setup.store.held(&keys, now(4)).await.expect("read").iter().flatten().count(), 200);
    assert_eq!(spent(before), [0.0, 0.0, 0.0, 0.5], "each key is asked for once");
}

/// What a lease costs the deletion of its page: of most pages there is none.
#[tokio::test]
async fn to_revoke_writes_only_where_there_is_a_lease() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let units = || ["put_item", "update_item", "get_item"].map(|name| setup.units(name));
    let spent =
        |before: [f64; 3]| -> Vec<f64> { units().iter().zip(before).map(|(now, then)| now - then).collect() };
    let before = units();
    assert_eq!(setup.store.revoke(page().id()).await, Ok(false));
    assert_eq!(spent(before), [0.0, 0.0, 1.0], "one read, which finds none");
    assert_eq!(setup.item(&lease_key(&page())).await, None);
    setup.store.acquire(&claim(&page(), 1, 1)).await.expect("won");
    let before = units();
    assert_eq!(setup.store.revoke(page().id()).await, Ok(true));
    assert_eq!(spent(before), [0.0, 1.0, 1.0], "one read and one write");
    assert_eq!(setup.store.fence(&holder(&claim(&page(), 1, 1))).await, Ok(None));
    assert_eq!(setup.store.revoke(page().id()).await, Ok(false), "it has ended");
    // Nor is there a write whose condition fails: it would cost a unit that no answer tells of.
    let none = mock!(Client::get_item).then_output(|| GetItemOutput::builder().build());
    let updates = mock!(Client::update_item).then_output(|| UpdateItemOutput::builder().build());
    let store = answered(&[&none, &updates], 10_000).0;
    assert_eq!(store.revoke(page().id()).await, Ok(false));
    assert_eq!((none.num_calls(), updates.num_calls()), (1, 0));
}

#[tokio::test]
async fn nothing_but_leases_sees_them() {
    let Some(setup) = Setup::new(|config| config.dynamodb.host_index = true).await else { return };
    let (stored, absent) = (page(), key("https://example.com/absent"));
    setup.put(put_now(&stored, "text", 1)).await;
    let leases: Vec<Claim> =
        [&stored, &absent, &variant("m")].into_iter().map(|key| claim(key, 1, 1)).collect();
    for claim in &leases {
        setup.store.acquire(claim).await.expect("won");
    }
    setup.store.end(&holder(&leases[0]), Ending::Stored).await.expect("ended");
    setup.store.end(&holder(&leases[1]), Ending::Released).await.expect("ended");
    // Results of the same keys are what they were.
    assert!(setup.get(&stored).await.expect("a read").is_some());
    assert!(setup.get(&absent).await.expect("a read").is_none());
    let metas = setup.store.get_metas(&[stored.clone(), absent.clone()]).await.expect("metas");
    assert_eq!(metas.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    let query = ListQuery::all(&Namespace::default(), 100);
    assert_eq!(setup.store.list(&query).await.expect("a page").items.len(), 1);
    // Nor do the walks of migrations, verifications and counts.
    for frames in [false, true] {
        let segment = Segment { number: 0, of: 1, after: None };
        let page = setup.store.scan(&segment, 1000, frames).await.expect("a page");
        assert_eq!((page.items.len(), page.next), (1, None), "{:?}", page.items);
    }
    // And what is done to a result leaves the leases alone.
    setup
        .store
        .delete(&stored, Version::first_of(now(2)), crate::store::Condition::Any)
        .await
        .expect("deleted");
    assert_eq!(setup.store.fence(&holder(&leases[0])).await, Ok(Some(leases[0].fence)));
    let held = setup.store.held(&[variant("m").id(), stored.id(), absent.id()], now(2)).await.expect("read");
    assert_eq!(held.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false]);
}

#[tokio::test]
async fn a_damaged_lease_is_said_to_be_damaged_and_hides_no_other() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let (first, second) = (claim(&page(), 1, 1), claim(&variant("m"), 1, 1));
    setup.store.acquire(&second).await.expect("won");
    for (name, damage) in [("secret", text("no bytes")), ("fence", text("1")), ("namespace", text("no name"))]
    {
        let mut item = item_of(&granted(&first));
        item.insert(name.to_owned(), damage);
        setup.write(item).await;
        let said = setup.store.acquire(&claim(&page(), 2, 2)).await;
        assert!(matches!(said, Err(Error::Corrupt { .. })), "{name}: {said:?}");
        let held = setup.store.held(&[page().id(), variant("m").id()], now(2)).await.expect("read");
        assert_eq!(held, [None, Some(granted(&second))], "{name}");
    }
}

/// An unmet condition, and the lease that was met.
fn met(lease: &Lease) -> PutItemError {
    let said = ConditionalCheckFailedException::builder().set_item(Some(item_of(lease))).build();
    PutItemError::ConditionalCheckFailedException(said)
}

#[tokio::test]
async fn a_grant_whose_answer_was_lost_is_known_again() {
    let own = claim(&page(), 1, 1);
    let lease = granted(&own);
    let lost = {
        let lease = lease.clone();
        mock!(Client::put_item).sequence().http_status(500, None).error(move || met(&lease)).build()
    };
    let store = answered_again(&[&lost]);
    assert_eq!(store.acquire(&own).await, Ok(Claimed::Won(lease.clone())));
    assert_eq!(lost.num_calls(), 2);
    // Another's, met by a second try, is another's.
    let theirs = granted(&claim(&page(), 2, 1));
    let other = {
        let theirs = theirs.clone();
        mock!(Client::put_item).sequence().http_status(500, None).error(move || met(&theirs)).build()
    };
    assert_eq!(answered_again(&[&other]).acquire(&own).await, Ok(Claimed::Held(theirs)));
}

#[tokio::test]
async fn a_fence_is_raised_above_the_one_that_is_met() {
    let ahead = Lease { state: LeaseState::Released, ..granted(&claim(&page(), 1, 1000)) };
    let claims: &'static Mutex<Vec<PutItemInput>> = Box::leak(Box::default());
    let fence = |input: &PutItemInput| input.item().expect("an item")["fence"].clone();
    let older = {
        let ahead = ahead.clone();
        mock!(Client::put_item)
            .match_requests(move |input| {
                claims.lock().expect("unpoisoned").push(input.clone());
                fence(input) != number(ahead.fence.next().as_u64())
            })
            .then_error({
                let ahead = Lease { state: LeaseState::Released, ..granted(&claim(&page(), 1, 1000)) };
                move || met(&ahead)
            })
    };
    let newer = mock!(Client::put_item).then_output(|| PutItemOutput::builder().build());
    let (store, _) = answered(&[&older, &newer], 1000);
    let won = store.acquire(&claim(&page(), 2, 5)).await;
    let Ok(Claimed::Won(lease)) = won else { panic!("{won:?}") };
    assert_eq!(lease.fence, ahead.fence.next());
    let claims = claims.lock().expect("unpoisoned");
    assert_eq!((older.num_calls(), newer.num_calls()), (1, 1));
    let asks =
        |input: &PutItemInput| input.return_values_on_condition_check_failure() == Some(&OnFailure::AllOld);
    assert!(claims.iter().all(asks));
    let fences: HashSet<String> = claims.iter().map(|input| format!("{:?}", fence(input))).collect();
    assert_eq!(fences.len(), 2);
}

#[tokio::test]
async fn a_claim_that_others_keep_undoing_gives_up() {
    let ended = Lease { state: LeaseState::Stored, ..granted(&claim(&page(), 1, 1)) };
    let unmet: Rule = mock!(Client::put_item).then_error(move || met(&ended));
    let (store, _) = answered(&[&unmet], 2000);
    let error = store.acquire(&claim(&page(), 2, 2)).await.expect_err("contended");
    assert!(matches!(&error, Error::Overloaded { detail, .. } if detail.contains("contended")), "{error}");
    assert!((2..=16).contains(&unmet.num_calls()), "{} tries", unmet.num_calls());
}
