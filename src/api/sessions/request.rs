//! What requests about sessions bring: an id in the path and a JSON body within bounds.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;

use super::RESERVED_ID;
use crate::api::body::{Accepts, blocking, read_json, receive};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::session::change::Stamp;
use crate::domain::session::{HistoryLimits, Limits, SessionError, SessionId};
use crate::domain::{Timestamp, Version};

/// How much longer than a session's compact JSON a body may be: white space and escapes.
const SLACK: usize = 4;

/// Bodies above this size are parsed off the async threads.
const INLINE_BYTES: usize = 256 << 10;

/// The session id in the path.
#[derive(Debug)]
pub(super) struct PathId(pub(super) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is not UTF-8 once decoded is no id either.
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(SessionError::InvalidId.into());
        };
        Ok(Self(SessionId::new(&text)?))
    }
}

/// Refuses the one id that no route could reach.
pub(super) fn check_reachable(id: &SessionId) -> Result<()> {
    if id.as_str() != RESERVED_ID {
        return Ok(());
    }
    let detail = format!("`{RESERVED_ID}` is the name of a route and cannot name a session");
    Err(Problem::new("invalid_session_id", detail).with("field", "id"))
}

/// A JSON body; null when there is none and none is needed.
pub(super) async fn body(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    accepts: Accepts,
    needed: bool,
) -> Result<Value> {
    let upload = receive(api, headers, body, accepts).await?;
    let limit = api.config.sessions.max_bytes;
    let most = u64::try_from(limit.saturating_mul(SLACK)).unwrap_or(u64::MAX);
    let raw = upload.source.read_whole(most)?.ok_or(SessionError::TooLarge { limit })?;
    if raw.is_empty() && !needed {
        return Ok(Value::Null);
    }
    if raw.len() <= INLINE_BYTES { read_json(&raw) } else { blocking(move || read_json(&raw)).await }
}

/// The bounds on sessions, as configured.
pub(super) fn limits(api: &Api) -> Limits {
    let sessions = &api.config.sessions;
    Limits {
        record_bytes: sessions.max_bytes,
        history: HistoryLimits { events: sessions.max_events, bytes: sessions.max_event_bytes },
        browser_ttl_seconds: sessions.browser_ttl_seconds,
        mcp_ttl_seconds: sessions.mcp_ttl_seconds,
    }
}

/// The stamp of a change that happens now to a session of the version `seen`, if there is one.
pub(super) fn stamp(api: &Api, now: Timestamp, seen: Option<Version>) -> Stamp {
    // Whoever wrote it may have had a clock that is ahead of this one.
    let version = match seen {
        Some(seen) => {
            api.clock.observe(seen);
            api.clock.version_above(seen)
        }
        None => api.clock.next_version(),
    };
    Stamp { now, version }
}
