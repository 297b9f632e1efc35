//! Scenarios of every change, and the sessions they start from.

mod creating;
mod living;
mod rewriting;

use serde_json::{Value, json};

use super::change::{append_event, create, patch, replace, set_status, touch};
use super::*;

const T0: u64 = 1_768_473_000;

/// The stamp of second `T0 + seconds`; versions follow the time.
fn at(seconds: u64) -> Stamp {
    let now = Timestamp::from_secs(T0 + seconds);
    Stamp { now, version: Version::first_of(now) }
}

fn secs(time: Option<Timestamp>) -> Option<u64> {
    time.map(|time| time.as_secs() - T0)
}

fn limits() -> Limits {
    Limits::default()
}

fn id() -> SessionId {
    SessionId::from_random(0xa1b2_c3d4)
}

fn made(body: Value) -> SessionRecord {
    create(id(), body, at(0), &limits()).expect("a valid body")
}

fn browser() -> SessionRecord {
    made(
        json!({"project_id": "jobseek", "signing_key": "K", "user_metadata": {"user": {"id": 1, "plan": "a"}}}),
    )
}

fn mcp() -> SessionRecord {
    made(json!({"state": {"step": 1, "tabs": ["a"]}, "color": "red"}))
}

fn moved(record: &SessionRecord, status: Status, seconds: u64) -> SessionRecord {
    set_status(record, StatusRequest::to(status), at(seconds), &limits()).expect("a legal move")
}

fn patched(record: &SessionRecord, body: Value) -> Result<SessionRecord, SessionError> {
    patch(record, body, at(10), &limits())
}

fn put(record: &SessionRecord, body: Value) -> Result<SessionRecord, SessionError> {
    replace(Some(record), &id(), body, at(10), &limits())
}

fn invalid_field(result: Result<SessionRecord, SessionError>) -> String {
    match result {
        Err(SessionError::InvalidField { field, .. }) => field,
        other => panic!("not an invalid field: {other:?}"),
    }
}
