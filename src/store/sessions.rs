//! The contract for sessions: what every store and wrapper does.

use std::fmt;

use async_trait::async_trait;

use super::{Result, Status};
use crate::domain::session::{Session, SessionId, SessionRecord, Status as SessionStatus};
use crate::domain::{Namespace, Timestamp, Version};

/// Keeps sessions.
///
/// A session changes by compare-and-set: the caller reads it, computes the next one, and puts it under the
/// condition that the version is still the one it read. So status, times, event and version change in one
/// write, on every backend. Expired sessions are returned until they are swept; the caller judges.
#[async_trait]
pub trait SessionStore: fmt::Debug + fmt::Display + Send + Sync {
    /// The session of an id; `None` if the store holds none.
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>>;

    /// Many sessions, in the order of the ids. One that is there and cannot be read is an error of its own.
    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>>;

    /// Stores a session whole.
    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome>;

    /// Removes a session.
    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome>;

    /// One page of a project's sessions or of those in a status.
    async fn list(&self, query: &SessionQuery) -> Result<SessionPage>;

    /// Looks at up to `limit` sessions of all namespaces behind `after`, and seals those anew, unless it is a `dry_run`,
    /// whose credentials are not sealed under the current key. That changes nothing else, not even their version. A
    /// store without a key of its own seals nothing.
    async fn reseal(&self, after: Option<&SessionCursor>, limit: usize, dry_run: bool) -> Result<Resealed> {
        let _ = (after, limit, dry_run);
        Ok(Resealed::default())
    }

    /// How the store is, checked now.
    async fn status(&self) -> Result<Status>;
}

/// What there is of one session among many.
pub type Found = Result<Option<SessionRecord>>;

/// A session that is there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whose.
    pub namespace: Namespace,
    /// Which one.
    pub id: SessionId,
    /// Why.
    pub error: super::Error,
}

/// What sealing anew came to, a page of sessions at a time.
#[derive(Clone, Debug, Default)]
pub struct Resealed {
    /// Sessions that were looked at.
    pub seen: u64,
    /// Those that were sealed under the current key, or would be.
    pub resealed: u64,
    /// Those that cannot be read, and stay as they are.
    pub unreadable: Vec<Unreadable>,
    /// Where to go on; `None` at the end.
    pub next: Option<SessionCursor>,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCondition {
    /// Nothing.
    Any,
    /// No session, or one that has expired by then.
    Absent(Timestamp),
    /// A session of this version.
    Version(Version),
    /// No session, or one older than this version.
    OlderThan(Version),
}

impl SessionCondition {
    /// Whether it holds for what is stored: its version and its expiry.
    pub fn holds(self, stored: Option<(Version, Timestamp)>) -> bool {
        match (self, stored) {
            (Self::Any, _) | (Self::Absent(_) | Self::OlderThan(_), None) => true,
            (Self::Absent(now), Some((_, expires_at))) => expires_at <= now,
            (Self::Version(wanted), Some((version, _))) => version == wanted,
            (Self::Version(_), None) => false,
            (Self::OlderThan(than), Some((version, _))) => version < than,
        }
    }
}

/// A write.
#[derive(Clone, Debug)]
pub struct PutSession {
    /// Whose.
    pub namespace: Namespace,
    /// The session as it shall be, its version included.
    pub record: SessionRecord,
    /// What must hold.
    pub condition: SessionCondition,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPutOutcome {
    /// There was no session.
    Created,
    /// A session was replaced.
    Replaced,
    /// The condition does not hold: nothing changed.
    ConditionFailed,
    /// What is put under [`SessionCondition::Absent`] has an earlier version than this one, of a deletion that is remembered:
    /// nothing changed. What a client creates is put again with a version above it, and the condition judged then.
    Behind(Version),
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionDeleteOutcome {
    /// The session is gone.
    Deleted,
    /// There was none.
    Absent,
    /// The condition does not hold: nothing changed.
    ConditionFailed,
}

/// Which sessions to list. There is no listing without a project or a status: that would be a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQuery {
    /// Whose.
    pub namespace: Namespace,
    /// Which, and in which order.
    pub filter: SessionFilter,
    /// Only those that have not expired by this time; `None` lists expired ones too.
    pub live_at: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<SessionCursor>,
}

/// Which sessions a listing holds, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionFilter {
    /// Those of a project by creation time, newest first unless `ascending`.
    Project {
        /// The project.
        project_id: String,
        /// Only those created at or after this time.
        created_after: Option<Timestamp>,
        /// Only those created before this time.
        created_before: Option<Timestamp>,
        /// Only those in this status.
        status: Option<SessionStatus>,
        /// Oldest first.
        ascending: bool,
    },
    /// Those in a status by expiry, the soonest first.
    Status {
        /// The status.
        status: SessionStatus,
        /// Only those that expire at or after this time.
        expires_after: Option<Timestamp>,
        /// Only those that expire before this time.
        expires_before: Option<Timestamp>,
    },
}

/// Where a page ended, in the store's own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCursor(pub Vec<u8>);

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct SessionPage {
    /// The sessions.
    pub items: Vec<SessionRecord>,
    /// Where each of them is: a listing goes on behind it with this cursor.
    pub places: Vec<SessionCursor>,
    /// Those that would be among them, as far as that can be told, and cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Where to go on; `None` at the end.
    pub next: Option<SessionCursor>,
}

impl SessionQuery {
    /// Whether a session is one of those asked for; the namespace and the cursor aside.
    pub fn admits(&self, session: &Session) -> bool {
        let live = self.live_at.is_none_or(|now| session.expires_at > now);
        live && match &self.filter {
            SessionFilter::Project { project_id, created_after, created_before, status, .. } => {
                session.project_id.as_ref() == Some(project_id)
                    && within(session.created_at, *created_after, *created_before)
                    && status.is_none_or(|status| session.status == status)
            }
            SessionFilter::Status { status, expires_after, expires_before } => {
                session.status == *status && within(session.expires_at, *expires_after, *expires_before)
            }
        }
    }

    /// The time by which the listing is ordered.
    pub fn position(&self, session: &Session) -> Timestamp {
        match self.filter {
            SessionFilter::Project { .. } => session.created_at,
            SessionFilter::Status { .. } => session.expires_at,
        }
    }

    /// Whether the latest time comes first.
    pub fn descends(&self) -> bool {
        matches!(self.filter, SessionFilter::Project { ascending: false, .. })
    }
}

fn within(time: Timestamp, from: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    from.is_none_or(|from| time >= from) && until.is_none_or(|until| time < until)
}
