//! What an item becomes when a session is written over it, or into nothing.
//!
//! Only what has changed is written: attributes of fields that still say the same stay as others wrote them, and so do
//! attributes that this service does not know or cannot show.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use serde_json::{Map, Value};

use super::super::BACKEND;
use super::super::item::{Item, binary, number, text};
use super::field::{Fields, Key, fields_of, logical, natural, unknown, write_ttl};
use super::layout::{
    INTERNAL_STATUS, Layout, NAMESPACE, PROJECT_KEY, PROJECT_ORDER, SEALED, STATUS, STATUS_ORDER,
    STATUS_SHARD, Schema, TTL, Times,
};
use super::order;
use super::status::sdk_word;
use super::stored::{Stored, digest_of};
use super::value::{from_attribute, over, size_of_item, to_attribute};
use crate::domain::session::{Event, Session};
use crate::domain::{Namespace, Timestamp};
use crate::store::{Error, Result};

/// How many unknown attributes stand on their own; more are kept as JSON, since an update has a limit of operators.
const UNKNOWN_ATTRIBUTES: usize = 100;

/// The most bytes that an item may have at all.
const SERVICE_BYTES: usize = 400 * 1024;

/// A field with fewer bytes is not worth packing.
const WORTH_PACKING: usize = 256;

/// The level of compression of packed fields.
const ZSTD_LEVEL: i32 = 3;

/// What is to be written.
pub(super) struct Wanted<'w> {
    pub(super) namespace: &'w Namespace,
    /// The session, without the credentials that are sealed.
    pub(super) session: &'w Session,
    pub(super) events: &'w [Event],
    /// The sealed credentials.
    pub(super) sealed: Option<String>,
    /// The most bytes that the item may have. One that others have made larger has the service's limit alone.
    pub(super) limit: usize,
}

/// The item as it shall be.
///
/// # Errors
/// [`Error::TooLarge`] if it would have more bytes than it may even with everything packed.
pub(super) fn target(schema: &Schema, key: &str, wanted: &Wanted<'_>, old: Option<&Stored>) -> Result<Item> {
    let new = fields_of(wanted.session, wanted.events)?;
    let names = schema.layout.names();
    let mut item = old.map(|old| old.item.clone()).unwrap_or_default();
    for own in [names.json, names.packed, names.digest] {
        item.remove(own);
    }
    item.insert(names.id.to_owned(), text(key));
    item.insert(names.version.to_owned(), number(wanted.session.version.as_u64()));
    let mut writing = Writing { schema, layout: schema.layout, new: &new, old, item, exact: BTreeMap::new() };
    let none = Fields::new();
    let before = old.map_or(&none, |old| &old.fields);
    let all: BTreeSet<&String> = new.keys().chain(before.keys()).collect();
    for name in all {
        writing.field(name);
    }
    writing.status(wanted.session);
    if schema.layout == Layout::Own {
        writing.own(wanted, before);
    }
    let is_large = old.is_some_and(|old| size_of_item(&old.item) > wanted.limit);
    let limit = if is_large { SERVICE_BYTES.max(wanted.limit) } else { wanted.limit };
    writing.finish(wanted.session, limit)
}

struct Writing<'w> {
    schema: &'w Schema,
    layout: Layout,
    new: &'w Fields,
    old: Option<&'w Stored>,
    item: Item,
    /// Fields that are kept as JSON too.
    exact: BTreeMap<String, String>,
}

