//! The history of a session as a list attribute: written so that other programs can read it, read as they write it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value, json};

use super::super::item::number;
use super::field::{parse_time, time_of, write_time};
use super::layout::Layout;
use super::value::{from_attribute, to_attribute};
use crate::domain::Timestamp;

/// The names that members of an event have in a layout.
struct Names {
    event_type: &'static str,
    index: &'static str,
    /// The milliseconds that a time in whole seconds lacks.
    millis: &'static str,
}

const OWN: Names = Names { event_type: "event_type", index: "index", millis: "cc_millis" };
const WALLCRAWLER: Names = Names { event_type: "eventType", index: "ccIndex", millis: "ccMillis" };

const fn names(layout: Layout) -> &'static Names {
    match layout {
        Layout::Own => &OWN,
        Layout::Wallcrawler(_) => &WALLCRAWLER,
    }
}

/// A history whose first `dropped` events are gone; `None` if no attribute can hold it.
pub(super) fn write(layout: Layout, events: &Value, dropped: u64) -> Option<AttributeValue> {
    let written =
        events.as_array()?.iter().zip(dropped..).map(|(event, place)| write_one(layout, event, place));
    Some(AttributeValue::L(written.collect::<Option<_>>()?))
}

fn write_one(layout: Layout, event: &Value, place: u64) -> Option<AttributeValue> {
    let names = names(layout);
    let mut written = HashMap::new();
    for (member, value) in event.as_object()? {
        match member.as_str() {
            "index" if value.as_u64() == Some(place) => {}
            "index" => drop(written.insert(names.index.to_owned(), to_attribute(value)?)),
            "event_type" => drop(written.insert(names.event_type.to_owned(), to_attribute(value)?)),
            "timestamp" => {
                let at = time_of(value)?;
                written.insert("timestamp".to_owned(), write_time(layout, at));
                let millis = at.as_millis() % 1000;
                if layout != Layout::Own && millis > 0 {
                    written.insert(names.millis.to_owned(), number(millis));
                }
            }
            // Read as empty when it is missing.
            "detail" if value.as_object().is_some_and(Map::is_empty) => {}
            name => drop(written.insert(name.to_owned(), to_attribute(value)?)),
        }
    }
    Some(AttributeValue::M(written))
}

/// The events of a list, the first of them behind `dropped` others.
pub(super) fn read(layout: Layout, attribute: &AttributeValue, dropped: u64) -> Option<Value> {
    let events = attribute.as_l().ok()?.iter().zip(dropped..);
    Some(Value::Array(events.map(|(event, place)| read_one(layout, event, place)).collect()))
}

fn read_one(layout: Layout, event: &AttributeValue, place: u64) -> Value {
    let names = names(layout);
    let none = HashMap::new();
    let members = event.as_m().unwrap_or(&none);
    let string = |name: &str| members.get(name).and_then(|value| value.as_s().ok().cloned());
    let count = |name: &str| members.get(name).and_then(from_attribute)?.as_u64();
    let mut read = Map::new();
    let event_type = string(names.event_type);
    read.insert("event_type".to_owned(), event_type.unwrap_or_else(|| "Unknown".to_owned()).into());
    read.insert("index".to_owned(), count(names.index).unwrap_or(place).into());
    let at = members.get("timestamp").and_then(parse_time).unwrap_or_default();
    let millis = if layout == Layout::Own {
        0
    } else {
        count(names.millis).filter(|millis| *millis < 1000).unwrap_or(0)
    };
    let at = Timestamp::from_millis(at.as_millis().saturating_add(millis));
    read.insert("timestamp".to_owned(), at.to_string().into());
    for (name, value) in members {
        let known = [names.event_type, names.index, names.millis, "timestamp"];
        // What would stand for another member of our own form cannot be shown beside it.
        let taken = ["event_type", "index", "timestamp"];
        if known.contains(&name.as_str()) || taken.contains(&name.as_str()) {
            continue;
        }
        let Some(value) = from_attribute(value) else { continue };
        match name.as_str() {
            "detail" if !value.is_object() => drop(read.insert(name.clone(), json!({"value": value}))),
            "source" if !value.is_string() => {}
            _ => drop(read.insert(name.clone(), value)),
        }
    }
    read.entry("detail").or_insert_with(|| Value::Object(Map::new()));
    Value::Object(read)
}

#[cfg(test)]
mod tests {
    use super::super::super::item::text;
    use super::super::layout::Times;
    use super::*;

    const LAYOUTS: [Layout; 3] =
        [Layout::Own, Layout::Wallcrawler(Times::Number), Layout::Wallcrawler(Times::Text)];

    #[test]
    fn a_history_comes_back() {
        let events = json!([
            {"index": 7, "event_type": "A", "timestamp": "2026-01-15T10:30:00.123Z", "source": "s",
             "detail": {"n": 1}, "more": [1]},
            {"index": 9, "event_type": "B", "timestamp": "2026-01-15T10:30:01.000Z", "detail": {}},
        ]);
        for layout in LAYOUTS {
            let written = write(layout, &events, 7).expect("a list");
            assert_eq!(read(layout, &written, 7), Some(events.clone()), "{layout:?}");
        }
        // A member that Wallcrawler's form has for itself: what is read differs, and so the JSON is kept.
        let own = json!([{"index": 0, "event_type": "A", "timestamp": "2026-01-15T10:30:00.000Z", "detail": {}, "eventType": "X"}]);
        let text = Layout::Wallcrawler(Times::Text);
        assert_ne!(read(text, &write(text, &own, 0).expect("a list"), 0), Some(own));
    }

    #[test]
    fn foreign_events_are_read_as_they_are() {
        let event = AttributeValue::M(HashMap::from([
            ("eventType".to_owned(), text("StatusChanged")),
            ("timestamp".to_owned(), number(1_768_473_000_u64)),
            ("detail".to_owned(), text("plain")),
            ("correlationId".to_owned(), text("c")),
            ("tags".to_owned(), AttributeValue::Ss(vec!["t".to_owned()])),
        ]));
        let list = AttributeValue::L(vec![event, AttributeValue::Null(true)]);
        let read = read(Layout::Wallcrawler(Times::Text), &list, 0).expect("a list");
        assert_eq!(
            read,
            json!([
                {"index": 0, "event_type": "StatusChanged", "timestamp": "2026-01-15T10:30:00.000Z",
                 "detail": {"value": "plain"}, "correlationId": "c"},
                {"index": 1, "event_type": "Unknown", "timestamp": "1970-01-01T00:00:00.000Z", "detail": {}},
            ])
        );
    }
}
