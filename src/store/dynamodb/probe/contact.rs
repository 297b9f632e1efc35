//! Whether there are credentials, whether anybody answers, how fast, and what time it is there.

use std::time::{Duration, Instant};

use aws_credential_types::provider::ProvideCredentials;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::store::dynamodb::failure::{Failure, Kind};
use crate::store::dynamodb::{Ahead, Aws, BACKEND, connect};
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

/// As many requests find out how late it is there: each halves what is not known.
const MOST_REQUESTS: usize = 6;

/// What is known of the clock well enough, in milliseconds in either direction.
const FINE_MILLIS: i64 = 25;

/// What came of a few requests.
#[derive(Clone, Debug)]
pub struct Contact {
    /// From the first request to its answer, tries included.
    pub latency: Duration,
    /// How far the service's clock is ahead of this one. `None` without an answer that tells a time.
    pub clock_ahead: Option<Ahead>,
    /// What is wrong with whom the request was sent to or by; `None` also where only the table is missing.
    pub error: Option<Error>,
}

/// Asks for a table, to see who answers and how late it is there.
pub async fn contact(aws: &Aws, table: &str, clock: &Clock) -> Contact {
    let (latency, error) = ask(aws, table).await;
    if error.is_none() {
        for _ in 1..MOST_REQUESTS {
            let Some(ahead) = aws.clock_ahead().filter(|ahead| ahead.uncertainty_millis() > FINE_MILLIS)
            else {
                break;
            };
            // The most is learned from a request that is there just when their second is expected to end.
            let there = i64::try_from(clock.now().as_millis()).unwrap_or_default() + ahead.millis();
            let arrival = there + i64::try_from(latency.as_millis() / 2).unwrap_or_default();
            let left = u64::try_from(1000 - arrival.rem_euclid(1000)).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(left)).await;
            ask(aws, table).await;
        }
    }
    Contact { latency, clock_ahead: aws.clock_ahead(), error }
}

async fn ask(aws: &Aws, table: &str) -> (Duration, Option<Error>) {
    let begun = Instant::now();
    let request = aws.dynamodb().describe_table().table_name(table);
    let answer: std::result::Result<_, Failure> = aws.call(request.send()).await;
    let error = match answer {
        Ok(_) => None,
        Err(failure) if failure.kind == Kind::MissingTable => None,
        Err(failure) => Some(failure.into()),
    };
    (begun.elapsed(), error)
}
