//! What was done, interval by interval, as lines of JSON.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::operation::Operation;

/// Latencies since the last line, by operation.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Operation, Done>>);

#[derive(Default)]
struct Done {
    micros: Vec<u32>,
    /// Answers that there is nothing.
    absent: u32,
}

impl Tally {
    /// Notes an answer.
    pub(crate) fn note(&self, operation: Operation, took: Duration, status: StatusCode) {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = done.entry(operation).or_default();
        done.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        done.absent += u32::from(status == StatusCode::NOT_FOUND);
    }

    /// Prints a line every so many seconds, for ever.
    pub(crate) async fn print_each(&self, begun: Instant, seconds: f64) -> Infallible {
        let period = Duration::from_secs_f64(seconds);
        let mut ticks = tokio::time::interval_at((begun + period).into(), period);
        loop {
            ticks.tick().await;
            self.print(begun);
        }
    }

    /// Prints what was noted since the last line.
    #[expect(clippy::print_stdout, reason = "the report is what it is run for")]
    pub(crate) fn print(&self, begun: Instant) {
        let done = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let operations: Map<String, Value> =
            done.into_iter().map(|(operation, done)| (operation.name().to_owned(), done.report())).collect();
        if !operations.is_empty() {
            println!("{}", json!({ "at": begun.elapsed().as_secs_f64(), "operations": operations }));
        }
    }
}

impl Done {
    fn report(mut self) -> Value {
        self.micros.sort_unstable();
        let last = self.micros.len().saturating_sub(1);
        let percentile = |per_mille: usize| self.micros[(self.micros.len() * per_mille / 1000).min(last)];
        json!({
            "requests": self.micros.len(), "absent": self.absent,
            "p50_us": percentile(500), "p99_us": percentile(990), "p999_us": percentile(999),
        })
    }
}
