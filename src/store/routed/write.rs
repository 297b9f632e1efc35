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
use crate::store::sqlite::ledger::{Beside, Fenced, Known};
use crate::store::{
    Condition, DeleteOutcome, Error, GetOptions, Look, Placed, Put, PutOutcome, Result, Versioning, dynamodb,
};

/// How often a write is planned anew when the policy changes under it.
pub(super) const PLANS: usize = 100;

/// How long a new policy takes from the database to those who plan by it.
pub(super) const CHANGING: Duration = Duration::from_millis(2);

/// How much longer than the owner may take the relay leaves a write alone that its own request is delivering.
const GRACE: Duration = Duration::from_secs(2);

/// A deletion.
#[derive(Clone, Debug)]
pub(super) struct Deletion<'k> {
    pub(super) key: &'k Key,
    pub(super) version: Version,
    pub(super) condition: Condition,
    pub(super) versioning: Versioning,
}

impl Inner {
    /// Stores an entry.
    pub(super) async fn put(
        self: &Arc<Self>,
        put: Put,
        versioning: Versioning,
    ) -> Result<Placed<PutOutcome>> {
        for _ in 0..PLANS {
            let policy = self.in_force();
            if let Fenced::Done(placed) = self.put_under(put.clone(), versioning, &policy).await? {
                return Ok(placed);
            }
            tokio::time::sleep(CHANGING).await;
        }
        Err(restless())
    }

    async fn put_under(
        self: &Arc<Self>,
        mut put: Put,
        versioning: Versioning,
        policy: &InForce,
    ) -> Result<Fenced<Placed<PutOutcome>>> {
        let key = put.meta.key.clone();
        let is_conditional = put.condition != Condition::Any || put.frame.is_none();
        let plan = self.plan(&key, is_conditional, policy.policy.dual_write, policy);
        match plan {
            Write::LocalAndQueue | Write::LocalAndFloor => {
                if is_conditional && self.bring_here(&key, policy).await? == Fenced::Outdated {
                    return Ok(Fenced::Outdated);
                }
                let beside = match plan {
                    Write::LocalAndQueue => Beside::Queue { due_at: self.clock.now() },
                    _ => Beside::Floor,
                };
                let placed = self.database.write_beside(put, versioning, policy.generation, beside).await?;
                self.count("put", Side::Sqlite, "owner");
                Ok(placed)
            }
            Write::LocalThenDeliver => {
                let beside = Beside::Queue { due_at: self.after_grace() };
                let local = self.database.write_beside(put.clone(), versioning, policy.generation, beside);
                match local.await? {
                    Fenced::Done(Placed { outcome, version }) if is_stored(outcome) => {
                        put.meta.version = version;
                        let delivered = self.deliver(put, versioning).await?;
                        // What it replaced may be from when SQLite owned the key.
                        let is_new = delivered.outcome == PutOutcome::Created;
                        Ok(Fenced::Done(if is_new { Placed { outcome, ..delivered } } else { delivered }))
                    }
                    decided => Ok(decided),
                }
            }
            Write::RemoteThenMirror => self.put_and_mirror(put, versioning).await.map(Fenced::Done),
            Write::RemoteThenSupersede { else_queue } => {
                self.put_and_supersede(put, versioning, is_conditional, else_queue, policy).await
            }
            Write::QueueOnly => self.queue(put, versioning, policy).await,
            Write::Refuse => Err(self.refuse("put")),
        }
    }

    /// Has DynamoDB take a write, and says under which version.
    async fn give(&self, put: Put, versioning: Versioning) -> Result<Placed<PutOutcome>> {
        let (version, bytes) = (put.meta.version, put.frame.as_ref().map_or(0, bytes::Bytes::len));
        let results = &self.remote.results;
        match versioning {
            Versioning::Fixed => {
                let outcome = self.remote.give(bytes, results.put(put)).await?;
                Ok(Placed { outcome, version })
            }
            Versioning::Newest => self.remote.give(bytes, results.put_newest(put)).await,
        }
    }

