//! The pure core: keys, documents, entries, freshness and sessions. No I/O, no HTTP, no SQL.

mod canonical;
pub mod document;
mod entry;
mod freshness;
mod key;
pub mod session;
mod time;

pub use canonical::CanonicalForm;
pub use document::{Document, DocumentError, Layout};
pub use entry::{Entry, Etag, Meta, Validators};
pub use freshness::{Freshness, Limits as FreshnessLimits, MissReason};
pub use key::{Key, KeyError, KeyId, MAX_URL_BYTES, MAX_VARIANT_CHARS, Namespace, host_of};
pub use time::{Timestamp, Version};
