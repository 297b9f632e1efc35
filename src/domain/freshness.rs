//! Whether an entry may answer: a pure function of the entry, what the caller accepts, and the time.

use super::entry::Meta;
use super::time::Timestamp;

/// What the caller accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The greatest age in seconds.
    pub max_age: Option<u64>,
    /// How many seconds past expiry are still acceptable.
    pub stale: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissReason {
    /// Never stored, deleted, evicted or swept.
    Absent,
    /// Past its expiry by more than the caller accepts.
    Expired,
    /// Older than the caller's `max_age`.
    TooOld,
    /// A required field is missing or blank.
    FieldMissing,
    /// The url is there under other variants only.
    Variant,
    /// The last fetch failed, and only good results were asked for.
    Failed,
    /// It is stored, but not as it was written: storing it again heals it.
    Damaged,
    /// Nothing was found, and a store that may have it could not be asked.
    Unknown,
}

impl MissReason {
    /// The word that answers, metrics and logs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::FieldMissing => "field_missing",
            Self::Variant => "variant",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
        }
    }
}

/// How an entry stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Seconds since the document was stored or confirmed.
    pub age: u64,
    /// Seconds until it expires; negative once it has.
    pub ttl: i64,
}

impl Freshness {
    /// How `meta` stands at `now`.
    pub fn of(meta: &Meta, now: Timestamp) -> Self {
        let to_expiry = i128::from(meta.expires_at.as_millis()) - i128::from(now.as_millis());
        // Rounded down, so that an entry which expired half a second ago already shows -1.
        let ttl = i64::try_from(to_expiry.div_euclid(1000)).unwrap_or(i64::MAX);
        Self { age: now.secs_since(meta.updated_at), ttl }
    }

    /// Whether the entry has expired.
    pub const fn is_stale(self) -> bool {
        self.ttl < 0
    }

    /// Whether the caller accepts it, or why not.
    ///
    /// # Errors
    /// [`MissReason::Expired`] before [`MissReason::TooOld`], when both hold.
    pub fn check(self, limits: Limits) -> Result<(), MissReason> {
        if self.is_stale() && self.ttl.unsigned_abs() > limits.stale {
            return Err(MissReason::Expired);
        }
        if limits.max_age.is_some_and(|max_age| self.age > max_age) {
            return Err(MissReason::TooOld);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(age: u64, ttl: i64) -> Freshness {
        Freshness { age, ttl }
    }

    #[test]
    fn the_table() {
        let accept = |max_age, stale| Limits { max_age, stale };
        for (freshness, limits, verdict) in [
            (at(10, 5), accept(None, 0), Ok(())),
            (at(10, 0), accept(None, 0), Ok(())),
            (at(10, -1), accept(None, 0), Err(MissReason::Expired)),
            (at(10, -1), accept(None, 1), Ok(())),
            (at(10, -2), accept(None, 1), Err(MissReason::Expired)),
            (at(10, 5), accept(Some(10), 0), Ok(())),
            (at(10, 5), accept(Some(9), 0), Err(MissReason::TooOld)),
            (at(10, 5), accept(Some(0), 0), Err(MissReason::TooOld)),
            (at(0, 5), accept(Some(0), 0), Ok(())),
            (at(10, -1), accept(Some(0), 0), Err(MissReason::Expired)),
            (at(10, -1), accept(Some(0), 9), Err(MissReason::TooOld)),
        ] {
            assert_eq!(freshness.check(limits), verdict, "{freshness:?} {limits:?}");
        }
    }
}
