//! `backup`: a consistent copy of the database, made while the service runs.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use serde_json::json;

use super::exit::{Exit, Failure, Outcome, chain};
use super::progress::Progress;
use super::{DataDir, Global, seconds_since};
use crate::config::Backend;
use crate::store::sqlite::{BackupError, backup, backup_partial_path, backup_size};

/// How often the growing copy is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What to copy where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write; it must not exist yet, and is there only once it is whole and checked
    target: PathBuf,

    #[command(flatten)]
    data_dir: DataDir,
}

/// Copies the database of the data directory that the configuration names.
pub(super) fn run(args: &Args, global: &Global) -> Outcome {
    let begun = Instant::now();
    let config = global.load(args.data_dir.overrides())?.config;
    if config.store.backend == Backend::Dynamodb {
        let told =
            "everything is in DynamoDB (store.backend): its own backups and point-in-time recovery copy it";
        return Err(Failure::new(Exit::Usage, "not_embedded", told));
    }
    let data_dir = config.server.data_dir;
    let progress = Progress::bytes(Some(backup_size(&data_dir).map_err(|error| refusal(&error))?), true);
    copy(&data_dir, &args.target, &progress).map_err(|error| refusal(&error))?;
    drop(progress);
    let bytes = std::fs::metadata(&args.target).map_err(|error| refusal(&error.into()))?.len();
    let seconds = seconds_since(begun);
    let report = json!({ "path": args.target, "bytes": bytes, "seconds": seconds });
    global.output().answer(&report, || {
        format!("backed up to {}: {} in {seconds} s", args.target.display(), HumanBytes(bytes))
    })?;
    Ok(Exit::Done)
}

/// Copies on a thread of its own and shows how the copy grows.
fn copy(data_dir: &Path, target: &Path, progress: &Progress) -> Result<(), BackupError> {
    let partial = backup_partial_path(target);
    std::thread::scope(|scope| {
        let (done, wait) = mpsc::channel();
        let copying = scope.spawn(move || {
            let copied = backup(data_dir, target);
            // Nobody waits any more only when this thread's scope is gone, and that waits for this thread.
            let _ = done.send(());
            copied
        });
        while wait.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            progress.set(std::fs::metadata(&partial).map_or(0, |file| file.len()));
        }
        match copying.join() {
            Ok(copied) => copied,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn refusal(error: &BackupError) -> Failure {
    Failure::new(Exit::Failed, "backup_failed", chain(error))
}
