//! Tables that are missing, other ones, or without indexes; batches that are left over; throttling.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableOutput;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, KeySchemaElement, KeyType, KeysAndAttributes, ScalarAttributeType, TableDescription,
};
use aws_sdk_dynamodb::{Client, Config as ClientConfig};
use aws_smithy_mocks::{MockResponseInterceptor, Rule, RuleMode, mock};

use super::super::super::item::text;
use super::super::testing::{SessionsTable, Shape, item};
use super::super::{Aws, DynamodbSessions};
use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::{Error, SessionFilter, SessionQuery};

fn of_project() -> SessionQuery {
    let filter = SessionFilter::Project {
        project_id: "p".to_owned(),
        created_after: None,
        created_before: None,
        status: None,
        ascending: false,
    };
    SessionQuery { namespace: Namespace::default(), filter, live_at: None, limit: 10, after: None }
}

#[tokio::test]
async fn a_table_with_other_keys() {
    let Some(table) = SessionsTable::make(Shape::Other).await else { return };
    let refused = table.store.get(&Namespace::default(), &id("s")).await.expect_err("another table");
    let Error::WrongSchema { detail, .. } = &refused else { panic!("{refused}") };
    assert!(
        detail.contains(&table.name) && detail.contains("`pk` S, `sk` S") && detail.contains("`session_id`")
    );
}

#[tokio::test]
async fn a_missing_table_may_come() {
    let Some(table) = SessionsTable::make(Shape::Own).await else { return };
    let elsewhere = table.reopened(|config| config.dynamodb.sessions_table = "none".to_owned());
    for _ in 0..2 {
        let refused = elsewhere.get(&Namespace::default(), &id("s")).await.expect_err("no table");
        assert!(
            matches!(&refused, Error::MissingTable { detail, .. } if detail.contains("tables create")),
            "{refused}"
        );
    }
    assert!(elsewhere.status().await.is_err());
    assert_eq!(table.store.status().await.expect("a status").sessions, 0);
    assert!(table.store.to_string().starts_with(&format!("dynamodb {} at http://127.0.0.1:", table.name)));
    assert!(format!("{:?}", table.store).contains(&table.name));
}

#[tokio::test]
async fn listing_needs_an_index() {
    let Some(table) = SessionsTable::make(Shape::Crawl4ai).await else { return };
    store_any(&table.store, session("s", 10)).await;
    assert_eq!(get(&table.store, "s").await, session("s", 10));
    let refused = table.store.list(&of_project()).await.expect_err("no index");
    let Error::Unsupported { detail, .. } = &refused else { panic!("{refused}") };
    assert!(
        detail.contains("project-index") && detail.contains("crawlcache tables create --update"),
        "{detail}"
    );
}

#[tokio::test]
async fn wallcrawlers_tables_have_one_namespace() {
    let Some(table) = SessionsTable::make(Shape::WallcrawlerText).await else { return };
    let namespace = Namespace::new("b").expect("a name");
    let refused = [
        table.store.get(&namespace, &id("s")).await.expect_err("refused"),
        table.store.list(&SessionQuery { namespace, ..of_project() }).await.expect_err("refused"),
    ];
    assert!(refused.iter().all(|error| matches!(error, Error::Unsupported { .. })), "{refused:?}");
}

/// A store whose service answers by rules, and fails where there is none: an operation that is not among the rules
/// has not been sent.
fn mocked(rules: &[Rule], operation: Duration) -> (DynamodbSessions, Metrics) {
    let mut interceptor = MockResponseInterceptor::new().rule_mode(RuleMode::MatchAny);
    for rule in rules {
        interceptor = interceptor.with_rule(rule);
    }
    let client = ClientConfig::builder()
        .behavior_version_latest()
        .region(aws_config::Region::from_static("us-east-1"))
        .credentials_provider(aws_credential_types::Credentials::new("a", "b", None, None, "test"))
        .http_client(aws_smithy_mocks::create_mock_http_client())
        .interceptor(interceptor)
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .build();
    let mut config = Config::default();
    config.dynamodb.operation_millis = u64::try_from(operation.as_millis()).expect("short");
    let metrics = Metrics::new();
    let aws = Aws::with_client(Client::from_conf(client), &config.dynamodb, &metrics);
    (DynamodbSessions::new(aws, &config, &Clock::manual(NOW), &metrics), metrics)
}

