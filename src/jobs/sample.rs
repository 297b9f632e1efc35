//! Notes how the backends do, so that somebody who asks later can be told how they did lately.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::store::recent::Recent;

/// From one sample to the next.
const INTERVAL: Duration = Duration::from_secs(10);

/// Samples until `stop` is cancelled.
pub async fn run(recent: Recent, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        recent.sample(Instant::now());
    }
}
