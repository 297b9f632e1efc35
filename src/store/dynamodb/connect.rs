//! The connection to AWS: clients with our own timeouts and retries, and a bound on requests under way.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementError;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ConsumedCapacity;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_smithy_runtime_api::client::interceptors::context::{Error as AnyError, InterceptorContext};
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answers::ReadItems;
use super::capacity::{Capacity, CountRetries, Operation, Table};
use super::clock_offset::{Ahead, ClockOffset};
use super::failure::Failure;
use crate::config::{self, Checksums};
use crate::metrics::Metrics;

/// The region of a service that has none of its own, and of an account that names none.
const DEFAULT_REGION: &str = "us-east-1";

/// Where the credentials come from that are none.
pub(super) const LOOPBACK: &str = "loopback";

/// Before the first retry. The SDK's own second is longer than most callers wait.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);

/// Before any retry at most.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// The clients and what they share. Clones share everything, the retry budget included.
#[derive(Clone)]
pub struct Aws(Arc<Inner>);

struct Inner {
    dynamodb: aws_sdk_dynamodb::Client,
    /// The client of the bucket for large bodies, where one is configured.
    s3: Option<aws_sdk_s3::Client>,
    /// Requests to DynamoDB that may still be sent.
    turns: Semaphore,
    /// Requests to S3 that may still be sent: those to a bucket that is slow must not keep others from DynamoDB.
    s3_turns: Semaphore,
    operation_timeout: Duration,
    capacity: Capacity,
    clock_offset: ClockOffset,
    place: String,
    credentials: Option<SharedCredentialsProvider>,
}

impl Aws {
    /// Makes the clients. Nothing is asked of the services yet; where no region is configured, the machine may be.
    pub async fn connect(dynamodb: &config::Dynamodb, s3: &config::S3, metrics: &Metrics) -> Self {
        let shared = Box::pin(shared_config(dynamodb)).await;
        let bucket = (!s3.bucket.is_empty()).then(|| s3_client(&shared, s3, metrics));
        Self::with_shared(&shared, dynamodb, bucket, metrics)
    }

    fn with_shared(
        shared: &SdkConfig,
        dynamodb: &config::Dynamodb,
        bucket: Option<aws_sdk_s3::Client>,
        metrics: &Metrics,
    ) -> Self {
        let (capacity, clock_offset) = (Capacity::new(metrics), ClockOffset::new(metrics));
        let region = shared.region().map_or(DEFAULT_REGION, Region::as_ref).to_owned();
        let mut own = aws_sdk_dynamodb::config::Builder::from(shared)
            .timeout_config(timeouts(dynamodb.attempt_timeout(), dynamodb.operation_timeout()))
            .interceptor(CountRetries::new(metrics, "dynamodb"))
            .retry_classifier(Conflicts)
            .interceptor(clock_offset.clone())
            .interceptor(ReadItems);
        if !dynamodb.endpoint.is_empty() {
            own = own.endpoint_url(&dynamodb.endpoint);
        }
        let place = match dynamodb.endpoint.as_str() {
            "" => region,
            endpoint => endpoint.to_owned(),
        };
        let credentials = shared.credentials_provider();
        Self::of(
            aws_sdk_dynamodb::Client::from_conf(own.build()),
            bucket,
            dynamodb,
            capacity,
            clock_offset,
            place,
            credentials,
        )
    }

    fn of(
        dynamodb: aws_sdk_dynamodb::Client,
        s3: Option<aws_sdk_s3::Client>,
        config: &config::Dynamodb,
        capacity: Capacity,
        clock_offset: ClockOffset,
        place: String,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Self {
        Self(Arc::new(Inner {
            dynamodb,
            s3,
            turns: Semaphore::new(config.max_connections),
            s3_turns: Semaphore::new(config.max_connections),
            operation_timeout: config.operation_timeout(),
            capacity,
            clock_offset,
            place,
            credentials,
        }))
    }

    /// One with a client that a test has made, such as one that answers by rules.
    #[cfg(test)]
    pub(crate) fn with_client(
        dynamodb: aws_sdk_dynamodb::Client,
        config: &config::Dynamodb,
        metrics: &Metrics,
    ) -> Self {
        let (capacity, offset) = (Capacity::new(metrics), ClockOffset::new(metrics));
        Self::of(dynamodb, None, config, capacity, offset, "a test".to_owned(), None)
    }

    /// One whose bucket has credentials of its own: DynamoDB Local does not take those of other servers.
    #[cfg(test)]
    pub(crate) async fn with_bucket_credentials(
        dynamodb: &config::Dynamodb,
        s3: &config::S3,
        credentials: Credentials,
        metrics: &Metrics,
    ) -> Self {
        let shared = Box::pin(shared_config(dynamodb)).await;
        let own = SharedCredentialsProvider::new(credentials);
        let for_bucket = shared.clone().into_builder().credentials_provider(own).build();
        Self::with_shared(&shared, dynamodb, Some(s3_client(&for_bucket, s3, metrics)), metrics)
    }

    /// The same with a bucket's client that a test has made.
    #[cfg(test)]
    pub(crate) fn with_bucket(
        self,
        bucket: aws_sdk_s3::Client,
        config: &config::Dynamodb,
        metrics: &Metrics,
    ) -> Self {
        let (place, credentials) = (self.place().to_owned(), self.0.credentials.clone());
        let (capacity, offset) = (Capacity::new(metrics), self.0.clock_offset.clone());
        Self::of(self.dynamodb().clone(), Some(bucket), config, capacity, offset, place, credentials)
    }

    /// The client of DynamoDB. Send what it builds through [`Aws::call`].
    pub(super) fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.0.dynamodb
    }