    /// Delivers what SQLite has committed with a row in the outbox.
    async fn deliver(self: &Arc<Self>, put: Put, versioning: Versioning) -> Result<Placed<PutOutcome>> {
        let (id, here) = (put.meta.key.id(), put.meta.version);
        match self.give(put.clone(), versioning).await {
            Ok(placed) if placed.outcome == PutOutcome::Superseded => {
                // Another instance was faster: the relay brings what it wrote.
                self.count("put", Side::Dynamodb, "owner");
                self.note(id, superseded(self.clock.now()));
                Ok(placed)
            }
            Ok(placed) => {
                self.count("put", Side::Dynamodb, "owner");
                if placed.version == here {
                    self.note(id, Tried::Delivered { version: here });
                } else {
                    // Another instance with a faster clock had written it before: SQLite has it under the version
                    // that it has there. Until then, and if this process ends before, the relay fetches it.
                    self.mirror(put, placed.version).await?;
                }
                Ok(placed)
            }
            Err(error) => {
                self.count("put", Side::Sqlite, "queued");
                self.note(id, Tried::Wait { due_at: self.clock.now(), error: error.to_string() });
                Ok(Placed { outcome: PutOutcome::Queued, version: here })
            }
        }
    }

    /// Has SQLite take what DynamoDB has taken under a version.
    async fn mirror(self: &Arc<Self>, mut put: Put, version: Version) -> Result<()> {
        let key = put.meta.key.clone();
        (put.meta.version, put.condition) = (version, Condition::Any);
        let local = self.database.put_beside(put, None, Beside::Settle).await?;
        if local == Fenced::Done(PutOutcome::ConditionFailed) {
            // Metadata of a body that SQLite does not have: it needs the whole entry.
            self.settle(&key).await?;
            self.note(key.id(), Tried::Delivered { version });
        }
        Ok(())
    }

    /// Has the owner, DynamoDB, judge and take a write, and then SQLite.
    async fn put_and_mirror(
        self: &Arc<Self>,
        mut put: Put,
        versioning: Versioning,
    ) -> Result<Placed<PutOutcome>> {
        let key = put.meta.key.clone();
        let known = self.known(&key).await?;
        put.meta.version = self.version_above(put.meta.version, versioning, &known);
        let intended = put.meta.version;
        self.bring_there(&key, &known).await?;
        self.database.intend(Queued::Result(key.clone()), intended, self.after_grace()).await?;
        let placed = match self.give(put.clone(), versioning).await {
            Ok(placed) => placed,
            Err(error) => {
                self.count("put", Side::Dynamodb, "refused");
                // It may have happened all the same: the relay finds out.
                self.note(key.id(), Tried::Wait { due_at: self.clock.now(), error: error.to_string() });
                return Err(error);
            }
        };
        self.count("put", Side::Dynamodb, "owner");
        match placed.outcome {
            PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed => {
                self.mirror(put, placed.version).await?;
            }
            PutOutcome::Superseded => {
                self.note(key.id(), superseded(self.clock.now()));
            }
            PutOutcome::ConditionFailed | PutOutcome::Queued => {
                self.note(key.id(), Tried::Refused { version: intended });
            }
        }
        Ok(placed)
    }

    /// Has the owner, DynamoDB, take a write; what SQLite has of the key goes.
    async fn put_and_supersede(
        self: &Arc<Self>,
        mut put: Put,
        versioning: Versioning,
        is_conditional: bool,
        else_queue: bool,
        policy: &InForce,
    ) -> Result<Fenced<Placed<PutOutcome>>> {
        let key = put.meta.key.clone();
        let known = self.known(&key).await?;
        put.meta.version = self.version_above(put.meta.version, versioning, &known);
        let intended = put.meta.version;
        if is_conditional {
            self.bring_there(&key, &known).await?;
        } else if known.held.is_some()
            && let Some(Some(before)) = self.local_results.get_metas(std::slice::from_ref(&key)).await?.pop()
        {
            put.meta.created_at = put.meta.created_at.min(before.created_at);
        }
        if known.would_answer() {
            self.database.intend(Queued::Result(key.clone()), intended, self.after_grace()).await?;
        }
        let Placed { outcome, version } = match self.give(put.clone(), versioning).await {
            Ok(placed) => placed,
            Err(error) if else_queue && !error.is_of_the_request() => {
                tracing::debug!(%error, "a write whose owner does not answer is queued");
                return self.queue(put, versioning, policy).await;
            }
            Err(error) => {
                self.count("put", Side::Dynamodb, "refused");
                let due_at = self.clock.now();
                if known.would_answer() {
                    self.note(key.id(), Tried::Wait { due_at, error: error.to_string() });
                } else if error.may_have_happened() {
                    // It may have happened, or happen yet, and a copy of what was there before may come to SQLite.
                    if let Err(error) = self.database.intend(Queued::Result(key), intended, due_at).await {
                        tracing::warn!(%error, "a write whose outcome is not known is not noted");
                    }
                }
                return Err(error);
            }
        };
        self.count("put", Side::Dynamodb, "owner");
        let done = |outcome| Ok(Fenced::Done(Placed { outcome, version }));
        if !is_stored(outcome) {
            if known.would_answer() {
                self.note(
                    key.id(),
                    match outcome {
                        // Another instance was faster: the relay brings what it wrote.
                        PutOutcome::Superseded => superseded(self.clock.now()),
                        _ => Tried::Refused { version: intended },
                    },
                );
            }
            return done(outcome);
        }
        // Asked again: a write that was queued meanwhile is known by now. A copy of what was there before may still be
        // on its way to SQLite, by a reader under another policy or by a migration: then a tombstone awaits it.
        let is_awaited = self.in_force().generation != policy.generation || self.database.takes_copies();
        if is_awaited || self.known(&key).await?.would_answer() {
            self.database.supersede(&key, version, false).await?;
        }
        let replaced = outcome == PutOutcome::Created && known.held.is_some();
        done(if replaced { PutOutcome::Replaced } else { outcome })
    }

