//! Judges what was found: the one place where a look-up becomes a hit or a miss, and is counted.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, LAST_MODIFIED, VARY};
use itoa::Buffer;
use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::header_text::HeaderText;
use super::negotiate::etag_header;
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::document::Coding;
use crate::domain::quality::{Guard, Quality, Wanted, Why};
use crate::domain::{Freshness, FreshnessLimits, Key, Meta, MissReason, Timestamp, Version};
use crate::store::{Error, GetOptions, Hit, ListFilter, ListQuery, Look, Source, Via};

pub(super) const CACHE_STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");
const ORIGIN_ETAG: http::HeaderName = http::HeaderName::from_static("crawlcache-origin-etag");
const ORIGIN_LAST_MODIFIED: http::HeaderName =
    http::HeaderName::from_static("crawlcache-origin-last-modified");
const HEAD_FINGERPRINT: http::HeaderName = http::HeaderName::from_static("crawlcache-head-fingerprint");

const QUALITY: http::HeaderName = http::HeaderName::from_static("crawlcache-quality");

/// What the caller accepts as an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted {
    pub(super) limits: FreshnessLimits,
    /// Fields that must be there and not blank.
    pub(super) require: Vec<String>,
    /// Good results or failed ones.
    pub(super) quality: Wanted,
}

impl Accepted {
    /// Reads `max_age`, `stale` and `require`.
    pub(super) fn new(
        max_age: Option<u64>,
        stale: Option<u64>,
        require: Option<&str>,
        quality: Wanted,
    ) -> Result<Self> {
        let limits = FreshnessLimits { max_age, stale: stale.unwrap_or(0) };
        Ok(Self { limits, require: super::params::names("require", require)?.unwrap_or_default(), quality })
    }

    /// Whether an entry is an answer, or why not. A failed one is none any more once it has expired.
    pub(super) fn judge(
        &self,
        guard: &Guard,
        meta: &Meta,
        now: Timestamp,
    ) -> std::result::Result<(Freshness, Quality), Missed> {
        let (freshness, quality) = (Freshness::of(meta, now), guard.of(meta));
        let version = Some(meta.version);
        let absent = Missed { version, ..Missed::ABSENT };
        let missed = |reason| Missed { reason, freshness: Some(freshness), ..absent };
        if !self.quality.admits(quality) {
            // Of a good one nobody has to be told; a failed one is news as long as it is fresh, whatever its age.
            return Err(match quality {
                Quality::Failed(why) if !freshness.is_stale() => {
                    let failed = Some(LastFailed { why, status_code: meta.status_code, freshness });
                    Missed { reason: MissReason::Failed, failed, ..absent }
                }
                Quality::Failed(_) if !meta.key.is_failed() => missed(MissReason::Expired),
                _ => absent,
            });
        }
        let limits = match quality {
            Quality::Good => self.limits,
            Quality::Failed(_) => FreshnessLimits { stale: 0, ..self.limits },
        };
        freshness.check(limits).map_err(|reason| match reason {
            MissReason::Expired if meta.key.is_failed() => absent,
            reason => missed(reason),
        })?;
        if self.require.iter().all(|name| meta.layout.has(name)) {
            Ok((freshness, quality))
        } else {
            Err(missed(MissReason::FieldMissing))
        }
    }

    /// The key to look at first.
    fn first<'k>(&self, key: &'k Key) -> Cow<'k, Key> {
        if self.quality == Wanted::Failed { Cow::Owned(key.failed()) } else { Cow::Borrowed(key) }
    }

    /// The key to look at where the first one has no answer; none where there is nothing to be found.
    pub(super) fn second(&self, guard: &Guard, key: &Key) -> Option<Key> {
        match self.quality {
            // What was stored before there was a guard is where good results are.
            Wanted::Failed => Some(key.clone()),
            Wanted::Best | Wanted::Good => guard.is_on().then(|| key.failed()),
        }
    }
}

/// Whether the second result of a key says anything beside the first: a failure before a good result is none any more.
pub(super) fn is_news(second: &Meta, first: Option<Version>) -> bool {
    !second.key.is_failed() || first.is_none_or(|first| first < second.version)
}

/// The description of a `quality` parameter.
pub(super) fn wanted() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["best", "good", "failed"]))
        .default(Some("best".into()))
        .into()
}

/// An entry that may answer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) hit: Hit,
    pub(super) freshness: Freshness,
    pub(super) quality: Quality,
}

