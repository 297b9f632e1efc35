//! The clauses for single results: what puts, gets, deletes and lookups promise.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::future::join_all;

use super::fixtures::{
    LIFE, at, bodiless, document, facts, given, key, namespace, put, said, stored, variant,
};
use crate::domain::{Key, MAX_URL_BYTES, Validators, Version};
use crate::store::{Condition, DeleteOutcome, GetOptions, Health, Put, PutOutcome, ResultStore};

pub(super) const URL: &str = "https://example.com/page";

pub(super) async fn store_it(store: &dyn ResultStore, put: Put) -> PutOutcome {
    store.put(put).await.unwrap_or_else(|error| panic!("{store}: {error}"))
}

pub(super) async fn delete(
    store: &dyn ResultStore,
    key: &Key,
    second: u64,
    condition: Condition,
) -> DeleteOutcome {
    let deleted = store.delete(key, Version::first_of(at(second)), condition).await;
    deleted.unwrap_or_else(|error| panic!("{store}: {error}"))
}

pub(super) async fn a_miss_is_none(store: &dyn ResultStore) {
    for consistent in [false, true] {
        let found = store.get(&key(URL), GetOptions::consistent(consistent)).await.expect("no error");
        assert!(found.is_none(), "{store}: {found:?}");
    }
}

pub(super) async fn what_was_put_comes_back(store: &dyn ResultStore) {
    let mut put = put(&key(URL), "text", 10);
    put.meta.created_at = at(9);
    put.meta.updated_at = at(11);
    put.meta.status_code = Some(404);
    put.meta.success = Some(false);
    put.meta.validators = Validators {
        etag: Some("W/\"é\"".to_owned()),
        last_modified: Some("Thu, 01 Jan 1970 00:00:10 GMT".to_owned()),
        head_fingerprint: Some("f".repeat(64)),
    };
    store_it(store, put.clone()).await;
    // Twice: the second answer may come from a copy.
    for read in 1..=2 {
        let entry = stored(store, &key(URL)).await.expect("an entry");
        assert_eq!(facts(&entry.meta), facts(&put.meta), "{store}: read {read}");
        assert_eq!(Some(&entry.frame), put.frame.as_ref(), "{store}: read {read}");
    }
}

pub(super) async fn a_document_may_lack_every_optional_fact(store: &dyn ResultStore) {
    let mut put = put(&key(URL), "", 10);
    put.meta.status_code = None;
    put.meta.success = None;
    put.meta.validators = Validators::default();
    store_it(store, put.clone()).await;
    let entry = stored(store, &key(URL)).await.expect("an entry");
    assert_eq!(facts(&entry.meta), facts(&put.meta), "{store}");
}

pub(super) async fn a_replacement_keeps_the_earlier_creation(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "first", 10)).await;
    store_it(store, put(&key(URL), "second", 20)).await;
    let meta = stored(store, &key(URL)).await.expect("an entry").meta.clone();
    assert_eq!((meta.created_at, meta.updated_at), (at(10), at(20)), "{store}: replaced");
    // A copy from elsewhere may know an earlier one.
    let mut copied = put(&key(URL), "third", 30);
    copied.meta.created_at = at(5);
    store_it(store, copied).await;
    assert_eq!(stored(store, &key(URL)).await.expect("an entry").meta.created_at, at(5), "{store}: copied");
    store_it(store, put(&key(URL), "third", 40)).await;
    assert_eq!(
        stored(store, &key(URL)).await.expect("an entry").meta.created_at,
        at(5),
        "{store}: refreshed"
    );
}

pub(super) async fn the_first_put_creates(store: &dyn ResultStore) {
    assert_eq!(store_it(store, put(&key(URL), "text", 10)).await, PutOutcome::Created, "{store}");
}

pub(super) async fn other_content_replaces(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "first", 10)).await;
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("first"), "{store}");
    assert_eq!(store_it(store, put(&key(URL), "second", 20)).await, PutOutcome::Replaced, "{store}");
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("second"), "{store}");
}

pub(super) async fn the_same_content_refreshes(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "text", 10)).await;
    let again = put(&key(URL), "text", 20);
    assert_eq!(store_it(store, again.clone()).await, PutOutcome::Refreshed, "{store}");
    let meta = stored(store, &key(URL)).await.expect("an entry").meta.clone();
    assert_eq!((meta.version, meta.updated_at), (again.meta.version, at(20)), "{store}");
    assert_eq!((meta.expires_at, meta.validators), (at(20 + LIFE), again.meta.validators), "{store}");
}

