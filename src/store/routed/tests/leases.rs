//! Leases over both sides: where they live, what an outage makes of them, and what a change of ownership does.

use futures_util::future::join_all;

use super::super::RoutedLeases;
use super::*;
use crate::domain::lease::{Claim, Lease};
use crate::domain::{Key, KeyId, Namespace, Timestamp};
use crate::store::conformance;
use crate::store::{Claimed, Ending, Holder, LeaseStore, Renewed, Result};

/// The time of the clock of a street.
const NOW: u64 = 1000;

fn id() -> KeyId {
    key(URL).id()
}

fn claim(secret: u8, second: u64) -> Claim {
    conformance::claim(&key(URL), secret, second)
}

fn holder(secret: u8) -> Holder {
    conformance::holder(&claim(secret, 0))
}

async fn win(leases: &RoutedLeases, claim: &Claim) -> Lease {
    match leases.acquire(claim).await {
        Ok(Claimed::Won(lease)) => lease,
        other => panic!("{other:?}"),
    }
}

async fn is_held(leases: &RoutedLeases, claim: &Claim) -> bool {
    matches!(leases.acquire(claim).await.expect("an answer"), Claimed::Held(_))
}

async fn renewed(leases: &RoutedLeases, secret: u8, until: Timestamp) -> Result<bool> {
    Ok(matches!(leases.renew(&holder(secret), until).await?, Renewed::Renewed(_)))
}

/// Whether a store has the page held.
async fn has(store: &dyn LeaseStore, second: u64) -> bool {
    store.held(&[id()], at(second)).await.expect("an answer")[0].is_some()
}

fn counted(street: &Street, operation: &str, side: &str, reason: &str) -> u64 {
    street.metrics.routed.with_label_values(&[operation, side, reason]).get()
}

#[tokio::test]
async fn a_lease_lives_with_the_owner_of_its_key() {
    for (percent, here, across, side) in [(0, true, false, "sqlite"), (100, false, true, "dynamodb")] {
        let street = Street::new(policy(percent, true)).await;
        let leases = street.leases();
        assert!(leases.is_shared(), "others grant leases in DynamoDB");
        let before = street.across.asked();
        let lease = win(&leases, &claim(1, NOW)).await;
        assert_eq!(leases.fence(&holder(1)).await, Ok(Some(lease.fence)));
        assert_eq!(renewed(&leases, 1, at(NOW + 60)).await, Ok(true));
        assert_eq!((has(&street.here, NOW).await, has(&street.across.store, NOW).await), (here, across));
        assert_eq!(leases.held(&[id()], at(NOW)).await.map(|held| held[0].is_some()), Ok(true));
        leases.end(&holder(1), Ending::Released).await.expect("ended");
        assert!(!has(&street.here, NOW).await && !has(&street.across.store, NOW).await);
        assert_eq!(
            street.across.asked() - before,
            if across { 5 } else { 0 },
            "one request each, to the owner"
        );
        for operation in ["lease_acquire", "lease_fence", "lease_renew", "lease_held", "lease_end"] {
            assert_eq!(counted(&street, operation, side, "owner"), 1, "{operation}");
        }
    }
}

#[tokio::test]
async fn while_its_owner_is_away_sqlite_grants_a_lease() {
    for weather in [Weather::Down, Weather::Silent, Weather::Lying] {
        let street = Street::new(policy(100, false)).await;
        let leases = street.leases();
        street.across.set(weather);
        let lease = win(&leases, &claim(1, NOW)).await;
        assert!(has(&street.here, NOW).await, "{weather:?}");
        assert_eq!(counted(&street, "lease_acquire", "sqlite", "fallback"), 1);
        for _ in 0..2 {
            // Then and once it is back.
            assert!(is_held(&leases, &claim(2, NOW + 1)).await, "{weather:?}");
            assert_eq!(leases.fence(&holder(1)).await, Ok(Some(lease.fence)), "{weather:?}");
            assert_eq!(renewed(&leases, 1, at(NOW + 60)).await, Ok(true), "{weather:?}");
            let held = leases.held(&[id()], at(NOW)).await.expect("an answer");
            assert_eq!(held[0].as_ref().map(|lease| lease.token), Some(lease.token), "{weather:?}");
            street.across.set(Weather::Fair);
        }
        leases.end(&holder(1), Ending::Stored).await.expect("ended");
        assert!(!has(&street.here, NOW).await && !has(&street.across.store, NOW).await, "{weather:?}");
        assert_eq!(
            leases.fence(&holder(1)).await,
            Ok(Some(lease.fence)),
            "{weather:?}: a write may be repeated"
        );
        win(&leases, &claim(3, NOW + 2)).await;
        assert!(has(&street.across.store, NOW + 2).await, "{weather:?}: the owner has the next one");
    }
}

