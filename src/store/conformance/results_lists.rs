//! The clauses for listings of results: filters, orders, pages and cursors.

use futures_util::future::join_all;

use super::fixtures::{LIFE, all_pages, at, bodiless, facts, key, listed, namespace, put, stored, variant};
use crate::domain::{Key, Namespace};
use crate::store::{Cursor, Error, ListFilter, ListOrder, ListQuery, PutOutcome, ResultStore};

fn everything() -> ListQuery {
    ListQuery::all(&Namespace::default(), 100)
}

fn filtered(filter: ListFilter) -> ListQuery {
    ListQuery { filter, order: ListOrder::Oldest, ..everything() }
}

/// Puts one entry a url, a second apart, from second 10 on.
async fn fill(store: &dyn ResultStore, urls: &[&str]) {
    for (second, url) in (10..).zip(urls) {
        let outcome = store.put(put(&key(url), url, second)).await;
        assert_eq!(outcome, Ok(PutOutcome::Created), "{store}: {url}");
    }
}

pub(super) async fn an_empty_store_has_one_empty_page(store: &dyn ResultStore) {
    let page = store.list(&everything()).await.expect("a page");
    assert!(page.items.is_empty() && page.next.is_none(), "{store}: {page:?}");
    let page = store.list(&filtered(ListFilter::Url("not a url".to_owned()))).await.expect("a page");
    assert!(page.items.is_empty() && page.next.is_none(), "{store}: {page:?}");
}

pub(super) async fn newest_and_oldest_first(store: &dyn ResultStore) {
    fill(store, &["https://a/", "https://b/", "https://c/"]).await;
    assert_eq!(listed(store, &everything()).await, ["https://c/", "https://b/", "https://a/"], "{store}");
    let oldest = ListQuery { order: ListOrder::Oldest, ..everything() };
    assert_eq!(listed(store, &oldest).await, ["https://a/", "https://b/", "https://c/"], "{store}");
}

pub(super) async fn a_confirmed_entry_moves_to_the_front(store: &dyn ResultStore) {
    fill(store, &["https://a/", "https://b/", "https://c/"]).await;
    let refreshed = store.put(bodiless(put(&key("https://a/"), "https://a/", 20))).await;
    assert_eq!(refreshed, Ok(PutOutcome::Refreshed), "{store}");
    assert_eq!(listed(store, &everything()).await, ["https://a/", "https://c/", "https://b/"], "{store}");
}

pub(super) async fn by_host(store: &dyn ResultStore) {
    let urls = [
        "https://example.com/a",
        "http://Example.COM:8080/b",
        "https://www.example.com/c",
        "https://example.com.evil/d",
        "https://user@example.com/e",
        "file:///example.com/f",
    ];
    fill(store, &urls).await;
    let host = |host: &str| filtered(ListFilter::Host(host.to_owned()));
    assert_eq!(listed(store, &host("example.com")).await, [urls[0], urls[1], urls[4]], "{store}");
    assert_eq!(listed(store, &host("www.example.com")).await, [urls[2]], "{store}");
    assert_eq!(listed(store, &host("nowhere")).await, [""; 0], "{store}");
}

pub(super) async fn by_prefix(store: &dyn ResultStore) {
    let urls = [
        "https://example.com",
        "https://example.com/a",
        "https://example.com/a/b_c%25",
        "https://example.com/ab",
        "https://example.com.evil/a",
        "http://example.com/a",
        "https://例え.jp/パス",
        "https://EXAMPLE.com/a",
        "file://host/C:/a",
        "file://host/x",
        "urn:isbn:1",
    ];
    fill(store, &urls).await;
    for prefix in [
        "",
        "https://",
        "https://exam",
        "https://example.com",
        "https://example.com/",
        "https://example.com/a",
        "https://example.com/a/",
        "https://example.com/a/b_c%",
        "https://example.com/a/bXc",
        "https://例え.jp/",
        "https://例え.jp/パ",
        "https://EXAMPLE.com/",
        "https://[broken/",
        "file://host/",
        "urn:",
        "nothing",
    ] {
        let expected: Vec<&str> = urls.into_iter().filter(|url| url.starts_with(prefix)).collect();
        let found = listed(store, &filtered(ListFilter::Prefix(prefix.to_owned()))).await;
        assert_eq!(found, expected, "{store}: {prefix:?}");
    }
}