fn described() -> Rule {
    let key = KeySchemaElement::builder().attribute_name("session_id").key_type(KeyType::Hash).build();
    let kind = AttributeDefinition::builder()
        .attribute_name("session_id")
        .attribute_type(ScalarAttributeType::S)
        .build();
    let table = TableDescription::builder()
        .key_schema(key.expect("complete"))
        .attribute_definitions(kind.expect("complete"))
        .build();
    mock!(Client::describe_table)
        .then_output(move || DescribeTableOutput::builder().table(table.clone()).build())
}

fn left_over(keys: &[&str]) -> HashMap<String, KeysAndAttributes> {
    if keys.is_empty() {
        return HashMap::new();
    }
    let keys = keys.iter().map(|key| item([("session_id", text(*key))])).collect();
    let keys = KeysAndAttributes::builder().set_keys(Some(keys)).build().expect("complete");
    HashMap::from([("crawl4ai-sessions".to_owned(), keys)])
}

fn answered(found: &[&str], left: &[&str]) -> BatchGetItemOutput {
    let found = found.iter().map(|key| item([("session_id", text(*key)), ("state", text(*key))])).collect();
    BatchGetItemOutput::builder()
        .responses("crawl4ai-sessions", found)
        .set_unprocessed_keys(Some(left_over(left)))
        .build()
}

#[tokio::test]
async fn what_a_batch_leaves_over_is_asked_for_again() {
    let batches = mock!(Client::batch_get_item)
        .sequence()
        .output(|| answered(&["a"], &["b", "c"]))
        .output(|| answered(&[], &["b", "c"]))
        .output(|| answered(&["c"], &[]))
        .build();
    let (store, metrics) = mocked(&[described(), batches.clone()], Duration::from_secs(10));
    let found = store.get_many(&Namespace::default(), &["c", "b", "a"].map(id)).await.expect("found");
    let name = |one: crate::store::Found| one.expect("readable").map(|record| record.session.id.to_string());
    let ids = found.into_iter().map(name);
    assert_eq!(ids.collect::<Vec<_>>(), [Some("c".to_owned()), None, Some("a".to_owned())]);
    assert_eq!(batches.num_calls(), 3);
    let text = metrics.render().expect("renders");
    assert!(text.contains(r#"dynamodb_unprocessed_keys_total{table="sessions"} 4"#), "{text}");
}

#[tokio::test]
async fn a_batch_ends_when_an_operation_must() {
    let batches = mock!(Client::batch_get_item).then_output(|| answered(&[], &["a"]));
    let (store, _) = mocked(&[described(), batches], Duration::from_millis(200));
    let refused = store.get_many(&Namespace::default(), &[id("a")]).await.expect_err("always left over");
    assert!(matches!(refused, Error::Throttled { .. }), "{refused}");
}

#[tokio::test]
async fn throttling_is_told() {
    let gets = mock!(Client::get_item).then_error(|| {
        let meta = aws_sdk_dynamodb::error::ErrorMetadata::builder()
            .code("ThrottlingException")
            .message("slow down");
        GetItemError::generic(meta.build())
    });
    let (store, _) = mocked(&[described(), gets], Duration::from_secs(10));
    let refused = store.get(&Namespace::default(), &id("s")).await.expect_err("throttled");
    assert!(matches!(&refused, Error::Throttled { detail, .. } if detail.contains("slow down")), "{refused}");
}
