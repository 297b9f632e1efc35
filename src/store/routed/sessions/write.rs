//! Writes sessions: the owner judges, and the other side follows.

use std::sync::Arc;

use super::super::Inner;
use super::super::plan::{self, Write, Writing};
use super::super::policy::InForce;
use super::super::remote::Patience;
use super::super::settle::ARRIVES_WITHIN;
use super::super::write::{CHANGING, PLANS, restless};
use super::known::{admits, is_foreign, is_uncertain, newest_here};
use super::read::is_undelivered;
use crate::domain::routing::{OnOwnerFailure, Side, session_bucket};
use crate::domain::session::SessionId;
use crate::domain::{Namespace, Version};
use crate::store::sqlite::ledger::outbox::{Queued, Tried};
use crate::store::sqlite::ledger::{self, Beside, Fenced, Known};
use crate::store::{
    Error, PutSession, Result, SessionCondition, SessionDeleteOutcome, SessionPutOutcome, dynamodb,
};

const PUT: &str = "session_put";
const DELETE: &str = "session_delete";

/// What SQLite found out before it judges a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    /// It knows what it may know.
    Known,
    /// Neither side has anything.
    Nothing,
}

impl Inner {
    /// Stores a session.
    pub(super) async fn put_session(self: &Arc<Self>, put: PutSession) -> Result<SessionPutOutcome> {
        let _turn = self.turns.take(ledger::session_id(&put.namespace, &put.record.session.id)).await;
        for _ in 0..PLANS {
            let policy = self.in_force();
            if let Fenced::Done(outcome) = self.put_session_under(put.clone(), &policy).await? {
                return Ok(outcome);
            }
            tokio::time::sleep(CHANGING).await;
        }
        Err(restless())
    }

    async fn put_session_under(
        self: &Arc<Self>,
        put: PutSession,
        policy: &InForce,
    ) -> Result<Fenced<SessionPutOutcome>> {
        let (namespace, id) = (&put.namespace, &put.record.session.id);
        let known = self.known_session(namespace, id).await?;
        let is_conditional = put.condition != SessionCondition::Any;
        let to_both = policy.policy.dual_write;
        match self.plan_session(namespace, id, is_conditional, to_both, policy) {
            plan @ (Write::LocalAndQueue | Write::LocalAndFloor) => {
                if is_conditional
                    && self.bring_session_here(namespace, id, &known, policy).await? == Fenced::Outdated
                {
                    return Ok(Fenced::Outdated);
                }
                let beside = match plan {
                    Write::LocalAndQueue => Beside::Queue { due_at: self.clock.now() },
                    _ => Beside::Floor,
                };
                self.count(PUT, Side::Sqlite, "owner");
                self.database.put_session_beside(put, Some(policy.generation), beside).await
            }
            Write::LocalThenDeliver | Write::RemoteThenMirror | Write::RemoteThenSupersede { .. } => {
                self.put_session_there(put, known, policy).await
            }
            Write::QueueOnly => self.queue_session(put, policy).await,
            // It may fail whatever DynamoDB has.
            Write::Refuse => match failure(&known, put.condition, put.record.session.version) {
                Some(failed) => Ok(Fenced::Done(failed)),
                None => Err(self.refuse(PUT)),
            },
        }
    }