/// The same content compressed otherwise has another layout, which does not fit the body that stays.
pub(super) async fn a_refresh_keeps_the_layout_of_the_stored_body(store: &dyn ResultStore) {
    let text = "all work and no play makes a dull page; ".repeat(500);
    let first = put(&key(URL), &text, 10);
    let raw = crate::domain::Document::new(&first.meta.layout, first.frame.as_ref().expect("a body"))
        .decode()
        .expect("decodes");
    let denser = crate::domain::document::encode(&raw, 19).expect("a document");
    assert_eq!(denser.etag, first.meta.etag, "the etag is that of the content");
    assert_ne!(denser.layout, first.meta.layout, "another level gives another layout");
    store_it(store, first.clone()).await;
    for (second, frame) in [(20, Some(denser.frame.clone())), (30, None)] {
        let mut again = put(&key(URL), &text, second);
        again.meta.layout = denser.layout.clone();
        again.frame = frame;
        assert_eq!(store_it(store, again).await, PutOutcome::Refreshed, "{store}");
        let entry = stored(store, &key(URL)).await.expect("an entry");
        assert_eq!(entry.meta.layout.stored_size(), entry.frame.len() as u64, "{store}: layout and body");
        assert_eq!(said(store, &key(URL)).await, Some(text.clone()), "{store}");
    }
}

pub(super) async fn an_older_version_changes_nothing(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "newer", 20)).await;
    let before = facts(&stored(store, &key(URL)).await.expect("an entry").meta);
    for older in
        [put(&key(URL), "older", 10), put(&key(URL), "newer", 19), bodiless(put(&key(URL), "newer", 1))]
    {
        assert_eq!(store_it(store, older).await, PutOutcome::Superseded, "{store}");
    }
    let entry = stored(store, &key(URL)).await.expect("an entry");
    assert_eq!((facts(&entry.meta), super::text_of(&entry)), (before, "newer".to_owned()), "{store}");
}

pub(super) async fn a_replay_changes_nothing(store: &dyn ResultStore) {
    let first = put(&key(URL), "text", 10);
    store_it(store, first.clone()).await;
    assert_eq!(store_it(store, first.clone()).await, PutOutcome::Superseded, "{store}: the same put");
    assert_eq!(
        store_it(store, put(&key(URL), "other", 10)).await,
        PutOutcome::Superseded,
        "{store}: its version"
    );
    assert_eq!(facts(&stored(store, &key(URL)).await.expect("an entry").meta), facts(&first.meta), "{store}");
}

pub(super) async fn a_refresh_without_body_changes_times_and_validators(store: &dyn ResultStore) {
    let first = put(&key(URL), "text", 10);
    store_it(store, first.clone()).await;
    let mut refresh = bodiless(put(&key(URL), "text", 20));
    refresh.meta.validators = Validators {
        etag: None,
        last_modified: Some("later".to_owned()),
        head_fingerprint: Some("x".to_owned()),
    };
    assert_eq!(store_it(store, refresh.clone()).await, PutOutcome::Refreshed, "{store}");
    let entry = stored(store, &key(URL)).await.expect("an entry");
    let expected = crate::domain::Meta { created_at: at(10), ..refresh.meta };
    assert_eq!(facts(&entry.meta), facts(&expected), "{store}");
    assert_eq!(Some(&entry.frame), first.frame.as_ref(), "{store}: the body stays");
}

pub(super) async fn a_refresh_without_body_needs_that_body(store: &dyn ResultStore) {
    let refresh = bodiless(put(&key(URL), "text", 20));
    assert_eq!(store_it(store, refresh.clone()).await, PutOutcome::ConditionFailed, "{store}: no entry");
    assert!(stored(store, &key(URL)).await.is_none(), "{store}");
    store_it(store, put(&key(URL), "other", 10)).await;
    assert_eq!(store_it(store, refresh).await, PutOutcome::ConditionFailed, "{store}: another body");
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("other"), "{store}");
}

pub(super) async fn a_refresh_without_body_may_be_old(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "other", 30)).await;
    let refresh = bodiless(put(&key(URL), "text", 20));
    assert_eq!(store_it(store, refresh).await, PutOutcome::Superseded, "{store}");
}

pub(super) async fn what_was_deleted_can_be_put_again(store: &dyn ResultStore) {
    store_it(store, put(&key(URL), "a", 10)).await;
    delete(store, &key(URL), 20, Condition::Any).await;
    assert_eq!(store_it(store, put(&key(URL), "b", 30)).await, PutOutcome::Created, "{store}");
    let entry = stored(store, &key(URL)).await.expect("an entry");
    assert_eq!((entry.meta.created_at, super::text_of(&entry)), (at(30), "b".to_owned()), "{store}");
}

