//! How the members of a request body become fields of a session.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Session;
use super::error::SessionError;
use super::lifecycle::{STATUSES, Status};
use super::merge::{merge_members, merge_patch};
use super::profile::{Ttl, seconds};
use crate::domain::time::{Timestamp, Version};

/// What a body means for the fields that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They become what it says (POST, PUT). Null in a field that this service knows is as good as absent.
    Set,
    /// They change as RFC 7396 says (PATCH). Null removes.
    Merge,
}

/// Bounded text: at least one character, none of them a control character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    max_chars: usize,
    expected: &'static str,
}

impl Text {
    /// The name of a project, a source or a kind of event. Stores index them.
    pub(super) const NAME: Self = Self {
        max_chars: 256,
        expected: "a string of 1 to 256 characters, none of them a control character",
    };

    /// A sentence.
    pub(super) const REASON: Self = Self {
        max_chars: 1024,
        expected: "a string of 1 to 1024 characters, none of them a control character",
    };

    /// Reads what `field` holds.
    pub(super) fn read(self, field: &str, value: &Value) -> Result<String, SessionError> {
        value
            .as_str()
            .filter(|text| !text.is_empty() && text.chars().count() <= self.max_chars)
            .filter(|text| !text.chars().any(char::is_control))
            .map(str::to_owned)
            .ok_or_else(|| SessionError::invalid(field, self.expected))
    }
}

/// Writes the members of `body` into `session`.
///
/// Fields that only the service sets are accepted where they say what is already there, so that a client may
/// send back what it read. Neither the status nor `expires_at` is touched: they follow from rules that the
/// caller applies. The status that the body asks for is returned.
pub(super) fn write(
    session: &mut Session,
    body: Map<String, Value>,
    mode: Mode,
) -> Result<Option<Status>, SessionError> {
    let mut status = None;
    let mut ttl_seconds = None;
    for (name, value) in body {
        match name.as_str() {
            "status" if value.is_null() => {
                not_removed(mode, &name, STATUSES)?;
            }
            "status" => status = Some(Status::read(&name, &value)?),
            "ttl" => session.ttl = write_ttl(session.ttl, &name, &value, mode)?,
            "ttl_seconds" if value.is_null() => {}
            "ttl_seconds" => ttl_seconds = Some(seconds(&name, &value)?),
            "project_id" => write_project(session, &name, &value, mode)?,
            "connect_url" => session.connect_url = text(&name, value)?,
            "public_ip" => session.public_ip = text(&name, value)?,
            "signing_key" => session.signing_key = text(&name, value)?,
            "ecs_task_arn" => session.ecs_task_arn = text(&name, value)?,
            "user_metadata" => write_object(&mut session.user_metadata, &name, value, mode)?,
            "model_config" => write_object(&mut session.model_config, &name, value, mode)?,
            "resource_limits" => write_object(&mut session.resource_limits, &name, value, mode)?,
            "billing_info" => write_object(&mut session.billing_info, &name, value, mode)?,
            "state" => {
                let mut state = session.state.take().unwrap_or(Value::Null);
                match mode {
                    Mode::Set => state = value,
                    Mode::Merge => merge_patch(&mut state, value),
                }
                session.state = Some(state).filter(|state| !state.is_null());
            }
            // The history has its own route; taking these for an unknown attribute would look like success.
            "events" => return Err(SessionError::immutable(name)),
            known => match Owned::of(session, known) {
                Some(owned) if owned.is(&value, mode) => {}
                Some(_) => return Err(SessionError::immutable(name)),
                None => write_unknown(&mut session.extra, name, value, mode),
            },
        }
    }
    if let Some(seconds) = ttl_seconds {
        session.ttl.seconds = seconds;
    }
    Ok(status)
}

/// Null in a field that is always there: nothing in a PUT, an attempt to remove it in a PATCH.
fn not_removed(mode: Mode, field: &str, expected: &'static str) -> Result<(), SessionError> {
    match mode {
        Mode::Set => Ok(()),
        Mode::Merge => Err(SessionError::invalid(field, expected)),
    }
}

fn write_ttl(current: Ttl, name: &str, value: &Value, mode: Mode) -> Result<Ttl, SessionError> {
    const EXPECTED: &str = "an object with `mode` and `seconds`";
    match value {
        Value::Null => not_removed(mode, name, EXPECTED).map(|()| current),
        Value::Object(object) => current.with(object),
        _ => Err(SessionError::invalid(name, EXPECTED)),
    }
}

fn write_project(session: &mut Session, name: &str, value: &Value, mode: Mode) -> Result<(), SessionError> {
    match (&session.project_id, value) {
        (None, Value::Null) => Ok(()),
        (Some(_), Value::Null) if mode == Mode::Set => Ok(()),
        (Some(current), Value::String(asked)) if current == asked => Ok(()),
        (Some(_), _) => Err(SessionError::immutable(name)),
        (None, value) => {
            session.project_id = Some(Text::NAME.read(name, value)?);
            Ok(())
        }
    }
}

fn text(name: &str, value: Value) -> Result<Option<String>, SessionError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(SessionError::invalid(name, "a string")),
    }
}

fn write_object(
    target: &mut Map<String, Value>,
    name: &str,
    value: Value,
    mode: Mode,
) -> Result<(), SessionError> {
    match (value, mode) {
        (Value::Null, _) => target.clear(),
        (Value::Object(object), Mode::Set) => *target = object,
        (Value::Object(object), Mode::Merge) => merge_members(target, object),
        _ => return Err(SessionError::invalid(name, "an object")),
    }
    Ok(())
}

fn write_unknown(extra: &mut Map<String, Value>, name: String, value: Value, mode: Mode) {
    match mode {
        Mode::Set => {
            extra.insert(name, value);
        }
        Mode::Merge => merge_members(extra, Map::from_iter([(name, value)])),
    }
}

/// What a field that only the service sets holds now.
enum Owned<'a> {
    Text(&'a str),
    Time(Option<Timestamp>),
    Count(u64),
    Version(Version),
}

impl<'a> Owned<'a> {
    /// The field of that name; none if the name is not one of them.
    fn of(session: &'a Session, name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Text(session.id.as_str()),
            "profile" => Self::Text(session.profile.as_str()),
            "created_at" => Self::Time(Some(session.created_at)),
            "updated_at" => Self::Time(Some(session.updated_at)),
            "expires_at" => Self::Time(Some(session.expires_at)),
            "provisioning_started_at" => Self::Time(session.provisioning_started_at),
            "ready_at" => Self::Time(session.ready_at),
            "last_active_at" => Self::Time(session.last_active_at),
            "terminated_at" => Self::Time(session.terminated_at),
            "event_count" => Self::Count(session.event_count),
            "events_dropped" => Self::Count(session.events_dropped),
            "version" => Self::Version(session.version),
            _ => return None,
        })
    }

    /// Whether `value` says the same.
    fn is(&self, value: &Value, mode: Mode) -> bool {
        if value.is_null() {
            return mode == Mode::Set || matches!(self, Self::Time(None));
        }
        match *self {
            Self::Text(text) => value.as_str() == Some(text),
            Self::Time(time) => time.is_some() && Timestamp::deserialize(value).ok() == time,
            Self::Count(count) => value.as_u64() == Some(count),
            // As stores keep it, or as answers and entity tags show it.
            Self::Version(version) => {
                value.as_u64() == Some(version.as_u64()) || value.as_str() == Some(&version.to_string())
            }
        }
    }
}
