//! Walks: their order, their bounds, and what damage does to them.

use super::*;
use crate::domain::Entry;
use crate::store::conformance::facts;
use crate::store::sqlite::ledger::walk::Walked;

fn key_in(namespace: &str, number: u64) -> Key {
    let namespace = Namespace::new(namespace).expect("a namespace");
    Key::new(&namespace, &format!("https://a/{number}"), if number.is_multiple_of(2) { "" } else { "v" })
        .expect("a key")
}

/// A store with keys 0 to 7 in rows 1 to 8, put at second 10 to 17.
async fn eight(directory: &Path) -> SqliteStore {
    let store = remembering(directory);
    for number in 0..8 {
        let key = key_in(["b", "a"][usize::try_from(number % 2).expect("small")], number);
        put_result(&store, put(&key, "text", 10 + number)).await;
    }
    store
}

fn rows<T>(walked: &[Walked<T>]) -> Vec<i64> {
    walked.iter().map(|walked| walked.row).collect()
}

async fn entries(store: &SqliteStore, after: i64, limit: usize, bytes: usize) -> Vec<Walked<Entry>> {
    store.walk_entries(after, None, limit, bytes).await.expect("a walk")
}

#[tokio::test]
async fn a_walk_meets_everything_once_in_order() {
    let directory = directory();
    let store = eight(directory.path()).await;
    let (mut after, mut met) = (0, Vec::new());
    loop {
        let page = entries(&store, after, 3, usize::MAX).await;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = last.row;
        met.extend(page.into_iter().map(|walked| walked.item.expect("intact")));
    }
    assert_eq!(met.len(), 8);
    for (number, entry) in met.iter().enumerate() {
        let expected = key_in(["b", "a"][number % 2], number as u64);
        assert_eq!(entry.meta.key.id(), expected.id(), "{number}");
        let stored = stored(&store, &expected).await.expect("a get").expect("an entry");
        assert_eq!((facts(&entry.meta), &entry.frame), (facts(&stored.meta), &stored.frame));
    }
    let metas = store.walk_metas(0, None, 100).await.expect("a walk");
    let metas: Vec<_> = metas.into_iter().map(|walked| facts(&walked.item.expect("intact"))).collect();
    assert_eq!(metas, met.iter().map(|entry| facts(&entry.meta)).collect::<Vec<_>>());
    assert!(store.walk_metas(0, None, 0).await.expect("a walk").is_empty());
}

#[tokio::test]
async fn bytes_bound_a_walk_but_not_to_nothing() {
    let directory = directory();
    let store = eight(directory.path()).await;
    let size = entries(&store, 0, 1, 0).await[0].item.as_ref().expect("intact").frame.len();
    assert_eq!(rows(&entries(&store, 0, 8, 0).await), [1]);
    assert_eq!(rows(&entries(&store, 3, 8, 3 * size + size / 2).await), [4, 5, 6]);
    assert_eq!(rows(&entries(&store, 3, 2, usize::MAX).await), [4, 5]);
}

#[tokio::test]
async fn a_walk_since_a_time_goes_past_whatever_is_older() {
    let directory = directory();
    let store = eight(directory.path()).await;
    let since = store.walk_entries(0, Some(at(14)), 2, usize::MAX).await.expect("a walk");
    assert_eq!(rows(&since), [5, 6], "the time itself counts");
    assert_eq!(rows(&store.walk_metas(6, Some(at(14)), 8).await.expect("a walk")), [7, 8]);
    put_session(&store, "s", 10).await;
    assert_eq!(store.walk_counts(None).await, Ok((8, 1)));
    assert_eq!(store.walk_counts(Some(at(14))).await, Ok((4, 1)));
    // More rows than one read transaction looks at, none of which is young enough; then one that is.
    let own = connection(directory.path());
    own.execute_batch(
        "with recursive n (i) as (select 100 union all select i + 1 from n where i < 12200)
         insert into results select i, randomblob(16), 'default', 'https://x/' || i, '', 'x', 1, etag, 0, 0, 0, null,
         null, null, null, null, 0, 0, layout, digest, x'' from n, results where row = 1",
    )
    .expect("inserted");
    own.execute("update results set row = 20000 where row = 8", []).expect("moved");
    assert_eq!(rows(&store.walk_metas(7, Some(at(14)), 8).await.expect("a walk")), [20_000]);
    assert_eq!(store.walk_metas(20_000, Some(at(14)), 8).await.expect("a walk").len(), 0);
}

