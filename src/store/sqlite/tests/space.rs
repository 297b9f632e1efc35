//! Eviction and sweeping: what goes, what stays, and whether the disk gets its space back.

use futures_util::future::join_all;

use super::*;
use crate::domain::{Timestamp, Version};
use crate::store::{Condition, Error, ListFilter, ListOrder, ListQuery};

const MAX_BYTES: u64 = 2 << 20;

/// Copies the one result with the status 200 until there are so many.
fn multiply(connection: &Connection, results: u32) {
    let copied = connection.execute(
        "with recursive n(i) as (select 2 union all select i + 1 from n where i < ?1)
         insert into results select null, randomblob(16), namespace, 'https://example.com/' || i, variant, host, version,
         etag, created_at, updated_at + i, expires_at, status_code, success, origin_etag, origin_modified,
         head_fingerprint, raw_size, stored_size, layout, digest, body from n, results where status_code = 200",
        [results],
    );
    assert_eq!(copied, Ok(results as usize - 1));
}

/// A database of many small results, and how many bytes it takes.
async fn many_small_results(directory: &Path) -> u64 {
    let store = open(directory);
    put_result(&store, put(&url(1), "text", 10)).await;
    store.close().await;
    drop(store);
    let own = connection(directory);
    multiply(&own, 20_000);
    own.execute_batch(
        "update totals set value = 20000 * value where name in ('entries', 'stored_bytes', 'raw_bytes')",
    )
    .expect("totals");
    used(&own)
}

/// Puts results at once of which only the urls are long: each has a page for itself.
async fn put_long_urls(store: &SqliteStore, numbers: std::ops::Range<u64>) {
    let long = |number| key(&format!("https://example.com/{number}/{}", "a".repeat(8000)));
    join_all(numbers.map(|number| put_result(store, put(&long(number), "text", 10)))).await;
}

#[tokio::test]
async fn the_bound_holds_and_hot_entries_survive() {
    let (directory, metrics) = (directory(), Metrics::new());
    let bounded = Options { max_bytes: MAX_BYTES, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &metrics).expect("opens");
    let own = connection(directory.path());
    for name in ["a", "b", "c"] {
        put_session(&store, name, 10).await;
    }
    for entry in 0..400 {
        put_result(&store, noise(entry, 20_000)).await;
        assert!(used(&own) <= MAX_BYTES, "{} bytes after {entry}", used(&own));
        if entry % 5 == 4 {
            for hot in 0..5 {
                assert!(said(&store, &url(hot)).await.is_some(), "hot entry {hot} after {entry}");
            }
        }
    }
    let mut kept = Vec::new();
    for entry in 5..400 {
        if stored(&store, &url(entry)).await.expect("a get").is_some() {
            kept.push(entry);
        }
    }
    assert!((40..120).contains(&kept.len()), "{} cold entries are kept", kept.len());
    assert!(!kept.contains(&5) && !kept.contains(&100), "the oldest of the cold are gone: {kept:?}");
    for name in ["a", "b", "c"] {
        assert!(session_exists(&store, name).await, "session {name}");
    }
    assert_eq!(metrics.removed("size").get(), 395 - kept.len() as u64, "evictions are counted");
    let status = status(&store).await;
    assert_eq!((status.entries, status.sessions), (5 + kept.len() as u64, 3));
    assert_eq!(status.limit_bytes, Some(MAX_BYTES));
    // Freed pages are used again: the file ends at most one put above the bound.
    assert!(status.size_bytes <= MAX_BYTES + (64 << 10), "{} bytes", status.size_bytes);
    recount(&own);
}

