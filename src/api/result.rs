//! `/v1/result`: one result.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Accepts, Sent, blocking, encode_upload, receive};
use super::caller::{Reader, Writer};
use super::hosts;
use super::leases::{LeaseHeader, WantedLease, named, one_call, revoke, store_under};
use super::listing::time;
use super::lookup::{Accepted, CACHE_STATUS, Found, find, json_type, number, read, wanted};
use super::negotiate;
use super::params::{Params, names};
use super::problem::{Problem, Result};
use super::state::Api;
use super::write::{Place, Stored, Terms, Times, TtlSource, failed_precondition, ttl, validators};
use crate::domain::document::{Coding, Encoded, Facts, Projection, encode, merge_patch};
use crate::domain::quality::{Quality, Wanted};
use crate::domain::{DocumentError, Key, Validators};
use crate::store::{Condition, DeleteOutcome, GetOptions, Look, Stamp};

/// How often a patch without a precondition is tried again when somebody else was faster.
const PATCH_ATTEMPTS: usize = 32;

/// Which result, and what counts as an answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetParams {
    /// The absolute url, percent-encoded; at most 8192 bytes.
    #[param(example = "https://example.com/", min_length = 1, max_length = 8192)]
    url: String,
    /// The variant; the default one when missing. At most 256 characters without white space.
    #[param(max_length = 256)]
    variant: Option<String>,
    /// The fields to answer with, separated by commas, such as `head,markdown`; `head` stands for every small field.
    fields: Option<String>,
    /// The greatest age in seconds.
    max_age: Option<u64>,
    /// Fields that must be there and not blank, separated by commas.
    require: Option<String>,
    /// How many seconds past expiry are still acceptable.
    stale: Option<u64>,
    /// `best`: the good result if it is acceptable, else the failed one; `good` or `failed`: only that one.
    #[serde(default)]
    #[param(schema_with = wanted)]
    quality: Wanted,
    /// Where there is no fresh answer: asks for the lease of the page, for so many seconds. Needs a token that may write.
    #[param(minimum = 1)]
    lease: Option<u64>,
    /// Where another has the lease: waits so many seconds for its page.
    wait: Option<u64>,
}

/// Which result, and how long it stays fresh.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PutParams {
    /// The absolute url, percent-encoded; at most 8192 bytes.
    #[param(example = "https://example.com/", min_length = 1, max_length = 8192)]
    url: String,
    /// The variant; the default one when missing. At most 256 characters without white space.
    #[param(max_length = 256)]
    variant: Option<String>,
    /// How many seconds it stays fresh.
    ttl: Option<u64>,
    /// The origin's `ETag`; otherwise the one in the document's `response_headers`.
    #[param(max_length = 1024)]
    origin_etag: Option<String>,
    /// The origin's `Last-Modified`; otherwise the one in the document's `response_headers`.
    #[param(max_length = 1024)]
    origin_last_modified: Option<String>,
    /// The fingerprint of the page's head; otherwise the document's `head_fingerprint`.
    #[param(max_length = 1024)]
    head_fingerprint: Option<String>,
    /// When it was fetched, for a result that comes from another cache: RFC 3339 (`2026-01-15T10:30:00Z`) or Unix
    /// seconds. Its age counts from then, and it never replaces one that is newer. Not together with a lease.
    updated_at: Option<String>,
}

/// Which result, and what is new about it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PatchParams {
    /// The absolute url, percent-encoded; at most 8192 bytes.
    #[param(example = "https://example.com/", min_length = 1, max_length = 8192)]
    url: String,
    /// The variant; the default one when missing. At most 256 characters without white space.
    #[param(max_length = 256)]
    variant: Option<String>,
    /// How many seconds it stays fresh from now on.
    ttl: Option<u64>,
    /// The origin has confirmed the document (a 304): its age starts anew, and so does its time to live.
    #[serde(default)]
    confirmed: bool,
    /// The origin's `ETag`.
    #[param(max_length = 1024)]
    origin_etag: Option<String>,
    /// The origin's `Last-Modified`.
    #[param(max_length = 1024)]
    origin_last_modified: Option<String>,
    /// The fingerprint of the page's head.
    #[param(max_length = 1024)]
    head_fingerprint: Option<String>,
}

