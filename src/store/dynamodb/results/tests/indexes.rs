//! Listings: which index they need, and how a page ends before its rows do.

use super::super::merge::{Merge, Next, Rows, Urls};
use super::*;
use crate::domain::Namespace;
use crate::store::conformance::{listed, variant};
use crate::store::{Error, ListFilter, ListOrder, ListQuery};

async fn filled(change: impl FnOnce(&mut Config)) -> Option<Setup> {
    let setup = Setup::new(change).await?;
    for number in 0..40 {
        setup.put(put_now(&key(&format!("https://{}/{number}", ["a", "b"][number % 2])), "text", 10)).await;
    }
    Some(setup)
}

#[tokio::test]
async fn a_listing_without_an_index_says_what_to_do() {
    let Some(setup) = Setup::new(|config| config.dynamodb.time_index = false).await else { return };
    let error = setup.store.list(&ListQuery::all(&Namespace::default(), 10)).await.expect_err("no index");
    let says = |word| error.to_string().contains(word);
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(says("dynamodb.time_index") && says("crawlcache tables create"), "{error}");
    setup.put(put_now(&page(), "text", 10)).await;
    assert!(!setup.head(&page()).await.contains_key("listed_at"));
}

#[tokio::test]
async fn hosts_and_urls_by_their_own_index() {
    let both = |config: &mut Config| config.dynamodb.host_index = true;
    let Some(setup) = filled(both).await else { return };
    setup.put(put_now(&variant("https://a/0", "m"), "text", 20)).await;
    let query = |filter| ListQuery { filter, ..ListQuery::all(&Namespace::default(), 100) };
    let url = query(ListFilter::Url("https://a/0".to_owned()));
    assert_eq!(listed(&setup.store, &url).await, ["https://a/0 m", "https://a/0"]);
    let host = query(ListFilter::Host("b".to_owned()));
    assert_eq!(listed(&setup.store, &host).await.len(), 20);
    // Without an index by time, what names a host is listed all the same.
    let by_host = setup.other(|config| config.dynamodb.time_index = false);
    assert_eq!(listed(&by_host, &host).await.len(), 20);
    assert!(by_host.list(&query(ListFilter::All)).await.is_err());
}

#[tokio::test]
async fn what_moves_between_index_and_reading_is_shown_once() {
    let Some(setup) = filled(|_| {}).await else { return };
    // An index row of a time that the entry has left: as if it had been written again meanwhile.
    for order in [ListOrder::Oldest, ListOrder::Newest] {
        let query = ListQuery { order, ..ListQuery::all(&Namespace::default(), 100) };
        let mut head = setup.head(&key("https://a/0")).await;
        head.insert("updated_at".to_owned(), text(now(500).to_string()));
        setup.write(head).await;
        let page = setup.store.list(&query).await.expect("a page");
        let urls: Vec<&str> = page.items.iter().map(|meta| meta.key.url()).collect();
        assert_eq!((urls.len(), urls.iter().filter(|url| **url == "https://a/0").count()), (40, 1));
        let end = if order == ListOrder::Oldest { urls.last() } else { urls.first() };
        assert_eq!(end, Some(&"https://a/0"), "{order:?}: where it is now");
    }
    let until = ListQuery { until: Some(now(100)), ..ListQuery::all(&Namespace::default(), 100) };
    assert_eq!(listed(&setup.store, &until).await.len(), 39, "it is no longer of that time");
}

/// Reads rows a few at a time, going on where a page got tired, until the end.
async fn walk(setup: &Setup, order: ListOrder, most: usize) -> (Vec<String>, usize) {
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut range = ("0".to_owned(), "~".to_owned());
    loop {
        let shards = (0..16).map(|shard| format!("default {shard}")).collect();
        let urls = Urls::Prefix("https://b/".to_owned());
        let (index, partition) = ("time-index", "time_shard");
        let rows = Rows { index, partition, shards, range: range.clone(), order, urls };
        let mut merge = Merge::new(&setup.store.0, &rows, 1, most);
        pages += 1;
        loop {
            match merge.next().await.expect("rows") {
                Next::Row(row) => seen.push(row.url),
                Next::Tired(place) => {
                    match order {
                        ListOrder::Oldest => range.0 = format!("{place} "),
                        // The place itself again: a walk does not mind.
                        ListOrder::Newest => range.1 = place,
                    }
                    break;
                }
                Next::End => return (seen, pages),
            }
        }
    }
}

#[tokio::test]
async fn a_page_that_gets_tired_loses_nothing() {
    let Some(setup) = filled(|_| {}).await else { return };
    for order in [ListOrder::Oldest, ListOrder::Newest] {
        let (mut seen, pages) = walk(&setup, order, 20).await;
        assert!(pages > 1, "{pages} pages");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 20, "{order:?}");
    }
}

#[tokio::test]
async fn the_status_estimates() {
    let Some(setup) = filled(|_| {}).await else { return };
    let status = setup.store.status().await.expect("a status");
    assert_eq!((status.backend, status.entries, status.stored_bytes), ("dynamodb", 40, None));
    assert!(status.size_bytes > 0);
    let missing = setup.other(|config| config.dynamodb.results_table = "missing".to_owned());
    assert_eq!(missing.status().await.expect_err("no table").reason(), "missing_table");
}
