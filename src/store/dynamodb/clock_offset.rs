//! How far DynamoDB's clock is ahead of this host's, from the `Date` of its answers: each tells whole seconds, many
//! together tell more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use prometheus::GaugeVec;

use super::BACKEND;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// For how long answers are taken together: clocks drift, and are set.
const WINDOW: Duration = Duration::from_mins(1);

/// Bounds on how far the backend's clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    least_millis: i64,
    most_millis: i64,
}

impl Ahead {
    /// At least and at most so many milliseconds.
    pub const fn between(least_millis: i64, most_millis: i64) -> Self {
        Self { least_millis, most_millis }
    }

    /// What one answer tells: between sending and receiving there was an instant with this second over there.
    fn of_answer(sent_millis: i64, received_millis: i64, date_seconds: i64) -> Self {
        let date_millis = date_seconds.saturating_mul(1000);
        Self {
            // Own times are rounded down to a millisecond, theirs to a second.
            least_millis: date_millis - received_millis - 1,
            most_millis: date_millis + 1000 - sent_millis,
        }
    }

    /// What two answers tell together; nothing if they contradict each other.
    fn and(self, other: Self) -> Option<Self> {
        let least_millis = self.least_millis.max(other.least_millis);
        let most_millis = self.most_millis.min(other.most_millis);
        (least_millis <= most_millis).then_some(Self { least_millis, most_millis })
    }

    /// The middle of the bounds, in milliseconds.
    pub const fn millis(self) -> i64 {
        i64::midpoint(self.least_millis, self.most_millis)
    }

    /// By how much the middle may be wrong in either direction, in milliseconds.
    pub const fn uncertainty_millis(self) -> i64 {
        (self.most_millis - self.least_millis + 1) / 2
    }
}

/// Keeps the estimate of a client's answers. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct ClockOffset(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    estimate: Mutex<Estimate>,
    ahead: GaugeVec,
    uncertainty: GaugeVec,
}

/// The bounds of this window, and those of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    begun: Duration,
    current: Option<Ahead>,
    previous: Option<Ahead>,
}

impl Estimate {
    fn learn(&mut self, answer: Ahead, uptime: Duration) {
        if uptime.saturating_sub(self.begun) >= WINDOW {
            *self = Self { begun: uptime, current: None, previous: self.current };
        }
        // A contradiction means that a clock was set: what was learned before is void.
        self.current = Some(self.current.and_then(|current| current.and(answer)).unwrap_or(answer));
    }

    fn get(&self) -> Option<Ahead> {
        match (self.current, self.previous) {
            (Some(current), Some(previous)) => current.and(previous).or(Some(current)),
            (current, previous) => current.or(previous),
        }
    }
}

impl ClockOffset {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            clock: Clock::system(),
            estimate: Mutex::default(),
            ahead: metrics.backend_clock_ahead.clone(),
            uncertainty: metrics.backend_clock_uncertainty.clone(),
        }))
    }

    /// The estimate; nothing before the first answer that tells a time.
    pub(super) fn get(&self) -> Option<Ahead> {
        self.0.estimate.lock().unwrap_or_else(PoisonError::into_inner).get()
    }

    fn learn(&self, answer: Ahead) {
        let estimate = {
            let mut estimate = self.0.estimate.lock().unwrap_or_else(PoisonError::into_inner);
            estimate.learn(answer, self.0.clock.uptime());
            estimate.get()
        };
        if let Some(ahead) = estimate {
            self.0.ahead.with_label_values(&[BACKEND]).set(seconds(ahead.millis()));
            self.0.uncertainty.with_label_values(&[BACKEND]).set(seconds(ahead.uncertainty_millis()));
        }
    }

    fn now_millis(&self) -> i64 {
        i64::try_from(self.0.clock.now().as_millis()).unwrap_or(i64::MAX)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// When an attempt was sent, by the own clock.
#[derive(Debug)]
struct Sent(i64);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for ClockOffset {
    fn name(&self) -> &'static str {
        "ClockOffset"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Sent(self.now_millis()));
        Ok(())
    }

    /// Even an error has a date.
    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let since_1970 = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        let seconds = since_1970.and_then(|span| i64::try_from(span.as_secs()).ok());
        if let Some((Sent(sent), seconds)) = bag.load::<Sent>().zip(seconds) {
            self.learn(Ahead::of_answer(*sent, self.now_millis(), seconds));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a backend whose clock is `ahead` milliseconds ahead answers to a request that takes 4 ms.
    fn answer(sent: i64, ahead: i64) -> Ahead {
        Ahead::of_answer(sent, sent + 4, (sent + 2 + ahead).div_euclid(1000))
    }

    #[test]
    fn many_answers_tell_more_than_one() {
        for ahead in [-7000, -100, -5, 0, 5, 100, 1234, 7000] {
            let mut estimate = Estimate::default();
            estimate.learn(answer(1_000_000, ahead), Duration::ZERO);
            assert!(estimate.get().expect("one").uncertainty_millis() >= 500, "a date has whole seconds");
            for step in 1..200 {
                estimate.learn(answer(1_000_000 + step * 137, ahead), Duration::ZERO);
            }
            let known = estimate.get().expect("many");
            let (middle, uncertainty) = (known.millis(), known.uncertainty_millis());
            assert!(uncertainty <= 10, "{ahead}: {known:?}");
            assert!((middle - ahead).abs() <= uncertainty, "{ahead}: {known:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_measured_anew() {
        let mut estimate = Estimate::default();
        for step in 0..200 {
            estimate.learn(answer(step * 137, 0), Duration::ZERO);
        }
        estimate.learn(answer(100_000, 5000), Duration::ZERO);
        let known = estimate.get().expect("one");
        assert!((known.millis() - 5000).abs() <= known.uncertainty_millis(), "{known:?}");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut estimate = Estimate::default();
        for step in 0..200 {
            estimate.learn(answer(step * 137, 0), Duration::ZERO);
        }
        for windows in 1..=2 {
            // Within what one answer cannot tell.
            estimate.learn(answer(500, 100), WINDOW * windows);
        }
        let known = estimate.get().expect("one");
        assert!(known.least_millis <= 100 && 100 <= known.most_millis, "{known:?}");
    }
}
