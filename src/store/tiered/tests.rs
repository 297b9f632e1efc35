//! Memory in front of a store whose every step waits until it is let go: all orders of a load and a write.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use futures_util::future::join_all;
use tokio::task::JoinSet;

use super::gated::{Gate, Gated, Passage, Relabelled};
use super::*;
use crate::domain::Timestamp;
use crate::store::conformance::{key, put, text_of};
use crate::store::memory::MemoryStore;

const URL: &str = "https://example.com/";
const TIER_BYTES: u64 = 4 << 20;

fn trusting(trust: Duration) -> Trust {
    Trust { trust, outage: Duration::ZERO, circuit: None }
}

fn tiered() -> (Tiered, Gated) {
    let gated = Gated::default();
    (Tiered::new(Arc::new(gated.clone()), TIER_BYTES), gated)
}

async fn read(tiered: &Tiered, url: &str, consistent: bool) -> Result<Option<String>> {
    let found = tiered.get(&key(url), GetOptions::consistent(consistent)).await?;
    Ok(found.map(|hit| text_of(&hit.entry)))
}

async fn text(tiered: &Tiered) -> Option<String> {
    read(tiered, URL, false).await.expect("no error")
}

fn broken() -> Error {
    Error::Backend { backend: "gated", detail: "as told".to_owned() }
}

/// How many loads the stripes know of.
fn loads(tiered: &Tiered) -> usize {
    tiered.0.copies.stripes.iter().map(|stripe| stripe.lock().expect("unpoisoned").loads.len()).sum()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Write {
    Put,
    Refresh,
    Delete,
}

impl Write {
    async fn run(self, tiered: &Tiered) {
        match self {
            Self::Put => drop(tiered.put(put(&key(URL), "new", 20)).await.expect("a put")),
            Self::Refresh => drop(tiered.put(put(&key(URL), "old", 20)).await.expect("a refresh")),
            Self::Delete => {
                let version = Version::first_of(Timestamp::from_secs(20));
                tiered.delete(&key(URL), version, Condition::Any).await.expect("a delete");
            }
        }
    }

    /// When what is there afterwards was last written, in seconds.
    fn leaves(self) -> Option<u64> {
        (self != Self::Delete).then_some(20)
    }
}

async fn updated(tiered: &Tiered, consistent: bool) -> Option<u64> {
    let found = tiered.get(&key(URL), GetOptions::consistent(consistent)).await.expect("no error");
    found.map(|hit| hit.entry.meta.updated_at.as_secs())
}

/// Runs a load and a write, each in three moves (start, work on the inner store, finish), in one order:
/// bit n of `order` says that move n is the write's.
async fn interleave(order: u32, write: Write, consistent: bool) {
    let shown = format!("{write:?}, consistent: {consistent}, order {order:06b}");
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "old", 10)).await.expect("a put");
    if consistent {
        assert_eq!(text(&tiered).await.as_deref(), Some("old"), "{shown}: memory has it");
    }
    let (load_passage, write_passage) = (Passage::new(), Passage::new());
    let mut load = JoinSet::new();
    let mut written = JoinSet::new();
    let (mut loaded, mut acknowledged, mut committed) = (0, false, false);
    let mut expected = Some(10);
    for number in 0..6 {
        if order >> number & 1 == 1 {
            if written.is_empty() {
                gated.next_write(&write_passage);
                let tiered = tiered.clone();
                written.spawn(async move { write.run(&tiered).await });
                write_passage.before.arrival().await;
            } else if !committed {
                write_passage.before.open();
                write_passage.after.arrival().await;
                committed = true;
            } else {
                write_passage.after.open();
                written.join_next().await.expect("a task").expect("no panic");
                acknowledged = true;
                // Whoever comes after the acknowledgement sees the write, whatever load is still under way.
                assert_eq!(updated(&tiered, false).await, write.leaves(), "{shown}: after the write");
                written.spawn(async {});
            }
        } else {
            match loaded {
                0 => {
                    gated.next_read(&load_passage);
                    let began_behind = acknowledged;
                    let tiered = tiered.clone();
                    load.spawn(async move { updated(&tiered, consistent).await });
                    // The memory of a settled write may answer a plain load without the inner store.
                    if consistent || !began_behind || write == Write::Delete {
                        load_passage.before.arrival().await;
                    }
                }
                1 => {
                    expected = if committed { write.leaves() } else { Some(10) };
                    load_passage.before.open();
                    if load_passage.before.arrived.borrow().gt(&0) {
                        load_passage.after.arrival().await;
                    }
                }
                _ => {
                    load_passage.after.open();
                    let found = load.join_next().await.expect("a task").expect("no panic");
                    assert_eq!(found, expected, "{shown}: the load itself");
                }
            }
            loaded += 1;
        }
    }
    assert_eq!(updated(&tiered, false).await, write.leaves(), "{shown}: at the end");
    assert_eq!(updated(&tiered, false).await, write.leaves(), "{shown}: from memory");
    assert_eq!(loads(&tiered), 0, "{shown}: no load is left");
}

