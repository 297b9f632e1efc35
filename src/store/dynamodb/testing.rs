//! DynamoDB Local for tests: where it is, and tables of one's own on it.

#![expect(
    clippy::disallowed_methods,
    reason = "tests learn from the environment what the test script has started"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_smithy_mocks::{MockResponseInterceptor, Rule, RuleMode, create_mock_http_client};

pub(crate) use super::sessions::testing::{SessionsTable, Shape as SessionsShape};
use super::{Aws, Table, Tables};
use crate::config::{self, Config};
use crate::metrics::Metrics;

/// The settings for tables that no other test has, or nothing where DynamoDB Local is not running.
///
/// # Panics
/// Where it is not running although `TEST_REQUIRE_DYNAMODB` or `TEST_REQUIRE_ALL` says that it is.
pub(crate) fn settings() -> Option<config::Dynamodb> {
    settings_at("TEST_DYNAMODB_ENDPOINT")
}

/// As [`settings`], at the DynamoDB Local where no other test deletes tables meanwhile: it would forget to finish an
/// index that is being added.
pub(super) fn settings_for_indexes() -> Option<config::Dynamodb> {
    settings_at("TEST_DYNAMODB_INDEX_ENDPOINT")
}

fn settings_at(variable: &str) -> Option<config::Dynamodb> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let Ok(endpoint) = std::env::var(variable) else {
        let required = ["TEST_REQUIRE_DYNAMODB", "TEST_REQUIRE_ALL"].map(std::env::var_os);
        assert!(required.iter().all(Option::is_none), "{variable} is not set");
        eprintln!("skipped: start DynamoDB Local with `eval \"$(scripts/test-services start)\"`");
        return None;
    };
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let table_prefix = format!("t{}-{number}-", std::process::id());
    // Many tests share few cores: what is slow is not late.
    let (attempt_millis, operation_millis) = (30_000, 60_000);
    let defaults = Config::default().dynamodb;
    Some(config::Dynamodb { endpoint, table_prefix, attempt_millis, operation_millis, ..defaults })
}

/// A connection to it.
pub(crate) async fn connect(settings: &config::Dynamodb) -> Aws {
    Aws::connect(settings, &Config::default().s3, &Metrics::new()).await
}

/// A connection to it and to a bucket of which nobody else uses the prefix; nothing where no such server is running.
///
/// # Panics
/// Where it is not running although `TEST_REQUIRE_ALL` says that it is.
pub(crate) async fn connect_with_bucket(settings: &config::Dynamodb) -> Option<(Aws, config::S3)> {
    let (s3, credentials) = bucket_settings()?;
    Some((Aws::with_bucket_credentials(settings, &s3, credentials, &Metrics::new()).await, s3))
}

/// A bucket of which nobody else uses the prefix, and a client for it; nothing where no such server is running.
pub(crate) fn bucket() -> Option<(config::S3, aws_sdk_s3::Client)> {
    let (settings, credentials) = bucket_settings()?;
    let client = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(&settings.endpoint)
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        .build();
    Some((settings, aws_sdk_s3::Client::from_conf(client)))
}

fn bucket_settings() -> Option<(config::S3, Credentials)> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let variable = |name: &str| std::env::var(name).ok();
    let Some(endpoint) = variable("TEST_S3_ENDPOINT") else {
        let required = ["TEST_REQUIRE_DYNAMODB", "TEST_REQUIRE_ALL"].map(std::env::var_os);
        assert!(required.iter().all(Option::is_none), "TEST_S3_ENDPOINT is not set");
        eprintln!("skipped: start a server for buckets with `eval \"$(scripts/test-services start)\"`");
        return None;
    };
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let settings = config::S3 {
        bucket: variable("TEST_S3_BUCKET")?,
        prefix: format!("t{}-{number}/", std::process::id()),
        endpoint,
        region: variable("TEST_S3_REGION")?,
        path_style: true,
        ..Config::default().s3
    };
    let (access, secret) = (variable("TEST_S3_ACCESS_KEY")?, variable("TEST_S3_SECRET_KEY")?);
    Some((settings, Credentials::new(access, secret, None, None, "test")))
}

/// A client that answers by rules, and sends nothing.
pub(crate) fn answering(mode: RuleMode, rules: &[&Rule]) -> Client {
    let empty = MockResponseInterceptor::new().rule_mode(mode);
    let answers = rules.iter().fold(empty, |answers, rule| answers.with_rule(rule));
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(create_mock_http_client())
        .interceptor(answers);
    Client::from_conf(config.build())
}

/// Sets an attribute of a result's item past the service, as somebody with a console would.
pub(crate) async fn spoil(
    aws: &Aws,
    settings: &config::Dynamodb,
    key: &crate::domain::Key,
    attribute: &str,
    value: Spoil,
) {
    let value = match value {
        Spoil::Text(value) => super::item::text(value),
        Spoil::Bytes(value) => super::item::binary(value),
        Spoil::Flag(value) => aws_sdk_dynamodb::types::AttributeValue::Bool(value),
    };
    let request = aws
        .dynamodb()
        .update_item()
        .table_name(settings.results_table())
        .key("url", super::item::text(key.url()))
        .update_expression("SET #a = :v")
        .expression_attribute_names("#a", attribute)
        .expression_attribute_values(":v", value);
    aws.call(request.send()).await.expect("an update");
}

/// What [`spoil`] sets.
#[derive(Debug)]
pub(crate) enum Spoil {
    Text(String),
    Bytes(Vec<u8>),
    Flag(bool),
}

/// Tables with both indexes of results, for as long as this is held.
pub(crate) struct ResultsTable(config::Dynamodb);

impl ResultsTable {
    /// Makes the tables that the settings name.
    pub(crate) async fn make(aws: &Aws, settings: &config::Dynamodb) -> Self {
        let settings = config::Dynamodb { host_index: true, ..settings.clone() };
        let tables = Tables::new(aws.clone(), &settings);
        Box::pin(tables.create_missing()).await.expect("tables");
        Self(settings)
    }
}

impl Drop for ResultsTable {
    fn drop(&mut self) {
        // The connections of a test end with its runtime, which waits here.
        let settings = self.0.clone();
        let delete = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let tables = Tables::new(connect(&settings).await, &settings);
                tables.delete(Table::Results).await.is_ok() && tables.delete(Table::Sessions).await.is_ok()
            })
        });
        let deleted = delete.join().unwrap_or(false);
        assert!(deleted || std::thread::panicking(), "a table of a test stays behind");
    }
}
