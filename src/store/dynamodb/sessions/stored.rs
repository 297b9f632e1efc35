//! A stored item as a session: liberal about what other programs have written.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};

use super::super::BACKEND;
use super::super::item::{Item, read_number, read_text};
use super::field::{
    Fields, Key, extra, fields_of, logical, natural, parse_time, record_of, time_of, unknown,
};
use super::layout::{INTERNAL_STATUS, Layout, STATUS, TTL, Times};
use super::value::{digest, from_attribute, to_attribute};
use super::{field, status};
use crate::domain::session::{Profile, SessionId, SessionRecord, Status};
use crate::domain::{Timestamp, Version};
use crate::store::{Error, Result};

/// The most bytes that packed fields may have unpacked; far above what a session may.
const UNPACKED_BYTES: usize = 64 << 20;

/// An item, and what it says.
#[derive(Debug)]
pub(super) struct Stored {
    /// What was read.
    pub(super) item: Item,
    /// The session, its credentials only as far as they are readable.
    pub(super) record: SessionRecord,
    /// The record in parts.
    pub(super) fields: Fields,
    /// Fields that are kept as JSON, because their attributes say something else.
    pub(super) exact: BTreeSet<String>,
    /// Fields that have no attribute of their own: they are packed, or were concluded from others.
    pub(super) loose: BTreeSet<String>,
}

/// The digest of an item, in hexadecimal: it changes with everything but itself.
pub(super) fn digest_of(layout: Layout, item: &Item) -> String {
    let mut hasher = blake3::Hasher::new();
    digest(&mut hasher, item, &[layout.names().digest]);
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The version of an item, and whether nobody has changed it since this service wrote it.
///
/// A change by others makes it another version, though others know of none: one that is drawn from the content.
/// Such a version has 55 bits, so that it is below every one that a clock gives: it would drive clocks forward.
pub(super) fn version_of(layout: Layout, item: &Item) -> (Version, bool) {
    let names = layout.names();
    let version = read_number(item, names.version);
    if let Some(version) = version
        && read_text(item, names.digest) == Some(digest_of(layout, item).as_str())
    {
        return (Version::from_u64(version), true);
    }
    let mut hasher = blake3::Hasher::new();
    digest(&mut hasher, item, &[]);
    let mut bits = [0; 8];
    bits.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (Version::from_u64(u64::from_be_bytes(bits) >> 9), false)
}

impl Stored {
    /// Reads an item of the session `id`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where what this service keeps for itself is damaged.
    pub(super) fn read(layout: Layout, id: &SessionId, item: Item) -> Result<Self> {
        let (version, is_ours) = version_of(layout, &item);
        let names = layout.names();
        let dropped_name = layout.attributes_of(Key::EventsDropped).0;
        let mut reading = Reading {
            layout,
            item: &item,
            dropped: read_number(&item, dropped_name).unwrap_or(0),
            fields: Fields::new(),
            exact: BTreeSet::new(),
            loose: BTreeSet::new(),
        };
        reading.attributes();
        let corrupt =
            |what: &str| Error::Corrupt { backend: BACKEND, detail: format!("{what} of session {id}") };
        if let Some(AttributeValue::M(texts)) = item.get(names.json) {
            for (name, text) in texts {
                let text = text.as_s().map_err(|_| corrupt("a JSON text"))?;
                reading.overlay(name, serde_json::from_str(text).map_err(|_| corrupt("a JSON text"))?, false);
            }
        }
        if let Some(AttributeValue::B(blob)) = item.get(names.packed) {
            let packed = unpack(blob.as_ref()).ok_or_else(|| corrupt("the packed part"))?;
            packed.into_iter().for_each(|(name, value)| reading.overlay(&name, value, true));
        }
        reading.expiry();
        reading.count_events(is_ours);
        reading.defaults();
        let Reading { mut fields, exact, loose, .. } = reading;
        if !fields.contains_key(Key::ExpiresAt.name()) {
            fields.insert(Key::ExpiresAt.name().to_owned(), Timestamp::MAX.to_string().into());
        }
        let record = record_of(id, version, fields)?;
        let fields = fields_of(&record.session, &record.events)?;
        Ok(Self { item, record, fields, exact, loose })
    }
}

/// The packed fields of an item.
fn unpack(bytes: &[u8]) -> Option<Map<String, Value>> {
    let size = zstd::zstd_safe::get_frame_content_size(bytes).ok()??;
    let size = usize::try_from(size).ok().filter(|size| *size <= UNPACKED_BYTES)?;
    serde_json::from_slice(&zstd::bulk::decompress(bytes, size).ok()?).ok()
}

/// An item while it is read.
struct Reading<'i> {
    layout: Layout,
    item: &'i Item,
    dropped: u64,
    fields: Fields,
    exact: BTreeSet<String>,
    loose: BTreeSet<String>,
}

