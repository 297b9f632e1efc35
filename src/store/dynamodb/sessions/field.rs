//! The fields of a session, and what each is as an attribute.
//!
//! A record is taken apart into fields, each a JSON value; a field becomes an attribute that other programs can read.
//! Where that attribute reads as another value, the store keeps the JSON as well.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};

use super::super::BACKEND;
use super::super::item::{Item, number, read_time, text};
use super::layout::{Layout, Times};
use super::value::{from_attribute, to_attribute};
use super::{events, status};
use crate::domain::Timestamp;
use crate::domain::session::{Session, SessionId, SessionRecord};
use crate::store::{Error, Result};

/// What comes before the name of an unknown attribute, where fields are named. No other field has a slash.
const EXTRA: &str = "extra/";

/// The members of a session that may be empty and are then not kept.
const OBJECTS: [&str; 4] = ["user_metadata", "model_config", "resource_limits", "billing_info"];

/// The fields of a record by name: only those that say something.
pub(super) type Fields = BTreeMap<String, Value>;

macro_rules! keys {
    ($($variant:ident, $name:literal, $kind:ident, $wallcrawler:literal $(| $read:literal)*;)*) => {
        /// A field that this service knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Key {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl Key {
            /// All of them.
            pub(super) const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its name among the fields, which is its attribute's in our own tables.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The names of its attribute in Wallcrawler's tables.
            pub(super) const fn wallcrawler_names(self) -> (&'static str, &'static [&'static str]) {
                match self { $(Self::$variant => ($wallcrawler, &[$($read),*]),)* }
            }

            const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }
        }
    };
}

keys! {
    Profile, "profile", Text, "ccProfile";
    ProjectId, "project_id", Text, "projectId";
    Status, "status", Status, "status";
    CreatedAt, "created_at", Time, "createdAt" | "startedAt";
    UpdatedAt, "updated_at", Time, "updatedAt";
    ExpiresAt, "expires_at", Expiry, "expiresAt";
    ProvisioningStartedAt, "provisioning_started_at", Time, "provisioningStartedAt";
    ReadyAt, "ready_at", Time, "readyAt";
    LastActiveAt, "last_active_at", Time, "lastActiveAt";
    TerminatedAt, "terminated_at", Time, "terminatedAt";
    UserMetadata, "user_metadata", Object, "userMetadata";
    ModelConfig, "model_config", Object, "modelConfig";
    ResourceLimits, "resource_limits", Object, "resourceLimits";
    BillingInfo, "billing_info", Object, "billingInfo";
    ConnectUrl, "connect_url", Text, "connectUrl";
    PublicIp, "public_ip", Text, "publicIP" | "publicIp";
    Signing, "signing_key", Text, "signingKey";
    EcsTaskArn, "ecs_task_arn", Text, "ecsTaskArn";
    State, "state", Any, "state";
    TtlMode, "ttl_mode", Text, "ccTtlMode";
    TtlSeconds, "ttl_seconds", Count, "ccTtlSeconds";
    EventCount, "event_count", Count, "ccEventCount";
    EventsDropped, "events_dropped", Count, "ccEventsDropped";
    Events, "events", Events, "eventHistory";
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Status,
    Time,
    Expiry,
    Object,
    Count,
    Events,
    Any,
}

impl Key {
    /// The field of a name; `None` for an unknown attribute's.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Whether it is a member of a session's JSON by that name, so that no unknown attribute is.
    const fn is_member(self) -> bool {
        !matches!(self, Self::TtlMode | Self::TtlSeconds | Self::Events)
    }

    /// Whether its attribute is a map, of which others may have members that JSON cannot say.
    pub(super) fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }
}

/// The name of the field that an unknown attribute is.
pub(super) fn extra(name: &str) -> String {
    format!("{EXTRA}{name}")
}

/// The name of the unknown attribute that a field is.
pub(super) fn unknown(field: &str) -> Option<&str> {
    field.strip_prefix(EXTRA)
}

/// Takes a record apart. Its id and version are no fields.
pub(super) fn fields_of(session: &Session, events: &[crate::domain::session::Event]) -> Result<Fields> {
    let json = |error: serde_json::Error| Error::Backend { backend: BACKEND, detail: error.to_string() };
    let Value::Object(members) = serde_json::to_value(session).map_err(json)? else {
        return Ok(Fields::new());
    };
    let mut fields = Fields::new();
    for (name, value) in members {
        match name.as_str() {
            "id" | "version" => {}
            "ttl" => {
                for (member, part) in [("mode", Key::TtlMode), ("seconds", Key::TtlSeconds)] {
                    fields.insert(part.name().to_owned(), value[member].clone());
                }
            }
            name if OBJECTS.contains(&name) && value.as_object().is_some_and(Map::is_empty) => {}
            name if Key::of(name).is_some_and(Key::is_member) => drop(fields.insert(name.to_owned(), value)),
            name => drop(fields.insert(extra(name), value)),
        }
    }
    if session.expires_at == Timestamp::MAX {
        // It never expires, and so it has no such attribute.
        fields.remove(Key::ExpiresAt.name());
    }
    if !events.is_empty() {
        fields.insert(Key::Events.name().to_owned(), serde_json::to_value(events).map_err(json)?);
    }
    Ok(fields)
}

