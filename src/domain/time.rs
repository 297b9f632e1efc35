//! Instants and versions: milliseconds since the Unix epoch, and the total order in which writes settle.

use std::fmt;

/// An instant in milliseconds since the Unix epoch.
///
/// Ordered, cheap to copy, and never negative: an instant before 1970 is clamped to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last instant that can be written with a four-digit year: 9999-12-30T22:00:00Z (jiff's limit).
    pub const MAX: Self = Self(253_402_207_200_000);

    /// From milliseconds since the Unix epoch, clamped to [`Timestamp::MAX`].
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// From whole seconds since the Unix epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This instant moved `seconds` into the future, clamped to [`Timestamp::MAX`].
    #[must_use]
    pub const fn plus_secs(self, seconds: u64) -> Self {
        Self::from_millis(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// This instant moved `seconds` into the past, clamped to the epoch.
    #[must_use]
    pub const fn minus_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds.saturating_mul(1000)))
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds from `earlier` to this instant; zero when `earlier` is later (a clock that went back).
    pub const fn secs_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }

    /// Reads RFC 3339 (`2026-01-15T10:30:00Z`, any offset) or whole Unix seconds (`1768473000`).
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<u64>() {
            if seconds > Self::MAX.as_secs() {
                return Err(format!("`{text}` is beyond the year 9999; Unix times are in seconds"));
            }
            return Ok(Self::from_secs(seconds));
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| {
            format!("`{text}` is neither an RFC 3339 time such as 2026-01-15T10:30:00Z nor Unix seconds")
        })?;
        Ok(Self::from_millis(u64::try_from(parsed.as_millisecond()).unwrap_or(0)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, a fixed width, so that text order is time order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{instant:.3}")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    /// Accepts what [`Timestamp::parse`] accepts, and a JSON number of Unix seconds.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time or Unix seconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
                Timestamp::parse(&seconds.to_string()).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
                u64::try_from(seconds)
                    .map_err(|_| E::custom("a time before 1970 cannot be stored"))
                    .and_then(|seconds| self.visit_u64(seconds))
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Timestamp, E> {
                if !(0.0..=253_402_207_200.0).contains(&seconds) {
                    return Err(E::custom("Unix seconds must lie between 1970 and the year 9999"));
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range was checked above"
                )]
                Ok(Timestamp::from_millis((seconds * 1000.0) as u64))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The place of a write in the one order in which all stores settle: a hybrid logical clock.
///
/// The upper 48 bits are wall-clock milliseconds, the lower 16 a counter, so versions of one process
/// never repeat and never go back even when the wall clock does, and versions of several processes
/// order by time. A store accepts only a version newer than the one it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The first version of the millisecond `at`.
    pub const fn first_of(at: Timestamp) -> Self {
        Self(at.as_millis() << 16)
    }

    /// The wall-clock milliseconds in it.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The instant in it: when the write came, by the clock of the process that took it.
    pub const fn at(self) -> Timestamp {
        Timestamp::from_millis(self.millis())
    }

    /// The version that follows this one; the last there is follows itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number as stores keep it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The version that a store kept as `number`.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc_3339_with_fixed_width() {
        assert_eq!(Timestamp::from_secs(1_768_473_000).to_string(), "2026-01-15T10:30:00.000Z");
        assert_eq!(Timestamp::from_millis(7).to_string(), "1970-01-01T00:00:00.007Z");
        assert_eq!(Timestamp::MAX.to_string().len(), "1970-01-01T00:00:00.007Z".len());
    }

    #[test]
    fn reads_what_it_prints_and_unix_seconds() {
        for text in ["2026-01-15T10:30:00.000Z", "2026-01-15T11:30:00+01:00", "1768473000"] {
            assert_eq!(Timestamp::parse(text), Ok(Timestamp::from_secs(1_768_473_000)), "{text}");
        }
        for text in ["", "yesterday", "2026-01-15", "-5", "99999999999999"] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_numbers_in_json() {
        for json in ["1768473000", "1768473000.0", "\"1768473000\""] {
            let read: Timestamp = serde_json::from_str(json).expect(json);
            assert_eq!(read, Timestamp::from_secs(1_768_473_000));
        }
        for json in ["-1", "1e300", "true", "null"] {
            assert!(serde_json::from_str::<Timestamp>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_version_tells_its_instant() {
        let at = Timestamp::from_millis(1_768_473_000_123);
        let version = Version::first_of(at);
        assert_eq!((version.at(), version.next().at(), version.millis()), (at, at, at.as_millis()));
        let last = Version::from_u64(u64::MAX);
        assert_eq!((last.at(), last.next()), (Timestamp::MAX, last));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX.plus_secs(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_secs(5).minus_secs(9), Timestamp::default());
        assert_eq!(Timestamp::from_secs(5).secs_since(Timestamp::from_secs(9)), 0);
    }
}
