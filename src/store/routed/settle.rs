//! Brings one key to the same version on both sides, and copies entries to their owner.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::remote::Patience;
use crate::domain::{Entry, Key, KeyId, Timestamp, Version};
use crate::store::sqlite::ledger::outbox::{Queued, Row, Tried};
use crate::store::sqlite::ledger::{Beside, Known, Tombstone};
use crate::store::{Condition, DeleteOutcome, GetOptions, Hit, Look, Put, PutOutcome, Result};

/// What settling a key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The other side has what SQLite has.
    Delivered,
    /// The other side had something newer, which SQLite has now.
    Pulled,
    /// There is nothing to settle: SQLite holds nothing of the key any more.
    Gone,
    /// Neither side has the version that the row stands for: the outcome of that write is not known.
    Open,
}

/// How long after it was given up a write may still arrive at DynamoDB: it can be on its way although its connection is
/// gone, or the process that sent it.
pub(super) const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// What a row says that waits for its write to arrive. A new write of the key takes it away.
const AWAITED: &str = "whether it was done is not known yet";

/// What becomes of a row whose write is [`Settled::Open`]: it waits until the write can no longer arrive, and is then
/// looked at once more. Nothing when that time is over. It counts from the first look, which comes after the write was
/// given up: its version may have been drawn long before, or by another clock.
pub fn await_arrival(row: &Row, now: Timestamp) -> Option<Tried> {
    let is_awaited = row.error.as_deref() == Some(AWAITED);
    let due_at = if is_awaited { row.due_at } else { now.plus_secs(ARRIVES_WITHIN.as_secs()) };
    // A session leaves nothing in DynamoDB. A row that was made by its deletion, with no write before, awaits none.
    let is_first = row.error.is_none() && row.version.at() <= row.enqueued_at;
    if matches!(row.what, Queued::Session(..)) && is_first {
        return None;
    }
    (!is_awaited || now < due_at).then(|| Tried::Wait { due_at, error: AWAITED.to_owned() })
}

/// What settling came to, and the version that DynamoDB was seen to have.
type Met = (Settled, Option<Version>);

impl Settled {
    /// The word that metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Pulled => "pulled",
            Self::Gone => "gone",
            Self::Open => "open",
        }
    }
}

impl Inner {
    /// Gives DynamoDB what SQLite has of a key, or takes from it what is newer. Only newer versions are taken by either
    /// side, so that it does no harm to settle a key twice, or while others write it.
    pub(super) async fn settle(self: &Arc<Self>, key: &Key) -> Result<Settled> {
        // Asked before what is held: a tombstone that came with an entry is no deletion of that entry.
        let known = self.known(key).await?;
        let (settled, there) = match self.local_results.get(key, GetOptions::scan()).await? {
            Some(hit) => self.give_entry(key, &hit).await?,
            None => self.give_absence(key, &known).await?,
        };
        // A write that DynamoDB was to judge, and that nobody has seen the end of.
        let is_open = known.queued.is_some_and(|queued| there.is_none_or(|there| there < queued));
        Ok(if is_open { Settled::Open } else { settled })
    }

    async fn give_entry(self: &Arc<Self>, key: &Key, hit: &Hit) -> Result<Met> {
        let (version, bytes) = (hit.entry.meta.version, hit.entry.frame.len());
        match self.remote.give(bytes, self.remote.results.put(whole(&hit.entry))).await? {
            PutOutcome::Superseded => self.pull(key, version).await,
            _ => Ok((Settled::Delivered, Some(version))),
        }
    }

    /// Of a key that SQLite does not hold. What is written from here on raises the version of the row, which stays then.
    async fn give_absence(self: &Arc<Self>, key: &Key, known: &Known) -> Result<Met> {
        let Some(Tombstone { version, .. }) = known.tombstone else {
            let (settled, there) = self.pull(key, known.newest().unwrap_or_default()).await?;
            return Ok((if settled == Settled::Delivered { Settled::Gone } else { settled }, there));
        };
        // One that is no deletion, too: what is older than its version is dead.
        let call = self.remote.results.delete(key, version, Condition::Any);
        match self.remote.ask(Patience::Owner, call).await? {
            // None was there, or a newer one.
            DeleteOutcome::Absent => self.pull(key, version).await,
            _ => Ok((Settled::Delivered, Some(version))),
        }
    }

