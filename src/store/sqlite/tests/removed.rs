//! What sweep and eviction remove: who is told of it, when, and that memory in front of the store forgets it.

use std::sync::Mutex;

use super::*;
use crate::domain::{KeyId, Timestamp};
use crate::store::tiered::Tiered;

/// The ids that a hook was called with.
fn watch(store: &SqliteStore) -> Arc<Mutex<Vec<KeyId>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let told = Arc::clone(&told);
        move |ids: &[KeyId]| told.lock().expect("unpoisoned").extend_from_slice(ids)
    };
    assert!(store.on_removed(hook));
    told
}

fn take(told: &Mutex<Vec<KeyId>>) -> Vec<KeyId> {
    let mut ids = std::mem::take(&mut *told.lock().expect("unpoisoned"));
    ids.sort_by_key(|id| *id.as_bytes());
    ids
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<KeyId> {
    let mut ids: Vec<KeyId> = numbers.into_iter().map(|number| url(number).id()).collect();
    ids.sort_by_key(|id| *id.as_bytes());
    ids
}

/// A put that expires at second `expires`.
fn expiring(number: u64, expires: u64) -> Put {
    let mut put = put(&url(number), "text", 10);
    put.meta.expires_at = at(expires);
    put
}

#[tokio::test]
async fn a_sweep_tells_what_it_removed_before_it_answers() {
    let directory = directory();
    let store = open(directory.path());
    let told = watch(&store);
    assert!(!store.on_removed(|_| panic!("a second hook is not taken")));
    for entry in 0..8 {
        put_result(&store, expiring(entry, 20 + entry % 2)).await;
    }
    store.sweep_batch(at(21), at(0)).await.expect("a sweep");
    assert_eq!(take(&told), ids([0, 2, 4, 6]));
    store.sweep_batch(at(21), at(0)).await.expect("a sweep");
    assert_eq!(take(&told), [], "nothing twice");
}

#[tokio::test]
async fn what_was_not_committed_is_not_told() {
    let directory = directory();
    let store = open(directory.path());
    let told = watch(&store);
    put_result(&store, expiring(1, 20)).await;
    // Fails after the results are gone, so that the transaction is rolled back.
    let own = connection(directory.path());
    put_session(&store, "s", 10).await;
    own.execute_batch(
        "create trigger refuse before delete on sessions begin select raise(abort, 'refused'); end",
    )
    .expect("a trigger");
    store.sweep_batch(Timestamp::MAX, Timestamp::MAX).await.expect_err("refused");
    assert_eq!(take(&told), []);
    assert!(said(&store, &url(1)).await.is_some());
    own.execute_batch("drop trigger refuse").expect("dropped");
    store.sweep_batch(Timestamp::MAX, Timestamp::MAX).await.expect("a sweep");
    assert_eq!(take(&told), ids([1]));
}

#[tokio::test]
async fn an_eviction_tells_what_it_took() {
    let directory = directory();
    let bounded = Options { max_bytes: 1 << 20, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    let told = watch(&store);
    let mut gone = Vec::new();
    for entry in 0..100 {
        put_result(&store, noise(entry, 20_000)).await;
    }
    for entry in 0..100 {
        if stored(&store, &url(entry)).await.expect("a get").is_none() {
            gone.push(entry);
        }
    }
    assert!(gone.len() > 40, "{gone:?}");
    assert_eq!(take(&told), ids(gone));
}

/// The memory in front serves nothing that a listing of the store could not show.
#[tokio::test]
async fn memory_forgets_what_a_sweep_removed() {
    let directory = directory();
    let store = open(directory.path());
    let tiered = Tiered::new(Arc::new(store.clone()), 1 << 20);
    assert!(store.on_removed(tiered.forgetter()));
    for entry in 0..2 {
        tiered.put(expiring(entry, 20 + 100 * entry)).await.expect("a put");
        tiered.get(&url(entry), GetOptions::default()).await.expect("a get").expect("an entry");
    }
    assert_eq!(tiered.usage().1, 2);
    store.sweep_batch(at(100), at(0)).await.expect("a sweep");
    assert!(tiered.get(&url(0), GetOptions::default()).await.expect("a get").is_none(), "stale or not");
    assert_eq!(tiered.usage().1, 1, "the other copy stays");
    drop((tiered, store));
    drop(open(directory.path()));
}