#[tokio::test]
async fn no_order_of_a_load_and_a_write_leaves_the_old_entry() {
    let orders: Vec<u32> = (0..64_u32).filter(|order| order.count_ones() == 3).collect();
    assert_eq!(orders.len(), 20);
    for order in orders {
        for write in [Write::Put, Write::Refresh, Write::Delete] {
            for consistent in [false, true] {
                interleave(order, write, consistent).await;
            }
        }
    }
}

#[tokio::test]
async fn a_hundred_readers_share_one_load() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "text", 10)).await.expect("a put");
    let passage = Passage::new();
    gated.next_read(&passage);
    let mut readers: Vec<_> = (0..100).map(|_| Box::pin(text(&tiered))).collect();
    for reader in &mut readers {
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
    }
    passage.before.open();
    passage.after.open();
    assert!(join_all(readers).await.iter().all(|found| found.as_deref() == Some("text")));
    assert_eq!(gated.gets(), 1, "one load for all");
    assert_eq!(loads(&tiered), 0);
    assert_eq!(text(&tiered).await.as_deref(), Some("text"));
    assert_eq!(gated.gets(), 1, "and memory for those who come later");
}

#[tokio::test]
async fn misses_are_shared_but_not_kept() {
    let (tiered, gated) = tiered();
    let passage = Passage::new();
    gated.next_read(&passage);
    let mut readers: Vec<_> = (0..10).map(|_| Box::pin(text(&tiered))).collect();
    for reader in &mut readers {
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
    }
    passage.before.open();
    passage.after.open();
    assert!(join_all(readers).await.iter().all(Option::is_none));
    assert_eq!(gated.gets(), 1);
    assert_eq!(text(&tiered).await, None);
    assert_eq!(gated.gets(), 2);
}

