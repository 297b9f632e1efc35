//! What the head item of an entry says beside its body: the attributes that people query.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::{Item, binary, number, text, time};
use super::super::plain;
use super::body::DIGEST;
use super::key::{self, MAX_KEY_BYTES};
use crate::domain::{Key, KeyId, Meta, Namespace, Timestamp};

/// Over how many partitions an index spreads each of its lists: one takes 1,000 writes a second.
pub(super) const SHARDS: u16 = 16;

/// What a head may lack: a write that does not set them removes them.
pub(super) const OPTIONAL: [&str; 6] =
    ["origin_etag", "origin_last_modified", "head_fingerprint", "time_shard", "host_shard", "listed_at"];

/// What the document says, beside the body.
pub(super) const FACTS: [&str; 2] = ["success", "status_code"];

/// All attributes of a packed head but the frame.
pub(super) const META: [&str; 22] = [
    "url",
    "page_url",
    "namespace",
    "variant",
    "version",
    "etag",
    "created_at",
    "updated_at",
    "expires_at",
    "ttl",
    "success",
    "status_code",
    "origin_etag",
    "origin_last_modified",
    "head_fingerprint",
    "layout",
    "frame_bytes",
    "parts",
    "frame_id",
    "parts_until",
    "object",
    DIGEST,
];

/// How heads are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// How long an expired entry stays.
    pub(super) keep_stale_seconds: u64,
    /// Whether there is an index by time.
    pub(super) time_index: bool,
    /// Whether there is an index by host.
    pub(super) host_index: bool,
}

impl Form {
    /// When DynamoDB may delete a packed entry, in Unix seconds.
    pub(super) fn ttl(&self, expires_at: Timestamp) -> u64 {
        expires_at.as_millis().div_ceil(1000).saturating_add(self.keep_stale_seconds)
    }

    /// What a refresh renews: everything but the document and what only it says.
    pub(super) fn renewed(&self, meta: &Meta) -> Item {
        let mut item = self.common(meta);
        let fingerprint = meta.validators.head_fingerprint.as_ref();
        item.extend(fingerprint.map(|value| ("head_fingerprint".to_owned(), text(value))));
        item
    }

    /// A packed head without its body.
    pub(super) fn packed(&self, meta: &Meta) -> Item {
        let mut item = self.renewed(meta);
        item.insert("layout".to_owned(), binary(meta.layout.as_bytes()));
        item.insert("frame_bytes".to_owned(), number(meta.layout.stored_size()));
        item.extend(meta.success.map(|value| ("success".to_owned(), AttributeValue::Bool(value))));
        item.extend(meta.status_code.map(|value| ("status_code".to_owned(), number(value))));
        item
    }

    /// A plain item around the attributes of its document.
    pub(super) fn plain(&self, meta: &Meta, document: Item) -> Item {
        let mut item = document;
        item.extend(self.common(meta));
        // Other readers take it for the expiry.
        item.insert("ttl".to_owned(), number(meta.expires_at.as_secs()));
        let fingerprint = meta.validators.head_fingerprint.as_ref();
        item.extend(fingerprint.map(|value| (plain::FINGERPRINT.to_owned(), text(value))));
        item
    }

    fn common(&self, meta: &Meta) -> Item {
        let mut item = key::attributes(&meta.key);
        let mut set = |name: &str, value| drop(item.insert(name.to_owned(), value));
        set("version", number(meta.version.as_u64()));
        set("etag", text(meta.etag.to_string()));
        set("created_at", time(meta.created_at));
        set("updated_at", time(meta.updated_at));
        set("expires_at", time(meta.expires_at));
        set("ttl", number(self.ttl(meta.expires_at)));
        let validators = &meta.validators;
        for (name, value) in
            [("origin_etag", &validators.etag), ("origin_last_modified", &validators.last_modified)]
        {
            if let Some(value) = value {
                set(name, text(value));
            }
        }
        let (namespace, shard) = (meta.key.namespace(), shard_of(&meta.key));
        if self.time_index {
            set("time_shard", text(time_shard(namespace, shard)));
        }
        let by_host = if self.host_index { host_shard(namespace, &meta.key.host(), shard) } else { None };
        if self.time_index || by_host.is_some() {
            set("listed_at", text(listed_at(meta.updated_at, meta.key.id())));
        }
        if let Some(by_host) = by_host {
            set("host_shard", text(by_host));
        }
        item
    }
}

/// More bytes than a packed head has without its body: what is of one size, and what repeats the key or is the entry's.
pub(super) fn at_most(meta: &Meta) -> usize {
    let key = &meta.key;
    let (validators, layout) = (&meta.validators, meta.layout.as_bytes());
    let said = [&validators.etag, &validators.last_modified, &validators.head_fingerprint];
    let said: usize = said.into_iter().flatten().map(String::len).sum();
    let key = key.url().len() + key.namespace().as_str().len() + key.variant().len();
    FIXED_BYTES + KEY_COPIES * key + said + layout.len()
}

/// At most as many bytes as names and what has one size take.
const FIXED_BYTES: usize = 1024;

/// The url or a part of it is in the partition key, in `page_url`, and in the keys of the indexes.
const KEY_COPIES: usize = 4;

/// In which shard of an index a key is.
fn shard_of(key: &Key) -> u16 {
    key.id().bucket() % SHARDS
}

/// The partition of the index by time.
pub(super) fn time_shard(namespace: &Namespace, shard: u16) -> String {
    format!("{namespace} {shard}")
}

/// The partition of the index by host; none for a host that is longer than a key may be.
pub(super) fn host_shard(namespace: &Namespace, host: &str, shard: u16) -> Option<String> {
    let partition = format!("{namespace} {host} {shard}");
    (partition.len() <= MAX_KEY_BYTES).then_some(partition)
}

/// The place in an index: text order is time order, and no two entries share one.
pub(super) fn listed_at(updated_at: Timestamp, id: KeyId) -> String {
    format!("{updated_at} {id}")
}

#[cfg(test)]
mod tests {
    use super::super::super::plain::size;
    use super::*;
    use crate::domain::document::encode;
    use crate::domain::{Etag, Validators, Version};

    #[test]
    fn no_head_is_larger_than_at_most() {
        let form = Form { keep_stale_seconds: 60, time_index: true, host_index: true };
        let late = Timestamp::from_millis(u64::MAX >> 12);
        let long = "x".repeat(256);
        for (namespace, variant, page) in [
            ("default", "", 1),
            ("default", "", 2000),
            ("default", long.as_str(), 1),
            ("tenant", long.as_str(), 8000),
        ] {
            for host in ["a", &long] {
                let url = format!("https://{host}/{}", "p".repeat(page - page / 20));
                let namespace = Namespace::new(namespace).expect("a namespace");
                let validator = Some("v".repeat(1024));
                let meta = Meta {
                    key: Key::new(&namespace, &url, variant).expect("a key"),
                    version: Version::from_u64(u64::MAX),
                    etag: Etag::from_bytes([0xff; 16]),
                    created_at: late,
                    updated_at: late,
                    expires_at: late,
                    status_code: Some(u16::MAX),
                    success: Some(false),
                    validators: Validators {
                        etag: validator.clone(),
                        last_modified: validator.clone(),
                        head_fingerprint: validator,
                    },
                    layout: encode(br#"{"html":"<html></html>","a":1}"#, 3).expect("a document").layout,
                };
                let bytes = size::of_item(&form.packed(&meta));
                assert!(bytes <= at_most(&meta), "{bytes} against {}", at_most(&meta));
            }
        }
    }
}
