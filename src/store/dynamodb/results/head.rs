//! What the head item of an entry says beside its body: the attributes that people query.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::{Item, binary, number, text, time};
use super::super::plain;
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
pub(super) const META: [&str; 21] = [
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
