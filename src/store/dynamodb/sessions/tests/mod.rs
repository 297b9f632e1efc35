//! What the contract does not say: items of other programs, exactness, sealing, failures.

mod exact;
mod failures;
mod foreign;
mod races;
mod sealing;

use serde_json::json;

use super::super::item::Item;
use super::testing::SessionsTable;
use crate::domain::session::change::{Stamp, append_event, patch, set_status, touch};
use crate::domain::session::{
    Limits, NewEvent, SessionId, SessionRecord, Status, StatusRequest, TouchRequest,
};
use crate::domain::{Namespace, Timestamp, Version};
use crate::store::conformance::{at, session};
use crate::store::{PutSession, SessionCondition, SessionPutOutcome, SessionStore};

/// When tests change something: in the middle of a second.
const NOW: Timestamp = Timestamp::from_millis(1_768_473_000_789);

fn id(name: &str) -> SessionId {
    SessionId::new(name).expect("an id")
}

fn stamp() -> Stamp {
    Stamp { now: NOW, version: Version::first_of(NOW) }
}

fn put(record: SessionRecord, condition: SessionCondition) -> PutSession {
    PutSession { namespace: Namespace::default(), record, condition }
}

async fn get(store: &dyn SessionStore, name: &str) -> SessionRecord {
    store.get(&Namespace::default(), &id(name)).await.expect("read").expect("a session")
}

async fn store_any(store: &dyn SessionStore, record: SessionRecord) {
    store.put(put(record, SessionCondition::Any)).await.expect("stored");
}

/// Changes a session as the API does: read, change, write on the condition that it is still that version.
async fn change(
    table: &SessionsTable,
    name: &str,
    make: impl FnOnce(&SessionRecord) -> SessionRecord,
) -> (Item, Item, SessionRecord) {
    let before = table.item(name).await.expect("an item");
    let read = get(&table.store, name).await;
    let next = make(&read);
    let condition = SessionCondition::Version(read.session.version);
    assert_eq!(table.store.put(put(next.clone(), condition)).await, Ok(SessionPutOutcome::Replaced));
    assert_eq!(get(&table.store, name).await, next, "what was written comes back");
    (before, table.item(name).await.expect("an item"), next)
}

fn to_status(status: Status) -> impl FnOnce(&SessionRecord) -> SessionRecord {
    move |record| {
        set_status(record, StatusRequest::to(status), stamp(), &Limits::default()).expect("a legal move")
    }
}

fn touched(record: &SessionRecord) -> SessionRecord {
    touch(record, TouchRequest::default(), stamp(), &Limits::default()).expect("touched")
}

fn with_event(record: &SessionRecord) -> SessionRecord {
    let event =
        NewEvent::from_body(json!({"event_type": "Navigated", "detail": {"n": 1}})).expect("an event");
    append_event(record, event, stamp(), &Limits::default()).expect("appended")
}

fn patched(body: serde_json::Value) -> impl FnOnce(&SessionRecord) -> SessionRecord {
    move |record| patch(record, body, stamp(), &Limits::default()).expect("patched")
}

/// The names of attributes that differ, sorted.
fn differing(before: &Item, after: &Item) -> Vec<String> {
    let mut names: Vec<String> = before
        .keys()
        .chain(after.keys())
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
