//! Writes: the times, terms and outcome of a stored document, however it came in.

use axum::response::{IntoResponse, Response};
use http::header::ETAG;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::blocking;
use super::hosts;
use super::lookup::{CACHE_STATUS, json_type};
use super::negotiate::etag_header;
use super::params::bounded;
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::document::{Coding, Encoded};
use crate::domain::quality::{Quality, Why};
use crate::domain::{Etag, Key, Meta, Timestamp, Validators, Version};
use crate::store::{Condition, Put, PutOutcome, Versioning};

/// What a write stored.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Stored {
    /// `created`, `replaced`, `refreshed` (the same content), `superseded` (something newer is stored: another write of
    /// the same time, or what was fetched after the `updated_at` of this one), or `queued` (it is safe here, and the store
    /// that owns it will get it when it can be reached again).
    #[schema(example = "created")]
    pub(super) outcome: &'static str,
    /// The url of the key.
    #[schema(example = "https://example.com/")]
    pub(super) url: String,
    /// The variant of the key.
    pub(super) variant: String,
    /// The hash of the content: 32 hexadecimal digits.
    #[schema(example = "af1349b9f5f9a1a6a0404dea36dcc949")]
    pub(super) etag: String,
    /// When it stops being fresh, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub(super) expires_at: Timestamp,
    /// The document's size in bytes.
    pub(super) raw_bytes: u64,
    /// Its size as stored, in bytes.
    pub(super) stored_bytes: u64,
    /// `good`, or `failed`: then it is kept beside the good result, which stays as it is.
    #[schema(example = "good")]
    pub(super) quality: &'static str,
    /// Why it is failed: `success` (the document says so), `status` (its status code says so) or `blocked` (a block page).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<&'static str>,
    /// Where its time to live comes from: the `request`, what was `learned` of its host, or the configured `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "default")]
    pub(super) ttl_source: Option<&'static str>,
}

/// Where a time to live comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TtlSource {
    /// The request names it.
    Request,
    /// From the configuration, unless something was learned of the host.
    Default,
    /// From what was learned of the host.
    Learned,
    /// The document is no new fetch: it keeps the times that it has.
    Kept,
}

impl TtlSource {
    /// That of a fetched document.
    pub(super) fn of(asked: Option<u64>) -> Self {
        if asked.is_some() { Self::Request } else { Self::Default }
    }

    pub(super) const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Request => Some("request"),
            Self::Default => Some("default"),
            Self::Learned => Some("learned"),
            Self::Kept => None,
        }
    }
}

/// The times of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl Times {
    /// Stored now, fresh for `ttl` seconds.
    pub(super) fn fresh(now: Timestamp, ttl: u64) -> Self {
        Self { created_at: now, updated_at: now, expires_at: now.plus_secs(ttl) }
    }

    /// The same, for what was fetched earlier: its time to live still counts from now.
    pub(super) fn fetched(self, at: Timestamp) -> Self {
        let updated_at = at.min(self.updated_at);
        Self { created_at: updated_at, updated_at, ..self }
    }

    /// The same, fresh for at most `seconds` from `now`.
    pub(super) fn at_most(self, now: Timestamp, seconds: u64) -> Self {
        Self { expires_at: self.expires_at.min(now.plus_secs(seconds)), ..self }
    }

    pub(super) fn patched(meta: &Meta, now: Timestamp, confirmed: bool, ttl: Option<u64>) -> Self {
        let lifetime = || meta.expires_at.secs_since(meta.updated_at);
        Self {
            created_at: meta.created_at,
            updated_at: if confirmed { now } else { meta.updated_at },
            expires_at: match ttl {
                Some(ttl) => now.plus_secs(ttl),
                None if confirmed => now.plus_secs(lifetime()),
                None => meta.expires_at,
            },
        }
    }
}

/// The place of a write among all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) versioning: Versioning,
}

impl Place {
    /// That of what a client stores now: after all that is there.
    pub(super) fn newest(api: &Api) -> Self {
        Self { version: api.clock.next_version(), versioning: Versioning::Newest }
    }

