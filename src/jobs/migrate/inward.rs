//! Results from DynamoDB to SQLite: segments of the table side by side, each with a place of its own.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::Mutex;

use super::super::insist::Halt;
use super::super::purse::read_cost;
use super::super::sides::whole;
use super::super::track::{Kind, Tally, What};
use super::{Cursor, Migration, Place};
use crate::domain::{Entry, Key, KeyId, Meta, Version};
use crate::store::dynamodb::{ScanPage, Scanned, Segment};
use crate::store::sqlite::ledger::{Beside, Fenced, Known};
use crate::store::{Error, GetOptions, PutOutcome, Result as StoreResult, ResultStore, SessionStore};

/// Segments that are walked at once, at most.
const MOST_SEGMENTS: usize = 8;

/// What an item of the table takes, about, as long as none was seen.
const USUAL_BYTES: u64 = 4096;

/// The places of all segments: each is moved by its own walk.
pub(super) type Places = Arc<Mutex<Place>>;

/// An entry that SQLite lacks.
struct Lacking {
    meta: Box<Meta>,
    /// Where it came with the item.
    frame: Option<Bytes>,
}

impl Migration {
    pub(super) async fn results_inward(&self) -> Result<(), Halt> {
        let sides = &self.sides;
        let results = self.insist.must(|| ResultStore::status(&sides.results)).await?.entries;
        let sessions = if self.scope.names_urls() {
            0
        } else {
            self.insist.must(|| SessionStore::status(&sides.sessions)).await?.sessions
        };
        self.track.expect(results + sessions);
        let mut place: Place = self.track.place();
        if place.result_segments.is_empty() {
            place.result_segments = vec![Cursor::default(); self.segments()];
        }
        let cursors = place.result_segments.clone();
        let places: Places = Arc::new(Mutex::new(place));
        let walks = cursors.into_iter().enumerate();
        try_join_all(walks.map(|(number, cursor)| self.results_segment(number, cursor, &places))).await?;
        Ok(())
    }

    /// How many segments a table is walked in.
    pub(super) fn segments(&self) -> usize {
        self.options.concurrency.clamp(1, MOST_SEGMENTS)
    }

    async fn results_segment(&self, number: usize, mut cursor: Cursor, places: &Places) -> Result<(), Halt> {
        let of = u32::try_from(places.lock().await.result_segments.len()).unwrap_or(1);
        // Bodies come with the items as long as they are needed.
        let mut frames = !self.options.dry_run && !self.scope.names_urls();
        while !cursor.done {
            let segment =
                Segment { number: u32::try_from(number).unwrap_or(0), of, after: cursor.after.take() };
            let limit = self.options.batch_size;
            let scan = self.insist.must(|| self.sides.results.scan(&segment, limit, frames));
            let estimate = limit as u64 * USUAL_BYTES / 4096;
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let ScanPage { items, next } = self.purse.spend(estimate as f64, scan).await?;
            let (tally, lacking) = self.copy_page(items).await?;
            frames = lacking && !self.options.dry_run && !self.scope.names_urls();
            cursor = Cursor { done: next.is_none(), after: next };
            let mut place = places.lock().await;
            place.result_segments[number] = cursor.clone();
            self.track.enter_at(tally, serde_json::to_value(&*place).expect("it has text keys"));
            drop(place);
            self.save().await?;
        }
        Ok(())
    }