    /// Has the owner, DynamoDB, judge and take a write, and then SQLite.
    async fn put_session_there(
        self: &Arc<Self>,
        put: PutSession,
        mut known: Known,
        policy: &InForce,
    ) -> Result<Fenced<SessionPutOutcome>> {
        let (namespace, id, version) = (&put.namespace, &put.record.session.id, put.record.session.version);
        self.count(PUT, Side::Dynamodb, "owner");
        if let Some(failed) = failure(&known, put.condition, version) {
            return Ok(Fenced::Done(failed));
        }
        let mut may_differ = may_differ(&known, put.condition);
        if must_settle(&known, put.condition) {
            known = self.settled(namespace, id).await?;
            may_differ = false;
            if let Some(failed) = failure(&known, put.condition, version) {
                return Ok(Fenced::Done(failed));
            }
        }
        // What SQLite would answer must not outlive a write whose answer is lost: a deletion it knows of is an answer.
        let is_noted = policy.policy.dual_write || known.would_answer();
        if is_noted {
            let what = Queued::Session(namespace.clone(), id.clone());
            self.database.intend(what, version, self.after_grace()).await?;
        }
        let mut outcome = self.give_session(&put).await;
        if may_differ && outcome == Ok(SessionPutOutcome::ConditionFailed) {
            known = self.settled(namespace, id).await?;
            outcome = self.give_session(&put).await;
        }
        let row = ledger::session_id(namespace, id);
        match outcome {
            Err(error) => {
                // It may have happened all the same, or happen yet: the relay finds out.
                let wait = Tried::Wait { due_at: self.clock.now(), error: error.to_string() };
                if is_noted {
                    self.note(row, wait);
                } else if error.may_have_happened() {
                    let what = Queued::Session(namespace.clone(), id.clone());
                    match self.database.intend(what, version, self.clock.now()).await {
                        Ok(()) => self.note(row, wait),
                        Err(error) => {
                            tracing::warn!(%error, "a write whose outcome is not known is not noted");
                        }
                    }
                }
                let may_queue = put.condition == SessionCondition::Any
                    && policy.policy.on_owner_failure == OnOwnerFailure::Queue;
                if may_queue && !error.is_of_the_request() {
                    return self.queue_session(put, policy).await;
                }
                self.count(PUT, Side::Dynamodb, "refused");
                return Err(error);
            }
            Ok(SessionPutOutcome::ConditionFailed | SessionPutOutcome::Behind(_)) if is_noted => {
                self.note(row, Tried::Delivered { version });
            }
            Ok(SessionPutOutcome::ConditionFailed | SessionPutOutcome::Behind(_)) => {}
            Ok(SessionPutOutcome::Created | SessionPutOutcome::Replaced) if policy.policy.dual_write => {
                let condition = SessionCondition::OlderThan(version);
                let mirrored = PutSession { condition, ..put };
                self.database.put_session_beside(mirrored, None, Beside::Settle).await?;
            }
            Ok(SessionPutOutcome::Created | SessionPutOutcome::Replaced) => {
                // Under another policy a reader may have copied to SQLite what this write has replaced.
                let has_moved =
                    self.in_force().generation != policy.generation || self.database.takes_copies();
                if known.newest().is_some() || has_moved {
                    self.database.supersede_session(namespace, id, version, false).await?;
                }
            }
        }
        outcome.map(Fenced::Done)
    }

    async fn give_session(&self, put: &PutSession) -> Result<SessionPutOutcome> {
        self.remote.ask(Patience::Owner, self.remote.sessions.put(put.clone())).await
    }

    /// Into SQLite with a row in the outbox, for DynamoDB cannot be reached.
    async fn queue_session(
        self: &Arc<Self>,
        put: PutSession,
        policy: &InForce,
    ) -> Result<Fenced<SessionPutOutcome>> {
        self.count(PUT, Side::Sqlite, "queued");
        let beside = Beside::Queue { due_at: self.clock.now() };
        self.database.put_session_beside(put, Some(policy.generation), beside).await
    }

    /// Removes a session.
    pub(super) async fn delete_session(
        self: &Arc<Self>,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        let _turn = self.turns.take(ledger::session_id(namespace, id)).await;
        for _ in 0..PLANS {
            let policy = self.in_force();
            let deleted = self.delete_session_under(namespace, id, condition, &policy).await?;
            if let Fenced::Done(outcome) = deleted {
                return Ok(outcome);
            }
            tokio::time::sleep(CHANGING).await;
        }
        Err(restless())
    }

    async fn delete_session_under(
        self: &Arc<Self>,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
        policy: &InForce,
    ) -> Result<Fenced<SessionDeleteOutcome>> {
        let known = self.known_session(namespace, id).await?;
        let is_conditional = condition != SessionCondition::Any;
        match self.plan_session(namespace, id, is_conditional, true, policy) {
            Write::LocalAndQueue | Write::LocalAndFloor => {
                match self.bring_session_here(namespace, id, &known, policy).await {
                    Ok(Fenced::Outdated) => return Ok(Fenced::Outdated),
                    // Nobody has to be told.
                    Ok(Fenced::Done(Brought::Nothing)) => {
                        self.count(DELETE, Side::Sqlite, "owner");
                        return Ok(Fenced::Done(SessionDeleteOutcome::Absent));
                    }
                    Ok(Fenced::Done(Brought::Known)) => {}
                    // Whatever DynamoDB has, it will be told.
                    Err(Error::Unasked { .. }) if !is_conditional => {}
                    Err(error) => return Err(error),
                }
                self.delete_session_here(namespace, id, condition, policy, "owner").await
            }
            Write::LocalThenDeliver | Write::RemoteThenMirror | Write::RemoteThenSupersede { .. } => {
                self.delete_session_there(namespace, id, condition, known, policy).await
            }
            Write::QueueOnly => self.delete_session_here(namespace, id, condition, policy, "queued").await,
            Write::Refuse => Err(self.refuse(DELETE)),
        }
    }