    /// That of what was fetched at a time, which is now where none is named: it never replaces what was stored since.
    pub(super) fn fetched(api: &Api, now: Timestamp, at: Option<Timestamp>) -> Self {
        let next = api.clock.next_version();
        Self::fixed(at.filter(|at| *at < now).map_or(next, Version::first_of))
    }

    /// That of a write which has its version from elsewhere.
    pub(super) const fn fixed(version: Version) -> Self {
        Self { version, versioning: Versioning::Fixed }
    }
}

/// The time to live in seconds, within the configured bound.
pub(super) fn ttl(api: &Api, given: Option<u64>) -> Result<u64> {
    let results = &api.config.results;
    bounded("ttl", given, 0..=results.max_ttl_seconds, results.ttl_seconds)
}

/// The validators that a request names.
pub(super) fn validators(
    etag: Option<String>,
    last_modified: Option<String>,
    head: Option<String>,
) -> Result<Validators> {
    for (name, value) in
        [("origin_etag", &etag), ("origin_last_modified", &last_modified), ("head_fingerprint", &head)]
    {
        check_validator(name, value.as_deref())?;
    }
    Ok(Validators { etag, last_modified, head_fingerprint: head })
}

/// Refuses a validator that could not be sent back in a header.
pub(super) fn check_validator(name: &str, value: Option<&str>) -> Result<()> {
    if value.is_none_or(Validators::accept) {
        return Ok(());
    }
    Err(Problem::parameter(
        name,
        format!("1 to {} visible ASCII characters are accepted", Validators::MAX_BYTES),
    ))
}

/// What a document is stored with. Validators named here go before the document's own.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) validators: Validators,
    pub(super) times: Times,
    pub(super) ttl_source: TtlSource,
    pub(super) condition: Condition,
    pub(super) place: Place,
}

/// Stores an encoded document where its quality says, and counts it: a failed one beside the good one, for a short time.
pub(super) async fn store(api: &Api, op: &str, key: Key, encoded: Encoded, terms: Terms) -> Result<Written> {
    let (quality, encoded) = if api.guard().is_slow(&encoded) {
        let api = api.clone();
        blocking(move || Ok((api.guard().judge(&encoded), encoded))).await?
    } else {
        (api.guard().judge(&encoded), encoded)
    };
    match quality {
        Quality::Good if terms.ttl_source == TtlSource::Kept => {
            keep(api, op, key, encoded, terms, quality).await
        }
        Quality::Good => store_good(api, op, key, encoded, terms).await,
        Quality::Failed(_) => store_failed(api, op, &key, encoded, terms, quality).await,
    }
}

/// Stores a good document that was fetched, and learns from it where that is configured.
async fn store_good(api: &Api, op: &str, key: Key, encoded: Encoded, mut terms: Terms) -> Result<Written> {
    let lesson = hosts::lesson(api, &key, &encoded, terms.times.updated_at).await;
    if let Some(ttl) = lesson.as_ref().and_then(|lesson| lesson.ttl)
        && terms.ttl_source == TtlSource::Default
    {
        terms.ttl_source = TtlSource::Learned;
        terms.times.expires_at = api.clock.now().plus_secs(ttl);
    }
    let written = keep(api, op, key, encoded, terms, Quality::Good).await?;
    if let Some(lesson) = lesson
        && !written.is_superseded()
        && !written.is_unmet()
    {
        lesson.take(api).await;
    }
    Ok(written)
}

/// Stores an encoded document beside the good one, counts it, and wakes who waits for the page.
pub(super) async fn store_failed(
    api: &Api,
    op: &str,
    key: &Key,
    encoded: Encoded,
    terms: Terms,
    quality: Quality,
) -> Result<Written> {
    let times = terms.times.at_most(api.clock.now(), api.config.results.failed_ttl_seconds);
    let written = keep(api, op, key.failed(), encoded, Terms { times, ..terms }, quality).await;
    api.shared().hub.wake(key.id());
    written
}

