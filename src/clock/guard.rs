//! Whether the wall clock may be believed where that deletes something: a jump of more than a day is not, for a day.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Clock;
use crate::domain::Timestamp;

/// The largest jump that is believed at once, and how long a larger one has to last.
const DAY: Duration = Duration::from_hours(24);

/// Watches the wall clock beside one that is never set. Clones share what they know.
///
/// The first time to compare with is the last one at which this store was seen by a running service, so that a start
/// with a wrong clock is a jump, too.
#[derive(Clone, Debug)]
pub struct ClockGuard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// The last wall time that was believed.
    believed: Reading,
    doubted: Option<Doubted>,
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    uptime: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Doubted {
    /// When the wait began.
    since: Duration,
    /// What the clocks said the last time.
    last: Reading,
}

/// A wall clock that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What it says.
    pub wall: Timestamp,
    /// What it would say without the jump. What has expired by then is removed, and nothing else.
    pub believed: Timestamp,
    /// How long it will be until the jump is believed.
    pub remaining: Duration,
}

/// What a reading has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The wall clock has jumped ahead and is not believed from now on.
    Doubted(Doubt),
    /// The wall clock is back where it was expected.
    Returned,
    /// The jump has lasted long enough to be believed.
    Outlasted,
}

impl ClockGuard {
    /// Begins to watch. `last_seen` is the wall time of the last heartbeat, if there was one.
    pub fn new(clock: &Clock, last_seen: Option<Timestamp>) -> Self {
        let now = Reading::take(clock);
        // A heartbeat of the future is of a clock that was wrong then, or is now: what is deleted too late does no harm.
        let wall = last_seen.unwrap_or(now.wall).min(now.wall);
        let state = State { believed: Reading { wall, ..now }, doubted: None };
        Self(Arc::new(Inner { clock: clock.clone(), state: Mutex::new(state) }))
    }

    /// The time by which something may be deleted: the wall clock's, or what that would be without a jump that is not
    /// believed. With it, what this reading has changed.
    pub fn believed(&self) -> (Timestamp, Option<Turn>) {
        let mut state = self.state();
        let turn = state.read(Reading::take(&self.0.clock));
        (state.removes_by(), turn)
    }

    /// The time by which something may be deleted, and the doubt there is. To look changes nothing.
    pub fn seen(&self) -> (Timestamp, Option<Doubt>) {
        let mut state = *self.state();
        state.read(Reading::take(&self.0.clock));
        (state.removes_by(), state.doubt())
    }

    /// Believes the wall clock as it is; false if it was believed already.
    pub fn confirm(&self) -> bool {
        let mut state = self.state();
        let now = Reading::take(&self.0.clock);
        state.read(now);
        let was_doubted = state.doubted.is_some();
        *state = State { believed: now, doubted: None };
        was_doubted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn take(clock: &Clock) -> Self {
        Self { wall: clock.now(), uptime: clock.uptime() }
    }

    /// What the wall clock should say at this uptime.
    fn wall_at(&self, uptime: Duration) -> Timestamp {
        let passed = uptime.saturating_sub(self.uptime);
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.wall.as_millis().saturating_add(millis))
    }

    /// Whether `later` is further ahead than the time that has passed since explains.
    fn is_jump_to(&self, later: &Self) -> bool {
        later.wall > self.wall_at(later.uptime).plus_secs(DAY.as_secs())
    }
}

impl State {
    fn read(&mut self, now: Reading) -> Option<Turn> {
        if !self.believed.is_jump_to(&now) {
            self.believed = now;
            return self.doubted.take().map(|_| Turn::Returned);
        }
        match self.doubted {
            Some(doubted) if !doubted.last.is_jump_to(&now) => {
                if now.uptime.saturating_sub(doubted.since) < DAY {
                    self.doubted = Some(Doubted { last: now, ..doubted });
                    return None;
                }
                *self = Self { believed: now, doubted: None };
                Some(Turn::Outlasted)
            }
            // The first jump, or another one on top of it.
            _ => {
                self.doubted = Some(Doubted { since: now.uptime, last: now });
                self.doubt().map(Turn::Doubted)
            }
        }
    }

    fn removes_by(&self) -> Timestamp {
        self.doubted.map_or(self.believed.wall, |doubted| self.believed.wall_at(doubted.last.uptime))
    }

