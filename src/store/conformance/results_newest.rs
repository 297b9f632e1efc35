//! The clauses for clients' own writes: they come after all that they meet, whatever clock that was written by.

use super::fixtures::{at, given, key, put, said, stored};
use super::results::{URL, store_it};
use crate::domain::{Key, Timestamp, Version};
use crate::store::{Condition, DeleteOutcome, Placed, Put, PutOutcome, ResultStore};

/// Writes of a client whose clock is behind, and versions that they meet: a little ahead of it, and of the far future.
const NOW: u64 = 1000;
const AHEAD: [u64; 2] = [NOW + 7, NOW + 1_000_000_000];

async fn put_newest(store: &dyn ResultStore, put: Put) -> Placed<PutOutcome> {
    store.put_newest(put).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

async fn delete_newest(store: &dyn ResultStore, key: &Key, condition: Condition) -> Placed<DeleteOutcome> {
    let deleted = store.delete_newest(key, version(NOW), condition).await;
    deleted.unwrap_or_else(|error| panic!("{store}: {error}"))
}

fn version(second: u64) -> Version {
    Version::first_of(at(second))
}

fn page(second: u64) -> Key {
    key(&format!("{URL}/{second}"))
}

/// Stores `ahead` at that second, by another process.
async fn meet(store: &dyn ResultStore, second: u64) -> Key {
    assert_eq!(store_it(store, put(&page(second), "ahead", second)).await, PutOutcome::Created, "{store}");
    page(second)
}

pub(super) async fn a_put_of_its_own_keeps_its_version_where_it_is_the_newest(store: &dyn ResultStore) {
    for (second, text, outcome) in
        [(10, "a", PutOutcome::Created), (20, "b", PutOutcome::Replaced), (30, "b", PutOutcome::Refreshed)]
    {
        let placed = put_newest(store, put(&key(URL), text, second)).await;
        assert_eq!(placed, Placed { outcome, version: version(second) }, "{store}");
    }
}

pub(super) async fn a_put_of_its_own_comes_after_what_is_newer(store: &dyn ResultStore) {
    for second in AHEAD {
        let key = meet(store, second).await;
        let placed = put_newest(store, put(&key, "own", NOW)).await;
        assert_eq!(placed.outcome, PutOutcome::Replaced, "{store}");
        assert!(placed.version > version(second), "{store}: {placed:?}");
        let meta = stored(store, &key).await.expect("an entry").meta.clone();
        assert_eq!(
            (meta.version, meta.updated_at, meta.created_at),
            (placed.version, at(NOW), at(NOW)),
            "{store}"
        );
        // The same content again, and a copy of what is there.
        let again = put_newest(store, put(&key, "own", NOW + 1)).await;
        assert_eq!(again.outcome, PutOutcome::Refreshed, "{store}");
        assert!(again.version > placed.version, "{store}: {again:?}");
        let mut copy = put(&key, "copy", NOW + 2);
        copy.meta.version = again.version;
        assert_eq!(store_it(store, copy).await, PutOutcome::Superseded, "{store}");
        assert_eq!(said(store, &key).await.as_deref(), Some("own"), "{store}");
    }
}

pub(super) async fn a_condition_of_its_own_put_is_about_what_is_newer(store: &dyn ResultStore) {
    for second in AHEAD {
        let key = meet(store, second).await;
        let met = stored(store, &key).await.expect("an entry").meta.clone();
        let other = put(&key, "other", 1).meta.etag;
        for condition in [
            Condition::Absent(Timestamp::from_secs(NOW)),
            Condition::Matches(vec![other]),
            Condition::Version(met.version.next()),
        ] {
            let placed = put_newest(store, given(condition.clone(), put(&key, "own", NOW))).await;
            assert_eq!(placed.outcome, PutOutcome::ConditionFailed, "{store}: {condition:?}");
            assert_eq!(said(store, &key).await.as_deref(), Some("ahead"), "{store}: {condition:?}");
        }
        let mut last = met.version;
        for (number, condition) in
            [Condition::Version(met.version), Condition::Present].into_iter().enumerate()
        {
            let text = format!("own {number}");
            let placed = put_newest(store, given(condition.clone(), put(&key, &text, NOW))).await;
            assert_eq!(placed.outcome, PutOutcome::Replaced, "{store}: {condition:?}");
            assert!(placed.version > last, "{store}: {condition:?}");
            assert_eq!(said(store, &key).await, Some(text), "{store}: {condition:?}");
            last = placed.version;
        }
        let etag = stored(store, &key).await.expect("an entry").meta.etag;
        let placed = put_newest(store, given(Condition::Matches(vec![etag]), put(&key, "last", NOW))).await;
        assert_eq!(placed.outcome, PutOutcome::Replaced, "{store}");
        assert_eq!(said(store, &key).await.as_deref(), Some("last"), "{store}");
    }
}

pub(super) async fn a_put_of_its_own_comes_after_a_newer_deletion(store: &dyn ResultStore) {
    for (second, condition) in
        AHEAD.into_iter().zip([Condition::Any, Condition::Absent(Timestamp::from_secs(NOW))])
    {
        let key = meet(store, second).await;
        let deleted = store.delete(&key, version(second).next(), Condition::Any).await;
        assert_eq!(deleted, Ok(DeleteOutcome::Deleted), "{store}");
        let placed = put_newest(store, given(condition, put(&key, "own", NOW))).await;
        assert_eq!(placed.outcome, PutOutcome::Created, "{store}");
        assert_eq!(said(store, &key).await.as_deref(), Some("own"), "{store}");
        assert_eq!(stored(store, &key).await.expect("an entry").meta.version, placed.version, "{store}");
    }
}

pub(super) async fn a_deletion_of_its_own_comes_after_what_is_newer(store: &dyn ResultStore) {
    for second in AHEAD {
        let key = meet(store, second).await;
        let refused = delete_newest(store, &key, Condition::Version(version(second - 1))).await;
        assert_eq!(refused.outcome, DeleteOutcome::ConditionFailed, "{store}");
        assert_eq!(said(store, &key).await.as_deref(), Some("ahead"), "{store}");
        let deleted = delete_newest(store, &key, Condition::Version(version(second))).await;
        assert_eq!(deleted.outcome, DeleteOutcome::Deleted, "{store}");
        assert!(deleted.version > version(second), "{store}: {deleted:?}");
        assert_eq!(said(store, &key).await, None, "{store}");
        assert_eq!(
            delete_newest(store, &key, Condition::Any).await.outcome,
            DeleteOutcome::Absent,
            "{store}"
        );
        // What is stored from now on is there, and goes again.
        assert_eq!(put_newest(store, put(&key, "own", NOW)).await.outcome, PutOutcome::Created, "{store}");
        assert_eq!(said(store, &key).await.as_deref(), Some("own"), "{store}");
        assert_eq!(
            delete_newest(store, &key, Condition::Any).await.outcome,
            DeleteOutcome::Deleted,
            "{store}"
        );
        assert_eq!(said(store, &key).await, None, "{store}");
    }
}
