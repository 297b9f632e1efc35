//! What requests say about leases, and how answers name them.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

use crate::api::caller::Reader;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::Timestamp;
use crate::domain::lease::{Lease, LeaseToken};

/// Names a lease: on an answer the one that was granted, on a write the one that it is done under.
pub(super) const LEASE: HeaderName = HeaderName::from_static("crawlcache-lease");

/// When the lease that was granted runs out.
pub(super) const LEASE_EXPIRES: HeaderName = HeaderName::from_static("crawlcache-lease-expires");

/// For how long a lease is wanted, and for how long another's may be waited for.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct WantedLease {
    pub(super) seconds: u64,
    pub(super) wait: Duration,
}

impl WantedLease {
    /// Reads `lease` and `wait`; none where no lease is asked for. Who asks for one must be allowed to write.
    pub(in crate::api) fn of(
        api: &Api,
        caller: &Reader,
        lease: Option<u64>,
        wait: Option<u64>,
    ) -> Result<Option<Self>> {
        let Some(seconds) = lease else {
            return match wait {
                Some(_) => {
                    Err(Problem::parameter("wait", "it says how long to wait for a `lease`; give both"))
                }
                None => Ok(None),
            };
        };
        caller.check_writes(api)?;
        let seconds = duration(api, "lease", Some(seconds))?;
        Ok(Some(Self { seconds, wait: waiting(api, wait)? }))
    }
}

/// How long a lease is to last, in seconds.
pub(super) fn duration(api: &Api, parameter: &str, seconds: Option<u64>) -> Result<u64> {
    let settings = &api.config.leases;
    crate::api::params::bounded(parameter, seconds, 1..=settings.max_seconds, settings.seconds)
}

/// How long to wait for another holder.
pub(super) fn waiting(api: &Api, seconds: Option<u64>) -> Result<Duration> {
    let most = api.config.leases.max_wait_seconds;
    crate::api::params::bounded("wait", seconds, 0..=most, 0).map(Duration::from_secs)
}

/// Reads a token.
pub(in crate::api) fn token(text: &str) -> Result<LeaseToken> {
    text.parse().map_err(|error: crate::domain::lease::LeaseTokenError| {
        Problem::new("invalid_lease", error.to_string())
    })
}

/// The lease that a write names in its head.
pub(in crate::api) fn named(headers: &HeaderMap) -> Result<Option<LeaseToken>> {
    headers.get(LEASE).map(|value| token(value.to_str().unwrap_or_default())).transpose()
}

/// The token in the path.
#[derive(Debug)]
pub(super) struct PathToken(pub(super) LeaseToken);

impl<S: Send + Sync> FromRequestParts<S> for PathToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is not UTF-8 once decoded is no token either.
        let path = Path::<String>::from_request_parts(parts, state).await;
        token(path.as_deref().map_or("", String::as_str)).map(Self)
    }
}

/// Adds the lease that was granted to an answer, which is then for nobody else.
pub(super) fn name(headers: &mut HeaderMap, lease: &Lease) {
    for (name, text) in [(LEASE, lease.token.to_string()), (LEASE_EXPIRES, lease.until.to_string())] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// What an answer says of a lease that was granted.
pub(super) fn won(lease: &Lease, seconds: u64) -> Map<String, Value> {
    Map::from_iter([
        ("state".to_owned(), json!("won")),
        ("token".to_owned(), json!(lease.token.to_string())),
        ("expires_at".to_owned(), json!(lease.until)),
        ("seconds".to_owned(), json!(seconds)),
    ])
}

/// Says when to come back for a lease that is another's.
pub(super) fn come_back(problem: Problem, held: &Lease, now: Timestamp) -> Problem {
    let seconds = held.until.millis_since(now).div_ceil(1000).max(1);
    problem.header(RETRY_AFTER, &seconds.to_string())
}

/// Says that the page has just been tried, and when a failed result of it is fresh no more, where it is one.
pub(super) fn failed(problem: Problem, left: Option<u64>) -> Problem {
    let problem = problem.with("lease", json!({"state": "failed"}));
    match left {
        Some(seconds) => problem.header(RETRY_AFTER, &seconds.max(1).to_string()),
        None => problem,
    }
}

/// The lease that a write is done under.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described: `named` reads it")]
pub(in crate::api) struct LeaseHeader {
    /// The lease that the page was fetched under. Nothing is stored when another was granted since; what is stored ends
    /// the lease.
    #[param(rename = "Crawlcache-Lease")]
    lease: Option<String>,
}
