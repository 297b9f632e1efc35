//! The plain layout: a document whose fields are attributes, as the fleet's older code writes and reads them.
//!
//! [`read()`] turns any item without a frame into an entry, whoever wrote it; [`write()`] makes the attributes of a
//! document, and refuses one that would not come back as it is. Both are pure.
//!
//! `url`, `created_at`, `updated_at` and `ttl` are fields of these documents and attributes that the item keeps for
//! itself: reading gives the item's. `plain_etag` is the etag of the rest, so that times can change in place while a
//! change of anything else by others is seen.

mod made;
mod number;
mod read;
pub(super) mod size;
#[cfg(test)]
mod tests;
mod write;

pub(super) use made::may_have_made;
pub(super) use read::read;
#[cfg(test)]
pub(super) use write::Refused;
pub(super) use write::write;

/// The attribute with the etag of the document as its item gives it back, the item's own times left out.
pub(super) const PLAIN_ETAG: &str = "plain_etag";

/// The validator that documents have a field for themselves: its attribute is named apart from the field.
pub(super) const FINGERPRINT: &str = "origin_head_fingerprint";

/// Fields of a document that its item keeps for itself, and may change without a new document.
const OWN_TIMES: [&str; 3] = ["created_at", "updated_at", "ttl"];

/// What crawlcache keeps beside the document in every item that it writes.
const BOOKKEEPING: [&str; 8] = [
    "version",
    "etag",
    PLAIN_ETAG,
    DOCUMENT_TIMES,
    "expires_at",
    "origin_etag",
    "origin_last_modified",
    FINGERPRINT,
];

/// The fields of a document that have the names of the item's own times.
const DOCUMENT_TIMES: &str = "document_times";

/// What makes an item appear in an index.
const INDEXED: [&str; 3] = ["time_shard", "host_shard", "listed_at"];

/// What an item has whose partition key is not its url.
const KEY_PARTS: [&str; 3] = ["page_url", "namespace", "variant"];

/// What tells the other layouts apart from this one.
const OTHER_LAYOUTS: [&str; 8] =
    ["layout", "frame", "frame_bytes", "parts", "parts_until", "frame_id", "object", "deleted"];

/// DynamoDB nests up to 32 levels deep, the item itself among them.
const MAX_DEPTH: usize = 32;