/// Which result.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteParams {
    /// The absolute url, percent-encoded; at most 8192 bytes.
    #[param(example = "https://example.com/", min_length = 1, max_length = 8192)]
    url: String,
    /// The variant; the default one when missing. At most 256 characters without white space.
    #[param(max_length = 256)]
    variant: Option<String>,
}

/// Read a result.
///
/// To a client that accepts zstd the document is sent exactly as it is stored, and so is a projection of the
/// first fields (`fields=head`, `fields=head,markdown`). `Cache-Control: no-cache` reads past the memory tier.
#[utoipa::path(get, path = "/v1/result", tag = "results", operation_id = "get_result", params(GetParams), responses(
    (status = 200, description = "The document, or the fields asked for", body = std::collections::HashMap<String, serde_json::Value>,
        content_type = "application/json",
        headers(
            ("etag" = String, description = "The content's hash and coding"),
            ("age" = u64, description = "Seconds since it was stored or confirmed"),
            ("last-modified" = String, description = "When it was stored or confirmed"),
            ("cache-status" = String, description = "RFC 9211: `crawlcache; hit; ttl=…; detail=memory|sqlite|dynamodb|stale|queued|fallback|outage`"),
            ("crawlcache-quality" = String, description = "`failed` where it is a failed result; good ones have no such header"),
            ("crawlcache-lease" = Option<String>, description = "With `lease=` and a stale answer: the lease, if it was granted"),
            ("crawlcache-lease-expires" = Option<String>, description = "When that lease runs out"),
        ),
        example = json!({"url": "https://example.com/", "success": true, "status_code": 200, "html": "<html>…</html>", "markdown": "# Example"})),
    (status = 304, description = "The client has it already (`If-None-Match`)"),
    (status = 404, description = "No answer; `reason` is absent, expired, too_old, field_missing, variant, damaged, unknown (a \
        store that may have it could not be asked) or failed (then with a member `failed`). With `lease=`, the member `lease` has the state `won`, `held`, or `failed` (just tried: move on)",
        headers(("retry-after" = Option<u64>, description = "With `lease=`: when the lease runs out, or a failed result is fresh no more"))),
    (status = 409, description = "With `lease=`: others store this page all the time"),
    (status = 406, description = "None of the codings zstd, gzip and identity is acceptable"),
))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<GetParams>,
    Sent { headers, .. }: Sent,
) -> Result<Response> {
    let key = api.key(caller.namespace(), &params.url, params.variant.as_deref())?;
    let fields = names("fields", params.fields.as_deref())?.map(Projection::new);
    let accepted = Accepted::new(params.max_age, params.stale, params.require.as_deref(), params.quality)?;
    let coding = negotiate::coding(&headers)?;
    let options = GetOptions::consistent(negotiate::wants_consistent(&headers));
    let (found, along) = match WantedLease::of(&api, &caller, params.lease, params.wait)? {
        None => match find(&api, &key, options, &accepted, "get").await? {
            Ok(found) => (found, None),
            Err(missed) => return Err(missed.problem(&key)),
        },
        Some(wanted) => match Box::pin(one_call(&api, &key, options, &accepted, wanted)).await? {
            Ok((found, along)) => (found, Some(along)),
            Err(response) => return Ok(response),
        },
    };
    let mut response = if negotiate::not_modified(&headers, found.hit.entry.meta.etag)? {
        found.not_modified(coding)
    } else {
        document_response(&api, &found, fields.as_ref(), coding).await?
    };
    if let Some(along) = along {
        along.put_on(&mut response);
    }
    Ok(response)
}

