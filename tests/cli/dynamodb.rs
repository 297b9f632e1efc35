//! DynamoDB Local for the tests of the binary: tables that no other test has, gone at the end.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::aws::ask;
use crate::host::{Done, command};

/// Where DynamoDB Local is; `None` where it is not running and need not be.
pub(crate) fn endpoint() -> Option<String> {
    endpoint_in("TEST_DYNAMODB_ENDPOINT")
}

#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests learn from the environment what the test script has started"
)]
fn endpoint_in(variable: &str) -> Option<String> {
    if let Ok(endpoint) = std::env::var(variable) {
        return Some(endpoint);
    }
    let required = ["TEST_REQUIRE_DYNAMODB", "TEST_REQUIRE_ALL"].map(std::env::var_os);
    assert!(required.iter().all(Option::is_none), "{variable} is not set");
    eprintln!("skipped: start DynamoDB Local with `eval \"$(scripts/test-services start)\"`");
    None
}

/// Two names of tables, and the endpoint that has them.
pub(crate) struct Local {
    pub(crate) endpoint: String,
    pub(crate) prefix: String,
}

impl Local {
    pub(crate) fn new() -> Option<Self> {
        Some(Self::at(endpoint()?))
    }

    /// Where no other test deletes tables meanwhile: DynamoDB Local would forget to finish an index that is being added.
    pub(crate) fn for_indexes() -> Option<Self> {
        Some(Self::at(endpoint_in("TEST_DYNAMODB_INDEX_ENDPOINT")?))
    }

    fn at(endpoint: String) -> Self {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, prefix: format!("cli{}-{number}-", std::process::id()) }
    }

    pub(crate) fn results(&self) -> String {
        format!("{}crawl4ai-results", self.prefix)
    }

    pub(crate) fn sessions(&self) -> String {
        format!("{}crawl4ai-sessions", self.prefix)
    }

    /// A command on these tables.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command
            .env("DYNAMODB_ENDPOINT", &self.endpoint)
            .env("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", &self.prefix);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().expect("started").into()
    }

    /// Makes a table as others would: its key, and indexes as the JSON of `CreateTable`.
    pub(crate) fn foreign(&self, name: &str, key: &str, attributes: &[(&str, &str)], indexes: &str) {
        let definition = |(name, kind): &(&str, &str)| {
            format!("{{\"AttributeName\":\"{name}\",\"AttributeType\":\"{kind}\"}}")
        };
        let mut all = vec![definition(&(key, "S"))];
        all.extend(attributes.iter().map(definition));
        let indexes =
            if indexes.is_empty() { String::new() } else { format!(",\"GlobalSecondaryIndexes\":{indexes}") };
        let json = format!(
            "{{\"TableName\":\"{name}\",\"BillingMode\":\"PAY_PER_REQUEST\",\"AttributeDefinitions\":[{}],\
             \"KeySchema\":[{{\"AttributeName\":\"{key}\",\"KeyType\":\"HASH\"}}]{indexes}}}",
            all.join(",")
        );
        let answer = ask(&self.endpoint, "CreateTable", &json);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for name in [self.results(), self.sessions()] {
            let protected = format!("{{\"TableName\":\"{name}\",\"DeletionProtectionEnabled\":false}}");
            ask(&self.endpoint, "UpdateTable", &protected);
            ask(&self.endpoint, "DeleteTable", &format!("{{\"TableName\":\"{name}\"}}"));
        }
    }
}
