//! Memory in front of a store: bounded in bytes, one load a key at a time, never behind a write.
//!
//! What makes it correct is a number a stripe of keys, the *epoch*. A load notes the epoch before it reads
//! the inner store, and keeps what it found only if the epoch is still the same; a write moves the epoch
//! when it has been committed and replaces the copy in the same critical section. So a load that began
//! before a write can neither leave the old entry behind nor be joined by a reader who came after.
//!
//! Memory is the last to go: where the store behind cannot be asked, a copy that is no longer trusted answers for some
//! time more, and says so ([`Via::Outage`]). Never to a caller who reads past every copy.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::circuit::Circuit;
use super::{
    Condition, DeleteOutcome, Error, GetOptions, Hit, ListQuery, Look, Page, Placed, Put, PutOutcome, Result,
    ResultStore, Seen, Source, Status, Via,
};
use crate::domain::{Entry, Key, KeyId, Meta, Version};

/// Stripes of keys: enough that writes seldom disturb loads of other keys.
const STRIPES: usize = 1024;

/// The typical weight of an entry, which sizes the cache's own tables.
const TYPICAL_ENTRY_BYTES: u64 = 16 << 10;

/// An entry larger than this share of the tier is not kept: it would push out hundreds of others.
const LARGEST_SHARE: u64 = 8;

/// How long a store that others share may take to show a write to every read: AWS says usually within a second.
const SETTLING: Duration = Duration::from_secs(5);

/// How much longer than usual a store may take over a MiB of a body before a copy of it answers instead.
const PER_MEBIBYTE: Duration = Duration::from_secs(1);

/// How much longer a store may take over each of many keys.
const PER_KEY: Duration = Duration::from_millis(1);

/// How long copies answer of a store that others write to as well.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Without asking it: for so long what others write may go unseen.
    pub trust: Duration,
    /// For so long after that, where it cannot be asked.
    pub outage: Duration,
    /// What keeps hits from waiting for it again and again when it does not answer, and how long one of them waits; none
    /// where it sees to that itself.
    pub circuit: Option<(Circuit, Duration)>,
}

/// A store with memory in front of it. Clones share both.
#[derive(Clone)]
pub struct Tiered(Arc<Inner>);

struct Inner {
    behind: Arc<dyn ResultStore>,
    copies: Arc<Copies>,
    /// Writes outlive the request that asked for them, or a client that hangs up would leave an old copy behind.
    writes: TaskTracker,
}

/// What is in memory. It does not hold the store behind, so that the store may hold it.
struct Copies {
    memory: Cache<KeyId, Copied, ByWeight>,
    max_bytes: u64,
    /// How long a copy answers; `None` where nobody else writes to the store behind.
    trust: Option<Trust>,
    /// The time, which tests set by hand.
    now: fn() -> Instant,
    stripes: Box<[Mutex<Stripe>]>,
}

/// An entry in memory, and when the read began that found it.
#[derive(Clone)]
struct Copied {
    hit: Hit,
    read: Instant,
    /// Whether others write to where it was found.
    shared: bool,
    /// Whether a write has failed since, which may have happened all the same.
    doubted: bool,
}

type Load = Shared<BoxFuture<'static, Result<Option<Hit>>>>;

#[derive(Default)]
struct Stripe {
    epoch: u64,
    /// The last write through here to a store that others share.
    written: Option<Instant>,
    loads: HashMap<KeyId, (u64, Load)>,
}

#[derive(Clone, Debug)]
struct ByWeight;

impl Weighter<KeyId, Copied> for ByWeight {
    fn weight(&self, _id: &KeyId, copy: &Copied) -> u64 {
        copy.hit.entry.weight()
    }
}

impl Tiered {
    /// Puts `max_bytes` of memory in front of `inner`, which nobody else writes to.
    pub fn new(inner: Arc<dyn ResultStore>, max_bytes: u64) -> Self {
        Self::at(Instant::now, inner, max_bytes, None)
    }

    /// Puts `max_bytes` of memory in front of `inner`, which others write to as well.
    pub fn shared(inner: Arc<dyn ResultStore>, max_bytes: u64, trust: Trust) -> Self {
        Self::at(Instant::now, inner, max_bytes, Some(trust))
    }

    fn at(now: fn() -> Instant, inner: Arc<dyn ResultStore>, max_bytes: u64, trust: Option<Trust>) -> Self {
        let items = usize::try_from(max_bytes / TYPICAL_ENTRY_BYTES).unwrap_or(usize::MAX).clamp(64, 1 << 20);
        Self(Arc::new(Inner {
            behind: inner,
            copies: Arc::new(Copies {
                memory: Cache::with_weighter(items, max_bytes, ByWeight),
                max_bytes,
                trust,
                now,
                stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            }),
            writes: TaskTracker::new(),
        }))
    }

