//! Compares both sides and mends what differs: everything that SQLite holds against DynamoDB, and then what only
//! DynamoDB has.
//!
//! Others go on writing meanwhile, and no look at two sides is of one moment. So what seems to differ is looked at
//! again after a while, and counts only if neither side has moved in between and the outbox holds nothing of it.

mod look;
mod repair;
mod results;
mod sessions;
mod verdict;

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use self::verdict::{Both, Subject, Verdict};
use super::insist::{Halt, Insist};
use super::purse::Purse;
use super::sides::Sides;
use super::track::{Tally, Track};
use crate::domain::work::VerifyOptions;
use crate::domain::{KeyId, Timestamp};
use crate::store::{ResultStore, SessionStore};

/// Before something that seems to differ is looked at again, for the first time.
const PAUSE: Duration = Duration::from_millis(200);

/// How often something is looked at again that keeps moving.
const LOOKS: u32 = 4;

/// Things that are looked at again, or mended, at once.
const AT_ONCE: usize = 32;

/// Batches that are under way at once.
const BATCHES: usize = 4;

/// Segments of DynamoDB's tables that are walked at once.
const SEGMENTS: u32 = 4;

/// One verification under way. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Verification {
    sides: Sides,
    options: VerifyOptions,
    track: Track,
    purse: Purse,
    insist: Insist,
}

impl Verification {
    pub(super) fn new(sides: Sides, options: VerifyOptions, track: Track, stop: CancellationToken) -> Self {
        let insist = Insist { stop, patience: sides.patience };
        Self { sides, options, track, purse: Purse::new(None), insist }
    }

    /// Compares until all is compared, or it cannot go on.
    pub(super) async fn run(&self) -> Result<(), Halt> {
        self.track.begin(&self.purse);
        let _copies = self.options.repair.then(|| self.sides.database.begin_copies());
        let (results, sessions) =
            self.insist.must(|| self.sides.database.walk_counts(self.options.since)).await?;
        let there = self.insist.must(|| ResultStore::status(&self.sides.results)).await?.entries
            + self.insist.must(|| SessionStore::status(&self.sides.sessions)).await?.sessions;
        self.track.expect(results + sessions + there);
        self.results_here().await?;
        self.results_there().await?;
        self.sessions_here().await?;
        self.sessions_there().await
    }

    /// Whether a key is in the sample: the same ones each time.
    fn samples(&self, id: KeyId) -> bool {
        let mut bits = [0; 4];
        bits.copy_from_slice(&id.as_bytes()[..4]);
        f64::from(u32::from_be_bytes(bits)) < self.options.sample * (f64::from(u32::MAX) + 1.0)
    }

    /// Whether something of that time is asked for.
    fn admits(&self, updated_at: Timestamp) -> bool {
        self.options.since.is_none_or(|since| updated_at >= since)
    }

    /// Enters a batch and writes it down, now and then.
    async fn enter(&self, tally: Tally) -> Result<(), Halt> {
        self.track.enter(tally);
        self.insist.must(|| self.track.save_in_time(&self.sides.database)).await
    }

    /// Looks again at what seems to differ, mends it if asked for, and counts what it came to.
    async fn settle(&self, suspects: Vec<(Subject, Both)>, tally: &mut Tally) -> Result<(), Halt> {
        if suspects.is_empty() {
            return Ok(());
        }
        let pause = tokio::time::sleep(PAUSE);
        self.insist.stop.run_until_cancelled(pause).await.ok_or(Halt::Stopped)?;
        let settled = stream::iter(suspects).map(|(subject, both)| self.settle_one(subject, both));
        let mut settled = Box::pin(settled.buffer_unordered(AT_ONCE));
        while let Some(settled) = settled.next().await {
            tally.absorb(settled?);
        }
        Ok(())
    }

    async fn settle_one(&self, subject: Subject, mut before: Both) -> Result<Tally, Halt> {
        let mut tally = Tally::default();
        for look in 1..=LOOKS {
            let now = self.look(&subject).await?;
            let verdict = now.verdict(self.sides.clock.now());
            if verdict.is_good() {
                tally.count(subject.what().kind(), verdict.outcome());
                return Ok(tally);
            }
            if now.versions() == before.versions() {
                Box::pin(self.report(&subject, &now, verdict, &mut tally)).await?;
                return Ok(tally);
            }
            before = now;
            let pause = tokio::time::sleep(PAUSE * 2_u32.pow(look));
            self.insist.stop.run_until_cancelled(pause).await.ok_or(Halt::Stopped)?;
        }
        // Somebody writes it all the time: both sides are alive.
        tally.count(subject.what().kind(), Verdict::Pending.outcome());
        Ok(tally)
    }

    async fn report(
        &self,
        subject: &Subject,
        both: &Both,
        verdict: Verdict,
        tally: &mut Tally,
    ) -> Result<(), Halt> {
        let mut detail = verdict.detail();
        if self.options.repair {
            let repaired = Box::pin(self.repair(subject, both, &verdict)).await?;
            let (to, outcome) = match &repaired {
                Ok(to) => (*to, "repaired"),
                Err((to, _)) => (*to, "failed"),
            };
            self.sides.metrics.repaired.with_label_values(&[to.as_str(), outcome]).inc();
            match repaired {
                Ok(to) => {
                    self.track.count("repaired", 1);
                    let _ = write!(detail, "; {to} was mended");
                }
                Err((to, why)) => {
                    self.track.count("repair_failed", 1);
                    let _ = write!(detail, "; {to} could not be mended: {why}");
                }
            }
        }
        tally.find(subject.what(), verdict.outcome(), detail);
        Ok(())
    }
}
