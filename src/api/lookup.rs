//! Judges what was found: the one place where a look-up becomes a hit or a miss, and is counted.

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, LAST_MODIFIED, VARY};
use itoa::Buffer;

use super::negotiate::etag_header;
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::document::Coding;
use crate::domain::{Freshness, FreshnessLimits, Key, Meta, MissReason, Timestamp};
use crate::store::{GetOptions, Hit, ListFilter, ListQuery, Source, Via};

pub(super) const CACHE_STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");
const ORIGIN_ETAG: http::HeaderName = http::HeaderName::from_static("crawlcache-origin-etag");
const ORIGIN_LAST_MODIFIED: http::HeaderName =
    http::HeaderName::from_static("crawlcache-origin-last-modified");
const HEAD_FINGERPRINT: http::HeaderName = http::HeaderName::from_static("crawlcache-head-fingerprint");

/// What the caller accepts as an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted {
    pub(super) limits: FreshnessLimits,
    /// Fields that must be there and not blank.
    pub(super) require: Vec<String>,
}

impl Accepted {
    /// Reads `max_age`, `stale` and `require`.
    pub(super) fn new(max_age: Option<u64>, stale: Option<u64>, require: Option<&str>) -> Result<Self> {
        let limits = FreshnessLimits { max_age, stale: stale.unwrap_or(0) };
        Ok(Self { limits, require: super::params::names("require", require)?.unwrap_or_default() })
    }

    /// Whether an entry is an answer, or why not.
    pub(super) fn judge(&self, meta: &Meta, now: Timestamp) -> std::result::Result<Freshness, MissReason> {
        let freshness = Freshness::of(meta, now);
        freshness.check(self.limits)?;
        if self.require.iter().all(|name| meta.layout.has(name)) {
            Ok(freshness)
        } else {
            Err(MissReason::FieldMissing)
        }
    }
}

/// An entry that may answer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) hit: Hit,
    pub(super) freshness: Freshness,
}

/// Why there is no answer, and how what there is stands.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) reason: MissReason,
    pub(super) freshness: Option<Freshness>,
}

/// Finds and judges an entry, and counts the look-up under `op`.
pub(super) async fn find(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
    op: &str,
) -> Result<std::result::Result<Found, Missed>> {
    let found = api.results.get(key, options).await.inspect_err(|_| count(api, op, "error"))?;
    let now = api.clock.now();
    let outcome = match found {
        None => {
            let reason =
                if has_variants(api, key, now).await { MissReason::Variant } else { MissReason::Absent };
            Err(Missed { reason, freshness: None })
        }
        Some(hit) => match accepted.judge(&hit.entry.meta, now) {
            Ok(freshness) => Ok(Found { hit, freshness }),
            Err(reason) if hit.via == Via::Fallback => {
                count(api, op, "error");
                return Err(unreachable_owner(reason));
            }
            Err(reason) => Err(Missed { reason, freshness: Some(Freshness::of(&hit.entry.meta, now)) }),
        },
    };
    count_outcome(api, op, &outcome);
    Ok(outcome)
}

/// The owner, which cannot be reached, may have what the other side has only in part or of old.
fn unreachable_owner(reason: MissReason) -> Problem {
    let detail = match reason {
        MissReason::Expired => {
            "the store that owns the result cannot be reached, and what the other one has of it has expired; \
             `stale=` seconds past expiry can be accepted"
        }
        MissReason::TooOld => {
            "the store that owns the result cannot be reached, and what the other one has is older than `max_age`"
        }
        _ => {
            "the store that owns the result cannot be reached, and what the other one has lacks a required field"
        }
    };
    Problem::new("unavailable", detail).with("reason", reason.as_str())
}

/// Whether the url is there under other variants. An error is no reason to fail what is a miss anyway.
async fn has_variants(api: &Api, key: &Key, now: Timestamp) -> bool {
    if !api.results.finds_variants() {
        return false;
    }
    let filter = ListFilter::Url(key.url().to_owned());
    let query = ListQuery { filter, live_at: Some(now), ..ListQuery::all(key.namespace(), 1) };
    api.results.list(&query).await.is_ok_and(|page| !page.items.is_empty())
}

fn count(api: &Api, op: &str, result: &str) {
    api.metrics.lookups.with_label_values(&[op, result]).inc();
}

fn count_outcome(api: &Api, op: &str, outcome: &std::result::Result<Found, Missed>) {
    match outcome {
        Ok(found) => {
            count(api, op, result_of(&found.hit, found.freshness));
            observe_age(api, op, found.freshness);
        }
        Err(missed) => count_miss(api, op, missed.reason),
    }
}

