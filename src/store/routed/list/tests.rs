//! Listings of results over both sides, against a model.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{Street, Weather, policy};
use crate::domain::routing::{Force, Policy};
use crate::domain::{Key, Namespace, Version};
use crate::store::conformance::{at, key, put};
use crate::store::{
    Condition, Cursor, Error, GetOptions, ListFilter, ListOrder, ListQuery, Page, PutOutcome, ResultStore,
};

const KEYS: usize = 8;

fn key_of(number: usize) -> Key {
    key(&format!("https://{}/{number}", ["a", "b"][number % 2]))
}

fn all(limit: usize, order: ListOrder) -> ListQuery {
    ListQuery { order, ..ListQuery::all(&Namespace::default(), limit) }
}

/// All pages: the urls and versions.
async fn listed(store: &dyn ResultStore, query: &ListQuery) -> Vec<(String, Version)> {
    let (mut query, mut listed) = (query.clone(), Vec::new());
    loop {
        let Page { items, places, next } = store.list(&query).await.expect("a page");
        assert!(items.len() <= query.limit && places.len() == items.len());
        listed.extend(items.iter().map(|meta| (meta.key.url().to_owned(), meta.version)));
        match next {
            None => return listed,
            next => query.after = next,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put {
        key: usize,
    },
    Delete {
        key: usize,
    },
    Get {
        key: usize,
    },
    /// Another instance writes to DynamoDB.
    Beside {
        key: usize,
    },
    Set {
        percent: u16,
        dual_write: bool,
        force: u8,
    },
    Relay,
    List {
        limit: usize,
        newest: bool,
        host: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..KEYS).prop_map(|key| Step::Put { key }),
        3 => (0..KEYS).prop_map(|key| Step::Delete { key }),
        3 => (0..KEYS).prop_map(|key| Step::Get { key }),
        2 => (0..KEYS).prop_map(|key| Step::Beside { key }),
        3 => (prop::sample::select(vec![0_u16, 30, 70, 100]), any::<bool>(), 0..6_u8)
            .prop_map(|(percent, dual_write, force)| Step::Set { percent, dual_write, force }),
        1 => Just(Step::Relay),
        4 => (1..8_usize, any::<bool>(), any::<bool>())
            .prop_map(|(limit, newest, host)| Step::List { limit, newest, host }),
    ]
}

async fn run(steps: Vec<Step>) {
    let street = Street::new(policy(0, false)).await;
    let routed = &street.routed;
    for (second, step) in (2000..).zip(steps) {
        match step {
            Step::Put { key } => {
                routed.put(put(&key_of(key), &second.to_string(), second)).await.expect("an answer");
            }
            Step::Delete { key } => {
                let version = Version::first_of(at(second));
                routed.delete(&key_of(key), version, Condition::Any).await.expect("an answer");
            }
            Step::Get { key } => {
                drop(routed.get(&key_of(key), GetOptions::default()).await.expect("an answer"));
            }
            Step::Beside { key } => {
                let put = put(&key_of(key), &second.to_string(), second);
                ResultStore::put(&street.across, put).await.expect("an answer");
            }
            Step::Set { percent, dual_write, force } => {
                let force =
                    [Force::None, Force::Sqlite, Force::Dynamodb][usize::from(force.saturating_sub(3))];
                street.set(Policy { force, ..policy(percent, dual_write) }).await;
            }
            Step::Relay => drop(street.relay().await),
            Step::List { limit, newest, host } => lists(&street, limit, newest, host).await,
        }
    }
    lists(&street, 3, true, false).await;
    lists(&street, 3, false, false).await;
}

/// A listing in pages shows what single reads show, once each and in order.
async fn lists(street: &Street, limit: usize, newest: bool, host: bool) {
    street.rest().await;
    let mut expected = BTreeMap::new();
    for number in (0..KEYS).filter(|number| !host || number % 2 == 0) {
        let found = street.routed.get(&key_of(number), GetOptions::scan()).await.expect("an answer");
        let meta = found.map(|hit| hit.entry.meta.clone());
        expected.extend(meta.map(|meta| (meta.updated_at, (meta.key.url().to_owned(), meta.version))));
    }
    street.rest().await;
    let order = if newest { ListOrder::Newest } else { ListOrder::Oldest };
    let filter = if host { ListFilter::Host("a".to_owned()) } else { ListFilter::All };
    let mut expected: Vec<_> = expected.into_values().collect();
    if newest {
        expected.reverse();
    }
    let query = ListQuery { filter, ..all(limit, order) };
    assert_eq!(listed(&street.routed, &query).await, expected, "in pages of {limit}, {order:?}");
    let whole = street.routed.list(&ListQuery { limit: 100, ..query.clone() }).await.expect("a page");
    for (number, place) in whole.places.into_iter().enumerate() {
        let rest = listed(&street.routed, &ListQuery { after: Some(place), ..query.clone() }).await;
        assert_eq!(rest, expected[number + 1..], "behind {number}, {order:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_listing_shows_what_reads_show(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_mins(1), run(steps)).await.expect("it ends");
        });
    }
}

