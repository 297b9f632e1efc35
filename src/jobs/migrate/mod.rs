//! Copies everything from one side to the other, with its own versions and times, and goes on where it was left.
//!
//! A copy never replaces anything newer, so a live service may write on both sides meanwhile: every write carries its
//! version, and what a service writes while it is copied has a newer one. What the other side has already in the same
//! or a newer version is not written again. Deletions that only SQLite knows are not copied: it keeps the ids of what
//! was deleted and no urls, and the outbox tells DynamoDB of them. Those in DynamoDB are.

mod inward;
mod outward;
mod scope;
mod sessions;

use std::sync::Arc;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::scope::Scope;
use super::insist::{Halt, Insist};
use super::purse::Purse;
use super::sides::Sides;
use super::track::Track;
use crate::domain::routing::Side;
use crate::domain::work::MigrateOptions;

/// Where a migration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// The row of the last result, on the way to DynamoDB.
    results: i64,
    /// Whether there are no more.
    results_done: bool,
    /// The row of the last session.
    sessions: i64,
    /// The segments of the table of results, on the way to SQLite.
    result_segments: Vec<Cursor>,
    /// Those of the table of sessions.
    session_segments: Vec<Cursor>,
}

/// Where one segment is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Cursor {
    after: Option<String>,
    done: bool,
}

/// One migration under way. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Migration {
    sides: Sides,
    options: MigrateOptions,
    scope: Arc<Scope>,
    track: Track,
    purse: Purse,
    insist: Insist,
    /// Requests that may still be made.
    turns: Arc<Semaphore>,
}

impl Migration {
    pub(super) fn new(sides: Sides, options: MigrateOptions, track: Track, stop: CancellationToken) -> Self {
        let scope = Arc::new(Scope::new(&options.urls, options.since));
        let purse = Purse::new(options.units_per_second);
        let insist = Insist { stop, patience: sides.patience };
        let turns = Arc::new(Semaphore::new(options.concurrency.max(1)));
        Self { sides, options, scope, track, purse, insist, turns }
    }

    /// Copies until all is copied, or it cannot go on. The place is written down all the time.
    pub(super) async fn run(&self) -> Result<(), Halt> {
        self.track.begin(&self.purse);
        match self.options.to {
            Side::Dynamodb => {
                self.results_outward().await?;
                self.sessions_outward().await
            }
            Side::Sqlite => {
                // What is written meanwhile leaves a mark, so that no older copy takes its place.
                let _copies = self.sides.database.begin_copies();
                self.results_inward().await?;
                self.sessions_inward().await
            }
        }
    }

    /// The word for what is copied.
    const fn copied(&self) -> &'static str {
        if self.options.dry_run { "would_copy" } else { "copied" }
    }

    /// Writes down where it is, now and then.
    async fn save(&self) -> Result<(), Halt> {
        // Nothing of a dry run has to go on.
        if self.options.dry_run {
            return Ok(());
        }
        self.insist.must(|| self.track.save_in_time(&self.sides.database)).await
    }

    /// Does pieces of work on all cores, as many at once as may be, and waits for all.
    async fn together<T, F>(&self, pieces: impl IntoIterator<Item = F>) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let started = pieces.into_iter().map(|piece| {
            let turns = Arc::clone(&self.turns);
            #[expect(
                clippy::disallowed_methods,
                reason = "it is waited for below, and ends with whoever waits"
            )]
            AbortOnDropHandle::new(tokio::spawn(async move {
                let _turn = turns.acquire().await.expect("it is never closed");
                piece.await
            }))
        });
        let ended = join_all(started.collect::<Vec<_>>()).await;
        ended
            .into_iter()
            .map(|piece| piece.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
            .collect()
    }
}
