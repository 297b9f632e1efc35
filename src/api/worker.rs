//! Who does long work: the API asks for it, and does not know how it is done.

use std::fmt;

use async_trait::async_trait;

use crate::domain::gate::Coverage;
use crate::domain::routing::Percent;
use crate::domain::work::{Work, WorkStatus};
use crate::store;

/// Does migrations and verifications beside requests.
#[async_trait]
pub trait Worker: fmt::Debug + Send + Sync {
    /// Begins a piece of work, and says what became of it so far.
    async fn start(&self, work: Work) -> Result<WorkStatus, NotStarted>;

    /// Every piece of work that is known, the latest first.
    async fn list(&self) -> store::Result<Vec<WorkStatus>>;

    /// The piece of work of that id.
    async fn get(&self, id: &str) -> store::Result<Option<WorkStatus>>;

    /// Stops a piece of work, which can go on later. Nothing happens to one that has ended.
    async fn cancel(&self, id: &str) -> store::Result<Option<WorkStatus>>;

    /// How many of the keys that SQLite owns at `from` and DynamoDB at `to` are in DynamoDB already.
    async fn coverage(&self, from: Percent, to: Percent) -> store::Result<Coverage>;
}

/// Why a piece of work was not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// Another one is under way.
    #[error("{running} is under way: wait for its end, or cancel it")]
    Busy {
        /// The id of the other one.
        running: String,
    },
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}
