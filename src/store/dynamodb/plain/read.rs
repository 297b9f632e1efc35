//! Reads an item without a frame: the attributes become the fields of a document.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::item::{Item, read_number, read_text, read_time};
use super::{BOOKKEEPING, DOCUMENT_TIMES, INDEXED, KEY_PARTS, MAX_DEPTH, OWN_TIMES, PLAIN_ETAG, number};
use crate::domain::document::{Encoded, encode};
use crate::domain::{Entry, Etag, Key, Meta, Timestamp, Validators, Version};

/// The frame is made anew at every read: the fastest level that still keeps a memory tier small.
const LEVEL: i32 = 1;

/// What to say of an item that holds what JSON cannot.
type Wrong = &'static str;

/// Reads an item that has no frame: the fleet's older layout, whoever wrote it.
///
/// Fields come in the order of their names. The `url` is the key's.
///
/// # Errors
/// What is wrong with the item, where it holds something that is no JSON or more than a document may hold.
pub(in crate::store::dynamodb) fn read(item: &Item, key: &Key) -> Result<Entry, Wrong> {
    let ours = Ours::of(item);
    let fields = Fields::of(item, key, ours.is_some())?;
    let Encoded { frame, layout, etag, facts } = encode(fields.text(true).as_bytes(), LEVEL)
        .map_err(|_| "it has more fields than a document may have")?;
    let updated_at = read_time(item, "updated_at");
    let created_at = read_time(item, "created_at").or(updated_at).unwrap_or_default();
    let updated_at = updated_at.unwrap_or(created_at);
    let meta = |version, etag, expires_at, validators| Meta {
        key: key.clone(),
        version,
        etag,
        created_at,
        updated_at,
        expires_at,
        status_code: facts.status_code,
        success: facts.success,
        validators,
        layout,
    };
    let ttl = read_time(item, "ttl").unwrap_or(Timestamp::MAX);
    let meta = match ours {
        None => meta(Version::first_of(updated_at), etag, ttl, facts.validators),
        Some(ours) => {
            // Whoever changed the document since then left the etag as it was.
            let unchanged = fields.etag().to_string() == ours.plain_etag;
            let etag = ours.etag.filter(|_| unchanged).unwrap_or(etag);
            let expires_at = read_time(item, "expires_at").unwrap_or(ttl);
            let text = |name| read_text(item, name).map(str::to_owned);
            let validators = Validators {
                etag: text("origin_etag"),
                last_modified: text("origin_last_modified"),
                head_fingerprint: text(super::FINGERPRINT),
            };
            meta(ours.version, etag, expires_at, validators)
        }
    };
    Ok(Entry { meta, frame })
}

/// What only crawlcache writes: an item with a version and a plain etag is ours.
struct Ours<'i> {
    version: Version,
    plain_etag: &'i str,
    etag: Option<Etag>,
}

impl<'i> Ours<'i> {
    fn of(item: &'i Item) -> Option<Self> {
        Some(Self {
            version: Version::from_u64(read_number(item, "version")?),
            plain_etag: read_text(item, PLAIN_ETAG)?,
            etag: read_text(item, "etag").and_then(parse_etag),
        })
    }
}

fn parse_etag(hex: &str) -> Option<Etag> {
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok().map(|number| Etag::from_bytes(number.to_be_bytes()))
}

/// The fields of a document, in the order of their names, each with its value as JSON text.
pub(super) struct Fields<'i>(Vec<(&'i str, String)>);

impl<'i> Fields<'i> {
    /// Those of an item; `ours` if crawlcache wrote it.
    pub(super) fn of(item: &'i Item, key: &Key, ours: bool) -> Result<Self, Wrong> {
        let indexed = ours || is_indexed(item, key);
        let own = match item.get(DOCUMENT_TIMES) {
            Some(AttributeValue::M(times)) if ours => Some(times),
            _ => None,
        };
        let own_key = ours || read_text(item, "url").is_some_and(|stored| stored != key.url());
        let is_field = |name: &str| {
            name != "url"
                && !(ours && (BOOKKEEPING.contains(&name) || OWN_TIMES.contains(&name)))
                && !(indexed && INDEXED.contains(&name))
                && !(own_key && KEY_PARTS.contains(&name))
        };
        let mut fields = vec![("url", quoted(key.url()))];
        let attributes = item.iter().filter(|(name, _)| is_field(name));
        for (name, value) in attributes.chain(own.into_iter().flatten()) {
            let mut json = String::new();
            append(&mut json, value, MAX_DEPTH)?;
            fields.push((name, json));
        }
        fields.sort_unstable_by_key(|(name, _)| *name);
        Ok(Self(fields))
    }