#[tokio::test]
async fn damaged_rows_are_in_their_place() {
    let directory = directory();
    let store = eight(directory.path()).await;
    let own = connection(directory.path());
    for damage in [
        "update results set body = x'00' where row = 2",
        "update results set namespace = 'Not One' where row = 3",
        "update results set layout = x'ff' where row = 4",
        "update results set url = 'no url' where row = 5",
        "update results set digest = 1 where row = 6",
    ] {
        own.execute(damage, []).expect("damaged");
    }
    let page = entries(&store, 0, 100, usize::MAX).await;
    assert_eq!(rows(&page), [1, 2, 3, 4, 5, 6, 7, 8]);
    for walked in page {
        assert_eq!(walked.item.is_err(), (2..=6).contains(&walked.row), "{walked:?}");
        if walked.row == 2 {
            assert!(walked.item.is_err_and(|said| said.contains("does not match its digest")));
        }
    }
    let metas = store.walk_metas(0, None, 100).await.expect("a walk");
    let damaged: Vec<i64> =
        metas.iter().filter(|walked| walked.item.is_err()).map(|walked| walked.row).collect();
    assert_eq!(damaged, [3, 4, 5], "bodies and digests are not read");
}

#[tokio::test]
async fn a_walk_is_no_sign_that_anybody_wants_it() {
    let directory = directory();
    let store = eight(directory.path()).await;
    entries(&store, 0, 100, usize::MAX).await;
    assert!((1..=8).all(|row| !store.0.heat.take(row)));
    stored(&store, &key_in("b", 0)).await.expect("a get");
    assert!(store.0.heat.take(1), "a get is");
}

#[tokio::test]
async fn sessions_of_all_namespaces() {
    let directory = directory();
    let store = remembering(directory.path());
    for (number, namespace) in ["b", "a", "b"].into_iter().enumerate() {
        let namespace = Namespace::new(namespace).expect("a namespace");
        let record = session(&format!("s{number}"), 10);
        let put = PutSession { namespace, record, condition: SessionCondition::Any };
        SessionStore::put(&store, put).await.expect("a put");
    }
    connection(directory.path())
        .execute("update sessions set body = x'00' where row = 2", [])
        .expect("damaged");
    let page = store.walk_sessions(0, 2).await.expect("a walk");
    assert_eq!(rows(&page), [1, 2]);
    let (namespace, record) = page[0].item.as_ref().expect("intact");
    assert_eq!((namespace.as_str(), record), ("b", &session("s0", 10)));
    assert!(page[1].item.is_err(), "{page:?}");
    assert_eq!(rows(&store.walk_sessions(2, 2).await.expect("a walk")), [3]);
    assert!(store.walk_sessions(3, 2).await.expect("a walk").is_empty());
}

#[tokio::test]
async fn tombstones_of_deletions_by_id() {
    let directory = directory();
    let store = remembering(directory.path());
    let mut ids = Vec::new();
    for number in 0..6 {
        ResultStore::delete(&store, &url(number), version(20), Condition::Any).await.expect("a delete");
        if number == 3 {
            put_key(&store, number, 30, Beside::Nothing).await;
        } else {
            ids.push(url(number).id());
        }
    }
    ids.sort_unstable();
    let (mut after, mut met) = (None, Vec::new());
    loop {
        let page = store.walk_tombstones(after, 2).await.expect("a walk");
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        met.extend(page);
    }
    let expected: Vec<_> =
        ids.into_iter().map(|id| (id, Tombstone { version: version(20), deleted: true })).collect();
    assert_eq!(met, expected, "a floor is no deletion");
}