/// Stores an encoded document under exactly that key, counts it, and wakes who waits for that key. What does not meet its
/// condition is a write that is unmet, not an error.
pub(super) async fn keep(
    api: &Api,
    op: &str,
    key: Key,
    encoded: Encoded,
    terms: Terms,
    quality: Quality,
) -> Result<Written> {
    let Encoded { frame, layout, etag, facts } = encoded;
    let Terms { validators, times, ttl_source, condition, place } = terms;
    let meta = Meta {
        key,
        version: place.version,
        etag,
        created_at: times.created_at,
        updated_at: times.updated_at,
        expires_at: times.expires_at,
        status_code: facts.status_code,
        success: facts.success,
        validators: facts.validators.updated_by(&validators),
        layout,
    };
    let (why, id) = (quality.why().map(Why::as_str), meta.key.id());
    let kept = Kept { key: meta.key.clone(), validators: meta.validators.clone(), times };
    let stored = Stored {
        outcome: "",
        url: meta.key.url().to_owned(),
        variant: meta.key.caller_variant().to_owned(),
        etag: etag.to_string(),
        expires_at: meta.expires_at,
        raw_bytes: meta.layout.raw_size(),
        stored_bytes: meta.layout.stored_size(),
        quality: quality.as_str(),
        why,
        ttl_source: ttl_source.as_str(),
    };
    let put = Put { meta, frame: Some(frame), condition };
    let outcome = match place.versioning {
        Versioning::Newest => api.results.put_newest(put).await.map(|placed| placed.outcome),
        Versioning::Fixed => api.results.put(put).await,
    };
    if matches!(
        outcome,
        Ok(PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed | PutOutcome::Queued)
    ) {
        api.shared().damaged.forget(id);
    }
    api.shared().hub.wake(id);
    let (result, status) = match &outcome {
        Ok(PutOutcome::Created) => ("created", StatusCode::CREATED),
        Ok(PutOutcome::Replaced) => ("replaced", StatusCode::OK),
        Ok(PutOutcome::Refreshed) => ("refreshed", StatusCode::OK),
        Ok(PutOutcome::Superseded) => ("superseded", StatusCode::OK),
        Ok(PutOutcome::Queued) => ("queued", StatusCode::ACCEPTED),
        Ok(PutOutcome::ConditionFailed) => ("conflict", StatusCode::PRECONDITION_FAILED),
        Err(_) => ("error", StatusCode::INTERNAL_SERVER_ERROR),
    };
    api.metrics.writes.with_label_values(&[op, result]).inc();
    if let Some(why) = why
        && outcome.is_ok()
        && !["conflict", "superseded"].contains(&result)
    {
        api.metrics.failed_results.with_label_values(&[why]).inc();
    }
    outcome?;
    Ok(Written { status, etag, kept, stored: Stored { outcome: result, ..stored } })
}

/// A write that was done.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) status: StatusCode,
    pub(super) etag: Etag,
    pub(super) kept: Kept,
    pub(super) stored: Stored,
}

/// Where a document was to be stored, and what besides it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) validators: Validators,
    pub(super) times: Times,
}

impl Written {
    /// Whether nothing was stored because what is there is newer.
    pub(super) fn is_superseded(&self) -> bool {
        self.stored.outcome == "superseded"
    }

    /// Whether nothing was stored because what is there does not meet the condition.
    pub(super) fn is_unmet(&self) -> bool {
        self.stored.outcome == "conflict"
    }

    /// 412 where it is unmet.
    pub(super) fn met(self) -> Result<Self> {
        if self.is_unmet() { Err(failed_precondition(None)) } else { Ok(self) }
    }

    /// 200, 201 or 202 with what was stored.
    pub(super) fn response(self) -> Result<Response> {
        let body = serde_json::to_vec(&self.stored).map_err(|error| {
            Problem::new("internal_error", format!("the answer cannot be written: {error}"))
        })?;
        let etag = [(ETAG, etag_header(self.etag, Coding::Identity))];
        let mut response = (self.status, [json_type()], etag, body).into_response();
        if self.status == StatusCode::ACCEPTED {
            let queued = HeaderValue::from_static("crawlcache; stored; detail=queued");
            response.headers_mut().insert(CACHE_STATUS, queued);
        }
        Ok(response)
    }
}

/// 412, with the content's hash where it is known.
pub(super) fn failed_precondition(current: Option<Etag>) -> Problem {
    let problem = Problem::new("precondition_failed", "what is stored does not meet the precondition");
    match current {
        Some(etag) => problem.with("etag", etag.to_string()),
        None => problem,
    }
}