    /// Bytes and entries in memory.
    pub fn usage(&self) -> (u64, u64) {
        (self.0.copies.memory.weight(), self.0.copies.memory.len() as u64)
    }

    /// Drops the copies of what the store behind has removed of itself. A load under way leaves none behind.
    pub fn forget(&self, ids: &[KeyId]) {
        self.0.copies.forget(ids);
    }

    /// [`Tiered::forget`] for the store behind to call. It holds the memory but not that store: the two would keep
    /// each other alive.
    pub fn forgetter(&self) -> impl Fn(&[KeyId]) + Send + Sync + use<> {
        let copies = Arc::clone(&self.0.copies);
        move |ids| copies.forget(ids)
    }

    /// Drops all copies when it is called, as [`Tiered::forgetter`] drops some.
    pub fn forgetter_of_all(&self) -> impl Fn() + Send + Sync + use<> {
        let copies = Arc::clone(&self.0.copies);
        move || copies.forget_all()
    }

    /// Waits for the writes under way.
    pub async fn close(&self) {
        self.0.writes.close();
        self.0.writes.wait().await;
    }

    async fn load(&self, key: &Key) -> Result<Option<Hit>> {
        let id = key.id();
        let load = {
            let mut stripe = self.0.copies.stripe(id);
            let epoch = stripe.epoch;
            match stripe.loads.get(&id) {
                // A load that began before a write must not answer a reader who came after it.
                Some((begun, load)) if *begun == epoch => load.clone(),
                _ => {
                    // Soon after a write an eventually consistent read may find what was there before it.
                    let settling = stripe.written.is_some_and(|at| self.0.copies.since(at) < SETTLING);
                    let load = Arc::clone(&self.0).load_once(key.clone(), epoch, settling).boxed().shared();
                    stripe.loads.insert(id, (epoch, load.clone()));
                    load
                }
            }
        };
        let waiting = LoadGuard { copies: &self.0.copies, id, load: Some(load.clone()) };
        let found = load.await;
        drop(waiting);
        found
    }

    /// Runs a write to its end, whoever waits for it, and then settles the copy in memory.
    async fn write<T: Send + 'static>(
        &self,
        id: KeyId,
        write: impl Future<Output = Result<(T, Settle)>> + Send + 'static,
    ) -> Result<T> {
        let copies = Arc::clone(&self.0.copies);
        let task = self.0.writes.spawn(async move {
            // Whatever becomes of the write, even a panic: an uncertain one forgets the copy.
            let mut settling = Settling { copies: &copies, id, settle: Settle::Forget };
            match write.await {
                Ok((outcome, settle)) => {
                    settling.settle = settle;
                    Ok(outcome)
                }
                Err(error) => {
                    if error.is_away() {
                        settling.settle = Settle::Doubt;
                    }
                    Err(error)
                }
            }
        });
        match task.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {
                Err(Error::Unavailable { backend: "memory", detail: "the service is stopping".to_owned() })
            }
        }
    }
}

impl Inner {
    /// Reads past the copy. One that hides damage goes: every reader is to see the same, so that one of them mends it.
    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        let found = self.behind.look(key, options).await;
        if let Err(Error::Corrupt { .. }) = found {
            self.copies.forget(&[key.id()]);
        }
        found
    }

    async fn load_once(self: Arc<Self>, key: Key, epoch: u64, consistent: bool) -> Result<Option<Hit>> {
        let (id, begun) = (key.id(), (self.copies.now)());
        let call = self.behind.get(&key, GetOptions::consistent(consistent));
        let found = match self.copies.turn_to(id) {
            Some((circuit, patience)) => circuit.run(patience, call).await,
            None => call.await,
        };
        match found {
            Ok(found) => {
                self.copies.keep(id, epoch, begun, found.as_ref());
                Ok(found)
            }
            // What was written meanwhile has taken the copy away.
            Err(error) if error.is_away() => match self.copies.last_resort(id) {
                Some(hit) => Ok(Some(hit)),
                None => Err(error),
            },
            Err(error) => {
                if matches!(error, Error::Corrupt { .. }) {
                    self.copies.forget(&[id]);
                }
                Err(error)
            }
        }
    }

    /// Asks about many keys, not longer than is worth it.
    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        let call = self.behind.survey(keys);
        match self.copies.trust.as_ref().and_then(|trust| trust.circuit.as_ref()) {
            Some((circuit, patience)) => {
                let more = PER_KEY * u32::try_from(keys.len()).unwrap_or(u32::MAX);
                circuit.run(*patience + more, call).await
            }
            None => call.await,
        }
    }
}