/// Notes the age of what was served.
#[expect(clippy::cast_precision_loss, reason = "ages are far below 2^52 seconds")]
pub(super) fn observe_age(api: &Api, op: &str, freshness: Freshness) {
    api.metrics.served_age.with_label_values(&[op]).observe(freshness.age as f64);
}

fn result_of(hit: &Hit, freshness: Freshness) -> &'static str {
    match hit.source {
        _ if freshness.is_stale() => "stale",
        Source::Memory => "hit_memory",
        Source::Sqlite => "hit_sqlite",
        Source::Dynamodb => "hit_dynamodb",
    }
}

/// Counts a look-up that came to nothing.
pub(super) fn count_miss(api: &Api, op: &str, reason: MissReason) {
    count(
        api,
        op,
        match reason {
            MissReason::Absent => "miss_absent",
            MissReason::Expired => "miss_expired",
            MissReason::TooOld => "miss_too_old",
            MissReason::FieldMissing => "miss_field",
            MissReason::Variant => "miss_variant",
        },
    );
}

/// Counts a look-up that only asked for the state.
pub(super) fn count_state(api: &Api, result: &'static str) {
    count(api, "lookup", result);
}

impl Missed {
    /// The 404 that says why.
    pub(super) fn problem(&self, key: &Key) -> Problem {
        let detail = match self.reason {
            MissReason::Absent => "nothing is stored for this url",
            MissReason::Expired => "what is stored has expired; `stale=` seconds past expiry can be accepted",
            MissReason::TooOld => "what is stored is older than `max_age`",
            MissReason::FieldMissing => "what is stored lacks a required field",
            MissReason::Variant => {
                "the url is stored under other variants only; list them with /v1/results?url="
            }
        };
        // RFC 9211 section 2.2.
        let forward = match self.reason {
            MissReason::Absent => "uri-miss",
            MissReason::Variant => "vary-miss",
            MissReason::Expired => "stale",
            MissReason::TooOld | MissReason::FieldMissing => "request",
        };
        let status = format!("crawlcache; fwd={forward}; detail={}", self.reason.as_str());
        let mut problem = Problem::new("result_not_found", detail)
            .with("reason", self.reason.as_str())
            .with("url", key.url())
            .header(CACHE_STATUS, &status);
        if let Some(freshness) = self.freshness {
            problem = problem.with("age", freshness.age).with("ttl", freshness.ttl);
        }
        problem
    }
}

impl Found {
    /// The headers that every answer of this entry has.
    pub(super) fn headers(&self, coding: Coding) -> HeaderMap {
        let meta = &self.hit.entry.meta;
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(ETAG, etag_header(meta.etag, coding));
        headers.insert(AGE, number(self.freshness.age));
        headers.insert(LAST_MODIFIED, http_date(meta.updated_at));
        headers.insert(CACHE_STATUS, self.cache_status());
        // Whoever keeps a copy on the way asks again: only this service knows of deletes.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        for (name, value) in [
            (ORIGIN_ETAG, &meta.validators.etag),
            (ORIGIN_LAST_MODIFIED, &meta.validators.last_modified),
            (HEAD_FINGERPRINT, &meta.validators.head_fingerprint),
        ] {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// RFC 9211.
    fn cache_status(&self) -> HeaderValue {
        let detail = match self.hit.via {
            _ if self.freshness.is_stale() => "stale",
            Via::Queued => "queued",
            Via::Fallback => "fallback",
            Via::Owner | Via::Other => self.hit.source.as_str(),
        };
        let mut text = String::with_capacity(56);
        text.push_str("crawlcache; hit; ttl=");
        text.push_str(Buffer::new().format(self.freshness.ttl));
        text.push_str("; detail=");
        text.push_str(detail);
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
            .unwrap_or(HeaderValue::from_static("crawlcache; hit"))
    }

    /// 304 with the headers that RFC 9110 section 15.4.5 asks for.
    pub(super) fn not_modified(&self, coding: Coding) -> Response {
        let mut response = http::StatusCode::NOT_MODIFIED.into_response();
        *response.headers_mut() = self.headers(coding);
        response
    }
}

/// A number as a header value.
pub(super) fn number(number: u64) -> HeaderValue {
    HeaderValue::from(number)
}

/// A time as an HTTP date.
pub(super) fn http_date(at: Timestamp) -> HeaderValue {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.as_secs());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(httpdate::fmt_http_date(time)))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// JSON with headers of its own.
pub(super) fn json_type() -> (http::HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static("application/json"))
}
