//! The pure core: keys, documents, entries, freshness, sessions, routing and long work. No I/O, no HTTP, no SQL.

mod canonical;
pub mod document;
mod entry;
mod freshness;
pub mod gate;
mod key;
pub mod learning;
pub mod lease;
pub mod quality;
pub mod routing;
pub mod session;
mod time;
pub mod work;

pub use canonical::CanonicalForm;
pub use document::{Document, DocumentError, Layout};
pub use entry::{Entry, Etag, Meta, Validators};
pub use freshness::{Freshness, Limits as FreshnessLimits, MissReason};
pub use key::{Key, KeyError, KeyId, MAX_URL_BYTES, MAX_VARIANT_CHARS, Namespace, host_of};
pub use time::{Timestamp, Version};
