//! Learned freshness: how often the pages of a host change, and so how long one of them stays fresh.
//!
//! Whoever fetches a page again learns whether it has changed, but not how often, and comes at no fixed times. For that,
//! Cho and Garcia-Molina, "Estimating frequency of change" (ACM Transactions on Internet Technology 3(3), 2003), section
//! 4.2, estimate the rate of a Poisson process from `n` visits of which `X` found a change: `-ln((n - X + 0.5) / (n + 0.5))`
//! changes per mean interval between two visits. Counting changes alone would miss those that came between two visits.

use serde::Serialize;
use serde_json::Value;

use super::document::Document;

/// Visits of a host below which nothing is said about it.
pub const ENOUGH: u64 = 5;

/// Visits at which the counters of a host are halved, so that they follow what has become of it.
pub const MANY: u64 = 1000;

/// How long a host is remembered of which no page is fetched again, in seconds: half a year.
pub const KEEP_SECONDS: u64 = 180 * 86_400;

/// The bounds of what is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// The shortest time to live in seconds.
    pub min_seconds: u64,
    /// The longest time to live in seconds.
    pub max_seconds: u64,
    /// The probability that a page is unchanged when its time to live ends; between 0 and 1.
    pub confidence: f64,
}

/// A page was fetched that was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Whether its content was another.
    pub changed: bool,
    /// Since the fetch before, in seconds.
    pub seconds: u64,
}

impl Visit {
    /// A visit after so many seconds. More than a century counts as one: sums of them have to fit everywhere.
    pub fn after(seconds: u64, changed: bool) -> Self {
        Self { changed, seconds: seconds.min(u64::from(u32::MAX)) }
    }
}

/// What is known of the pages of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Fetches of pages that were there already.
    pub visits: u64,
    /// Those that found another content.
    pub changes: u64,
    /// The time between them and the fetches before them, in seconds, in all.
    pub seconds: u64,
}

impl Counters {
    /// With one more visit.
    #[must_use]
    pub fn and(self, visit: Visit) -> Self {
        let before = self.faded();
        Self {
            visits: before.visits + 1,
            changes: before.changes + u64::from(visit.changed),
            seconds: before.seconds.saturating_add(visit.seconds),
        }
    }

    /// Half of them, if they are [`MANY`]: what was long ago counts less.
    #[must_use]
    pub fn faded(self) -> Self {
        if self.visits < MANY {
            return self;
        }
        Self { visits: self.visits / 2, changes: self.changes / 2, seconds: self.seconds / 2 }
    }

    /// The mean time between two visits of a page, in seconds.
    pub fn mean_interval(self) -> Option<f64> {
        (self.visits > 0).then(|| real(self.seconds) / real(self.visits))
    }

    /// Changes a second, estimated; nothing before there are [`ENOUGH`] visits.
    pub fn change_rate(self) -> Option<f64> {
        let interval = self.mean_interval().filter(|interval| *interval > 0.0)?;
        if self.visits < ENOUGH {
            return None;
        }
        let unchanged = real(self.visits.saturating_sub(self.changes));
        Some(-((unchanged + 0.5) / (real(self.visits) + 0.5)).ln() / interval)
    }
}

impl Learning {
    /// The time to live of a page of that host in seconds: so long it is unchanged with the configured probability. Never
    /// longer than the host was watched in all: that nothing changed in a minute says nothing of a month.
    pub fn ttl(&self, counters: Counters) -> Option<u64> {
        let rate = counters.change_rate()?;
        let ttl = if rate > 0.0 { -self.confidence.ln() / rate } else { f64::INFINITY };
        let ttl = ttl.min(real(counters.seconds)).clamp(real(self.min_seconds), real(self.max_seconds));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between two whole numbers that are not negative"
        )]
        let ttl = ttl as u64;
        Some(ttl.clamp(self.min_seconds, self.max_seconds))
    }
}

/// The fields that are what a page says, the best first. Whole documents differ at each fetch: dates, timings.
const CONTENT: [&str; 3] = ["markdown", "cleaned_html", "html"];

