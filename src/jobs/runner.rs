//! Does migrations and verifications, one at a time, and knows those that were done: in a service beside requests, or
//! alone on a database that no service has open.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::insist::Halt;
use super::migrate::Migration;
use super::sides::Sides;
use super::track::{Kept, Track, fresh};
use super::verify::Verification;
use crate::domain::work::{MigrateOptions, VerifyOptions, Work, WorkState, WorkStatus};
use crate::store;

/// How many pieces of work that have ended are remembered.
const REMEMBERED: usize = 50;

/// Why a piece of work was not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// Another one is under way.
    #[error("{running} is under way: wait for its end, or cancel it")]
    Busy {
        /// The id of the other one.
        running: String,
    },
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Does long work. Clones share everything.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    sides: Sides,
    /// Ends all work, which goes on after the next start.
    stop: CancellationToken,
    tasks: TaskTracker,
    known: Mutex<BTreeMap<u64, Piece>>,
    /// Only one piece of work is begun at a time.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Piece {
    track: Track,
    /// Cancels this one alone.
    cancel: CancellationToken,
}

impl Piece {
    fn is_running(&self) -> bool {
        self.track.status().state == WorkState::Running
    }
}

impl Runner {
    /// Reads what was written down. What was under way when the process ended is interrupted.
    ///
    /// # Errors
    /// As any read or write of the database.
    pub async fn open(sides: Sides, stop: CancellationToken) -> store::Result<Self> {
        let mut known = BTreeMap::new();
        for job in sides.database.jobs().await? {
            let Some(number) = number_of(&job.name) else { continue };
            let mut kept: Kept = match serde_json::from_str(&job.state) {
                Ok(kept) => kept,
                Err(error) => {
                    tracing::warn!(job = job.name, %error, "what was written down of a piece of work cannot be read");
                    continue;
                }
            };
            let was_running = kept.status.state == WorkState::Running;
            if was_running {
                kept.status.state = WorkState::Interrupted;
            }
            let track = Track::new(kept, &sides.clock, &sides.metrics);
            if was_running {
                track.save(&sides.database).await?;
            }
            known.insert(number, Piece { track, cancel: stop.child_token() });
        }
        let (known, starting) = (Mutex::new(known), tokio::sync::Mutex::new(()));
        Ok(Self(Arc::new(Inner { sides, stop, tasks: TaskTracker::new(), known, starting })))
    }