    /// Takes from DynamoDB what is newer than `than`.
    async fn pull(self: &Arc<Self>, key: &Key, than: Version) -> Result<Met> {
        let _copying = self.database.begin_copies();
        let call = self.remote.results.look(key, GetOptions::scan());
        let there = match self.remote.ask(Patience::Owner, call).await? {
            Look::Entry(hit) => {
                let version = hit.entry.meta.version;
                if version > than {
                    self.database.put_beside(whole(&hit.entry), None, Beside::Nothing).await?;
                }
                Some(version)
            }
            Look::Deleted(version) => {
                if version > than {
                    self.database.supersede(key, version, true).await?;
                }
                Some(version)
            }
            Look::Absent => None,
        };
        if there.is_none_or(|there| there <= than) {
            return Ok((Settled::Delivered, there));
        }
        self.changed(key);
        Ok((Settled::Pulled, there))
    }

    /// Copies an entry that only DynamoDB has to SQLite, which owns it, behind the answer. Not if another policy is in
    /// force by then: SQLite may not be the owner any more.
    pub(super) fn copy_to_local(self: &Arc<Self>, hit: &Hit, generation: u64) {
        let entry = Arc::clone(&hit.entry);
        let key = entry.meta.key.clone();
        self.copy(key.id(), "sqlite", move |inner| async move {
            let put = inner.database.put_beside(whole(&entry), Some(generation), Beside::Nothing);
            let stored = [PutOutcome::Created, PutOutcome::Replaced, PutOutcome::Refreshed];
            Ok(stored.map(crate::store::sqlite::ledger::Fenced::Done).contains(&put.await?))
        });
    }

    /// Copies an entry that only SQLite has to DynamoDB, which owns it, behind the answer.
    pub(super) fn copy_to_remote(self: &Arc<Self>, key: &Key) {
        let owned = key.clone();
        self.copy(key.id(), "dynamodb", move |inner| async move {
            Ok(inner.settle(&owned).await? == Settled::Delivered)
        });
    }

    /// Removes from SQLite what DynamoDB knows to be deleted, behind the answer.
    pub(super) fn forget_older(self: &Arc<Self>, key: &Key, version: Version) {
        let owned = key.clone();
        self.copy(key.id(), "sqlite", move |inner| async move {
            inner.database.supersede(&owned, version, true).await?;
            Ok(true)
        });
    }

    /// Copies behind an answer: one a key at a time, and not too many together.
    pub(super) fn copy<F>(self: &Arc<Self>, id: KeyId, to: &'static str, copy: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = Result<bool>> + Send + 'static,
    {
        let count = |outcome| self.metrics.copies.with_label_values(&[to, outcome]).inc();
        let Ok(permit) = Arc::clone(&self.copies).try_acquire_owned() else { return count("dropped") };
        let Some(turn) = Copying::begin(self, id) else { return };
        let (copied, counts) = (copy(Arc::clone(self)), self.metrics.copies.clone());
        self.behind.spawn(async move {
            let outcome = match copied.await {
                Ok(true) => "copied",
                Ok(false) => "present",
                Err(error) => {
                    tracing::debug!(%error, to, "a copy to the owner was not made");
                    "failed"
                }
            };
            counts.with_label_values(&[to, outcome]).inc();
            drop((turn, permit));
        });
    }
}

/// The turn of the one copy of a key that is under way.
struct Copying {
    inner: Arc<Inner>,
    id: KeyId,
}

impl Copying {
    fn begin(inner: &Arc<Inner>, id: KeyId) -> Option<Self> {
        let is_first = inner.copying().insert(id);
        is_first.then(|| Self { inner: Arc::clone(inner), id })
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.inner.copying().remove(&self.id);
    }
}

/// An entry as it is, with its own version and times.
fn whole(entry: &Entry) -> Put {
    Put { meta: entry.meta.clone(), frame: Some(entry.frame.clone()), condition: Condition::Any }
}
