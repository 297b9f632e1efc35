//! Whether there are credentials, whether anybody answers, how fast, and what time it is there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::store::dynamodb::failure::{Failure, Kind};
use crate::store::dynamodb::{Aws, BACKEND, connect};
use crate::store::{Error, Result, chain};

/// The source of credentials that are none, for an endpoint on this host.
pub const LOOPBACK: &str = connect::LOOPBACK;

/// Who asks. No secret is among this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where the credentials come from, such as `EnvironmentVariable`.
    pub source: String,
    /// The public half of the key.
    pub access_key_id: String,
    /// When they end, if they do.
    pub expires_at: Option<Timestamp>,
}

/// Finds the credentials that requests will be signed with.
///
/// # Errors
/// [`Error::Credentials`], with what was tried.
pub async fn identity(aws: &Aws) -> Result<Identity> {
    let none = |detail: String| Error::Credentials { backend: BACKEND, detail };
    let Some(provider) = aws.credentials() else { return Err(none("there are none".to_owned())) };
    let found = tokio::time::timeout(aws.operation_timeout(), provider.provide_credentials()).await;
    let credentials = found
        .map_err(|_| none("no source of credentials answered in time".to_owned()))?
        .map_err(|error| none(chain(&error)))?;
    let since_1970 = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).ok();
    let seconds = credentials.expiry().and_then(since_1970).map(|span| span.as_secs());
    // The name of the source has no getter; its debug form says it and hides the secret.
    let shown = format!("{credentials:?}");
    let source = shown.split("provider_name: \"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(Identity {
        source: source.unwrap_or("an unknown source").to_owned(),
        access_key_id: credentials.access_key_id().to_owned(),
        expires_at: seconds.map(Timestamp::from_secs),
    })
}

/// What came of one request.
#[derive(Clone, Debug)]
pub struct Contact {
    /// From the request to its answer, tries included.
    pub latency: Duration,
    /// How many seconds the service's clock is ahead of this one; negative when it is behind. Whole seconds, as the
    /// answer tells them. `None` without an answer.
    pub clock_ahead_seconds: Option<i64>,
    /// What is wrong with whom the request was sent to or by; `None` also where only the table is missing.
    pub error: Option<Error>,
}

/// Asks for a table, to see who answers.
pub async fn contact(aws: &Aws, table: &str, clock: &Clock) -> Contact {
    let date = SeenDate::new(clock.clone());
    let begun = Instant::now();
    let request = aws.dynamodb().describe_table().table_name(table).customize().interceptor(date.clone());
    let answer: std::result::Result<_, Failure> = aws.call(request.send()).await;
    let error = match answer {
        Ok(_) => None,
        Err(failure) if failure.kind == Kind::MissingTable => None,
        Err(failure) => Some(failure.into()),
    };
    Contact { latency: begun.elapsed(), clock_ahead_seconds: date.ahead_seconds(), error }
}

/// Keeps how far the `Date` of the last answer is from the own clock: even an error has one.
#[derive(Clone, Debug)]
struct SeenDate {
    clock: Clock,
    ahead: Arc<Mutex<Option<i64>>>,
}

impl SeenDate {
    fn new(clock: Clock) -> Self {
        Self { clock, ahead: Arc::default() }
    }

    fn ahead_seconds(&self) -> Option<i64> {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for SeenDate {
    fn name(&self) -> &'static str {
        "SeenDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let date =
            context.response().headers().get("date").and_then(|date| httpdate::parse_http_date(date).ok());
        let since_1970 = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        if let Some(theirs) = since_1970.and_then(|span| i64::try_from(span.as_secs()).ok()) {
            let own = i64::try_from(self.clock.now().as_secs()).unwrap_or(i64::MAX);
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(theirs - own);
        }
        Ok(())
    }
}
