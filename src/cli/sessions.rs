//! `sessions`: what operators do with sessions; to seal them under a new key.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Service, ServiceArgs, call};
use super::exit::{Exit, Failure, Outcome, chain};
use super::progress::Progress;
use super::{Global, counted};
use crate::app::Opened;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Sessions that are looked at together.
const PAGE: usize = 200;

/// Sessions that are named, at most, where they cannot be read.
const MOST_NAMED: usize = 1000;

/// What to do with them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Seal all credentials under the current key, so that the older ones can go
    #[command(
        after_help = "To change the key, give the new one as sessions.encryption_key, add the one before it to
sessions.older_encryption_keys, restart every service, run this command once, and take the older key out again.
It may be run while services read and write, and again at any time. Exit code 1: some cannot be read."
    )]
    RotateKey(RotateKey),
}

#[derive(Debug, clap::Args)]
struct RotateKey {
    /// Only count what would be sealed anew
    #[arg(long)]
    dry_run: bool,

    /// Without a service: open the data directory and the tables themselves
    #[arg(long, conflicts_with_all = ["service_url", "token"])]
    offline: bool,

    /// The directory of the database, with --offline
    #[arg(long, value_name = "DIR", requires = "offline")]
    data_dir: Option<PathBuf>,

    #[command(flatten)]
    service: ServiceArgs,
}

/// Does it.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let Action::RotateKey(rotate) = args.action;
    let report = if rotate.offline {
        Box::pin(alone(&rotate, global)).await?
    } else {
        through_service(&rotate).await?
    };
    global.output().answer(&report.json(rotate.dry_run), || report.text(rotate.dry_run))?;
    Ok(if report.unreadable_count == 0 { Exit::Done } else { Exit::Failed })
}

/// What all pages came to.
#[derive(Debug, Default)]
struct Report {
    seen: u64,
    resealed: u64,
    unreadable_count: u64,
    unreadable: Vec<Value>,
}

impl Report {
    fn add(&mut self, seen: u64, resealed: u64, unreadable: Vec<Value>, progress: &Progress) {
        self.seen += seen;
        self.resealed += resealed;
        self.unreadable_count += unreadable.len() as u64;
        let room = MOST_NAMED.saturating_sub(self.unreadable.len());
        self.unreadable.extend(unreadable.into_iter().take(room));
        progress
            .say(|| format!("{} looked at, {} sealed anew", counted(self.seen, "session"), self.resealed));
    }

    fn json(&self, dry_run: bool) -> Value {
        json!({
            "dry_run": dry_run, "seen": self.seen, "resealed": self.resealed,
            "unreadable_count": self.unreadable_count, "unreadable": self.unreadable,
        })
    }

    fn text(&self, dry_run: bool) -> String {
        let done = if dry_run { "would be sealed" } else { "sealed" };
        let mut lines = vec![format!(
            "{} looked at, {} {done} under the current key",
            counted(self.seen, "session"),
            self.resealed
        )];
        if self.unreadable_count > 0 {
            lines.push(format!("{} cannot be read:", self.unreadable_count));
        }
        lines.extend(self.unreadable.iter().map(|one| {
            let word = |name: &str| one[name].as_str().unwrap_or("?").to_owned();
            format!("  {} {}  {}", word("namespace"), word("id"), word("code"))
        }));
        lines.join("\n")
    }
}

async fn through_service(rotate: &RotateKey) -> Outcome<Report> {
    let service = Service::patient(&rotate.service)?;
    let (mut report, progress) = (Report::default(), Progress::items());
    let mut cursor = Value::Null;
    loop {
        let body = json!({ "dry_run": rotate.dry_run, "cursor": cursor });
        let page = call(&service, Method::POST, "/v1/admin/sessions/rotate-key", &[], Some(&body)).await?;
        let number = |name: &str| page[name].as_u64().unwrap_or(0);
        let unreadable = page["unreadable"].as_array().cloned().unwrap_or_default();
        report.add(number("seen"), number("resealed"), unreadable, &progress);
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return Ok(report);
        }
    }
}

async fn alone(rotate: &RotateKey, global: &Global) -> Outcome<Report> {
    let path = rotate.data_dir.as_ref();
    let given = path.map(|path| ("server.data_dir".to_owned(), path.to_string_lossy().into_owned()));
    let config = global.load(given.into_iter().collect())?.config;
    if !config.sessions.encryption_key.is_set() {
        let detail = "there is no key to seal sessions under: `sessions.encryption_key` is empty";
        return Err(Failure::new(Exit::Failed, "encryption_key_missing", detail.to_owned()));
    }
    let opened = Opened::open(&config, &Clock::system(), &Metrics::new()).await;
    let opened = opened.map_err(|error| Failure::new(Exit::Failed, "failed", chain(&error)))?;
    let report = all_of(&opened, rotate.dry_run).await;
    opened.close().await;
    report
}

async fn all_of(opened: &Opened, dry_run: bool) -> Outcome<Report> {
    let (mut report, progress) = (Report::default(), Progress::items());
    let failed = |error: crate::store::Error| Failure::new(Exit::Failed, error.reason(), error.to_string());
    for sessions in opened.sessions() {
        let mut after = None;
        loop {
            let page = sessions.reseal(after.as_ref(), PAGE, dry_run).await.map_err(failed)?;
            let named = page.unreadable.iter().map(|one| {
                json!({"namespace": one.namespace.as_str(), "id": one.id.as_str(), "code": code(&one.error)})
            });
            report.add(page.seen, page.resealed, named.collect(), &progress);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(report)
}

/// The code that a service would say.
fn code(error: &crate::store::Error) -> &'static str {
    if matches!(error, crate::store::Error::Sealed { .. }) { "session_sealed" } else { "entry_corrupt" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let one = json!({"namespace": "default", "id": "s", "code": "session_sealed"});
        let report = Report { seen: 3, resealed: 2, unreadable_count: 1, unreadable: vec![one] };
        assert_eq!(
            report.text(false),
            "3 sessions looked at, 2 sealed under the current key\n1 cannot be read:\n  default s  session_sealed"
        );
        assert!(report.text(true).contains("2 would be sealed"));
    }
}
