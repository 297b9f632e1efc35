//! The clauses for leases: one holder at a time, fences that only grow, and what a late holder is told.

use futures_util::future::join_all;

use super::fixtures::{self, at, granted, key, namespace};
use crate::domain::lease::{Claim, Lease, LeaseToken};
use crate::domain::{Key, KeyId, Timestamp, Version};
use crate::store::memory::MemoryStore;
use crate::store::{Claimed, Ending, Holder, LeaseStore, Renewed};

/// Claimers that come at once.
const CROWD: u8 = 64;

fn page(name: &str) -> Key {
    key(&format!("https://example.com/{name}"))
}

fn claim(name: &str, secret: u8, second: u64) -> Claim {
    fixtures::claim(&page(name), secret, second)
}

fn holder(name: &str, secret: u8) -> Holder {
    fixtures::holder(&claim(name, secret, 0))
}

async fn acquire(store: &dyn LeaseStore, claim: &Claim) -> Claimed {
    store.acquire(claim).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn win(store: &dyn LeaseStore, claim: &Claim) -> Lease {
    match acquire(store, claim).await {
        Claimed::Won(lease) => lease,
        Claimed::Held(lease) => panic!("{store}: held by {lease:?}"),
    }
}

async fn renew(store: &dyn LeaseStore, holder: &Holder, until: Timestamp) -> Option<Lease> {
    match store.renew(holder, until).await.unwrap_or_else(|error| panic!("{store}: {error}")) {
        Renewed::Renewed(lease) => Some(lease),
        Renewed::Lost => None,
    }
}

async fn fence(store: &dyn LeaseStore, holder: &Holder) -> Option<Version> {
    store.fence(holder).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn end(store: &dyn LeaseStore, holder: &Holder, ending: Ending) -> bool {
    store.end(holder, ending).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn revoke(store: &dyn LeaseStore, name: &str) -> bool {
    store.revoke(page(name).id()).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn held(store: &dyn LeaseStore, names: &[&str], second: u64) -> Vec<Option<Lease>> {
    let keys: Vec<KeyId> = names.iter().map(|name| page(name).id()).collect();
    store.held(&keys, at(second)).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

pub(super) async fn a_grant_is_as_it_was_claimed(store: &dyn LeaseStore) {
    let lease = granted(&claim("a", 1, 100));
    assert_eq!(acquire(store, &claim("a", 1, 100)).await, Claimed::Won(lease.clone()), "{store}");
    assert_eq!(acquire(store, &claim("a", 2, 101)).await, Claimed::Held(lease.clone()), "{store}");
    assert_eq!(fence(store, &holder("a", 1)).await, Some(lease.fence), "{store}");
    assert_eq!(held(store, &["a"], 101).await, [Some(lease)], "{store}");
    // In another namespace, and to the millisecond.
    let other = Claim {
        namespace: namespace("tenant"),
        token: LeaseToken::new(KeyId::from_bytes([0xfe; 16]), *b"0123456789abcdef"),
        fence: Version::first_of(at(100)).next().next(),
        now: Timestamp::from_millis(100_001),
        until: Timestamp::from_millis(130_999),
    };
    let lease = granted(&other);
    assert_eq!(win(store, &other).await, lease, "{store}");
    assert_eq!(store.held(&[other.token.key()], at(130)).await, Ok(vec![Some(lease)]), "{store}");
    assert_eq!(store.held(&[other.token.key()], other.until).await, Ok(vec![None]), "{store}");
}

pub(super) async fn one_of_many_wins(store: &dyn LeaseStore) {
    for round in 0..3 {
        let second = 100 + round * 100;
        let claims: Vec<Claim> = (0..CROWD).map(|secret| claim("a", secret, second)).collect();
        let claimed = join_all(claims.iter().map(|claim| acquire(store, claim))).await;
        let winners: Vec<&Lease> = claimed
            .iter()
            .filter_map(|claimed| match claimed {
                Claimed::Won(lease) => Some(lease),
                Claimed::Held(_) => None,
            })
            .collect();
        let [winner] = winners[..] else { panic!("{store}: {} have won", winners.len()) };
        for (secret, claimed) in (0..CROWD).zip(&claimed) {
            let is_winner = winner.token == holder("a", secret).token;
            let expected =
                if is_winner { Claimed::Won(winner.clone()) } else { Claimed::Held(winner.clone()) };
            assert_eq!(*claimed, expected, "{store}");
            let version = fence(store, &holder("a", secret)).await;
            assert_eq!(version, is_winner.then_some(winner.fence), "{store}");
        }
    }
}

pub(super) async fn a_lease_runs_out(store: &dyn LeaseStore) {
    let first = win(store, &claim("a", 1, 100)).await;
    let late = Claim { now: Timestamp::from_millis(129_999), ..claim("a", 2, 129) };
    assert_eq!(acquire(store, &late).await, Claimed::Held(first.clone()), "{store}");
    let second = win(store, &claim("a", 2, 130)).await;
    assert!(second.fence > first.fence, "{store}");
    assert_eq!(acquire(store, &claim("a", 1, 131)).await, Claimed::Held(second), "{store}");
}

pub(super) async fn who_has_run_out_may_write_until_another_is_granted(store: &dyn LeaseStore) {
    let first = win(store, &claim("a", 1, 100)).await;
    // A store may forget it an hour later: until then its holder need not hurry.
    assert_eq!(fence(store, &holder("a", 1)).await, Some(first.fence), "{store}");
    win(store, &claim("a", 2, 130)).await;
    assert_eq!(fence(store, &holder("a", 1)).await, None, "{store}: it comes too late");
    assert_eq!(renew(store, &holder("a", 1), at(500)).await, None, "{store}");
    for ending in [Ending::Stored, Ending::Released] {
        end(store, &holder("a", 1), ending).await;
    }
    assert!(
        matches!(acquire(store, &claim("a", 3, 131)).await, Claimed::Held(_)),
        "{store}: it ends its own"
    );
}

pub(super) async fn a_renewal_prolongs(store: &dyn LeaseStore) {
    let first = win(store, &claim("a", 1, 100)).await;
    let renewed = renew(store, &holder("a", 1), at(200)).await;
    assert_eq!(renewed, Some(Lease { until: at(200), ..first.clone() }), "{store}");
    assert!(matches!(acquire(store, &claim("a", 2, 199)).await, Claimed::Held(_)), "{store}");
    // It has run out, and nobody has asked for it since.
    let renewed = renew(store, &holder("a", 1), at(400)).await;
    assert_eq!(renewed, Some(Lease { until: at(400), ..first.clone() }), "{store}");
    assert!(matches!(acquire(store, &claim("a", 2, 399)).await, Claimed::Held(_)), "{store}");
    // To an earlier time as well.
    let renewed = renew(store, &holder("a", 1), at(300)).await;
    assert_eq!(renewed, Some(Lease { until: at(300), ..first }), "{store}");
    win(store, &claim("a", 2, 300)).await;
}

pub(super) async fn a_renewal_needs_a_lease_that_has_not_ended(store: &dyn LeaseStore) {
    assert_eq!(renew(store, &holder("a", 1), at(500)).await, None, "{store}: there was none");
    assert_eq!(held(store, &["a"], 400).await, [None], "{store}");
    for (name, ending) in [("stored", Ending::Stored), ("released", Ending::Released)] {
        win(store, &claim(name, 1, 100)).await;
        assert_eq!(renew(store, &holder(name, 2), at(500)).await, None, "{store}: another's");
        end(store, &holder(name, 1), ending).await;
        assert_eq!(renew(store, &holder(name, 1), at(500)).await, None, "{store}: {name}");
        assert_eq!(held(store, &[name], 101).await, [None], "{store}: {name}");
    }
}

pub(super) async fn an_end_frees_the_page(store: &dyn LeaseStore) {
    for (name, ending) in [("stored", Ending::Stored), ("released", Ending::Released)] {
        let first = win(store, &claim(name, 1, 100)).await;
        assert!(end(store, &holder(name, 1), ending).await, "{store}: {name}");
        let second = win(store, &claim(name, 2, 101)).await;
        assert!(second.fence > first.fence, "{store}: {name}");
        assert_eq!(fence(store, &holder(name, 1)).await, None, "{store}: {name}");
        assert_eq!(fence(store, &holder(name, 2)).await, Some(second.fence), "{store}: {name}");
    }
}

pub(super) async fn a_lease_ends_once(store: &dyn LeaseStore) {
    // Nobody has heard of it: that is no error.
    assert!(!end(store, &holder("a", 1), Ending::Released).await, "{store}: there was none");
    let lease = win(store, &claim("a", 1, 100)).await;
    for (ending, was_held) in [(Ending::Stored, true), (Ending::Stored, false), (Ending::Released, false)] {
        assert_eq!(end(store, &holder("a", 1), ending).await, was_held, "{store}");
        assert_eq!(
            fence(store, &holder("a", 1)).await,
            Some(lease.fence),
            "{store}: a write may be repeated"
        );
    }
    win(store, &claim("b", 1, 100)).await;
    for ending in [Ending::Released, Ending::Released, Ending::Stored] {
        end(store, &holder("b", 1), ending).await;
        assert_eq!(fence(store, &holder("b", 1)).await, None, "{store}: it was given up");
    }
}

/// What a deletion of the page does: nothing is stored under the lease from then on, and the next one may have a try.
pub(super) async fn a_revoked_lease_is_over(store: &dyn LeaseStore) {
    assert!(!revoke(store, "a").await, "{store}: there was none");
    for (name, ending) in
        [("held", None), ("stored", Some(Ending::Stored)), ("released", Some(Ending::Released))]
    {
        let lease = win(store, &claim(name, 1, 100)).await;
        let beside = win(store, &claim("beside", 1, 100)).await;
        if let Some(ending) = ending {
            end(store, &holder(name, 1), ending).await;
        }
        for was_held in [ending.is_none(), false] {
            assert_eq!(revoke(store, name).await, was_held, "{store}: {name}");
            assert_eq!(fence(store, &holder(name, 1)).await, None, "{store}: {name}");
        }
        assert_eq!(renew(store, &holder(name, 1), at(500)).await, None, "{store}: {name}");
        assert!(!end(store, &holder(name, 1), Ending::Stored).await, "{store}: {name}");
        assert_eq!(held(store, &[name, "beside"], 101).await, [None, Some(beside)], "{store}: {name}");
        let next = win(store, &claim(name, 2, 101)).await;
        assert!(next.fence > lease.fence, "{store}: {name}");
        end(store, &holder("beside", 1), Ending::Released).await;
    }
}

pub(super) async fn fences_grow_whatever_the_clock_says(store: &dyn LeaseStore) {
    let mut last = Version::default();
    for (number, second) in [1000, 500, 499, 2000, 100, 100, 1].into_iter().enumerate() {
        let secret = u8::try_from(number).expect("few");
        let lease = win(store, &claim("a", secret, second)).await;
        assert!(lease.fence > last, "{store}: at {second}");
        assert!(lease.fence >= Version::first_of(at(second)), "{store}: at {second}");
        assert_eq!(fence(store, &holder("a", secret)).await, Some(lease.fence), "{store}");
        last = lease.fence;
        let ending = if number % 2 == 0 { Ending::Stored } else { Ending::Released };
        end(store, &holder("a", secret), ending).await;
    }
    // And for many who come at once with the same one, each after the other's end.
    let again = async |secret: u8| loop {
        if let Claimed::Won(lease) = acquire(store, &claim("a", secret, 100)).await {
            end(store, &holder("a", secret), Ending::Released).await;
            return lease.fence;
        }
        tokio::task::yield_now().await;
    };
    let mut fences = join_all((100..108).map(again)).await;
    fences.push(last);
    fences.sort_unstable();
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{store}: {fences:?}");
}

pub(super) async fn a_token_is_good_in_its_namespace(store: &dyn LeaseStore) {
    let lease = win(store, &claim("a", 1, 100)).await;
    let stranger = Holder { namespace: namespace("tenant"), ..holder("a", 1) };
    assert_eq!(fence(store, &stranger).await, None, "{store}");
    assert_eq!(renew(store, &stranger, at(500)).await, None, "{store}");
    assert!(!end(store, &stranger, Ending::Released).await, "{store}");
    assert_eq!(held(store, &["a"], 101).await, [Some(lease.clone())], "{store}");
    // Nor is half of it good for anything.
    let guess = Holder { token: holder("b", 1).token, ..holder("a", 1) };
    assert_eq!(fence(store, &guess).await, None, "{store}");
    assert_eq!(fence(store, &holder("a", 2)).await, None, "{store}");
    end(store, &holder("a", 2), Ending::Released).await;
    assert_eq!(fence(store, &holder("a", 1)).await, Some(lease.fence), "{store}");
}

pub(super) async fn held_leases_come_in_the_order_of_the_keys(store: &dyn LeaseStore) {
    assert_eq!(store.held(&[], at(1)).await, Ok(Vec::new()), "{store}");
    assert_eq!(held(store, &["a", "b"], 1).await, [None, None], "{store}");
    let names: Vec<String> = (0..1100).map(|number| number.to_string()).collect();
    let is_held = |number: usize| number % 27 == 3;
    for number in (0..names.len()).filter(|number| is_held(*number)) {
        win(store, &claim(&names[number], 1, 100)).await;
    }
    win(store, &claim("stored", 1, 100)).await;
    end(store, &holder("stored", 1), Ending::Stored).await;
    let mut asked: Vec<&str> = names.iter().map(String::as_str).collect();
    // Twice the same, and one that has ended.
    asked.extend(["3", "stored", "0", "3"]);
    let found = held(store, &asked, 129).await;
    assert_eq!(found.len(), asked.len(), "{store}");
    for (name, found) in asked.iter().zip(found) {
        let expected = name.parse().is_ok_and(is_held).then(|| granted(&claim(name, 1, 100)));
        assert_eq!(found, expected, "{store}: {name}");
    }
    assert_eq!(held(store, &asked, 130).await, vec![None; asked.len()], "{store}: they have run out");
}

pub(super) async fn it_does_as_the_reference_does(store: &dyn LeaseStore) {
    let reference = MemoryStore::new();
    let (names, mut now) = (["a", "b", "c"], 10_000_u64);
    let mut random = blake3::Hasher::new().update(b"leases").finalize_xof();
    let mut random = move |below: u8| {
        let mut byte = [0];
        random.fill(&mut byte);
        byte[0] % below
    };
    for step in 0..400 {
        // Mostly on, sometimes back.
        now = if random(10) == 0 { now - u64::from(random(50)) } else { now + u64::from(random(8)) };
        let (name, secret) = (names[usize::from(random(3))], random(4));
        let mut holder = holder(name, secret);
        if random(12) == 0 {
            holder.namespace = namespace("tenant");
        }
        let what = format!("{store}: step {step}, {name} {secret} at {now}");
        match random(9) {
            0..=2 => {
                let claim = claim(name, secret, now);
                assert_eq!(acquire(store, &claim).await, acquire(&reference, &claim).await, "{what}");
            }
            3 => {
                let until = at(now + u64::from(random(60)));
                assert_eq!(
                    renew(store, &holder, until).await,
                    renew(&reference, &holder, until).await,
                    "{what}"
                );
            }
            4 => {
                let ending = if random(2) == 0 { Ending::Stored } else { Ending::Released };
                let was_held = end(store, &holder, ending).await;
                assert_eq!(was_held, end(&reference, &holder, ending).await, "{what}");
            }
            5 => assert_eq!(revoke(store, name).await, revoke(&reference, name).await, "{what}"),
            6 | 7 => assert_eq!(fence(store, &holder).await, fence(&reference, &holder).await, "{what}"),
            _ => assert_eq!(held(store, &names, now).await, held(&reference, &names, now).await, "{what}"),
        }
    }
}
