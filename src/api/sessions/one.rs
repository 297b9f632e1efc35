//! `/v1/sessions/{id}`: one session.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::change::{Target, live};
use super::counted;
use super::precondition::{Precondition, not_modified};
use super::request::{PathId, body, check_reachable, limits};
use super::view::{ChosenFields, Secrecy, SessionDocument, document, headers as session_headers, response};
use crate::api::body::Accepts;
use crate::api::caller::{Reader, Writer};
use crate::api::params::{NoParams, Params, names};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::session::{change, keep_unseen};
use crate::store::{SessionCondition, SessionDeleteOutcome};

/// What of a session is shown.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetParams {
    /// The fields to answer with, separated by commas: `status,expires_at`.
    fields: Option<String>,
    /// An expired session too, as long as it is kept.
    #[serde(default)]
    include_expired: bool,
    /// Credentials too, where the token has the scope `secrets`; `fields` can also name single ones.
    #[serde(default)]
    include_secrets: bool,
}

/// Read a session.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "get_session",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4"), GetParams),
    responses(
        (status = 200, description = "The session, or the fields asked for", body = ChosenFields, headers(
            ("etag" = String, description = "Its version"),
            ("last-modified" = String, description = "When it last changed"),
        )),
        (status = 304, description = "The client has it already (`If-None-Match`)"),
        (status = 404, description = "There is none (`session_not_found`), or it expired at `expired_at` (`session_expired`)"),
    ))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Reader,
    PathId(id): PathId,
    Params(params): Params<GetParams>,
    headers: HeaderMap,
) -> Result<Response> {
    counted(&api, "get", async {
        let fields = names("fields", params.fields.as_deref())?;
        let secrecy = match (caller.sees_secrets(), params.include_secrets) {
            (false, _) => Secrecy::Hidden,
            (true, false) => Secrecy::Named,
            (true, true) => Secrecy::Shown,
        };
        let stored = api.sessions.get(caller.namespace(), &id).await?;
        let record = match &stored {
            Some(record) if params.include_expired => record,
            stored => live(&id, stored.as_ref(), api.clock.now())?,
        };
        let mut answer_headers = session_headers(&record.session);
        if secrecy == Secrecy::Shown || (secrecy == Secrecy::Named && fields.is_some()) {
            answer_headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if not_modified(&headers, record.session.version)? {
            return Ok((StatusCode::NOT_MODIFIED, answer_headers).into_response());
        }
        let document = document(&record.session, fields.as_deref(), secrecy)?;
        Ok((StatusCode::OK, answer_headers, Value::Object(document).to_string()).into_response())
    })
    .await
}

/// Create or replace a session.
///
/// What clients keep in it becomes what the body says; identity, times, life and history stay. Members that only
/// the service sets may be sent back as they were read. Callers without the scope `secrets` cannot see
/// credentials, so theirs stay where the body does not name them; callers with it replace them too.
#[utoipa::path(put, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "put_session",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4")),
    request_body(content = serde_json::Value, content_type = "application/json", description = "A JSON object",
        example = json!({"state": {"step": 2}, "user_metadata": {"job": "j-17"}})),
    responses(
        (status = 200, description = "Replaced", body = SessionDocument, headers(("etag" = String, description = "Its version"))),
        (status = 201, description = "Created: there was none, or it had expired", body = SessionDocument,
            headers(("etag" = String, description = "Its version"))),
        (status = 409, description = "The status may not follow (`illegal_transition`), or too many writers at once"),
        (status = 412, description = "The precondition (`If-Match`, `If-None-Match: *`) does not hold"),
        (status = 422, description = "The body changes what cannot be changed"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Writer,
    PathId(id): PathId,
    _: Params<NoParams>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response> {
    counted(&api, "put", async {
        check_reachable(&id)?;
        let expected = Precondition::of(&headers)?;
        let sent = body(&api, &headers, sent, Accepts::Json, true).await?;
        let target = Target { api: &api, namespace: caller.namespace(), id: &id, expected };
        let limits = limits(&api);
        let changed = target
            .store_next(|stored, stamp| {
                let current = stored.filter(|stored| !stored.session.is_expired(stamp.now));
                target.expected.check(current.map(|current| current.session.version))?;
                let mut sent = sent.clone();
                // A session is read without its secrets unless they are asked for: sending it back must not
                // erase them. An explicit null still does.
                if let Some(current) = current {
                    keep_unseen(&current.session, &mut sent);
                }
                Ok(change::replace(stored, &id, sent, stamp, &limits)?)
            })
            .await?;
        response(if changed.created { StatusCode::CREATED } else { StatusCode::OK }, &changed.record)
    })
    .await
}

/// Change a session.
///
/// The body is a JSON merge patch (RFC 7396) on the session. Without `If-Match`, patches that arrive at the same
/// time are all applied, one after the other.
#[utoipa::path(patch, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "patch_session",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4")),
    request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
        description = "A JSON merge patch: null removes a member", example = json!({"state": {"step": 3}, "user_metadata": {"job": "j-18"}})),
    responses(
        (status = 200, description = "Changed", body = SessionDocument, headers(("etag" = String, description = "Its version"))),
        (status = 404, description = "There is none (`session_not_found`), or it has expired (`session_expired`)"),
        (status = 409, description = "The status may not follow (`illegal_transition`), or too many writers at once"),
        (status = 412, description = "The precondition does not hold"),
        (status = 422, description = "The patch changes what cannot be changed"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn patch(
    State(api): State<Api>,
    caller: Writer,
    PathId(id): PathId,
    _: Params<NoParams>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response> {
    counted(&api, "patch", async {
        let expected = Precondition::of(&headers)?;
        let patch = body(&api, &headers, sent, Accepts::MergePatch, true).await?;
        let target = Target { api: &api, namespace: caller.namespace(), id: &id, expected };
        let limits = limits(&api);
        let record =
            target.change(|current, stamp| change::patch(current, patch.clone(), stamp, &limits)).await?;
        response(StatusCode::OK, &record)
    })
    .await
}

/// Delete a session.
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "delete_session",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4")),
    responses(
        (status = 204, description = "It is gone, or was not there"),
        (status = 412, description = "The precondition does not hold"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn delete(
    State(api): State<Api>,
    caller: Writer,
    PathId(id): PathId,
    _: Params<NoParams>,
    headers: HeaderMap,
) -> Result<StatusCode> {
    counted(&api, "delete", async {
        let expected = Precondition::of(&headers)?;
        let namespace = caller.namespace();
        if expected == Precondition::None {
            api.sessions.delete(namespace, &id, SessionCondition::Any).await?;
            return Ok(StatusCode::NO_CONTENT);
        }
        let _turn = api.shared().session_turns.take(namespace, &id).await;
        let stored = api.sessions.get(namespace, &id).await?;
        let now = api.clock.now();
        let current = stored.filter(|stored| !stored.session.is_expired(now));
        let current = current.map(|current| current.session.version);
        expected.check(current)?;
        if let Some(version) = current
            && api.sessions.delete(namespace, &id, SessionCondition::Version(version)).await?
                == SessionDeleteOutcome::ConditionFailed
        {
            return Err(Problem::new("precondition_failed", "the session was changed meanwhile"));
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