pub(super) async fn variants_are_entries_of_their_own(store: &dyn ResultStore) {
    for (name, text) in [("", "default"), ("mobile", "small"), ("Mobile", "large")] {
        assert_eq!(store_it(store, put(&variant(URL, name), text, 10)).await, PutOutcome::Created, "{store}");
    }
    delete(store, &variant(URL, "Mobile"), 20, Condition::Any).await;
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("default"), "{store}");
    assert_eq!(said(store, &variant(URL, "mobile")).await.as_deref(), Some("small"), "{store}");
    assert_eq!(said(store, &variant(URL, "Mobile")).await, None, "{store}");
}

pub(super) async fn namespaces_are_apart(store: &dyn ResultStore) {
    let (a, b) = (
        Key::new(&namespace("a"), URL, "").expect("a key"),
        Key::new(&namespace("b"), URL, "").expect("a key"),
    );
    store_it(store, put(&a, "of a", 10)).await;
    assert!(stored(store, &b).await.is_none(), "{store}");
    assert_eq!(store_it(store, put(&b, "of b", 5)).await, PutOutcome::Created, "{store}");
    delete(store, &b, 20, Condition::Any).await;
    let entry = stored(store, &a).await.expect("an entry");
    assert_eq!(
        (entry.meta.key.namespace().as_str(), super::text_of(&entry)),
        ("a", "of a".to_owned()),
        "{store}"
    );
}

pub(super) async fn metas_come_in_the_order_of_the_keys(store: &dyn ResultStore) {
    assert!(store.get_metas(&[]).await.expect("metas").is_empty(), "{store}: of no keys");
    let (a, b, c) = (key("https://a/"), key("https://b/"), key("https://c/"));
    store_it(store, put(&a, "a", 10)).await;
    store_it(store, put(&c, "c", 20)).await;
    // One of them may have a copy in memory.
    stored(store, &c).await;
    let metas = store.get_metas(&[c.clone(), b, a.clone(), c, a]).await.expect("metas");
    let urls: Vec<Option<&str>> = metas.iter().map(|meta| meta.as_ref().map(|meta| meta.key.url())).collect();
    let (a, c) = (Some("https://a/"), Some("https://c/"));
    assert_eq!(urls, [c, None, a, c, a], "{store}");
    assert_eq!(metas[0].as_ref().map(facts), Some(facts(&put(&key("https://c/"), "c", 20).meta)), "{store}");
}

pub(super) async fn metas_of_many_keys(store: &dyn ResultStore) {
    let keys: Vec<Key> = (0..1500).map(|number| key(&format!("https://example.com/{number}"))).collect();
    let puts = keys.iter().step_by(3).map(|key| store.put(put(key, "text", 10)));
    assert!(join_all(puts).await.iter().all(|outcome| *outcome == Ok(PutOutcome::Created)), "{store}");
    let metas = store.get_metas(&keys).await.expect("metas");
    assert_eq!(metas.len(), keys.len(), "{store}");
    for (number, (key, meta)) in keys.iter().zip(metas).enumerate() {
        assert_eq!(meta.map(|meta| meta.key), (number % 3 == 0).then(|| key.clone()), "{store}: {number}");
    }
}

pub(super) async fn long_and_foreign_urls(store: &dyn ResultStore) {
    let mut long = "https://example.com/?q=".to_owned();
    long.push_str(&"x".repeat(MAX_URL_BYTES - long.len()));
    let mut other = long.clone();
    other.replace_range(long.len() - 1.., "y");
    let urls = [
        long.as_str(),
        &other,
        "https://例え.jp/パス?π=¾#🦀",
        "file:///tmp/a'b\"c%00.html",
        "data:text/plain,x",
    ];
    for (number, url) in urls.iter().enumerate() {
        let key = variant(url, &"é".repeat(number * 60));
        assert_eq!(store_it(store, put(&key, url, 10)).await, PutOutcome::Created, "{store}: {url}");
    }
    for (number, url) in urls.iter().enumerate() {
        let key = variant(url, &"é".repeat(number * 60));
        let entry = stored(store, &key).await.expect("an entry");
        assert_eq!((entry.meta.key.url(), super::text_of(&entry).as_str()), (*url, *url), "{store}");
        assert_eq!(entry.meta.key.variant(), key.variant(), "{store}");
    }
}

