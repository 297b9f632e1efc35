//! Brings one session to the same version on both sides.

use std::sync::Arc;

use super::super::remote::Patience;
use super::super::{Inner, Settled};
use super::known::{admits, beats, is_foreign, newest_here};
use super::read::is_undelivered;
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Namespace, Timestamp};
use crate::store::sqlite::ledger::{self, Beside, Fenced, Known};
use crate::store::{
    Error, PutSession, Result, SessionCondition, SessionDeleteOutcome, SessionPutOutcome, dynamodb,
};

/// How often it is looked again when others change the session meanwhile.
const ROUNDS: usize = 8;

/// Brings a session to the same version on both sides, in its turn.
///
/// # Errors
/// What either side says; nothing is lost then.
pub(in crate::store::routed) async fn settle(
    inner: &Arc<Inner>,
    namespace: &Namespace,
    id: &SessionId,
) -> Result<Settled> {
    let _turn = inner.turns.take(ledger::session_id(namespace, id)).await;
    inner.settle_session(namespace, id).await
}

impl Inner {
    /// As [`settle`], for whoever has the turn.
    pub(super) async fn settle_session(&self, namespace: &Namespace, id: &SessionId) -> Result<Settled> {
        for _ in 0..ROUNDS {
            if let Some(settled) = self.try_settle(namespace, id).await? {
                return Ok(settled);
            }
        }
        let detail = format!("session {id} is changed by others all the time");
        Err(Error::Overloaded { backend: dynamodb::BACKEND, detail })
    }

    /// Nothing if somebody else was faster.
    async fn try_settle(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<Settled>> {
        let known = self.known_session(namespace, id).await?;
        if known == Known::default() {
            return Ok(Some(Settled::Gone));
        }
        let own = self.local_sessions.get(namespace, id).await?;
        let other = self.remote.ask(Patience::Owner, self.remote.sessions.get(namespace, id)).await?;
        let Some(own) = own else { return self.settle_absent(namespace, id, &known, other).await };
        let version = own.session.version;
        let condition = match other {
            None if own.session.is_expired(self.clock.now()) => return Ok(Some(Settled::Delivered)),
            // Whatever comes meanwhile is looked at first.
            None => SessionCondition::Absent(Timestamp::from_millis(0)),
            Some(other) if other.session.version == version => return Ok(Some(Settled::Delivered)),
            Some(other)
                if beats(version, other.session.version)
                    || (is_undelivered(&known) && version > other.session.version) =>
            {
                SessionCondition::Version(other.session.version)
            }
            Some(other) => return self.pull_session(namespace, other, &known).await,
        };
        let put = PutSession { namespace: namespace.clone(), record: own, condition };
        let put = self.remote.ask(Patience::Owner, self.remote.sessions.put(put)).await?;
        Ok((put != SessionPutOutcome::ConditionFailed).then_some(Settled::Delivered))
    }

    /// Settles one that SQLite does not hold: what is known to be gone goes there, too.
    async fn settle_absent(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        known: &Known,
        other: Option<SessionRecord>,
    ) -> Result<Option<Settled>> {
        let Some(other) = other else {
            // Nothing there keeps a write away that is still on its way.
            return Ok(Some(match (known.queued, known.tombstone) {
                (Some(_), _) => Settled::Open,
                (None, Some(_)) => Settled::Delivered,
                (None, None) => Settled::Gone,
            }));
        };
        let version = other.session.version;
        if admits(known, version) {
            return match known.queued {
                Some(_) => self.pull_session(namespace, other, known).await,
                None => Ok(Some(Settled::Gone)),
            };
        }
        let delete = self.remote.sessions.delete(namespace, id, SessionCondition::Version(version));
        let deleted = self.remote.ask(Patience::Owner, delete).await?;
        Ok((deleted != SessionDeleteOutcome::ConditionFailed).then_some(Settled::Delivered))
    }

    async fn pull_session(
        &self,
        namespace: &Namespace,
        other: SessionRecord,
        known: &Known,
    ) -> Result<Option<Settled>> {
        let put = self.taken(namespace, other, known);
        let put = self.database.put_session_beside(put, None, Beside::Settle).await?;
        let is_pulled = !matches!(put, Fenced::Done(SessionPutOutcome::ConditionFailed));
        Ok(is_pulled.then_some(Settled::Pulled))
    }

    /// The write that has SQLite take what DynamoDB has. What others have changed gets a version of the clock, or
    /// SQLite would take it for older than what it knows.
    pub(super) fn taken(
        &self,
        namespace: &Namespace,
        mut record: SessionRecord,
        known: &Known,
    ) -> PutSession {
        let version = &mut record.session.version;
        if let Some(newest) = newest_here(known).filter(|newest| is_foreign(*version, *newest)) {
            *version = self.clock.next_version().max(newest.next());
        }
        let condition = SessionCondition::OlderThan(*version);
        PutSession { namespace: namespace.clone(), record, condition }
    }
}