/// 200 with the document or a projection of it.
async fn document_response(
    api: &Api,
    found: &Found,
    fields: Option<&Projection>,
    coding: Coding,
) -> Result<Response> {
    let answer = api.shared().answers.answer(&found.hit.entry, fields, coding).await?;
    let mut headers = found.headers(answer.coding);
    let (name, json) = json_type();
    headers.insert(name, json);
    if answer.coding != Coding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(answer.coding.as_str()));
    }
    if let Some(length) = answer.length {
        headers.insert(CONTENT_LENGTH, number(length));
    }
    let mut response = Response::new(answer.body);
    *response.headers_mut() = headers;
    Ok(response)
}

/// Store a result.
///
/// The body is any JSON object. It comes back value for value: unknown fields survive and numbers keep their
/// digits. A top-level field that appears twice is refused. The answer is sent when the document is on the disk.
///
/// A failed result (`success` is false, an error status, or a block page) is kept beside the good one, not in its place,
/// and for a short time: the answer has `quality` and `why`. A precondition is about the one that is written.
#[utoipa::path(put, path = "/v1/result", tag = "results", operation_id = "put_result", params(PutParams, LeaseHeader),
    request_body(content = std::collections::HashMap<String, serde_json::Value>, content_type = "application/json",
        description = "Any JSON object; `Content-Encoding: zstd` and `gzip` are accepted",
        example = json!({"url": "https://example.com/", "success": true, "status_code": 200, "html": "<html>…</html>", "markdown": "# Example"})),
    responses(
        (status = 200, description = "Replaced or refreshed", body = Stored, headers(("etag" = String, description = "The content's hash"))),
        (status = 201, description = "Created", body = Stored, headers(("etag" = String, description = "The content's hash"))),
        (status = 202, description = "Safe here and read from here; the store that owns it cannot be reached, and will get it",
            body = Stored, headers(
                ("etag" = String, description = "The content's hash"),
                ("cache-status" = String, description = "`crawlcache; stored; detail=queued`"),
            )),
        (status = 409, description = "The lease is outdated: nothing was stored"),
        (status = 412, description = "The precondition does not hold"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Writer,
    Params(params): Params<PutParams>,
    Sent { headers, body }: Sent,
) -> Result<Response> {
    let key = api.key(caller.namespace(), &params.url, params.variant.as_deref())?;
    let now = api.clock.now();
    let (ttl, ttl_source) = (ttl(&api, params.ttl)?, TtlSource::of(params.ttl));
    let validators = validators(params.origin_etag, params.origin_last_modified, params.head_fingerprint)?;
    let condition = negotiate::condition(&headers, now)?;
    let lease = named(&headers)?;
    let fetched = time("updated_at", params.updated_at.as_deref())?;
    if lease.is_some() && fetched.is_some() {
        return Err(Problem::parameter("updated_at", "what is stored under a lease is fetched now"));
    }
    let upload = receive(&api, &headers, body, Accepts::Json).await?;
    let encoded = encode_upload(&api, upload).await?;
    let fresh = Times::fresh(now, ttl);
    let times = fetched.map_or(fresh, |at| fresh.fetched(at));
    let place = match fetched {
        None => Place::newest(&api),
        at => Place::fetched(&api, now, at),
    };
    let terms = Terms { validators, times, ttl_source, condition, place };
    store_under(&api, lease, "put", key, encoded, terms, None).await?.response()
}

/// Change a result, or what is known about it.
///
/// The body is a JSON merge patch (RFC 7396) on the document. An empty object changes no field: with
/// `confirmed=true`, `ttl=` or validators it refreshes the entry without sending the body again.
///
/// It changes the good result. A `redirected_status_code` that makes it a failed one is refused: that is another result,
/// which PUT keeps beside the good one.
#[utoipa::path(patch, path = "/v1/result", tag = "results", operation_id = "patch_result", params(PatchParams, LeaseHeader),
    request_body(content = std::collections::HashMap<String, serde_json::Value>, content_type = "application/merge-patch+json",
        description = "A JSON merge patch", example = json!({"screenshot": "iVBORw0KGgo="})),
    responses(
        (status = 200, description = "Changed", body = Stored, headers(("etag" = String, description = "The content's hash"))),
        (status = 404, description = "Nothing is stored for this key"),
        (status = 409, description = "Too many writers changed it at once, or the lease is outdated"),
        (status = 412, description = "The precondition does not hold"),
        (status = 422, description = "The `redirected_status_code` would make a good result a failed one"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn patch(
    State(api): State<Api>,
    caller: Writer,
    Params(params): Params<PatchParams>,
    Sent { headers, body }: Sent,
) -> Result<Response> {
    let key = api.key(caller.namespace(), &params.url, params.variant.as_deref())?;
    let ttl = params.ttl.map(|seconds| ttl(&api, Some(seconds))).transpose()?;
    let newer = validators(params.origin_etag, params.origin_last_modified, params.head_fingerprint)?;
    let condition = negotiate::condition(&headers, api.clock.now())?;
    let lease = named(&headers)?;
    let upload = receive(&api, &headers, body, Accepts::MergePatch).await?;
    let patch = upload.source.read_whole(api.config.limits.decoded_bytes)?.unwrap_or_default();
    let limit = api.config.limits.decoded_bytes;
    let renews_validators = Facts::of(&patch)?.validators != Validators::default();
    for _ in 0..PATCH_ATTEMPTS {
        let hit = match read(&api, &key, GetOptions::consistent(true)).await? {
            Ok(Look::Entry(hit)) => hit,
            Ok(Look::Deleted(_) | Look::Absent) => {
                return Err(
                    Problem::new("result_not_found", "there is nothing to change").with("reason", "absent")
                );
            }
            Err(damaged) => return Err(damaged.problem(&key)),
        };
        let meta = &hit.entry.meta;
        if !condition.holds(Some(Stamp::of(meta))) {
            return Err(failed_precondition(Some(meta.etag)));
        }
        let times = Times::patched(meta, api.clock.now(), params.confirmed, ttl);
        let (entry, patch, level) =
            (Arc::clone(&hit.entry), patch.clone(), api.config.results.compression_level);
        let guard = api.clone();
        let mut encoded = blocking(move || {
            let raw = entry.document().decode()?;
            let merged = merge_patch(&raw, &patch)?;
            if merged.len() as u64 > limit {
                return Err(DocumentError::TooLarge { limit }.into());
            }
            let encoded = encode(&merged, level)?;
            let fails = |facts: &Facts| guard.guard().is_failed_at_the_end(facts);
            if fails(&encoded.facts) && !fails(&Facts::of(&raw)?) {
                let detail = "the redirects of a good result cannot come to end in an error: store what came \
                    instead with PUT, which keeps it beside the good one";
                return Err(Problem::new("immutable_field", detail).with("field", "redirected_status_code"));
            }
            // A store that keeps fields apart gives them back in another order, under the tag they were put with.
            Ok(if merged[..] == raw[..] { Encoded { etag: entry.meta.etag, ..encoded } } else { encoded })
        })
        .await?;
        // What the origin confirmed since is newer than what the document says, unless the patch says otherwise.
        if !renews_validators {
            encoded.facts.validators = Validators::default();
        }
        let known = meta.validators.updated_by(&encoded.facts.validators).updated_by(&newer);
        // Not the content's hash: another patch may have changed what is known about the entry.
        let unchanged = Condition::Version(meta.version);
        let terms = Terms {
            validators: known,
            times,
            ttl_source: if ttl.is_some() { TtlSource::Request } else { TtlSource::Kept },
            condition: unchanged,
            place: Place::newest(&api),
        };
        // As it will be read.
        let quality = Some(api.guard().of_kept(&encoded.facts));
        match store_under(&api, lease, "patch", key.clone(), encoded, terms, quality).await {
            Err(problem) if problem.code() == "precondition_failed" => {}
            outcome => {
                let written = outcome?;
                if params.confirmed && !written.is_superseded() && quality == Some(Quality::Good) {
                    hosts::confirmed(&api, &key, meta.updated_at).await;
                }
                return written.response();
            }
        }
    }
    Err(Problem::new(
        "write_conflict",
        "others changed the result each time; send If-Match and decide yourself",
    ))
}

/// Delete a result, the good one and the failed one.
///
/// A precondition is about the good one. The lease of the page ends: what is being fetched under it is not stored.
#[utoipa::path(delete, path = "/v1/result", tag = "results", operation_id = "delete_result", params(DeleteParams), responses(
    (status = 202, description = "It is gone here; the store that owns it cannot be reached, and will be told",
        headers(("cache-status" = String, description = "`crawlcache; detail=queued`"))),
    (status = 204, description = "It is gone, or was not there"),
    (status = 412, description = "The precondition does not hold"),
    (status = 507, description = "No space is left"),
))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Writer,
    Params(params): Params<DeleteParams>,
    Sent { headers, .. }: Sent,
) -> Result<Response> {
    let key = api.key(caller.namespace(), &params.url, params.variant.as_deref())?;
    let condition = negotiate::condition(&headers, api.clock.now())?;
    let outcome = remove(&api, "delete", &key, condition).await?;
    let beside = match outcome {
        DeleteOutcome::ConditionFailed => return Err(failed_precondition(None)),
        _ => remove_failed(&api, &key.failed()).await?,
    };
    if [outcome, beside].contains(&DeleteOutcome::Queued) {
        let header = [(CACHE_STATUS, HeaderValue::from_static("crawlcache; detail=queued"))];
        return Ok((StatusCode::ACCEPTED, header).into_response());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Deletes the failed result of a key if there is one: a delete of nothing leaves a tombstone in some stores.
async fn remove_failed(api: &Api, key: &Key) -> Result<DeleteOutcome> {
    // Where that cannot be known the delete itself says what there is to say.
    if let Ok(None) = api.results.get(key, GetOptions::consistent(true)).await {
        return Ok(DeleteOutcome::Absent);
    }
    Ok(api.results.delete_newest(key, api.clock.next_version(), Condition::Any).await?.outcome)
}

/// Deletes an entry and counts it. What is being fetched for the page is not to be stored then: its lease ends.
pub(super) async fn remove(api: &Api, op: &str, key: &Key, condition: Condition) -> Result<DeleteOutcome> {
    let deleted = api.results.delete_newest(key, api.clock.next_version(), condition).await;
    let outcome = deleted.map(|placed| placed.outcome);
    if let Ok(DeleteOutcome::Deleted | DeleteOutcome::Absent | DeleteOutcome::Queued) = outcome {
        api.shared().damaged.forget(key.id());
    }
    let result = match &outcome {
        Ok(DeleteOutcome::Deleted) => "deleted",
        Ok(DeleteOutcome::Absent) => "absent",
        Ok(DeleteOutcome::Queued) => "queued",
        Ok(DeleteOutcome::ConditionFailed) => "conflict",
        Err(_) => "error",
    };
    api.metrics.writes.with_label_values(&[op, result]).inc();
    let outcome = outcome?;
    match outcome {
        DeleteOutcome::ConditionFailed => {}
        _ if key.is_failed() => {}
        // Where the owner of the page cannot be told of the deletion it cannot be told of this either.
        DeleteOutcome::Queued => {
            if let Err(error) = revoke(api, key).await {
                tracing::debug!(%error, key = %key.id(), "the lease of a deleted page runs on");
            }
        }
        DeleteOutcome::Deleted | DeleteOutcome::Absent => revoke(api, key).await?,
    }
    Ok(outcome)
}