/// Puts a record together.
pub(super) fn record_of(
    id: &SessionId,
    version: crate::domain::Version,
    mut fields: Fields,
) -> Result<SessionRecord> {
    let mut take = |key: Key| fields.remove(key.name()).unwrap_or_default();
    let events = take(Key::Events);
    let ttl = Map::from_iter([
        ("mode".to_owned(), take(Key::TtlMode)),
        ("seconds".to_owned(), take(Key::TtlSeconds)),
    ]);
    let mut session = Map::from_iter([
        ("id".to_owned(), Value::String(id.to_string())),
        ("ttl".to_owned(), Value::Object(ttl)),
        ("version".to_owned(), version.as_u64().into()),
    ]);
    for (name, value) in fields {
        session.insert(unknown(&name).map_or_else(|| name.clone(), str::to_owned), value);
    }
    let events = if events.is_null() { Value::Array(Vec::new()) } else { events };
    let record =
        Map::from_iter([("session".to_owned(), Value::Object(session)), ("events".to_owned(), events)]);
    serde_json::from_value(Value::Object(record))
        .map_err(|error| Error::Corrupt { backend: BACKEND, detail: format!("session {id}: {error}") })
}

/// The attribute that other programs read a field from; `None` if there can be none.
pub(super) fn natural(layout: Layout, key: Key, value: &Value, dropped: u64) -> Option<AttributeValue> {
    match key.kind() {
        // An empty one could not be the key of an index.
        Kind::Text if key == Key::ProjectId && value.as_str() == Some("") => None,
        Kind::Text | Kind::Status | Kind::Object | Kind::Count | Kind::Any => to_attribute(value),
        Kind::Time => time_of(value).map(|at| write_time(layout, at)),
        Kind::Expiry => time_of(value).map(|at| match layout {
            Layout::Own => write_time(layout, at),
            Layout::Wallcrawler(_) => write_ttl(at),
        }),
        Kind::Events => events::write(layout, value, dropped),
    }
}

/// What a field's attribute says; `None` if that is nothing that the field can be.
pub(super) fn logical(layout: Layout, key: Key, attribute: &AttributeValue, dropped: u64) -> Option<Value> {
    match key.kind() {
        Kind::Text => attribute.as_s().ok().map(|text| Value::String(text.clone())),
        Kind::Status => status::lifecycle(attribute).map(|status| Value::String(status.as_str().to_owned())),
        Kind::Time | Kind::Expiry => parse_time(attribute).map(|at| Value::String(at.to_string())),
        Kind::Object => from_attribute(attribute).filter(Value::is_object),
        Kind::Count => from_attribute(attribute).filter(Value::is_u64),
        Kind::Events => events::read(layout, attribute, dropped),
        Kind::Any => from_attribute(attribute),
    }
}

/// The time that a field holds.
pub(super) fn time_of(value: &Value) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?).ok()
}

/// The time that an attribute holds, whatever its type.
pub(super) fn parse_time(attribute: &AttributeValue) -> Option<Timestamp> {
    let item: Item = HashMap::from([(String::new(), attribute.clone())]);
    read_time(&item, "")
}

/// A time as a layout has it; adopted tables have whole seconds.
pub(super) fn write_time(layout: Layout, at: Timestamp) -> AttributeValue {
    match layout {
        Layout::Own => text(at.to_string()),
        Layout::Wallcrawler(Times::Number) => number(at.as_secs()),
        Layout::Wallcrawler(Times::Text) => {
            let seconds = Timestamp::from_secs(at.as_secs()).to_string();
            text(seconds.replace(".000Z", "Z"))
        }
    }
}

/// An expiry in seconds: no earlier than the session's, so that nothing is deleted that still lives.
pub(super) fn write_ttl(at: Timestamp) -> AttributeValue {
    number(ceil_secs(at))
}

/// Seconds, rounded up.
pub(super) fn ceil_secs(at: Timestamp) -> u64 {
    at.as_millis().div_ceil(1000)
}
