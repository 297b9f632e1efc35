//! `tables`: makes, describes, checks, deletes and sweeps the tables of DynamoDB.

mod create;
mod delete;
mod describe;
mod sweep;

use std::time::Duration;

use super::exit::{Exit, Failure, Outcome};
use super::output::Output;
use super::{Global, span, wait_for};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::Error;
use crate::store::dynamodb::tables::{Finding, Severity};
use crate::store::dynamodb::{Aws, Tables};

/// What to do with the tables.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make the tables that are missing; may be run again at any time
    #[command(after_help = "Examples:
  crawlcache tables create --dry-run
  crawlcache tables create --tag team=crawl --deletion-protection
  crawlcache tables create --encryption arn:aws:kms:eu-west-1:111122223333:key/4d5e...
  crawlcache tables create --update              add missing indexes, expiry and recovery to tables that exist

New tables are billed on demand. A table that exists is left as it is unless --update is given; one that Wallcrawler
made is never changed. When a step fails the others still run, and the command can be run again. The exit code is 1
if a step failed or a table cannot be used as it is.")]
    Create(create::Args),

    /// Show what the tables are
    #[command(after_help = "Examples:
  crawlcache tables describe
  crawlcache tables describe --json | jq '.[].found.indexes[].name'

Items and sizes are the service's own counts, which may be hours old. The exit code is 3 if a table is missing.")]
    Describe,

    /// Compare the tables with what they must be, and say what to do
    #[command(after_help = "Examples:
  crawlcache tables check
  crawlcache tables check --json | jq '.findings[] | select(.severity != \"ok\")'

The exit code is 1 if something is wrong; warnings alone leave it at 0.")]
    Check,

    /// Delete tables with everything in them
    #[command(after_help = "Examples:
  crawlcache tables delete                       say what would be deleted
  crawlcache tables delete --yes --only sessions

Objects in a bucket are not deleted. A table that is protected from deletion stays.")]
    Delete(delete::Args),

    /// Delete objects in the bucket that no item names any more
    #[command(after_help = "Examples:
  crawlcache tables sweep --dry-run
  crawlcache tables sweep --older-than 7d --read-units 50

It reads the whole table of results, no faster than --read-units allows, and is for administrators. Bucket, prefix and
table must belong together: what this table does not name goes. Without a bucket there is nothing to sweep, since
parts of large bodies expire by themselves.")]
    Sweep(sweep::Args),
}

/// Carries it out on the tables that the configuration names.
pub(super) fn run(args: Args, global: &Global) -> Outcome {
    let config = global.load(Vec::new())?.config;
    wait_for(async {
        let output = global.output();
        match args.action {
            Action::Create(args) => create::run(args, tables(&config).await, output).await,
            Action::Describe => describe::run(&tables(&config).await, output).await,
            Action::Check => check(&tables(&config).await, output).await,
            Action::Delete(args) => delete::run(&args, &tables(&config).await, output).await,
            Action::Sweep(args) => sweep::run(&args, &config, output).await,
        }
    })
}

async fn connect(config: &Config) -> Aws {
    Aws::connect(&config.dynamodb, &config.s3, &Metrics::new()).await
}

async fn tables(config: &Config) -> Tables {
    Tables::new(connect(config).await, &config.dynamodb)
}

async fn check(tables: &Tables, output: Output) -> Outcome {
    let findings = tables.check().await.map_err(|error| refusal(&error))?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (wrong, warnings) = (count(Severity::Wrong), count(Severity::Warning));
    let report = serde_json::json!({ "wrong": wrong, "warnings": warnings, "findings": findings });
    output.answer(&report, || lines(&findings))?;
    Ok(if wrong > 0 { Exit::Failed } else { Exit::Done })
}

fn span_of(text: &str) -> Result<Duration, String> {
    span::seconds(text).map(Duration::from_secs)
}

/// Findings, a line each, with what to do below.
fn lines(findings: &[Finding]) -> String {
    findings.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn text(finding: &Finding) -> String {
    let Finding { table, severity, subject, message, remedy } = finding;
    let severity = match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Wrong => "wrong",
    };
    let remedy = remedy.as_ref().map(|remedy| format!("\n         -> {remedy}")).unwrap_or_default();
    format!("{severity:<7}  {table}  {subject}: {message}{remedy}")
}

/// The failure of a store, with the exit code of its condition.
pub(super) fn refusal(error: &Error) -> Failure {
    let exit = match error {
        error if error.is_transient() => Exit::Unreachable,
        Error::AccessDenied { .. } | Error::Credentials { .. } | Error::ClockSkew { .. } => Exit::Refused,
        Error::MissingTable { .. } | Error::MissingBucket { .. } => Exit::NotFound,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.reason(), error.to_string())
}