impl Reading<'_> {
    fn set(&mut self, key: Key, value: impl Into<Value>) {
        self.fields.insert(key.name().to_owned(), value.into());
    }

    fn has(&self, key: Key) -> bool {
        self.fields.contains_key(key.name())
    }

    fn time(&self, key: Key) -> Option<Timestamp> {
        time_of(self.fields.get(key.name())?)
    }

    /// What attributes say.
    fn attributes(&mut self) {
        for key in Key::ALL {
            let attribute = self.item.get(self.layout.attribute_of(key, self.item));
            let value = attribute.and_then(|attribute| logical(self.layout, key, attribute, self.dropped));
            self.fields.extend(value.map(|value| (key.name().to_owned(), value)));
        }
        let (internal, public) = (self.item.get(INTERNAL_STATUS), self.item.get(STATUS));
        let status = match self.layout {
            Layout::Own => None,
            Layout::Wallcrawler(Times::Number) => status::agreed(public, internal),
            Layout::Wallcrawler(Times::Text) => status::agreed(internal, public),
        };
        if let Some(status) = status {
            self.set(Key::Status, status.as_str());
        }
        for (name, attribute) in self.item {
            if self.layout.shows(name)
                && let Some(value) = from_attribute(attribute)
            {
                self.fields.insert(extra(name), value);
            }
        }
    }

    /// A field that was kept as JSON, unless its attribute says that others have set it since.
    fn overlay(&mut self, name: &str, value: Value, is_packed: bool) {
        let (layout, dropped) = (self.layout, self.dropped);
        let is_untouched = match (Key::of(name), unknown(name)) {
            (Some(key), _) => {
                let found = self.item.get(layout.attribute_of(key, self.item));
                let written = if is_packed { None } else { natural(layout, key, &value, dropped) };
                same(found, written.as_ref(), |attribute| logical(layout, key, attribute, dropped))
            }
            (None, Some(unknown)) if layout.shows(unknown) => {
                let found = self.item.get(unknown);
                let written = if is_packed { None } else { to_attribute(&value) };
                // There may be no attribute though there could be: an index needs another type under that name, or
                // there are too many.
                found.is_none() || same(found, written.as_ref(), from_attribute)
            }
            (None, Some(_)) => true,
            (None, None) => false,
        };
        if is_untouched {
            let kept = if is_packed { &mut self.loose } else { &mut self.exact };
            kept.insert(name.to_owned());
            self.fields.insert(name.to_owned(), value);
        }
    }

    /// In our own layout the expiry stands twice: exactly, and in seconds for the service. Others change the latter.
    fn expiry(&mut self) {
        if self.layout != Layout::Own {
            return;
        }
        if let Some(ttl) = self.item.get(TTL).and_then(parse_time)
            && self.time(Key::ExpiresAt).map(field::ceil_secs) != Some(field::ceil_secs(ttl))
        {
            self.set(Key::ExpiresAt, ttl.to_string());
        }
    }

    /// Others append events without counting them.
    fn count_events(&mut self, is_ours: bool) {
        let kept = self.fields.get(Key::Events.name()).and_then(Value::as_array).map_or(0, Vec::len);
        let least = self.dropped.saturating_add(kept as u64);
        let counted = self.fields.get(Key::EventCount.name()).and_then(Value::as_u64);
        match counted {
            Some(counted) if is_ours || counted >= least => {}
            _ => self.set(Key::EventCount, least),
        }
    }

    /// What there always is.
    fn defaults(&mut self) {
        let word = |reading: &Self, key: Key| {
            reading.fields.get(key.name()).and_then(Value::as_str).map(str::to_owned)
        };
        let named = word(self, Key::Profile).and_then(|name| Profile::parse(&name));
        let profile = named.unwrap_or(match self.layout {
            Layout::Own => Profile::Mcp,
            Layout::Wallcrawler(_) => Profile::Browser,
        });
        self.set(Key::Profile, profile.as_str());
        let ttl = profile.default_ttl();
        if !word(self, Key::TtlMode).is_some_and(|mode| ["fixed", "sliding"].contains(&mode.as_str())) {
            self.set(Key::TtlMode, serde_json::to_value(ttl.mode).unwrap_or_default());
        }
        if !self.has(Key::TtlSeconds) {
            self.set(Key::TtlSeconds, ttl.seconds);
        }
        if word(self, Key::Status).and_then(|word| Status::parse(&word)).is_none() {
            self.set(Key::Status, profile.initial_status().as_str());
        }
        let (created, updated) = (self.time(Key::CreatedAt), self.time(Key::UpdatedAt));
        for (key, own, other) in [(Key::CreatedAt, created, updated), (Key::UpdatedAt, updated, created)] {
            if own.is_none() {
                // The other one will change.
                self.loose.insert(key.name().to_owned());
                self.set(key, other.unwrap_or_default().to_string());
            }
        }
    }
}

/// Whether an attribute says what this service had written there. Where it had written none, there may be what it has
/// left of a map: members that JSON cannot say.
fn same(
    found: Option<&AttributeValue>,
    written: Option<&AttributeValue>,
    says: impl Fn(&AttributeValue) -> Option<Value>,
) -> bool {
    match (found, written) {
        (None, None) => true,
        (Some(found), Some(written)) => says(found) == says(written),
        (Some(found), None) => says(found).is_some_and(|rest| rest.as_object().is_some_and(Map::is_empty)),
        (None, Some(_)) => false,
    }
}
