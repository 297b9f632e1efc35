//! A piece of long work as others see it: how far it is, and what is written down so that it can go on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::purse::Purse;
use crate::clock::Clock;
use crate::domain::session::SessionId;
use crate::domain::work::{Finding, Work, WorkState, WorkStatus};
use crate::domain::{Key, Namespace};
use crate::metrics::Metrics;
use crate::store::Result;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::ledger::jobs::Job;

/// How many findings are kept.
const FINDINGS: usize = 100;

/// The rate is that of this time.
const LATELY: Duration = Duration::from_secs(10);

/// Between two times that it is written down.
const SAVE_EVERY: Duration = Duration::from_millis(250);

/// The kind of thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Result,
    Session,
    Tombstone,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Session => "session",
            Self::Tombstone => "tombstone",
        }
    }
}

/// What became of some of the things that it goes through.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// How many it has been through.
    pub(super) done: u64,
    /// What became of them.
    pub(super) outcomes: Vec<(Kind, &'static str)>,
    /// Bytes that were copied.
    pub(super) bytes: u64,
    /// What a dry run would have taken.
    pub(super) write_units: f64,
    pub(super) findings: Vec<Finding>,
}

impl Tally {
    /// Counts one thing that is done with.
    pub(super) fn count(&mut self, kind: Kind, outcome: &'static str) {
        self.done += 1;
        self.outcomes.push((kind, outcome));
    }

    /// Counts something that there is more to say about.
    pub(super) fn find(&mut self, what: What<'_>, outcome: &'static str, detail: impl Into<String>) {
        self.count(what.kind(), outcome);
        self.note(what, outcome, detail);
    }

    /// Says more about something without counting it.
    pub(super) fn note(&mut self, what: What<'_>, outcome: &'static str, detail: impl Into<String>) {
        if self.findings.len() < FINDINGS {
            self.findings.push(what.finding(outcome, detail.into()));
        }
    }

    /// Adds what another one has counted.
    pub(super) fn absorb(&mut self, other: Self) {
        self.done += other.done;
        self.outcomes.extend(other.outcomes);
        self.bytes += other.bytes;
        self.write_units += other.write_units;
        let room = FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'w> {
    Result(&'w Key),
    Session(&'w Namespace, &'w SessionId),
    /// Something that nobody can read: the kind, and its place.
    Unknown(Kind, i64),
}

impl What<'_> {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Result(_) => Kind::Result,
            Self::Session(..) => Kind::Session,
            Self::Unknown(kind, _) => kind,
        }
    }

    fn finding(self, outcome: &str, detail: String) -> Finding {
        let (namespace, name, variant) = match self {
            Self::Result(key) => {
                (key.namespace().to_string(), key.url().to_owned(), key.caller_variant().to_owned())
            }
            Self::Session(namespace, id) => (namespace.to_string(), id.to_string(), String::new()),
            Self::Unknown(_, row) => (String::new(), format!("row {row}"), String::new()),
        };
        let of_failed = matches!(self, Self::Result(key) if key.is_failed());
        let detail = if of_failed { format!("the failed result: {detail}") } else { detail };
        let (kind, outcome) = (self.kind().as_str().to_owned(), outcome.to_owned());
        Finding { kind, namespace, name, variant, outcome, detail }
    }
}

/// What is written down of a piece of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) status: WorkStatus,
    /// Where it is, in its own terms.
    #[serde(default)]
    pub(super) place: serde_json::Value,
}

impl Kept {
    /// As the database takes it.
    pub(super) fn job(&self) -> Job {
        let text = serde_json::to_string(self).expect("it has text keys");
        Job { name: self.status.id.clone(), state: text, updated_at: self.status.updated_at }
    }

    fn end(&mut self, state: WorkState, error: Option<String>) {
        let status = &mut self.status;
        status.state = state;
        status.error = error;
        status.rate = 0.0;
        status.eta_seconds = None;
        if state == WorkState::Done {
            status.total = status.done;
        }
    }
}