impl Copies {
    fn stripe(&self, id: KeyId) -> MutexGuard<'_, Stripe> {
        let bytes = id.as_bytes();
        let number = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % STRIPES;
        self.stripes[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self, at: Instant) -> Duration {
        (self.now)().duration_since(at)
    }

    /// Keeps a copy of what a load found, unless a write has come in between.
    fn keep(&self, id: KeyId, epoch: u64, read: Instant, found: Option<&Hit>) {
        let stripe = self.stripe(id);
        if stripe.epoch != epoch {
            return;
        }
        match found {
            // Only what the owner said: the other side may hold an older one.
            Some(hit) if hit.via == Via::Owner && self.fits(&hit.entry) => {
                let shared = hit.source != Source::Sqlite;
                let hit = Hit { source: Source::Memory, ..hit.clone() };
                self.memory.insert(id, Copied { hit, read, shared, doubted: false });
            }
            _ => {
                self.memory.remove(&id);
            }
        }
    }

    /// Drops copies, and keeps the loads under way from leaving theirs.
    fn forget(&self, ids: &[KeyId]) {
        for id in ids {
            let _stripe = self.move_on(*id);
            self.memory.remove(id);
        }
    }

    /// A write has failed, and may have happened all the same: the copy is not trusted any more. It is what there is to go
    /// on with for as long as the store behind cannot be asked.
    fn doubt(&self, id: KeyId) {
        let _stripe = self.move_on(id);
        match self.memory.get(&id).filter(|copied| copied.shared && self.trust.is_some()) {
            Some(copied) => self.memory.insert(id, Copied { doubted: true, ..copied }),
            None => drop(self.memory.remove(&id)),
        }
    }

    /// Keeps the loads under way from leaving their copies, and from being joined.
    fn move_on(&self, id: KeyId) -> MutexGuard<'_, Stripe> {
        let mut stripe = self.stripe(id);
        stripe.epoch += 1;
        stripe.written = self.trust.as_ref().map(|_| (self.now)());
        stripe
    }

    /// Drops all copies, and keeps the loads under way from leaving theirs.
    fn forget_all(&self) {
        for stripe in &self.stripes {
            stripe.lock().unwrap_or_else(PoisonError::into_inner).epoch += 1;
        }
        self.memory.clear();
    }

    /// The copy of an entry, if there is one that may answer.
    fn copy(&self, id: KeyId) -> Option<Hit> {
        let Copied { hit, read, shared, doubted } = self.memory.get(&id)?;
        let is_trusted = || self.trust.as_ref().is_none_or(|trust| self.since(read) < trust.trust);
        (!doubted && (!shared || is_trusted())).then_some(hit)
    }

    /// The copy of an entry that may answer where the store behind cannot be asked.
    fn last_resort(&self, id: KeyId) -> Option<Hit> {
        let trust = self.trust.as_ref().filter(|trust| !trust.outage.is_zero())?;
        let Copied { hit, read, .. } = self.memory.get(&id)?;
        (self.since(read) < trust.trust + trust.outage).then(|| Hit { via: Via::Outage, ..hit })
    }

    /// How a load asks for what there is a copy to go on with: through the circuit, and for how long.
    fn turn_to(&self, id: KeyId) -> Option<(&Circuit, Duration)> {
        let (circuit, patience) = self.trust.as_ref()?.circuit.as_ref()?;
        let hit = self.last_resort(id)?;
        let more = PER_MEBIBYTE * u32::try_from(hit.entry.weight() >> 20).unwrap_or(u32::MAX);
        Some((circuit, *patience + more))
    }

    /// What was seen of keys, with the copies of those that the store behind could not tell of.
    fn in_place_of(&self, keys: &[Key], mut seen: Vec<Seen>) -> Vec<Seen> {
        for (key, seen) in keys.iter().zip(&mut seen) {
            if matches!(seen, Seen::Unknown)
                && let Some(hit) = self.last_resort(key.id())
            {
                *seen = Seen::Unconfirmed(Box::new(hit.entry.meta.clone()), Source::Memory);
            }
        }
        seen
    }

    /// What a put does to the copy of its key.
    fn settle(&self, outcome: PutOutcome) -> Settle {
        match outcome {
            // ConditionFailed too: the store may have swept or evicted what memory still holds, and a caller who reads
            // that again would fail for ever.
            PutOutcome::Created
            | PutOutcome::Replaced
            | PutOutcome::Refreshed
            | PutOutcome::Queued
            | PutOutcome::ConditionFailed => Settle::Forget,
            // What has superseded it may be another's write, which this copy does not show.
            PutOutcome::Superseded if self.trust.is_some() => Settle::Forget,
            PutOutcome::Superseded => Settle::Leave,
        }
    }

    fn fits(&self, entry: &Entry) -> bool {
        entry.weight() <= self.max_bytes / LARGEST_SHARE
    }
}

