//! Readers and writers at the same time, over several instances.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use super::super::super::item::{read_number, read_text};
use super::*;
use crate::config::ResultsLayout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_the_old_or_the_new_document() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let sizes = [1_500_000, 900_000];
    setup.put(sized(&page(), sizes[1], 1, 1)).await;
    let done = AtomicBool::new(false);
    let write = async {
        for second in 2..=20_u64 {
            let which = second % 2;
            let size = sizes[usize::try_from(which).expect("small")];
            assert_eq!(setup.put(sized(&page(), size, which, second)).await, PutOutcome::Replaced);
        }
        done.store(true, Ordering::Relaxed);
    };
    let read = async |consistent: bool| {
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) {
            let found = setup.store.get(&page(), GetOptions::consistent(consistent)).await.expect("no error");
            let entry = found.expect("an entry").entry;
            assert_eq!(Etag::of(&entry.frame), entry.meta.etag, "a mixture");
            reads += 1;
        }
        reads
    };
    let ((), first, second) = tokio::join!(write, read(true), read(false));
    assert!(first > 0 && second > 0);
}

/// Settles many writes of one key over two instances.
async fn settle(layouts: [ResultsLayout; 2], put: impl Fn(u64) -> Put) {
    let Some(setup) = Setup::new(|config| config.dynamodb.results_layout = layouts[0]).await else { return };
    let other = setup.other(|config| config.dynamodb.results_layout = layouts[1]);
    // In an order that is neither up nor down: 7 is coprime to 16.
    let seconds: Vec<u64> = (0..16).map(|number| 1 + number * 7 % 16).collect();
    let puts = seconds.iter().map(|&second| {
        let store = if second % 2 == 0 { &setup.store } else { &other };
        store.put(put(second))
    });
    let outcomes = join_all(puts).await;
    let created = outcomes.iter().filter(|outcome| **outcome == Ok(PutOutcome::Created)).count();
    assert_eq!(created, 1, "{outcomes:?}");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let newest = put(16).meta;
    for store in [&setup.store, &other] {
        let hit = store.get(&newest.key, GetOptions::default()).await.expect("a read").expect("an entry");
        assert_eq!((hit.entry.meta.version, hit.entry.meta.etag), (newest.version, newest.etag));
    }
}

#[tokio::test]
async fn small_documents_settle_on_the_newest() {
    settle([ResultsLayout::Packed; 2], |second| put_now(&page(), &format!("of {second}"), second)).await;
}

#[tokio::test]
async fn large_documents_settle_on_the_newest() {
    settle([ResultsLayout::Packed; 2], |second| sized(&page(), 400_000, second, second)).await;
}

#[tokio::test]
async fn documents_in_both_layouts_settle_on_the_newest() {
    let home = key("https://example.com/");
    settle([ResultsLayout::Packed, ResultsLayout::Plain], |second| {
        put_now(&home, &format!("of {second}"), second)
    })
    .await;
}

#[tokio::test]
async fn writers_of_one_large_body_share_its_parts() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    let small = setup.other(|config| config.dynamodb.max_item_bytes = 200_000);
    let keys: Vec<Key> = (0..6).map(|number| key(&format!("{PAGE}/{number}"))).collect();
    let puts = keys.iter().zip(0..).map(|(key, number)| {
        let store = if number % 2 == 0 { &setup.store } else { &small };
        let mut put = sized(key, 1_000_000, 7, 10);
        put.meta.expires_at = now(1000 * (number + 1));
        store.put(put)
    });
    assert!(join_all(puts).await.into_iter().all(|outcome| outcome == Ok(PutOutcome::Created)));
    for key in &keys {
        let hit = setup.get(key).await.expect("a read").expect("an entry");
        assert!(hit.entry.frame == noise(1_000_000, 7));
        let head = setup.head(key).await;
        let number = |name| read_number(&head, name).expect("a number");
        let id = read_text(&head, "frame_id").expect("an id");
        for at in 0..number("parts") {
            let part = setup.item(&format!("part {id} {at}")).await.expect("a part");
            let ttl = read_number(&part, "ttl").expect("a ttl");
            assert!(ttl >= number("parts_until"), "part {at} goes before {key:?} may");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_behind_learns_of_it() {
    let Some(setup) = Setup::new(|_| {}).await else { return };
    setup.put(put_now(&page(), "ahead", 5)).await;
    setup.clock.set(now(1));
    assert_eq!(setup.put(put_now(&page(), "behind", 1)).await, PutOutcome::Superseded);
    assert!(setup.clock.next_version() > Version::first_of(now(5)));
    // One of the next century is not believed.
    let mut wrong = put_now(&page(), "wrong", 6);
    wrong.meta.version = Version::first_of(now(1 << 32));
    setup.put(wrong).await;
    assert_eq!(setup.put(put_now(&page(), "behind", 2)).await, PutOutcome::Superseded);
    assert!(setup.clock.next_version() < Version::first_of(now(10)));
}
