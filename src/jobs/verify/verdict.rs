//! What both sides have of one thing, and what that comes to.

use serde_json::Value;

use super::super::track::What;
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Key, Meta, Namespace, Timestamp, Version};
use crate::store::sqlite::ledger::{Known, Tombstone};

/// What is compared.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Result(Key),
    Session(Namespace, SessionId),
}

impl Subject {
    /// What a finding says it is about.
    pub(super) const fn what(&self) -> What<'_> {
        match self {
            Self::Result(key) => What::Result(key),
            Self::Session(namespace, id) => What::Session(namespace, id),
        }
    }
}

/// What one side holds.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Result(Box<Meta>),
    Session(Box<SessionRecord>),
}

impl Held {
    pub(super) fn version(&self) -> Version {
        match self {
            Self::Result(meta) => meta.version,
            Self::Session(record) => record.session.version,
        }
    }

    fn expires_at(&self) -> Timestamp {
        match self {
            Self::Result(meta) => meta.expires_at,
            Self::Session(record) => record.session.expires_at,
        }
    }

    /// The fields in which they differ.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        match (self, other) {
            (Self::Result(this), Self::Result(other)) => of_metas(this, other),
            (Self::Session(this), Self::Session(other)) => of_records(this, other),
            _ => vec!["kind".to_owned()],
        }
    }
}

