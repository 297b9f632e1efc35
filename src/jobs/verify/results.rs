//! Compares results: those of SQLite by their metadata and, if asked for, their bodies; then those that it lacks.

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, stream};

use super::super::insist::Halt;
use super::super::purse::read_cost;
use super::super::track::{Kind, Tally, What};
use super::super::window::Window;
use super::verdict::{Both, Held, Here, Subject, There, Verdict};
use super::{AT_ONCE, BATCHES, SEGMENTS, Verification};
use crate::domain::{Entry, Key, KeyId, Meta};
use crate::store::dynamodb::{ScanPage, Scanned, Segment};
use crate::store::sqlite::ledger::Known;
use crate::store::sqlite::ledger::walk::Walked;
use crate::store::{Look, ResultStore};

impl Verification {
    /// What SQLite holds, against DynamoDB.
    pub(super) async fn results_here(&self) -> Result<(), Halt> {
        let mut window = Window::new(BATCHES);
        let (mut after, mut ended) = (0, false);
        loop {
            while !ended && !window.is_full() {
                let (since, limit) = (self.options.since, self.options.batch_size);
                let batch = self.insist.must(|| self.sides.database.walk_metas(after, since, limit)).await?;
                let Some(row) = batch.last().map(|last| last.row) else {
                    ended = true;
                    break;
                };
                after = row;
                let verification = self.clone();
                window.begin(async move { Box::pin(verification.compare(batch)).await });
            }
            let Some(tally) = window.end().await else { return Ok(()) };
            self.enter(tally?).await?;
        }
    }

    async fn compare(&self, batch: Vec<Walked<Meta>>) -> Result<Tally, Halt> {
        let (mut tally, mut metas) = (Tally::default(), Vec::with_capacity(batch.len()));
        for Walked { row, item } in batch {
            match item {
                Ok(meta) if self.samples(meta.key.id()) => metas.push(meta),
                // Beside the sample.
                Ok(_) => tally.done += 1,
                Err(wrong) => {
                    let detail = format!("in SQLite: {wrong}");
                    tally.find(What::Unknown(Kind::Result, row), "unreadable", detail);
                }
            }
        }
        if metas.is_empty() {
            return Ok(tally);
        }
        let keys: Vec<Key> = metas.iter().map(|meta| meta.key.clone()).collect();
        let estimate = metas.iter().map(|meta| read_cost(meta.layout.stored_size())).sum();
        let look = self.insist.must(|| self.sides.results.look_metas(&keys));
        let looks = self.purse.spend(estimate, look).await?;
        let (now, mut suspects, mut same) = (self.sides.clock.now(), Vec::new(), Vec::new());
        for (meta, look) in metas.into_iter().zip(looks) {
            let key = meta.key.clone();
            let there = match look {
                Look::Entry(meta) => There::Held(Held::Result(Box::new(meta))),
                Look::Deleted(version) => There::Deleted(version),
                Look::Absent => There::Absent,
            };
            let here = Here::Held(Held::Result(Box::new(meta)));
            let both = Both { here, there, known: Known::default() };
            match both.verdict(now) {
                Verdict::Equal if self.options.content => same.push((key, both)),
                verdict if verdict.is_good() => tally.count(Kind::Result, verdict.outcome()),
                _ => suspects.push((Subject::Result(key), both)),
            }
        }
        Box::pin(self.compare_contents(same, &mut tally, &mut suspects)).await?;
        self.settle(suspects, &mut tally).await?;
        Ok(tally)
    }

    /// Compares the bodies of entries that are otherwise the same.
    async fn compare_contents(
        &self,
        same: Vec<(Key, Both)>,
        tally: &mut Tally,
        suspects: &mut Vec<(Subject, Both)>,
    ) -> Result<(), Halt> {
        let compared = stream::iter(same).map(|(key, both)| async move {
            let verdict = self.contents(&key).await?;
            Ok::<_, Halt>((key, both, verdict))
        });
        let mut compared = Box::pin(compared.buffer_unordered(AT_ONCE));
        while let Some(compared) = compared.next().await {
            let (key, both, verdict) = compared?;
            match verdict {
                Verdict::Equal => tally.count(Kind::Result, "equal"),
                verdict @ (Verdict::Different(_) | Verdict::Unreadable(_)) => {
                    // The metadata stayed the same: nobody has written, and another look would say no more.
                    Box::pin(self.report(&Subject::Result(key), &both, verdict, tally)).await?;
                }
                _ => suspects.push((Subject::Result(key), both)),
            }
        }
        Ok(())
    }

