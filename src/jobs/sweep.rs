//! Removes what has expired from the embedded store, and what is beyond its bound, a small batch at a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::Result;
use crate::store::sqlite::{SqliteStore, Swept};

/// Between two batches of one sweep, so that writes are not held up.
const PAUSE: Duration = Duration::from_millis(50);

/// What a sweep needs.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Where.
    pub store: SqliteStore,
    /// When.
    pub clock: Clock,
    /// What was removed is counted here.
    pub metrics: Metrics,
    /// How long expired results are kept for callers that accept them, in seconds.
    pub keep_stale_seconds: u64,
}

impl Sweep {
    /// Removes everything that has expired, batch by batch, until nothing is left or `stop` is cancelled. It goes on
    /// while that evicts what is beyond the bound: where little is written, nothing else brings a database within a
    /// bound that was lowered.
    ///
    /// # Errors
    /// As any write; what was removed before stays removed.
    pub async fn run_once(&self, stop: &CancellationToken) -> Result<Swept> {
        let mut swept = Swept::default();
        loop {
            let now = self.clock.now();
            let batch = self.store.sweep_batch(now.minus_secs(self.keep_stale_seconds), now).await?;
            self.metrics.removed("expired").inc_by(batch.results as u64);
            self.metrics.removed_sessions.with_label_values(&["expired"]).inc_by(batch.sessions as u64);
            swept.results += batch.results;
            swept.sessions += batch.sessions;
            swept.tombstones += batch.tombstones;
            swept.leases += batch.leases;
            swept.hosts += batch.hosts;
            swept.pages += batch.pages;
            swept.surplus = batch.surplus;
            if !batch.is_full() || stop.is_cancelled() {
                return Ok(swept);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Repeats [`Sweep::run_once`] until `stop` is cancelled.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            match self.run_once(&stop).await {
                Ok(swept)
                    if swept.results + swept.sessions + swept.tombstones + swept.leases + swept.hosts > 0 =>
                {
                    tracing::info!(
                        results = swept.results,
                        sessions = swept.sessions,
                        tombstones = swept.tombstones,
                        leases = swept.leases,
                        hosts = swept.hosts,
                        pages = swept.pages,
                        "swept"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the sweep failed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::store::ResultStore;
    use crate::store::conformance::{at, key, options, put};
    use crate::store::sqlite::Options;

    #[tokio::test]
    async fn one_sweep_brings_a_database_within_a_lowered_bound() {
        const RESULTS: u64 = 2000;
        let directory = tempfile::tempdir().expect("a directory");
        let (clock, metrics) = (Clock::manual(at(1000)), Metrics::new());
        let free = options(directory.path());
        let store = SqliteStore::open(&free, &clock, &metrics).expect("opens");
        let puts =
            (0..RESULTS).map(|number| put(&key(&format!("https://example.com/{number}")), "text", 1000));
        for outcome in join_all(puts.map(|put| ResultStore::put(&store, put))).await {
            outcome.expect("a put");
        }
        let size_bytes = ResultStore::status(&store).await.expect("a status").size_bytes;
        store.close().await;
        drop(store);
        // Nearly half of what it takes is what any database takes.
        let bounded = Options { max_bytes: size_bytes * 5 / 8, ..free };
        let store = SqliteStore::open(&bounded, &clock, &metrics).expect("opens");
        let sweep = Sweep { store: store.clone(), clock, metrics: metrics.clone(), keep_stale_seconds: 0 };
        let swept = sweep.run_once(&CancellationToken::new()).await.expect("a sweep");
        assert_eq!((swept.results, swept.surplus), (0, false), "nothing has expired");
        let evicted = metrics.removed("size").get();
        assert!((600..RESULTS).contains(&evicted), "{evicted} were evicted, in several batches");
        sweep.run_once(&CancellationToken::new()).await.expect("a sweep");
        assert_eq!(metrics.removed("size").get(), evicted, "what is left fits");
    }
}
