//! A circuit breaker: a backend that keeps failing is left alone for a while, so that nobody waits for it.
//!
//! *Closed*, everything passes, and a number of failures in a row opens it. *Open*, everything fails at once until a
//! pause is over. Then one call is let through on *trial*: if it succeeds the circuit closes, otherwise the next pause
//! is twice as long. *Held*, it is open until it is released.
//!
//! A call through one circuit may need another backend on its way, through a circuit of that one: a body in a bucket, for
//! one. What goes wrong there, and the time that is waited for it, says nothing of the first backend and counts against
//! the second alone. Where the first call ends the wait early, the second backend has not failed: it may be well, and slower
//! than the first caller has patience for. Such waits add up until a call succeeds, and as much as the second call's own
//! patience is one failure. So a backend that says nothing is found out after as long a wait as without the first circuit.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};

use super::{Error, Result};
use crate::metrics::Metrics;

/// The first pause of a circuit that has opened.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

tokio::task_local! {
    /// What the innermost call through a circuit is waiting for, where that is another circuit's call.
    static AWAITED: RefCell<Option<Awaited>>;
}

/// A call through a circuit, from within a call through another.
struct Awaited {
    circuit: Circuit,
    /// How long it may take by itself.
    patience: Duration,
    since: Instant,
    on_trial: bool,
}

/// Marks a call as awaited, until it is dropped.
struct Marked(bool);

impl Marked {
    fn new(circuit: &Circuit, patience: Duration, on_trial: bool) -> Self {
        let since = (circuit.0.now)();
        let awaited = || Awaited { circuit: circuit.clone(), patience, since, on_trial };
        Self(AWAITED.try_with(|slot| *slot.borrow_mut() = Some(awaited())).is_ok())
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        if self.0 {
            // Where the outer call has run out of patience it has taken the slot already.
            let _ = AWAITED.try_with(|slot| slot.borrow_mut().take());
        }
    }
}

/// What a circuit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Everything passes.
    Closed,
    /// One call is under way that will tell.
    Trial,
    /// Nothing passes.
    Open,
}

impl CircuitState {
    /// The word that answers use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Trial => "trial",
            Self::Open => "open",
        }
    }
}

/// What to tell of a circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitStatus {
    /// What it is.
    pub state: CircuitState,
    /// Failures in a row.
    pub failures: u32,
    /// What the last failure said; empty when there was none since the last success.
    pub error: String,
}

/// A circuit breaker. Clones share it.
#[derive(Clone)]
pub struct Circuit(Arc<Inner>);

struct Inner {
    backend: &'static str,
    /// So many failures in a row open it.
    failures: u32,
    longest_pause: Duration,
    state: Mutex<State>,
    /// The time, which tests set by hand.
    now: fn() -> Instant,
    gauge: IntGauge,
    opened: IntCounter,
    timed_out: IntCounter,
}

#[derive(Debug)]
struct State {
    failures: u32,
    error: String,
    phase: Phase,
    /// How long calls were waited for that others have ended early, since the last success or failure that came of it.
    waited: Duration,
}

impl State {
    fn closed() -> Self {
        Self { failures: 0, error: String::new(), phase: Phase::Closed, waited: Duration::ZERO }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    /// Since when: a trial that nobody ends is as good as over after the pause.
    Trial {
        since: Instant,
        pause: Duration,
    },
    /// Open, whatever calls come to.
    Held,
}

impl Circuit {
    /// A closed one for `backend`, which `failures` in a row open, with pauses up to `longest_pause`.
    pub fn new(backend: &'static str, failures: u32, longest_pause: Duration, metrics: &Metrics) -> Self {
        Self::at(Instant::now, backend, failures, longest_pause, metrics)
    }

    fn at(
        now: fn() -> Instant,
        backend: &'static str,
        failures: u32,
        longest_pause: Duration,
        metrics: &Metrics,
    ) -> Self {
        let state = State::closed();
        Self(Arc::new(Inner {
            backend,
            failures: failures.max(1),
            longest_pause,
            state: Mutex::new(state),
            now,
            gauge: metrics.circuit_state.with_label_values(&[backend]),
            opened: metrics.circuit_opened.with_label_values(&[backend]),
            timed_out: metrics.backend_errors.with_label_values(&[backend, "timeout"]),
        }))
    }

