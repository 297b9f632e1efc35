//! What DynamoDB Local never answers: throttling, and batches of which something is left.

use std::sync::Mutex;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ErrorMetadata;
use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItemError, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItemError, GetItemOutput};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use aws_sdk_dynamodb::types::error::{
    ConditionalCheckFailedException, ProvisionedThroughputExceededException,
};
use aws_smithy_mocks::{MockResponseInterceptor, Rule, RuleMode, create_mock_http_client, mock};

use super::super::body::Place;
use super::*;
use crate::store::{Error, Look, Seen};

const TABLE: &str = "crawl4ai-results";

/// A store whose requests are answered by rules, each as often as it applies.
pub(super) fn answered(rules: &[&Rule], operation_millis: u64) -> (DynamodbResults, Metrics) {
    answering(rules, operation_millis, RetryConfig::disabled())
}

/// The same with requests that are tried twice.
pub(super) fn answered_again(rules: &[&Rule]) -> DynamodbResults {
    let retry = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(1));
    answering(rules, 10_000, retry).0
}

fn answering(rules: &[&Rule], operation_millis: u64, retry: RetryConfig) -> (DynamodbResults, Metrics) {
    let mut answers = MockResponseInterceptor::new().rule_mode(RuleMode::MatchAny);
    for rule in rules {
        answers = answers.with_rule(rule);
    }
    let client = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_config::BehaviorVersion::v2026_01_12())
        .region(aws_config::Region::from_static("us-east-1"))
        .credentials_provider(aws_credential_types::Credentials::new("a", "b", None, None, "a test"))
        .retry_config(retry)
        .http_client(create_mock_http_client())
        .interceptor(answers)
        .build();
    let (mut config, metrics) = (Config::default(), Metrics::new());
    config.dynamodb.operation_millis = operation_millis;
    let aws = Aws::with_client(Client::from_conf(client), &config.dynamodb, &metrics);
    let clock = Clock::manual(Timestamp::from_secs(NOW));
    (DynamodbResults::new(aws, &config, &clock, &metrics), metrics)
}

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|number| key(&format!("{PAGE}/{number}"))).collect()
}

fn left(keys: &[Item]) -> KeysAndAttributes {
    KeysAndAttributes::builder().set_keys(Some(keys.to_vec())).build().expect("keys")
}

fn asked(request: &aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemInput) -> Vec<Item> {
    request
        .request_items()
        .and_then(|tables| tables.get(TABLE))
        .map(|table| table.keys().to_vec())
        .unwrap_or_default()
}

fn head(store: &DynamodbResults, key: &Item) -> Item {
    let url = key[URL].as_s().expect("a url");
    let put = put_now(&crate::store::conformance::key(url), "text", 10);
    let mut item = store.0.form.packed(&put.meta);
    item.extend(Place::inline(&put.frame.expect("a body")).attributes(&put.meta));
    item
}

