//! `/v1/results`: the collection.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{Accepts, Sent, encode_upload, receive};
use super::caller::{Reader, Writer};
use super::leases::{LeaseHeader, named, store_under};
use super::listing::{ListParams, Summary, cursor_text};
use super::negotiate;
use super::params::Params;
use super::problem::{Problem, Result};
use super::state::Api;
use super::write::{Place, Stored, Terms, Times, TtlSource, ttl};
use crate::domain::Validators;
use crate::store::ListOrder;

/// One page of what is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResultsPage {
    /// The results, last stored or confirmed first.
    items: Vec<Summary>,
    /// Send it as `cursor=` for the next page; missing at the end. A page may be short before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List results, without their bodies.
///
/// Newest first. Give at most one of `host`, `prefix` and `url`.
#[utoipa::path(get, path = "/v1/results", tag = "results", operation_id = "list_results", params(ListParams), responses(
    (status = 200, description = "One page", body = ResultsPage),
))]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ListParams>,
) -> Result<Json<ResultsPage>> {
    let query = params.query(&api, caller.namespace(), ListOrder::Newest)?;
    let page = api.results.list(&query).await?;
    let now = api.clock.now();
    Ok(Json(ResultsPage {
        items: page.items.iter().map(|meta| Summary::of(meta, api.guard(), now)).collect(),
        next_cursor: page.next.map(|cursor| cursor_text(&query, &cursor)),
    }))
}

/// How to store the document in the body.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PostParams {
    /// The variant; the default one when missing. At most 256 characters without white space.
    #[param(max_length = 256)]
    variant: Option<String>,
    /// How many seconds it stays fresh.
    ttl: Option<u64>,
}

/// Store a result under the `url` in its body.
///
/// Members such as `ttl` or `created_at` are part of the document; how long it stays fresh is the parameter's.
#[utoipa::path(post, path = "/v1/results", tag = "results", operation_id = "post_result", params(PostParams, LeaseHeader),
    request_body(content = std::collections::HashMap<String, serde_json::Value>, content_type = "application/json",
        description = "A JSON object with a `url`",
        example = json!({"url": "https://example.com/", "success": true, "status_code": 200, "html": "<html>…</html>"})),
    responses(
        (status = 200, description = "Replaced or refreshed", body = Stored),
        (status = 201, description = "Created", body = Stored),
        (status = 202, description = "Safe here; the store that owns it cannot be reached, and will get it", body = Stored,
            headers(("cache-status" = String, description = "`crawlcache; stored; detail=queued`"))),
        (status = 409, description = "The lease is outdated: nothing was stored"),
        (status = 412, description = "The precondition does not hold"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn post(
    State(api): State<Api>,
    caller: Writer,
    Params(params): Params<PostParams>,
    Sent { headers, body }: Sent,
) -> Result<Response> {
    let now = api.clock.now();
    let (ttl, ttl_source) = (ttl(&api, params.ttl)?, TtlSource::of(params.ttl));
    let condition = negotiate::condition(&headers, now)?;
    let lease = named(&headers)?;
    let upload = receive(&api, &headers, body, Accepts::Json).await?;
    let encoded = encode_upload(&api, upload).await?;
    let Some(url) = encoded.facts.url.clone() else {
        return Err(
            Problem::new("invalid_field", "the document needs a `url` that is a string").with("field", "url")
        );
    };
    let key = api.key(caller.namespace(), &url, params.variant.as_deref())?;
    let validators = Validators::default();
    let times = Times::fresh(now, ttl);
    let terms = Terms { validators, times, ttl_source, condition, place: Place::newest(&api) };
    store_under(&api, lease, "put", key, encoded, terms, None).await?.response()
}
