//! The history of a session: a capped list of events that counts what it drops.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::SessionError;
use super::fields::Text;
use super::lifecycle::{Status, StatusRequest};
use super::{SessionRecord, json_bytes};
use crate::domain::time::Timestamp;

/// How much history a session keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The most events; with 0 they are only counted.
    pub events: usize,
    /// The most bytes of JSON that they may have together.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    /// 200 events and 64 KiB.
    fn default() -> Self {
        Self { events: 200, bytes: 64 * 1024 }
    }
}

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place among all events of the session, from 0; never used again when older events are dropped.
    pub index: u64,
    /// What kind of event.
    pub event_type: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Who reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What there is to know about it.
    #[serde(default)]
    pub detail: Map<String, Value>,
    /// Attributes this service does not know, under their own names.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An event as it is reported: without its place in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What kind of event.
    pub event_type: String,
    /// When it happened; when it is appended if nobody says.
    pub timestamp: Option<Timestamp>,
    /// Who reports it.
    pub source: Option<String>,
    /// What there is to know about it.
    pub detail: Map<String, Value>,
    /// Attributes this service does not know, under their own names.
    pub extra: Map<String, Value>,
}

impl NewEvent {
    /// Reads `{"event_type", "timestamp"?, "source"?, "detail"?}`; other members are kept.
    ///
    /// # Errors
    /// [`SessionError::Immutable`] for an `index`: the history gives it.
    pub fn from_body(body: Value) -> Result<Self, SessionError> {
        let Value::Object(object) = body else { return Err(SessionError::NotAnObject) };
        let mut event_type = None;
        let (mut timestamp, mut source) = (None, None);
        let (mut detail, mut extra) = (Map::new(), Map::new());
        for (member, value) in object {
            match (member.as_str(), value) {
                ("event_type", value) => event_type = Some(Text::NAME.read(&member, &value)?),
                ("index", _) => return Err(SessionError::immutable(member)),
                ("timestamp" | "source" | "detail", Value::Null) => {}
                ("timestamp", value) => {
                    let read = Timestamp::deserialize(value);
                    timestamp = Some(read.map_err(|_| SessionError::invalid(member, TIME))?);
                }
                ("source", value) => source = Some(Text::NAME.read(&member, &value)?),
                ("detail", Value::Object(value)) => detail = value,
                ("detail", _) => return Err(SessionError::invalid(member, "an object")),
                (_, value) => {
                    extra.insert(member, value);
                }
            }
        }
        let event_type = event_type.ok_or(SessionError::MissingField { field: "event_type" })?;
        Ok(Self { event_type, timestamp, source, detail, extra })
    }

    /// The event that records a change of status.
    pub(super) fn status_changed(previous: Status, request: StatusRequest) -> Self {
        let mut detail = Map::new();
        detail.insert("previous_status".to_owned(), json!(previous));
        detail.insert("new_status".to_owned(), json!(request.status));
        if let Some(reason) = request.reason {
            detail.insert("reason".to_owned(), Value::String(reason));
        }
        Self {
            event_type: "StatusChanged".to_owned(),
            timestamp: None,
            source: request.source,
            detail,
            extra: Map::new(),
        }
    }
}

/// What is accepted as a time.
const TIME: &str = "an RFC 3339 time or Unix seconds";

impl SessionRecord {
    /// Up to `limit` of the kept events whose index is greater than `after`, oldest first.
    pub fn events_after(&self, after: Option<u64>, limit: usize) -> &[Event] {
        let from = self.events.partition_point(|event| after.is_some_and(|after| event.index <= after));
        let until = from.saturating_add(limit).min(self.events.len());
        &self.events[from..until]
    }

    /// Appends an event and drops the oldest ones that no longer fit.
    pub(super) fn push(&mut self, event: NewEvent, now: Timestamp, limits: HistoryLimits) {
        let NewEvent { event_type, timestamp, source, detail, extra } = event;
        let index = self.session.event_count;
        let timestamp = timestamp.unwrap_or(now);
        self.events.push(Event { index, event_type, timestamp, source, detail, extra });
        self.session.event_count += 1;
        let mut bytes: usize = self.events.iter().map(json_bytes).sum();
        let mut surplus = 0;
        for event in &self.events {
            if bytes <= limits.bytes && self.events.len() - surplus <= limits.events {
                break;
            }
            bytes -= json_bytes(event);
            surplus += 1;
        }
        self.drop_oldest(surplus);
    }

    /// Drops the oldest events, but not the newest `keep`, until the record has at most `limit` bytes of JSON.
    /// Whether that was enough.
    pub(super) fn make_room(&mut self, limit: usize, keep: usize) -> bool {
        loop {
            let bytes = json_bytes(self);
            if bytes <= limit {
                return true;
            }
            let spare = self.events.len().saturating_sub(keep);
            if spare == 0 {
                return false;
            }
            let (mut freed, mut count) = (0, 0);
            while count < spare && freed < bytes - limit {
                freed += json_bytes(&self.events[count]) + 1;
                count += 1;
            }
            // Dropping can lengthen `events_dropped` by a digit, so the sum is made again.
            self.drop_oldest(count);
        }
    }

