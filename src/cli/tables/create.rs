//! `tables create`: plans, then works through the plan and says how it goes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{lines, refusal, span_of};
use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{Output, note};
use crate::cli::seconds_since;
use crate::store::dynamodb::Tables;
use crate::store::dynamodb::tables::{Applied, CreateOptions, Encryption, Finding, Severity, Step};

/// How to make them.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Args {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Add what tables that exist lack: indexes, expiry, recovery, protection
    #[arg(long)]
    update: bool,

    /// Keep what is needed to restore any second of the last weeks, where the endpoint has that
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    point_in_time_recovery: bool,

    /// Whose key encrypts new tables: `owned` by the service, `aws` managed in the account, or the ARN of a KMS key
    #[arg(long, value_name = "owned|aws|ARN", default_value = "owned", value_parser = encryption)]
    encryption: Encryption,

    /// A tag of new tables; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,

    /// Have the tables refuse to be deleted
    #[arg(long)]
    deletion_protection: bool,

    /// How long to wait for a table or an index to become active, such as 10m
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span_of)]
    wait: Duration,
}

fn encryption(text: &str) -> Result<Encryption, String> {
    match text {
        "owned" => Ok(Encryption::Owned),
        "aws" => Ok(Encryption::Aws),
        key if key.starts_with("arn:") => Ok(Encryption::Key(key.to_owned())),
        _ => Err("give owned, aws, or the ARN of a KMS key".to_owned()),
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give a key and its value: KEY=VALUE".to_owned()),
    }
}

/// Makes what is missing.
pub(super) async fn run(args: Args, tables: Tables, output: Output) -> Outcome {
    let tables = tables.with_patience(args.wait);
    let options = CreateOptions {
        point_in_time_recovery: args.point_in_time_recovery,
        encryption: args.encryption,
        tags: args.tags,
        deletion_protection: args.deletion_protection,
        update: args.update,
    };
    let plan = tables.plan(&options).await.map_err(|error| refusal(&error))?;
    if args.dry_run {
        output.answer(&json!({ "dry_run": true, "steps": plan }), || {
            let steps: Vec<String> = plan.iter().map(|step| format!("would {step}")).collect();
            if steps.is_empty() { "nothing to do".to_owned() } else { steps.join("\n") }
        })?;
        return Ok(Exit::Done);
    }
    let (steps, failed) = carry_out(&tables, &plan, output).await;
    let mut findings = tables.check().await.map_err(|error| refusal(&error))?;
    findings.retain(|finding| finding.severity != Severity::Ok);
    output.answer(&json!({ "steps": steps, "failed": failed, "findings": findings }), || {
        summary(plan.len(), failed, &findings)
    })?;
    let is_usable = findings.iter().all(|finding| finding.severity != Severity::Wrong);
    Ok(if failed == 0 && is_usable { Exit::Done } else { Exit::Failed })
}

/// What became of each step, and how many failed or could not be tried.
async fn carry_out(tables: &Tables, plan: &[Step], output: Output) -> (Vec<Value>, usize) {
    let (mut steps, mut lost, mut failed) = (Vec::with_capacity(plan.len()), Vec::new(), 0);
    for step in plan {
        let mut report = json!(step);
        let begun = Instant::now();
        let (word, error) = if lost.contains(&step.table()) {
            ("skipped", None)
        } else {
            match tables.apply(step).await {
                Ok(Applied::Done) => ("done", None),
                Ok(Applied::Already) => ("already there", None),
                Ok(Applied::Unsupported) => ("not supported by this endpoint", None),
                Err(error) => ("failed", Some(error.to_string())),
            }
        };
        if matches!(word, "failed" | "skipped") {
            failed += 1;
            if step.is_needed() {
                lost.push(step.table());
            }
        }
        if !output.is_json() {
            let error = error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            note(format!("{step}: {word}{error} ({} s)", seconds_since(begun)));
        }
        report["outcome"] = json!(word.replace(' ', "_"));
        report["error"] = json!(error);
        report["seconds"] = json!(seconds_since(begun));
        steps.push(report);
    }
    (steps, failed)
}

fn summary(steps: usize, failed: usize, findings: &[Finding]) -> String {
    let done = match (steps, failed) {
        (0, _) => "nothing to do: the tables exist".to_owned(),
        (steps, 0) => format!("all {steps} steps are done"),
        (steps, failed) => format!("{failed} of {steps} steps are not done: run it again"),
    };
    if findings.is_empty() { done } else { format!("{done}\n{}", lines(findings)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        assert_eq!(tag("team=a=b"), Ok(("team".to_owned(), "a=b".to_owned())));
        assert!(tag("=a").is_err() && tag("a").is_err());
        let key = "arn:aws:kms:eu-west-1:1:key/2";
        assert_eq!(encryption(key), Ok(Encryption::Key(key.to_owned())));
        assert!(encryption("kms").is_err());
    }
}
