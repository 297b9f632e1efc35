//! DynamoDB Local for tests: where it is, and tables of one's own on it.

#![expect(
    clippy::disallowed_methods,
    reason = "tests learn from the environment what the test script has started"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use super::Aws;
use crate::config::{self, Config};
use crate::metrics::Metrics;

/// The settings for tables that no other test has, or nothing where DynamoDB Local is not running.
///
/// # Panics
/// Where it is not running although `TEST_REQUIRE_DYNAMODB` or `TEST_REQUIRE_ALL` says that it is.
pub(crate) fn settings() -> Option<config::Dynamodb> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let Ok(endpoint) = std::env::var("TEST_DYNAMODB_ENDPOINT") else {
        let required = ["TEST_REQUIRE_DYNAMODB", "TEST_REQUIRE_ALL"].map(std::env::var_os);
        assert!(required.iter().all(Option::is_none), "TEST_DYNAMODB_ENDPOINT is not set");
        eprintln!("skipped: start DynamoDB Local with `eval \"$(scripts/test-services start)\"`");
        return None;
    };
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let table_prefix = format!("t{}-{number}-", std::process::id());
    Some(config::Dynamodb { endpoint, table_prefix, ..Config::default().dynamodb })
}

/// A connection to it.
pub(crate) async fn connect(settings: &config::Dynamodb) -> Aws {
    Aws::connect(settings, &Config::default().s3, &Metrics::new()).await
}
