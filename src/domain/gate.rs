//! The gate: whether DynamoDB is fit to own more keys, judged from evidence alone.

use std::fmt::Write as _;

use super::Timestamp;
use super::routing::Percent;
use super::work::{Work, WorkState, WorkStatus};

/// The least share of the keys that would move which DynamoDB must have.
const LEAST_COVERAGE: f64 = 0.999;

/// The greatest age in seconds of a verification that counts.
const VERIFIED_WITHIN_SECONDS: u64 = 86_400;

/// The greatest age in seconds of the oldest write that waits for DynamoDB.
const OUTBOX_SECONDS: f64 = 60.0;

/// The share of operations that may fail: less than this.
const ERROR_RATE: f64 = 0.001;

/// The time in seconds within which 99 of 100 operations must be done: less than this.
const P99_SECONDS: f64 = 0.1;

/// How many of the keys that would move DynamoDB has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Keys that SQLite holds, that would move, and that were looked for in DynamoDB.
    pub keys: u64,
    /// Those of which DynamoDB has the same version, or a newer one.
    pub covered: u64,
}

/// What the last comparison of the two sides came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// When it was at its end.
    pub finished_at: Timestamp,
    /// Keys that were compared.
    pub compared: u64,
    /// Keys of which the sides have different content, or one could not be read. What one side does not have is
    /// none of them: that is what the coverage says.
    pub mismatches: u64,
}

impl Verification {
    /// What a piece of work has to say about that; `None` if it is no verification, or has not come to its end.
    pub fn of(status: &WorkStatus) -> Option<Self> {
        let is_done = status.state == WorkState::Done && matches!(status.work, Work::Verify(_));
        let wrong = ["different", "deleted", "unreadable", "failed", "repair_failed"];
        let mismatches =
            if status.is_clean() { 0 } else { wrong.iter().map(|outcome| status.count(outcome)).sum() };
        // Not all that it has been through: what was beside the sample, or had expired, was not compared.
        let compared = ["equal", "missing_dynamodb", "missing_sqlite"].iter().chain(&wrong);
        let compared = compared.map(|outcome| status.count(outcome)).sum();
        is_done.then_some(Self { finished_at: status.updated_at, compared, mismatches })
    }
}

/// How a backend did lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// How long ago lately begins, in seconds.
    pub seconds: f64,
    /// Operations.
    pub operations: u64,
    /// Those that failed, those included that took longer than anybody would wait.
    pub errors: u64,
    /// The time in seconds within which 99 of 100 operations on one key were done; `None` if there was none.
    pub p99_seconds: Option<f64>,
    /// Reads after which both sides were compared.
    pub compared: u64,
    /// Those of them that found a difference.
    pub differences: u64,
}

impl Load {
    /// The share of operations that failed; `None` if there was none.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more precision")]
    pub fn error_rate(&self) -> Option<f64> {
        (self.operations > 0).then(|| self.errors as f64 / self.operations as f64)
    }
}

/// What there is to judge by.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The time.
    pub now: Timestamp,
    /// The share of keys that DynamoDB owns, and that it would own.
    pub from: Percent,
    /// The share that is asked about.
    pub to: Percent,
    /// `None` where nobody could find out.
    pub coverage: Result<Coverage, String>,
    /// The last one that came to its end and changed nothing.
    pub verification: Option<Verification>,
    /// The age in seconds of the oldest write that waits for DynamoDB; 0 if none does.
    pub outbox_seconds: f64,
    /// Writes that wait.
    pub queued: u64,
    /// Writes that DynamoDB refused for their own sake.
    pub parked: u64,
    /// How DynamoDB did lately.
    pub load: Load,
    /// The state of its circuit: `closed`, `trial` or `open`.
    pub circuit: &'static str,
}

/// One of the conditions, and whether it is met.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Names it.
    pub name: &'static str,
    /// Whether it is met.
    pub pass: bool,
    /// What was measured; `None` where there was nothing to measure.
    pub measured: Option<f64>,
    /// What it was held against.
    pub limit: f64,
    /// The same in words, with what to do where it is not met.
    pub detail: String,
}

impl Check {
    fn new(name: &'static str, pass: bool, measured: Option<f64>, limit: f64, detail: String) -> Self {
        Self { name, pass, measured, limit, detail }
    }
}

