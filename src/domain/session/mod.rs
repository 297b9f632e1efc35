//! Sessions: small JSON documents with states and expiry.
//!
//! A [`Session`] is what clients read; a [`SessionRecord`] is what stores keep: the session and its history.
//! The functions in [`change`] turn a record and a request into the next record. They are pure: the time, the
//! version, the randomness and the bounds come from the caller, who then writes the result under the condition
//! that the stored version is still the one that was read.
//!
//! Two rules hold for every change. One that alters nothing returns an equal record, with the version it had,
//! so that nothing needs to be written. And expiry is the caller's to check ([`Session::is_expired`]) before a
//! change, since only the caller knows how to say that a session is gone; only [`change::replace`] looks at it
//! itself, because a session that has expired is one that it creates.

pub mod change;
mod error;
mod fields;
mod history;
mod id;
mod lifecycle;
mod merge;
mod profile;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
mod secrets;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use change::{Stamp, TouchRequest};
pub use error::SessionError;
pub use history::{Event, HistoryLimits, NewEvent};
pub use id::{MAX_ID_CHARS, SessionId};
pub use lifecycle::{Status, StatusRequest};
pub use merge::merge_patch;
pub use profile::{MAX_TTL_SECONDS, Profile, Ttl, TtlMode};
pub use secrets::{Secrets, keep_unseen, put_back, redact, take_secrets};

use super::time::{Timestamp, Version};

/// One session as clients read it. The namespace is not part of it: it belongs to the store's key.
///
/// Serialised in snake case, with absent optional fields left out. The same form is kept at rest, so reading is
/// lenient about what may be missing. `Debug` names the session and shows no content: it can hold credentials.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name, unique within the namespace.
    pub id: SessionId,
    /// Which rules it lives by.
    pub profile: Profile,
    /// The project it belongs to; there is always one in the browser profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Where it is in its life.
    pub status: Status,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it expires, or did.
    pub expires_at: Timestamp,
    /// When it last became PROVISIONING.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_started_at: Option<Timestamp>,
    /// When it last became READY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// When it last became ACTIVE or was touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<Timestamp>,
    /// When it reached a terminal status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated_at: Option<Timestamp>,
    /// What the client wants to remember about it.
    #[serde(default)]
    pub user_metadata: Map<String, Value>,
    /// The language model that drives it; may hold credentials.
    #[serde(default)]
    pub model_config: Map<String, Value>,
    /// What it may use.
    #[serde(default)]
    pub resource_limits: Map<String, Value>,
    /// What it used.
    #[serde(default)]
    pub billing_info: Map<String, Value>,
    /// Where a debugging client connects; carries a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_url: Option<String>,
    /// The public address of the machine that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<String>,
    /// The credential for `connect_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<String>,
    /// The ECS task that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_task_arn: Option<String>,
    /// Whatever the client keeps in it, of any JSON type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// How long it lives.
    pub ttl: Ttl,
    /// How many events there ever were.
    #[serde(default)]
    pub event_count: u64,
    /// How many of them are no longer kept.
    #[serde(default)]
    pub events_dropped: u64,
    /// The write that made it what it is.
    #[serde(with = "version_as_number")]
    pub version: Version,
    /// Attributes this service does not know, under their own names.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Session {
    /// Whether it has expired by `now`; the instant of expiry itself is too late.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("profile", &self.profile)
            .field("status", &self.status)
            .field("updated_at", &self.updated_at)
            .field("expires_at", &self.expires_at)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What a store keeps: a session and the events that are still kept of its history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session.
    pub session: Session,
    /// Its newest events, oldest first, with consecutive indices.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// The bounds that every change observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of JSON that a record may have.
    pub record_bytes: usize,
    /// How much history is kept.
    pub history: HistoryLimits,
    /// How long a session of the browser profile lives when its body does not say, in seconds.
    pub browser_ttl_seconds: u64,
    /// How long a session of the mcp profile lives when its body does not say, in seconds.
    pub mcp_ttl_seconds: u64,
}

impl Limits {
    /// The life of a session created without a `ttl`.
    pub const fn ttl(&self, profile: Profile) -> Ttl {
        let Ttl { mode, .. } = profile.default_ttl();
        let seconds = match profile {
            Profile::Browser => self.browser_ttl_seconds,
            Profile::Mcp => self.mcp_ttl_seconds,
        };
        Ttl { mode, seconds }
    }
}

impl Default for Limits {
    /// One MiB a record, and the lives that the profiles come with.
    fn default() -> Self {
        Self {
            record_bytes: 1024 * 1024,
            history: HistoryLimits::default(),
            browser_ttl_seconds: Profile::Browser.default_ttl().seconds,
            mcp_ttl_seconds: Profile::Mcp.default_ttl().seconds,
        }
    }
}

/// How many bytes `value` has as compact JSON.
fn json_bytes<T: Serialize>(value: &T) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("sessions and events have string keys and cannot fail");
    count.0
}

/// [`Version`] as a plain number, the way stores keep it.
mod version_as_number {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Version;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(super) fn serialize<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(version.as_u64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        u64::deserialize(deserializer).map(Version::from_u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn smallest() -> Value {
        json!({
            "id": "sess_a1b2c3d4", "profile": "mcp", "status": "ACTIVE",
            "created_at": 1_768_473_000, "updated_at": "2026-01-15T10:30:00Z", "expires_at": "2026-01-16T10:30:00Z",
            "ttl": {"mode": "sliding", "seconds": 86_400}, "version": 7,
        })
    }

    #[test]
    fn reads_the_smallest_form_and_writes_the_full_one() {
        let session: Session = serde_json::from_value(smallest()).expect("complete");
        let mut full = smallest();
        full["created_at"] = json!("2026-01-15T10:30:00.000Z");
        full["updated_at"] = json!("2026-01-15T10:30:00.000Z");
        full["expires_at"] = json!("2026-01-16T10:30:00.000Z");
        for map in ["user_metadata", "model_config", "resource_limits", "billing_info"] {
            full[map] = json!({});
        }
        full["event_count"] = json!(0);
        full["events_dropped"] = json!(0);
        assert_eq!(serde_json::to_value(&session).expect("JSON"), full);
    }

    #[test]
    fn keeps_unknown_attributes_under_their_own_names() {
        let mut body = smallest();
        body["keepAlive"] = json!(true);
        body["nested"] = json!({"a": [1, null, {"b": "c"}]});
        let session: Session = serde_json::from_value(body.clone()).expect("complete");
        assert_eq!(session.extra.len(), 2);
        let back = serde_json::to_value(&session).expect("JSON");
        assert_eq!((&back["keepAlive"], &back["nested"]), (&body["keepAlive"], &body["nested"]));
    }

    #[test]
    fn expires_at_the_very_instant() {
        let session: Session = serde_json::from_value(smallest()).expect("complete");
        let at = session.expires_at.as_millis();
        assert!(!session.is_expired(Timestamp::from_millis(at - 1)));
        assert!(session.is_expired(Timestamp::from_millis(at)));
    }

    #[test]
    fn debug_shows_no_content() {
        let mut body = smallest();
        body["signing_key"] = json!("hunter2");
        body["state"] = json!({"cookie": "hunter2"});
        body["extra_key"] = json!("hunter2");
        let session: Session = serde_json::from_value(body).expect("complete");
        let shown = format!("{session:?}");
        assert!(shown.contains("sess_a1b2c3d4") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn counts_json_bytes() {
        let value = json!({"a": [1, "é\n", null]});
        assert_eq!(json_bytes(&value), serde_json::to_vec(&value).expect("JSON").len());
    }
}
