//! Long work without a service: this process opens the data directory and the tables itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::exit::{Exit, Failure, Outcome, chain};
use super::super::output::note;
use super::super::progress::Progress;
use super::super::{Global, seconds_since};
use super::{ended, show};
use crate::app::{StartError, open_sides};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::work::{Work, WorkState, WorkStatus};
use crate::jobs::runner::{NotStarted, Runner};
use crate::metrics::Metrics;
use crate::store::sqlite::OpenError;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Opens what the configuration names, works until the end, and closes it.
pub(super) fn run(work: Work, data_dir: Option<PathBuf>, global: &Global) -> Outcome {
    let given = data_dir.map(|path| ("server.data_dir".to_owned(), path.to_string_lossy().into_owned()));
    let config = global.load(given.into_iter().collect())?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("no thread can be started", &error))?;
    runtime.block_on(on_both(work, config, global))
}

async fn on_both(work: Work, config: Config, global: &Global) -> Outcome {
    let begun = Instant::now();
    let may_create = !matches!(&work, Work::Migrate(options) if options.dry_run);
    let sides = Box::pin(open_sides(&config, &Clock::system(), &Metrics::new(), may_create)).await;
    let sides = sides.map_err(|error| refusal(&error))?;
    let (database, stop) = (sides.database.clone(), CancellationToken::new());
    let failed = |error: crate::store::Error| Failure::new(Exit::Failed, error.reason(), error.to_string());
    let runner = Runner::open(sides, stop.clone()).await.map_err(failed)?;
    let status = runner.start(work).await.map_err(|error| not_started(&error))?;
    if status.done > 0 {
        note(format!("{} goes on where it was left, after {}", status.id, status.done));
    }
    let progress = Progress::counted();
    let last = until_end(&runner, status, &progress, &stop).await;
    drop(progress);
    runner.close().await;
    database.close().await;
    ended(&last, seconds_since(begun), global)
}

async fn until_end(
    runner: &Runner,
    mut status: WorkStatus,
    progress: &Progress,
    stop: &CancellationToken,
) -> WorkStatus {
    let mut told = std::pin::pin!(tokio::signal::ctrl_c());
    let mut is_told = false;
    while status.state == WorkState::Running {
        show(progress, &status);
        tokio::select! {
            _ = &mut told, if !is_told => {
                is_told = true;
                stop.cancel();
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        status = runner.get(&status.id).unwrap_or(status);
    }
    status
}

fn refusal(error: &StartError) -> Failure {
    let detail = chain(error);
    match error {
        StartError::Store(OpenError::Locked { .. }) => {
            let detail = format!("{detail}: leave out --offline, and that service does it");
            Failure::new(Exit::Failed, "data_dir_in_use", detail)
        }
        StartError::Tables(error) => super::super::tables::refusal(error),
        _ => Failure::new(Exit::Failed, "failed", detail),
    }
}

fn not_started(error: &NotStarted) -> Failure {
    let exit = if matches!(error, NotStarted::Invalid(_)) { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, "not_started", chain(error))
}
