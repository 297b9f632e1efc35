//! Makes the attributes of a document, and refuses one that they could not give back as it is.

use std::borrow::Cow;

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::item::{Item, text};
use super::read::Fields;
use super::{
    BOOKKEEPING, DOCUMENT_TIMES, INDEXED, KEY_PARTS, MAX_DEPTH, OTHER_LAYOUTS, OWN_TIMES, PLAIN_ETAG, number,
    size,
};
use crate::domain::document::split;
use crate::domain::{Document, Meta};

/// DynamoDB's limit for the name of an attribute, in bytes.
const MAX_NAME_BYTES: usize = 65_535;

/// Room for the common attributes, beside what grows with the key.
const COMMON_BYTES: usize = 1024;

/// A document whose text is more than this many times the limit does not fit, however it is written:
/// an escape of six bytes stands for at least one.
const MAX_SHRINKING: usize = 8;

/// Why the plain layout cannot hold a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::dynamodb) enum Refused {
    /// The item would be larger than the limit.
    Size,
    /// A value would come back changed, or not at all.
    Value,
    /// A field's name is one of crawlcache's own attributes, or none that DynamoDB takes.
    Name,
}

impl Refused {
    /// The word that metrics and logs use.
    pub(in crate::store::dynamodb) const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Value => "value",
            Self::Name => "name",
        }
    }
}

/// The attributes of a document with their `plain_etag`, without the attributes that all layouts share
/// (url, version, etag, times, ttl, validators, index entries).
///
/// The document's own `created_at`, `updated_at` and `ttl` are kept by themselves: the item's have these names.
///
/// # Errors
/// [`Refused`] unless reading the item gives the document back, and it fits into `max_item_bytes`.
pub(in crate::store::dynamodb) fn write(
    meta: &Meta,
    frame: &[u8],
    max_item_bytes: usize,
) -> Result<Item, Refused> {
    let limit = max_item_bytes.checked_sub(reserved(meta)).ok_or(Refused::Size)?;
    if meta.layout.raw_size() > limit.saturating_mul(MAX_SHRINKING) as u64 {
        return Err(Refused::Size);
    }
    let frame = Bytes::copy_from_slice(frame);
    let raw = Document::new(&meta.layout, &frame).decode().map_err(|_| Refused::Value)?;
    let fields = split(&raw).map_err(|_| Refused::Value)?;
    let mut item = Item::with_capacity(fields.len() + 16);
    let mut times = Item::new();
    for (name, value) in fields.iter().filter(|(name, _)| name != "url") {
        if OWN_TIMES.contains(&name.as_ref()) {
            times.insert(name.clone().into_owned(), attribute(value, MAX_DEPTH - 2)?);
        } else {
            check_name(name)?;
            item.insert(name.clone().into_owned(), attribute(value, MAX_DEPTH - 1)?);
        }
    }
    if !times.is_empty() {
        item.insert(DOCUMENT_TIMES.to_owned(), AttributeValue::M(times));
    }
    if size::of_item(&item) > limit {
        return Err(Refused::Size);
    }
    let read = Fields::of(&item, &meta.key, true).map_err(|_| Refused::Value)?;
    prove(&fields, &read.text(true))?;
    let etag = text(read.etag().to_string());
    item.insert(PLAIN_ETAG.to_owned(), etag);
    Ok(item)
}

/// How many bytes the attributes take that are added later, generously.
fn reserved(meta: &Meta) -> usize {
    let (key, known) = (&meta.key, &meta.validators);
    let validators = [&known.etag, &known.last_modified, &known.head_fingerprint];
    // The url is in the partition key and by itself, its host in an index entry.
    let of_key = 3 * key.url().len() + 2 * (key.variant().len() + key.namespace().as_str().len());
    COMMON_BYTES + of_key + validators.into_iter().flatten().map(String::len).sum::<usize>()
}

fn check_name(name: &str) -> Result<(), Refused> {
    let taken =
        [&BOOKKEEPING[..], &INDEXED, &KEY_PARTS, &OTHER_LAYOUTS].iter().any(|names| names.contains(&name));
    if taken || name.is_empty() || name.len() > MAX_NAME_BYTES { Err(Refused::Name) } else { Ok(()) }
}

/// A value as an attribute in which at most `depth` lists and maps lie within each other.
fn attribute(json: &str, depth: usize) -> Result<AttributeValue, Refused> {
    let deeper = || depth.checked_sub(1).ok_or(Refused::Value);
    Ok(match json.as_bytes().first() {
        Some(b'"') => AttributeValue::S(parse(json)?),
        Some(b't' | b'f') => AttributeValue::Bool(parse(json)?),
        Some(b'n') => AttributeValue::Null(true),
        Some(b'[') => {
            let depth = deeper()?;
            let values: Vec<&RawValue> = parse(json)?;
            let values = values.into_iter().map(|value| attribute(value.get(), depth));
            AttributeValue::L(values.collect::<Result<_, _>>()?)
        }
        Some(b'{') => {
            let depth = deeper()?;
            // A name that is there twice is refused here: only one of the two would come back.
            let members = split(json.as_bytes()).map_err(|_| Refused::Value)?;
            if members.iter().any(|(name, _)| name.is_empty() || name.len() > MAX_NAME_BYTES) {
                return Err(Refused::Value);
            }
            let members =
                members.into_iter().map(|(name, value)| Ok((name.into_owned(), attribute(value, depth)?)));
            AttributeValue::M(members.collect::<Result<_, _>>()?)
        }
        _ if number::is_kept(json) => AttributeValue::N(json.to_owned()),
        _ => return Err(Refused::Value),
    })
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Refused> {
    serde_json::from_str(json).map_err(|_| Refused::Value)
}

/// Compares the document with what the item gives back, both as a parser reads them.
fn prove(put: &[(Cow<'_, str>, &str)], read: &str) -> Result<(), Refused> {
    let read: Map<String, Value> = parse(read)?;
    for (name, value) in put {
        if read.get(name.as_ref()) != Some(&parse(value)?) {
            return Err(Refused::Value);
        }
    }
    if read.len() == put.len() { Ok(()) } else { Err(Refused::Value) }
}