/// When every older row is hot, the hand clears their bits on its way to the new one.
#[tokio::test]
async fn a_put_is_not_evicted_by_itself() {
    let directory = directory();
    let bounded = Options { max_bytes: MAX_BYTES, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    for entry in 0..150 {
        for older in 0..entry {
            stored(&store, &url(older)).await.expect("a get");
        }
        put_result(&store, noise(entry, 20_000)).await;
        assert!(said(&store, &url(entry)).await.is_some(), "entry {entry} was acknowledged");
        assert!(used(&connection(directory.path())) <= MAX_BYTES, "entry {entry}");
    }
    assert!(status(&store).await.entries < 100, "older ones made room");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn a_smaller_bound_takes_hold_after_reopening() {
    let directory = directory();
    let store = open(directory.path());
    for entry in 0..150 {
        put_result(&store, noise(entry, 20_000)).await;
    }
    assert!(used(&connection(directory.path())) > MAX_BYTES);
    store.close().await;
    drop(store);
    let bounded = Options { max_bytes: MAX_BYTES / 2, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    put_result(&store, noise(1000, 20_000)).await;
    assert!(used(&connection(directory.path())) <= MAX_BYTES / 2);
    recount(&connection(directory.path()));
}

/// Whoever puts while a large surplus goes must not wait for all of it.
#[tokio::test]
async fn a_large_surplus_goes_batch_by_batch() {
    const SMALLER: u64 = 1200 << 10;
    let directory = directory();
    let store = open(directory.path());
    for entry in 0..900 {
        put_result(&store, noise(entry, 1500)).await;
    }
    store.close().await;
    drop(store);
    let bounded = Options { max_bytes: SMALLER, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    put_result(&store, noise(1000, 1500)).await;
    assert_eq!(status(&store).await.entries, 901 - 256, "one batch takes its share");
    // What is written takes twice its pages with it, even if that is more rows than otherwise.
    put_result(&store, noise(1001, 320_000)).await;
    let entries = status(&store).await.entries;
    assert!(
        (330..360).contains(&entries),
        "{entries} are left: about 300 of 1500 bytes go for one of 320,000"
    );
    for entry in 1002..1005 {
        put_result(&store, noise(entry, 1500)).await;
    }
    assert!(used(&connection(directory.path())) <= SMALLER, "the bound takes hold in the end");
    assert!(said(&store, &url(1001)).await.is_some(), "the last ones stay");
    recount(&connection(directory.path()));
}

/// What a row takes is more than its body.
#[tokio::test]
async fn long_urls_of_small_results_keep_within_the_bound() {
    let directory = directory();
    let full = many_small_results(directory.path()).await;
    let bounded = Options { max_bytes: full, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    put_long_urls(&store, 0..200).await;
    let own = connection(directory.path());
    assert!(used(&own) <= full, "{} bytes of {full}", used(&own));
    let long = number(&own, "select count(*) from results where length(url) > 8000");
    assert_eq!(long, 200, "what is new stays");
    let left = status(&store).await.entries - long;
    assert!((1..16_000).contains(&left), "{left} small ones are left: more than 4,096 made room");
    recount(&own);
}

#[tokio::test]
async fn a_surplus_shrinks_even_where_long_urls_are_put() {
    let directory = directory();
    let full = many_small_results(directory.path()).await;
    let bounded = Options { max_bytes: full / 4, tombstone_seconds: 1000, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    let own = connection(directory.path());
    put_long_urls(&store, 0..100).await;
    let after = used(&own);
    assert!(after <= full - (1 << 20), "{after} bytes of {full}: as much again as was written is gone");
    // Neither deletes nor tombstones have bodies.
    for entry in 0..10 {
        let before = used(&own);
        let (gone, version) = (url(30_000 + entry), Version::first_of(at(20)));
        ResultStore::delete(&store, &gone, version, Condition::Any).await.expect("a delete");
        assert!(used(&own) < before, "transaction {entry}");
    }
    assert_eq!(number(&own, "select count(*) from tombstones"), 10);
    recount(&own);
}

/// Where little is written, nothing but sweeps can take a surplus.
#[tokio::test]
async fn a_sweep_says_that_more_is_beyond_the_bound() {
    let directory = directory();
    let full = many_small_results(directory.path()).await;
    let bound = full - full / 4;
    let bounded = Options { max_bytes: bound, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    let own = connection(directory.path());
    loop {
        let before = status(&store).await.entries;
        let swept = store.sweep_batch(at(0), at(0)).await.expect("a sweep");
        let taken = before - status(&store).await.entries;
        assert!((1..400).contains(&taken), "{taken} at once: those who put meanwhile must not wait for all");
        assert_eq!((swept.surplus, swept.is_full()), (used(&own) > bound, used(&own) > bound));
        if !swept.surplus {
            break;
        }
    }
    assert_eq!(store.sweep_batch(at(0), at(0)).await, Ok(Swept::default()), "nothing is left to do");
    assert!(status(&store).await.entries > 10_000, "no more is taken than must be");
    recount(&own);
}

#[tokio::test]
async fn what_can_never_fit_is_refused() {
    let directory = directory();
    let bounded = Options { max_bytes: 1 << 20, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    put_result(&store, noise(1, 1000)).await;
    let refused = ResultStore::put(&store, noise(2, 1 << 20)).await.expect_err("larger than the bound");
    assert!(
        matches!(&refused, Error::Full { detail, .. } if detail.contains("sqlite.max_bytes")),
        "{refused}"
    );
    assert!(said(&store, &url(1)).await.is_some(), "nothing was evicted for it");
}

#[tokio::test]
async fn a_sweep_removes_what_has_expired_in_batches() {
    let directory = directory();
    let store = open(directory.path());
    for entry in 0..260 {
        let mut put = put(&url(entry), "text", 10);
        put.meta.expires_at = Timestamp::from_millis(20_000 + u64::from(entry >= 250));
        put_result(&store, put).await;
    }
    for name in 0..103 {
        put_session(&store, &format!("s{name}"), if name < 101 { 10 } else { 11 }).await;
    }
    let before = (Timestamp::from_millis(20_001), at(1010));
    let mut swept = Vec::new();
    loop {
        let batch = store.sweep_batch(before.0, before.1).await.expect("a sweep");
        swept.push((batch.results, batch.sessions));
        if !batch.is_full() {
            break;
        }
    }
    assert_eq!(swept, [(100, 100), (100, 1), (50, 0)]);
    for entry in 0..260 {
        assert_eq!(
            said(&store, &url(entry)).await.is_some(),
            entry >= 250,
            "entry {entry}: its last instant counts"
        );
    }
    for name in 0..103 {
        assert_eq!(session_exists(&store, &format!("s{name}")).await, name >= 101, "session {name}");
    }
    assert_eq!(store.sweep_batch(before.0, before.1).await, Ok(Swept::default()), "nothing is left to do");
    recount(&connection(directory.path()));
}

#[tokio::test]
async fn sweeping_gives_space_back_to_the_disk() {
    let directory = directory();
    let store = open(directory.path());
    for entry in 0..400 {
        put_result(&store, noise(entry, 30_000)).await;
    }
    let own = connection(directory.path());
    number(&own, "pragma wal_checkpoint(truncate)");
    let length = || std::fs::metadata(store.path()).expect("a file").len();
    let (pages, full) = (number(&own, "pragma page_count"), length());
    let (mut given_back, mut batches) = (0, 0);
    loop {
        let swept = store.sweep_batch(Timestamp::MAX, at(0)).await.expect("a sweep");
        assert!(swept.pages <= 256, "{swept:?}: a batch is short");
        (given_back, batches) = (given_back + swept.pages, batches + 1);
        if !swept.is_full() {
            break;
        }
    }
    assert!(batches < 20, "{batches} batches");
    assert!(number(&own, "pragma freelist_count") <= 256, "the rest is kept for the next puts");
    assert_eq!(number(&own, "pragma page_count"), pages - given_back);
    assert_eq!(number(&own, "pragma wal_checkpoint(truncate)"), 0, "not busy");
    assert_eq!(length(), full - given_back * u64::from(16_384_u32));
    assert!(length() < full / 2, "{full} bytes became {}", length());
    recount(&own);
}

/// A filter that hardly matches ends a page early, and the next page goes on from there.
#[tokio::test]
async fn a_page_looks_at_so_many_rows_and_no_more() {
    let directory = directory();
    let store = open(directory.path());
    let mut rare = put(&url(0), "text", 5);
    rare.meta.status_code = Some(404);
    put_result(&store, rare).await;
    put_result(&store, put(&url(1), "text", 10)).await;
    multiply(&connection(directory.path()), 12_000);
    let filter = ListFilter::Host("example.com".to_owned());
    let mut query = ListQuery { filter, status_code: Some(404), ..ListQuery::all(&Namespace::default(), 10) };
    let page = ResultStore::list(&store, &query).await.expect("a page");
    assert!(page.items.is_empty() && page.next.is_some(), "the first page ends before the match");
    query.after = page.next;
    let page = ResultStore::list(&store, &query).await.expect("a page");
    assert_eq!(page.items.len(), 1);
    assert!(page.next.is_none());
    query = ListQuery { order: ListOrder::Oldest, after: None, limit: 1, ..query };
    assert_eq!(ResultStore::list(&store, &query).await.expect("a page").items.len(), 1);
}
