//! Writes results: where the plan says, and in an order that loses nothing when the process dies in between.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::plan::{self, Write, Writing};
use super::policy::InForce;
use super::remote::Patience;
use crate::domain::routing::Side;
use crate::domain::{Key, Timestamp, Version};
use crate::store::sqlite::ledger::outbox::{Queued, Tried};
use crate::store::sqlite::ledger::{Beside, Fenced};
use crate::store::{Condition, DeleteOutcome, Error, GetOptions, Look, Put, PutOutcome, Result, dynamodb};

/// How often a write is planned anew when the policy changes under it.
pub(super) const PLANS: usize = 100;

/// How long a new policy takes from the database to those who plan by it.
pub(super) const CHANGING: Duration = Duration::from_millis(2);

/// How much longer than the owner may take the relay leaves a write alone that its own request is delivering.
const GRACE: Duration = Duration::from_secs(2);

impl Inner {
    /// Stores an entry.
    pub(super) async fn put(self: &Arc<Self>, put: Put) -> Result<PutOutcome> {
        for _ in 0..PLANS {
            let policy = self.in_force();
            if let Fenced::Done(outcome) = self.put_under(put.clone(), &policy).await? {
                return Ok(outcome);
            }
            tokio::time::sleep(CHANGING).await;
        }
        Err(restless())
    }

    async fn put_under(self: &Arc<Self>, put: Put, policy: &InForce) -> Result<Fenced<PutOutcome>> {
        let key = put.meta.key.clone();
        let is_conditional = put.condition != Condition::Any || put.frame.is_none();
        let plan = self.plan(&key, is_conditional, policy.policy.dual_write, policy);
        let bound = Some(policy.generation);
        match plan {
            Write::LocalAndQueue | Write::LocalAndFloor => {
                if is_conditional && self.bring_here(&key, policy).await? == Fenced::Outdated {
                    return Ok(Fenced::Outdated);
                }
                let beside = match plan {
                    Write::LocalAndQueue => Beside::Queue { due_at: self.clock.now() },
                    _ => Beside::Floor,
                };
                let outcome = self.database.put_beside(put, bound, beside).await?;
                self.count("put", Side::Sqlite, "owner");
                Ok(outcome)
            }
            Write::LocalThenDeliver => {
                let beside = Beside::Queue { due_at: self.after_grace() };
                match self.database.put_beside(put.clone(), bound, beside).await? {
                    Fenced::Done(PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed) => {
                        self.deliver(put).await.map(Fenced::Done)
                    }
                    decided => Ok(decided),
                }
            }
            Write::RemoteThenMirror => self.put_and_mirror(put).await.map(Fenced::Done),
            Write::RemoteThenSupersede { else_queue } => {
                self.put_and_supersede(put, is_conditional, else_queue, policy).await
            }
            Write::QueueOnly => self.queue(put, policy).await,
            Write::Refuse => Err(self.refuse("put")),
        }
    }

    /// Delivers what SQLite has committed with a row in the outbox.
    async fn deliver(self: &Arc<Self>, put: Put) -> Result<PutOutcome> {
        let (id, version) = (put.meta.key.id(), put.meta.version);
        let bytes = put.frame.as_ref().map_or(0, bytes::Bytes::len);
        match self.remote.give(bytes, self.remote.results.put(put)).await {
            Ok(PutOutcome::Superseded) => {
                // Another instance was faster: the relay brings what it wrote.
                self.count("put", Side::Dynamodb, "owner");
                self.note(id, superseded(self.clock.now()));
                Ok(PutOutcome::Superseded)
            }
            Ok(outcome) => {
                self.count("put", Side::Dynamodb, "owner");
                self.note(id, Tried::Delivered { version });
                Ok(outcome)
            }
            Err(error) => {
                self.count("put", Side::Sqlite, "queued");
                self.note(id, Tried::Wait { due_at: self.clock.now(), error: error.to_string() });
                Ok(PutOutcome::Queued)
            }
        }
    }

