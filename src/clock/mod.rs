//! The time: the system's, or one that tests set by hand; the versions made of it; and whether a jump of it is believed.

mod guard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{Timestamp, Version};
pub use guard::{ClockGuard, Doubt, Turn};

/// How far ahead of this one the clock of another process is believed to be. A version of later than that is not of a
/// clock that runs fast, but wrong.
pub const FASTEST_CLOCK_SECONDS: u64 = 3600;

/// Hands out instants and versions. Clones share both.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: the system's clocks.
    manual: Option<Manual>,
    last_version: AtomicU64,
}

/// What a test has set.
#[derive(Debug)]
struct Manual {
    /// The wall clock, in milliseconds since the Unix epoch.
    now: AtomicU64,
    /// The monotonic clock, in milliseconds.
    uptime: AtomicU64,
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self(Arc::new(Inner { manual: None, last_version: AtomicU64::new(0) }))
    }

    /// A clock that stands still until it is set.
    pub fn manual(now: Timestamp) -> Self {
        let manual = Some(Manual { now: AtomicU64::new(now.as_millis()), uptime: AtomicU64::new(0) });
        Self(Arc::new(Inner { manual, last_version: AtomicU64::new(0) }))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match &self.0.manual {
            Some(manual) => Timestamp::from_millis(manual.now.load(Ordering::Relaxed)),
            None => system_now(),
        }
    }

    /// Time on a clock that is never set, from an instant of its own. It goes on while the machine sleeps, where the
    /// system has such a clock.
    pub fn uptime(&self) -> Duration {
        match &self.0.manual {
            Some(manual) => Duration::from_millis(manual.uptime.load(Ordering::Relaxed)),
            None => system_uptime(),
        }
    }

    /// Sets the wall clock of a manual clock, forward or back, in no time. A system clock is left alone.
    pub fn set(&self, now: Timestamp) {
        if let Some(manual) = &self.0.manual {
            manual.now.store(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// Lets time pass on a manual clock. A system clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0.manual {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            manual.now.fetch_add(millis, Ordering::Relaxed);
            manual.uptime.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// The next version: later than every one before it, even when the time goes back.
    pub fn next_version(&self) -> Version {
        let floor = Version::first_of(self.now()).as_u64();
        let step = |last: u64| Some(last.saturating_add(1).max(floor));
        let last =
            self.0.last_version.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or_default();
        Version::from_u64(last.saturating_add(1).max(floor))
    }

    /// A version later than `met` and than every one before it. What was met moves nothing else.
    pub fn version_above(&self, met: Version) -> Version {
        self.next_version().max(met.next())
    }

    /// Makes every later version newer than `seen`, unless that is of the far future: a wrong clock must not become
    /// that of all who meet what it wrote. Who has to be above such a version asks [`Clock::version_above`].
    pub fn observe(&self, seen: Version) {
        if seen <= Version::first_of(self.now().plus_secs(FASTEST_CLOCK_SECONDS)) {
            self.0.last_version.fetch_max(seen.as_u64(), Ordering::Relaxed);
        }
    }
}

/// `CLOCK_BOOTTIME`: unlike `CLOCK_MONOTONIC` it counts the time that a machine was suspended.
#[cfg(target_os = "linux")]
fn system_uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
fn system_uptime() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

fn system_now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's time enters")]
    let now = std::time::SystemTime::now();
    let since_epoch = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_even_when_time_goes_back() {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        let first = clock.next_version();
        clock.set(Timestamp::from_secs(10));
        let second = clock.next_version();
        assert!(second > first);
        clock.set(Timestamp::from_secs(2000));
        assert_eq!(clock.next_version(), Version::first_of(Timestamp::from_secs(2000)));
    }

    #[test]
    fn versions_follow_what_was_seen() {
        let clock = Clock::manual(Timestamp::from_secs(1));
        let seen = Version::first_of(Timestamp::from_secs(99));
        clock.observe(seen);
        assert_eq!(clock.next_version(), seen.next());
    }

    #[test]
    fn a_version_of_the_far_future_is_exceeded_but_not_believed() {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        let wrong = Version::first_of(Timestamp::from_secs(1_000_000));
        clock.observe(wrong);
        assert_eq!(clock.version_above(wrong), wrong.next());
        assert!(clock.next_version() < Version::first_of(Timestamp::from_secs(1001)));
        let fast = Version::first_of(Timestamp::from_secs(1007));
        assert_eq!(clock.version_above(fast), fast.next());
        assert!(clock.next_version() < fast, "it was not observed");
        let slow = Version::first_of(Timestamp::from_secs(1));
        assert!(clock.version_above(slow) > Version::first_of(Timestamp::from_secs(1000)));
        let last = Version::from_u64(u64::MAX);
        assert_eq!(clock.version_above(last), last);
    }

    #[test]
    fn the_system_clock_is_in_this_century() {
        assert!(Clock::system().now() > Timestamp::from_secs(1_700_000_000));
    }
}