/// Whether a page says something else now; nothing where the documents have no such field in common.
pub fn has_changed(old: &Document<'_>, new: &Document<'_>) -> Option<bool> {
    let name = CONTENT.iter().find(|name| old.layout().has(name) && new.layout().has(name))?;
    let (old, new) = (old.value(name).ok()??, new.value(name).ok()??);
    if old == new {
        return Some(false);
    }
    // The same value may be written in two ways: other escapes, other white space.
    let read = |raw: &[u8]| serde_json::from_slice::<Value>(raw).ok();
    Some(read(&old)? != read(&new)?)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more precision")]
fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEARNING: Learning = Learning { min_seconds: 300, max_seconds: 2_592_000, confidence: 0.8 };

    fn counters(visits: u64, changes: u64, seconds: u64) -> Counters {
        Counters { visits, changes, seconds }
    }

    #[test]
    fn a_handful_of_visits_says_something_and_less_says_nothing() {
        assert_eq!(LEARNING.ttl(counters(4, 2, 40_000)), None);
        // Ten visits, a day apart, five of which found a change: r = -ln(5.5 / 10.5) = 0.6466 changes a day.
        let ttl = LEARNING.ttl(counters(10, 5, 864_000)).expect("enough");
        assert!((29_800..29_830).contains(&ttl), "0.22314 / 0.64663 of a day, not {ttl}");
        // Every visit found a change: it may change much oftener than it is visited.
        assert!(LEARNING.ttl(counters(10, 10, 864_000)).expect("enough") < 7000);
        assert_eq!(LEARNING.ttl(counters(5, 0, 0)), None, "no time has passed");
        assert_eq!(LEARNING.ttl(counters(100, 100, 100)), Some(300), "the lower bound");
    }

    #[test]
    fn nothing_is_said_of_longer_than_was_watched() {
        assert_eq!(LEARNING.ttl(counters(5, 0, 6000)), Some(6000));
        assert_eq!(LEARNING.ttl(counters(100, 0, 86_400_000)), Some(2_592_000), "the upper bound");
    }

    #[test]
    fn old_visits_fade() {
        let mut host = counters(MANY - 1, 0, 86_400 * (MANY - 1));
        let before = LEARNING.ttl(host).expect("enough");
        for _ in 0..2 {
            host = host.and(Visit { changed: true, seconds: 86_400 });
        }
        assert_eq!((host.visits, host.changes), (MANY / 2 + 1, 1));
        for _ in 0..MANY {
            host = host.and(Visit { changed: true, seconds: 86_400 });
        }
        assert!(
            LEARNING.ttl(host).expect("enough") < before / 20,
            "a host that changes now, whatever it did"
        );
    }

    #[test]
    fn a_page_has_changed_when_it_says_something_else() {
        use crate::domain::document::encode;
        let changed = |old: &str, new: &str| {
            let [old, new] = [old, new].map(|raw| encode(raw.as_bytes(), 1).expect("a document"));
            has_changed(&Document::new(&old.layout, &old.frame), &Document::new(&new.layout, &new.frame))
        };
        for (old, new, verdict) in [
            (r#"{"markdown":"a","at":1}"#, r#"{"markdown":"a","at":2}"#, Some(false)),
            (r#"{"markdown":"a"}"#, r#"{"markdown":"b"}"#, Some(true)),
            (r#"{"markdown":"é"}"#, r#"{"markdown":"\u00e9"}"#, Some(false)),
            (r#"{"markdown":{"raw":"a","fit":1}}"#, r#"{"markdown":{"fit": 1, "raw":"a"}}"#, Some(false)),
            // The best field that both have.
            (r#"{"markdown":"","html":"a"}"#, r#"{"markdown":"x","html":"a"}"#, Some(false)),
            (r#"{"cleaned_html":"a","html":"1"}"#, r#"{"cleaned_html":"a","html":"2"}"#, Some(false)),
            (r#"{"markdown":"a"}"#, r#"{"html":"a"}"#, None),
            ("{}", "{}", None),
        ] {
            assert_eq!(changed(old, new), verdict, "{old} {new}");
        }
    }

    proptest! {
        #[test]
        fn a_time_to_live_is_within_its_bounds(
            visits in 0..2000_u64,
            share in 0.0..=1.0_f64,
            seconds in 0..10_000_000_000_u64,
            min in 1..100_000_u64,
            more in 0..10_000_000_u64,
            confidence in 0.01..0.999_f64,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number")]
            let changes = (real(visits) * share) as u64;
            let learning = Learning { min_seconds: min, max_seconds: min + more, confidence };
            match learning.ttl(counters(visits, changes, seconds)) {
                Some(ttl) => prop_assert!((min..=min + more).contains(&ttl)),
                None => prop_assert!(visits < ENOUGH || seconds == 0),
            }
        }

        #[test]
        fn more_changes_never_make_it_longer(visits in ENOUGH..1000_u64, seconds in 1..10_000_000_000_u64) {
            let mut longest = u64::MAX;
            for changes in 0..=visits {
                let ttl = LEARNING.ttl(counters(visits, changes, seconds)).expect("enough");
                prop_assert!(ttl <= longest, "{changes}");
                longest = ttl;
            }
        }

        #[test]
        fn more_confidence_never_makes_it_longer(changes in 0..50_u64, seconds in 1..10_000_000_000_u64) {
            let of = |confidence| Learning { confidence, ..LEARNING }.ttl(counters(50, changes, seconds));
            prop_assert!(of(0.9) <= of(0.8) && of(0.8) <= of(0.5));
        }
    }
}
