//! Reads sessions: from the owner, or from whoever knows better or can still answer.

use std::sync::Arc;

use super::super::Inner;
use super::super::plan::{self, Local, Read};
use super::super::read::local;
use super::super::remote::Patience;
use super::known::{admits, beats};
use crate::domain::Namespace;
use crate::domain::routing::{Side, session_bucket};
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::sqlite::ledger::{self, Beside, Fenced, Known};
use crate::store::{Error, Found, PutSession, Result, SessionCondition, SessionPutOutcome, dynamodb};

/// How often a read begins anew because a session went from one side to the other under it.
const TRIES: usize = 3;

const OPERATION: &str = "session_get";

/// One session that is read.
struct One<'a> {
    id: &'a SessionId,
    owner: Side,
    known: Known,
    plan: Read,
}

impl Inner {
    /// The sessions of these ids.
    pub(super) async fn read_sessions(
        self: &Arc<Self>,
        namespace: &Namespace,
        ids: &[SessionId],
    ) -> Result<Vec<Found>> {
        for _ in 1..TRIES {
            if let Some(found) = self.try_read(namespace, ids, false).await? {
                return Ok(found);
            }
        }
        Ok(self.try_read(namespace, ids, true).await?.unwrap_or_default())
    }

    /// As [`Inner::read_sessions`]; nothing if one of them has left SQLite meanwhile, unless it is the `last` try.
    async fn try_read(
        self: &Arc<Self>,
        namespace: &Namespace,
        ids: &[SessionId],
        last: bool,
    ) -> Result<Option<Vec<Found>>> {
        let policy = self.in_force();
        let is_reachable = !self.remote.circuit.is_open();
        let known = self.database.known_sessions(namespace, ids).await?;
        let read = |(id, known): (_, Known)| {
            let owner = policy.policy.owner(session_bucket(namespace, id));
            One { id, owner, known, plan: plan::read(owner, local(&known), is_reachable) }
        };
        let read: Vec<One<'_>> = ids.iter().zip(known).map(read).collect();
        if read.iter().any(|one| one.plan == Read::Unreachable) {
            return Err(self.refuse(OPERATION));
        }
        if read.iter().any(|one| one.plan == Read::Unasked) {
            self.count(OPERATION, Side::Dynamodb, "refused");
            return Err(self.unasked());
        }
        let here = async {
            let held = |one: &&One<'_>| one.known.held.is_some();
            let ids: Vec<SessionId> = read.iter().filter(held).map(|one| one.id.clone()).collect();
            if ids.is_empty() { Ok(Vec::new()) } else { self.local_sessions.get_many(namespace, &ids).await }
        };
        let (here, there) = tokio::join!(here, self.read_there(namespace, &read));
        let (mut here, mut there) = (here?.into_iter(), there.map(Vec::into_iter));
        let mut found = Vec::with_capacity(read.len());
        for one in read {
            let own = one.known.held.and_then(|_| here.next()).unwrap_or(Ok(None));
            if own == Ok(None) && one.known.held.is_some() && !last {
                return Ok(None);
            }
            found.push(match one.plan {
                Read::Local => self.counted(own, Side::Sqlite, "owner"),
                Read::LocalQueued => self.counted(own, Side::Sqlite, "queued"),
                Read::LocalFallback => self.counted(own, Side::Sqlite, "fallback"),
                Read::Absent | Read::Unasked | Read::Unreachable => {
                    self.counted(Ok(None), Side::Sqlite, "owner")
                }
                Read::RemoteElseUnasked | Read::NewerElseLocal | Read::RemoteElseError => match &mut there {
                    Ok(there) => {
                        let other = there.next().unwrap_or(Ok(None));
                        self.readable_of(namespace, &one, (own, other), policy.generation)
                    }
                    Err(_) if own != Ok(None) => self.counted(own, Side::Sqlite, "fallback"),
                    Err(error) => {
                        self.count(OPERATION, Side::Dynamodb, "refused");
                        let is_unasked = one.owner == Side::Sqlite || one.known.is_deleted();
                        return Err(match error {
                            // There is one, and nobody can read it.
                            Error::Corrupt { .. } => error.clone(),
                            _ if is_unasked => Error::unasked(dynamodb::BACKEND, error),
                            _ => error.clone(),
                        });
                    }
                },
            });
        }
        Ok(Some(found))
    }