    /// Deletes in SQLite, with a row in the outbox.
    async fn delete_session_here(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
        policy: &InForce,
        reason: &str,
    ) -> Result<Fenced<SessionDeleteOutcome>> {
        let version = self.version_after(&self.known_session(namespace, id).await?);
        let beside = Beside::Queue { due_at: self.clock.now() };
        let generation = Some(policy.generation);
        self.count(DELETE, Side::Sqlite, reason);
        self.database.delete_session_beside(namespace, id, condition, version, generation, beside).await
    }

    /// Has the owner, DynamoDB, judge and delete, and then SQLite.
    async fn delete_session_there(
        self: &Arc<Self>,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
        mut known: Known,
        policy: &InForce,
    ) -> Result<Fenced<SessionDeleteOutcome>> {
        let delete = || {
            let delete = self.remote.sessions.delete(namespace, id, condition);
            self.remote.ask(Patience::Owner, delete)
        };
        let is_conditional = condition != SessionCondition::Any;
        // A write of which nobody has seen the end may yet arrive, and nothing there keeps it away.
        let may_arrive = known.queued.is_some();
        self.count(DELETE, Side::Dynamodb, "owner");
        let mut may_differ = is_conditional && known.held.is_some();
        // What is not what the caller has read, or is known to be gone, must not be found there.
        let is_other = known.held.is_some_and(|held| condition != SessionCondition::Version(held));
        let is_gone = known.held.is_none() && known.tombstone.is_some();
        if is_gone || (is_conditional && (is_other || is_undelivered(&known))) {
            known = self.settled(namespace, id).await?;
            may_differ = false;
        }
        let may_queue = !is_conditional && policy.policy.on_owner_failure == OnOwnerFailure::Queue;
        if may_queue && known.held.is_some() {
            // Here first: were this process to end when DynamoDB has deleted it, an older copy here would be all there is.
            let (any, version) = (SessionCondition::Any, self.version_after(&known));
            let (generation, beside) =
                (Some(policy.generation), Beside::Queue { due_at: self.after_grace() });
            let here = self.database.delete_session_beside(namespace, id, any, version, generation, beside);
            if here.await? == Fenced::Outdated {
                return Ok(Fenced::Outdated);
            }
        }
        let mut outcome = delete().await;
        if may_differ && matches!(outcome, Ok(ref outcome) if *outcome != SessionDeleteOutcome::Deleted) {
            known = self.settled(namespace, id).await?;
            outcome = delete().await;
        }
        let deleted = match outcome {
            Err(error) => {
                if may_queue && !error.is_of_the_request() {
                    return self.delete_session_here(namespace, id, condition, policy, "queued").await;
                }
                self.count(DELETE, Side::Dynamodb, "refused");
                return Err(error);
            }
            Ok(SessionDeleteOutcome::ConditionFailed) => SessionDeleteOutcome::ConditionFailed,
            // SQLite alone had it.
            Ok(SessionDeleteOutcome::Absent) if !is_conditional && known.held.is_some() => {
                SessionDeleteOutcome::Deleted
            }
            Ok(outcome) => outcome,
        };
        let version = self.version_after(&known);
        if may_arrive && deleted != SessionDeleteOutcome::ConditionFailed {
            let due_at = self.clock.now().plus_secs(ARRIVES_WITHIN.as_secs());
            let (any, beside) = (SessionCondition::Any, Beside::Queue { due_at });
            self.database.delete_session_beside(namespace, id, any, version, None, beside).await?;
        } else if deleted == SessionDeleteOutcome::Deleted {
            // What SQLite does not know of may still be on its way there, as a copy of what was read.
            self.database.supersede_session(namespace, id, version, true).await?;
        }
        Ok(Fenced::Done(deleted))
    }

