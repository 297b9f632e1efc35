//! Sessions as clients read them: versions as text, chosen fields, and no credential unless it was asked for.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::precondition::etag;
use crate::api::lookup::{http_date, json_type};
use crate::api::problem::{Problem, Result};
use crate::domain::session::{Session, SessionId, SessionRecord, redact};
use crate::store::Error;

/// A session among many that is there and cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnreadableSession {
    /// Its name.
    #[schema(example = "sess_a1b2c3d4")]
    id: String,
    /// `session_sealed`: this service lacks the key that it is sealed under. `entry_corrupt`: it is damaged.
    #[schema(example = "session_sealed")]
    code: &'static str,
    /// The same in words.
    detail: String,
}

impl UnreadableSession {
    pub(super) fn of(id: &SessionId, error: Error) -> Self {
        let problem = Problem::from(error);
        Self { id: id.to_string(), code: problem.code(), detail: problem.detail().to_owned() }
    }
}

/// A session. Optional fields that it lacks are left out; unknown attributes come back under their own names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionDocument {
    /// Its name, unique within the namespace.
    #[schema(example = "sess_a1b2c3d4")]
    id: String,
    /// `browser`: it belongs to a project, its status moves forward, it lives an hour from its creation. `mcp`:
    /// opaque state, any status, it lives a day from its last change.
    #[schema(example = "browser")]
    profile: String,
    /// The project it belongs to.
    #[schema(example = "jobseek")]
    project_id: Option<String>,
    /// CREATING, PROVISIONING, STARTING, READY, ACTIVE, TERMINATING, STOPPED, FAILED or `TIMED_OUT`.
    #[schema(example = "READY")]
    status: String,
    /// When it was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When it expires, or did.
    #[schema(format = DateTime)]
    expires_at: String,
    /// When it last became PROVISIONING.
    #[schema(format = DateTime)]
    provisioning_started_at: Option<String>,
    /// When it last became READY.
    #[schema(format = DateTime)]
    ready_at: Option<String>,
    /// When it last became ACTIVE or was touched.
    #[schema(format = DateTime)]
    last_active_at: Option<String>,
    /// When it reached a status in which it ends.
    #[schema(format = DateTime)]
    terminated_at: Option<String>,
    /// What the client wants to remember about it.
    user_metadata: Map<String, Value>,
    /// The language model that drives it; credentials in it are hidden.
    model_config: Map<String, Value>,
    /// What it may use.
    resource_limits: Map<String, Value>,
    /// What it used.
    billing_info: Map<String, Value>,
    /// Where a debugging client connects; hidden.
    connect_url: Option<String>,
    /// The public address of the machine that runs it.
    public_ip: Option<String>,
    /// The credential for `connect_url`; hidden.
    signing_key: Option<String>,
    /// The ECS task that runs it.
    ecs_task_arn: Option<String>,
    /// Whatever the client keeps in it, of any JSON type.
    state: Option<Value>,
    /// How long it lives: from its creation (`fixed`) or from its last change (`sliding`).
    ttl: TtlDocument,
    /// How many events there ever were.
    event_count: u64,
    /// How many of them are no longer kept.
    events_dropped: u64,
    /// The write that made it what it is; the `ETag` without its quotes.
    #[schema(example = "19bbf1124c00001")]
    version: String,
}

/// A session, or those of its fields that were asked for.
#[derive(Debug, ToSchema)]
#[schema(as = SessionFields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ChosenFields(std::collections::HashMap<String, Value>);

/// How long a session lives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionTtl)]
pub(super) struct TtlDocument {
    /// `fixed` or `sliding`.
    #[schema(example = "fixed")]
    mode: String,
    /// How many seconds.
    #[schema(example = 3600)]
    seconds: u64,
}

/// Which credentials an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// None.
    Hidden,
    /// Those that `fields` names.
    Named,
    /// All.
    Shown,
}