    /// Runs a call unless the circuit is open, for no longer than `patience`, and learns from what comes of it.
    ///
    /// # Errors
    /// Those of the call; [`Error::Timeout`] when it takes too long; [`Error::Unavailable`] at once when the circuit is
    /// open.
    pub async fn run<T>(&self, patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
        let mut ticket = self.enter()?;
        let _marked = Marked::new(self, patience, ticket.on_trial);
        let mut call = std::pin::pin!(AWAITED.scope(RefCell::new(None), call));
        let result = match tokio::time::timeout(patience, call.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                let awaited = call.as_mut().take_value().and_then(RefCell::into_inner);
                Err(self.out_of_patience(patience, awaited.as_ref()))
            }
        };
        ticket.told = true;
        match &result {
            Err(error) if error.is_outage() && self.is_about(error) => {
                self.failed(&error.to_string(), ticket.on_trial);
            }
            _ => self.succeeded(ticket.on_trial),
        }
        result
    }

    /// Whether an error is of this circuit's backend, and not of one that was needed on the way.
    fn is_about(&self, error: &Error) -> bool {
        error.backend().is_none_or(|backend| backend == self.0.backend)
    }

    /// The error of a call that took too long: of the backend that was waited for.
    fn out_of_patience(&self, patience: Duration, awaited: Option<&Awaited>) -> Error {
        let slow = awaited.map_or(self, |awaited| &awaited.circuit);
        // Whoever counts the errors of the call itself has not seen its end.
        slow.0.timed_out.inc();
        let detail = format!("nothing within {} ms", patience.as_millis());
        let error = Error::Timeout { backend: slow.0.backend, detail };
        if let Some(awaited) = awaited {
            awaited.circuit.ended_early(awaited, &error);
        }
        error
    }

    /// Another call has ended the wait for one of this circuit.
    fn ended_early(&self, call: &Awaited, error: &Error) {
        let mut state = self.lock();
        state.waited += (self.0.now)().duration_since(call.since);
        if state.waited >= call.patience {
            state.waited = Duration::ZERO;
            drop(state);
            self.failed(&error.to_string(), call.on_trial);
        }
    }

    /// What it is now.
    pub fn status(&self) -> CircuitStatus {
        let state = self.lock();
        let phase = match state.phase {
            Phase::Closed => CircuitState::Closed,
            Phase::Open { .. } | Phase::Held => CircuitState::Open,
            Phase::Trial { .. } => CircuitState::Trial,
        };
        CircuitStatus { state: phase, failures: state.failures, error: state.error.clone() }
    }

    /// Opens it for this reason until it is released: nothing may pass before something else is put right.
    pub fn hold(&self, error: &Error) {
        let mut state = self.lock();
        state.error = error.to_string();
        state.phase = Phase::Held;
        self.show(&state);
    }