#[tokio::test]
async fn a_reader_who_goes_does_not_strand_the_others() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "text", 10)).await.expect("a put");
    let passage = Passage::new();
    gated.next_read(&passage);
    let mut readers: Vec<_> = (0..4).map(|_| Box::pin(text(&tiered))).collect();
    for reader in &mut readers {
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
    }
    // The first one is the one who drives the load.
    drop(readers.remove(0));
    drop(readers.pop());
    passage.before.open();
    passage.after.open();
    assert!(join_all(readers).await.iter().all(|found| found.as_deref() == Some("text")));
    assert_eq!((gated.gets(), loads(&tiered)), (1, 0));
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_is_forgotten() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "text", 10)).await.expect("a put");
    gated.next_read(&Passage::new());
    let mut readers: Vec<_> = (0..3).map(|_| Box::pin(text(&tiered))).collect();
    for reader in &mut readers {
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
    }
    assert_eq!(loads(&tiered), 1);
    drop(readers);
    assert_eq!(loads(&tiered), 0);
    assert_eq!(
        text(&tiered).await.as_deref(),
        Some("text"),
        "a new load, and not the one at the closed gate"
    );
    assert_eq!(gated.gets(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_who_go_at_the_same_time_leave_no_load() {
    let (tiered, gated) = tiered();
    for _ in 0..300 {
        let passage = Passage::new();
        gated.next_read(&passage);
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            let tiered = tiered.clone();
            readers.spawn(async move { text(&tiered).await });
        }
        passage.before.arrival().await;
        readers.shutdown().await;
        gated.reads.lock().expect("unpoisoned").clear();
        assert_eq!(loads(&tiered), 0);
    }
}

#[tokio::test]
async fn a_put_whose_caller_goes_still_settles_memory() {
    for write in [Write::Put, Write::Refresh, Write::Delete] {
        let (tiered, gated) = tiered();
        ResultStore::put(&gated.store, put(&key(URL), "old", 10)).await.expect("a put");
        assert_eq!(updated(&tiered, false).await, Some(10));
        let passage = Passage::new();
        gated.next_write(&passage);
        {
            let mut write = pin!(write.run(&tiered));
            assert_eq!(futures_util::poll!(write.as_mut()), Poll::Pending);
            passage.before.arrival().await;
        }
        assert_eq!(updated(&tiered, false).await, Some(10), "{write:?}: not written yet");
        passage.before.open();
        passage.after.open();
        tiered.close().await;
        assert_eq!(updated(&tiered, false).await, write.leaves(), "{write:?}");
    }
}

#[tokio::test]
async fn an_uncertain_write_forgets_the_copy() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "old", 10)).await.expect("a put");
    assert_eq!(text(&tiered).await.as_deref(), Some("old"));
    // The store did it, although it says that it failed.
    ResultStore::put(&gated.store, put(&key(URL), "new", 20)).await.expect("a put");
    gated.next_write(&Passage::failing(broken()));
    assert_eq!(tiered.put(put(&key(URL), "new", 20)).await, Err(broken()));
    assert_eq!(text(&tiered).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_failed_condition_forgets_a_copy_that_the_store_has_dropped() {
    let (tiered, gated) = tiered();
    tiered.put(put(&key(URL), "text", 10)).await.expect("a put");
    assert_eq!(text(&tiered).await.as_deref(), Some("text"));
    // As sweeping and eviction do, behind the back of the tier.
    let version = Version::first_of(Timestamp::from_secs(11));
    ResultStore::delete(&gated.store, &key(URL), version, Condition::Any).await.expect("a delete");
    assert_eq!(text(&tiered).await.as_deref(), Some("text"), "memory may go on showing it");
    let refresh = Put { frame: None, ..put(&key(URL), "text", 20) };
    assert_eq!(tiered.put(refresh).await, Ok(PutOutcome::ConditionFailed));
    assert_eq!(text(&tiered).await, None, "or the caller would try again for ever");
}

#[tokio::test]
async fn a_superseded_put_leaves_memory_alone() {
    let (tiered, gated) = tiered();
    tiered.put(put(&key(URL), "text", 10)).await.expect("a put");
    text(&tiered).await;
    let gets = gated.gets();
    assert_eq!(tiered.put(put(&key(URL), "older", 5)).await, Ok(PutOutcome::Superseded));
    assert_eq!(text(&tiered).await.as_deref(), Some("text"));
    assert_eq!(gated.gets(), gets, "from memory");
}

#[tokio::test]
async fn a_consistent_read_goes_past_memory_and_renews_it() {
    let (tiered, gated) = tiered();
    tiered.put(put(&key(URL), "old", 10)).await.expect("a put");
    assert_eq!(text(&tiered).await.as_deref(), Some("old"));
    ResultStore::put(&gated.store, put(&key(URL), "new", 20)).await.expect("a put");
    assert_eq!(text(&tiered).await.as_deref(), Some("old"), "memory does not know");
    assert_eq!(read(&tiered, URL, true).await, Ok(Some("new".to_owned())));
    let gets = gated.gets();
    assert_eq!(text(&tiered).await.as_deref(), Some("new"));
    assert_eq!(gated.gets(), gets, "memory was renewed");
    let version = Version::first_of(Timestamp::from_secs(30));
    ResultStore::delete(&gated.store, &key(URL), version, Condition::Any).await.expect("a delete");
    assert_eq!(read(&tiered, URL, true).await, Ok(None));
    assert_eq!(text(&tiered).await, None, "memory has dropped it");
}

#[tokio::test]
async fn hits_say_where_they_came_from() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "text", 10)).await.expect("a put");
    let database = Tiered::new(Arc::new(Relabelled(gated.store.clone())), TIER_BYTES);
    let source = async |consistent| {
        let found = database.get(&key(URL), GetOptions::consistent(consistent)).await.expect("no error");
        found.expect("an entry").source
    };
    assert_eq!(source(false).await, Source::Sqlite);
    assert_eq!(source(false).await, Source::Memory);
    assert_eq!(source(true).await, Source::Sqlite);
    drop(tiered);
}

