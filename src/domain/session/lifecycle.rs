//! The states of a session, which may follow which, and what entering one records.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Session;
use super::error::SessionError;
use super::fields::Text;
use super::profile::Profile;
use crate::domain::time::Timestamp;

/// What is accepted as a status.
pub(super) const STATUSES: &str = "one of CREATING, PROVISIONING, STARTING, READY, ACTIVE, TERMINATING, STOPPED, \
                                   FAILED, TIMED_OUT";

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Recorded, nothing started.
    Creating,
    /// A machine is being found.
    Provisioning,
    /// The browser is starting.
    Starting,
    /// It can be connected to.
    Ready,
    /// Somebody is connected.
    Active,
    /// It is being shut down.
    Terminating,
    /// Ended as wanted.
    Stopped,
    /// Ended by an error.
    Failed,
    /// Ended by its time limit.
    TimedOut,
}

impl Status {
    /// All of them, in the order in which a session moves through them.
    pub const ALL: [Self; 9] = [
        Self::Creating,
        Self::Provisioning,
        Self::Starting,
        Self::Ready,
        Self::Active,
        Self::Terminating,
        Self::Stopped,
        Self::Failed,
        Self::TimedOut,
    ];

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Provisioning => "PROVISIONING",
            Self::Starting => "STARTING",
            Self::Ready => "READY",
            Self::Active => "ACTIVE",
            Self::Terminating => "TERMINATING",
            Self::Stopped => "STOPPED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    /// The status of that name in JSON.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Reads the status that `field` holds.
    pub(super) fn read(field: &str, value: &Value) -> Result<Self, SessionError> {
        value.as_str().and_then(Self::parse).ok_or_else(|| SessionError::invalid(field, STATUSES))
    }

    /// Whether a session in it has ended: nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::TimedOut)
    }

    /// How far along it is; the three ways to end are equally far.
    const fn rank(self) -> u8 {
        match self {
            Self::Creating => 0,
            Self::Provisioning => 1,
            Self::Starting => 2,
            Self::Ready => 3,
            Self::Active => 4,
            Self::Terminating => 5,
            Self::Stopped | Self::Failed | Self::TimedOut => 6,
        }
    }

    /// Whether `next` may follow. No status follows itself: asking for it changes nothing and is never refused.
    ///
    /// Browser sessions move forward, skipping what they like, and go back only from ACTIVE to READY, when a
    /// client disconnects. Any status may follow in other profiles. Nothing follows a terminal one in any.
    pub fn may_become(self, next: Self, profile: Profile) -> bool {
        if self == next || self.is_terminal() {
            return false;
        }
        match profile {
            Profile::Browser => {
                next.rank() > self.rank() || matches!((self, next), (Self::Active, Self::Ready))
            }
            Profile::Mcp => true,
        }
    }

    /// Every status that may follow, in the order of [`Status::ALL`].
    pub fn allowed_next(self, profile: Profile) -> Vec<Self> {
        Self::ALL.into_iter().filter(|&next| self.may_become(next, profile)).collect()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of status as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// The status to move to.
    pub status: Status,
    /// Why, for the history.
    pub reason: Option<String>,
    /// Who says so, for the history.
    pub source: Option<String>,
    /// The status that the session must have for the change to be made.
    pub expected_status: Option<Status>,
}

impl StatusRequest {
    /// A move to `status` with nothing else said.
    pub const fn to(status: Status) -> Self {
        Self { status, reason: None, source: None, expected_status: None }
    }

    /// Reads `{"status", "reason"?, "source"?, "expected_status"?}`.
    ///
    /// # Errors
    /// Other members are refused, since a misspelt condition would otherwise be no condition.
    pub fn from_body(body: &Value) -> Result<Self, SessionError> {
        const MEMBERS: &str = "absent; the members are status, reason, source and expected_status";
        let object = body.as_object().ok_or(SessionError::NotAnObject)?;
        let mut request = Self::to(Status::Creating);
        let mut status = None;
        for (member, value) in object {
            match member.as_str() {
                "status" => status = Some(Status::read(member, value)?),
                _ if value.is_null() => {}
                "reason" => request.reason = Some(Text::REASON.read(member, value)?),
                "source" => request.source = Some(Text::NAME.read(member, value)?),
                "expected_status" => request.expected_status = Some(Status::read(member, value)?),
                _ => return Err(SessionError::invalid(member, MEMBERS)),
            }
        }
        let status = status.ok_or(SessionError::MissingField { field: "status" })?;
        Ok(Self { status, ..request })
    }
}