    /// What DynamoDB has of those that it is to be asked for.
    async fn read_there(&self, namespace: &Namespace, read: &[One<'_>]) -> Result<Vec<Found>> {
        let asked = |one: &&One<'_>| {
            matches!(one.plan, Read::RemoteElseUnasked | Read::NewerElseLocal | Read::RemoteElseError)
        };
        let ids: Vec<SessionId> = read.iter().filter(asked).map(|one| one.id.clone()).collect();
        let owns_some = read.iter().filter(asked).any(|one| one.owner == Side::Dynamodb);
        let patience = if owns_some { Patience::Owner } else { Patience::Other };
        let remote = &self.remote;
        match ids.as_slice() {
            [] => Ok(Vec::new()),
            [id] => match remote.ask(patience, remote.sessions.get(namespace, id)).await {
                Err(error) if !error.is_of_one() => Err(error),
                found => Ok(vec![found]),
            },
            ids => remote.ask_many(patience, ids.len(), remote.sessions.get_many(namespace, ids)).await,
        }
    }

    /// The one that counts of those that can be read. One that cannot is what counts unless the other side is known to
    /// have none that is older.
    fn readable_of(
        self: &Arc<Self>,
        namespace: &Namespace,
        one: &One<'_>,
        (own, other): (Found, Found),
        generation: u64,
    ) -> Found {
        match (own, other) {
            (Ok(own), Ok(other)) => Ok(self.newer_of(namespace, one, own, other, generation)),
            (Err(error), Ok(Some(other))) => {
                let version = other.session.version;
                let is_newest = one.known.held.is_none_or(|held| version == held || beats(version, held));
                let found =
                    if is_newest && admits(&one.known, version) { Ok(Some(other)) } else { Err(error) };
                self.counted(found, Side::Dynamodb, "other")
            }
            // How new the one is that cannot be read is not known: the owner's counts.
            (Ok(own), Err(_)) if own.is_some() && one.owner == Side::Sqlite => {
                self.counted(Ok(own), Side::Sqlite, "owner")
            }
            (_, Err(error)) | (Err(error), Ok(None)) => self.counted(Err(error), one.owner, "owner"),
        }
    }

    /// The one that counts; a side that should have it, and has not, gets it behind the answer.
    fn newer_of(
        self: &Arc<Self>,
        namespace: &Namespace,
        one: &One<'_>,
        own: Option<SessionRecord>,
        other: Option<SessionRecord>,
        generation: u64,
    ) -> Option<SessionRecord> {
        let other = other.filter(|other| admits(&one.known, other.session.version));
        match (own, other) {
            (Some(own), other)
                if other.as_ref().is_none_or(|other| beats(own.session.version, other.session.version)) =>
            {
                // One that has expired is not worth the way where DynamoDB has deleted it.
                if other.is_some() || !own.session.is_expired(self.clock.now()) {
                    self.copy_session_there(namespace, one.id);
                }
                self.counted(Some(own), Side::Sqlite, "other")
            }
            (_, Some(other)) if one.owner == Side::Sqlite => {
                self.copy_session_here(namespace, &other, generation);
                self.counted(Some(other), Side::Dynamodb, "other")
            }
            (_, other) => self.counted(other, one.owner, "owner"),
        }
    }

    fn counted<T>(&self, found: T, side: Side, reason: &str) -> T {
        self.count(OPERATION, side, reason);
        found
    }

    /// What SQLite knows of one session.
    pub(super) async fn known_session(&self, namespace: &Namespace, id: &SessionId) -> Result<Known> {
        let known = self.database.known_sessions(namespace, std::slice::from_ref(id)).await?;
        Ok(known.into_iter().next().unwrap_or_default())
    }

    /// Gives SQLite, which owns it, a session that only DynamoDB has. Not if another policy is in force by then, and
    /// not if it has expired: SQLite would only sweep it.
    fn copy_session_here(self: &Arc<Self>, namespace: &Namespace, record: &SessionRecord, generation: u64) {
        let session = &record.session;
        if session.is_expired(self.clock.now()) {
            return;
        }
        let id = ledger::session_id(namespace, &session.id);
        let condition = SessionCondition::OlderThan(session.version);
        let put = PutSession { namespace: namespace.clone(), record: record.clone(), condition };
        self.copy(id, "sqlite", move |inner| async move {
            let put = inner.database.put_session_beside(put, Some(generation), Beside::Settle).await?;
            Ok(put == Fenced::Done(SessionPutOutcome::Created))
        });
    }

    /// Gives DynamoDB, which owns it, a session that SQLite has a newer version of.
    fn copy_session_there(self: &Arc<Self>, namespace: &Namespace, id: &SessionId) {
        let (namespace, id) = (namespace.clone(), id.clone());
        self.copy(ledger::session_id(&namespace, &id), "dynamodb", move |inner| async move {
            Ok(super::settle(&inner, &namespace, &id).await? == super::super::Settled::Delivered)
        });
    }
}

/// Whether SQLite has something that DynamoDB has yet to get.
pub(super) fn is_undelivered(known: &Known) -> bool {
    matches!(local(known), Local::Newest | Local::DeletedNewest)
}
