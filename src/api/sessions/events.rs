//! `/v1/sessions/{id}/events`: the history of a session.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::change::{Target, live};
use super::counted;
use super::precondition::Precondition;
use super::request::{PathId, body, limits};
use super::view::headers as session_headers;
use crate::api::body::Accepts;
use crate::api::caller::{Reader, Writer};
use crate::api::params::{NoParams, Params, bounded};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::session::{Event, NewEvent, change};

/// Something that happened to a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionEvent)]
pub(super) struct EventDocument {
    /// Its place among all events of the session, from 0.
    index: u64,
    /// What kind of event.
    #[schema(example = "Navigated")]
    event_type: String,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    /// Who reported it.
    #[schema(example = "agent")]
    source: Option<String>,
    /// What there is to know about it.
    detail: Map<String, Value>,
}

/// Append an event to a session's history.
///
/// The oldest events make room for it. Members that the service does not know are kept.
#[utoipa::path(post, path = "/v1/sessions/{id}/events", tag = "sessions", operation_id = "append_session_event",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4")),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "`event_type`, and optionally `timestamp`, `source` and `detail`",
        example = json!({"event_type": "Navigated", "source": "agent", "detail": {"url": "https://example.com/"}})),
    responses(
        (status = 201, description = "Appended", body = EventDocument, headers(("etag" = String, description = "The session's version"))),
        (status = 404, description = "There is none (`session_not_found`), or it has expired (`session_expired`)"),
        (status = 409, description = "Too many writers changed it at once"),
        (status = 412, description = "The precondition does not hold"),
        (status = 422, description = "The body sets an `index`"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn post(
    State(api): State<Api>,
    caller: Writer,
    PathId(id): PathId,
    _: Params<NoParams>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response> {
    counted(&api, "event", async {
        let expected = Precondition::of(&headers)?;
        let event = NewEvent::from_body(body(&api, &headers, sent, Accepts::Json, true).await?)?;
        let target = Target { api: &api, namespace: caller.namespace(), id: &id, expected };
        let limits = limits(&api);
        let record = target
            .change(|current, stamp| change::append_event(current, event.clone(), stamp, &limits))
            .await?;
        let Some(event) = record.events.last() else {
            return Err(Problem::new("internal_error", "the history keeps no events"));
        };
        Ok((StatusCode::CREATED, session_headers(&record.session), Json(event)).into_response())
    })
    .await
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsParams {
    /// Only those whose index is greater.
    after: Option<u64>,
    /// At most so many, 1 to 1000; 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// A part of a session's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionEvents)]
pub(super) struct EventsPage {
    /// The events, oldest first.
    #[schema(value_type = Vec<EventDocument>)]
    items: Vec<Event>,
    /// Send it as `after=` for the next ones; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<u64>,
    /// How many events there ever were.
    event_count: u64,
    /// How many of them are no longer kept.
    events_dropped: u64,
}

/// Read a session's history, oldest first.
#[utoipa::path(get, path = "/v1/sessions/{id}/events", tag = "sessions", operation_id = "get_session_events",
    params(("id" = String, Path, description = "The session", example = "sess_a1b2c3d4"), EventsParams),
    responses(
        (status = 200, description = "The events that are kept", body = EventsPage,
            example = json!({"items": [{"index": 0, "event_type": "StatusChanged", "timestamp": "2026-01-15T10:30:00.000Z",
                "detail": {"previous_status": "CREATING", "new_status": "READY"}}], "event_count": 1, "events_dropped": 0})),
        (status = 404, description = "There is none (`session_not_found`), or it has expired (`session_expired`)"),
    ))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Reader,
    PathId(id): PathId,
    Params(params): Params<EventsParams>,
) -> Result<Json<EventsPage>> {
    counted(&api, "events", async {
        let limit = bounded("limit", params.limit, 1..=1000, 100)?;
        let stored = api.sessions.get(caller.namespace(), &id).await?;
        let record = live(&id, stored.as_ref(), api.clock.now())?;
        let items = record.events_after(params.after, usize::try_from(limit).unwrap_or(1000)).to_vec();
        let last = items.last().map(|event| event.index);
        let newest = record.events.last().map(|event| event.index);
        Ok(Json(EventsPage {
            items,
            next_after: last.filter(|_| last < newest),
            event_count: record.session.event_count,
            events_dropped: record.session.events_dropped,
        }))
    })
    .await
}