/// A session as JSON: all of it, or the fields that are named.
pub(super) fn document(
    session: &Session,
    fields: Option<&[String]>,
    secrecy: Secrecy,
) -> Result<Map<String, Value>> {
    if secrecy == Secrecy::Shown {
        return Ok(project(members(session)?, fields));
    }
    let mut public = session.clone();
    redact(&mut public);
    let mut document = project(members(&public)?, fields);
    if let (Secrecy::Named, Some(fields)) = (secrecy, fields) {
        // A field that only the session with its credentials has is one.
        for (name, value) in project(members(session)?, Some(fields)) {
            document.entry(name).or_insert(value);
        }
    }
    Ok(document)
}

fn members(session: &Session) -> Result<Map<String, Value>> {
    let unwritable = || Problem::new("internal_error", "the session cannot be written as JSON");
    let Ok(Value::Object(mut members)) = serde_json::to_value(session) else { return Err(unwritable()) };
    // As a number it would be rounded: it exceeds what a double holds exactly.
    members.insert("version".to_owned(), Value::String(session.version.to_string()));
    Ok(members)
}

fn project(mut members: Map<String, Value>, fields: Option<&[String]>) -> Map<String, Value> {
    if let Some(fields) = fields {
        members.retain(|name, _| fields.contains(name));
    }
    members
}

/// The headers that every answer about one session has.
pub(super) fn headers(session: &Session) -> HeaderMap {
    let (name, json) = json_type();
    HeaderMap::from_iter([
        (name, json),
        (ETAG, etag(session.version)),
        (LAST_MODIFIED, http_date(session.updated_at)),
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ])
}

/// An answer with the session as it is now, its credentials hidden.
pub(super) fn response(status: StatusCode, record: &SessionRecord) -> Result<Response> {
    let body = Value::Object(document(&record.session, None, Secrecy::Hidden)?).to_string();
    Ok((status, headers(&record.session), body).into_response())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::session::change::{Stamp, create};
    use crate::domain::session::{Limits, SessionId};
    use crate::domain::{Timestamp, Version};

    fn session() -> Session {
        let body = json!({
            "signing_key": "K1", "signingKey": "K2", "model_config": {"model": "m", "api_key": "K3"}, "state": 5,
        });
        let version = Version::from_u64(u64::MAX);
        let stamp = Stamp { now: Timestamp::from_secs(1_768_473_000), version };
        create(SessionId::from_random(1), body, stamp, &Limits::default()).expect("valid").session
    }

    fn shown(fields: Option<&[&str]>, secrecy: Secrecy) -> Value {
        let fields: Option<Vec<String>> =
            fields.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Value::Object(document(&session(), fields.as_deref(), secrecy).expect("JSON"))
    }

    #[test]
    fn credentials_show_only_when_asked_for() {
        for secrecy in [Secrecy::Hidden, Secrecy::Named] {
            let text = shown(None, secrecy).to_string();
            assert!(!text.contains("K1") && !text.contains("K2") && !text.contains("K3"), "{text}");
        }
        let all = shown(None, Secrecy::Shown).to_string();
        assert!(all.contains("K1") && all.contains("K2") && all.contains("K3"), "{all}");
        let fields = Some(["signing_key", "model_config", "state"].as_slice());
        assert_eq!(shown(fields, Secrecy::Hidden), json!({"model_config": {"model": "m"}, "state": 5}));
        assert_eq!(
            shown(fields, Secrecy::Named),
            json!({"model_config": {"model": "m"}, "signing_key": "K1", "state": 5}),
            "a credential within a field is not named by it"
        );
        assert_eq!(shown(Some(&["signingKey"]), Secrecy::Named), json!({"signingKey": "K2"}));
    }

    #[test]
    fn a_version_is_text() {
        assert_eq!(shown(Some(&["version"]), Secrecy::Hidden), json!({"version": "ffffffffffffffff"}));
        assert_eq!(headers(&session())[ETAG], "\"ffffffffffffffff\"");
    }
}
