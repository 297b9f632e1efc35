//! Results from SQLite to DynamoDB: row after row, several batches under way, and the place written down behind those
//! that are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::insist::Halt;
use super::super::purse::{read_cost, write_cost};
use super::super::sides::whole;
use super::super::track::{Kind, Tally, What};
use super::super::window::Window;
use super::{Migration, Place};
use crate::domain::{Entry, Key, Meta, Version};
use crate::store::dynamodb::{DynamodbResults, Inserted, Segment};
use crate::store::sqlite::ledger::walk::Walked;
use crate::store::{GetOptions, Look, PutOutcome, ResultStore};

/// Bodies of one batch in bytes, about.
const BATCH_BYTES: usize = 4 << 20;

/// Batches that are under way at once, at most.
const MOST_BATCHES: usize = 16;

/// A result on its way: with its body, or still without.
enum Carried {
    Whole(Box<Entry>),
    Meta(Box<Meta>),
}

impl Carried {
    fn meta(&self) -> &Meta {
        match self {
            Self::Whole(entry) => &entry.meta,
            Self::Meta(meta) => meta,
        }
    }
}

impl Migration {
    pub(super) async fn results_outward(&self) -> Result<(), Halt> {
        let mut place: Place = self.track.place();
        let (results, sessions) =
            self.insist.must(|| self.sides.database.walk_counts(self.options.since)).await?;
        self.track.expect(if self.scope.names_urls() { results } else { results + sessions });
        if place.results_done {
            return Ok(());
        }
        // Whether it is worth asking what is there: not while nothing ever is.
        let empty = self.options.exclusive && place == Place::default() && self.is_empty_there().await?;
        let asks = Arc::new(AtomicBool::new(!empty));
        let depth = (self.options.concurrency * DynamodbResults::INSERTS)
            .div_ceil(self.options.batch_size.max(1))
            .clamp(2, MOST_BATCHES);
        let mut window = Window::new(depth);
        let (mut after, mut ended) = (place.results, false);
        loop {
            while !ended && !window.is_full() {
                let batch = self.walk(after).await?;
                let Some(row) = batch.last().map(|last| last.row) else {
                    ended = true;
                    break;
                };
                after = row;
                let (migration, asks) = (self.clone(), Arc::clone(&asks));
                window.begin(async move { (row, migration.copy_batch(batch, &asks).await) });
            }
            let Some((row, tally)) = window.end().await else { break };
            place.results = row;
            self.track.enter_at(tally?, serde_json::to_value(&place).expect("it has text keys"));
            self.save().await?;
        }
        place.results_done = true;
        self.track.enter_at(Tally::default(), serde_json::to_value(&place).expect("it has text keys"));
        Ok(())
    }

    /// Whether DynamoDB has no result at all.
    async fn is_empty_there(&self) -> Result<bool, Halt> {
        let mut segment = Segment { number: 0, of: 1, after: None };
        loop {
            // A page may hold nothing and not be the last one.
            let scan = self.insist.must(|| self.sides.results.scan(&segment, 1, false));
            let page = self.purse.spend(1.0, scan).await?;
            match page.next {
                _ if !page.items.is_empty() => return Ok(false),
                Some(after) => segment.after = Some(after),
                None => return Ok(true),
            }
        }
    }

    /// The next results. Without bodies where few of them will be needed.
    async fn walk(&self, after: i64) -> Result<Vec<Walked<Carried>>, Halt> {
        if self.insist.stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let (database, since, limit) = (&self.sides.database, self.options.since, self.options.batch_size);
        if self.options.dry_run || self.scope.names_urls() {
            let walked = self.insist.must(|| database.walk_metas(after, since, limit)).await?;
            let carried = |Walked { row, item }: Walked<Meta>| Walked {
                row,
                item: item.map(|meta| Carried::Meta(Box::new(meta))),
            };
            return Ok(walked.into_iter().map(carried).collect());
        }
        let walked = self.insist.must(|| database.walk_entries(after, since, limit, BATCH_BYTES)).await?;
        let carried = |Walked { row, item }: Walked<Entry>| Walked {
            row,
            item: item.map(Box::new).map(Carried::Whole),
        };
        Ok(walked.into_iter().map(carried).collect())
    }

    /// Copies a batch, and says what became of it.
    async fn copy_batch(&self, batch: Vec<Walked<Carried>>, asks: &AtomicBool) -> Result<Tally, Halt> {
        let mut tally = Tally::default();
        let mut wanted = Vec::with_capacity(batch.len());
        for Walked { row, item } in batch {
            match item {
                Err(wrong) => tally.find(What::Unknown(Kind::Result, row), "failed", wrong),
                Ok(carried) if !self.scope.admits(&carried.meta().key) => {
                    tally.count(Kind::Result, "skipped");
                }
                Ok(carried) if self.sides.is_over(carried.meta().expires_at) => {
                    tally.count(Kind::Result, "expired");
                }
                Ok(carried) => wanted.push(carried),
            }
        }
        let asked = asks.load(Ordering::Relaxed);
        let mut old = Vec::new();
        if asked && !wanted.is_empty() {
            let before = wanted.len();
            (wanted, old) = self.without_present(wanted).await?;
            let there = before - wanted.len() - old.len();
            (0..there).for_each(|_| tally.count(Kind::Result, "present"));
            // What is written without a condition has to be asked for each time.
            if there == 0 && old.is_empty() && !self.options.dry_run && !self.options.exclusive {
                asks.store(false, Ordering::Relaxed);
            }
        }
        if self.options.dry_run {
            for carried in wanted.iter().chain(&old) {
                let bytes = carried.meta().layout.stored_size();
                tally.count(Kind::Result, self.copied());
                tally.bytes += bytes;
                tally.write_units += write_cost(bytes);
            }
            return Ok(tally);
        }
        let left = self.insert(wanted, &mut tally).await?;
        if !asked && !left.is_empty() && !self.options.exclusive {
            // Something is there after all: a request for what is costs less than one that is refused.
            asks.store(true, Ordering::Relaxed);
        }
        let rest = left.into_iter().chain(old).map(|carried| {
            let migration = self.clone();
            async move { migration.put_outward(carried).await }
        });
        for put in self.together(rest.collect::<Vec<_>>()).await {
            tally.absorb(put?);
        }
        Ok(tally)
    }

