//! What only the embedded store promises of leases: they outlive the process, are swept, and cost nothing where there are none.

use super::*;
use crate::domain::lease::{Claim, KEEP_ENDED_SECONDS, KEEP_SECONDS};
use crate::domain::{Timestamp, Version};
use crate::store::conformance::{self, holder};
use crate::store::{Claimed, Ending, LeaseStore, Renewed};

fn claim(number: u64, second: u64) -> Claim {
    conformance::claim(&url(number), u8::try_from(second % 256).expect("a byte"), second)
}

async fn win(store: &SqliteStore, claim: &Claim) {
    assert!(matches!(store.acquire(claim).await, Ok(Claimed::Won(_))), "{claim:?}");
}

fn leases(directory: &Path) -> u64 {
    number(&connection(directory), "select count(*) from leases")
}

#[tokio::test]
async fn leases_outlive_the_process() {
    let directory = directory();
    let store = open(directory.path());
    let (kept, stored, released) = (claim(1, 100), claim(2, 100), claim(3, 100));
    for claim in [&kept, &stored, &released] {
        win(&store, claim).await;
    }
    store.end(&holder(&stored), Ending::Stored).await.expect("ended");
    store.end(&holder(&released), Ending::Released).await.expect("ended");
    let until = at(500);
    assert!(matches!(store.renew(&holder(&kept), until).await, Ok(Renewed::Renewed(_))));
    store.close().await;
    drop(store);
    let store = open(directory.path());
    let Ok(Claimed::Held(held)) = store.acquire(&claim(1, 499)).await else { panic!("nobody holds it") };
    assert_eq!((held.token, held.until, held.fence), (kept.token, until, kept.fence));
    let keys = [url(1), url(2), url(3)].map(|key| key.id());
    assert_eq!(store.held(&keys, at(101)).await, Ok(vec![Some(held), None, None]));
    assert_eq!(store.fence(&holder(&kept)).await, Ok(Some(kept.fence)));
    assert_eq!(store.fence(&holder(&stored)).await, Ok(Some(stored.fence)));
    assert_eq!(store.fence(&holder(&released)).await, Ok(None));
    // A clock that went back over the restart: the next fence is later all the same.
    let back = Claim { fence: Version::first_of(at(1)), ..claim(3, 101) };
    let Ok(Claimed::Won(next)) = store.acquire(&back).await else { panic!("it was given up") };
    assert!(next.fence > released.fence);
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn the_sweep_forgets_leases_an_hour_after_they_ran_out_and_ended_ones_before() {
    let directory = directory();
    let store = open(directory.path());
    for number in 0..150 {
        win(&store, &claim(number, 100)).await;
    }
    win(&store, &claim(200, 101)).await;
    let (first, ended) = (claim(0, 100), claim(1, 100));
    store.end(&holder(&ended), Ending::Released).await.expect("ended");
    let forgotten = at(130 + KEEP_SECONDS);
    let a_little_before = |at: Timestamp| Timestamp::from_millis(at.as_millis() - 1);
    let ended = at(130 + KEEP_ENDED_SECONDS);
    let early = store.sweep_batch(at(0), a_little_before(ended)).await.expect("a sweep");
    assert_eq!((early.leases, leases(directory.path())), (0, 151));
    assert_eq!(store.sweep_batch(at(0), ended).await.expect("a sweep").leases, 1, "the one that was ended");
    let early = store.sweep_batch(at(0), a_little_before(forgotten)).await.expect("a sweep");
    assert_eq!((early.leases, leases(directory.path())), (0, 150));
    assert_eq!(store.fence(&holder(&first)).await, Ok(Some(first.fence)));
    let swept = store.sweep_batch(at(0), forgotten).await.expect("a sweep");
    assert!(swept.leases == 100 && swept.is_full(), "{swept:?}");
    let swept = store.sweep_batch(at(0), forgotten).await.expect("a sweep");
    assert!(swept.leases == 49 && !swept.is_full(), "{swept:?}");
    assert_eq!(leases(directory.path()), 1);
    assert_eq!(store.fence(&holder(&first)).await, Ok(None));
    assert_eq!(store.renew(&holder(&first), at(9000)).await, Ok(Renewed::Lost));
    assert_eq!(store.sweep_batch(at(0), at(0)).await.expect("a sweep").leases, 0, "before the first hour");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn nobody_looks_for_leases_where_none_can_be_held() {
    let directory = directory();
    let store = open(directory.path());
    let keys: Vec<KeyId> = (0..10_000).map(|number| url(number).id()).collect();
    // Whoever looks after this finds no table.
    let spoil = |sql: &str| connection(directory.path()).execute_batch(sql).expect("changed");
    win(&store, &claim(1, 100)).await;
    spoil("alter table leases rename to hidden");
    assert_eq!(store.held(&keys, at(130)).await, Ok(vec![None; 10_000]), "the only one has run out");
    assert!(store.held(&keys, at(129)).await.is_err());
    spoil("alter table hidden rename to leases");
    let held = store.held(&keys, at(129)).await.expect("a read");
    assert_eq!(held.iter().flatten().count(), 1);
    assert!(held[1].is_some());
}

#[tokio::test]
async fn a_backup_has_the_leases() {
    let (directory, target) = (directory(), directory());
    let store = open(directory.path());
    win(&store, &claim(1, 100)).await;
    backup(directory.path(), &target.path().join(FILE_NAME)).expect("a backup");
    let copy = open(target.path());
    assert!(matches!(copy.acquire(&claim(1, 101)).await, Ok(Claimed::Held(_))));
}

#[tokio::test]
async fn a_damaged_lease_is_said_to_be_damaged() {
    let directory = directory();
    let store = open(directory.path());
    win(&store, &claim(1, 100)).await;
    for damage in ["state = 'odd'", "secret = x'00'", "namespace = 'no name'", "fence = -1"] {
        let own = connection(directory.path());
        own.execute_batch(&format!(
            "begin; create table whole as select * from leases; update leases set {damage}; commit"
        ))
        .expect("damaged");
        let said = store.acquire(&claim(1, 101)).await;
        assert!(matches!(said, Err(Error::Corrupt { .. })), "{damage}: {said:?}");
        own.execute_batch(
            "begin; delete from leases; insert into leases select * from whole; drop table whole; commit",
        )
        .expect("mended");
        assert!(matches!(store.acquire(&claim(1, 101)).await, Ok(Claimed::Held(_))), "{damage}");
    }
    win(&store, &claim(2, 101)).await;
}
