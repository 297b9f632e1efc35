//! The side in DynamoDB, as a router asks it: through the circuit, and never longer than it is worth.

use std::sync::Arc;
use std::time::Duration;

use crate::store::circuit::Circuit;
use crate::store::{Result, ResultStore, SessionStore};

/// How much longer a body of a MiB may take.
const PER_MEBIBYTE: Duration = Duration::from_secs(1);

/// How much longer each of many keys may take.
const PER_KEY: Duration = Duration::from_millis(1);

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as it is worth for a key that DynamoDB owns.
    Owner,
    /// As long as it is worth for a key that SQLite owns and does not have.
    Other,
}

/// DynamoDB. Clones share it.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its results.
    pub results: Arc<dyn ResultStore>,
    /// Its sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// What keeps callers from waiting for it when it does not answer.
    pub circuit: Circuit,
    /// How long it may take for a key that it owns.
    pub owner_patience: Duration,
    /// How long it may take for a key that it does not own.
    pub other_patience: Duration,
}

impl Remote {
    /// Asks it something.
    ///
    /// # Errors
    /// As [`Circuit::run`].
    pub async fn ask<T>(&self, patience: Patience, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.circuit.run(self.patience(patience), call).await
    }

    /// Asks it about many keys: each may take a little longer.
    ///
    /// # Errors
    /// As [`Circuit::run`].
    pub async fn ask_many<T>(
        &self,
        patience: Patience,
        keys: usize,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let more = PER_KEY * u32::try_from(keys).unwrap_or(u32::MAX);
        self.circuit.run(self.patience(patience).saturating_add(more), call).await
    }

    /// Has it take a body of so many bytes.
    ///
    /// # Errors
    /// As [`Circuit::run`].
    pub async fn give<T>(&self, bytes: usize, call: impl Future<Output = Result<T>>) -> Result<T> {
        let more = PER_MEBIBYTE * u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        self.circuit.run(self.owner_patience.saturating_add(more), call).await
    }

    fn patience(&self, patience: Patience) -> Duration {
        match patience {
            Patience::Owner => self.owner_patience,
            Patience::Other => self.other_patience,
        }
    }
}