/// A piece of work. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Track(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kept: Kept,
    /// What had been done at some instants, lately.
    lately: VecDeque<(Instant, u64)>,
    saved: Option<Instant>,
    /// The units of processes before this one.
    units_before: (f64, f64),
    purse: Option<Purse>,
}

impl Track {
    /// One that begins, or goes on where it was left.
    pub(super) fn new(kept: Kept, clock: &Clock, metrics: &Metrics) -> Self {
        let units_before = (kept.status.read_units, kept.status.write_units);
        let state = State { kept, lately: VecDeque::new(), saved: None, units_before, purse: None };
        Self(Arc::new(Inner { clock: clock.clone(), metrics: metrics.clone(), state: Mutex::new(state) }))
    }

    /// One that is about to begin.
    pub(super) fn started(mut kept: Kept, clock: &Clock, metrics: &Metrics) -> Self {
        kept.status.state = WorkState::Running;
        kept.status.error = None;
        metrics.job_running.with_label_values(&[kept.status.work.kind()]).set(1);
        Self::new(kept, clock, metrics)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is.
    pub(super) fn status(&self) -> WorkStatus {
        self.lock().kept.status.clone()
    }

    /// What is written down of it.
    pub(super) fn kept(&self) -> Kept {
        self.lock().kept.clone()
    }

    /// What to do.
    pub(super) fn work(&self) -> Work {
        self.lock().kept.status.work.clone()
    }

    /// Where it was left; the beginning if that was nowhere.
    pub(super) fn place<P: for<'de> Deserialize<'de> + Default>(&self) -> P {
        serde_json::from_value(self.lock().kept.place.clone()).unwrap_or_default()
    }

    /// It spends from this purse.
    pub(super) fn begin(&self, purse: &Purse) {
        let mut state = self.lock();
        state.purse = Some(purse.clone());
    }

    /// About how many things there are.
    pub(super) fn expect(&self, total: u64) {
        let mut state = self.lock();
        state.kept.status.total = total.max(state.kept.status.done);
    }

    /// Enters what became of some things.
    pub(super) fn enter(&self, tally: Tally) {
        self.enter_at(tally, serde_json::Value::Null);
    }

    /// Enters what became of some things, together with the place behind them.
    pub(super) fn enter_at(&self, tally: Tally, place: serde_json::Value) {
        let mut state = self.lock();
        let status = &mut state.kept.status;
        status.done += tally.done;
        status.total = status.total.max(status.done);
        status.bytes += tally.bytes;
        for (kind, outcome) in &tally.outcomes {
            *status.counts.entry((*outcome).to_owned()).or_default() += 1;
            self.measure(&status.work, *kind, outcome);
        }
        let room = FINDINGS.saturating_sub(status.findings.len());
        status.findings.extend(tally.findings.into_iter().take(room));
        state.units_before.1 += tally.write_units;
        if !place.is_null() {
            state.kept.place = place;
        }
        state.refresh(self.0.clock.now());
        let status = &state.kept.status;
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = if status.total == 0 { 1.0 } else { status.done as f64 / status.total as f64 };
        self.0.metrics.job_progress.with_label_values(&[status.work.kind()]).set(share);
    }

    fn measure(&self, work: &Work, kind: Kind, outcome: &str) {
        let metrics = &self.0.metrics;
        match work {
            Work::Migrate(options) if !options.dry_run => {
                metrics.migrated.with_label_values(&[options.to.as_str(), kind.as_str(), outcome]).inc();
            }
            Work::Migrate(_) => {}
            Work::Verify(_) => metrics.verified.with_label_values(&[outcome]).inc(),
        }
    }

    /// Counts an outcome beside those of things.
    pub(super) fn count(&self, outcome: &str, by: u64) {
        *self.lock().kept.status.counts.entry(outcome.to_owned()).or_default() += by;
    }

    /// What will be written down when it has ended.
    pub(super) fn ending(&self, state: WorkState, error: Option<String>) -> Kept {
        let mut held = self.lock();
        held.refresh(self.0.clock.now());
        let mut kept = held.kept.clone();
        kept.end(state, error);
        kept
    }

    /// It has ended, or was ended.
    pub(super) fn end(&self, state: WorkState, error: Option<String>) {
        let mut held = self.lock();
        held.refresh(self.0.clock.now());
        held.kept.end(state, error);
        self.0.metrics.job_running.with_label_values(&[held.kept.status.work.kind()]).set(0);
    }

    /// Writes it down if it was not for a while.
    pub(super) async fn save_in_time(&self, database: &SqliteStore) -> Result<()> {
        let is_due = self.lock().saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY);
        if is_due { self.save(database).await } else { Ok(()) }
    }