    fn drop_oldest(&mut self, count: usize) {
        self.events.drain(..count);
        self.session.events_dropped += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::change::{Stamp, create};
    use crate::domain::session::{Limits, SessionId};
    use crate::domain::time::Version;

    const NOW: Timestamp = Timestamp::from_secs(1_768_473_000);

    fn record() -> SessionRecord {
        let stamp = Stamp { now: NOW, version: Version::from_u64(1) };
        create(SessionId::from_random(1), json!({}), stamp, &Limits::default()).expect("complete")
    }

    fn event(size: usize) -> NewEvent {
        NewEvent::from_body(json!({"event_type": "Note", "detail": {"text": "x".repeat(size)}}))
            .expect("complete")
    }

    fn indices(record: &SessionRecord) -> Vec<u64> {
        record.events.iter().map(|event| event.index).collect()
    }

    #[test]
    fn keeps_the_newest_by_number() {
        let mut record = record();
        for _ in 0..5 {
            record.push(event(1), NOW, HistoryLimits { events: 3, bytes: 64 * 1024 });
        }
        assert_eq!(indices(&record), [2, 3, 4]);
        assert_eq!((record.session.event_count, record.session.events_dropped), (5, 2));
    }

    #[test]
    fn keeps_the_newest_by_size() {
        let mut record = record();
        let limits = HistoryLimits { events: 100, bytes: 1000 };
        for size in [300, 300, 300, 10, 500] {
            record.push(event(size), NOW, limits);
            assert!(record.events.iter().map(json_bytes).sum::<usize>() <= 1000);
        }
        assert_eq!(indices(&record), [3, 4]);
        record.push(event(2000), NOW, limits);
        assert_eq!(indices(&record), [0; 0]);
        assert_eq!((record.session.event_count, record.session.events_dropped), (6, 6));
        record.push(event(1), NOW, limits);
        assert_eq!(indices(&record), [6]);
    }

    #[test]
    fn the_default_limits_are_those_documented() {
        let mut record = record();
        for _ in 0..250 {
            record.push(event(1), NOW, HistoryLimits::default());
        }
        assert_eq!((record.events.len(), record.session.events_dropped), (200, 50));
        for _ in 0..20 {
            record.push(event(10_000), NOW, HistoryLimits::default());
        }
        assert_eq!(record.events.len(), 6);
    }

    #[test]
    fn makes_room_but_keeps_what_must_stay() {
        let mut record = record();
        for _ in 0..20 {
            record.push(event(100), NOW, HistoryLimits::default());
        }
        let limit = json_bytes(&record) - 1;
        assert!(record.make_room(limit, 1));
        assert_eq!(indices(&record), (1..20).collect::<Vec<_>>());
        assert!(json_bytes(&record) <= limit);
        assert!(!record.make_room(10, 2));
        assert_eq!(indices(&record), [18, 19]);
        assert!(!record.make_room(10, 0));
        assert_eq!((record.session.event_count, record.session.events_dropped), (20, 20));
    }

    #[test]
    fn pages_by_index() {
        let mut record = record();
        for _ in 0..6 {
            record.push(event(1), NOW, HistoryLimits { events: 4, bytes: 64 * 1024 });
        }
        let page = |after, limit| {
            record.events_after(after, limit).iter().map(|event| event.index).collect::<Vec<_>>()
        };
        assert_eq!(page(None, 2), [2, 3]);
        assert_eq!(page(Some(0), 9), [2, 3, 4, 5]);
        assert_eq!(page(Some(3), usize::MAX), [4, 5]);
        assert_eq!(page(Some(5), 9), [0; 0]);
        assert_eq!(page(None, 0), [0; 0]);
    }

    #[test]
    fn reads_an_event() {
        let body = json!({
            "event_type": "Navigated", "timestamp": 1_768_400_000, "source": "agent",
            "detail": {"url": "https://example.com/"}, "correlation_id": "c-1",
        });
        let event = NewEvent::from_body(body).expect("complete");
        assert_eq!(event.timestamp, Some(Timestamp::from_secs(1_768_400_000)));
        let mut record = record();
        record.push(event, NOW, HistoryLimits::default());
        assert_eq!(
            serde_json::to_value(&record.events).expect("JSON"),
            json!([{
                "index": 0, "event_type": "Navigated", "timestamp": "2026-01-14T14:13:20.000Z", "source": "agent",
                "detail": {"url": "https://example.com/"}, "correlation_id": "c-1",
            }])
        );
    }

    #[test]
    fn refuses_what_is_no_event() {
        let refuse = |body: Value| NewEvent::from_body(body).unwrap_err();
        assert_eq!(refuse(json!([])), SessionError::NotAnObject);
        assert_eq!(refuse(json!({"source": "x"})), SessionError::MissingField { field: "event_type" });
        assert_eq!(refuse(json!({"event_type": "A", "index": 4})), SessionError::immutable("index"));
        for (body, name) in [
            (json!({"event_type": ""}), "event_type"),
            (json!({"event_type": 1}), "event_type"),
            (json!({"event_type": "A", "timestamp": "noon"}), "timestamp"),
            (json!({"event_type": "A", "source": []}), "source"),
            (json!({"event_type": "A", "detail": "text"}), "detail"),
        ] {
            assert!(
                matches!(refuse(body), SessionError::InvalidField { field, .. } if field == name),
                "{name}"
            );
        }
    }
}
