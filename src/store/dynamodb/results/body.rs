//! Where the frame of an entry is, what tells that it is the one that was written, and how long what lies outside the
//! head has to live.

use super::super::item::{Item, binary, number, read_number, read_text, text};
use super::super::plain;
use super::stored::Wrong;
use crate::clock::Clock;
use crate::domain::{Document, Etag, Meta, Timestamp};
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

/// The attributes that say where a body is. A head has those of one place.
pub(super) const PLACES: [&str; 5] = ["frame", "parts", "frame_id", "parts_until", "object"];

/// The attribute that vouches for what a head says of its frame.
pub(super) const DIGEST: &str = "digest";

/// Hexadecimal digits of a frame's hash, and of a digest.
const DIGITS: usize = 32;

/// What a body takes of the item that holds it, beside the frame.
pub(super) const BESIDE_FRAME_BYTES: usize = "frame".len() + "frame_id".len() + DIGEST.len() + 2 * DIGITS;

const DAY: u64 = 24 * 60 * 60;

/// What the clocks of two writers, and a writer's now and its write, may differ by.
const SLACK: u64 = DAY;

/// Where a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the head itself.
    Inline(Inline),
    /// Cut into items.
    Parts(Parts),
    /// In the bucket.
    Object(Object),
}

/// A frame in the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inline {
    /// Empty where it was not asked for.
    pub(super) frame: Bytes,
    /// Its hash; nothing in heads of releases that did not write it.
    pub(super) id: Option<String>,
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
    /// In the head.
    pub(super) fn inline(frame: &Bytes) -> Self {
        Self::Inline(Inline { frame: frame.clone(), id: Some(frame_id(frame)) })
    }

    /// Takes the place out of a packed head.
    pub(super) fn take(item: &mut Item) -> Option<Self> {
        let frame = item.remove("frame");
        let id = || read_text(item, "frame_id").map(str::to_owned);
        if let Some(frame) = frame {
            let AttributeValue::B(frame) = frame else { return None };
            return Some(Self::Inline(Inline { frame: frame.into_inner().into(), id: id() }));
        }
        if let Some(key) = read_text(item, "object") {
            return Some(Self::Object(Object { key: key.to_owned(), id: id()? }));
        }
        if item.contains_key("parts") {
            let count = read_number(item, "parts")?;
            return Some(Self::Parts(Parts { count, id: id()?, until: read_number(item, "parts_until")? }));
        }
        Some(Self::Inline(Inline { frame: Bytes::new(), id: id() }))
    }

    /// The attributes that say so of an entry.
    pub(super) fn attributes(&self, meta: &Meta) -> Vec<(String, AttributeValue)> {
        let named = |name: &str, value| (name.to_owned(), value);
        let mut attributes = match self {
            Self::Inline(Inline { frame, .. }) => vec![named("frame", binary(frame.to_vec()))],
            Self::Parts(Parts { count, until, .. }) => {
                vec![named("parts", number(*count)), named("parts_until", number(*until))]
            }
            Self::Object(Object { key, .. }) => vec![named("object", text(key))],
        };
        if let Some(id) = self.frame_id() {
            attributes.push(named("frame_id", text(id)));
            attributes.push(named(DIGEST, text(digest_of(meta, id))));
        }
        attributes
    }

    /// The hash of the frame, where it is known.
    pub(super) fn frame_id(&self) -> Option<&str> {
        match self {
            Self::Inline(Inline { id, .. }) => id.as_deref(),
            Self::Parts(Parts { id, .. }) | Self::Object(Object { id, .. }) => Some(id),
        }
    }

    /// Finds out whether `frame` is what was written at this place for the entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, meta: &Meta, frame: &Bytes) -> Result<(), Wrong> {
        if frame.len() as u64 != meta.layout.stored_size() {
            return Err("its body is of another length");
        }
        match self.frame_id() {
            Some(id) if frame_id(frame) == id => Ok(()),
            Some(_) => Err("its body is another"),
            None => check_content(meta, frame),
        }
    }

    /// Whether [`Place::check`] takes so long that it should not be done where others wait.
    pub(super) fn check_takes_long(&self, meta: &Meta) -> bool {
        self.frame_id().is_none() && meta.layout.raw_size() > DECODED_AT_ONCE
    }
}

/// Documents up to this size, decoded, are decoded where they are asked for.
const DECODED_AT_ONCE: u64 = 512 << 10;

/// Checks a frame of which no hash was kept by what it decodes to.
fn check_content(meta: &Meta, frame: &Bytes) -> Result<(), Wrong> {
    let decoded = Document::new(&meta.layout, frame).decode_and_check();
    let raw = decoded.map_err(|_| "its body is not what its layout says")?;
    let content = raw.get(..raw.len().saturating_sub(1)).unwrap_or_default();
    // What was read in the plain layout and stored packed kept the hash of the document that was once put.
    if Etag::of(content) == meta.etag || plain::may_have_made(&meta.layout, &raw) {
        return Ok(());
    }
    Err("its body is not what was written")
}

/// The digest of what a head says of its frame: BLAKE3-128 of the frame's hash, the etag, what is kept of the document
/// and the layout.
pub(super) fn digest_of(meta: &Meta, frame_id: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(frame_id.as_bytes()).update(&[0]);
    hasher.update(&meta.etag.hex()).update(&[0]);
    if let Some(status) = meta.status_code {
        hasher.update(itoa::Buffer::new().format(status).as_bytes());
    }
    hasher.update(&[0]);
    if let Some(success) = meta.success {
        hasher.update(if success { b"true" } else { b"false" });
    }
    hasher.update(&[0]).update(meta.layout.as_bytes());
    finish(&hasher)
}

/// BLAKE3-128 of a whole frame, in hexadecimal digits.
pub(super) fn frame_id(frame: &[u8]) -> String {
    finish(blake3::Hasher::new().update(frame))
}

/// The id of what `hasher` has seen.
pub(super) fn finish(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex()[..DIGITS].to_owned()
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
