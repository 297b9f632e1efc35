//! The plain layout, tested: items of older code, documents that it holds, and those that it must refuse.

mod foreign;
mod local;
mod properties;
mod refusing;

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::item::{Item, number, text, time};
use super::*;
use crate::domain::document::encode;
use crate::domain::{Entry, Key, Meta, Namespace, Timestamp, Version};

const URL: &str = "https://example.com/a?b=c";
const LIMIT: usize = 350_000;

fn key() -> Key {
    Key::new(&Namespace::default(), URL, "").expect("valid")
}

/// A document as the API stores it.
fn stored(key: &Key, raw: &str) -> Entry {
    let encoded = encode(raw.as_bytes(), 3).unwrap_or_else(|error| panic!("{error}: {raw}"));
    let meta = Meta {
        key: key.clone(),
        version: Version::from_u64(7),
        etag: encoded.etag,
        created_at: Timestamp::from_millis(1_768_473_000_123),
        updated_at: Timestamp::from_millis(1_768_473_001_456),
        expires_at: Timestamp::from_millis(1_768_559_401_000),
        status_code: encoded.facts.status_code,
        success: encoded.facts.success,
        validators: encoded.facts.validators,
        layout: encoded.layout,
    };
    Entry { meta, frame: encoded.frame }
}

/// Adds what the store adds to every item.
fn complete(mut item: Item, meta: &Meta) -> Item {
    let key = &meta.key;
    let plain = key.namespace() == &Namespace::default() && key.variant().is_empty();
    let url = if plain {
        key.url().to_owned()
    } else {
        format!("{} {} {}", key.url(), key.namespace(), key.variant())
    };
    let mut put =
        |name: &str, value| assert!(item.insert(name.to_owned(), value).is_none(), "{name} is there already");
    put("url", text(url));
    if !plain {
        put("page_url", text(key.url()));
        put("namespace", text(key.namespace().as_str()));
        put("variant", text(key.variant()));
    }
    put("version", number(meta.version.as_u64()));
    put("etag", text(meta.etag.to_string()));
    put("created_at", time(meta.created_at));
    put("updated_at", time(meta.updated_at));
    put("expires_at", time(meta.expires_at));
    put("ttl", number(meta.expires_at.as_secs()));
    put("time_shard", text("default 3"));
    put("host_shard", text("default example.com 3"));
    put("listed_at", text(format!("{} {}", meta.updated_at, key.id())));
    for (name, value) in [
        ("origin_etag", &meta.validators.etag),
        ("origin_last_modified", &meta.validators.last_modified),
        (FINGERPRINT, &meta.validators.head_fingerprint),
    ] {
        if let Some(value) = value {
            put(name, text(value.as_str()));
        }
    }
    item
}

fn put(raw: &str) -> Result<Item, Refused> {
    let entry = stored(&key(), raw);
    write(&entry.meta, &entry.frame, LIMIT).map(|item| complete(item, &entry.meta))
}

fn json(entry: &Entry) -> String {
    String::from_utf8(entry.document().decode().expect("decodes")).expect("UTF-8")
}

fn object(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// The document without what the item keeps for itself, whatever that was.
fn without_times(json: &str) -> Map<String, Value> {
    let mut members: HashMap<String, &RawValue> = serde_json::from_str(json).expect("an object");
    members.retain(|name, _| !OWN_TIMES.contains(&name.as_str()));
    members
        .into_iter()
        .map(|(name, value)| (name, serde_json::from_str(value.get()).expect("JSON")))
        .collect()
}
