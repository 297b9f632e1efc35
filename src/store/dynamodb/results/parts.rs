//! Frames cut into part items, shared by all heads that name the same frame.
//!
//! The slices of a frame are as large as those of its first part, so that writers with other limits agree on one cut:
//! who finds a first part follows it. That is safe because a head that lives has all of its parts, the first too;
//! where there is no first part, no head needs the others. Every write of a part is conditional and none moves its
//! `ttl` to an earlier time, which `BatchWriteItem` could not promise: it knows no conditions. A part that is there
//! already is compared with what it should be: to read it costs a fraction of writing it.

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::item::{Item, binary, number, read_number, text};
use super::super::pauses::Pauses;
use super::Inner;
use super::body::{Parts, frame_id};
use super::expression::Terms;
use super::key::URL;
use super::requests::Tell;
use crate::store::{Error, Result};

/// Parts of one body that are read at once.
const AT_ONCE: usize = 8;

/// What a part takes beside its slice, generously.
const BESIDE: usize = 128;

/// The most that is reserved for a body before its parts are seen: what a head says of their length may be wrong.
const RESERVED: u64 = 64 << 20;

/// Slices are no shorter than this, whatever is found.
const LEAST_SLICE: usize = 1 << 10;

/// How often a part is tried that others write at the same time.
const TRIES: usize = 8;

impl Inner {
    /// Makes sure that every part of a frame is there and stays at least until `until`.
    pub(super) async fn write_parts(&self, frame: &Bytes, until: u64) -> Result<Parts> {
        let id = frame_id(frame);
        let (slice, shared) = self.write_first(&id, frame, until).await?;
        let count = frame.len().div_ceil(slice);
        let writes = (1..count).map(|at| {
            let bytes = frame.slice(at * slice..frame.len().min((at + 1) * slice));
            self.write_part(part_key(&id, at as u64), bytes, until, shared)
        });
        stream::iter(writes).buffer_unordered(self.writes_at_once).try_collect::<Vec<()>>().await?;
        Ok(Parts { count: count as u64, id, until })
    }

    /// Writes or prolongs the first part. Returns the size of the slices, and whether others have cut them before.
    async fn write_first(&self, id: &str, frame: &Bytes, until: u64) -> Result<(usize, bool)> {
        let (key, own) = (part_key(id, 0), self.max_item_bytes.saturating_sub(BESIDE).max(1));
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        for _ in 0..TRIES {
            let seen = self.get_item(&key, true).await?;
            let shared = seen.is_some();
            let slice = match &seen {
                Some(first) => self.cut_before(id, first, frame).await?.unwrap_or(own),
                None => own,
            };
            let first = frame.slice(..slice.min(frame.len()));
            if self.write_over(&key, &first, seen, until).await? {
                return Ok((slice, shared));
            }
            if !pauses.pause().await {
                break;
            }
        }
        Err(contended())
    }

    /// How long the slices are of which this is the first, whole or not: heads that name them count on it.
    async fn cut_before(&self, id: &str, first: &Item, frame: &Bytes) -> Result<Option<usize>> {
        let first = slice_of(first).unwrap_or_default();
        if first == frame {
            return Ok(Some(first.len()));
        }
        // What was cut short looks like a smaller slice: the second shows where it really begins.
        let second = self.get_item(&part_key(id, 1), true).await?;
        let shown = second.as_ref().and_then(slice_of).and_then(|second| {
            let begins = [second.len(), frame.len().saturating_sub(second.len())];
            begins.into_iter().find(|at| {
                let end = frame.len().min(at.saturating_mul(2));
                *at > 0 && frame.get(*at..end) == Some(second)
            })
        });
        Ok(shown.or_else(|| (LEAST_SLICE..frame.len()).contains(&first.len()).then_some(first.len())))
    }

    /// Makes sure that a part is there, is this slice, and stays long enough.
    async fn write_part(&self, key: String, slice: Bytes, until: u64, shared: bool) -> Result<()> {
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        let mut seen = if shared { self.get_item(&key, true).await? } else { None };
        for _ in 0..TRIES {
            if self.write_over(&key, &slice, seen, until).await? {
                return Ok(());
            }
            if !pauses.pause().await {
                break;
            }
            seen = self.get_item(&key, true).await?;
        }
        Err(contended())
    }