    /// What the bodies of a key come to; [`Verdict::Pending`] if somebody has written meanwhile.
    pub(super) async fn contents(&self, key: &Key) -> Result<Verdict, Halt> {
        let (here, there) = match (self.entry_here(key).await?, self.entry_there(key).await?) {
            (Ok(Some(here)), Ok(Some(there))) => (here, there),
            (Err(error), _) => return Ok(Verdict::Unreadable(format!("in SQLite: {error}"))),
            (_, Err(error)) => return Ok(Verdict::Unreadable(format!("in DynamoDB: {error}"))),
            _ => return Ok(Verdict::Pending),
        };
        if here.meta.version != there.meta.version {
            return Ok(Verdict::Pending);
        }
        // Decoding takes time.
        let same = tokio::task::spawn_blocking(move || same_content(&here, &there)).await;
        Ok(match same.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
            Ok(true) => Verdict::Equal,
            Ok(false) => Verdict::Different(vec!["content".to_owned()]),
            Err(wrong) => Verdict::Unreadable(wrong),
        })
    }

    /// What only DynamoDB has.
    pub(super) async fn results_there(&self) -> Result<(), Halt> {
        try_join_all((0..SEGMENTS).map(|number| self.results_segment(number))).await?;
        Ok(())
    }

    async fn results_segment(&self, number: u32) -> Result<(), Halt> {
        let mut segment = Segment { number, of: SEGMENTS, after: None };
        loop {
            let limit = self.options.batch_size;
            let scan = self.insist.must(|| self.sides.results.scan(&segment, limit, false));
            let ScanPage { items, next } = self.purse.spend(1.0, scan).await?;
            let mut tally = Tally::default();
            let mut found: Vec<(Key, There)> = Vec::new();
            for item in items {
                let (key, there) = match item {
                    Scanned::Entry { meta, .. } if self.admits(meta.updated_at) => {
                        (meta.key.clone(), There::Held(Held::Result(meta)))
                    }
                    Scanned::Unreadable { key, wrong } => (key, There::Unreadable(wrong)),
                    Scanned::Entry { .. } | Scanned::Deleted { .. } => {
                        tally.done += 1;
                        continue;
                    }
                };
                if self.samples(key.id()) {
                    found.push((key, there));
                } else {
                    tally.done += 1;
                }
            }
            let ids: Vec<KeyId> = found.iter().map(|(key, _)| key.id()).collect();
            let known = self.insist.must(|| self.sides.database.known(&ids)).await?;
            let mut suspects = Vec::new();
            for ((key, there), known) in found.into_iter().zip(known) {
                if known.held.is_some() {
                    // Compared before.
                    tally.done += 1;
                    continue;
                }
                let both = Both { here: Here::Absent, there, known };
                match both.verdict(self.sides.clock.now()) {
                    verdict if verdict.is_good() => tally.count(Kind::Result, verdict.outcome()),
                    _ => suspects.push((Subject::Result(key), both)),
                }
            }
            self.settle(suspects, &mut tally).await?;
            self.enter(tally).await?;
            match next {
                Some(after) => segment.after = Some(after),
                None => return Ok(()),
            }
        }
    }
}

/// Whether two entries say the same. Their frames need not be equal for that.
fn same_content(here: &Entry, there: &Entry) -> Result<bool, String> {
    if here.frame == there.frame {
        return Ok(true);
    }
    let decode =
        |entry: &Entry, side| entry.document().decode().map_err(|error| format!("in {side}: {error}"));
    Ok(decode(here, "SQLite")? == decode(there, "DynamoDB")?)
}