#[tokio::test]
async fn an_outage_ends_a_lease_of_sqlite_without_its_owner() {
    let street = Street::new(policy(100, false)).await;
    let leases = street.leases();
    street.across.set(Weather::Down);
    win(&leases, &claim(1, NOW)).await;
    leases.end(&holder(1), Ending::Released).await.expect("ended");
    win(&leases, &claim(2, NOW + 1)).await;
}

#[tokio::test]
async fn a_holder_may_write_through_an_outage_as_long_as_its_lease_lasts() {
    let street = Street::new(policy(100, false)).await;
    let leases = street.leases();
    let lease = win(&leases, &claim(1, NOW)).await;
    street.across.set(Weather::Down);
    assert_eq!(leases.fence(&holder(1)).await, Ok(Some(lease.fence)));
    assert_eq!(counted(&street, "lease_fence", "sqlite", "fallback"), 1);
    let stranger = Holder { namespace: Namespace::new("tenant").expect("a namespace"), ..holder(1) };
    for unknown in [stranger, holder(2)] {
        assert!(matches!(leases.fence(&unknown).await, Err(Error::Unavailable { .. })));
    }
    // What only DynamoDB can do waits for it.
    assert!(matches!(renewed(&leases, 1, at(NOW + 60)).await, Err(Error::Unavailable { .. })));
    street.clock.set(at(NOW + 30));
    assert!(matches!(leases.fence(&holder(1)).await, Err(Error::Unavailable { .. })), "it has run out");
    street.across.set(Weather::Fair);
    assert_eq!(renewed(&leases, 1, at(NOW + 60)).await, Ok(true));
    street.across.set(Weather::Down);
    assert_eq!(leases.fence(&holder(1)).await, Ok(Some(lease.fence)), "it was prolonged");
    assert!(leases.end(&holder(1), Ending::Released).await.is_err());
    assert!(leases.fence(&holder(1)).await.is_err(), "what was given up is not remembered");
    street.across.set(Weather::Fair);
    leases.end(&holder(1), Ending::Released).await.expect("ended");
    assert_eq!(leases.fence(&holder(1)).await, Ok(None));
}

#[tokio::test]
async fn a_hiccup_of_dynamodb_grants_no_second_lease() {
    let street = Street::new(policy(100, false)).await;
    let leases = street.leases();
    let lease = win(&leases, &claim(1, NOW)).await;
    street.across.set(Weather::Down);
    assert_eq!(leases.acquire(&claim(2, NOW + 1)).await, Ok(Claimed::Held(lease.clone())));
    assert_eq!(leases.held(&[id()], at(NOW + 1)).await, Ok(vec![Some(lease)]));
    // It has run out: whether there is another nobody can say, and SQLite grants the next one.
    assert!(matches!(leases.held(&[id()], at(NOW + 30)).await, Err(Error::Unavailable { .. })));
    win(&leases, &claim(2, NOW + 30)).await;
}

#[tokio::test]
async fn leases_are_found_where_they_were_granted() {
    for (before, after) in [(0, 100), (100, 0)] {
        let street = Street::new(policy(before, false)).await;
        let leases = street.leases();
        let lease = win(&leases, &claim(1, NOW)).await;
        street.set(policy(after, false)).await;
        assert_eq!(leases.fence(&holder(1)).await, Ok(Some(lease.fence)), "{before} to {after} %");
        assert_eq!(renewed(&leases, 1, at(NOW + 60)).await, Ok(true), "{before} to {after} %");
        if after == 100 {
            // What SQLite has granted is at hand.
            assert!(is_held(&leases, &claim(2, NOW + 40)).await);
        } else {
            // What DynamoDB has granted is not asked for: the page is fetched twice, and both may store it.
            let second = win(&leases, &claim(2, NOW + 40)).await;
            assert!(second.fence > lease.fence);
            leases.end(&holder(2), Ending::Released).await.expect("ended");
        }
        leases.end(&holder(1), Ending::Released).await.expect("ended");
        assert!(!has(&street.here, NOW).await && !has(&street.across.store, NOW).await);
        assert_eq!(leases.fence(&holder(1)).await, Ok(None), "{before} to {after} %");
        assert_eq!(renewed(&leases, 1, at(NOW + 90)).await, Ok(false), "{before} to {after} %");
        win(&leases, &claim(3, NOW + 41)).await;
    }
}