    /// Closes it again if it is held.
    pub fn release(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Held) {
            *state = State::closed();
            self.show(&state);
        }
    }

    /// Whether a call would fail at once.
    pub fn is_open(&self) -> bool {
        match self.lock().phase {
            Phase::Closed => false,
            Phase::Held => true,
            Phase::Open { until, .. } => (self.0.now)() < until,
            Phase::Trial { since, pause } => (self.0.now)().duration_since(since) < pause,
        }
    }

    fn enter(&self) -> Result<Ticket<'_>> {
        let mut state = self.lock();
        let now = (self.0.now)();
        let on_trial = match state.phase {
            Phase::Closed => false,
            Phase::Open { until, pause } if now >= until => {
                state.phase = Phase::Trial { since: now, pause };
                true
            }
            Phase::Trial { since, pause } if now.duration_since(since) >= pause => {
                state.phase = Phase::Trial { since: now, pause };
                true
            }
            Phase::Held => {
                return Err(Error::Unavailable { backend: self.0.backend, detail: state.error.clone() });
            }
            Phase::Open { .. } | Phase::Trial { .. } => {
                let detail =
                    format!("left alone for a moment after {} failures: {}", state.failures, state.error);
                return Err(Error::Unavailable { backend: self.0.backend, detail });
            }
        };
        self.show(&state);
        Ok(Ticket { circuit: self, on_trial, told: false })
    }

    fn succeeded(&self, on_trial: bool) {
        let mut state = self.lock();
        // A call from before it opened says nothing of how it is now.
        if matches!(state.phase, Phase::Held) || (!on_trial && !matches!(state.phase, Phase::Closed)) {
            return;
        }
        if !matches!(state.phase, Phase::Closed) {
            tracing::info!(backend = self.0.backend, "answers again");
        }
        *state = State::closed();
        self.show(&state);
    }

    fn failed(&self, error: &str, on_trial: bool) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Held) || (!on_trial && matches!(state.phase, Phase::Trial { .. })) {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        error.clone_into(&mut state.error);
        let next = match state.phase {
            Phase::Closed if state.failures >= self.0.failures => Some(FIRST_PAUSE),
            Phase::Trial { pause, .. } => Some(pause * 2),
            // Calls that were under way when it opened say nothing new.
            Phase::Closed | Phase::Open { .. } | Phase::Held => None,
        };
        if let Some(pause) = next.map(|pause| pause.min(self.0.longest_pause)) {
            if matches!(state.phase, Phase::Closed) {
                self.0.opened.inc();
                tracing::warn!(backend = self.0.backend, error, "does not answer: left alone for a while");
            }
            state.phase = Phase::Open { until: (self.0.now)() + pause, pause };
        }
        self.show(&state);
    }

    /// A trial whose caller has gone tells nothing: the next call is one.
    fn abandoned(&self) {
        let mut state = self.lock();
        if let Phase::Trial { pause, .. } = state.phase {
            state.phase = Phase::Open { until: (self.0.now)(), pause };
        }
        self.show(&state);
    }

    fn show(&self, state: &State) {
        self.0.gauge.set(match state.phase {
            Phase::Closed => 0,
            Phase::Trial { .. } => 1,
            Phase::Open { .. } | Phase::Held => 2,
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit").field("backend", &self.0.backend).field("status", &self.status()).finish()
    }
}

/// A call that was let through.
struct Ticket<'c> {
    circuit: &'c Circuit,
    on_trial: bool,
    told: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.on_trial && !self.told {
            self.circuit.abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW: Cell<Instant> = Cell::new(Instant::now());
    }

    fn advance(by: Duration) {
        NOW.set(NOW.get() + by);
    }

    const LONG: Duration = Duration::from_secs(5);

    fn circuit() -> Circuit {
        Circuit::at(|| NOW.get(), "dynamodb", 3, Duration::from_secs(1), &Metrics::new())
    }

    fn outage() -> Error {
        Error::Unavailable { backend: "dynamodb", detail: "gone".to_owned() }
    }

    async fn fail(circuit: &Circuit) -> Error {
        circuit.run(LONG, async { Err::<(), _>(outage()) }).await.expect_err("fails")
    }

    #[tokio::test]
    async fn failures_in_a_row_open_it_and_a_success_closes_it() {
        let circuit = circuit();
        fail(&circuit).await;
        fail(&circuit).await;
        circuit.run(LONG, async { Ok(()) }).await.expect("passes");
        for _ in 0..2 {
            fail(&circuit).await;
        }
        assert_eq!(circuit.status().state, CircuitState::Closed, "two after a success are not three");
        fail(&circuit).await;
        assert_eq!(circuit.status().state, CircuitState::Open);
        let refused = circuit.run(LONG, async { Ok(()) }).await.expect_err("left alone");
        assert!(refused.to_string().contains("left alone"), "{refused}");
        advance(FIRST_PAUSE);
        circuit.run(LONG, async { Ok(()) }).await.expect("the trial");
        assert_eq!(circuit.status().state, CircuitState::Closed);
    }

    #[tokio::test]
    async fn pauses_double_up_to_the_longest() {
        let circuit = circuit();
        for _ in 0..3 {
            fail(&circuit).await;
        }
        let mut pause = FIRST_PAUSE;
        for _ in 0..6 {
            advance(pause.saturating_sub(Duration::from_millis(1)));
            assert!(circuit.is_open(), "still within {pause:?}");
            advance(Duration::from_millis(1));
            assert!(!circuit.is_open());
            assert_eq!(fail(&circuit).await, outage(), "the trial is a real call");
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    #[tokio::test]
    async fn what_is_held_stays_open_until_it_is_released() {
        let circuit = circuit();
        circuit.hold(&outage());
        for _ in 0..3 {
            advance(LONG);
            assert!(circuit.is_open());
            let refused = circuit.run(LONG, async { Ok(()) }).await.expect_err("held");
            assert!(refused.to_string().contains("gone"), "it says why: {refused}");
        }
        assert_eq!(circuit.status().state, CircuitState::Open);
        circuit.release();
        circuit.run(LONG, async { Ok(()) }).await.expect("passes");
        for _ in 0..3 {
            fail(&circuit).await;
        }
        circuit.release();
        assert!(circuit.is_open(), "what failures have opened is not released");
    }

    #[tokio::test]
    async fn one_call_is_on_trial_and_one_that_is_abandoned_makes_room() {
        let circuit = circuit();
        for _ in 0..3 {
            fail(&circuit).await;
        }
        advance(FIRST_PAUSE);
        let trial = circuit.run(LONG, std::future::pending::<Result<()>>());
        let mut trial = Box::pin(trial);
        assert!(futures_util::poll!(trial.as_mut()).is_pending());
        assert_eq!(circuit.status().state, CircuitState::Trial);
        circuit.run(LONG, async { Ok(()) }).await.expect_err("one at a time");
        drop(trial);
        circuit.run(LONG, async { Ok(()) }).await.expect("the next one");
    }

    #[tokio::test]
    async fn what_goes_wrong_on_the_way_counts_against_the_backend_that_it_went_wrong_at() {
        let metrics = Metrics::new();
        let new = |backend| Circuit::at(|| NOW.get(), backend, 3, Duration::from_secs(1), &metrics);
        let (outer, inner) = (new("dynamodb"), new("s3"));
        let denied = || Error::AccessDenied { backend: "s3", detail: "no".to_owned() };
        for _ in 0..3 {
            let call = inner.run(LONG, async { Err::<(), _>(denied()) });
            assert_eq!(outer.run(LONG, call).await, Err(denied()));
        }
        assert_eq!((outer.status().failures, inner.status().state), (0, CircuitState::Open));
        let refused = outer.run(LONG, inner.run(LONG, async { Ok(()) })).await.expect_err("left alone");
        assert_eq!((refused.backend(), outer.status().failures), (Some("s3"), 0), "{refused}");

        // On trial, and slower than the caller of the outer call has patience for.
        advance(FIRST_PAUSE);
        let short = Duration::from_millis(10);
        let slow = outer.run(short, inner.run(LONG, std::future::pending::<Result<()>>())).await;
        assert!(matches!(slow, Err(Error::Timeout { backend: "s3", .. })), "{slow:?}");
        assert_eq!((outer.status().failures, inner.status().failures), (0, 3), "it may be well");
        outer.run(LONG, inner.run(LONG, async { Ok(()) })).await.expect("the next trial");
        assert_eq!(inner.status().state, CircuitState::Closed);

        // What follows the call on the way is the outer one's again.
        let call = async {
            inner.run(LONG, async { Ok(()) }).await?;
            std::future::pending::<Result<()>>().await
        };
        let slow = outer.run(short, call).await;
        assert!(matches!(slow, Err(Error::Timeout { backend: "dynamodb", .. })), "{slow:?}");
        assert_eq!((outer.status().failures, inner.status().failures), (1, 0));
    }

    #[tokio::test]
    async fn a_wait_that_another_ends_early_counts_for_what_it_is() {
        let metrics = Metrics::new();
        let new = |backend| Circuit::at(|| NOW.get(), backend, 2, Duration::from_secs(1), &metrics);
        let (outer, inner) = (new("dynamodb"), new("s3"));
        // Half as long as the inner call may take.
        let silence = || {
            inner.run(LONG, async {
                advance(LONG / 2);
                std::future::pending::<Result<()>>().await
            })
        };
        let cut_short = async || {
            let slow = outer.run(Duration::from_millis(10), silence()).await;
            assert!(matches!(slow, Err(Error::Timeout { backend: "s3", .. })), "{slow:?}");
            assert_eq!(outer.status().failures, 0, "never the outer one's");
        };
        for _ in 0..9 {
            cut_short().await;
            assert_eq!(inner.status().failures, 0, "slower than the outer caller likes is no failure");
            inner.run(LONG, async { Ok(()) }).await.expect("it is well");
        }
        for failures in [0, 1, 1, 2] {
            cut_short().await;
            assert_eq!(inner.status().failures, failures);
        }
        assert!(inner.is_open(), "silent for as long as two calls of its own may take");
        // So is a trial: until it has taken that long the next call is one.
        advance(FIRST_PAUSE);
        cut_short().await;
        assert_eq!((inner.status().failures, inner.is_open()), (2, false));
        cut_short().await;
        assert_eq!((inner.status().failures, inner.is_open()), (3, true));
    }

    #[tokio::test]
    async fn too_slow_is_a_failure_and_a_refusal_is_none() {
        let circuit = circuit();
        for _ in 0..3 {
            let slow = circuit.run(Duration::from_millis(10), std::future::pending::<Result<()>>()).await;
            assert!(matches!(slow, Err(Error::Timeout { .. })), "{slow:?}");
        }
        assert_eq!(circuit.status().state, CircuitState::Open);
        let circuit = self::circuit();
        for _ in 0..9 {
            let refused = Error::TooLarge { backend: "dynamodb", detail: "a document".to_owned() };
            circuit.run(LONG, async { Err::<(), _>(refused) }).await.expect_err("refused");
        }
        assert_eq!(circuit.status().state, CircuitState::Closed);
    }
}