pub(super) async fn five_megabytes(store: &dyn ResultStore) {
    // The digits of a linear congruence: as good as incompressible.
    let mut state = 1_u64;
    let mut text = String::new();
    while text.len() < 6_240_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let _ = write!(text, "{state:016x}");
    }
    let large = put(&key(URL), &text[..text.len() - 7], 10);
    let frame = large.frame.clone().expect("a body");
    assert!(frame.len() > 5 << 20, "{} bytes", frame.len());
    store_it(store, large).await;
    assert_eq!(stored(store, &key(URL)).await.expect("an entry").frame, frame, "{store}");
    assert_eq!(store_it(store, put(&key(URL), "small", 20)).await, PutOutcome::Replaced, "{store}");
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("small"), "{store}");
}

pub(super) async fn concurrent_puts_settle_on_the_newest(store: &dyn ResultStore) {
    // In an order that is neither up nor down: 37 is coprime to 64.
    let seconds: Vec<u64> = (0..64).map(|number| 1 + number * 37 % 64).collect();
    let puts = seconds.iter().map(|&second| store.put(put(&key(URL), &format!("of {second}"), second)));
    let wanted = key(URL);
    let gets = (0..64).map(|_| store.get(&wanted, GetOptions::default()));
    let (puts, gets) = tokio::join!(join_all(puts), join_all(gets));
    assert!(gets.iter().all(Result::is_ok), "{store}");
    let created = puts.iter().filter(|outcome| **outcome == Ok(PutOutcome::Created)).count();
    assert_eq!(created, 1, "{store}: {puts:?}");
    let settled =
        |outcome| matches!(outcome, Ok(PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Superseded));
    assert!(puts.iter().cloned().all(settled), "{store}: {puts:?}");
    assert_eq!(said(store, &key(URL)).await.as_deref(), Some("of 64"), "{store}");
    let expected = put(&key(URL), "of 64", 64).meta.version;
    assert_eq!(stored(store, &key(URL)).await.expect("an entry").meta.version, expected, "{store}");
}

pub(super) async fn a_consistent_read_sees_every_write(store: &dyn ResultStore) {
    let read = async || {
        let found = store.get(&key(URL), GetOptions::consistent(true)).await.expect("no error");
        found.map(|hit| super::text_of(&hit.entry))
    };
    for (second, text) in [(10, "a"), (20, "b"), (30, "c")] {
        store_it(store, put(&key(URL), text, second)).await;
        assert_eq!(read().await.as_deref(), Some(text), "{store}");
        assert_eq!(said(store, &key(URL)).await.as_deref(), Some(text), "{store}");
    }
    delete(store, &key(URL), 40, Condition::Any).await;
    assert_eq!(read().await, None, "{store}");
}

pub(super) async fn the_status_counts(store: &dyn ResultStore) {
    let status = store.status().await.expect("a status");
    if status.stored_bytes.is_none() {
        // A store that cannot count estimates, and may do so seldom.
        assert_eq!((status.health, status.raw_bytes), (Health::Healthy, None), "{store}");
        return;
    }
    let counts = async || {
        let status = store.status().await.expect("a status");
        assert_eq!(status.health, Health::Healthy, "{store}");
        assert!(Some(status.size_bytes) >= status.stored_bytes, "{store}: {status:?}");
        (status.entries, status.stored_bytes.unwrap_or_default(), status.raw_bytes.unwrap_or_default())
    };
    assert_eq!(counts().await, (0, 0, 0), "{store}: empty");
    let sizes = |texts: &[&str]| {
        let layouts = texts.iter().map(|text| document(text).layout);
        layouts.fold((0, 0), |(stored, raw), layout| (stored + layout.stored_size(), raw + layout.raw_size()))
    };
    let expect = |texts: &[&str]| (texts.len() as u64, sizes(texts).0, sizes(texts).1);
    store_it(store, put(&key("https://a/"), "some text", 10)).await;
    store_it(store, put(&key("https://b/"), "other text", 10)).await;
    assert_eq!(counts().await, expect(&["some text", "other text"]), "{store}: created");
    store_it(store, put(&key("https://a/"), "a much longer text than before", 20)).await;
    let replaced = expect(&["a much longer text than before", "other text"]);
    assert_eq!(counts().await, replaced, "{store}: replaced");
    store_it(store, put(&key("https://a/"), "a much longer text than before", 30)).await;
    store_it(store, put(&key("https://a/"), "old", 1)).await;
    store_it(
        store,
        Put { frame: Some(Bytes::new()), ..given(Condition::Present, put(&key("https://c/"), "", 9)) },
    )
    .await;
    assert_eq!(counts().await, replaced, "{store}: nothing else counts");
    delete(store, &key("https://a/"), 40, Condition::Any).await;
    assert_eq!(counts().await, expect(&["other text"]), "{store}: deleted");
}
