//! How far long work is, and what came of it, in words.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, HumanDuration};

use crate::domain::work::{Finding, Work, WorkState, WorkStatus};

/// Findings that are printed; the rest is in the JSON form.
const FINDINGS: usize = 10;

/// What stands behind the bar.
pub(super) fn line(status: &WorkStatus) -> String {
    let left = status.eta_seconds.map_or_else(String::new, |seconds| {
        format!(", {} left", HumanDuration(Duration::from_secs(seconds)))
    });
    let state = if status.state == WorkState::Running { "" } else { " (not under way)" };
    format!("{} a second{left}{state}; {}", HumanCount(whole(status.rate)), counts(status))
}

fn counts(status: &WorkStatus) -> String {
    let counts = status.counts.iter().map(|(outcome, count)| format!("{outcome} {}", HumanCount(*count)));
    counts.collect::<Vec<_>>().join(", ")
}

/// The final report.
pub(super) fn text(status: &WorkStatus, seconds: f64) -> String {
    let what = match &status.work {
        Work::Migrate(options) => {
            format!("{} to {}{}", status.id, options.to, if options.dry_run { " (dry run)" } else { "" })
        }
        Work::Verify(options) => format!("{}{}", status.id, if options.repair { " with repair" } else { "" }),
    };
    let mut lines = vec![format!("{what}: {}", ending(status))];
    let mut add = |name: &str, value: String| lines.push(format!("  {name:<18}{value}"));
    for (outcome, count) in &status.counts {
        add(outcome, HumanCount(*count).to_string());
    }
    add(
        "in all",
        format!(
            "{} in {seconds:.1} s, {} a second",
            HumanCount(status.done),
            HumanCount(rate(status, seconds))
        ),
    );
    if status.bytes > 0 {
        add("bodies", HumanBytes(status.bytes).to_string());
    }
    if status.read_units + status.write_units > 0.0 {
        add("capacity units", format!("{:.1} read, {:.1} written", status.read_units, status.write_units));
    }
    lines.extend(status.findings.iter().take(FINDINGS).map(finding));
    if status.findings.len() > FINDINGS {
        lines.push(format!("  and {} more: see --json", status.findings.len() - FINDINGS));
    }
    lines.join("\n")
}

fn ending(status: &WorkStatus) -> String {
    match status.state {
        WorkState::Running => "under way".to_owned(),
        WorkState::Done if status.is_clean() => "done".to_owned(),
        WorkState::Done => "done, but not all is well".to_owned(),
        WorkState::Failed => format!("failed: {}", status.error.as_deref().unwrap_or("nobody knows why")),
        WorkState::Cancelled => "cancelled; the same command goes on where it is".to_owned(),
        WorkState::Interrupted => "interrupted; the same command goes on where it is".to_owned(),
    }
}

fn finding(finding: &Finding) -> String {
    let Finding { kind, namespace, name, variant, outcome, detail } = finding;
    let whose = match (namespace.as_str(), variant.as_str()) {
        ("" | "default", "") => String::new(),
        (namespace, "") => format!(" ({namespace})"),
        (namespace, variant) => format!(" ({namespace}, variant {variant})"),
    };
    format!("  {outcome}: {kind} {name}{whose}: {detail}")
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(status: &WorkStatus, seconds: f64) -> u64 {
    if seconds > 0.0 { whole(status.done as f64 / seconds) } else { 0 }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, not negative")]
fn whole(number: f64) -> u64 {
    number.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_for_people() {
        let mut status: WorkStatus = serde_json::from_value(serde_json::json!({
            "id": "migrate-3", "kind": "migrate", "options": {"to": "dynamodb"}, "state": "running",
            "started_at": 1000, "updated_at": 1010, "done": 1200, "total": 4000, "rate": 400.0, "eta_seconds": 7,
            "counts": {"copied": 1199, "failed": 1}, "bytes": 4096, "read_units": 10.0, "write_units": 2400.0,
            "findings": [{"kind": "result", "namespace": "team", "name": "https://a/", "variant": "m",
                          "outcome": "failed", "detail": "too large"}],
            "error": null,
        }))
        .expect("a status");
        assert_eq!(line(&status), "400 a second, 7 seconds left; copied 1,199, failed 1");
        status.state = WorkState::Done;
        assert_eq!(
            text(&status, 3.0),
            "migrate-3 to dynamodb: done, but not all is well\n  copied            1,199\n  failed            1\n  \
             in all            1,200 in 3.0 s, 400 a second\n  bodies            4.00 KiB\n  capacity units    10.0 read, \
             2400.0 written\n  failed: result https://a/ (team, variant m): too large"
        );
    }
}
