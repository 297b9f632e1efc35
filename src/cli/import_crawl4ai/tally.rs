//! Counts what came of rows, for people and programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use super::pack::Told;
use crate::cli::counted;

/// How many causes are named.
const NAMED_CAUSES: usize = 20;

/// What came of the rows so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    bytes: u64,
    recovered: u64,
    damaged: u64,
    outcomes: BTreeMap<String, u64>,
    /// Why rows were skipped or not stored.
    reasons: BTreeMap<String, u64>,
    /// Which fields were lost, and why.
    losses: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn note(&mut self, row: &Told) {
        self.rows += 1;
        self.bytes += row.bytes as u64;
        *self.outcomes.entry(row.outcome.clone()).or_default() += 1;
        if let Some(reason) = &row.reason {
            *self.reasons.entry(reason.clone()).or_default() += 1;
            return;
        }
        self.recovered += u64::from(row.hops > 1);
        self.damaged += u64::from(!row.losses.is_empty());
        for (field, loss) in &row.losses {
            *self.losses.entry(format!("{field}_{}", loss.as_str())).or_default() += 1;
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn failed(&self) -> u64 {
        self.count("failed")
    }

    fn count(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }

    /// The summary for programs.
    pub(super) fn summary(&self, database: &Path, dry_run: bool, seconds: f64, complete: bool) -> Value {
        json!({
            "database": database,
            "dry_run": dry_run,
            "complete": complete,
            "rows": self.rows,
            "readable": self.count("readable"),
            "created": self.count("created"),
            "replaced": self.count("replaced"),
            "refreshed": self.count("refreshed"),
            "superseded": self.count("superseded"),
            "skipped": self.count("skipped"),
            "failed": self.failed(),
            "recovered": self.recovered,
            "damaged": self.damaged,
            "reasons": self.reasons,
            "lost": self.losses,
            "bytes": self.bytes,
            "seconds": seconds,
        })
    }

    /// The same for people.
    pub(super) fn sentence(&self, summary: &Value) -> String {
        let count = |name: &str| HumanCount(summary[name].as_u64().unwrap_or(0));
        let mut text = format!("read {}, ", counted(self.rows, "row"));
        if summary["dry_run"] == true {
            let _ = write!(text, "{} readable, {} skipped", count("readable"), count("skipped"));
        } else {
            let names = ["created", "replaced", "refreshed", "superseded", "skipped", "failed"];
            let parts = names.map(|name| format!("{} {name}", count(name)));
            text.push_str(&parts.join(", "));
        }
        let _ = write!(text, "; {} in {} s", HumanBytes(self.bytes), summary["seconds"]);
        if self.recovered > 0 {
            let _ = write!(text, "\n  {} recovered from hashes of hashes", counted(self.recovered, "page"));
        }
        let causes = self.reasons.iter().map(|(reason, count)| (reason.clone(), *count));
        let lost = self.losses.iter().map(|(loss, count)| (format!("without {loss}"), *count));
        for (cause, count) in causes.chain(lost).take(NAMED_CAUSES) {
            let _ = write!(text, "\n  {} {cause}", HumanCount(count));
        }
        text
    }
}
