//! `/v1/leases`: to ask for a lease, to keep it, to give it up.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::asking::Asked;
use super::granted::{count, end};
use super::standing::Standing;
use super::terms::{PathToken, come_back, duration, failed, waiting};
use crate::api::body::json;
use crate::api::caller::Writer;
use crate::api::listing::shown;
use crate::api::lookup::{Accepted, Missed, wanted};
use crate::api::observe::Waited;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::api::states::Names;
use crate::domain::quality::Wanted;
use crate::domain::{FreshnessLimits, Timestamp};
use crate::store::{Ending, GetOptions, Holder, Renewed};

/// Which page its caller would fetch, and what counts as an answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaseRequest {
    /// The absolute url.
    #[schema(example = "https://example.com/")]
    url: String,
    /// The variant; the default one when missing.
    variant: Option<String>,
    /// How many seconds the lease is to last; `leases.seconds` when missing.
    #[schema(example = 30)]
    seconds: Option<u64>,
    /// How many seconds to wait for another holder.
    wait: Option<u64>,
    /// The greatest age in seconds.
    max_age: Option<u64>,
    /// How many seconds past expiry are acceptable meanwhile: then nobody waits.
    stale: Option<u64>,
    /// Fields that must be there and not blank.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    require: Names,
    /// `best`: the good result if it is acceptable, else the failed one; `good` or `failed`: only that one.
    #[serde(default)]
    #[schema(schema_with = wanted)]
    quality: Wanted,
}

/// A lease that was granted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WonLease {
    /// `won`.
    #[schema(example = "won")]
    state: &'static str,
    /// Names the lease: 64 hexadecimal digits. Nobody else is told.
    token: String,
    /// The url of the key.
    url: String,
    /// The variant of the key.
    variant: String,
    /// When it runs out, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// How many seconds it lasts.
    seconds: u64,
}

/// A page that is there already.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FreshPage {
    /// `fresh`.
    #[schema(example = "fresh")]
    state: &'static str,
    /// The url of the key.
    url: String,
    /// The variant of the key.
    variant: String,
    /// `failed` where it is a failed result.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'static str>,
    /// The hash of the content.
    etag: String,
    /// Seconds since it was stored or confirmed.
    age: u64,
    /// Seconds until it expires.
    ttl: i64,
}

/// Ask for a lease.
///
/// Who gets it is alone with the page until the lease ends: others wait for it, or move on. What is fresh needs none.
#[utoipa::path(post, path = "/v1/leases", tag = "leases", operation_id = "ask_for_lease",
    request_body(content = LeaseRequest, content_type = "application/json", example = json!({"url": "https://example.com/"})),
    responses(
        (status = 200, description = "The page is there", body = FreshPage),
        (status = 201, description = "The lease is the caller's: fetch the page, and store it with `Crawlcache-Lease`", body = WonLease),
        (status = 404, description = "The page has just been tried, and what was stored is no answer: the member `lease` has the state `failed`",
            headers(("retry-after" = Option<u64>, description = "Seconds for which a failed result of it is fresh"))),
        (status = 409, description = "Another has it until `expires_at`",
            headers(("retry-after" = u64, description = "Seconds until it runs out"))),
    ))]