/// Why there is no answer, and how what there is stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    pub(super) reason: MissReason,
    pub(super) freshness: Option<Freshness>,
    /// The latest version of what there is.
    pub(super) version: Option<Version>,
    /// The latest deletion that the store remembers, where it was read past every copy.
    pub(super) deleted: Option<Version>,
    /// The failed result that is there but was not asked for.
    pub(super) failed: Option<LastFailed>,
}

/// What a caller who wants good results only is told of a failed one.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastFailed {
    pub(super) why: Why,
    pub(super) status_code: Option<u16>,
    pub(super) freshness: Freshness,
}

impl Missed {
    /// There is nothing.
    pub(super) const ABSENT: Self =
        Self { reason: MissReason::Absent, freshness: None, version: None, deleted: None, failed: None };

    /// There is something that cannot be read.
    pub(super) const DAMAGED: Self = Self { reason: MissReason::Damaged, ..Self::ABSENT };

    /// Nothing was found, and a store that may have something could not be asked.
    pub(super) const UNKNOWN: Self = Self { reason: MissReason::Unknown, ..Self::ABSENT };

    /// What a stale entry is to a caller who has no use for it.
    pub(super) fn expired(found: &Found) -> Self {
        let (freshness, version) = (Some(found.freshness), Some(found.hit.entry.meta.version));
        Self { reason: MissReason::Expired, freshness, version, deleted: None, failed: None }
    }

    /// What both keys come to, of which this is the first.
    pub(super) fn and(self, second: Self) -> Self {
        let (version, deleted) = (self.version.max(second.version), self.deleted.max(second.deleted));
        match (self.reason, second.reason) {
            (MissReason::Unknown, _) => Self { version, deleted, failed: second.failed, ..self },
            (_, MissReason::Failed) => Self { freshness: self.freshness, version, deleted, ..second },
            (MissReason::Absent, MissReason::TooOld | MissReason::FieldMissing | MissReason::Unknown) => {
                Self { version, deleted, ..second }
            }
            _ => Self { version, deleted, ..self },
        }
    }
}

/// Finds and judges an entry, and counts the look-up under `op`.
pub(super) async fn find(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
    op: &str,
) -> Result<std::result::Result<Found, Missed>> {
    let outcome = look(api, key, options, accepted).await.inspect_err(|_| count_error(api, op))?;
    count_outcome(api, op, &outcome);
    Ok(outcome)
}

/// Finds and judges an entry, uncounted: looks at the one result of a key, and at the other where that is no answer.
pub(super) async fn look(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
) -> Result<std::result::Result<Found, Missed>> {
    try_look(api, key, options, accepted).await.map_err(|unseen| match unseen {
        Unseen::Failed(error) => error.into(),
        Unseen::Unconfirmed(missed) => unreachable_owner(missed.reason),
    })
}

/// As [`look`], for a caller who can go on without knowing: what the store that owns the key cannot be asked for is a
/// miss, of which nobody knows whether it is one.
pub(super) async fn look_if_known(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
) -> Result<std::result::Result<Found, Missed>> {
    match try_look(api, key, options, accepted).await {
        Ok(looked) => Ok(looked),
        Err(Unseen::Failed(error)) if error.is_away() => Ok(Err(Missed::UNKNOWN)),
        Err(Unseen::Failed(error)) => Err(error.into()),
        Err(Unseen::Unconfirmed(missed)) => Ok(Err(Missed { version: missed.version, ..Missed::UNKNOWN })),
    }
}

/// Why it is not known what there is.
enum Unseen {
    /// The store has failed.
    Failed(Error),
    /// What there is is no answer for this reason, and the owner, which may have another, cannot be asked.
    Unconfirmed(Missed),
}