#[tokio::test]
async fn what_is_left_of_a_batch_is_asked_for_again() {
    let (template, _) = answered(&[], 1000);
    let sizes: &'static Mutex<Vec<usize>> = Box::leak(Box::default());
    // Of each request, a third is answered.
    let rule = mock!(Client::batch_get_item).then_compute_output(move |request| {
        let asked = asked(request);
        sizes.lock().expect("unpoisoned").push(asked.len());
        let (now, later) = asked.split_at(asked.len().div_ceil(3));
        let found = now.iter().map(|key| head(&template, key)).collect();
        let answer = BatchGetItemOutput::builder().responses(TABLE, found);
        if later.is_empty() { answer.build() } else { answer.unprocessed_keys(TABLE, left(later)).build() }
    });
    let (store, metrics) = answered(&[&rule], 10_000);
    let keys = keys(150);
    let metas = store.get_metas(&keys).await.expect("metas");
    assert!(keys.iter().zip(&metas).all(|(key, meta)| meta.as_ref().is_some_and(|meta| meta.key == *key)));
    let sizes = sizes.lock().expect("unpoisoned");
    assert_eq!(sizes.iter().filter(|size| [100, 50].contains(size)).count(), 2, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
    let counted = metrics.dynamodb_unprocessed.with_label_values(&["results"]).get();
    let again: usize = sizes.iter().sum::<usize>() - 150;
    assert_eq!(counted, again as u64);
}

#[tokio::test]
async fn a_batch_that_gets_nowhere_ends_at_its_deadline() {
    let rule = mock!(Client::batch_get_item).then_compute_output(|request| {
        BatchGetItemOutput::builder().unprocessed_keys(TABLE, left(&asked(request))).build()
    });
    let (store, metrics) = answered(&[&rule], 500);
    let error = store.get_metas(&keys(3)).await.expect_err("throttled");
    assert!(matches!(error, Error::Throttled { .. }), "{error}");
    assert!(rule.num_calls() > 2, "{} tries", rule.num_calls());
    assert!(metrics.dynamodb_unprocessed.with_label_values(&["results"]).get() > 6);
}

#[tokio::test]
async fn of_many_keys_those_are_told_that_dynamodb_answers() {
    let (template, _) = answered(&[], 1000);
    // Of each request every key but one is answered, and that one never.
    let rule = mock!(Client::batch_get_item).then_compute_output(move |request| {
        let asked = asked(request);
        let is_stuck = |key: &&Item| key[URL].as_s().is_ok_and(|url| url.contains("/7"));
        let found = asked.iter().filter(|key| !is_stuck(key)).map(|key| head(&template, key)).collect();
        let stuck: Vec<Item> = asked.iter().filter(is_stuck).cloned().collect();
        let answer = BatchGetItemOutput::builder().responses(TABLE, found);
        if stuck.is_empty() { answer.build() } else { answer.unprocessed_keys(TABLE, left(&stuck)).build() }
    });
    let (store, _) = answered(&[&rule], 300);
    let keys = keys(9);
    let seen = store.survey(&keys).await.expect("in part");
    for (key, seen) in keys.iter().zip(&seen) {
        let is_told = matches!(seen, Seen::Told(Look::Entry(meta)) if meta.key == *key);
        let is_unknown = matches!(seen, Seen::Unknown);
        assert!(if key.url().contains("/7") { is_unknown } else { is_told }, "{}: {seen:?}", key.url());
    }
    assert!(seen.iter().any(|seen| matches!(seen, Seen::Unknown)), "{seen:?}");
    let whole = store.get_metas(&keys).await.expect_err("who needs all of them is told so");
    assert!(matches!(whole, Error::Throttled { .. }), "{whole}");
}

fn too_much() -> ProvisionedThroughputExceededException {
    let code = ErrorMetadata::builder().code("ProvisionedThroughputExceededException").build();
    ProvisionedThroughputExceededException::builder().message("too much").meta(code).build()
}

#[tokio::test]
async fn throttling_is_told_apart() {
    let get = mock!(Client::get_item)
        .then_error(|| GetItemError::ProvisionedThroughputExceededException(too_much()));
    let batch = mock!(Client::batch_get_item)
        .then_error(|| BatchGetItemError::ProvisionedThroughputExceededException(too_much()));
    let update = mock!(Client::update_item)
        .then_error(|| UpdateItemError::ProvisionedThroughputExceededException(too_much()));
    let (store, _) = answered(&[&get, &batch, &update], 500);
    let errors = [
        store.get(&page(), GetOptions::default()).await.map(drop),
        store.get_metas(&[page()]).await.map(drop),
        // Where nothing is told at all that is an error.
        store.survey(&[page()]).await.map(drop),
        store.put(put_now(&page(), "text", 10)).await.map(drop),
        store.status().await.map(drop),
    ];
    for error in errors {
        let error = error.expect_err("throttled");
        assert_eq!(error.reason(), "throttled", "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_of_what_was_met_is_asked() {
    let (template, _) = answered(&[], 1000);
    let unmet = mock!(Client::update_item).then_error(|| {
        UpdateItemError::ConditionalCheckFailedException(ConditionalCheckFailedException::builder().build())
    });
    let get = mock!(Client::get_item).then_compute_output(move |request| {
        assert_eq!(request.consistent_read(), Some(true));
        GetItemOutput::builder().set_item(Some(head(&template, request.key().expect("a key")))).build()
    });
    let (store, _) = answered(&[&unmet, &get], 1000);
    assert_eq!(store.put(put_now(&page(), "older", 5)).await, Ok(PutOutcome::Superseded));
    assert_eq!((unmet.num_calls(), get.num_calls()), (1, 1));
}

#[tokio::test]
async fn a_write_that_others_keep_undoing_gives_up() {
    let (template, _) = answered(&[], 1000);
    let unmet = mock!(Client::update_item).then_error(|| {
        UpdateItemError::ConditionalCheckFailedException(ConditionalCheckFailedException::builder().build())
    });
    let replaced = mock!(Client::put_item).then_error(|| {
        aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(
            ConditionalCheckFailedException::builder().build(),
        )
    });
    let get = mock!(Client::get_item).then_compute_output(move |request| {
        GetItemOutput::builder().set_item(Some(head(&template, request.key().expect("a key")))).build()
    });
    let (store, _) = answered(&[&unmet, &replaced, &get], 2000);
    let error = store.put(put_now(&page(), "newer", 20)).await.expect_err("contended");
    assert!(matches!(&error, Error::Overloaded { detail, .. } if detail.contains("contended")), "{error}");
    assert!((2..=16).contains(&replaced.num_calls()), "{} tries", replaced.num_calls());
}
