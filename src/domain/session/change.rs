//! The changes a session can undergo: each turns a record and a request into the next record.

use serde_json::{Map, Value};

use super::error::SessionError;
use super::fields::{self, Mode};
use super::history::NewEvent;
use super::id::SessionId;
use super::lifecycle::StatusRequest;
use super::profile::{self, Profile, TtlMode};
use super::{Limits, Session, SessionRecord, json_bytes};
use crate::domain::time::{Timestamp, Version};

/// When a change is made, and the version of what it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The time.
    pub now: Timestamp,
    /// The version; newer than that of the record that is changed.
    pub version: Version,
}

/// A sign of life, with or without a new length of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TouchRequest {
    /// How many seconds the session lives from now on.
    pub ttl_seconds: Option<u64>,
}

impl TouchRequest {
    /// Reads `{"ttl_seconds"?}`; null is the same as an empty object.
    ///
    /// # Errors
    /// Other members are refused: a misspelt one would otherwise change nothing.
    pub fn from_body(body: &Value) -> Result<Self, SessionError> {
        let object = match body {
            Value::Null => return Ok(Self::default()),
            Value::Object(object) => object,
            _ => return Err(SessionError::NotAnObject),
        };
        let mut request = Self::default();
        for (member, value) in object {
            match member.as_str() {
                "ttl_seconds" if value.is_null() => {}
                "ttl_seconds" => request.ttl_seconds = Some(profile::seconds(member, value)?),
                _ => return Err(SessionError::invalid(member, "absent; the only member is ttl_seconds")),
            }
        }
        Ok(request)
    }
}

/// A new session from a JSON object.
///
/// Its profile is `browser` if it names a project and `mcp` if not, unless it says which. It begins in the status
/// that it asks for, or in the profile's first one, and without history.
///
/// # Errors
/// Fields that only the service sets are refused, `id` unless it is `id`.
pub fn create(
    id: SessionId,
    body: Value,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    let body = object(body)?;
    let named = |field: &str| body.get(field).filter(|value| !value.is_null());
    let profile = match named("profile") {
        None => Profile::implied(named("project_id").is_some()),
        Some(value) => value
            .as_str()
            .and_then(Profile::parse)
            .ok_or_else(|| SessionError::invalid("profile", "`browser` or `mcp`"))?,
    };
    let mut session = blank(id, profile, stamp, limits);
    let status = fields::write(&mut session, body, Mode::Set)?.unwrap_or(profile.initial_status());
    if profile == Profile::Browser && session.project_id.is_none() {
        return Err(SessionError::MissingField { field: "project_id" });
    }
    session.enter(status, stamp.now);
    session.expires_at = session.created_at.plus_secs(session.ttl.seconds);
    within(SessionRecord { session, events: Vec::new() }, limits)
}

/// The session `id` as a JSON object says, whether or not there is one already (PUT).
///
/// What clients keep in a session (the four objects, `state`, the url, address, key and task, unknown attributes)
/// becomes exactly what the body says. Its identity, status, times, `ttl` and history stay unless the body names
/// something else that may follow. One that has expired is replaced by a new one, without a past.
///
/// # Errors
/// As for [`create`] and [`patch`].
pub fn replace(
    existing: Option<&SessionRecord>,
    id: &SessionId,
    body: Value,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    let Some(current) = existing.filter(|record| !record.session.is_expired(stamp.now)) else {
        return create(id.clone(), body, stamp, limits);
    };
    let body = object(body)?;
    let mut next = current.clone();
    for content in [
        &mut next.session.user_metadata,
        &mut next.session.model_config,
        &mut next.session.resource_limits,
        &mut next.session.billing_info,
        &mut next.session.extra,
    ] {
        content.clear();
    }
    next.session.state = None;
    for content in [
        &mut next.session.connect_url,
        &mut next.session.public_ip,
        &mut next.session.signing_key,
        &mut next.session.ecs_task_arn,
    ] {
        *content = None;
    }
    rewrite(current, next, body, Mode::Set, stamp, limits)
}

/// The session with an RFC 7396 merge patch applied.
///
/// # Errors
/// [`SessionError::Immutable`] for a change to what only the service sets, to `id`, `profile` or `created_at`, or
/// to a `project_id` once there is one; [`SessionError::IllegalTransition`] for a `status` that may not follow.
pub fn patch(
    current: &SessionRecord,
    patch: Value,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    rewrite(current, current.clone(), object(patch)?, Mode::Merge, stamp, limits)
}

/// The session in another status, with the event that records it. Its current status changes nothing.
///
/// Never fails for size, so that every session can end: older events make room for the new one.
///
/// # Errors
/// [`SessionError::StatusMismatch`] before [`SessionError::IllegalTransition`], when both hold.
pub fn set_status(
    current: &SessionRecord,
    request: StatusRequest,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    let status = current.session.status;
    if let Some(expected) = request.expected_status.filter(|&expected| expected != status) {
        return Err(SessionError::StatusMismatch { expected, current: status });
    }
    let mut next = current.clone();
    if !transit(&mut next, request, stamp.now, limits)? {
        return Ok(next);
    }
    let mut next = settle(current, next, stamp);
    next.make_room(limits.record_bytes, 0);
    Ok(next)
}