impl Writing<'_> {
    /// How many events are gone before the first that is kept.
    fn dropped(fields: &Fields) -> u64 {
        fields.get(Key::EventsDropped.name()).and_then(Value::as_u64).unwrap_or(0)
    }

    fn field(&mut self, name: &str) {
        let key = Key::of(name);
        if key == Some(Key::Status) && self.layout != Layout::Own {
            return;
        }
        let value = self.new.get(name);
        if let Some(old) = self.old.filter(|old| !old.loose.contains(name)) {
            let is_moved = key == Some(Key::Events) && Self::dropped(&old.fields) != Self::dropped(self.new);
            if old.fields.get(name) == value && !is_moved {
                if let Some(value) = value.filter(|_| old.exact.contains(name)) {
                    self.exact.insert(name.to_owned(), value.to_string());
                }
                return;
            }
        }
        match (key, unknown(name)) {
            (Some(key), _) => self.known(key, value),
            (None, Some(unknown)) => self.unknown(name, unknown, value),
            (None, None) => {}
        }
    }

    fn known(&mut self, key: Key, value: Option<&Value>) {
        let dropped = Self::dropped(self.new);
        let (name, others) = self.layout.attributes_of(key);
        let at = self.layout.attribute_of(key, &self.item);
        let written = match value {
            Some(value) => natural(self.layout, key, value, dropped),
            // What others keep in the map, and JSON cannot say, is not this service's to remove.
            None => key.is_object().then(|| AttributeValue::M(HashMap::new())),
        };
        let written = match (self.item.get(at), written) {
            (Some(old), Some(fresh)) => Some(over(old, fresh)),
            (None, fresh) => fresh,
            (Some(_), None) => None,
        };
        let written =
            written.filter(|written| value.is_some() || written.as_m().is_ok_and(|rest| !rest.is_empty()));
        if let Some(value) = value {
            let says = written.as_ref().and_then(|written| logical(self.layout, key, written, dropped));
            if says.as_ref() != Some(value) {
                self.exact.insert(key.name().to_owned(), value.to_string());
            }
        }
        match written {
            Some(written) => drop(self.item.insert(at.to_owned(), written)),
            None => {
                self.item.remove(name);
                others.iter().for_each(|other| drop(self.item.remove(*other)));
            }
        }
    }

    fn unknown(&mut self, field: &str, name: &str, value: Option<&Value>) {
        if !self.layout.shows(name) {
            // Something else has that name in this layout.
            self.exact.extend(value.map(|value| (field.to_owned(), value.to_string())));
            return;
        }
        let Some(value) = value else {
            self.item.remove(name);
            return;
        };
        let is_full = !self.item.contains_key(name) && self.item.len() > UNKNOWN_ATTRIBUTES;
        let fits = |attribute: &AttributeValue| match self.schema.key_types.get(name) {
            None => true,
            Some(ScalarAttributeType::S) => attribute.as_s().is_ok_and(|text| !text.is_empty()),
            Some(ScalarAttributeType::N) => attribute.is_n(),
            Some(_) => false,
        };
        let fresh = to_attribute(value).filter(|fresh| !is_full && fits(fresh));
        let written = fresh.map(|fresh| match self.item.get(name) {
            Some(old) => over(old, fresh),
            None => fresh,
        });
        if written.as_ref().and_then(from_attribute).as_ref() != Some(value) {
            self.exact.insert(field.to_owned(), value.to_string());
        }
        match written {
            Some(written) => drop(self.item.insert(name.to_owned(), written)),
            None => drop(self.item.remove(name)),
        }
    }

    /// In Wallcrawler's tables the attributes of the status are set whatever was there, since not all of its programs
    /// keep them in agreement.
    fn status(&mut self, session: &Session) {
        let lifecycle = text(session.status.as_str());
        match self.layout {
            Layout::Own => {}
            Layout::Wallcrawler(Times::Number) => {
                if let Some(internal) = self.item.get_mut(INTERNAL_STATUS) {
                    internal.clone_from(&lifecycle);
                }
                self.item.insert(STATUS.to_owned(), lifecycle);
            }
            Layout::Wallcrawler(Times::Text) => {
                self.item.insert(INTERNAL_STATUS.to_owned(), lifecycle);
                self.item.insert(STATUS.to_owned(), text(sdk_word(session.status)));
            }
        }
    }

    /// What only our own layout has: the expiry for the service, the keys of the indexes, sealed credentials.
    ///
    /// The keys are there even where the table lacks an index: it may get one.
    fn own(&mut self, wanted: &Wanted<'_>, before: &Fields) {
        let Wanted { namespace, session, sealed, .. } = wanted;
        let expiry = Key::ExpiresAt.name();
        if self.old.is_none() || before.get(expiry) != self.new.get(expiry) {
            let ttl = (session.expires_at != Timestamp::MAX).then(|| write_ttl(session.expires_at));
            self.set(TTL, ttl);
        }
        self.set(NAMESPACE, (**namespace != Namespace::default()).then(|| text(namespace.as_str())));
        let project = session.project_id.as_deref();
        self.set(PROJECT_KEY, project.map(|project| text(order::project_key(namespace, project))));
        self.set(PROJECT_ORDER, project.map(|_| text(order::place(session.created_at, &session.id))));
        self.set(
            STATUS_SHARD,
            Some(text(order::status_shard(namespace, session.status, order::shard(&session.id)))),
        );
        self.set(STATUS_ORDER, Some(text(order::place(session.expires_at, &session.id))));
        self.set(SEALED, sealed.clone().map(text));
    }

    fn set(&mut self, name: &str, value: Option<AttributeValue>) {
        match value {
            Some(value) => drop(self.item.insert(name.to_owned(), value)),
            None => drop(self.item.remove(name)),
        }
    }

    /// Packs what must be packed, and seals the item with its digest.
    fn finish(mut self, session: &Session, limit: usize) -> Result<Item> {
        const DIGEST: usize = 32;
        self.keep_exact();
        let limit = limit.saturating_sub(DIGEST);
        let mut size = size_of_item(&self.item);
        let mut packed = Map::new();
        for name in if size > limit { self.by_weight() } else { Vec::new() } {
            let Some(value) = self.new.get(&name) else { continue };
            packed.insert(name.clone(), value.clone());
            self.take_out(&name);
            let json = serde_json::to_vec(&packed).map_err(|error| self.refused(session, &error))?;
            let frame =
                zstd::bulk::compress(&json, ZSTD_LEVEL).map_err(|error| self.refused(session, &error))?;
            self.item.insert(self.layout.names().packed.to_owned(), binary(frame));
            size = size_of_item(&self.item);
            if size <= limit {
                break;
            }
        }
        if size > limit {
            let detail = format!(
                "session {} has {size} bytes, compressed, and dynamodb.max_item_bytes allows {}",
                session.id,
                limit + DIGEST
            );
            return Err(Error::TooLarge { backend: BACKEND, detail });
        }
        let digest = digest_of(self.layout, &self.item);
        self.item.insert(self.layout.names().digest.to_owned(), text(digest));
        Ok(self.item)
    }

    #[expect(clippy::unused_self, reason = "it reads better beside the other ways to end")]
    fn refused(&self, session: &Session, error: &dyn std::fmt::Display) -> Error {
        Error::Backend {
            backend: BACKEND,
            detail: format!("session {} cannot be packed: {error}", session.id),
        }
    }

    fn keep_exact(&mut self) {
        let texts = self.exact.iter().map(|(name, json)| (name.clone(), text(json)));
        let texts: HashMap<_, _> = texts.collect();
        self.set(self.layout.names().json, (!texts.is_empty()).then(|| AttributeValue::M(texts)));
    }

    /// The fields that can be packed, in the order in which it hurts others least: `state`, the events, the largest.
    fn by_weight(&self) -> Vec<String> {
        let weight = |name: &String| self.new.get(name).map_or(0, |value| value.to_string().len());
        let may = |name: &&String| {
            let of = Key::of(name);
            let open = of.is_none_or(|key| key.is_object() || matches!(key, Key::State | Key::Events));
            open && weight(name) >= WORTH_PACKING
        };
        let mut names: Vec<String> = self.new.keys().filter(may).cloned().collect();
        let first = |name: &String| match Key::of(name) {
            Some(Key::State) => 0,
            Some(Key::Events) => 1,
            _ => 2,
        };
        names.sort_by_key(|name| (first(name), std::cmp::Reverse(weight(name))));
        names
    }

    /// Removes a field from the item, but for what JSON cannot say.
    fn take_out(&mut self, field: &str) {
        let name = match (Key::of(field), unknown(field)) {
            (Some(key), _) => self.layout.attribute_of(key, &self.item),
            (None, Some(name)) if self.layout.shows(name) => name,
            _ => "",
        };
        if let Some(AttributeValue::M(rest)) =
            self.item.remove(name).map(|old| over(&old, AttributeValue::M(HashMap::new())))
            && !rest.is_empty()
        {
            self.item.insert(name.to_owned(), AttributeValue::M(rest));
        }
        if self.exact.remove(field).is_some() {
            self.keep_exact();
        }
    }
}