pub(super) async fn by_url(store: &dyn ResultStore) {
    let url = "https://example.com/page";
    for (second, name) in (10..).zip(["", "mobile", "b", "a"]) {
        store.put(put(&variant(url, name), name, second)).await.expect("stored");
    }
    store.put(put(&key("https://example.com/page2"), "other", 9)).await.expect("stored");
    store.put(put(&variant("https://example.com/pag", "mobile"), "other", 9)).await.expect("stored");
    let query = filtered(ListFilter::Url(url.to_owned()));
    let named = |name: &str| format!("{url} {name}").trim_end().to_owned();
    let expected = ["", "mobile", "b", "a"].map(named);
    assert_eq!(listed(store, &query).await, expected, "{store}: oldest");
    let newest = ListQuery { order: ListOrder::Newest, ..query.clone() };
    assert_eq!(listed(store, &newest).await, ["a", "b", "mobile", ""].map(named), "{store}: newest");
    let some = ListQuery { since: Some(at(11)), until: Some(at(13)), ..query.clone() };
    assert_eq!(listed(store, &some).await, ["mobile", "b"].map(named), "{store}: in time");
    let live = ListQuery { live_at: Some(at(13 + LIFE)), ..query };
    assert_eq!(listed(store, &live).await, [named("a")], "{store}: live");
    let absent = filtered(ListFilter::Url("https://example.com/absent".to_owned()));
    assert_eq!(listed(store, &absent).await, [""; 0], "{store}: none");
}

pub(super) async fn by_time(store: &dyn ResultStore) {
    fill(store, &["https://a/", "https://b/", "https://c/", "https://d/"]).await;
    for order in [ListOrder::Newest, ListOrder::Oldest] {
        let during = |since: Option<u64>, until: Option<u64>| ListQuery {
            since: since.map(at),
            until: until.map(at),
            order,
            ..everything()
        };
        let count = async |query: ListQuery| listed(store, &query).await.len();
        assert_eq!(count(during(Some(11), None)).await, 3, "{store}: since");
        assert_eq!(count(during(None, Some(11))).await, 1, "{store}: until");
        assert_eq!(count(during(Some(11), Some(13))).await, 2, "{store}: both");
        assert_eq!(count(during(Some(13), Some(13))).await, 0, "{store}: nothing");
        assert_eq!(count(during(Some(20), Some(3))).await, 0, "{store}: back to front");
    }
}

pub(super) async fn by_status_code(store: &dyn ResultStore) {
    for (second, status) in (10..).zip([Some(200), Some(404), None, Some(200)]) {
        let mut put = put(&key(&format!("https://example.com/{second}")), "text", second);
        put.meta.status_code = status;
        store.put(put).await.expect("stored");
    }
    let with = |status| ListQuery { status_code: Some(status), order: ListOrder::Oldest, ..everything() };
    let urls =
        |seconds: &[u64]| seconds.iter().map(|it| format!("https://example.com/{it}")).collect::<Vec<_>>();
    assert_eq!(listed(store, &with(200)).await, urls(&[10, 13]), "{store}");
    assert_eq!(listed(store, &with(404)).await, urls(&[11]), "{store}");
    assert_eq!(listed(store, &with(500)).await, urls(&[]), "{store}");
}

pub(super) async fn only_what_lives(store: &dyn ResultStore) {
    fill(store, &["https://a/", "https://b/"]).await;
    let by = |second| ListQuery { live_at: Some(at(second)), ..everything() };
    assert_eq!(listed(store, &by(10 + LIFE)).await.len(), 2, "{store}: at the last instant");
    assert_eq!(listed(store, &by(11 + LIFE)).await, ["https://b/"], "{store}");
    assert_eq!(listed(store, &by(12 + LIFE)).await, [""; 0], "{store}");
    assert_eq!(listed(store, &everything()).await.len(), 2, "{store}: all");
}

pub(super) async fn filters_combine(store: &dyn ResultStore) {
    let urls = ["https://a/1", "https://a/2", "https://b/1", "https://a/3", "https://a/4"];
    for (second, url) in (10..).zip(urls) {
        let mut put = put(&key(url), url, second);
        put.meta.status_code = Some(if url == "https://a/3" { 500 } else { 200 });
        store.put(put).await.expect("stored");
    }
    let query = ListQuery {
        filter: ListFilter::Host("a".to_owned()),
        since: Some(at(11)),
        until: Some(at(20)),
        status_code: Some(200),
        live_at: Some(at(11 + LIFE)),
        limit: 1,
        ..everything()
    };
    assert_eq!(listed(store, &query).await, ["https://a/4", "https://a/2"], "{store}: by host");
    let prefix = ListQuery { filter: ListFilter::Prefix("https://a/".to_owned()), ..query };
    assert_eq!(listed(store, &prefix).await, ["https://a/4", "https://a/2"], "{store}: by prefix");
}