    /// What DynamoDB lacks, and what it has in an older version.
    async fn without_present(&self, wanted: Vec<Carried>) -> Result<(Vec<Carried>, Vec<Carried>), Halt> {
        let keys: Vec<Key> = wanted.iter().map(|carried| carried.meta().key.clone()).collect();
        let estimate: f64 =
            wanted.iter().map(|carried| read_cost(carried.meta().layout.stored_size()) / 2.0).sum();
        let look = self.insist.must(|| self.sides.results.look_metas(&keys));
        let (mut missing, mut old) = (Vec::new(), Vec::new());
        for (carried, look) in wanted.into_iter().zip(self.purse.spend(estimate, look).await?) {
            match version_of(&look) {
                None => missing.push(carried),
                Some(version) if version < carried.meta().version => old.push(carried),
                Some(_) => {}
            }
        }
        Ok((missing, old))
    }

    /// Inserts what is not there yet, many a request. Returns what has to be put one by one.
    async fn insert(&self, wanted: Vec<Carried>, tally: &mut Tally) -> Result<Vec<Carried>, Halt> {
        let (mut left, mut entries) = (Vec::new(), Vec::new());
        for carried in wanted {
            match carried {
                Carried::Whole(entry) => entries.push(*entry),
                // What few are wanted of is read one by one, too.
                carried @ Carried::Meta(_) => left.push(carried),
            }
        }
        let mut chunks = Vec::new();
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(DynamodbResults::INSERTS));
            chunks.push(std::mem::replace(&mut entries, rest));
        }
        let inserts = chunks.into_iter().map(|chunk| {
            let migration = self.clone();
            async move {
                let estimate = chunk.iter().map(|entry| write_cost(entry.frame.len() as u64)).sum();
                let several: Vec<&Entry> = chunk.iter().collect();
                let results = &migration.sides.results;
                // Where the request as a whole is refused, the ordinary put will say why.
                let inserted = if migration.options.exclusive {
                    let write = migration.insist.on(|| results.write_absent(&several));
                    migration.purse.spend(estimate, write).await?
                } else {
                    let insert = migration.insist.on(|| results.insert(&several));
                    migration.purse.spend(estimate, insert).await?
                };
                let inserted = inserted.unwrap_or_default();
                Ok::<_, Halt>((chunk, inserted))
            }
        });
        for inserted in self.together(inserts.collect::<Vec<_>>()).await {
            let (chunk, inserted) = inserted?;
            let outcomes = inserted.into_iter().chain(std::iter::repeat(Inserted::Not));
            for (entry, outcome) in chunk.into_iter().zip(outcomes) {
                match outcome {
                    Inserted::Created => {
                        tally.count(Kind::Result, self.copied());
                        tally.bytes += entry.frame.len() as u64;
                    }
                    Inserted::Not => left.push(Carried::Whole(Box::new(entry))),
                }
            }
        }
        Ok(left)
    }

    /// Puts one result, whatever is there and however large it is.
    async fn put_outward(&self, carried: Carried) -> Result<Tally, Halt> {
        let mut tally = Tally::default();
        let entry = match carried {
            Carried::Whole(entry) => *entry,
            Carried::Meta(meta) => {
                let database = &self.sides.database;
                let read =
                    self.insist.on(|| ResultStore::get(database, &meta.key, GetOptions::scan())).await?;
                match read {
                    Ok(Some(hit)) => Arc::unwrap_or_clone(hit.entry),
                    // Gone, or owned by DynamoDB, since the walk.
                    Ok(None) => {
                        tally.count(Kind::Result, "skipped");
                        return Ok(tally);
                    }
                    Err(error) => {
                        tally.find(What::Result(&meta.key), "failed", error.to_string());
                        return Ok(tally);
                    }
                }
            }
        };
        let (key, bytes) = (entry.meta.key.clone(), entry.frame.len() as u64);
        let put = whole(entry);
        let call = self.insist.on(|| self.sides.results.put(put.clone()));
        match self.purse.spend(write_cost(bytes), call).await? {
            Ok(PutOutcome::Superseded) => tally.count(Kind::Result, "present"),
            Ok(PutOutcome::ConditionFailed) => tally.find(What::Result(&key), "failed", "it was refused"),
            Ok(_) => {
                tally.count(Kind::Result, self.copied());
                tally.bytes += bytes;
            }
            Err(error) => tally.find(What::Result(&key), "failed", error.to_string()),
        }
        Ok(tally)
    }
}

/// The version of what is there.
fn version_of(look: &Look<Meta>) -> Option<Version> {
    match look {
        Look::Entry(meta) => Some(meta.version),
        Look::Deleted(version) => Some(*version),
        Look::Absent => None,
    }
}