    /// Writes a part in place of what was seen, or prolongs it where that is what it should be; false if something else
    /// is there meanwhile.
    async fn write_over(&self, key: &str, slice: &Bytes, seen: Option<Item>, until: u64) -> Result<bool> {
        let ttl = seen.as_ref().and_then(|seen| read_number(seen, "ttl")).unwrap_or_default();
        if seen.as_ref().and_then(slice_of) == Some(slice) {
            return if ttl >= until { Ok(true) } else { self.prolong_part(key, until).await };
        }
        let mut terms = Terms::default();
        let condition = terms.unchanged(seen.as_ref());
        let item = part(key, slice, until.max(ttl));
        Ok(self.put_item(item, condition, terms, Tell::Nothing).await?.is_ok())
    }

    /// Makes sure that parts which are there stay at least until `until`; false if one is gone.
    pub(super) async fn prolong_parts(&self, parts: &Parts, until: u64) -> Result<bool> {
        let prolonged = (0..parts.count)
            .map(|at| async move { self.prolong_part(&part_key(&parts.id, at), until).await });
        stream::iter(prolonged)
            .buffer_unordered(self.writes_at_once)
            .try_all(|there| async move { there })
            .await
    }

    async fn prolong_part(&self, key: &str, until: u64) -> Result<bool> {
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        for _ in 0..TRIES {
            match self.ttl_of(key).await? {
                None => return Ok(false),
                Some(ttl) if ttl >= until => return Ok(true),
                Some(_) => {}
            }
            let mut terms = Terms::default();
            let condition = terms.compare("ttl", "<", number(until));
            let update = format!("SET {}", terms.compare("ttl", "=", number(until)));
            if self.update_item(key, update, condition, terms, Tell::Nothing).await?.is_ok() {
                return Ok(true);
            }
            if !pauses.pause().await {
                break;
            }
        }
        Err(contended())
    }

    /// Until when a part stays; nothing if it is not there.
    async fn ttl_of(&self, key: &str) -> Result<Option<u64>> {
        let part = self.get_part(key, &["ttl"], true).await?;
        Ok(part.map(|part| read_number(&part, "ttl").unwrap_or_default()))
    }

    /// A frame from its parts; nothing if one is missing.
    pub(super) async fn read_parts(
        &self,
        parts: &Parts,
        size: u64,
        consistent: bool,
    ) -> Result<Option<Bytes>> {
        if parts.count == 0 || parts.count > size {
            return Ok(Some(Bytes::new()));
        }
        let keys = (0..parts.count).map(|at| part_key(&parts.id, at));
        let reads = keys.map(|key| async move { self.get_item(&key, consistent).await });
        let mut slices = stream::iter(reads).buffered(AT_ONCE);
        let mut frame = BytesMut::with_capacity(usize::try_from(size.min(RESERVED)).unwrap_or_default());
        while let Some(part) = slices.try_next().await? {
            let Some(slice) = part.as_ref().and_then(slice_of) else { return Ok(None) };
            frame.extend_from_slice(slice);
            if frame.len() as u64 > size {
                break;
            }
        }
        Ok(Some(frame.freeze()))
    }
}

fn part_key(id: &str, at: u64) -> String {
    format!("part {id} {at}")
}

fn part(key: &str, slice: &Bytes, until: u64) -> Item {
    Item::from([
        (URL.to_owned(), text(key)),
        ("frame".to_owned(), binary(slice.to_vec())),
        ("ttl".to_owned(), number(until)),
    ])
}

fn slice_of(part: &Item) -> Option<&[u8]> {
    match part.get("frame")? {
        AttributeValue::B(slice) if !slice.as_ref().is_empty() => Some(slice.as_ref()),
        _ => None,
    }
}

fn contended() -> Error {
    Error::Overloaded { backend: super::BACKEND, detail: "contended: others write the same body".to_owned() }
}