/// The session with one more event. Older events make room for it.
///
/// # Errors
/// [`SessionError::TooLarge`] for an event that could not be kept even alone.
pub fn append_event(
    current: &SessionRecord,
    event: NewEvent,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    let mut next = current.clone();
    next.push(event, stamp.now, limits.history);
    if next.events.is_empty() && limits.history.events > 0 {
        return Err(SessionError::TooLarge { limit: limits.history.bytes });
    }
    let mut next = settle(current, next, stamp);
    if !next.make_room(limits.record_bytes, 1) {
        return Err(SessionError::TooLarge { limit: limits.record_bytes });
    }
    Ok(next)
}

/// The session with a sign of life: active now, and living on from now if its life slides or a length is given.
///
/// # Errors
/// [`SessionError::InvalidField`] for a length out of bounds.
pub fn touch(
    current: &SessionRecord,
    request: TouchRequest,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    let mut next = current.clone();
    next.session.last_active_at = Some(stamp.now);
    if let Some(asked) = request.ttl_seconds {
        next.session.ttl.seconds = profile::seconds("ttl_seconds", &asked.into())?;
        next.session.expires_at = stamp.now.plus_secs(asked);
    }
    let mut next = settle(current, next, stamp);
    next.make_room(limits.record_bytes, 0);
    Ok(next)
}

/// What PUT and PATCH have in common: `next` is `current` as far as the body does not speak of it.
fn rewrite(
    current: &SessionRecord,
    mut next: SessionRecord,
    body: Map<String, Value>,
    mode: Mode,
    stamp: Stamp,
    limits: &Limits,
) -> Result<SessionRecord, SessionError> {
    let status = fields::write(&mut next.session, body, mode)?;
    if let Some(status) = status {
        transit(&mut next, StatusRequest::to(status), stamp.now, limits)?;
    }
    let session = &mut next.session;
    if session.ttl.mode == TtlMode::Fixed && session.ttl != current.session.ttl {
        session.expires_at = session.created_at.plus_secs(session.ttl.seconds);
    }
    within(settle(current, next, stamp), limits)
}

/// Moves the record to the status asked for, with all that goes with it. Whether it was in another one.
fn transit(
    record: &mut SessionRecord,
    request: StatusRequest,
    now: Timestamp,
    limits: &Limits,
) -> Result<bool, SessionError> {
    let (from, to, profile) = (record.session.status, request.status, record.session.profile);
    if from == to {
        return Ok(false);
    }
    if !from.may_become(to, profile) {
        return Err(SessionError::IllegalTransition { from, to, allowed: from.allowed_next(profile) });
    }
    record.session.enter(to, now);
    record.push(NewEvent::status_changed(from, request), now, limits.history);
    Ok(true)
}

/// Ends a change: a sliding life starts anew, and what differs from before gets the new time and version.
fn settle(before: &SessionRecord, mut next: SessionRecord, stamp: Stamp) -> SessionRecord {
    if next.session.ttl.mode == TtlMode::Sliding {
        next.session.expires_at = stamp.now.plus_secs(next.session.ttl.seconds);
    }
    if next != *before {
        next.session.updated_at = stamp.now;
        next.session.version = stamp.version;
    }
    next
}

fn within(record: SessionRecord, limits: &Limits) -> Result<SessionRecord, SessionError> {
    let limit = limits.record_bytes;
    if json_bytes(&record) > limit { Err(SessionError::TooLarge { limit }) } else { Ok(record) }
}

fn object(body: Value) -> Result<Map<String, Value>, SessionError> {
    match body {
        Value::Object(object) => Ok(object),
        _ => Err(SessionError::NotAnObject),
    }
}

fn blank(id: SessionId, profile: Profile, stamp: Stamp, limits: &Limits) -> Session {
    let ttl = limits.ttl(profile);
    Session {
        id,
        profile,
        project_id: None,
        status: profile.initial_status(),
        created_at: stamp.now,
        updated_at: stamp.now,
        expires_at: stamp.now.plus_secs(ttl.seconds),
        provisioning_started_at: None,
        ready_at: None,
        last_active_at: None,
        terminated_at: None,
        user_metadata: Map::new(),
        model_config: Map::new(),
        resource_limits: Map::new(),
        billing_info: Map::new(),
        connect_url: None,
        public_ip: None,
        signing_key: None,
        ecs_task_arn: None,
        state: None,
        ttl,
        event_count: 0,
        events_dropped: 0,
        version: stamp.version,
        extra: Map::new(),
    }
}