    /// Has the owner, DynamoDB, judge and take a write, and then SQLite.
    async fn put_and_mirror(self: &Arc<Self>, put: Put) -> Result<PutOutcome> {
        let (key, version) = (put.meta.key.clone(), put.meta.version);
        self.bring_there(&key).await?;
        self.database.intend(Queued::Result(key.clone()), version, self.after_grace()).await?;
        let bytes = put.frame.as_ref().map_or(0, bytes::Bytes::len);
        let outcome = match self.remote.give(bytes, self.remote.results.put(put.clone())).await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.count("put", Side::Dynamodb, "refused");
                // It may have happened all the same: the relay finds out.
                self.note(key.id(), Tried::Wait { due_at: self.clock.now(), error: error.to_string() });
                return Err(error);
            }
        };
        self.count("put", Side::Dynamodb, "owner");
        match outcome {
            PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed => {
                let mirrored = Put { condition: Condition::Any, ..put };
                let local = self.database.put_beside(mirrored, None, Beside::Settle).await?;
                if local == Fenced::Done(PutOutcome::ConditionFailed) {
                    // Metadata of a body that SQLite does not have: it needs the whole entry.
                    self.settle(&key).await?;
                    self.note(key.id(), Tried::Delivered { version });
                }
            }
            PutOutcome::Superseded => {
                self.note(key.id(), superseded(self.clock.now()));
            }
            // The row may stand for another write as well, which was queued meanwhile: the relay finds out.
            PutOutcome::ConditionFailed | PutOutcome::Queued => {
                self.note(key.id(), unsettled(self.clock.now()));
            }
        }
        Ok(outcome)
    }

    /// Has the owner, DynamoDB, take a write; what SQLite has of the key goes.
    async fn put_and_supersede(
        self: &Arc<Self>,
        mut put: Put,
        is_conditional: bool,
        else_queue: bool,
        policy: &InForce,
    ) -> Result<Fenced<PutOutcome>> {
        let (key, version) = (put.meta.key.clone(), put.meta.version);
        let known = self.known(&key).await?;
        if is_conditional {
            self.bring_there(&key).await?;
        } else if known.held.is_some()
            && let Some(Some(before)) = self.local_results.get_metas(std::slice::from_ref(&key)).await?.pop()
        {
            put.meta.created_at = put.meta.created_at.min(before.created_at);
        }
        if known.would_answer() {
            self.database.intend(Queued::Result(key.clone()), version, self.after_grace()).await?;
        }
        let bytes = put.frame.as_ref().map_or(0, bytes::Bytes::len);
        let outcome = match self.remote.give(bytes, self.remote.results.put(put.clone())).await {
            Ok(outcome) => outcome,
            Err(error) if else_queue && !error.is_of_the_request() => {
                tracing::debug!(%error, "a write whose owner does not answer is queued");
                return self.queue(put, policy).await;
            }
            Err(error) => {
                self.count("put", Side::Dynamodb, "refused");
                if known.would_answer() {
                    let due_at = self.clock.now();
                    self.note(key.id(), Tried::Wait { due_at, error: error.to_string() });
                }
                return Err(error);
            }
        };
        self.count("put", Side::Dynamodb, "owner");
        if !matches!(outcome, PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed) {
            if known.would_answer() {
                self.note(
                    key.id(),
                    match outcome {
                        // Another instance was faster: the relay brings what it wrote.
                        PutOutcome::Superseded => superseded(self.clock.now()),
                        _ => unsettled(self.clock.now()),
                    },
                );
            }
            return Ok(Fenced::Done(outcome));
        }
        // Asked again: a write that was queued meanwhile is known by now. A copy of what was there before may still be
        // on its way to SQLite, by a reader under another policy or by a migration: then a tombstone awaits it.
        let is_awaited = self.in_force().generation != policy.generation || self.database.takes_copies();
        if is_awaited || self.known(&key).await?.would_answer() {
            self.database.supersede(&key, version, false).await?;
        }
        let replaced = outcome == PutOutcome::Created && known.held.is_some();
        Ok(Fenced::Done(if replaced { PutOutcome::Replaced } else { outcome }))
    }

    /// Keeps a write for the owner, DynamoDB, which does not answer.
    async fn queue(&self, put: Put, policy: &InForce) -> Result<Fenced<PutOutcome>> {
        let beside = Beside::Queue { due_at: self.clock.now() };
        let outcome = self.database.put_beside(put, Some(policy.generation), beside).await?;
        self.count("put", Side::Sqlite, "queued");
        Ok(match outcome {
            Fenced::Done(PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed) => {
                Fenced::Done(PutOutcome::Queued)
            }
            decided => decided,
        })
    }

    /// Deletes an entry: on both sides, whatever the policy says of other writes.
    pub(super) async fn delete(
        self: &Arc<Self>,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<DeleteOutcome> {
        for _ in 0..PLANS {
            let policy = self.in_force();
            if let Fenced::Done(outcome) = self.delete_under(key, version, &condition, &policy).await? {
                return Ok(outcome);
            }
            tokio::time::sleep(CHANGING).await;
        }
        Err(restless())
    }

    async fn delete_under(
        self: &Arc<Self>,
        key: &Key,
        version: Version,
        condition: &Condition,
        policy: &InForce,
    ) -> Result<Fenced<DeleteOutcome>> {
        let is_conditional = *condition != Condition::Any;
        let plan = self.plan(key, is_conditional, true, policy);
        let here = |due_at| {
            let beside = Beside::Queue { due_at };
            self.database.delete_beside(key, version, condition.clone(), Some(policy.generation), beside)
        };
        match plan {
            Write::LocalAndQueue | Write::LocalAndFloor => {
                if is_conditional && self.bring_here(key, policy).await? == Fenced::Outdated {
                    return Ok(Fenced::Outdated);
                }
                let outcome = here(self.clock.now()).await?;
                self.count("delete", Side::Sqlite, "owner");
                Ok(outcome)
            }
            Write::LocalThenDeliver => {
                let Fenced::Done(local) = here(self.after_grace()).await? else {
                    return Ok(Fenced::Outdated);
                };
                let call = self.remote.results.delete(key, version, Condition::Any);
                Ok(Fenced::Done(match self.remote.ask(Patience::Owner, call).await {
                    Ok(remote) => {
                        self.count("delete", Side::Dynamodb, "owner");
                        self.note(key.id(), Tried::Delivered { version });
                        if local == DeleteOutcome::Deleted { local } else { remote }
                    }
                    Err(error) => {
                        self.count("delete", Side::Sqlite, "queued");
                        let due_at = self.clock.now();
                        self.note(key.id(), Tried::Wait { due_at, error: error.to_string() });
                        DeleteOutcome::Queued
                    }
                }))
            }
            Write::RemoteThenMirror | Write::RemoteThenSupersede { .. } => {
                self.delete_there(key, version, condition).await.map(Fenced::Done)
            }
            Write::QueueOnly => {
                let outcome = here(self.clock.now()).await?;
                self.count("delete", Side::Sqlite, "queued");
                Ok(match outcome {
                    Fenced::Done(_) => Fenced::Done(DeleteOutcome::Queued),
                    Fenced::Outdated => Fenced::Outdated,
                })
            }
            Write::Refuse => Err(self.refuse("delete")),
        }
    }

    /// Has the owner, DynamoDB, judge and delete, and then SQLite.
    async fn delete_there(
        self: &Arc<Self>,
        key: &Key,
        version: Version,
        condition: &Condition,
    ) -> Result<DeleteOutcome> {
        self.bring_there(key).await?;
        self.database.intend(Queued::Result(key.clone()), version, self.after_grace()).await?;
        let call = self.remote.results.delete(key, version, condition.clone());
        match self.remote.ask(Patience::Owner, call).await {
            Ok(DeleteOutcome::ConditionFailed) => {
                self.count("delete", Side::Dynamodb, "owner");
                self.note(key.id(), unsettled(self.clock.now()));
                Ok(DeleteOutcome::ConditionFailed)
            }
            Ok(outcome) => {
                self.count("delete", Side::Dynamodb, "owner");
                self.database.supersede(key, version, true).await?;
                Ok(outcome)
            }
            Err(error) => {
                self.count("delete", Side::Dynamodb, "refused");
                self.note(key.id(), Tried::Wait { due_at: self.clock.now(), error: error.to_string() });
                Err(error)
            }
        }
    }

    fn plan(&self, key: &Key, is_conditional: bool, to_both: bool, policy: &InForce) -> Write {
        plan::write(Writing {
            owner: policy.policy.owner(key.id().bucket()),
            to_both,
            is_conditional,
            on_owner_failure: policy.policy.on_owner_failure,
            is_reachable: !self.remote.circuit.is_open(),
        })
    }

    /// Before SQLite judges a condition: a key that it knows nothing of may be in DynamoDB, from when that owned it.
    async fn bring_here(self: &Arc<Self>, key: &Key, policy: &InForce) -> Result<Fenced<()>> {
        let known = self.known(key).await?;
        if known.held.is_some() || known.is_deleted() || self.remote.circuit.is_open() {
            return Ok(Fenced::Done(()));
        }
        let call = self.remote.results.look(key, GetOptions::scan());
        match self.remote.ask(Patience::Other, call).await {
            Ok(Look::Entry(hit)) if known.admits(hit.entry.meta.version) => {
                let (meta, frame) = (hit.entry.meta.clone(), Some(hit.entry.frame.clone()));
                let put = Put { meta, frame, condition: Condition::Any };
                let put = self.database.put_beside(put, Some(policy.generation), Beside::Nothing).await?;
                Ok(match put {
                    Fenced::Done(_) => Fenced::Done(()),
                    Fenced::Outdated => Fenced::Outdated,
                })
            }
            Ok(_) => Ok(Fenced::Done(())),
            Err(error) => {
                tracing::debug!(%error, "a condition is judged by what SQLite has");
                Ok(Fenced::Done(()))
            }
        }
    }

    /// Before DynamoDB judges a condition: it must have what SQLite knows.
    async fn bring_there(self: &Arc<Self>, key: &Key) -> Result<()> {
        let known = self.known(key).await?;
        let Some(newest) = known.held.max(known.tombstone.map(|tombstone| tombstone.version)) else {
            return Ok(());
        };
        let call = self.remote.results.look_metas(std::slice::from_ref(key));
        let there = match self.remote.ask(Patience::Owner, call).await?.pop() {
            Some(Look::Entry(meta)) => Some(meta.version),
            Some(Look::Deleted(version)) => Some(version),
            Some(Look::Absent) | None => None,
        };
        // Nothing there, and nothing here but a tombstone: no condition can tell the difference.
        if there.is_none_or(|there| there < newest) && (known.held.is_some() || there.is_some()) {
            self.settle(key).await?;
        }
        Ok(())
    }

    /// Writes down what came of a row of the outbox, behind the answer.
    pub(super) fn note(self: &Arc<Self>, id: crate::domain::KeyId, tried: Tried) {
        let inner = Arc::clone(self);
        self.behind.spawn(async move {
            // Where this fails the relay tries the row, which does no harm.
            if let Err(error) = inner.database.outbox_tried(vec![(id, tried)]).await {
                tracing::warn!(%error, "what came of a write is not noted: it will be delivered again");
            }
        });
    }

    pub(super) fn after_grace(&self) -> Timestamp {
        self.clock.now().plus_secs((self.remote.owner_patience + GRACE).as_secs())
    }

    pub(super) fn refuse(&self, operation: &str) -> Error {
        self.count(operation, Side::Dynamodb, "refused");
        let status = self.remote.circuit.status();
        let detail =
            format!("it owns the key and cannot be reached ({}), and nobody can write for it", status.error);
        Error::Unavailable { backend: dynamodb::BACKEND, detail }
    }
}

fn unsettled(now: Timestamp) -> Tried {
    Tried::Wait { due_at: now, error: "its condition did not hold".to_owned() }
}

fn superseded(now: Timestamp) -> Tried {
    Tried::Wait { due_at: now, error: "DynamoDB has a newer one".to_owned() }
}

pub(super) fn restless() -> Error {
    let detail = "the routing policy changes all the time".to_owned();
    Error::Overloaded { backend: "routed", detail }
}