    /// Goes on with the migration that the end of the last process has interrupted, if there is one.
    ///
    /// # Errors
    /// As [`Runner::start`].
    pub async fn resume(&self) -> Result<Option<WorkStatus>, NotStarted> {
        let last =
            self.0.known().values().rev().map(|piece| piece.track.status()).find(|status| {
                status.state == WorkState::Interrupted && matches!(status.work, Work::Migrate(_))
            });
        match last.map(|status| status.work) {
            Some(Work::Migrate(options)) => {
                let work = Work::Migrate(MigrateOptions { restart: false, ..options });
                self.start(work).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Begins a piece of work. A migration like one that was left before its end goes on there, under its id, unless
    /// the options say otherwise.
    ///
    /// # Errors
    /// [`NotStarted`], and nothing was begun.
    pub async fn start(&self, work: Work) -> Result<WorkStatus, NotStarted> {
        check(&work, self.0.sides.alone).map_err(NotStarted::Invalid)?;
        let _turn = self.0.starting.lock().await;
        if let Some(running) = self.0.known().values().find(|piece| piece.is_running()) {
            return Err(NotStarted::Busy { running: running.track.status().id });
        }
        let (number, kept) = self.begun_or_left(work);
        let track = Track::started(kept, &self.0.sides.clock, &self.0.sides.metrics);
        // Before the first step: the service knows of it after a crash.
        if let Err(error) = track.save(&self.0.sides.database).await {
            track.end(WorkState::Failed, Some(error.to_string()));
            return Err(error.into());
        }
        let piece = Piece { track: track.clone(), cancel: self.0.stop.child_token() };
        let track_of_it = track.clone();
        self.0.known().insert(number, piece.clone());
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            // A piece that panics must not look as if it ran for ever: nothing else could begin.
            if AssertUnwindSafe(inner.run(piece)).catch_unwind().await.is_err() {
                track_of_it.end(WorkState::Failed, Some("it broke off, which the log explains".to_owned()));
            }
        });
        if let Err(error) = self.forget_oldest().await {
            tracing::warn!(%error, "work that has ended long ago is not forgotten yet");
        }
        Ok(track.status())
    }

    /// A piece of work that has to begin, or the one like it that was left.
    fn begun_or_left(&self, work: Work) -> (u64, Kept) {
        let known = self.0.known();
        let left = known.iter().rev().find(|(_, piece)| {
            let status = piece.track.status();
            let ended = matches!(status.state, WorkState::Done | WorkState::Running);
            !ended && goes_on(&status.work, &work)
        });
        if let Some((number, piece)) = left {
            let mut kept = piece.track.kept();
            // How fast it goes may be another by now.
            kept.status.work = work;
            return (*number, kept);
        }
        let number = known.keys().next_back().map_or(1, |last| last + 1);
        (number, fresh(format!("{}-{number}", work.kind()), work, &self.0.sides.clock))
    }

    async fn forget_oldest(&self) -> store::Result<()> {
        let forgotten: Vec<String> = {
            let mut known = self.0.known();
            let mut names = Vec::new();
            while known.len() > REMEMBERED {
                let Some((_, piece)) = known.pop_first() else { break };
                names.push(piece.track.status().id);
            }
            names
        };
        for name in forgotten {
            self.0.sides.database.forget_job(&name).await?;
        }
        Ok(())
    }

    /// Every piece of work that is known, the latest first.
    pub fn list(&self) -> Vec<WorkStatus> {
        self.0.known().values().rev().map(|piece| piece.track.status()).collect()
    }

    /// The piece of work of that id.
    pub fn get(&self, id: &str) -> Option<WorkStatus> {
        self.0.find(id).map(|piece| piece.track.status())
    }

    /// Stops a piece of work, which can go on later, and waits until it has stopped. One that has ended stays as it is.
    pub async fn cancel(&self, id: &str) -> Option<WorkStatus> {
        let piece = self.0.find(id)?;
        piece.cancel.cancel();
        while piece.is_running() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Some(piece.track.status())
    }

    /// Waits until everything has stopped that the end of the process stops.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Piece>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Option<Piece> {
        let piece = self.known().get(&number_of(id)?).cloned()?;
        (piece.track.status().id == id).then_some(piece)
    }

    /// Does a piece of work to its end, or until it is stopped, and writes down what came of it.
    async fn run(&self, Piece { track, cancel }: Piece) {
        let sides = self.sides.clone();
        let ended = match track.work() {
            Work::Migrate(options) => {
                let migration = Migration::new(sides, options, track.clone(), cancel.clone());
                Box::pin(migration.run()).await
            }
            Work::Verify(options) => {
                let verification = Verification::new(sides, options, track.clone(), cancel.clone());
                Box::pin(verification.run()).await
            }
        };
        let (state, error) = match ended {
            Ok(()) => (WorkState::Done, None),
            Err(Halt::Stopped) if self.stop.is_cancelled() => (WorkState::Interrupted, None),
            Err(Halt::Stopped) => (WorkState::Cancelled, None),
            Err(Halt::Failed(why)) => (WorkState::Failed, Some(why)),
        };
        // Written down as it will be seen: who sees the end can rely on it.
        let ending = track.ending(state, error.clone());
        if let Err(error) = self.sides.database.save_job(ending.job()).await {
            tracing::error!(%error, "the end of a piece of work could not be written down");
        }
        track.end(state, error);
        let status = track.status();
        tracing::info!(
            id = status.id,
            ?state,
            done = status.done,
            error = status.error,
            "long work has ended"
        );
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("sides", &self.0.sides).finish_non_exhaustive()
    }
}