    /// Copies what SQLite lacks of a page, and says whether that was anything.
    async fn copy_page(&self, items: Vec<Scanned>) -> Result<(Tally, bool), Halt> {
        let (mut tally, mut pieces, mut deletions) = (Tally::default(), Vec::new(), Vec::new());
        let known = self.known(&items).await?;
        for (item, known) in items.into_iter().zip(known) {
            match item {
                Scanned::Unreadable { key, wrong } => tally.find(What::Result(&key), "failed", wrong),
                Scanned::Entry { meta, .. }
                    if !self.scope.admits(&meta.key) || !self.scope.admits_time(meta.updated_at) =>
                {
                    tally.count(Kind::Result, "skipped");
                }
                Scanned::Entry { meta, .. } if self.sides.is_over(meta.expires_at) => {
                    tally.count(Kind::Result, "expired");
                }
                Scanned::Entry { meta, .. } if holds(&known, meta.version) => {
                    tally.count(Kind::Result, "present");
                }
                Scanned::Entry { meta, frame } => pieces.push(Lacking { meta, frame }),
                Scanned::Deleted { key, .. } if !self.scope.admits(&key) => {
                    tally.count(Kind::Tombstone, "skipped");
                }
                Scanned::Deleted { version, .. } if holds(&known, version) => {
                    tally.count(Kind::Tombstone, "present");
                }
                Scanned::Deleted { key, version } => deletions.push((key, version)),
            }
        }
        let lacking = !pieces.is_empty();
        if self.options.dry_run {
            for Lacking { meta, .. } in &pieces {
                tally.count(Kind::Result, self.copied());
                tally.bytes += meta.layout.stored_size();
            }
            deletions.iter().for_each(|_| tally.count(Kind::Tombstone, self.copied()));
            return Ok((tally, lacking));
        }
        let ids: Vec<KeyId> = pieces
            .iter()
            .map(|piece| piece.meta.key.id())
            .chain(deletions.iter().map(|(key, _)| key.id()))
            .collect();
        let copies = pieces.into_iter().map(|piece| {
            let migration = self.clone();
            async move { migration.put_inward(piece).await }
        });
        let copies = self.together(copies.collect::<Vec<_>>()).await;
        for (key, version) in deletions {
            self.insist.must(|| self.sides.database.supersede(&key, version, true)).await?;
            tally.count(Kind::Tombstone, self.copied());
        }
        self.sides.changed(&ids);
        for copy in copies {
            tally.absorb(copy?);
        }
        Ok((tally, lacking))
    }

    /// What SQLite knows of the key of each item.
    async fn known(&self, items: &[Scanned]) -> Result<Vec<Known>, Halt> {
        let id = |item: &Scanned| match item {
            Scanned::Entry { meta, .. } => meta.key.id(),
            Scanned::Deleted { key, .. } | Scanned::Unreadable { key, .. } => key.id(),
        };
        let ids: Vec<KeyId> = items.iter().map(id).collect();
        self.insist.must(|| self.sides.database.known(&ids)).await
    }

    async fn put_inward(&self, Lacking { meta, frame }: Lacking) -> Result<Tally, Halt> {
        let mut tally = Tally::default();
        let entry = match frame {
            Some(frame) => Entry { meta: *meta, frame },
            None => match self.fetch(&meta.key, meta.layout.stored_size()).await? {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    tally.count(Kind::Result, "skipped");
                    return Ok(tally);
                }
                Err(error) => {
                    tally.find(What::Result(&meta.key), "failed", error.to_string());
                    return Ok(tally);
                }
            },
        };
        let (key, bytes) = (entry.meta.key.clone(), entry.frame.len() as u64);
        if let Some(limit) = self.sides.database.limit_bytes().filter(|limit| bytes > *limit) {
            let detail = format!("a body of {bytes} bytes cannot fit in sqlite.max_bytes = {limit}");
            tally.find(What::Result(&key), "failed", detail);
            return Ok(tally);
        }
        let put = whole(entry);
        match self.insist.on(|| self.sides.database.put_beside(put.clone(), None, Beside::Nothing)).await? {
            Ok(Fenced::Done(PutOutcome::Superseded)) => tally.count(Kind::Result, "present"),
            Ok(Fenced::Done(PutOutcome::ConditionFailed) | Fenced::Outdated) => {
                tally.find(What::Result(&key), "failed", "it was refused");
            }
            Ok(Fenced::Done(_)) => {
                tally.count(Kind::Result, self.copied());
                tally.bytes += bytes;
            }
            Err(error) => tally.find(What::Result(&key), "failed", error.to_string()),
        }
        Ok(tally)
    }

    /// An entry with its body; nothing if it has gone meanwhile.
    async fn fetch(&self, key: &Key, bytes: u64) -> Result<StoreResult<Option<Entry>>, Halt> {
        let get = self.insist.on(|| self.sides.results.get(key, GetOptions::scan()));
        let got: Result<_, Error> = self.purse.spend(read_cost(bytes), get).await?;
        Ok(got.map(|hit| hit.map(|hit| Arc::unwrap_or_clone(hit.entry))))
    }
}

/// Whether SQLite holds this version or a newer one, or has deleted it.
fn holds(known: &Known, version: Version) -> bool {
    known.held.is_some_and(|held| held >= version)
        || known.tombstone.is_some_and(|tombstone| tombstone.version >= version)
}
