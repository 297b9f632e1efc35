//! `migrate`, `verify` and `work`: long work on both stores, in a running service or on a data directory that none has
//! open.

mod alone;
mod known;
mod migrate;
mod report;
mod service;
mod verify;

use std::path::PathBuf;

use super::client::ServiceArgs;
use super::exit::{Exit, Failure, Outcome};
use super::progress::Progress;
use super::{Global, wait_for};
use crate::domain::work::{Work, WorkState, WorkStatus};

pub(super) use known::{Args as WorkArgs, line, run as known};
pub(super) use migrate::Args as MigrateArgs;
pub(super) use verify::Args as VerifyArgs;

/// Where it is done.
#[derive(Debug, clap::Args)]
struct Place {
    /// Without a service: open the data directory and the tables themselves
    #[arg(long, conflicts_with_all = ["service_url", "token", "watch"])]
    offline: bool,

    /// The directory of the database, with --offline
    #[arg(long, value_name = "DIR", requires = "offline")]
    data_dir: Option<PathBuf>,

    /// Watch a piece of work that the service has begun, such as migrate-3
    #[arg(long, value_name = "ID")]
    watch: Option<String>,

    #[command(flatten)]
    service: ServiceArgs,
}

/// Migrates, or says how far a migration is.
pub(super) fn migrate(args: MigrateArgs, global: &Global) -> Outcome {
    let (work, place) = args.work()?;
    run(Work::Migrate(work), place, global)
}

/// Compares both sides.
pub(super) fn verify(args: VerifyArgs, global: &Global) -> Outcome {
    let (work, place) = args.work();
    run(Work::Verify(work), place, global)
}

fn run(work: Work, place: Place, global: &Global) -> Outcome {
    if place.offline {
        return alone::run(work, place.data_dir, global);
    }
    wait_for(service::run(work, place, global))
}

/// Shows how far it is.
fn show(progress: &Progress, status: &WorkStatus) {
    progress.count(status.done, status.total);
    progress.say(|| report::line(status));
}

/// What a piece of work that has ended means for the exit code.
fn ended(status: &WorkStatus, seconds: f64, global: &Global) -> Outcome {
    let mut value = serde_json::to_value(status).map_err(|error| Failure::local("the report", &error))?;
    if let Some(object) = value.as_object_mut() {
        object.insert("seconds".to_owned(), seconds.into());
    }
    global.output().answer(&value, || report::text(status, seconds))?;
    Ok(match status.state {
        _ if status.is_clean() => Exit::Done,
        WorkState::Running => Exit::Done,
        _ => Exit::Failed,
    })
}