#[tokio::test]
async fn what_sqlite_owns_needs_nobody_else() {
    let street = Street::new(policy(0, false)).await;
    let leases = street.leases();
    for weather in [Weather::Down, Weather::Silent] {
        street.across.set(weather);
        let lease = win(&leases, &claim(1, NOW)).await;
        assert_eq!(leases.fence(&holder(1)).await, Ok(Some(lease.fence)));
        // One that it does not know may be DynamoDB's, from when that owned the key.
        assert!(matches!(leases.fence(&holder(2)).await, Err(Error::Unasked { .. })), "{weather:?}");
        assert!(matches!(renewed(&leases, 2, at(NOW + 60)).await, Err(Error::Unasked { .. })), "{weather:?}");
        leases.end(&holder(2), Ending::Released).await.expect("nothing to end");
        leases.end(&holder(1), Ending::Released).await.expect("ended");
    }
}

#[tokio::test]
async fn processes_share_what_dynamodb_grants() {
    let one = Street::new(policy(100, false)).await;
    let two = Street::beside(&one, policy(100, false)).await;
    let (ours, theirs) = (one.leases(), two.leases());
    let claims: Vec<Claim> = (0..32).map(|secret| claim(secret, NOW)).collect();
    let won = join_all(claims.iter().enumerate().map(async |(number, claim)| {
        let leases = if number % 2 == 0 { &ours } else { &theirs };
        matches!(leases.acquire(claim).await, Ok(Claimed::Won(_)))
    }))
    .await;
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = u8::try_from(won.iter().position(|won| *won).expect("one")).expect("few");
    for leases in [&ours, &theirs] {
        assert_eq!(leases.fence(&holder(winner)).await, Ok(Some(claims[0].fence)), "whoever is asked");
        assert_eq!(leases.fence(&holder(winner + 1)).await, Ok(None));
    }
    theirs.end(&holder(winner), Ending::Released).await.expect("ended");
    // Without DynamoDB each grants its own, once what it has seen DynamoDB grant has run out.
    one.across.set(Weather::Down);
    win(&ours, &claim(40, NOW + 31)).await;
    win(&theirs, &claim(41, NOW + 31)).await;
}

#[tokio::test]
async fn many_are_looked_up_on_both_sides_at_once() {
    let street = Street::new(policy(50, false)).await;
    let leases = street.leases();
    let pages: Vec<_> = (0..40).map(|number| key(&format!("https://example.com/{number}"))).collect();
    let keys: Vec<KeyId> = pages.iter().map(Key::id).collect();
    for page in pages.iter().step_by(3) {
        win(&leases, &conformance::claim(page, 1, NOW)).await;
    }
    let before = street.across.asked();
    let held = leases.held(&keys, at(NOW)).await.expect("an answer");
    assert_eq!(street.across.asked() - before, 1);
    for (number, (id, lease)) in keys.iter().zip(&held).enumerate() {
        assert_eq!(
            lease.as_ref().map(|lease| lease.token.key()),
            (number % 3 == 0).then_some(*id),
            "{number}"
        );
    }
    street.across.set(Weather::Down);
    let known: Vec<KeyId> =
        keys.iter().zip(&held).filter(|(_, held)| held.is_some()).map(|(id, _)| *id).collect();
    let granted: Vec<_> = held.into_iter().flatten().map(Some).collect();
    assert_eq!(leases.held(&known, at(NOW)).await, Ok(granted), "what went through here is known");
    // Of the others another process may hold some.
    leases.held(&keys, at(NOW)).await.expect_err("that cannot be seen");
    let beside = Street::beside(&street, policy(50, false)).await;
    beside.leases().held(&keys, at(NOW)).await.expect_err("that cannot be seen");
    assert_eq!(leases.held(&[], at(NOW)).await, Ok(Vec::new()));
}