    /// Keeps a write for the owner, DynamoDB, which does not answer.
    async fn queue(
        &self,
        put: Put,
        versioning: Versioning,
        policy: &InForce,
    ) -> Result<Fenced<Placed<PutOutcome>>> {
        let beside = Beside::Queue { due_at: self.clock.now() };
        let queued = self.database.write_beside(put, versioning, policy.generation, beside).await?;
        self.count("put", Side::Sqlite, "queued");
        Ok(match queued {
            Fenced::Done(placed) if is_stored(placed.outcome) => {
                Fenced::Done(Placed { outcome: PutOutcome::Queued, ..placed })
            }
            decided => decided,
        })
    }

    /// Deletes an entry: on both sides, whatever the policy says of other writes.
    pub(super) async fn delete(self: &Arc<Self>, deletion: Deletion<'_>) -> Result<Placed<DeleteOutcome>> {
        for _ in 0..PLANS {
            let policy = self.in_force();
            if let Fenced::Done(placed) = self.delete_under(deletion.clone(), &policy).await? {
                return Ok(placed);
            }
            tokio::time::sleep(CHANGING).await;
        }
        Err(restless())
    }

    async fn delete_under(
        self: &Arc<Self>,
        deletion: Deletion<'_>,
        policy: &InForce,
    ) -> Result<Fenced<Placed<DeleteOutcome>>> {
        let key = deletion.key;
        let is_conditional = deletion.condition != Condition::Any;
        let plan = self.plan(key, is_conditional, true, policy);
        match plan {
            Write::LocalAndQueue | Write::LocalAndFloor => {
                if is_conditional && self.bring_here(key, policy).await? == Fenced::Outdated {
                    return Ok(Fenced::Outdated);
                }
                let placed = self.delete_here(&deletion, policy, self.clock.now()).await?;
                self.count("delete", Side::Sqlite, "owner");
                Ok(placed)
            }
            Write::LocalThenDeliver => {
                let Fenced::Done(local) = self.delete_here(&deletion, policy, self.after_grace()).await?
                else {
                    return Ok(Fenced::Outdated);
                };
                let deletion = Deletion { version: local.version, condition: Condition::Any, ..deletion };
                Ok(Fenced::Done(match self.erase(&deletion).await {
                    Ok(remote) => {
                        self.count("delete", Side::Dynamodb, "owner");
                        if remote.version > local.version {
                            self.database.supersede(key, remote.version, true).await?;
                        } else {
                            self.note(key.id(), Tried::Delivered { version: local.version });
                        }
                        let was_here = local.outcome == DeleteOutcome::Deleted;
                        if was_here { Placed { version: remote.version, ..local } } else { remote }
                    }
                    Err(error) => {
                        self.count("delete", Side::Sqlite, "queued");
                        let due_at = self.clock.now();
                        self.note(key.id(), Tried::Wait { due_at, error: error.to_string() });
                        Placed { outcome: DeleteOutcome::Queued, ..local }
                    }
                }))
            }
            Write::RemoteThenMirror | Write::RemoteThenSupersede { .. } => {
                self.delete_there(deletion).await.map(Fenced::Done)
            }
            Write::QueueOnly => {
                let placed = self.delete_here(&deletion, policy, self.clock.now()).await?;
                self.count("delete", Side::Sqlite, "queued");
                Ok(match placed {
                    Fenced::Done(placed) => Fenced::Done(Placed { outcome: DeleteOutcome::Queued, ..placed }),
                    Fenced::Outdated => Fenced::Outdated,
                })
            }
            Write::Refuse => Err(self.refuse("delete")),
        }
    }

