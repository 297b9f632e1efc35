//! Waiting between tries: longer each time, at random, and never past a deadline.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(25);

const LONGEST: Duration = Duration::from_secs(1);

/// The pauses of one loop.
#[derive(Debug)]
pub(super) struct Pauses {
    deadline: Instant,
    /// Its random part alone is the pause ("full jitter"), so that those who collided do not collide again.
    jittered: ExponentialBackoff,
    even: ExponentialBackoff,
}

impl Pauses {
    /// Those of a loop that may take so long.
    pub(super) fn within(time: Duration) -> Self {
        let (jittered, even) = Self::series();
        Self { deadline: Instant::now() + time, jittered, even }
    }

    fn series() -> (ExponentialBackoff, ExponentialBackoff) {
        let even =
            ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LONGEST).without_max_times();
        (even.with_jitter().build(), even.build())
    }

    /// Begins with short pauses again: something has moved.
    pub(super) fn restart(&mut self) {
        (self.jittered, self.even) = Self::series();
    }

    /// Waits; false, without waiting, when the time would be over.
    pub(super) async fn pause(&mut self) -> bool {
        let delay = match (self.jittered.next(), self.even.next()) {
            (Some(jittered), Some(even)) => jittered.saturating_sub(even),
            _ => LONGEST,
        };
        if Instant::now() + delay >= self.deadline {
            return false;
        }
        sleep(delay).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_and_end() {
        let mut pauses = Pauses::within(Duration::from_millis(400));
        let mut count = 0;
        while pauses.pause().await {
            count += 1;
        }
        // Each is at most the double of the one before: the fifth alone may take as long as all the time.
        assert!(count >= 2, "{count}");
        let deadline = pauses.deadline;
        pauses.restart();
        assert_eq!(pauses.deadline, deadline);
    }
}