    fn plan_session(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        is_conditional: bool,
        to_both: bool,
        policy: &InForce,
    ) -> Write {
        plan::write(Writing {
            owner: policy.policy.owner(session_bucket(namespace, id)),
            to_both,
            is_conditional,
            on_owner_failure: policy.policy.on_owner_failure,
            is_reachable: !self.remote.circuit.is_open(),
        })
    }

    /// Before SQLite judges: what it knows nothing of may be in DynamoDB, from when that owned it. Where that cannot be asked
    /// nobody can judge.
    async fn bring_session_here(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        known: &Known,
        policy: &InForce,
    ) -> Result<Fenced<Brought>> {
        // A write that was begun there and that nobody has seen the end of was never acknowledged.
        let may_go_without = known.held.is_some() || known.is_deleted();
        if !is_uncertain(known) || (may_go_without && self.remote.circuit.is_open()) {
            return Ok(Fenced::Done(Brought::Known));
        }
        if self.remote.circuit.is_open() {
            return Err(self.unasked());
        }
        match self.remote.ask(Patience::Other, self.remote.sessions.get(namespace, id)).await {
            Ok(Some(record)) if admits(known, record.session.version) => {
                let put = self.taken(namespace, record, known);
                let put = self.database.put_session_beside(put, Some(policy.generation), Beside::Settle);
                Ok(match put.await? {
                    Fenced::Done(_) => Fenced::Done(Brought::Known),
                    Fenced::Outdated => Fenced::Outdated,
                })
            }
            Ok(None) if *known == Known::default() => Ok(Fenced::Done(Brought::Nothing)),
            Ok(_) => Ok(Fenced::Done(Brought::Known)),
            Err(error) if may_go_without => {
                tracing::debug!(%error, "a condition is judged by what SQLite has");
                Ok(Fenced::Done(Brought::Known))
            }
            Err(error @ Error::Corrupt { .. }) => Err(error),
            Err(error) => Err(Error::unasked(dynamodb::BACKEND, &error)),
        }
    }

    /// Brings DynamoDB up to what SQLite has, and says what SQLite knows then.
    async fn settled(&self, namespace: &Namespace, id: &SessionId) -> Result<Known> {
        self.settle_session(namespace, id).await?;
        self.known_session(namespace, id).await
    }

    /// A version after everything that SQLite knows of a session: whoever wrote that may have a faster clock.
    fn version_after(&self, known: &Known) -> Version {
        self.clock.next_version().max(known.newest().map(Version::next).unwrap_or_default())
    }
}

/// How a put fails by what SQLite knows, whatever DynamoDB has; nothing if it does not.
fn failure(known: &Known, condition: SessionCondition, version: Version) -> Option<SessionPutOutcome> {
    let is_newer = |than: Version| newest_here(known).filter(|newest| !is_foreign(than, *newest));
    let has_failed = match condition {
        SessionCondition::Absent(_) => {
            let later = known.tombstone.filter(|tombstone| version < tombstone.version);
            return later.map(|tombstone| SessionPutOutcome::Behind(tombstone.version));
        }
        SessionCondition::Any => false,
        SessionCondition::Version(wanted) => is_newer(wanted).is_some_and(|newest| newest > wanted),
        SessionCondition::OlderThan(than) => is_newer(than).is_some_and(|newest| newest >= than),
    };
    (has_failed || !known.admits(version)).then_some(SessionPutOutcome::ConditionFailed)
}

/// Whether DynamoDB must first get what SQLite has, or it would judge by something older.
fn must_settle(known: &Known, condition: SessionCondition) -> bool {
    match condition {
        SessionCondition::Any => false,
        SessionCondition::Absent(_) => known.held.is_some() || is_undelivered(known),
        SessionCondition::Version(_) | SessionCondition::OlderThan(_) => is_undelivered(known),
    }
}

/// Whether a condition that fails at DynamoDB may hold by what SQLite has.
fn may_differ(known: &Known, condition: SessionCondition) -> bool {
    match condition {
        SessionCondition::Any | SessionCondition::OlderThan(_) => false,
        // Something that is known to be gone may still be there.
        SessionCondition::Absent(_) => known.tombstone.is_some(),
        SessionCondition::Version(version) => known.held == Some(version),
    }
}
