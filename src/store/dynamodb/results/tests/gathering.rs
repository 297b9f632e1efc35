//! Reads that share a request.

use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::store::conformance::text_of;

const WINDOW: u64 = 20_000;

async fn gathered() -> Option<(Setup, Vec<Key>)> {
    let setup = Setup::new(|config| config.dynamodb.batch_window_micros = WINDOW).await?;
    let keys: Vec<Key> = (0..10).map(|number| key(&format!("{PAGE}/{number}"))).collect();
    for key in &keys[..8] {
        setup.put(put_now(key, key.url(), 10)).await;
    }
    Some((setup, keys))
}

#[tokio::test]
async fn reads_at_the_same_time_share_a_request() {
    let Some((setup, keys)) = gathered().await else { return };
    // Each twice: equal keys are asked for once, at half a unit. DynamoDB Local takes nothing for what is not there.
    let found = join_all(keys.iter().chain(&keys).map(|key| setup.get(key))).await;
    for (key, found) in keys.iter().chain(&keys).zip(found) {
        let said = found.expect("no error").map(|hit| text_of(&hit.entry));
        assert_eq!(said.as_deref(), keys[..8].contains(key).then_some(key.url()));
    }
    assert_eq!((setup.units("get_item"), setup.units("batch_get_item")), (0.0, 4.0));
    // Consistent ones are apart, and dearer.
    let options = GetOptions::consistent(true);
    let found = join_all(keys[..4].iter().map(|key| setup.store.get(key, options))).await;
    assert!(found.iter().all(|found| found.as_ref().is_ok_and(Option::is_some)));
    assert_eq!((setup.units("get_item"), setup.units("batch_get_item")), (0.0, 8.0));
}

#[tokio::test]
async fn more_than_a_request_holds() {
    let Some((setup, keys)) = gathered().await else { return };
    let many: Vec<Key> = (0..250).map(|number| key(&format!("{PAGE}/many/{number}"))).collect();
    let found = join_all(many.iter().chain(&keys[..8]).map(|key| setup.get(key))).await;
    let hits = found.iter().filter(|found| found.as_ref().is_ok_and(Option::is_some)).count();
    assert_eq!((hits, found.iter().filter(|found| found.is_ok()).count()), (8, 258));
}

#[tokio::test]
async fn who_goes_disturbs_nobody() {
    let Some((setup, keys)) = gathered().await else { return };
    let leaving = tokio::time::timeout(Duration::from_millis(2), setup.get(&keys[0]));
    let staying = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        join_all([setup.get(&keys[0]), setup.get(&keys[1])]).await
    };
    let (left, stayed) = tokio::join!(leaving, staying);
    assert!(left.is_err(), "it has left");
    assert!(stayed.iter().all(|found| found.as_ref().is_ok_and(Option::is_some)));
}

#[tokio::test]
async fn all_readers_learn_of_an_error() {
    let Some((setup, keys)) = gathered().await else { return };
    let lost = setup.other(|config| config.dynamodb.results_table = "missing".to_owned());
    for found in join_all(keys.iter().map(|key| lost.get(key, GetOptions::default()))).await {
        let error = found.expect_err("no table");
        assert_eq!(error.reason(), "missing_table", "{error}");
        assert!(error.to_string().contains("crawlcache tables create"), "{error}");
    }
}