#[tokio::test]
async fn copies_of_a_shared_store_are_trusted_for_a_time() {
    for (trust, seen) in [(Duration::from_hours(1), "old"), (Duration::ZERO, "new")] {
        let (_, gated) = tiered();
        let shared = Tiered::shared(Arc::new(gated.clone()), TIER_BYTES, trusting(trust));
        ResultStore::put(&gated.store, put(&key(URL), "old", 10)).await.expect("a put");
        assert_eq!(text(&shared).await.as_deref(), Some("old"));
        // Another instance writes.
        ResultStore::put(&gated.store, put(&key(URL), "new", 20)).await.expect("a put");
        assert_eq!(text(&shared).await.as_deref(), Some(seen), "{trust:?}");
        assert_eq!(read(&shared, URL, true).await.expect("no error").as_deref(), Some("new"), "{trust:?}");
    }
}

#[tokio::test]
async fn a_shared_store_is_read_consistently_soon_after_a_write() {
    let (_, gated) = tiered();
    let shared = Tiered::shared(Arc::new(gated.clone()), TIER_BYTES, trusting(Duration::ZERO));
    ResultStore::put(&gated.store, put(&key(URL), "old", 10)).await.expect("a put");
    assert_eq!(text(&shared).await.as_deref(), Some("old"));
    assert_eq!((gated.gets(), gated.consistent_gets()), (1, 0), "nothing was written through here");
    ResultStore::put(&shared, put(&key(URL), "new", 20)).await.expect("a put");
    assert_eq!(text(&shared).await.as_deref(), Some("new"));
    assert_eq!((gated.gets(), gated.consistent_gets()), (2, 1));
}

#[tokio::test]
async fn what_has_superseded_a_write_is_seen_at_once() {
    let (_, gated) = tiered();
    let shared = Tiered::shared(Arc::new(gated.clone()), TIER_BYTES, trusting(Duration::from_hours(1)));
    ResultStore::put(&gated.store, put(&key(URL), "old", 10)).await.expect("a put");
    assert_eq!(text(&shared).await.as_deref(), Some("old"));
    ResultStore::put(&gated.store, put(&key(URL), "another's", 30)).await.expect("a put");
    assert_eq!(shared.put(put(&key(URL), "late", 20)).await, Ok(PutOutcome::Superseded));
    assert_eq!(text(&shared).await.as_deref(), Some("another's"));
}

#[tokio::test]
async fn an_error_is_told_to_all_who_wait_and_not_kept() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "text", 10)).await.expect("a put");
    ResultStore::put(&gated.store, put(&key("https://other/"), "other", 10)).await.expect("a put");
    let passage = Arc::new(Passage { before: Gate::new(), after: Gate::new(), fails: Some(broken()) });
    gated.next_read(&passage);
    let mut readers: Vec<_> = (0..3).map(|_| Box::pin(read(&tiered, URL, false))).collect();
    for reader in &mut readers {
        assert!(futures_util::poll!(reader.as_mut()).is_pending());
    }
    passage.before.open();
    assert!(join_all(readers).await.into_iter().all(|found| found == Err(broken())));
    assert_eq!(gated.gets(), 1);
    assert_eq!(loads(&tiered), 0);
    assert_eq!(text(&tiered).await.as_deref(), Some("text"), "the next reader tries again");
    gated.next_read(&Passage::failing(broken()));
    let absent = read(&tiered, "https://absent/", false);
    let (failed, other) = tokio::join!(absent, read(&tiered, "https://other/", false));
    assert_eq!((failed, other), (Err(broken()), Ok(Some("other".to_owned()))), "other keys do not notice");
    gated.next_read(&Passage::failing(broken()));
    assert_eq!(read(&tiered, URL, true).await, Err(broken()));
    assert_eq!(text(&tiered).await.as_deref(), Some("text"), "a failed consistent read leaves the copy");
}

