//! How a backend did lately: what its metrics say now, less what they said ten minutes ago.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Histogram;
use prometheus::core::Metric;

use super::Error;
use crate::domain::gate::Load;
use crate::metrics::{BACKEND_OPERATIONS, Metrics};

/// How long ago lately begins.
const SPAN: Duration = Duration::from_mins(10);

/// From one sample to the next, at least.
const STEP: Duration = Duration::from_secs(10);

/// The operations on one key, whose time is worth comparing.
const ON_ONE_KEY: [&str; 6] = ["get", "put", "delete", "session_get", "session_put", "session_delete"];

/// What an operation can come to.
const OUTCOMES: [&str; 3] = ["ok", "error", "abandoned"];

/// Errors that say nothing of the backend: what was asked for cannot be done.
const ASKED_WRONGLY: [&str; 3] = ["too_large", "unsupported", "cursor"];

/// What a comparison of both sides can find that is a difference.
const DIFFERENCES: [&str; 3] = ["different", "only_sqlite", "only_dynamodb"];

/// Samples of a backend's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Recent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    timed: Vec<Histogram>,
    others: Vec<Histogram>,
    metrics: Metrics,
    backend: &'static str,
    /// A backend that some of its operations need, which is counted under its own name.
    behind: Option<&'static str>,
    samples: Mutex<VecDeque<Sample>>,
}

/// What the metrics said at a time.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    operations: u64,
    errors: u64,
    compared: u64,
    differences: u64,
    /// Operations on one key, and how many of them took no longer than each bound.
    timed: u64,
    within: Vec<(f64, u64)>,
}

impl Recent {
    /// Begins with what the metrics say at `now` of a backend and of the one behind it, if there is one.
    pub fn new(metrics: &Metrics, backend: &'static str, behind: Option<&'static str>, now: Instant) -> Self {
        let histogram = |operation: &str, outcome: &str| {
            metrics.backend_operation_duration.with_label_values(&[backend, operation, outcome])
        };
        let of = |on_one_key: bool| {
            let operations =
                BACKEND_OPERATIONS.into_iter().filter(move |name| ON_ONE_KEY.contains(name) == on_one_key);
            operations
                .flat_map(|operation| OUTCOMES.map(|outcome| histogram(operation, outcome)))
                .collect::<Vec<_>>()
        };
        let recent = Self(Arc::new(Inner {
            timed: of(true),
            others: of(false),
            metrics: metrics.clone(),
            backend,
            behind,
            samples: Mutex::default(),
        }));
        recent.sample(now);
        recent
    }

    /// Notes what the metrics say now, unless that was done a moment ago. To be called often enough.
    pub fn sample(&self, now: Instant) {
        let mut samples = self.0.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|last| now.duration_since(last.at) < STEP) {
            return;
        }
        samples.push_back(self.0.read(now));
        // The first that is old enough to count from stays.
        while samples.get(1).is_some_and(|second| now.duration_since(second.at) >= SPAN) {
            samples.pop_front();
        }
    }

    /// What the backend did in the last ten minutes, or since the beginning where that is younger.
    pub fn load(&self, now: Instant) -> Load {
        self.sample(now);
        let current = self.0.read(now);
        let samples = self.0.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.front().map_or_else(Load::default, |first| current.since(first))
    }
}

impl Inner {
    fn read(&self, at: Instant) -> Sample {
        let mut sample = Sample {
            at,
            operations: self.others.iter().map(Histogram::get_sample_count).sum(),
            errors: self.errors(),
            compared: 0,
            differences: 0,
            timed: 0,
            within: Vec::new(),
        };
        for histogram in &self.timed {
            let metric = histogram.metric();
            let histogram = metric.get_histogram();
            sample.timed += histogram.get_sample_count();
            if sample.within.is_empty() {
                sample.within.extend(histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), 0)));
            }
            for (sum, bucket) in sample.within.iter_mut().zip(histogram.get_bucket()) {
                sum.1 += bucket.cumulative_count();
            }
        }
        sample.operations += sample.timed;
        let compared = |result: &str| self.metrics.shadow_reads.with_label_values(&[result]).get();
        sample.differences = DIFFERENCES.into_iter().map(compared).sum();
        sample.compared = sample.differences + compared("equal");
        sample
    }

    fn errors(&self) -> u64 {
        let count = |backend: &str| -> u64 {
            let reasons = Error::REASONS.iter().filter(|reason| !ASKED_WRONGLY.contains(reason));
            reasons
                .map(|reason| self.metrics.backend_errors.with_label_values(&[backend, reason]).get())
                .sum()
        };
        // An operation on a table fails with its bucket, too.
        count(self.backend) + self.behind.map_or(0, count)
    }
}

