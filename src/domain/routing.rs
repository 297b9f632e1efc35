//! Who owns what while a fleet moves from SQLite to DynamoDB: the policy, and the side that it gives each key.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Namespace;
use super::key::KeyId;
use super::session::SessionId;

/// How many buckets keys fall into: one for each hundredth of a percent.
pub const BUCKETS: u16 = 10_000;

/// One of the two places where results and sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The embedded database.
    Sqlite,
    /// The tables in DynamoDB.
    Dynamodb,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Dynamodb];

    /// The word that metrics, logs and answers use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Dynamodb => "dynamodb",
        }
    }

    /// The one across.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Sqlite => Self::Dynamodb,
            Self::Dynamodb => Self::Sqlite,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A share from 0 to 100 % in steps of a hundredth: as many of the [`BUCKETS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u16);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(BUCKETS);

    /// The share of so many hundredths of a percent; `None` above 10,000.
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        if hundredths <= BUCKETS { Some(Self(hundredths)) } else { None }
    }

    /// How many hundredths of a percent it is, 0 to 10,000.
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// Reads a number from 0 to 100.
    ///
    /// # Errors
    /// What is wrong, for a person to read. More than two decimals are an error, not rounded.
    pub fn from_number(number: f64) -> Result<Self, String> {
        let hundredths = (number * 100.0).round();
        if !(0.0..=f64::from(BUCKETS)).contains(&hundredths) || (hundredths - number * 100.0).abs() > 1e-6 {
            return Err(format!("{number} is not a percentage from 0 to 100 with at most two decimals"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        Ok(Self(hundredths as u16))
    }

    /// Reads a number from 0 to 100 as text.
    ///
    /// # Errors
    /// As [`Percent::from_number`].
    pub fn parse(text: &str) -> Result<Self, String> {
        text.trim()
            .parse::<f64>()
            .map_err(|_| format!("`{text}` is not a percentage from 0 to 100 with at most two decimals"))
            .and_then(Self::from_number)
    }

    /// Whether a bucket belongs to the share: raising it only ever adds buckets.
    pub const fn covers(self, bucket: u16) -> bool {
        bucket < self.0
    }

    /// The number, 0 to 100.
    pub fn as_number(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Percent {
    /// Without the sign, and with only the decimals that it needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_number())
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(self.as_number())
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).and_then(|n| Self::from_number(n).map_err(serde::de::Error::custom))
    }
}

/// Whether one side owns everything, whatever the percentage says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Force {
    /// No: the percentage decides.
    #[default]
    None,
    /// SQLite owns everything: the way back.
    Sqlite,
    /// DynamoDB owns everything.
    Dynamodb,
}

impl Force {
    /// The word that settings and answers use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sqlite => "sqlite",
            Self::Dynamodb => "dynamodb",
        }
    }
}

/// What becomes of an unconditional write of a result whose owner, DynamoDB, cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOwnerFailure {
    /// It is kept in SQLite and delivered later.
    #[default]
    Queue,
    /// It is refused.
    Reject,
}

impl OnOwnerFailure {
    /// The word that settings and answers use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Reject => "reject",
        }
    }
}

/// How results and sessions are spread over the two sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The share of keys that DynamoDB owns.
    pub percent: Percent,
    /// Whether one side owns everything all the same.
    pub force: Force,
    /// Whether the side that is not the owner gets every write, too.
    pub dual_write: bool,
    /// The share of reads, 0 to 1, after which both sides are compared.
    pub shadow_read: f64,
    /// What becomes of a write whose owner cannot be reached.
    pub on_owner_failure: OnOwnerFailure,
}

impl Policy {
    /// The side that owns a bucket.
    pub const fn owner(&self, bucket: u16) -> Side {
        match self.force {
            Force::Dynamodb => Side::Dynamodb,
            Force::None if self.percent.covers(bucket) => Side::Dynamodb,
            Force::Sqlite | Force::None => Side::Sqlite,
        }
    }

    /// The share of keys that DynamoDB owns, `force` considered.
    pub const fn effective_percent(&self) -> Percent {
        match self.force {
            Force::Sqlite => Percent::ZERO,
            Force::Dynamodb => Percent::ALL,
            Force::None => self.percent,
        }
    }
}

/// The id of a session among keys: no result has it, since the id of a session has no scheme, as every url has. Frozen.
pub fn session_key(namespace: &Namespace, id: &SessionId) -> KeyId {
    KeyId::of(namespace.as_str(), id.as_str(), "session")
}

/// The bucket of a session. Frozen, as that of a result is.
pub fn session_bucket(namespace: &Namespace, id: &SessionId) -> u16 {
    session_key(namespace, id).bucket()
}

/// The policy of a configuration, and what of it was said there on purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configured {
    /// The policy.
    pub policy: Policy,
    /// Where each member was said that does not only have its default: its name, and what says it.
    pub said: BTreeMap<String, String>,
}

impl From<Policy> for Configured {
    fn from(policy: Policy) -> Self {
        Self { policy, said: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_two_decimals() {
        for (text, hundredths) in [("0", 0), ("100", 10_000), ("12.5", 1250), ("0.01", 1), (" 33.33 ", 3333)]
        {
            let percent = Percent::parse(text).expect(text);
            assert_eq!(percent.hundredths(), hundredths, "{text}");
            let json = serde_json::to_string(&percent).expect("a number");
            assert_eq!(json, text.trim(), "prints as it is read");
            assert_eq!(serde_json::from_str::<Percent>(&json).expect("read"), percent);
        }
        for text in ["-1", "100.01", "1.005", "NaN", "inf", "ten", ""] {
            assert!(Percent::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn raising_the_percentage_only_adds() {
        for bucket in 0..BUCKETS {
            let mut before = false;
            for hundredths in (0..=BUCKETS).step_by(250) {
                let now = Percent(hundredths).covers(bucket);
                assert!(now || !before, "bucket {bucket} at {hundredths}");
                before = now;
            }
            assert!(before, "100 % has all");
            assert!(!Percent::ZERO.covers(bucket));
        }
    }

    #[test]
    fn force_overrules_the_percentage() {
        let policy = |force, hundredths| Policy { percent: Percent(hundredths), force, ..Policy::default() };
        for bucket in [0, 4999, 5000, 9999] {
            assert_eq!(policy(Force::Sqlite, 10_000).owner(bucket), Side::Sqlite);
            assert_eq!(policy(Force::Dynamodb, 0).owner(bucket), Side::Dynamodb);
            let half = if bucket < 5000 { Side::Dynamodb } else { Side::Sqlite };
            assert_eq!(policy(Force::None, 5000).owner(bucket), half);
        }
    }

    #[test]
    fn the_bucket_of_a_session_is_frozen() {
        let id = SessionId::new("session-1").expect("an id");
        assert_eq!(session_bucket(&Namespace::default(), &id), session_bucket(&Namespace::default(), &id));
    }
}