async fn try_look(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
) -> std::result::Result<std::result::Result<Found, Missed>, Unseen> {
    let mut missed = match read(api, &accepted.first(key), options).await {
        Ok(Err(damaged)) => damaged,
        Ok(Ok(Look::Absent)) => Missed::ABSENT,
        Ok(Ok(Look::Deleted(version))) => Missed { deleted: Some(version), ..Missed::ABSENT },
        Ok(Ok(Look::Entry(hit))) => match accepted.judge(api.guard(), &hit.entry.meta, api.clock.now()) {
            Ok((freshness, quality)) => {
                let found = Found { hit, freshness, quality };
                return Ok(Ok(newest_failure(api, key, options, accepted, found).await));
            }
            Err(missed) if matches!(hit.via, Via::Fallback | Via::Outage) => {
                return Err(Unseen::Unconfirmed(missed));
            }
            Err(missed) => missed,
        },
        Err(Error::Unasked { .. }) => Missed::UNKNOWN,
        Err(error) => return Err(Unseen::Failed(error)),
    };
    let is_plain =
        missed.reason == MissReason::Absent && missed.version.is_none() && accepted.quality != Wanted::Failed;
    let others = if is_plain { others(api, key, None).await } else { None };
    if let Some(second) = accepted.second(api.guard(), key)
        && others.as_ref().is_none_or(|others| others.may_have(&second))
    {
        match what_is_there(api, &second, options).await {
            Ok(Look::Entry(hit)) if is_news(&hit.entry.meta, missed.version) => {
                match accepted.judge(api.guard(), &hit.entry.meta, api.clock.now()) {
                    Ok((freshness, quality)) => return Ok(Ok(Found { hit, freshness, quality })),
                    Err(second) => missed = missed.and(second),
                }
            }
            Ok(Look::Deleted(version)) => missed.deleted = missed.deleted.max(Some(version)),
            Err(error) if error.is_away() && accepted.quality != Wanted::Good => {
                missed = missed.and(Missed::UNKNOWN);
            }
            // Another error is no reason to fail what is a miss anyway.
            Ok(_) | Err(_) => {}
        }
    }
    if missed.reason == MissReason::Absent && has_variants(api, key, is_plain, others).await {
        missed.reason = MissReason::Variant;
    }
    Ok(Err(missed))
}

/// What there is under a key: past every copy, if that is asked for, and then a deletion too, where the store remembers.
async fn what_is_there(api: &Api, key: &Key, options: GetOptions) -> crate::store::Result<Look<Hit>> {
    if options.consistent {
        api.results.look(key, options).await
    } else {
        api.results.get(key, options).await.map(Look::from)
    }
}

/// The same. A damaged entry is no error: for a caller that would fetch the page it is a miss, and storing it heals it.
pub(super) async fn read(
    api: &Api,
    key: &Key,
    options: GetOptions,
) -> crate::store::Result<std::result::Result<Look<Hit>, Missed>> {
    match what_is_there(api, key, options).await {
        Ok(found) => {
            api.shared().damaged.forget(key.id());
            Ok(Ok(found))
        }
        Err(Error::Corrupt { detail, .. }) => {
            tracing::error!(detail, "a damaged entry is a miss");
            // The next lease of the page has to be later than what it replaces.
            let metas = api.results.get_metas(std::slice::from_ref(key)).await;
            let version =
                metas.ok().and_then(|metas| metas.into_iter().flatten().next()).map(|meta| meta.version);
            api.shared().damaged.note(key.id(), version);
            Ok(Err(Missed { version, ..Missed::DAMAGED }))
        }
        Err(error) => Err(error),
    }
}

/// What was found, or the failed result after it: one from before there was a guard lies where good ones are.
async fn newest_failure(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
    found: Found,
) -> Found {
    let meta = &found.hit.entry.meta;
    if found.quality == Quality::Good || meta.key.is_failed() {
        return found;
    }
    match api.results.get(&key.failed(), options).await {
        Ok(Some(hit)) if is_news(&hit.entry.meta, Some(meta.version)) => {
            match accepted.judge(api.guard(), &hit.entry.meta, api.clock.now()) {
                Ok((freshness, quality)) => Found { hit, freshness, quality },
                Err(_) => found,
            }
        }
        _ => found,
    }
}

/// The owner, which cannot be reached, may have what the other side has only in part or of old.
fn unreachable_owner(reason: MissReason) -> Problem {
    let detail = match reason {
        MissReason::Expired => {
            "the store that owns the result cannot be reached, and what is at hand of it has expired; \
             `stale=` seconds past expiry can be accepted"
        }
        MissReason::TooOld => {
            "the store that owns the result cannot be reached, and what is at hand is older than `max_age`"
        }
        _ => "the store that owns the result cannot be reached, and what is at hand lacks a required field",
    };
    Problem::new("unavailable", detail).with("reason", reason.as_str())
}

/// What is stored under the url of a key, whatever the variant. Most urls that a crawler asks for are new, and then it is
/// nothing: one question instead of one for the failed result and one for other variants.
struct Others {
    found: Vec<Meta>,
    /// Whether nothing else is there.
    complete: bool,
}

/// Nothing where the store cannot say. An error is no reason to fail what is a miss anyway.
async fn others(api: &Api, key: &Key, live_at: Option<Timestamp>) -> Option<Others> {
    /// One more than the results that the variant itself can have: the good one and the failed one.
    const ENOUGH: usize = 3;
    if !api.results.finds_variants() {
        return None;
    }
    let filter = ListFilter::Url(key.url().to_owned());
    let query = ListQuery { filter, live_at, ..ListQuery::all(key.namespace(), ENOUGH) };
    let page = api.results.list(&query).await.ok()?;
    Some(Others { found: page.items, complete: page.next.is_none() })
}

