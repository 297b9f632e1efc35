//! Where results, sessions and leases are kept: three narrow contracts, the stores that fulfil them, and their
//! composition.
//!
//! Leaves keep data ([`sqlite`], [`dynamodb`], and [`memory`] for tests). Wrappers add one concern and need only the inner
//! store: [`tiered`] puts memory in front, [`metered`] counts and times. One router, [`routed`], knows both leaves and
//! decides which of them owns a key; [`circuit`] keeps it from waiting for one that does not answer. A composed store
//! prints itself. [`crawl4ai`] is no store: it reads the cache of another program.

pub mod circuit;
#[cfg(test)]
pub(crate) mod conformance;
pub mod crawl4ai;
pub mod dynamodb;
mod error;
mod heat;
mod hosts;
mod leases;
pub mod memory;
pub mod metered;
pub mod recent;
mod results;
pub mod routed;
mod seal;
mod sessions;
pub mod sqlite;
pub mod tiered;

pub use error::{Error, Result, chain};
pub use heat::Heat;
pub use hosts::HostStore;
pub use leases::{Claimed, Ending, Holder, LeaseStore, Renewed};
pub use results::{
    Condition, Cursor, DeleteOutcome, GetOptions, Hit, ListFilter, ListOrder, ListQuery, Look, Page, Placed,
    Put, PutOutcome, ResultStore, Seen, Source, Stamp, Versioning, Via,
};
pub use sessions::{
    Found, PutSession, Resealed, SessionCondition, SessionCursor, SessionDeleteOutcome, SessionFilter,
    SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Unreadable,
};

/// How a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Serves reads and writes.
    Healthy,
    /// Serves, but not everything: the reason.
    Degraded(String),
    /// Serves nothing, or will not write again before a restart: the reason.
    Down(String),
}

/// What a backend says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The backend's name: `sqlite`, `dynamodb`, `memory`.
    pub backend: &'static str,
    /// How it is.
    pub health: Health,
    /// How many entries it holds, expired ones that are not yet swept included. DynamoDB's own estimate may be hours
    /// old.
    pub entries: u64,
    /// Their stored size in bytes; `None` where the backend does not know.
    pub stored_bytes: Option<u64>,
    /// Their decoded size in bytes; `None` where the backend does not know.
    pub raw_bytes: Option<u64>,
    /// How many sessions it holds.
    pub sessions: u64,
    /// Bytes that the backend takes on its medium.
    pub size_bytes: u64,
    /// The bound on `size_bytes`; `None` where there is none.
    pub limit_bytes: Option<u64>,
}