    /// The client of the bucket, where one is configured. Send what it builds through [`Aws::call_s3`].
    pub(super) fn s3(&self) -> Option<&aws_sdk_s3::Client> {
        self.0.s3.as_ref()
    }

    /// Where requests get what they are signed with.
    pub(super) fn credentials(&self) -> Option<&SharedCredentialsProvider> {
        self.0.credentials.as_ref()
    }

    /// How long an operation may take with all its tries.
    pub(super) fn operation_timeout(&self) -> Duration {
        self.0.operation_timeout
    }

    /// How far DynamoDB's clock is ahead of this host's; nothing before the first answer that tells a time.
    pub(super) fn clock_ahead(&self) -> Option<Ahead> {
        self.0.clock_offset.get()
    }

    /// The endpoint, or the region where that is AWS itself.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Sends a request to DynamoDB when it is its turn, and sorts what may go wrong by condition.
    pub(super) async fn call<T, E>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let _turn = self.turn(&self.0.turns).await?;
        request.await.map_err(|error| Failure::of(&error))
    }

    /// As [`Aws::call`], to S3.
    pub(super) async fn call_s3<T, E>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let _turn = self.turn(&self.0.s3_turns).await.map_err(Failure::of_s3)?;
        request.await.map_err(|error| Failure::of_s3(Failure::of(&error)))
    }

    /// The turn of one more request.
    async fn turn<'t>(&self, turns: &'t Semaphore) -> Result<SemaphorePermit<'t>, Failure> {
        match tokio::time::timeout(self.0.operation_timeout, turns.acquire()).await {
            Ok(turn) => Ok(turn.expect("the semaphore is never closed")),
            Err(_) => Err(Failure::no_turn()),
        }
    }

    /// Counts what a request has consumed.
    pub(super) fn count<'c>(
        &self,
        table: Table,
        operation: Operation,
        consumed: impl IntoIterator<Item = &'c ConsumedCapacity>,
    ) {
        self.0.capacity.count(table, operation, consumed);
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("place", &self.0.place).finish_non_exhaustive()
    }
}

/// Credentials, region, retries: what the clients have in common. The SDK keeps one budget of retries a service.
async fn shared_config(dynamodb: &config::Dynamodb) -> SdkConfig {
    let given = (!dynamodb.region.is_empty()).then(|| Region::new(dynamodb.region.clone()));
    let is_local = is_loopback(&dynamodb.endpoint);
    let retries = RetryConfig::standard()
        .with_max_attempts(dynamodb.max_retries + 1)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(LONGEST_BACKOFF);
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).retry_config(retries);
    if is_local {
        // Asking the machine for its region and credentials would take seconds where there is no AWS.
        let region = given.unwrap_or_else(|| Region::from_static(DEFAULT_REGION));
        return loader.region(region).credentials_provider(EnvironmentOrDummy::default()).load().await;
    }
    let region = RegionProviderChain::first_try(given)
        .or_default_provider()
        .or_else(Region::from_static(DEFAULT_REGION));
    loader.region(region).load().await
}

fn s3_client(shared: &SdkConfig, s3: &config::S3, metrics: &Metrics) -> aws_sdk_s3::Client {
    let checksums = match s3.checksums {
        Checksums::Always => RequestChecksumCalculation::WhenSupported,
        Checksums::WhenRequired => RequestChecksumCalculation::WhenRequired,
    };
    let mut own = aws_sdk_s3::config::Builder::from(shared)
        .timeout_config(timeouts(s3.attempt_timeout(), s3.operation_timeout()))
        .interceptor(CountRetries::new(metrics, "s3"))
        .request_checksum_calculation(checksums)
        .force_path_style(s3.path_style);
    if !s3.region.is_empty() {
        own = own.region(Region::new(s3.region.clone()));
    }
    if !s3.endpoint.is_empty() {
        own = own.endpoint_url(&s3.endpoint);
    }
    aws_sdk_s3::Client::from_conf(own.build())
}

/// Has a write tried again that another's transaction is in the way of: it ends, and the SDK gives up at once.
#[derive(Debug)]
struct Conflicts;

impl ClassifyRetry for Conflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else { return RetryAction::NoActionIndicated };
        match error.as_operation_error().and_then(written) {
            Some("TransactionConflictException" | "ReplicatedWriteConflictException") => {
                RetryAction::transient_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "Conflicts"
    }
}

/// The code of an error of a request that writes.
fn written(error: &AnyError) -> Option<&str> {
    fn code<E>(error: &AnyError) -> Option<&str>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        error.downcast_ref::<E>().and_then(E::code)
    }
    code::<PutItemError>(error)
        .or_else(|| code::<UpdateItemError>(error))
        .or_else(|| code::<DeleteItemError>(error))
        .or_else(|| code::<BatchWriteItemError>(error))
        .or_else(|| code::<BatchExecuteStatementError>(error))
}

/// The SDK bounds only the time to connect.
fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

fn is_loopback(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

/// Those of the environment, or a pair that DynamoDB Local takes like any other.
#[derive(Debug, Default)]
struct EnvironmentOrDummy(aws_config::environment::EnvironmentVariableCredentialsProvider);

impl ProvideCredentials for EnvironmentOrDummy {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            match self.0.provide_credentials().await {
                Err(provider::error::CredentialsError::CredentialsNotLoaded(_)) => {
                    Ok(Credentials::new("dummy", "dummy", None, None, LOOPBACK))
                }
                found => found,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_endpoints() {
        for (endpoint, local) in [
            ("http://localhost:8000", true),
            ("http://127.0.0.1:8000", true),
            ("http://[::1]:8000", true),
            ("http://dynamodb-local:8000", false),
            ("https://dynamodb.eu-west-1.amazonaws.com", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(endpoint), local, "{endpoint}");
        }
    }
}