#[tokio::test]
async fn a_hundred_thousand_entries_stay_within_the_bytes() {
    let (tiered, gated) = tiered();
    let template = put(&key(URL), "text", 10);
    for number in 0..100_000 {
        let mut put = template.clone();
        put.meta.key = key(&format!("https://example.com/{number}"));
        let key = put.meta.key.clone();
        ResultStore::put(&gated.store, put).await.expect("a put");
        assert!(tiered.get(&key, GetOptions::default()).await.expect("no error").is_some());
        let (bytes, _) = tiered.usage();
        assert!(bytes <= TIER_BYTES, "{bytes} bytes after {number} entries");
    }
    let (bytes, entries) = tiered.usage();
    assert!(bytes > TIER_BYTES / 2, "only {bytes} bytes are used");
    let weight = Entry { meta: template.meta, frame: template.frame.expect("a body") }.weight();
    assert!(entries * weight <= TIER_BYTES && entries > 1000, "{entries} entries");
}

#[tokio::test]
async fn an_entry_larger_than_its_share_is_not_kept() {
    let (tiered, gated) = tiered();
    let share = usize::try_from(TIER_BYTES / LARGEST_SHARE).expect("small");
    let mut large = put(&key(URL), "text", 10);
    large.frame = Some(vec![0; share + 1].into());
    tiered.put(large).await.expect("a put");
    for read in 1..=3 {
        let found = tiered.get(&key(URL), GetOptions::default()).await.expect("no error");
        assert_eq!(found.expect("an entry").entry.frame.len(), share + 1);
        assert_eq!((gated.gets(), tiered.usage()), (read, (0, 0)));
    }
    tiered.put(put(&key(URL), "small", 20)).await.expect("a put");
    assert_eq!(text(&tiered).await.as_deref(), Some("small"));
    assert_eq!(tiered.usage().1, 1);
}

/// Whoever begins to read after a write was acknowledged sees it or a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_are_seen_under_load() {
    const WRITES: u64 = 1500;
    let tiered = Tiered::new(Arc::new(MemoryStore::new()), TIER_BYTES);
    tiered.put(put(&key(URL), "text", 1)).await.expect("a put");
    let acknowledged = Arc::new(AtomicU64::new(1));
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (tiered, acknowledged) = (tiered.clone(), Arc::clone(&acknowledged));
        tasks.spawn(async move {
            while acknowledged.load(Ordering::SeqCst) < WRITES {
                let least = acknowledged.load(Ordering::SeqCst);
                let seen = updated(&tiered, false).await.expect("an entry");
                assert!(seen >= least, "saw {seen} after {least} was acknowledged");
                tokio::task::yield_now().await;
            }
        });
    }
    for second in 2..=WRITES {
        tiered.put(put(&key(URL), "text", second)).await.expect("a put");
        acknowledged.store(second, Ordering::SeqCst);
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no reader saw an old entry");
    }
}

/// A load that read before the store removed the entry must not leave its copy behind.
#[tokio::test]
async fn a_load_that_is_under_way_leaves_nothing_of_what_is_forgotten() {
    let (tiered, gated) = tiered();
    ResultStore::put(&gated.store, put(&key(URL), "text", 10)).await.expect("a put");
    let passage = Passage::new();
    passage.before.open();
    gated.next_read(&passage);
    let mut load = JoinSet::new();
    load.spawn({
        let tiered = tiered.clone();
        async move { text(&tiered).await }
    });
    passage.after.arrival().await;
    let version = Version::first_of(Timestamp::from_secs(20));
    ResultStore::delete(&gated.store, &key(URL), version, Condition::Any).await.expect("a delete");
    tiered.forget(&[key(URL).id()]);
    assert_eq!(text(&tiered).await, None, "a reader who comes afterwards does not join the load");
    passage.after.open();
    let loaded = load.join_next().await.expect("a task").expect("no panic");
    assert_eq!(loaded.as_deref(), Some("text"), "it began before");
    assert_eq!(tiered.usage(), (0, 0));
    assert_eq!(text(&tiered).await, None);
}