    /// Writes it down.
    pub(super) async fn save(&self, database: &SqliteStore) -> Result<()> {
        let job = {
            let mut state = self.lock();
            state.saved = Some(Instant::now());
            state.kept.job()
        };
        database.save_job(job).await
    }
}

impl State {
    fn refresh(&mut self, now: crate::domain::Timestamp) {
        let at = Instant::now();
        let status = &mut self.kept.status;
        status.updated_at = now;
        if let Some(purse) = &self.purse {
            status.read_units = self.units_before.0 + purse.bill().read_units();
            status.write_units = self.units_before.1 + purse.bill().write_units();
        }
        self.lately.push_back((at, status.done));
        while self.lately.len() > 2 && self.lately[0].0 + LATELY < at {
            self.lately.pop_front();
        }
        let (since, before) = self.lately[0];
        let seconds = (at - since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let rate = if seconds < 0.05 { 0.0 } else { (status.done - before) as f64 / seconds };
        status.rate = (rate * 10.0).round() / 10.0;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds, not negative"
        )]
        let eta = (rate > 0.0).then(|| ((status.total - status.done) as f64 / rate).ceil() as u64);
        status.eta_seconds = eta;
    }
}

/// A new piece of work that has not begun.
pub(super) fn fresh(id: String, work: Work, clock: &Clock) -> Kept {
    let now = clock.now();
    let status = WorkStatus {
        id,
        work,
        state: WorkState::Running,
        started_at: now,
        updated_at: now,
        done: 0,
        total: 0,
        rate: 0.0,
        eta_seconds: None,
        counts: BTreeMap::new(),
        bytes: 0,
        read_units: 0.0,
        write_units: 0.0,
        findings: Vec::new(),
        error: None,
    };
    Kept { status, place: serde_json::Value::Null }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::work::MigrateOptions;

    fn track() -> Track {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        let kept = fresh("migrate-1".to_owned(), Work::Migrate(MigrateOptions::default()), &clock);
        Track::new(kept, &clock, &Metrics::new())
    }

    #[test]
    fn what_is_entered_adds_up() {
        let track = track();
        track.begin(&Purse::new(None));
        track.expect(3);
        let key = Key::new(&Namespace::default(), "https://a/", "").expect("a key");
        for _ in 0..2 {
            let mut tally = Tally { bytes: 10, ..Tally::default() };
            tally.count(Kind::Result, "copied");
            tally.find(What::Result(&key), "failed", "too large");
            track.enter_at(tally, serde_json::json!({"results": 7}));
        }
        let status = track.status();
        assert_eq!((status.done, status.total, status.bytes), (4, 4, 20), "more came than was expected");
        assert_eq!((status.count("copied"), status.count("failed"), status.findings.len()), (2, 2, 2));
        assert_eq!(track.place::<BTreeMap<String, i64>>(), BTreeMap::from([("results".to_owned(), 7)]));
        track.end(WorkState::Done, None);
        assert!(
            track
                .0
                .metrics
                .render()
                .expect("text")
                .contains(r#"crawlcache_migrated_total{kind="result",outcome="failed",to="dynamodb"} 2"#)
        );
    }

    #[test]
    fn findings_are_bounded() {
        let track = track();
        for row in 0..300 {
            let mut tally = Tally::default();
            tally.find(What::Unknown(Kind::Session, row), "failed", "no");
            track.enter(tally);
        }
        let status = track.status();
        assert_eq!((status.findings.len(), status.count("failed")), (FINDINGS, 300));
        assert_eq!(status.findings[0].name, "row 0");
    }
}
