//! Delivers the outbox: what DynamoDB has yet to get, oldest first, many keys at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::domain::Timestamp;
use crate::store::circuit::CircuitState;
use crate::store::routed::{Routed, Settled, await_arrival};
use crate::store::sqlite::ledger::outbox::{Row, Tried};
use crate::store::{Error, Result};

/// How often an idle relay looks for work.
const INTERVAL: Duration = Duration::from_millis(100);

/// Rows that are taken at a time.
const BATCH: usize = 256;

/// A row that is refused so often, for its own sake, is parked.
const MOST_ATTEMPTS: u32 = 8;

/// The longest pause before a row is tried again.
const LONGEST_PAUSE_SECONDS: u64 = 300;

/// What one round of the relay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Rows that are settled.
    pub settled: usize,
    /// Rows that will be tried again.
    pub later: usize,
    /// Rows that were parked.
    pub parked: usize,
}

impl Relayed {
    /// Whether there is nothing to do just now.
    pub fn is_idle(&self) -> bool {
        self.settled == 0
    }
}

/// The relay.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Between which sides.
    pub routed: Routed,
    /// Rows that are delivered at once.
    pub concurrency: usize,
}

impl Relay {
    /// Tries the rows that are due, one batch of them.
    ///
    /// # Errors
    /// Those of the database; what DynamoDB says is written down with the row.
    pub async fn run_once(&self) -> Result<Relayed> {
        let parts = self.routed.parts();
        // While nobody answers there is nothing to try; the watch finds out when that ends.
        if parts.remote.circuit.is_open() {
            return Ok(Relayed::default());
        }
        let rows = parts.database.outbox_due(parts.clock.now(), BATCH).await?;
        if rows.is_empty() {
            return Ok(Relayed::default());
        }
        let tries = stream::iter(rows).map(|row| self.try_row(row)).buffer_unordered(self.concurrency.max(1));
        let outcomes: Vec<_> = tries.collect().await;
        let mut relayed = Relayed::default();
        for (_, outcome) in &outcomes {
            match outcome {
                Tried::Delivered { .. } | Tried::Refused { .. } => relayed.settled += 1,
                Tried::Later { .. } | Tried::Wait { .. } => relayed.later += 1,
                Tried::Park { .. } => relayed.parked += 1,
            }
        }
        parts.database.outbox_tried(outcomes).await?;
        Ok(relayed)
    }

    /// Repeats [`Relay::run_once`] until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut has_failed = false;
        loop {
            let round = stop.run_until_cancelled(self.run_once()).await;
            let Some(round) = round else { return };
            let is_idle = match round {
                Ok(relayed) => {
                    has_failed = false;
                    relayed.is_idle()
                }
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(%error, "the relay cannot read or write the outbox");
                    }
                    true
                }
            };
            if is_idle && stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    async fn try_row(&self, row: Row) -> (crate::domain::KeyId, Tried) {
        let parts = self.routed.parts();
        let (id, kind) = (row.what.id(), row.what.kind());
        let (tried, outcome) = match self.routed.settle(&row.what).await {
            Ok(Settled::Open) if let Some(wait) = await_arrival(&row, parts.clock.now()) => (wait, "open"),
            Ok(settled) => {
                let waited = parts.clock.now().millis_since(row.enqueued_at);
                let delay = Duration::from_millis(waited).as_secs_f64();
                if !matches!(settled, Settled::Gone | Settled::Open) {
                    parts.metrics.relay_delay.with_label_values(&[kind]).observe(delay);
                }
                (Tried::Delivered { version: row.version }, settled.as_str())
            }
            Err(error) => after(&row, &error, parts.clock.now()),
        };
        parts.metrics.relayed.with_label_values(&[kind, outcome]).inc();
        (id, tried)
    }
}

/// What becomes of a row that was not delivered.
fn after(row: &Row, error: &Error, now: Timestamp) -> (Tried, &'static str) {
    let text = error.to_string();
    // Nothing is wrong with the row: it waits for better times, however long they take to come.
    if !error.is_of_the_request() {
        return (Tried::Wait { due_at: now.plus_secs(1), error: text }, "failed");
    }
    if row.attempts + 1 >= MOST_ATTEMPTS {
        tracing::error!(kind = row.what.kind(), id = %row.what.id(), error = text, "a row of the outbox was parked");
        return (Tried::Park { error: text }, "parked");
    }
    let pause = 1_u64.checked_shl(row.attempts).unwrap_or(u64::MAX).min(LONGEST_PAUSE_SECONDS);
    (Tried::Later { due_at: now.plus_secs(pause), error: text }, "failed")
}

/// Asks DynamoDB how it is while it is left alone, so that it is found to be back although nobody needs it.
pub async fn watch(routed: Routed, stop: CancellationToken) {
    let remote = routed.parts().remote.clone();
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        // Only while it is left alone: a probe that succeeds says nothing of the calls that fail.
        let is_closed = remote.circuit.status().state == CircuitState::Closed;
        if !is_closed && !remote.circuit.is_open() {
            let call = Arc::clone(&remote.results);
            // What comes of it is the circuit's to know.
            let _ = remote.circuit.run(remote.owner_patience, call.status()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Key, Namespace, Version};
    use crate::store::sqlite::ledger::outbox::Queued;

    fn row(attempts: u32) -> Row {
        let key = Key::new(&Namespace::default(), "https://example.com/", "").expect("a key");
        Row {
            seq: 1,
            what: Queued::Result(key),
            version: Version::from_u64(1),
            enqueued_at: Timestamp::from_secs(1),
            due_at: Timestamp::from_secs(1),
            attempts,
            error: None,
        }
    }

    #[test]
    fn an_outage_never_parks_a_row() {
        let outage = Error::Unavailable { backend: "dynamodb", detail: "gone".to_owned() };
        let (tried, _) = after(&row(1000), &outage, Timestamp::from_secs(5));
        assert!(
            matches!(tried, Tried::Wait { due_at, .. } if due_at == Timestamp::from_secs(6)),
            "{tried:?}"
        );
    }

    #[test]
    fn a_row_that_is_refused_for_its_own_sake_is_parked_in_the_end() {
        let refused = Error::TooLarge { backend: "dynamodb", detail: "a document".to_owned() };
        let mut pauses = Vec::new();
        for attempts in 0..MOST_ATTEMPTS {
            match after(&row(attempts), &refused, Timestamp::from_secs(0)).0 {
                Tried::Later { due_at, .. } => pauses.push(due_at.as_secs()),
                Tried::Park { error } => assert!(error.contains("a document"), "{error}"),
                other => panic!("it was refused: {other:?}"),
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64], "and the eighth parks it");
    }
}