    /// Deletes in SQLite, with a row in the outbox.
    async fn delete_here(
        &self,
        deletion: &Deletion<'_>,
        policy: &InForce,
        due_at: Timestamp,
    ) -> Result<Fenced<Placed<DeleteOutcome>>> {
        let Deletion { key, version, condition, versioning } = deletion.clone();
        let what = (key, version, condition);
        self.database.erase_beside(what, versioning, policy.generation, Beside::Queue { due_at }).await
    }

    /// Deletes in DynamoDB, and says under which version.
    async fn erase(&self, deletion: &Deletion<'_>) -> Result<Placed<DeleteOutcome>> {
        let Deletion { key, version, condition, versioning } = deletion.clone();
        let results = &self.remote.results;
        match versioning {
            Versioning::Fixed => {
                let call = results.delete(key, version, condition);
                let outcome = self.remote.ask(Patience::Owner, call).await?;
                Ok(Placed { outcome, version })
            }
            Versioning::Newest => {
                self.remote.ask(Patience::Owner, results.delete_newest(key, version, condition)).await
            }
        }
    }

    /// Has the owner, DynamoDB, judge and delete, and then SQLite.
    async fn delete_there(self: &Arc<Self>, mut deletion: Deletion<'_>) -> Result<Placed<DeleteOutcome>> {
        let key = deletion.key;
        let known = self.known(key).await?;
        deletion.version = self.version_above(deletion.version, deletion.versioning, &known);
        self.bring_there(key, &known).await?;
        self.database.intend(Queued::Result(key.clone()), deletion.version, self.after_grace()).await?;
        match self.erase(&deletion).await {
            Ok(placed) if placed.outcome == DeleteOutcome::ConditionFailed => {
                self.count("delete", Side::Dynamodb, "owner");
                self.note(key.id(), Tried::Refused { version: deletion.version });
                Ok(placed)
            }
            Ok(placed) => {
                self.count("delete", Side::Dynamodb, "owner");
                self.database.supersede(key, placed.version, true).await?;
                Ok(placed)
            }
            Err(error) => {
                self.count("delete", Side::Dynamodb, "refused");
                self.note(key.id(), Tried::Wait { due_at: self.clock.now(), error: error.to_string() });
                Err(error)
            }
        }
    }

    /// The version of a write that came with `given`: a client's own is after all that SQLite knows of its key.
    fn version_above(&self, given: Version, versioning: Versioning, known: &Known) -> Version {
        match known.newest() {
            Some(newest) if versioning == Versioning::Newest && newest >= given => {
                self.clock.version_above(newest)
            }
            _ => given,
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

    /// Before SQLite judges a condition: a key that it knows nothing of may be in DynamoDB, from when that owned it. Where
    /// that cannot be asked nobody can judge.
    async fn bring_here(self: &Arc<Self>, key: &Key, policy: &InForce) -> Result<Fenced<()>> {
        let known = self.known(key).await?;
        if known.held.is_some() || known.is_deleted() {
            return Ok(Fenced::Done(()));
        }
        if self.remote.circuit.is_open() {
            return Err(self.unasked());
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
            // Nobody can read it: for a condition there is none.
            Err(error @ Error::Corrupt { .. }) => {
                tracing::debug!(%error, "a condition is judged by what SQLite has");
                Ok(Fenced::Done(()))
            }
            Err(error) => Err(Error::unasked(dynamodb::BACKEND, &error)),
        }
    }

    /// Before DynamoDB judges a condition: it must have what SQLite knows.
    async fn bring_there(self: &Arc<Self>, key: &Key, known: &Known) -> Result<()> {
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

const fn is_stored(outcome: PutOutcome) -> bool {
    matches!(outcome, PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed)
}

fn superseded(now: Timestamp) -> Tried {
    Tried::Wait { due_at: now, error: "DynamoDB has a newer one".to_owned() }
}

pub(super) fn restless() -> Error {
    let detail = "the routing policy changes all the time".to_owned();
    Error::Overloaded { backend: "routed", detail }
}