fn of_metas(this: &Meta, other: &Meta) -> Vec<String> {
    let (a, b) = (&this.validators, &other.validators);
    let fields = [
        ("version", this.version != other.version),
        ("etag", this.etag != other.etag),
        // Each side keeps the earliest that it has seen, and they may have seen different ones.
        ("created_at", this.version != other.version && this.created_at != other.created_at),
        ("updated_at", this.updated_at != other.updated_at),
        ("expires_at", this.expires_at != other.expires_at),
        ("status_code", this.status_code != other.status_code),
        ("success", this.success != other.success),
        ("origin_etag", a.etag != b.etag),
        ("origin_last_modified", a.last_modified != b.last_modified),
        ("head_fingerprint", a.head_fingerprint != b.head_fingerprint),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// Names alone: what stands there may be a credential.
fn of_records(this: &SessionRecord, other: &SessionRecord) -> Vec<String> {
    let object = |record: &SessionRecord| match serde_json::to_value(&record.session) {
        Ok(Value::Object(object)) => object,
        _ => serde_json::Map::new(),
    };
    let (a, b) = (object(this), object(other));
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut fields: Vec<String> =
        names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect();
    if this.events != other.events {
        fields.push("events".to_owned());
    }
    fields
}

/// What DynamoDB has.
#[derive(Clone, Debug)]
pub(super) enum There {
    Held(Held),
    Deleted(Version),
    Absent,
    Unreadable(String),
}

impl There {
    pub(super) fn version(&self) -> Option<Version> {
        match self {
            Self::Held(held) => Some(held.version()),
            Self::Deleted(version) => Some(*version),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// What SQLite has.
#[derive(Clone, Debug)]
pub(super) enum Here {
    Held(Held),
    Absent,
    Unreadable(String),
}

impl Here {
    fn version(&self) -> Option<Version> {
        match self {
            Self::Held(held) => Some(held.version()),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// Both sides of one thing.
#[derive(Clone, Debug)]
pub(super) struct Both {
    pub(super) here: Here,
    pub(super) there: There,
    /// Tombstones and the outbox of SQLite.
    pub(super) known: Known,
}

/// What they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Equal,
    /// DynamoDB will get it: it is in the outbox.
    Pending,
    /// One of them has expired, so that it does not matter.
    Expired,
    MissingDynamodb,
    MissingSqlite,
    /// The fields.
    Different(Vec<String>),
    /// One side has what the other knows to be deleted: which side has it.
    Deleted(&'static str),
    Unreadable(String),
}

impl Verdict {
    /// The word that is counted.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Pending => "pending",
            Self::Expired => "expired",
            Self::MissingDynamodb => "missing_dynamodb",
            Self::MissingSqlite => "missing_sqlite",
            Self::Different(_) => "different",
            Self::Deleted(_) => "deleted",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether there is nothing to complain about.
    pub(super) const fn is_good(&self) -> bool {
        matches!(self, Self::Equal | Self::Pending | Self::Expired)
    }

    /// In words.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Different(fields) => format!("they differ in {}", fields.join(", ")),
            Self::Deleted(side) => format!("{side} has what the other side knows to be deleted"),
            Self::MissingDynamodb => "DynamoDB does not have it".to_owned(),
            Self::MissingSqlite => "SQLite does not have it".to_owned(),
            Self::Unreadable(wrong) => wrong.clone(),
            Self::Equal | Self::Pending | Self::Expired => String::new(),
        }
    }
}

impl Both {
    /// What they come to by `now`.
    pub(super) fn verdict(&self, now: Timestamp) -> Verdict {
        let verdict = self.difference();
        if verdict == Verdict::Equal {
            return verdict;
        }
        let held = |held: &Held| held.expires_at() < now;
        let expired = matches!(&self.here, Here::Held(here) if held(here))
            || matches!(&self.there, There::Held(there) if held(there));
        match verdict {
            Verdict::Unreadable(_) => verdict,
            _ if expired => Verdict::Expired,
            _ if self.known.queued.is_some() => Verdict::Pending,
            verdict => verdict,
        }
    }

    fn difference(&self) -> Verdict {
        match (&self.here, &self.there) {
            (Here::Unreadable(wrong), _) => Verdict::Unreadable(format!("in SQLite: {wrong}")),
            (_, There::Unreadable(wrong)) => Verdict::Unreadable(format!("in DynamoDB: {wrong}")),
            (Here::Held(here), There::Held(there)) => match here.differences(there) {
                fields if fields.is_empty() => Verdict::Equal,
                fields => Verdict::Different(fields),
            },
            (Here::Held(here), There::Deleted(version)) if *version > here.version() => {
                Verdict::Deleted("SQLite")
            }
            // No deletion has the version of a write: an item says of itself that it is deleted, and is not.
            (Here::Held(here), There::Deleted(version)) if *version == here.version() => {
                Verdict::Different(vec!["deleted".to_owned()])
            }
            (Here::Held(_), _) => Verdict::MissingDynamodb,
            // Stored between the two looks: what is known of it says nothing about what was there before.
            (Here::Absent, There::Held(_)) if self.known.held.is_some() => Verdict::Pending,
            (Here::Absent, There::Held(there)) => match self.known.tombstone {
                // One that is no deletion has the version of what DynamoDB got in its place.
                Some(Tombstone { version, deleted })
                    if version > there.version() || (deleted && version == there.version()) =>
                {
                    Verdict::Deleted("DynamoDB")
                }
                _ => Verdict::MissingSqlite,
            },
            (Here::Absent, There::Deleted(_) | There::Absent) => Verdict::Equal,
        }
    }

    /// What tells whether anybody has written meanwhile.
    pub(super) fn versions(&self) -> (Option<Version>, Option<Version>, Known) {
        (self.here.version(), self.there.version(), self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{at, key, put, session};

    fn held(second: u64) -> Held {
        Held::Result(Box::new(put(&key("https://a/"), "text", second).meta))
    }

    fn verdict(here: Option<Held>, there: There, known: Known, now: u64) -> Verdict {
        let here = here.map_or(Here::Absent, Here::Held);
        Both { here, there, known }.verdict(at(now))
    }

    #[test]
    fn verdicts() {
        let nothing = Known::default();
        let version = |second| Version::first_of(at(second));
        let deleted = |second| Known {
            tombstone: Some(Tombstone { version: version(second), deleted: true }),
            ..nothing
        };
        let floor = |second| Known {
            tombstone: Some(Tombstone { version: version(second), deleted: false }),
            ..nothing
        };
        let queued = Known { queued: Some(version(5)), ..nothing };
        let stored_meanwhile = Known { held: Some(version(6)), ..floor(6) };
        for (here, there, known, now, expected) in [
            (Some(held(5)), There::Held(held(5)), nothing, 10, "equal"),
            (Some(held(5)), There::Held(held(5)), nothing, 1_000_000, "equal"),
            (Some(held(5)), There::Held(held(6)), nothing, 10, "different"),
            (Some(held(5)), There::Held(held(6)), nothing, 1_000_000, "expired"),
            (Some(held(5)), There::Held(held(4)), queued, 10, "pending"),
            (Some(held(5)), There::Absent, nothing, 10, "missing_dynamodb"),
            (Some(held(5)), There::Absent, queued, 10, "pending"),
            (Some(held(5)), There::Deleted(version(6)), nothing, 10, "deleted"),
            (Some(held(5)), There::Deleted(version(5)), nothing, 10, "different"),
            (Some(held(5)), There::Deleted(version(4)), nothing, 10, "missing_dynamodb"),
            (None, There::Held(held(5)), nothing, 10, "missing_sqlite"),
            (None, There::Held(held(5)), deleted(6), 10, "deleted"),
            (None, There::Held(held(5)), deleted(5), 10, "deleted"),
            (None, There::Held(held(5)), deleted(4), 10, "missing_sqlite"),
            (None, There::Held(held(5)), floor(6), 10, "deleted"),
            (None, There::Held(held(5)), floor(5), 10, "missing_sqlite"),
            (None, There::Held(held(5)), stored_meanwhile, 10, "pending"),
            (None, There::Held(held(5)), nothing, 1_000_000, "expired"),
            (None, There::Deleted(version(5)), nothing, 10, "equal"),
            (Some(held(5)), There::Unreadable("no".to_owned()), queued, 10, "unreadable"),
        ] {
            let case = format!("{here:?} {there:?} {known:?} {now}");
            assert_eq!(verdict(here, there, known, now).outcome(), expected, "{case}");
        }
    }

    #[test]
    fn differences_are_named() {
        let Held::Result(mut meta) = held(5) else { unreachable!() };
        meta.version = Version::first_of(at(6));
        meta.created_at = at(1);
        meta.validators.etag = None;
        meta.status_code = Some(404);
        let fields = held(5).differences(&Held::Result(meta));
        assert_eq!(fields, ["version", "created_at", "status_code", "origin_etag"]);

        let (one, mut other) = (session("s", 5), session("s", 5));
        other.session.signing_key = Some("5ec4e7".to_owned());
        other.events.clear();
        let fields = Held::Session(Box::new(one)).differences(&Held::Session(Box::new(other)));
        assert_eq!(fields, ["signing_key", "events"]);
    }
}