pub(super) async fn post(
    State(api): State<Api>,
    caller: Writer,
    _: Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let request: LeaseRequest = json(&api, &headers, body).await?;
    let key = api.key(caller.namespace(), &request.url, request.variant.as_deref())?;
    let accepted = Accepted {
        limits: FreshnessLimits { max_age: request.max_age, stale: request.stale.unwrap_or(0) },
        require: request.require.within("names")?,
        quality: request.quality,
    };
    let asked = Asked {
        api: &api,
        key: &key,
        accepted: &accepted,
        options: GetOptions::consistent(crate::api::negotiate::wants_consistent(&headers)),
        seconds: duration(&api, "seconds", request.seconds)?,
        wait: waiting(&api, request.wait)?,
        insists: true,
    };
    let turnout = asked.settle().await?;
    let (url, variant) = (key.url().to_owned(), key.variant().to_owned());
    let mut response = match (turnout.standing, turnout.looked) {
        (Standing::Won(granted), _) => {
            let lease = granted.tell();
            let told = WonLease {
                state: "won",
                token: lease.token.to_string(),
                url,
                variant,
                expires_at: lease.until,
                seconds: asked.seconds,
            };
            let private = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (StatusCode::CREATED, private, Json(told)).into_response()
        }
        (Standing::Held(held), _) => {
            let problem = Problem::new("lease_held", "another fetches this page just now")
                .with("url", url)
                .with("expires_at", held.until.to_string());
            come_back(problem, &held, api.clock.now()).into_response()
        }
        (Standing::Fresh, Ok(found)) => {
            let etag = found.hit.entry.meta.etag.to_string();
            let (age, ttl) = (found.freshness.age, found.freshness.ttl);
            let quality = shown(found.quality);
            Json(FreshPage { state: "fresh", url, variant, quality, etag, age, ttl }).into_response()
        }
        (Standing::Failed(left), looked) => {
            // What is there is stale: here that is no answer.
            let missed = looked.map_or_else(|missed| missed, |found| Missed::expired(&found));
            failed(missed.problem(&key), left).into_response()
        }
        (Standing::Unknown(problem), _) => return Err(problem),
        // A page that is missing is not fresh.
        (Standing::Fresh, Err(missed)) => missed.problem(&key).into_response(),
    };
    response.extensions_mut().insert(Waited(turnout.waited));
    Ok(response)
}

/// For how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RenewParams {
    /// How many seconds the lease is to last from now on; `leases.seconds` when missing.
    seconds: Option<u64>,
}

/// A lease that is held on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RenewedLease {
    /// `renewed`.
    #[schema(example = "renewed")]
    state: &'static str,
    /// When it runs out, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// How many seconds it lasts.
    seconds: u64,
}

/// Keep a lease.
///
/// One that has run out is kept as well, as long as nobody else was granted one since.
#[utoipa::path(put, path = "/v1/leases/{token}", tag = "leases", operation_id = "keep_lease",
    params(("token" = String, Path, description = "The lease: 64 hexadecimal digits"), RenewParams),
    responses(
        (status = 200, description = "It is kept", body = RenewedLease),
        (status = 409, description = "It has ended, or another was granted since"),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Writer,
    PathToken(token): PathToken,
    Params(params): Params<RenewParams>,
) -> Result<Json<RenewedLease>> {
    let seconds = duration(&api, "seconds", params.seconds)?;
    let holder = Holder { namespace: caller.namespace().clone(), token };
    match api.leases.renew(&holder, api.clock.now().plus_secs(seconds)).await? {
        Renewed::Renewed(lease) => {
            count(&api, "renewed");
            api.shared().hub.renewed(&lease);
            Ok(Json(RenewedLease { state: "renewed", expires_at: lease.until, seconds }))
        }
        Renewed::Lost => {
            count(&api, "lost");
            Err(Problem::new("lease_lost", "the lease has ended, or another was granted since"))
        }
    }
}

/// Give up a lease.
///
/// The next one who asks, or waits, gets it at once. A lease that has ended stays as it is.
#[utoipa::path(delete, path = "/v1/leases/{token}", tag = "leases", operation_id = "give_up_lease",
    params(("token" = String, Path, description = "The lease: 64 hexadecimal digits")),
    responses((status = 204, description = "The caller does not hold it any more")))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Writer,
    PathToken(token): PathToken,
    _: Params<NoParams>,
) -> Result<StatusCode> {
    let holder = Holder { namespace: caller.namespace().clone(), token };
    end(&api, &holder, Ending::Released).await?;
    Ok(StatusCode::NO_CONTENT)
}