/// Judges each condition. DynamoDB is fit if all of them are met.
pub fn judge(evidence: &Evidence) -> Vec<Check> {
    vec![
        coverage(evidence),
        verification(evidence),
        shadow_reads(&evidence.load),
        outbox_age(evidence),
        outbox_parked(evidence.parked),
        error_rate(&evidence.load),
        latency(&evidence.load),
        circuit(evidence.circuit),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more precision")]
fn coverage(evidence: &Evidence) -> Check {
    let check = |pass, measured, detail| Check::new("coverage", pass, measured, LEAST_COVERAGE, detail);
    if evidence.to <= evidence.from {
        return check(true, None, "no key would move to DynamoDB".to_owned());
    }
    match &evidence.coverage {
        Err(error) => check(false, None, format!("it could not be found out: {error}")),
        Ok(Coverage { keys: 0, .. }) => {
            check(true, None, "SQLite holds none of the keys that would move".to_owned())
        }
        Ok(Coverage { keys, covered }) => {
            let share = *covered as f64 / *keys as f64;
            let pass = share >= LEAST_COVERAGE;
            let mut detail =
                format!("DynamoDB has {covered} of {keys} keys that would move and were looked for");
            if !pass {
                detail.push_str(": migrate the others first");
            }
            check(pass, Some(share), detail)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count for people and programs to read")]
fn verification(evidence: &Evidence) -> Check {
    let check = |pass, measured, detail| Check::new("verification", pass, measured, 0.0, detail);
    let Some(Verification { finished_at, compared, mismatches }) = evidence.verification else {
        return check(
            false,
            None,
            "the two sides were never compared: verify first, without repair".to_owned(),
        );
    };
    let age = evidence.now.secs_since(finished_at);
    let is_recent = age <= VERIFIED_WITHIN_SECONDS;
    let mut detail = format!("{mismatches} mismatches among {compared} keys, {age} s ago");
    if !is_recent {
        let _ = write!(detail, ", which is more than {VERIFIED_WITHIN_SECONDS} s: verify again");
    } else if mismatches > 0 {
        detail.push_str(": verify with repair, then without");
    }
    check(is_recent && mismatches == 0, Some(mismatches as f64), detail)
}

#[expect(clippy::cast_precision_loss, reason = "a count for people and programs to read")]
fn shadow_reads(load: &Load) -> Check {
    let Load { compared, differences, seconds, .. } = load;
    let detail = match compared {
        0 => format!("no read was compared in {seconds:.0} s; `shadow_read` would do that"),
        _ => format!("{differences} differences in {compared} reads that were compared in {seconds:.0} s"),
    };
    Check::new("shadow_reads", *differences == 0, Some(*differences as f64), 0.0, detail)
}

fn outbox_age(evidence: &Evidence) -> Check {
    let Evidence { outbox_seconds, queued, .. } = evidence;
    let detail = match queued {
        0 => "nothing waits for DynamoDB".to_owned(),
        _ => format!("{queued} writes wait for DynamoDB, the oldest for {outbox_seconds:.1} s"),
    };
    Check::new("outbox_age", *outbox_seconds <= OUTBOX_SECONDS, Some(*outbox_seconds), OUTBOX_SECONDS, detail)
}

#[expect(clippy::cast_precision_loss, reason = "a count for people and programs to read")]
fn outbox_parked(parked: u64) -> Check {
    let detail = match parked {
        0 => "no write was given up".to_owned(),
        _ => {
            format!("DynamoDB refused {parked} writes: look at them in the outbox, and retry or discard them")
        }
    };
    Check::new("outbox_parked", parked == 0, Some(parked as f64), 0.0, detail)
}

/// What is said where nothing was asked of DynamoDB: an idle backend proves nothing.
fn idle(seconds: f64) -> String {
    format!(
        "nothing was asked of DynamoDB in {seconds:.0} s: a verification, shadow reads or dual writes would"
    )
}

fn error_rate(load: &Load) -> Check {
    let Load { operations, errors, seconds, .. } = load;
    let rate = load.error_rate();
    let detail = match rate {
        None => idle(*seconds),
        Some(_) => format!("{errors} of {operations} operations failed in {seconds:.0} s"),
    };
    Check::new("error_rate", rate.is_some_and(|rate| rate < ERROR_RATE), rate, ERROR_RATE, detail)
}

fn latency(load: &Load) -> Check {
    let Load { p99_seconds, seconds, .. } = load;
    let detail = match p99_seconds {
        None => idle(*seconds),
        Some(p99) => format!("99 of 100 operations took at most {:.1} ms in {seconds:.0} s", p99 * 1000.0),
    };
    Check::new("p99", p99_seconds.is_some_and(|p99| p99 < P99_SECONDS), *p99_seconds, P99_SECONDS, detail)
}

fn circuit(state: &'static str) -> Check {
    let is_closed = state == "closed";
    let measured = Some(if is_closed { 0.0 } else { 1.0 });
    Check::new("circuit", is_closed, measured, 0.0, format!("the circuit of DynamoDB is {state}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_768_473_000);

    /// Everything as it must be.
    fn fit() -> Evidence {
        Evidence {
            now: NOW,
            from: Percent::from_hundredths(2500).expect("a share"),
            to: Percent::from_hundredths(5000).expect("a share"),
            coverage: Ok(Coverage { keys: 1000, covered: 999 }),
            verification: Some(Verification {
                finished_at: NOW.minus_secs(VERIFIED_WITHIN_SECONDS),
                compared: 4000,
                mismatches: 0,
            }),
            outbox_seconds: OUTBOX_SECONDS,
            queued: 3,
            parked: 0,
            load: Load {
                seconds: 600.0,
                operations: 10_000,
                errors: 9,
                p99_seconds: Some(0.099),
                compared: 100,
                differences: 0,
            },
            circuit: "closed",
        }
    }

    #[test]
    fn each_condition_alone_closes_the_gate() {
        let failing = |evidence: &Evidence| -> Vec<&'static str> {
            judge(evidence).into_iter().filter(|check| !check.pass).map(|check| check.name).collect()
        };
        assert_eq!(failing(&fit()), [""; 0]);
        let verified = fit().verification.expect("there is one");
        let cases: Vec<(&str, Evidence)> = vec![
            ("coverage", Evidence { coverage: Ok(Coverage { keys: 1000, covered: 998 }), ..fit() }),
            ("coverage", Evidence { coverage: Err("no answer".to_owned()), ..fit() }),
            ("verification", Evidence { verification: None, ..fit() }),
            ("verification", Evidence { now: NOW.plus_secs(1), ..fit() }),
            (
                "verification",
                Evidence { verification: Some(Verification { mismatches: 1, ..verified }), ..fit() },
            ),
            ("shadow_reads", Evidence { load: Load { differences: 1, ..fit().load }, ..fit() }),
            ("outbox_age", Evidence { outbox_seconds: 60.1, ..fit() }),
            ("outbox_parked", Evidence { parked: 1, ..fit() }),
            ("error_rate", Evidence { load: Load { errors: 10, ..fit().load }, ..fit() }),
            ("error_rate", Evidence { load: Load { operations: 0, errors: 0, ..fit().load }, ..fit() }),
            ("p99", Evidence { load: Load { p99_seconds: Some(0.1), ..fit().load }, ..fit() }),
            ("p99", Evidence { load: Load { p99_seconds: None, ..fit().load }, ..fit() }),
            ("circuit", Evidence { circuit: "open", ..fit() }),
            ("circuit", Evidence { circuit: "trial", ..fit() }),
        ];
        for (name, evidence) in cases {
            assert_eq!(failing(&evidence), [name], "{evidence:?}");
        }
    }

    #[test]
    fn every_check_says_what_was_measured_and_in_words() {
        for check in judge(&fit()) {
            assert!(check.detail.len() > 15, "{check:?}");
            assert!(check.measured.is_some(), "{check:?}");
        }
        let names: Vec<&str> = judge(&fit()).iter().map(|check| check.name).collect();
        assert!(names.iter().enumerate().all(|(at, name)| !names[at + 1..].contains(name)), "{names:?}");
    }

    #[test]
    fn where_no_key_would_move_none_must_be_there() {
        let nothing = Err("not looked for".to_owned());
        for to in [0, 2500] {
            let to = Percent::from_hundredths(to).expect("a share");
            let checks = judge(&Evidence { to, coverage: nothing.clone(), ..fit() });
            assert!(checks.iter().all(|check| check.pass), "{checks:?}");
        }
        let empty = judge(&Evidence { coverage: Ok(Coverage::default()), ..fit() });
        assert!(empty.iter().all(|check| check.pass), "{empty:?}");
    }
}
