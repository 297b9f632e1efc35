//! The clauses for conditions and for deletions: what must hold, and what a failure leaves.

use super::fixtures::{LIFE, at, bodiless, document, facts, given, key, put, said, stored};
use super::results::{URL, delete, store_it};
use crate::store::{Condition, DeleteOutcome, PutOutcome, ResultStore};

pub(super) async fn a_put_under_any_condition_happens(store: &dyn ResultStore) {
    let any = |text, second| given(Condition::Any, put(&key(URL), text, second));
    assert_eq!(store_it(store, any("a", 10)).await, PutOutcome::Created, "{store}");
    assert_eq!(store_it(store, any("b", 20)).await, PutOutcome::Replaced, "{store}");
}

pub(super) async fn a_put_if_absent(store: &dyn ResultStore) {
    let absent = |now, text, second| given(Condition::Absent(at(now)), put(&key(URL), text, second));
    assert_eq!(store_it(store, absent(10, "a", 10)).await, PutOutcome::Created, "{store}: none");
    assert_eq!(
        store_it(store, absent(11, "b", 20)).await,
        PutOutcome::ConditionFailed,
        "{store}: a fresh one"
    );
    let last = 10 + LIFE;
    assert_eq!(
        store_it(store, absent(last, "b", 20)).await,
        PutOutcome::ConditionFailed,
        "{store}: its last instant"
    );
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("a"), "{store}");
    assert_eq!(
        store_it(store, absent(last + 1, "b", 20)).await,
        PutOutcome::Replaced,
        "{store}: an expired one"
    );
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("b"), "{store}");
}

pub(super) async fn a_put_if_present(store: &dyn ResultStore) {
    let present = |text, second| given(Condition::Present, put(&key(URL), text, second));
    assert_eq!(store_it(store, present("a", 10)).await, PutOutcome::ConditionFailed, "{store}: none");
    assert!(stored(store, &key(URL)).await.is_none(), "{store}");
    store_it(store, put(&key(URL), "a", 10)).await;
    assert_eq!(store_it(store, present("b", 20)).await, PutOutcome::Replaced, "{store}: one");
    assert_eq!(store_it(store, present("c", 20_000)).await, PutOutcome::Replaced, "{store}: an expired one");
}

pub(super) async fn a_put_if_the_content_matches(store: &dyn ResultStore) {
    let (a, b, c) = (document("a").etag, document("b").etag, document("c").etag);
    let matches =
        |etags: Vec<_>, text, second| given(Condition::Matches(etags), put(&key(URL), text, second));
    assert_eq!(
        store_it(store, matches(vec![a], "a", 10)).await,
        PutOutcome::ConditionFailed,
        "{store}: none"
    );
    store_it(store, put(&key(URL), "a", 10)).await;
    assert_eq!(
        store_it(store, matches(vec![b, c], "b", 20)).await,
        PutOutcome::ConditionFailed,
        "{store}: others"
    );
    assert_eq!(
        store_it(store, matches(vec![], "b", 20)).await,
        PutOutcome::ConditionFailed,
        "{store}: no etag"
    );
    assert_eq!(
        store_it(store, matches(vec![c, a], "b", 20)).await,
        PutOutcome::Replaced,
        "{store}: one of two"
    );
    assert_eq!(
        store_it(store, matches(vec![a], "c", 30)).await,
        PutOutcome::ConditionFailed,
        "{store}: the old one"
    );
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("b"), "{store}");
}

pub(super) async fn a_failed_put_changes_nothing(store: &dyn ResultStore) {
    let first = put(&key(URL), "a", 10);
    store_it(store, first.clone()).await;
    for failing in [
        given(Condition::Absent(at(11)), put(&key(URL), "b", 20)),
        given(Condition::Matches(vec![document("b").etag]), put(&key(URL), "a", 20)),
        bodiless(put(&key(URL), "b", 20)),
    ] {
        assert_eq!(store_it(store, failing).await, PutOutcome::ConditionFailed, "{store}");
        let entry = stored(store, &key(URL)).await.expect("an entry");
        assert_eq!(facts(&entry.meta), facts(&first.meta), "{store}");
    }
    // Its version was not taken either.
    assert_eq!(store_it(store, put(&key(URL), "c", 15)).await, PutOutcome::Replaced, "{store}");
}

pub(super) async fn a_delete_removes(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "a", 10)).await;
    assert!(stored(store, &key(URL)).await.is_some(), "{store}");
    assert_eq!(delete(store, &key(URL), 20, Condition::Any).await, DeleteOutcome::Deleted, "{store}");
    assert!(stored(store, &key(URL)).await.is_none(), "{store}");
    assert_eq!(store.get_metas(&[key(URL)]).await.expect("metas").len(), 1, "{store}");
    assert!(store.get_metas(&[key(URL)]).await.expect("metas")[0].is_none(), "{store}");
}

pub(super) async fn a_delete_of_nothing_says_so(store: &dyn ResultStore) {
    let absent = key(URL);
    let missing = |condition| delete(store, &absent, 20, condition);
    assert_eq!(missing(Condition::Any).await, DeleteOutcome::Absent, "{store}");
    assert_eq!(missing(Condition::Absent(at(1))).await, DeleteOutcome::Absent, "{store}");
    assert_eq!(missing(Condition::Present).await, DeleteOutcome::ConditionFailed, "{store}");
    let matches = Condition::Matches(vec![document("a").etag]);
    assert_eq!(missing(matches).await, DeleteOutcome::ConditionFailed, "{store}");
}

pub(super) async fn a_delete_spares_what_is_newer(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "a", 20)).await;
    for second in [10, 20] {
        assert_eq!(
            delete(store, &key(URL), second, Condition::Any).await,
            DeleteOutcome::Absent,
            "{store}: {second}"
        );
        assert_eq!(said(store, &key(URL)).await.as_deref(), Some("a"), "{store}: {second}");
    }
    assert_eq!(delete(store, &key(URL), 21, Condition::Any).await, DeleteOutcome::Deleted, "{store}");
}

pub(super) async fn a_delete_observes_its_condition(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "a", 10)).await;
    for failing in [Condition::Matches(vec![document("b").etag]), Condition::Absent(at(11))] {
        assert_eq!(delete(store, &key(URL), 20, failing).await, DeleteOutcome::ConditionFailed, "{store}");
        assert_eq!(said(store, &key(URL)).await.as_deref(), Some("a"), "{store}");
    }
    let holding =
        [Condition::Present, Condition::Matches(vec![document("a").etag]), Condition::Absent(at(11 + LIFE))];
    // A key each: a store may remember the version of a deletion, and refuse what is older.
    for (holding, second) in holding.into_iter().zip([20, 40, 60]) {
        let key = key(&format!("{URL}/{second}"));
        store_it(store, put(&key, "a", second - 10)).await;
        let outcome = delete(store, &key, second + 2 * LIFE, expired(holding, second)).await;
        assert_eq!(outcome, DeleteOutcome::Deleted, "{store}");
        assert!(stored(store, &key).await.is_none(), "{store}");
    }
}

/// `Absent` by a time when what was put ten seconds before `second` has expired; others as they are.
fn expired(condition: Condition, second: u64) -> Condition {
    match condition {
        Condition::Absent(_) => Condition::Absent(at(second + LIFE)),
        other => other,
    }
}
