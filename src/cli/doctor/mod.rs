//! `doctor`: tries everything that a service needs, and says what to do about what is missing.

mod aws;
mod host;
mod remedy;

use serde::Serialize;
use serde_json::json;

use super::exit::{Exit, Outcome};
use super::output::{self, Output};
use super::{DataDir, Global, wait_for};
use crate::clock::Clock;
use crate::config::{Backend, Config, Loaded};
use crate::store::dynamodb::tables::Severity;

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data_dir: DataDir,

    /// Look at DynamoDB even if the configuration keeps everything in SQLite
    #[arg(long)]
    dynamodb: bool,

    /// Write nothing to tables and bucket: permissions to write are not tried
    #[arg(long)]
    read_only: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
    /// It makes no sense before something else is put right.
    Skipped,
}

/// A check and what came of it.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Verdict,
    detail: String,
    remedy: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, status: Verdict, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status, detail: detail.into(), remedy: None }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, detail)
    }

    fn warning(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(name, Verdict::Warning, detail) }
    }

    fn failed(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(name, Verdict::Failed, detail) }
    }

    fn text(&self) -> String {
        let status = match self.status {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!("\n         -> {remedy}")).unwrap_or_default();
        // What AWS tells of every source of credentials has a line for each.
        let detail = self.detail.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        format!("{status:<7}  {}: {detail}{remedy}", self.name)
    }
}

impl From<Severity> for Verdict {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Ok => Self::Ok,
            Severity::Warning => Self::Warning,
            Severity::Wrong => Self::Failed,
        }
    }
}

/// The checks so far. People see each as soon as it is made.
#[derive(Debug)]
struct Report {
    output: Output,
    checks: Vec<Check>,
}

impl Report {
    fn add(&mut self, check: Check) -> Outcome<()> {
        let shown = if self.output.is_json() { Ok(()) } else { output::line(&check.text()) };
        self.checks.push(check);
        shown
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.status == verdict).count()
    }

    fn end(self) -> Outcome {
        let (failed, warnings) = (self.count(Verdict::Failed), self.count(Verdict::Warning));
        if self.output.is_json() {
            let report = json!({ "failed": failed, "warnings": warnings, "checks": self.checks });
            self.output.answer(&report, String::new)?;
        } else {
            let checks = self.checks.len();
            output::note(format!("{checks} checks: {failed} failed, {warnings} with a warning"));
        }
        Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
    }
}

/// How keys are spread over both stores, unless somebody has set something else since.
fn routing(config: &Config, source: impl Fn(&str) -> String) -> Check {
    let (percent, force) = (config.routing.percent, config.routing.force.as_str());
    let detail = format!(
        "starts with percent = {percent} ({}), force = {force} ({}); what was set while it ran counts all the same",
        source("routing.percent"),
        source("routing.force"),
    );
    match config.routing.pinned() {
        None => Check::ok("routing", detail),
        Some((_, by)) => {
            let remedy = format!("unset {by} and start again once `crawlcache routing` shall decide");
            Check::warning("routing", detail, remedy)
        }
    }
}

/// Makes all checks that make sense, in order.
pub(super) fn run(args: &Args, global: &Global) -> Outcome {
    let mut report = Report { output: global.output(), checks: Vec::new() };
    let Loaded { config, effective } = match global.load(args.data_dir.overrides()) {
        Ok(loaded) => loaded,
        Err(failure) => {
            let remedy = "`crawlcache config` shows every key with its source once they are right";
            report.add(Check::failed("configuration", failure.detail(), remedy))?;
            return report.end();
        }
    };
    let source = |key: &str| effective.get(key).map(|setting| setting.source.to_string()).unwrap_or_default();
    let backend = match config.store.backend {
        Backend::Sqlite => "sqlite",
        Backend::Dynamodb => "dynamodb",
        Backend::Routed => "routed",
    };
    let detail = format!("valid; store.backend = {backend} ({})", source("store.backend"));
    report.add(Check::ok("configuration", detail))?;
    if config.store.backend == Backend::Routed {
        report.add(routing(&config, source))?;
    }
    let uses_sqlite = config.store.backend != Backend::Dynamodb;
    let uses_dynamodb = config.store.backend != Backend::Sqlite;
    let clock = Clock::system();
    wait_for(async {
        report.add(host::data_directory(&config.server.data_dir))?;
        if let Some(check) = host::disk(&config.server.data_dir, uses_sqlite) {
            report.add(check)?;
        }
        report.add(host::tokens(&config, clock.now()))?;
        report.add(host::listen(config.server.listen).await)?;
        if uses_sqlite {
            report.add(host::database(&config.server.data_dir))?;
        }
        if uses_dynamodb || args.dynamodb {
            let key =
                if config.dynamodb.endpoint.is_empty() { "dynamodb.region" } else { "dynamodb.endpoint" };
            let from = format!("{key}, {}", source(key));
            aws::check(&config, &from, &clock, !args.read_only, &mut report).await?;
        }
        report.end()
    })
}
