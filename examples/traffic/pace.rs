//! When requests are due.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Gives out turns until the time is over.
pub(crate) struct Pace {
    begun: Instant,
    end: Instant,
    /// From one request to the next, where there is a rate.
    step: Option<Duration>,
    next: AtomicU32,
}

impl Pace {
    /// Turns for so many seconds, at so many a second or without a wait.
    pub(crate) fn new(begun: Instant, seconds: f64, rate: Option<f64>) -> Self {
        let step = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { begun, end: begun + Duration::from_secs_f64(seconds), step, next: AtomicU32::new(0) }
    }

    /// The next turn that nobody has; none when it is not due before the end.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let due = self.step.map(|step| self.begun + step * self.next.fetch_add(1, Ordering::Relaxed));
        (due.unwrap_or_else(Instant::now) < self.end).then_some(Turn(due))
    }
}

/// Leave to send one request at its time.
pub(crate) struct Turn(Option<Instant>);

impl Turn {
    /// Waits until the request is due, and returns since when it must be measured.
    ///
    /// One that comes late waited for others: that is part of what it took. One that waits for its time does so with
    /// a timer that is up to a millisecond late: that is not.
    pub(crate) async fn wait(self) -> Instant {
        match self.0 {
            Some(due) if Instant::now() < due => {
                tokio::time::sleep_until(due.into()).await;
                Instant::now()
            }
            Some(due) => due,
            None => Instant::now(),
        }
    }
}