/// The number in an id.
fn number_of(id: &str) -> Option<u64> {
    let (kind, number) = id.rsplit_once('-')?;
    if ["migrate", "verify"].contains(&kind) { number.parse().ok() } else { None }
}

/// Whether a migration that was left is the one that is asked for.
fn goes_on(left: &Work, asked: &Work) -> bool {
    let (Work::Migrate(left), Work::Migrate(asked)) = (left, asked) else { return false };
    let same = |a: &MigrateOptions, b: &MigrateOptions| (a.to, &a.urls, a.since) == (b.to, &b.urls, b.since);
    !asked.restart && !asked.dry_run && !left.dry_run && same(left, asked)
}

/// What is wrong with the options.
fn check(work: &Work, alone: bool) -> Result<(), String> {
    let batch = |size: usize| match size {
        1..=1000 => Ok(()),
        _ => Err(format!("batch_size is {size}, and must be 1 to 1000")),
    };
    match work {
        Work::Migrate(MigrateOptions {
            batch_size, concurrency, units_per_second, urls, exclusive, ..
        }) => {
            batch(*batch_size)?;
            if *exclusive && !alone {
                return Err("exclusive is for a data directory that no service has open".to_owned());
            }
            if !(1..=256).contains(concurrency) {
                return Err(format!("concurrency is {concurrency}, and must be 1 to 256"));
            }
            if *units_per_second == Some(0) {
                return Err("units_per_second must be at least 1".to_owned());
            }
            if urls.iter().any(String::is_empty) {
                return Err("a url is empty".to_owned());
            }
            Ok(())
        }
        Work::Verify(VerifyOptions { sample, batch_size, .. }) => {
            batch(*batch_size)?;
            if *sample > 0.0 && *sample <= 1.0 {
                Ok(())
            } else {
                Err(format!("sample is {sample}, and must be more than 0 and at most 1"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let migrate = |options| check(&Work::Migrate(options), false).is_ok();
        assert!(migrate(MigrateOptions::default()));
        let exclusive = MigrateOptions { exclusive: true, ..MigrateOptions::default() };
        assert!(!migrate(exclusive.clone()) && check(&Work::Migrate(exclusive), true).is_ok());
        assert!(!migrate(MigrateOptions { batch_size: 0, ..MigrateOptions::default() }));
        assert!(!migrate(MigrateOptions { batch_size: 1001, ..MigrateOptions::default() }));
        assert!(!migrate(MigrateOptions { concurrency: 257, ..MigrateOptions::default() }));
        assert!(!migrate(MigrateOptions { units_per_second: Some(0), ..MigrateOptions::default() }));
        assert!(!migrate(MigrateOptions { urls: vec![String::new()], ..MigrateOptions::default() }));
        let verify = |sample| {
            check(&Work::Verify(VerifyOptions { sample, ..VerifyOptions::default() }), false).is_ok()
        };
        assert!(verify(1.0) && verify(0.001) && !verify(0.0) && !verify(1.1) && !verify(f64::NAN));
    }

    #[test]
    fn only_the_same_migration_goes_on() {
        let migrate = |options| Work::Migrate(options);
        let left = migrate(MigrateOptions { batch_size: 7, ..MigrateOptions::default() });
        assert!(goes_on(&left, &migrate(MigrateOptions { concurrency: 3, ..MigrateOptions::default() })));
        for other in [
            MigrateOptions { restart: true, ..MigrateOptions::default() },
            MigrateOptions { dry_run: true, ..MigrateOptions::default() },
            MigrateOptions { urls: vec!["https://a/".to_owned()], ..MigrateOptions::default() },
            MigrateOptions { to: crate::domain::routing::Side::Sqlite, ..MigrateOptions::default() },
        ] {
            assert!(!goes_on(&left, &migrate(other.clone())), "{other:?}");
        }
        assert!(!goes_on(&left, &Work::Verify(VerifyOptions::default())));
        assert_eq!(
            (number_of("migrate-12"), number_of("other-1"), number_of("verify-x")),
            (Some(12), None, None)
        );
    }
}
