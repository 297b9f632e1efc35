//! Removes what has expired from the embedded store, and what is beyond its bound, a small batch at a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{ClockGuard, Turn};
use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::store::Result;
use crate::store::sqlite::{SqliteStore, Swept};

/// Between two batches of one sweep, so that writes are not held up.
const PAUSE: Duration = Duration::from_millis(50);

/// Between two heartbeats, in seconds: far less than the jump of the clock that they let a start notice.
const HEARTBEAT_SECONDS: u64 = 600;

/// What a sweep needs.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Where.
    pub store: SqliteStore,
    /// When: a jump of the clock must not remove everything at once.
    pub guard: ClockGuard,
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
            let now = self.believed();
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

    /// The time by which something may be removed. What has changed about it is said once.
    fn believed(&self) -> Timestamp {
        let (now, turn) = self.guard.believed();
        match turn {
            Some(Turn::Doubted(doubt)) => tracing::warn!(
                wall = %doubt.wall,
                believed = %doubt.believed,
                believed_in_seconds = doubt.remaining.as_secs(),
                "the clock is more than a day ahead of what was expected: what expires by that jump is kept until it \
                 has lasted a day, or until `crawlcache clock confirm`"
            ),
            Some(Turn::Returned) => tracing::info!("the clock is back where it was expected"),
            Some(Turn::Outlasted) => {
                tracing::warn!(now = %now, "the clock is believed: its jump has lasted a day");
            }
            None => {}
        }
        self.metrics.clock_doubted.set(i64::from(self.guard.seen().1.is_some()));
        now
    }

    /// Writes down the time that is believed, now and then, for the next start to compare its clock with.
    async fn beat(&self, last: &mut Option<Timestamp>) {
        let (now, _) = self.guard.believed();
        // A clock that was set back counts, too.
        if last.is_some_and(|last| last <= now && now < last.plus_secs(HEARTBEAT_SECONDS)) {
            return;
        }
        match self.store.set_heartbeat(now).await {
            Ok(()) => *last = Some(now),
            Err(error) => tracing::warn!(%error, "the time is not written down"),
        }
    }

    /// Repeats [`Sweep::run_once`] until `stop` is cancelled.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut last_beat = None;
        self.believed();
        self.beat(&mut last_beat).await;
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let swept = self.run_once(&stop).await;
            self.beat(&mut last_beat).await;
            match swept {
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
    use crate::clock::Clock;
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
        let sweep = Sweep {
            store: store.clone(),
            guard: ClockGuard::new(&clock, None),
            metrics: metrics.clone(),
            keep_stale_seconds: 0,
        };
        let swept = sweep.run_once(&CancellationToken::new()).await.expect("a sweep");
        assert_eq!((swept.results, swept.surplus), (0, false), "nothing has expired");
        let evicted = metrics.removed("size").get();
        assert!((600..RESULTS).contains(&evicted), "{evicted} were evicted, in several batches");
        sweep.run_once(&CancellationToken::new()).await.expect("a sweep");
        assert_eq!(metrics.removed("size").get(), evicted, "what is left fits");
    }

    #[tokio::test]
    async fn a_jump_of_the_clock_removes_nothing_until_it_is_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (clock, metrics) = (Clock::manual(at(1000)), Metrics::new());
        let store = SqliteStore::open(&options(directory.path()), &clock, &metrics).expect("opens");
        for url in ["https://example.com/soon", "https://example.com/later"] {
            let mut put = put(&key(url), "text", 1000);
            put.meta.expires_at = if url.ends_with("soon") { at(4000) } else { at(1_000_000) };
            ResultStore::put(&store, put).await.expect("a put");
        }
        let sweep =
            |guard| Sweep { store: store.clone(), guard, metrics: metrics.clone(), keep_stale_seconds: 0 };
        let stop = CancellationToken::new();
        let running = sweep(ClockGuard::new(&clock, None));
        clock.set(at(90_000_000));
        assert_eq!(running.run_once(&stop).await.expect("a sweep").results, 0, "nobody waited that long");
        assert_eq!(metrics.clock_doubted.get(), 1);
        clock.advance(Duration::from_hours(1));
        assert_eq!(
            running.run_once(&stop).await.expect("a sweep").results,
            1,
            "what expires in time goes on"
        );
        // A start with such a clock is told by the heartbeat, which keeps the time that is believed.
        running.beat(&mut None).await;
        let heartbeat = store.heartbeat().await.expect("a heartbeat");
        assert_eq!(heartbeat, Some(at(4600)));
        let restarted = sweep(ClockGuard::new(&clock, heartbeat));
        assert_eq!(restarted.run_once(&stop).await.expect("a sweep").results, 0, "a restart changes nothing");
        assert!(restarted.guard.confirm());
        assert_eq!(restarted.run_once(&stop).await.expect("a sweep").results, 1, "an operator knows better");
        assert_eq!(metrics.clock_doubted.get(), 0);
    }
}