/// What a write does to the copy in memory.
enum Settle {
    /// Nothing was changed.
    Leave,
    /// The copy is out of date, or may be.
    Forget,
    /// The copy may be out of date: the store behind cannot be asked.
    Doubt,
}

/// Settles the copy when a write is over, however it ends.
struct Settling<'t> {
    copies: &'t Copies,
    id: KeyId,
    settle: Settle,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        match self.settle {
            Settle::Leave => {}
            Settle::Forget => self.copies.forget(&[self.id]),
            Settle::Doubt => self.copies.doubt(self.id),
        }
    }
}

/// Takes a load out of its stripe when it is over, or when the last one who waits for it goes.
struct LoadGuard<'t> {
    copies: &'t Copies,
    id: KeyId,
    /// Until it is dropped.
    load: Option<Load>,
}

impl Drop for LoadGuard<'_> {
    fn drop(&mut self) {
        let Some(load) = self.load.take() else { return };
        let mut stripe = self.copies.stripe(self.id);
        let listed = stripe.loads.get(&self.id).is_some_and(|(_, listed)| listed.ptr_eq(&load));
        if listed && (load.peek().is_some() || load.strong_count() == Some(2)) {
            // Others may still hold the load and share its result; nobody new may join it.
            let removed = stripe.loads.remove(&self.id);
            // What a load runs may do anything when it is dropped: not under the lock.
            drop(stripe);
            drop((removed, load));
        } else {
            // Under the lock: of two who leave at once, the second must find itself the last.
            drop(load);
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ResultStore for Tiered {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        if options.scan {
            return Ok(self.0.look(key, options).await?.entry());
        }
        if options.consistent {
            return Ok(self.look(key, options).await?.entry());
        }
        if let Some(hit) = self.0.copies.copy(key.id()) {
            hit.heat.mark();
            return Ok(Some(hit));
        }
        self.load(key).await
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        // Thousands of keys at once are a frontier, not what is hot: the store answers them in the order of its pages.
        self.0.behind.get_metas(keys).await
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        let (epoch, begun) = (self.0.copies.stripe(key.id()).epoch, (self.0.copies.now)());
        let found = self.0.look(key, options).await?;
        // Only what was there when the read began may be kept.
        if options.consistent && !options.scan {
            let hit = if let Look::Entry(hit) = &found { Some(hit) } else { None };
            self.0.copies.keep(key.id(), epoch, begun, hit);
        }
        Ok(found)
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        self.0.behind.look_metas(keys).await
    }

    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        let seen = match self.0.survey(keys).await {
            Ok(seen) => seen,
            Err(error) if error.is_away() => {
                let seen = self.0.copies.in_place_of(keys, vec![Seen::Unknown; keys.len()]);
                let is_none_known = seen.iter().all(|seen| matches!(seen, Seen::Unknown));
                return if is_none_known { Err(error) } else { Ok(seen) };
            }
            Err(error) => return Err(error),
        };
        Ok(self.0.copies.in_place_of(keys, seen))
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        let id = put.meta.key.id();
        let inner = Arc::clone(&self.0);
        self.write(id, async move {
            let outcome = inner.behind.put(put).await?;
            let settle = inner.copies.settle(outcome);
            Ok((outcome, settle))
        })
        .await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        let id = put.meta.key.id();
        let inner = Arc::clone(&self.0);
        self.write(id, async move {
            let placed = inner.behind.put_newest(put).await?;
            let settle = inner.copies.settle(placed.outcome);
            Ok((placed, settle))
        })
        .await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        let inner = Arc::clone(&self.0);
        let key = key.clone();
        self.write(key.id(), async move {
            // Whatever the outcome: the store may have swept or evicted what memory still holds.
            Ok((inner.behind.delete(&key, version, condition).await?, Settle::Forget))
        })
        .await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        let inner = Arc::clone(&self.0);
        let key = key.clone();
        self.write(key.id(), async move {
            Ok((inner.behind.delete_newest(&key, version, condition).await?, Settle::Forget))
        })
        .await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.0.behind.list(query).await
    }

    async fn status(&self) -> Result<Status> {
        self.0.behind.status().await
    }

    fn finds_variants(&self) -> bool {
        self.0.behind.finds_variants()
    }
}

impl fmt::Display for Tiered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tiered(memory {} MiB, {})", self.0.copies.max_bytes >> 20, self.0.behind)
    }
}

impl fmt::Debug for Tiered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod gated;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod tests;