impl Session {
    /// Puts the session into `status` and records when. Whether it may is for the caller to have checked.
    pub(super) fn enter(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        match status {
            Status::Provisioning => self.provisioning_started_at = Some(now),
            Status::Ready => self.ready_at = Some(now),
            Status::Active => self.last_active_at = Some(now),
            Status::Stopped | Status::Failed | Status::TimedOut => self.terminated_at = Some(now),
            Status::Creating | Status::Starting | Status::Terminating => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Row: from; column: to, both in the order of [`Status::ALL`]. `x` may follow, `.` may not.
    const BROWSER: [&str; 9] = [
        // C P S R A T s f t
        ". x x x x x x x x", // CREATING
        ". . x x x x x x x", // PROVISIONING
        ". . . x x x x x x", // STARTING
        ". . . . x x x x x", // READY
        ". . . x . x x x x", // ACTIVE
        ". . . . . . x x x", // TERMINATING
        ". . . . . . . . .", // STOPPED
        ". . . . . . . . .", // FAILED
        ". . . . . . . . .", // TIMED_OUT
    ];

    const MCP: [&str; 9] = [
        ". x x x x x x x x",
        "x . x x x x x x x",
        "x x . x x x x x x",
        "x x x . x x x x x",
        "x x x x . x x x x",
        "x x x x x . x x x",
        ". . . . . . . . .",
        ". . . . . . . . .",
        ". . . . . . . . .",
    ];

    #[test]
    fn the_transition_table() {
        for (profile, table) in [(Profile::Browser, BROWSER), (Profile::Mcp, MCP)] {
            for (from, row) in Status::ALL.into_iter().zip(table) {
                let expected: Vec<bool> = row.split(' ').map(|cell| cell == "x").collect();
                let found: Vec<bool> =
                    Status::ALL.into_iter().map(|to| from.may_become(to, profile)).collect();
                assert_eq!(found, expected, "{profile:?} {from}");
                let next = Status::ALL.into_iter().filter(|to| from.may_become(*to, profile));
                assert_eq!(from.allowed_next(profile), next.collect::<Vec<_>>(), "{profile:?} {from}");
            }
        }
    }

    #[test]
    fn names_are_those_of_serde() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).expect("JSON"), json!(status.as_str()));
            assert_eq!(Status::parse(status.as_str()), Some(status));
            assert!(STATUSES.contains(status.as_str()), "{status}");
        }
        assert_eq!(Status::parse("ready"), None);
    }

    #[test]
    fn reads_a_status_request() {
        assert_eq!(
            StatusRequest::from_body(&json!({"status": "READY"})),
            Ok(StatusRequest::to(Status::Ready))
        );
        let full = json!({"status": "FAILED", "reason": "no capacity", "source": "ecs", "expected_status": "STARTING"});
        let request = StatusRequest::from_body(&full).expect("complete");
        assert_eq!(request.reason.as_deref(), Some("no capacity"));
        assert_eq!(request.source.as_deref(), Some("ecs"));
        assert_eq!(request.expected_status, Some(Status::Starting));
    }

    #[test]
    fn refuses_what_is_no_status_request() {
        let refuse = |body: Value| StatusRequest::from_body(&body).unwrap_err();
        assert_eq!(refuse(json!("READY")), SessionError::NotAnObject);
        assert_eq!(refuse(json!({})), SessionError::MissingField { field: "status" });
        let long = "r".repeat(1025);
        for (body, name) in [
            (json!({"status": "RUNNING"}), "status"),
            (json!({"status": null}), "status"),
            (json!({"status": "READY", "reason": 5}), "reason"),
            (json!({"status": "READY", "reason": long}), "reason"),
            (json!({"status": "READY", "source": ""}), "source"),
            (json!({"status": "READY", "expected_status": "x"}), "expected_status"),
            (json!({"status": "READY", "expectedStatus": "STARTING"}), "expectedStatus"),
        ] {
            assert!(
                matches!(refuse(body), SessionError::InvalidField { field, .. } if field == name),
                "{name}"
            );
        }
    }
}
