//! Where the frame of an entry is, and how long what lies outside the head has to live.

use super::super::item::{Item, binary, number, read_number, read_text, text};
use crate::clock::Clock;
use crate::domain::Timestamp;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

/// The attributes that say where a body is. A head has those of one place.
pub(super) const PLACES: [&str; 5] = ["frame", "parts", "frame_id", "parts_until", "object"];

const DAY: u64 = 24 * 60 * 60;

/// What the clocks of two writers, and a writer's now and its write, may differ by.
const SLACK: u64 = DAY;

/// Where a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the head itself. Empty where the frame was not asked for.
    Inline(Bytes),
    /// Cut into items.
    Parts(Parts),
    /// In the bucket.
    Object(Object),
}

/// A frame in part items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// How many.
    pub(super) count: u64,
    /// The frame's hash.
    pub(super) id: String,
    /// They live at least until this Unix second.
    pub(super) until: u64,
}

/// A frame in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// The key of the object.
    pub(super) key: String,
    /// The frame's hash.
    pub(super) id: String,
}

impl Place {
    /// Takes the place out of a packed head.
    pub(super) fn take(item: &mut Item) -> Option<Self> {
        if let Some(frame) = item.remove("frame") {
            let AttributeValue::B(frame) = frame else { return None };
            return Some(Self::Inline(frame.into_inner().into()));
        }
        let id = || read_text(item, "frame_id").map(str::to_owned);
        if let Some(key) = read_text(item, "object") {
            return Some(Self::Object(Object { key: key.to_owned(), id: id()? }));
        }
        if item.contains_key("parts") {
            let count = read_number(item, "parts")?;
            return Some(Self::Parts(Parts { count, id: id()?, until: read_number(item, "parts_until")? }));
        }
        Some(Self::Inline(Bytes::new()))
    }

    /// The attributes that say so.
    pub(super) fn attributes(&self) -> Vec<(String, AttributeValue)> {
        let named = |name: &str, value| (name.to_owned(), value);
        match self {
            Self::Inline(frame) => vec![named("frame", binary(frame.to_vec()))],
            Self::Parts(Parts { count, id, until }) => {
                vec![
                    named("parts", number(*count)),
                    named("frame_id", text(id)),
                    named("parts_until", number(*until)),
                ]
            }
            Self::Object(Object { key, id }) => vec![named("object", text(key)), named("frame_id", text(id))],
        }
    }

    /// The hash of a frame that is not in the head.
    pub(super) fn frame_id(&self) -> Option<&str> {
        match self {
            Self::Inline(_) => None,
            Self::Parts(Parts { id, .. }) | Self::Object(Object { id, .. }) => Some(id),
        }
    }
}

/// BLAKE3-128 of a whole frame, in hexadecimal digits.
pub(super) fn frame_id(frame: &[u8]) -> String {
    finish(blake3::Hasher::new().update(frame))
}

/// The id of what `hasher` has seen.
pub(super) fn finish(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Until when what a head names has to live.
///
/// Parts are shared by all entries with the same frame and go by their `ttl` alone, which no writer ever moves to an
/// earlier time. So a writer who has seen a part with a late enough `ttl`, or has set one, may rely on it until then.
#[derive(Clone, Debug)]
pub(super) struct Upkeep(Clock);

impl Upkeep {
    pub(super) fn new(clock: &Clock) -> Self {
        Self(clock.clone())
    }

    /// The least that the parts of a head with this `ttl` need.
    pub(super) fn needed(ttl: u64) -> u64 {
        ttl.saturating_add(SLACK)
    }

    /// What parts get that need more: enough that not every refresh has to prolong them.
    pub(super) fn granted(&self, ttl: u64) -> u64 {
        let life = ttl.saturating_sub(self.0.now().as_secs());
        ttl.saturating_add((7 * DAY).max(life / 10))
    }

    /// Whether a head with this `ttl` should be gone already: DynamoDB deletes late.
    pub(super) fn is_over(&self, ttl: u64) -> bool {
        ttl < self.0.now().as_secs()
    }

    /// Whether an object written then may be relied on as if it were written now.
    pub(super) fn is_young(&self, written: Timestamp) -> bool {
        self.0.now().secs_since(written) < SLACK
    }
}
