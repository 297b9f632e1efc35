//! `POST /v1/sessions`: a new session.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::change::ATTEMPTS;
use super::counted;
use super::request::{body, check_reachable, limits, stamp};
use super::view::{SessionDocument, response};
use crate::api::body::Accepts;
use crate::api::caller::Writer;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord, change};
use crate::store::{Error, PutSession, SessionCondition, SessionPutOutcome};

/// How many names are drawn before giving up: each has 32 random bits.
const DRAWS: usize = 16;

/// Create a session.
///
/// With a `project_id` its profile is `browser`, otherwise `mcp`, unless `profile` says which. Members that the
/// service does not know are kept. Credentials (`signing_key`, `connect_url`, those in `model_config`) are not
/// shown again unless they are asked for.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", operation_id = "create_session",
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "A JSON object; without an `id` the service draws one",
        example = json!({"project_id": "jobseek", "user_metadata": {"job": "j-17"}})),
    responses(
        (status = 201, description = "Created", body = SessionDocument, headers(
            ("location" = String, description = "Where it is"),
            ("etag" = String, description = "Its version"),
        )),
        (status = 409, description = "A session of this id exists"),
        (status = 422, description = "The body sets what only the service sets"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn post(
    State(api): State<Api>,
    caller: Writer,
    _: Params<NoParams>,
    headers: HeaderMap,
    sent: Body,
) -> Result<Response> {
    counted(&api, "create", async {
        let sent = body(&api, &headers, sent, Accepts::Json, true).await?;
        let record = match SessionId::named_in(&sent)? {
            Some(id) => {
                check_reachable(&id)?;
                let taken = || {
                    Problem::new("session_exists", format!("there is a session `{id}` already"))
                        .with("id", id.as_str())
                };
                store(&api, caller.namespace(), id.clone(), sent, Free::IfAbsent).await??.ok_or_else(taken)?
            }
            None => draw(&api, caller.namespace(), sent).await?,
        };
        let mut response = response(StatusCode::CREATED, &record)?;
        let location = format!("/v1/sessions/{}", record.session.id);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    })
    .await
}

/// Stores a new session under a name that nobody has.
async fn draw(api: &Api, namespace: &Namespace, sent: Value) -> Result<SessionRecord> {
    for _ in 0..DRAWS {
        let random = getrandom::u32()
            .map_err(|error| Problem::new("internal_error", format!("no randomness: {error}")))?;
        let id = SessionId::from_random(random);
        match store(api, namespace, id, sent.clone(), Free::IfAbsent).await? {
            Ok(Some(record)) => return Ok(record),
            Ok(None) => {}
            // Whether so short a name is taken cannot be known just now.
            Err(Error::Unasked { .. }) => return draw_unique(api, namespace, sent).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::new("write_conflict", "every id that was drawn is taken; send one"))
}

/// Stores a new session under a name that nobody can have.
async fn draw_unique(api: &Api, namespace: &Namespace, sent: Value) -> Result<SessionRecord> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Problem::new("internal_error", format!("no randomness: {error}")))?;
    let id = SessionId::from_unique(u128::from_ne_bytes(random));
    let stored = store(api, namespace, id, sent, Free::Surely).await??;
    stored
        .ok_or_else(|| Problem::new("write_conflict", "others write a session of a name that was just drawn"))
}

/// Why there is no session of a name.
#[derive(Clone, Copy, Debug)]
enum Free {
    /// That is to be seen.
    IfAbsent,
    /// The name is one that nobody can have.
    Surely,
}

/// Stores a new session; none where there is one of that name.
async fn store(
    api: &Api,
    namespace: &Namespace,
    id: SessionId,
    sent: Value,
    free: Free,
) -> Result<crate::store::Result<Option<SessionRecord>>> {
    let now = api.clock.now();
    let mut record = change::create(id, sent, stamp(api, now, None), &limits(api))?;
    let condition = match free {
        Free::IfAbsent => SessionCondition::Absent(now),
        Free::Surely => SessionCondition::Any,
    };
    for _ in 0..ATTEMPTS {
        let put = PutSession { namespace: namespace.clone(), record: record.clone(), condition };
        match api.sessions.put(put).await {
            Ok(SessionPutOutcome::Created | SessionPutOutcome::Replaced) => return Ok(Ok(Some(record))),
            Ok(SessionPutOutcome::ConditionFailed) => return Ok(Ok(None)),
            // The last one of this name was deleted by a clock that is ahead of this one.
            Ok(SessionPutOutcome::Behind(deletion)) => {
                record.session.version = stamp(api, now, Some(deletion)).version;
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Err(Problem::new("write_conflict", "others create and delete a session of this id all the time"))
}