/// What is there from the first page to the last is seen, oldest first, whatever is written, copied and moved
/// meanwhile.
#[tokio::test]
async fn exports_survive_that_ownership_moves() {
    for dual_write in [false, true] {
        let street = Street::new(policy(0, dual_write)).await;
        for (number, second) in (0..12).zip(2000..) {
            street.set(policy([0, 100, 50][number % 3], dual_write)).await;
            let outcome = street.routed.put(put(&key(&format!("https://a/{number}")), "text", second)).await;
            assert_eq!(outcome, Ok(PutOutcome::Created));
        }
        let mut query = all(2, ListOrder::Oldest);
        let mut seen = Vec::new();
        for number in 0..12 {
            let page = street.routed.list(&query).await.expect("a page");
            seen.extend(page.items.iter().map(|meta| meta.key.url().to_owned()));
            let Some(next) = page.next else { break };
            query.after = Some(next);
            street.set(policy([100, 0, 50][number % 3], dual_write)).await;
            let ahead = key(&format!("https://a/{}", 11 - number));
            if number % 2 == 0 {
                street.routed.put(put(&ahead, "changed", 3000 + number as u64)).await.expect("stored");
            } else {
                street.routed.get(&ahead, GetOptions::default()).await.expect("an answer");
                street.rest().await;
            }
        }
        seen.extend(
            listed(&street.routed, &ListQuery { limit: 100, ..query }).await.into_iter().map(|(url, _)| url),
        );
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 12, "{dual_write}: {seen:?}");
    }
}

#[tokio::test]
async fn half_a_listing_is_an_error() {
    let street = Street::new(policy(0, false)).await;
    let half = policy(50, false);
    for (number, second) in (0..6).zip(2000..) {
        street.routed.put(put(&key_of(number), "text", second)).await.expect("stored");
    }
    let query = all(2, ListOrder::Oldest);
    street.set(half).await;
    let first = street.routed.list(&query).await.expect("a page");
    street.across.set(Weather::Down);
    let refused = street.routed.list(&query).await.expect_err("DynamoDB may have more");
    assert!(refused.is_outage(), "{refused}");
    street.set(Policy { force: Force::Sqlite, ..half }).await;
    assert_eq!(listed(&street.routed, &query).await.len(), 6, "SQLite is all that counts");
    let rest = ListQuery { after: first.next, ..query };
    assert_eq!(listed(&street.routed, &rest).await.len(), 4, "from the middle on, too");
}

#[tokio::test]
async fn cursors_of_one_side_are_refused() {
    let street = Street::new(policy(0, false)).await;
    for number in 0..3 {
        street.routed.put(put(&key_of(number), "text", 2000)).await.expect("stored");
    }
    let page = ResultStore::list(&street.here, &all(1, ListOrder::Newest)).await.expect("a page");
    let after: Option<Cursor> = page.next;
    assert!(after.is_some());
    let refused = street.routed.list(&ListQuery { after, ..all(1, ListOrder::Newest) }).await;
    assert_eq!(refused.map(|page| page.items.len()), Err(Error::Cursor));
}