    /// The document as JSON text, with or without the times that the item keeps for itself.
    pub(super) fn text(&self, with_times: bool) -> String {
        let mut json =
            String::with_capacity(self.0.iter().map(|(name, value)| name.len() + value.len() + 8).sum());
        json.push('{');
        for (name, value) in self.0.iter().filter(|(name, _)| with_times || !OWN_TIMES.contains(name)) {
            begin_member(&mut json, name);
            json.push_str(value);
        }
        json.push('}');
        json
    }

    /// The etag of the document without those times.
    pub(super) fn etag(&self) -> Etag {
        Etag::of(self.text(false).as_bytes())
    }
}

/// Whether the item's `listed_at` is an index entry: it ends with the id of the key, as nothing else does.
fn is_indexed(item: &Item, key: &Key) -> bool {
    read_text(item, "listed_at").is_some_and(|listed_at| listed_at.ends_with(&format!(" {}", key.id())))
}

/// Appends a value as JSON text, in which at most `depth` lists and maps lie within each other.
fn append(json: &mut String, value: &AttributeValue, depth: usize) -> Result<(), Wrong> {
    let deeper = || depth.checked_sub(1).ok_or("it is nested too deep");
    match value {
        AttributeValue::S(text) => json.push_str(&quoted(text)),
        AttributeValue::N(text) => append_number(json, text)?,
        AttributeValue::Bool(true) => json.push_str("true"),
        AttributeValue::Bool(false) => json.push_str("false"),
        AttributeValue::Null(_) => json.push_str("null"),
        AttributeValue::B(bytes) => json.push_str(&quoted(&STANDARD.encode(bytes))),
        AttributeValue::L(list) => {
            let depth = deeper()?;
            append_list(json, list, |json, value| append(json, value, depth))?;
        }
        AttributeValue::M(map) => append_map(json, map, deeper()?)?,
        AttributeValue::Ss(set) => append_list(json, sorted(set.clone()), |json, text| {
            json.push_str(&quoted(&text));
            Ok(())
        })?,
        AttributeValue::Ns(set) => {
            append_list(json, sorted(set.clone()), |json, text| append_number(json, &text))?;
        }
        AttributeValue::Bs(set) => {
            let set = sorted(set.iter().map(|bytes| STANDARD.encode(bytes)).collect());
            append_list(json, set, |json, text| {
                json.push_str(&quoted(&text));
                Ok(())
            })?;
        }
        _ => return Err("it has an attribute of an unknown type"),
    }
    Ok(())
}

fn append_number(json: &mut String, text: &str) -> Result<(), Wrong> {
    if !number::is_json(text) {
        return Err("it has a number that is none");
    }
    json.push_str(text);
    Ok(())
}

fn append_list<T>(
    json: &mut String,
    list: impl IntoIterator<Item = T>,
    mut append: impl FnMut(&mut String, T) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    json.push('[');
    for (index, value) in list.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        append(json, value)?;
    }
    json.push(']');
    Ok(())
}

fn append_map(json: &mut String, map: &HashMap<String, AttributeValue>, depth: usize) -> Result<(), Wrong> {
    json.push('{');
    for name in sorted(map.keys().collect()) {
        begin_member(json, name);
        append(json, &map[name], depth)?;
    }
    json.push('}');
    Ok(())
}

/// Appends `"name":`, after a comma unless it is the first.
fn begin_member(json: &mut String, name: &str) {
    if !json.ends_with('{') {
        json.push(',');
    }
    json.push_str(&quoted(name));
    json.push(':');
}

/// Sets and maps come in any order: the same document must be the same text.
fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string can always be written as JSON")
}