    fn doubt(&self) -> Option<Doubt> {
        let Doubted { since, last } = self.doubted?;
        let remaining = DAY.saturating_sub(last.uptime.saturating_sub(since));
        Some(Doubt { wall: last.wall, believed: self.removes_by(), remaining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const YEARS: u64 = 3 * 365 * 86_400;

    fn watched() -> (Clock, ClockGuard) {
        let clock = Clock::manual(START);
        let guard = ClockGuard::new(&clock, Some(START));
        (clock, guard)
    }

    #[test]
    fn an_idle_weekend_is_no_jump() {
        let (clock, guard) = watched();
        clock.advance(60 * HOUR);
        assert_eq!(guard.believed(), (START.plus_secs(60 * 3600), None));
        assert_eq!(guard.seen().1, None);
    }

    #[test]
    fn a_clock_that_is_set_by_less_than_a_day_is_believed() {
        let (clock, guard) = watched();
        clock.set(START.plus_secs(86_400));
        assert_eq!(guard.believed(), (START.plus_secs(86_400), None));
        clock.set(START);
        assert_eq!(guard.believed(), (START, None), "and back");
    }

    #[test]
    fn a_jump_is_believed_when_it_has_lasted_a_day() {
        let (clock, guard) = watched();
        clock.set(START.plus_secs(YEARS));
        let doubt = Doubt { wall: START.plus_secs(YEARS), believed: START, remaining: DAY };
        assert_eq!(guard.believed(), (START, Some(Turn::Doubted(doubt))));
        assert_eq!(guard.seen().1, Some(doubt));
        clock.advance(23 * HOUR);
        assert_eq!(guard.believed(), (START.plus_secs(23 * 3600), None), "time goes on as it was");
        assert_eq!(guard.seen().1.map(|doubt| doubt.remaining), Some(HOUR));
        clock.advance(HOUR);
        assert_eq!(guard.believed(), (START.plus_secs(YEARS + 86_400), Some(Turn::Outlasted)));
        assert_eq!(guard.seen().1, None);
    }

    #[test]
    fn a_second_jump_begins_the_wait_anew() {
        let (clock, guard) = watched();
        clock.set(START.plus_secs(YEARS));
        guard.believed();
        clock.advance(20 * HOUR);
        clock.set(START.plus_secs(2 * YEARS));
        assert!(matches!(guard.believed(), (_, Some(Turn::Doubted(_)))));
        clock.advance(20 * HOUR);
        assert_eq!(guard.believed(), (START.plus_secs(40 * 3600), None));
        assert_eq!(guard.seen().1.map(|doubt| doubt.remaining), Some(4 * HOUR));
    }

    #[test]
    fn a_clock_that_comes_back_is_believed_at_once() {
        let (clock, guard) = watched();
        clock.set(START.plus_secs(YEARS));
        guard.believed();
        clock.set(START.plus_secs(60));
        assert_eq!(guard.believed(), (START.plus_secs(60), Some(Turn::Returned)));
        assert_eq!(guard.seen().1, None);
    }

    #[test]
    fn an_operator_may_confirm_a_jump() {
        let (clock, guard) = watched();
        assert!(!guard.confirm(), "there is nothing to confirm");
        clock.set(START.plus_secs(YEARS));
        guard.believed();
        assert!(guard.confirm());
        assert_eq!(guard.believed(), (START.plus_secs(YEARS), None));
    }

    #[test]
    fn a_start_is_compared_with_the_last_heartbeat() {
        for (seconds_ago, is_doubted) in [(86_400, false), (86_401, true), (YEARS, true)] {
            let guard = ClockGuard::new(&Clock::manual(START), Some(START.minus_secs(seconds_ago)));
            let (believed, _) = guard.believed();
            assert_eq!(guard.seen().1.is_some(), is_doubted, "{seconds_ago}");
            assert_eq!(believed == START.minus_secs(seconds_ago), is_doubted, "{seconds_ago}");
        }
        for none_or_later in [None, Some(START.plus_secs(YEARS))] {
            let guard = ClockGuard::new(&Clock::manual(START), none_or_later);
            assert_eq!(guard.believed(), (START, None), "{none_or_later:?}");
        }
    }
}
