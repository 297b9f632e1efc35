//! Changes by compare-and-set: read, compute the next session, store it if nobody else was faster, or begin anew.

use super::precondition::Precondition;
use super::request::stamp;
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::session::change::Stamp;
use crate::domain::session::{SessionError, SessionId, SessionRecord};
use crate::domain::{Namespace, Timestamp};
use crate::store::{Error, PutSession, SessionCondition, SessionPutOutcome};

/// How often a change is tried again when somebody else was faster.
pub(super) const ATTEMPTS: usize = 32;

/// Which session a request is about, and what it expects of it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) api: &'a Api,
    pub(super) namespace: &'a Namespace,
    pub(super) id: &'a SessionId,
    pub(super) expected: Precondition,
}

/// A session as a change left it.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) record: SessionRecord,
    /// Whether there was none before.
    pub(super) created: bool,
}

impl Target<'_> {
    /// Changes the session that there is.
    pub(super) async fn change(
        &self,
        make: impl Fn(&SessionRecord, Stamp) -> Result<SessionRecord, SessionError>,
    ) -> Result<SessionRecord> {
        self.store_next(|current, stamp| {
            let current = live(self.id, current, stamp.now)?;
            self.expected.check(Some(current.session.version))?;
            Ok(make(current, stamp)?)
        })
        .await
        .map(|changed| changed.record)
    }

    /// Stores what `make` makes of the session that is stored, which may be none or an expired one.
    pub(super) async fn store_next(
        &self,
        make: impl Fn(Option<&SessionRecord>, Stamp) -> Result<SessionRecord>,
    ) -> Result<Changed> {
        let Self { api, namespace, id, .. } = *self;
        let _turn = api.shared().session_turns.take(namespace, id).await;
        let mut deleted = None;
        for _ in 0..ATTEMPTS {
            // What is damaged is replaced as if it were not there; what is sealed under another key can be read with that.
            let (current, damage) = match api.sessions.get(namespace, id).await {
                Err(error @ Error::Corrupt { .. }) => (None, Some(error)),
                current => (current?, None),
            };
            let now = api.clock.now();
            let seen = current.as_ref().map(|current| current.session.version);
            let stamp = stamp(api, now, seen.max(deleted));
            let record = match (make(current.as_ref(), stamp), &damage) {
                // It cannot be changed, nor a condition on it be judged.
                (Err(_), Some(damage)) => return Err(damage.clone().into()),
                (record, _) => record?,
            };
            let live = current.filter(|current| !current.session.is_expired(now));
            let condition = match &live {
                Some(current) if *current == record => return Ok(Changed { record, created: false }),
                Some(current) => SessionCondition::Version(current.session.version),
                None if damage.is_some() => SessionCondition::Any,
                None => SessionCondition::Absent(now),
            };
            let put = PutSession { namespace: namespace.clone(), record: record.clone(), condition };
            match api.sessions.put(put).await? {
                SessionPutOutcome::Created | SessionPutOutcome::Replaced => {
                    return Ok(Changed { record, created: live.is_none() });
                }
                SessionPutOutcome::ConditionFailed => {}
                SessionPutOutcome::Behind(deletion) => deleted = Some(deletion),
            }
        }
        Err(Problem::new(
            "write_conflict",
            "others changed the session each time; send If-Match and decide yourself",
        ))
    }
}

/// The session, if there is one that has not expired.
pub(super) fn live<'r>(
    id: &SessionId,
    stored: Option<&'r SessionRecord>,
    now: Timestamp,
) -> Result<&'r SessionRecord> {
    match stored {
        None => {
            Err(Problem::new("session_not_found", format!("there is no session `{id}`"))
                .with("id", id.as_str()))
        }
        Some(record) if record.session.is_expired(now) => {
            let expired_at = record.session.expires_at.to_string();
            Err(Problem::new("session_expired", format!("the session `{id}` expired at {expired_at}"))
                .with("id", id.as_str())
                .with("expired_at", expired_at))
        }
        Some(record) => Ok(record),
    }
}