impl Sample {
    fn since(&self, first: &Self) -> Load {
        let more = |now: u64, then: u64| now.saturating_sub(then);
        let within: Vec<(f64, u64)> = self
            .within
            .iter()
            .zip(&first.within)
            .map(|((bound, now), (_, then))| (*bound, more(*now, *then)))
            .collect();
        Load {
            seconds: self.at.duration_since(first.at).as_secs_f64(),
            operations: more(self.operations, first.operations),
            errors: more(self.errors, first.errors),
            p99_seconds: quantile(&within, more(self.timed, first.timed), 0.99),
            compared: more(self.compared, first.compared),
            differences: more(self.differences, first.differences),
        }
    }
}

/// The time within which a share of `count` operations was done, as Prometheus would say: in proportion between the
/// bounds of its bucket, and the greatest bound where it lies beyond.
#[expect(clippy::cast_precision_loss, reason = "counts of ten minutes are far below 2^52")]
fn quantile(within: &[(f64, u64)], count: u64, share: f64) -> Option<f64> {
    if count == 0 {
        return None;
    }
    let rank = share * count as f64;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, cumulative) in within {
        let cumulative = *cumulative as f64;
        if cumulative >= rank {
            return Some(lower + (bound - lower) * (rank - below) / (cumulative - below));
        }
        (lower, below) = (*bound, cumulative);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(metrics: &Metrics, outcome: &str, seconds: f64, times: u64) {
        let histogram = metrics.backend_operation_duration.with_label_values(&["dynamodb", "get", outcome]);
        (0..times).for_each(|_| histogram.observe(seconds));
    }

    #[test]
    fn an_idle_backend_has_no_rate_and_no_quantile() {
        let begun = Instant::now();
        let load = Recent::new(&Metrics::new(), "dynamodb", None, begun).load(begun + STEP);
        assert_eq!((load.operations, load.error_rate(), load.p99_seconds), (0, None, None));
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let (metrics, begun) = (Metrics::new(), Instant::now());
        observe(&metrics, "ok", 0.001, 100);
        let recent = Recent::new(&metrics, "dynamodb", None, begun);
        observe(&metrics, "error", 4.0, 10);
        metrics.backend_errors.with_label_values(&["dynamodb", "timeout"]).inc_by(10);
        metrics.backend_errors.with_label_values(&["dynamodb", "too_large"]).inc_by(10);
        let young = recent.load(begun + Duration::from_secs(5));
        assert_eq!((young.operations, young.errors), (10, 10), "only what is new, and what says something");
        assert!(young.p99_seconds.is_some_and(|p99| p99 > 1.0), "{young:?}");
        assert!((young.seconds - 5.0).abs() < 1e-9);

        for step in 1..=120 {
            let at = begun + Duration::from_secs(step * 10);
            observe(&metrics, "ok", 0.001, 1);
            recent.sample(at);
            recent.sample(at + Duration::from_secs(1));
        }
        let kept = recent.0.samples.lock().expect("not poisoned").len();
        assert!((60..=62).contains(&kept), "{kept} samples");
        let later = recent.load(begun + Duration::from_secs(1201));
        assert_eq!((later.operations, later.errors), (61 - 1, 0), "{later:?}");
        assert!(later.p99_seconds.is_some_and(|p99| p99 <= 0.001), "{later:?}");
    }

    #[test]
    fn a_call_that_nobody_waited_for_is_as_slow_as_it_was() {
        let (metrics, begun) = (Metrics::new(), Instant::now());
        let recent = Recent::new(&metrics, "dynamodb", None, begun);
        observe(&metrics, "ok", 0.001, 98);
        assert!(recent.load(begun).p99_seconds.is_some_and(|p99| p99 < 0.1));
        observe(&metrics, "abandoned", 0.25, 2);
        assert!(recent.load(begun).p99_seconds.is_some_and(|p99| p99 > 0.1));
    }

    #[test]
    fn comparisons_are_counted() {
        let (metrics, begun) = (Metrics::new(), Instant::now());
        let recent = Recent::new(&metrics, "dynamodb", None, begun);
        for (result, times) in [("equal", 5), ("different", 2), ("only_sqlite", 1), ("error", 9)] {
            metrics.shadow_reads.with_label_values(&[result]).inc_by(times);
        }
        let load = recent.load(begun);
        assert_eq!((load.compared, load.differences), (8, 3));
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let within = [(0.1, 50), (0.2, 100), (0.4, 100)];
        assert_eq!(quantile(&within, 100, 0.5), Some(0.1));
        assert!(quantile(&within, 100, 0.99).is_some_and(|p| (0.19..0.2).contains(&p)));
        assert_eq!(quantile(&within, 200, 0.99), Some(0.4), "beyond the greatest bound");
    }
}