impl Others {
    fn may_have(&self, key: &Key) -> bool {
        !self.complete || self.found.iter().any(|meta| meta.key == *key)
    }

    /// Whether another variant is among what was found that has not expired.
    fn has_variants(&self, key: &Key, now: Timestamp) -> bool {
        let is_other = |meta: &&Meta| meta.key.caller_variant() != key.caller_variant();
        self.found.iter().filter(is_other).any(|meta| meta.expires_at >= now)
    }
}

/// Whether the url is there under other variants; `known` is what has been seen where the store was `asked`.
async fn has_variants(api: &Api, key: &Key, asked: bool, known: Option<Others>) -> bool {
    let now = api.clock.now();
    match known {
        Some(known) if known.has_variants(key, now) => true,
        Some(Others { complete: true, .. }) => false,
        // What could not be answered a moment ago is not asked again.
        None if asked => false,
        _ => others(api, key, Some(now)).await.is_some_and(|live| live.has_variants(key, now)),
    }
}

fn count(api: &Api, op: &str, result: &str) {
    api.metrics.lookups.with_label_values(&[op, result]).inc();
}

/// Counts a look-up that failed.
pub(super) fn count_error(api: &Api, op: &str) {
    count(api, op, "error");
}

/// Counts what a look-up came to.
pub(super) fn count_outcome(api: &Api, op: &str, outcome: &std::result::Result<Found, Missed>) {
    match outcome {
        Ok(found) => {
            count(api, op, result_of(&found.hit, found.freshness, found.quality));
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

fn result_of(hit: &Hit, freshness: Freshness, quality: Quality) -> &'static str {
    match hit.source {
        _ if hit.via == Via::Outage => "hit_outage",
        _ if quality != Quality::Good => "hit_failed",
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
            MissReason::Failed => "miss_failed",
            MissReason::Damaged => "miss_damaged",
            MissReason::Unknown => "miss_unknown",
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
            MissReason::Failed => {
                "the last fetch failed; `quality=best` or `quality=failed` shows what it came to"
            }
            MissReason::Damaged => "what is stored is damaged; store it again to replace it",
            MissReason::Unknown => {
                "nothing is known of this url here, and the store that may have it could not be asked; ask again later"
            }
        };
        // RFC 9211 section 2.2.
        let forward = match self.reason {
            MissReason::Absent | MissReason::Unknown => "uri-miss",
            MissReason::Variant => "vary-miss",
            MissReason::Damaged => "miss",
            MissReason::Expired => "stale",
            MissReason::TooOld | MissReason::FieldMissing | MissReason::Failed => "request",
        };
        let status = format!("crawlcache; fwd={forward}; detail={}", self.reason.as_str());
        let mut problem = Problem::new("result_not_found", detail)
            .with("reason", self.reason.as_str())
            .with("url", key.url())
            .header(CACHE_STATUS, &status);
        if let Some(freshness) = self.freshness {
            problem = problem.with("age", freshness.age).with("ttl", freshness.ttl);
        }
        if let Some(failed) = self.failed {
            let Freshness { age, ttl } = failed.freshness;
            let (why, status_code) = (failed.why.as_str(), failed.status_code);
            let failed = json!({ "why": why, "status_code": status_code, "age": age, "ttl": ttl });
            problem = problem.with("failed", failed);
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
        if self.quality != Quality::Good {
            headers.insert(QUALITY, HeaderValue::from_static("failed"));
        }
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
            Via::Outage => "outage",
            _ if self.freshness.is_stale() => "stale",
            Via::Queued => "queued",
            Via::Fallback => "fallback",
            Via::Owner | Via::Other => self.hit.source.as_str(),
        };
        let mut text = HeaderText::new();
        text.push(b"crawlcache; hit; ttl=");
        text.push(Buffer::new().format(self.freshness.ttl).as_bytes());
        text.push(b"; detail=");
        text.push(detail.as_bytes());
        text.value("crawlcache; hit")
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
    let mut text = HeaderText::new();
    text.push(Buffer::new().format(number).as_bytes());
    text.value("0")
}

/// A time as an HTTP date.
pub(super) fn http_date(at: Timestamp) -> HeaderValue {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.as_secs());
    let mut text = HeaderText::new();
    let _ = write!(text, "{}", httpdate::HttpDate::from(time));
    text.value("Thu, 01 Jan 1970 00:00:00 GMT")
}

/// JSON with headers of its own.
pub(super) fn json_type() -> (http::HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static("application/json"))
}
