//! Listings of both sides as one: each key once, as a read of it would show it, at its place in the order.
//!
//! Which stream shows a key is decided by what both sides have of it, and not by what was listed before: equal versions
//! are SQLite's to show. So a listing has no duplicates as long as nothing is written, whatever the pages.
//!
//! DynamoDB is asked first, then what SQLite knows of its items, then SQLite: what is copied to SQLite in between is
//! seen twice in one page, where it is left out once, and not never.

mod cursor;
mod merge;
mod results;
mod sessions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::Inner;
use super::plan::Local;
use crate::domain::routing::{Percent, Side};
use crate::store::{Error, Result};

/// How long a page of DynamoDB's may take: it looks at thousands of rows where a filter admits few.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a page goes on looking while nothing is to be shown.
const ROUNDS: usize = 10;

/// Which stream shows a key that DynamoDB has listed.
struct Listed {
    owner: Side,
    local: Local,
    /// Whether nothing that SQLite knows says that it is gone.
    is_admitted: bool,
    /// Whether it counts, and not what SQLite holds.
    is_newer: bool,
}

impl Listed {
    /// Whether it is DynamoDB's to show, as a read would.
    fn is_shown(&self) -> bool {
        match (self.owner, self.local) {
            (_, Local::Newest | Local::DeletedNewest) | (Side::Sqlite, Local::Held | Local::Deleted) => false,
            (Side::Dynamodb, Local::Held) => self.is_admitted && self.is_newer,
            (_, Local::Deleted | Local::Absent) => self.is_admitted,
        }
    }
}

/// Whether DynamoDB has to be asked about a key that SQLite has listed: what it has may count.
fn is_doubtful(owner: Side, local: Local) -> bool {
    owner == Side::Dynamodb && local == Local::Held
}

impl Inner {
    /// DynamoDB's part of a listing. Where SQLite is all that counts a failure leaves it out: nothing.
    async fn listed_there<T>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        match self.remote.circuit.run(PATIENCE, call).await {
            Ok(page) => {
                self.count(operation, Side::Dynamodb, "owner");
                Ok(Some(page))
            }
            Err(error)
                if error != Error::Cursor && self.in_force().policy.effective_percent() == Percent::ZERO =>
            {
                tracing::warn!(%error, "a listing shows what SQLite has, and nothing else");
                self.count(operation, Side::Sqlite, "fallback");
                Ok(None)
            }
            Err(error) => {
                self.count(operation, Side::Dynamodb, "refused");
                Err(error)
            }
        }
    }
}
