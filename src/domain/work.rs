//! Long work on both sides, migrations and verifications: what is asked for, how far it is, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::routing::Side;

/// What to migrate, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrateOptions {
    /// Where to; from the other side.
    pub to: Side,
    /// Entries that are read and compared at a time, 1 to 1000.
    pub batch_size: usize,
    /// Writes that are under way at once, 1 to 256.
    pub concurrency: usize,
    /// Say what would be done, and write nothing.
    pub dry_run: bool,
    /// Only these urls, or those that begin with one that ends in `*`; all when empty.
    pub urls: Vec<String>,
    /// Only what was stored or confirmed since then.
    pub since: Option<Timestamp>,
    /// Capacity units that it may take in a second; any number when missing.
    pub units_per_second: Option<u32>,
    /// Begin anew instead of where one like it was left.
    pub restart: bool,
    /// Nobody else writes to DynamoDB meanwhile: what it lacks goes there without conditions, many results a request.
    /// Not for a service, which may write there at any time itself.
    pub exclusive: bool,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self {
            to: Side::Dynamodb,
            batch_size: 100,
            concurrency: 32,
            dry_run: false,
            urls: Vec::new(),
            since: None,
            units_per_second: None,
            restart: false,
            exclusive: false,
        }
    }
}

/// What to compare, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyOptions {
    /// The share of keys to compare, more than 0 to 1; which ones is the same each time.
    pub sample: f64,
    /// Compare the bodies byte for byte, and not only their hashes, versions and times.
    pub content: bool,
    /// Mend what differs, with the newer entry's own version and times.
    pub repair: bool,
    /// Only what was stored or confirmed since then.
    pub since: Option<Timestamp>,
    /// Entries that are compared at a time, 1 to 1000.
    pub batch_size: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { sample: 1.0, content: false, repair: false, since: None, batch_size: 100 }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "options", rename_all = "snake_case")]
pub enum Work {
    /// A migration.
    Migrate(MigrateOptions),
    /// A verification.
    Verify(VerifyOptions),
}

impl Work {
    /// `migrate` or `verify`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Migrate(_) => "migrate",
            Self::Verify(_) => "verify",
        }
    }
}

/// Where a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkState {
    /// Under way.
    Running,
    /// At its end.
    Done,
    /// It could not go on.
    Failed,
    /// Somebody stopped it; it can go on.
    Cancelled,
    /// The process ended; it can go on.
    Interrupted,
}

/// How far a piece of work is, and what came of it so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkStatus {
    /// Names it, such as `migrate-3`.
    pub id: String,
    /// What was asked for.
    #[serde(flatten)]
    pub work: Work,
    /// Where it is.
    pub state: WorkState,
    /// When it began.
    pub started_at: Timestamp,
    /// When this was written down.
    pub updated_at: Timestamp,
    /// Entries, sessions and tombstones that it has been through.
    pub done: u64,
    /// About how many there are; it may become more while others write.
    pub total: u64,
    /// How many in a second, lately.
    pub rate: f64,
    /// Seconds that are left at that rate; missing where nobody can know.
    pub eta_seconds: Option<u64>,
    /// What became of them, by outcome.
    pub counts: BTreeMap<String, u64>,
    /// Bytes of the bodies that were copied, or in a dry run would be.
    #[serde(default)]
    pub bytes: u64,
    /// Read units of DynamoDB that it has taken.
    #[serde(default)]
    pub read_units: f64,
    /// Write units of DynamoDB that it has taken, or in a dry run would take.
    #[serde(default)]
    pub write_units: f64,
    /// The first of what differed or failed, up to a hundred.
    pub findings: Vec<Finding>,
    /// Why it failed.
    pub error: Option<String>,
}

impl WorkStatus {
    /// How many had this outcome.
    pub fn count(&self, outcome: &str) -> u64 {
        self.counts.get(outcome).copied().unwrap_or_default()
    }

    /// Whether it came to its end with nothing to complain about: nothing failed, and what differed was mended.
    pub fn is_clean(&self) -> bool {
        let wrong: u64 = Self::DIFFERENCES.iter().map(|outcome| self.count(outcome)).sum();
        let failed = self.count("failed") + self.count("unreadable") + self.count("repair_failed");
        self.state == WorkState::Done && failed == 0 && wrong <= self.count("repaired")
    }

    /// The outcomes of a verification that say that the sides differ.
    pub const DIFFERENCES: [&'static str; 4] = ["missing_dynamodb", "missing_sqlite", "different", "deleted"];
}

/// Something that differed or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `result`, `session` or `tombstone`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The url, or the id of the session.
    pub name: String,
    /// The variant; empty for the default one.
    pub variant: String,
    /// Such as `missing_dynamodb`, `different` or `failed`.
    pub outcome: String,
    /// In words: which fields, or what went wrong.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(counts: &[(&str, u64)]) -> WorkStatus {
        WorkStatus {
            id: "verify-1".to_owned(),
            work: Work::Verify(VerifyOptions::default()),
            state: WorkState::Done,
            started_at: Timestamp::from_secs(1),
            updated_at: Timestamp::from_secs(2),
            done: 3,
            total: 3,
            rate: 0.5,
            eta_seconds: None,
            counts: counts.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect(),
            bytes: 0,
            read_units: 0.0,
            write_units: 0.0,
            findings: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn clean_is_what_has_nothing_left_to_mend() {
        assert!(status(&[("equal", 3), ("expired", 1), ("pending", 1)]).is_clean());
        assert!(status(&[("different", 2), ("missing_sqlite", 1), ("repaired", 3)]).is_clean());
        for counts in [
            &[("deleted", 1)][..],
            &[("different", 2), ("repaired", 1)],
            &[("unreadable", 1)],
            &[("failed", 1)],
        ] {
            assert!(!status(counts).is_clean(), "{counts:?}");
        }
        let cancelled = WorkStatus { state: WorkState::Cancelled, ..status(&[]) };
        assert!(!cancelled.is_clean());
    }

    #[test]
    fn work_and_status_are_json_and_back() {
        let work: Work =
            serde_json::from_str(r#"{"kind":"migrate","options":{"to":"sqlite","urls":["https://a/*"]}}"#)
                .expect("partial options are filled up");
        let Work::Migrate(options) = &work else { panic!("{work:?}") };
        assert_eq!((options.to, options.batch_size), (Side::Sqlite, 100));
        let unknown = serde_json::from_str::<Work>(r#"{"kind":"verify","options":{"smaple":1}}"#);
        assert!(unknown.is_err(), "{unknown:?}");
        let status = WorkStatus { work, ..status(&[("copied", 1)]) };
        let text = serde_json::to_string(&status).expect("JSON");
        assert_eq!(serde_json::from_str::<WorkStatus>(&text).expect("its own text"), status);
    }
}