pub(super) async fn lists_show_one_namespace(store: &dyn ResultStore) {
    for (name, second) in [("a", 10), ("b", 11), ("a-b", 12)] {
        let key = Key::new(&namespace(name), "https://example.com/", "").expect("a key");
        store.put(put(&key, name, second)).await.expect("stored");
        let key = Key::new(&namespace(name), "https://example.com/", "v").expect("a key");
        store.put(put(&key, name, second)).await.expect("stored");
    }
    for filter in [
        ListFilter::All,
        ListFilter::Host("example.com".to_owned()),
        ListFilter::Prefix("https://example.com/".to_owned()),
        ListFilter::Url("https://example.com/".to_owned()),
    ] {
        let query = ListQuery { filter, ..ListQuery::all(&namespace("a"), 10) };
        let metas = all_pages(store, &query).await;
        assert_eq!(metas.len(), 2, "{store}: {query:?}");
        assert!(metas.iter().all(|meta| meta.key.namespace().as_str() == "a"), "{store}: {query:?}");
    }
    assert_eq!(listed(store, &everything()).await, [""; 0], "{store}");
}

pub(super) async fn pages_of_any_size_show_each_entry_once(store: &dyn ResultStore) {
    let urls: Vec<String> =
        (0..12).map(|number| format!("https://{}/{number}", ["a", "b"][number % 2])).collect();
    fill(store, &urls.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for filter in
        [ListFilter::All, ListFilter::Host("a".to_owned()), ListFilter::Prefix("https://b/".to_owned())]
    {
        for order in [ListOrder::Newest, ListOrder::Oldest] {
            let whole = listed(store, &ListQuery { filter: filter.clone(), order, ..everything() }).await;
            assert_eq!(whole.len(), if filter == ListFilter::All { 12 } else { 6 }, "{store}: {filter:?}");
            for limit in 1..=13 {
                let query = ListQuery { filter: filter.clone(), order, limit, ..everything() };
                assert_eq!(listed(store, &query).await, whole, "{store}: {query:?}");
            }
        }
    }
}

pub(super) async fn pages_of_one_url_show_each_variant_once(store: &dyn ResultStore) {
    let url = "https://example.com/page";
    for number in 0..7 {
        let name = if number == 3 { String::new() } else { format!("v{number}") };
        // Pairs share a time.
        store.put(put(&variant(url, &name), "text", 10 + number / 2)).await.expect("stored");
    }
    for order in [ListOrder::Newest, ListOrder::Oldest] {
        let query = ListQuery { filter: ListFilter::Url(url.to_owned()), order, ..everything() };
        let whole = listed(store, &query).await;
        assert_eq!(whole.len(), 7, "{store}");
        for limit in 1..=8 {
            assert_eq!(listed(store, &ListQuery { limit, ..query.clone() }).await, whole, "{store}: {limit}");
        }
    }
}

pub(super) async fn equal_times_lose_nothing(store: &dyn ResultStore) {
    for number in 0..9 {
        store.put(put(&key(&format!("https://example.com/{number}")), "text", 10)).await.expect("stored");
    }
    for order in [ListOrder::Newest, ListOrder::Oldest] {
        for limit in [1, 2, 4, 9] {
            let mut urls = listed(store, &ListQuery { order, limit, ..everything() }).await;
            urls.sort_unstable();
            urls.dedup();
            assert_eq!(urls.len(), 9, "{store}: {order:?}, {limit} a page");
        }
    }
}

pub(super) async fn a_thousand_entries_in_one_page(store: &dyn ResultStore) {
    let puts = (0..1000)
        .map(|number| store.put(put(&key(&format!("https://example.com/{number}")), "text", 10 + number)));
    assert!(join_all(puts).await.into_iter().all(|outcome| outcome == Ok(PutOutcome::Created)), "{store}");
    let page = store.list(&ListQuery { limit: 1000, ..everything() }).await.expect("a page");
    assert_eq!(page.items.len(), 1000, "{store}");
    assert!(page.items.is_sorted_by(|a, b| a.updated_at > b.updated_at), "{store}: newest first");
    if let Some(after) = page.next {
        let rest = store.list(&ListQuery { after: Some(after), ..everything() }).await.expect("a page");
        assert!(rest.items.is_empty() && rest.next.is_none(), "{store}: {rest:?}");
    }
}

pub(super) async fn a_listing_has_whole_metadata(store: &dyn ResultStore) {
    let put = put(&variant("https://例え.jp/パス", "é"), "text", 10);
    store.put(put.clone()).await.expect("stored");
    for filter in [ListFilter::All, ListFilter::Url(put.meta.key.url().to_owned())] {
        let metas = all_pages(store, &filtered(filter)).await;
        assert_eq!(metas.iter().map(facts).collect::<Vec<_>>(), [facts(&put.meta)], "{store}");
    }
    assert!(stored(store, &put.meta.key).await.is_some(), "{store}: the key of a listing finds its entry");
}

/// What is there from the first page to the last is seen, oldest first, whatever is written meanwhile.
pub(super) async fn exports_survive_writes(store: &dyn ResultStore) {
    let urls: Vec<String> = (0..8).map(|number| format!("https://example.com/{number}")).collect();
    fill(store, &urls.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut query = ListQuery { order: ListOrder::Oldest, limit: 2, ..everything() };
    let mut seen = Vec::new();
    for (second, url) in (100..).zip(urls.iter().take(4)) {
        let page = store.list(&query).await.expect("a page");
        seen.extend(page.items.iter().map(|meta| meta.key.url().to_owned()));
        query.after = page.next;
        store.put(put(&key(url), "changed", second)).await.expect("stored");
    }
    seen.extend(listed(store, &query).await);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, urls, "{store}");
}

pub(super) async fn foreign_cursors_are_refused(store: &dyn ResultStore) {
    fill(store, &["https://a/", "https://b/"]).await;
    for bytes in
        [&b""[..], b"x", b"1234567", b"12345678", b"123456789012345", b"12345678901234567", &[0xff; 300]]
    {
        for filter in
            [ListFilter::All, ListFilter::Host("a".to_owned()), ListFilter::Url("https://a/".to_owned())]
        {
            let query = ListQuery { after: Some(Cursor(bytes.to_vec())), ..filtered(filter) };
            let refused = store.list(&query).await.expect_err("not its cursor");
            assert_eq!(refused, Error::Cursor, "{store}: {bytes:?}");
        }
    }
}

pub(super) async fn any_cursor_of_the_right_length_is_survived(store: &dyn ResultStore) {
    fill(store, &["https://a/", "https://b/"]).await;
    let query = ListQuery { limit: 1, ..everything() };
    let length = store.list(&query).await.expect("a page").next.expect("a second page").0.len();
    for byte in [0, 1, 0x7f, 0x80, 0xff] {
        for filter in
            [ListFilter::All, ListFilter::Host("a".to_owned()), ListFilter::Url("https://a/".to_owned())]
        {
            for order in [ListOrder::Newest, ListOrder::Oldest] {
                let after = Some(Cursor(vec![byte; length]));
                let listed =
                    store.list(&ListQuery { filter: filter.clone(), order, after, ..everything() }).await;
                match listed {
                    Ok(page) => assert!(page.items.len() <= 2, "{store}: {byte}"),
                    Err(error) => assert_eq!(error, Error::Cursor, "{store}: {byte}"),
                }
            }
        }
    }
}

pub(super) async fn a_listing_goes_on_behind_each_place(store: &dyn ResultStore) {
    fill(store, &["https://b/", "https://a/1", "https://c/", "https://a/2"]).await;
    for order in [ListOrder::Newest, ListOrder::Oldest] {
        for filter in
            [ListFilter::All, ListFilter::Host("a".to_owned()), ListFilter::Url("https://c/".to_owned())]
        {
            let query = ListQuery { filter, order, ..everything() };
            let urls = listed(store, &query).await;
            let page = store.list(&query).await.expect("a page");
            assert_eq!(page.places.len(), page.items.len(), "{store}");
            for (number, place) in page.places.into_iter().enumerate() {
                let rest = ListQuery { after: Some(place), ..query.clone() };
                assert_eq!(listed(store, &rest).await, urls[number + 1..], "{store}: {query:?}");
            }
        }
    }
}

/// What merges listings depends on it.
pub(super) async fn places_ascend_with_time(store: &dyn ResultStore) {
    fill(store, &["https://b/", "https://a/1", "https://c/", "https://a/2"]).await;
    let ascend = |a: &Cursor, b: &Cursor| a.0 < b.0;
    let oldest = ListQuery { order: ListOrder::Oldest, ..everything() };
    let places = store.list(&oldest).await.expect("a page").places;
    assert!(places.len() == 4 && places.is_sorted_by(ascend), "{store}: {places:?}");
    let places = store.list(&everything()).await.expect("a page").places;
    assert!(places.is_sorted_by(|a, b| ascend(b, a)), "{store}: {places:?}");
}
