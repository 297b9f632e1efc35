//! `/v1/sessions/{id}/status` and `/v1/sessions/{id}/touch`: the steps of a session's life.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::change::Target;
use super::counted;
use super::precondition::Precondition;
use super::request::{PathId, body, limits};
use super::view::{SessionDocument, response};
use crate::api::body::Accepts;
use crate::api::caller::Writer;
use crate::api::params::{NoParams, Params};
use crate::api::problem::Result;
use crate::api::state::Api;
use crate::domain::session::{StatusRequest, TouchRequest, change};

/// A change of status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionStatusRequest)]
pub(super) struct StatusBody {
    /// The status to move to.
    #[schema(example = "READY")]
    status: String,
    /// Why, for the history.
    #[schema(example = "the browser answers")]
    reason: Option<String>,
    /// Who says so, for the history.
    #[schema(example = "controller")]
    source: Option<String>,
    /// The status that the session must have for the change to be made.
    #[schema(example = "STARTING")]
    expected_status: Option<String>,
}

/// Move a session to another status.
///
/// Status, times, version and the event that records the change are written at once. The status that the session
/// has already is no error and changes nothing.
#[utoipa::path(post, path = "/v1/sessions/{id}/status", tag = "sessions", operation_id = "set_session_status",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4")),
    request_body(content = StatusBody, content_type = "application/json", example = json!({"status": "READY"})),
    responses(
        (status = 200, description = "Changed", body = SessionDocument, headers(("etag" = String, description = "Its version"))),
        (status = 404, description = "There is none (`session_not_found`), or it has expired (`session_expired`)"),
        (status = 409, description = "`illegal_transition` names those that are `allowed`; `status_mismatch` the `current` one"),
        (status = 412, description = "The precondition does not hold"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn status(
    State(api): State<Api>,
    caller: Writer,
    PathId(id): PathId,
    _: Params<NoParams>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response> {
    counted(&api, "status", async {
        let expected = Precondition::of(&headers)?;
        let sent = body(&api, &headers, sent, Accepts::Json, true).await?;
        let request = StatusRequest::from_body(&sent)?;
        let target = Target { api: &api, namespace: caller.namespace(), id: &id, expected };
        let limits = limits(&api);
        let record = target
            .change(|current, stamp| change::set_status(current, request.clone(), stamp, &limits))
            .await?;
        response(StatusCode::OK, &record)
    })
    .await
}

/// A sign of life.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionTouchRequest)]
pub(super) struct TouchBody {
    /// How many seconds the session lives from now on.
    #[schema(example = 600, minimum = 1, maximum = 31_536_000)]
    ttl_seconds: Option<u64>,
}

/// Give a sign of life.
///
/// The session is active now. It lives on from now if its life slides, or if `ttl_seconds` says how long.
#[utoipa::path(post, path = "/v1/sessions/{id}/touch", tag = "sessions", operation_id = "touch_session",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4")),
    request_body(content = Option<TouchBody>, content_type = "application/json", description = "May be left out", example = json!({})),
    responses(
        (status = 200, description = "Touched", body = SessionDocument, headers(("etag" = String, description = "Its version"))),
        (status = 404, description = "There is none (`session_not_found`), or it has expired (`session_expired`)"),
        (status = 409, description = "Too many writers changed it at once"),
        (status = 412, description = "The precondition does not hold"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn touch(
    State(api): State<Api>,
    caller: Writer,
    PathId(id): PathId,
    _: Params<NoParams>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response> {
    counted(&api, "touch", async {
        let expected = Precondition::of(&headers)?;
        let sent = body(&api, &headers, sent, Accepts::Json, false).await?;
        let request = TouchRequest::from_body(&sent)?;
        let target = Target { api: &api, namespace: caller.namespace(), id: &id, expected };
        let limits = limits(&api);
        let record = target.change(|current, stamp| change::touch(current, request, stamp, &limits)).await?;
        response(StatusCode::OK, &record)
    })
    .await
}
