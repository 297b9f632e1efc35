//! Tries out everything that the stores ask of AWS, for `doctor`.

mod bucket;
mod contact;
mod operations;

pub use bucket::probe_bucket;
pub use contact::{Contact, Identity, LOOPBACK, contact, identity};
pub use operations::probe_tables;

use super::failure::Failure;
use crate::store::Error;

/// One operation that was tried on one thing.
#[derive(Clone, Debug)]
pub struct ProbeResult {
    /// The action as policies name it, such as `dynamodb:GetItem`.
    pub action: &'static str,
    /// The table, index or bucket.
    pub target: String,
    /// Why it failed, if it did.
    pub error: Option<Error>,
}

impl ProbeResult {
    fn new<T>(action: &'static str, target: &str, done: Result<T, Failure>) -> Self {
        Self { action, target: target.to_owned(), error: done.err().map(Error::from) }
    }
}

/// A name that nothing else has.
fn probe_name() -> String {
    let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    format!("doctor {random:016x}")
}
