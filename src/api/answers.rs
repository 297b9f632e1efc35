//! Turns an entry into bytes that the client understands, and keeps those that took work.
//!
//! What is stored goes out as it is to a client that accepts zstd, and so does a prefix of it. Everything else
//! has to be decoded; the results of that are kept by the content's hash, so they can never be out of date. Stores give
//! out only frames that they have checked: what is decoded here is that content.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{blocking, from_reader};
use super::problem::{Problem, Result};
use crate::domain::document::{Coding, Projection};
use crate::domain::{Entry, Etag};

/// Documents up to this size, decoded, are worked on where they are asked for.
const INLINE_BYTES: u64 = 512 << 10;

/// Documents above this size, decoded, are streamed and not kept.
const STREAM_BYTES: u64 = 4 << 20;

/// Answers from documents that large are made this many at a time: each takes up to twice the document.
const LARGE_AT_ONCE: usize = 2;

/// How much of a large answer is sent at a time.
const SLICE_BYTES: usize = 256 << 10;

/// The share of the cache above which an answer from a large document is not kept: one in so many.
const KEPT_SHARE: u64 = 8;

/// Answers made on the fly below this size are not worth compressing.
const COMPRESS_BYTES: usize = 1024;

/// The fastest level: the answer is made once and read once.
const ZSTD_LEVEL: i32 = 1;

/// The gzip level: the answer is made while the client waits.
const GZIP_LEVEL: u32 = 3;

/// The typical answer, which sizes the cache's own tables.
const TYPICAL_BYTES: u64 = 100 << 10;

/// Ready-made answers, bounded in bytes, and the turns of those that are made from large documents.
#[derive(Debug)]
pub(super) struct Answers {
    kept: Option<Cache<AnswerKey, Bytes, ByLength>>,
    large: Arc<Semaphore>,
}

/// The turn of an answer that is made from a large document, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AnswerKey {
    etag: Etag,
    coding: Coding,
    fields: Box<str>,
}

/// [`AnswerKey`] without a copy of the fields.
#[derive(Hash)]
struct AnswerRef<'a> {
    etag: Etag,
    coding: Coding,
    fields: &'a str,
}

impl Equivalent<AnswerKey> for AnswerRef<'_> {
    fn equivalent(&self, key: &AnswerKey) -> bool {
        self.etag == key.etag && self.coding == key.coding && *self.fields == *key.fields
    }
}

#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<AnswerKey, Bytes> for ByLength {
    fn weight(&self, key: &AnswerKey, answer: &Bytes) -> u64 {
        (answer.len() + key.fields.len() + 128) as u64
    }
}

/// Bytes for a client, and the coding they are in.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Body,
    /// Where it is known although the body is streamed.
    pub(super) length: Option<u64>,
    pub(super) coding: Coding,
}

impl Answer {
    fn of(bytes: Bytes, coding: Coding) -> Self {
        Self { body: Body::from(bytes), length: None, coding }
    }
}

impl Answers {
    /// Keeps up to `max_bytes`; 0 keeps none.
    pub(super) fn new(max_bytes: u64) -> Self {
        let items = usize::try_from(max_bytes / TYPICAL_BYTES).unwrap_or(usize::MAX).clamp(16, 1 << 16);
        let kept = (max_bytes > 0).then(|| Cache::with_weighter(items, max_bytes, ByLength));
        Self { kept, large: Arc::new(Semaphore::new(LARGE_AT_ONCE)) }
    }

    /// Waits for a turn to decode `size` bytes of a document, if that is many. The turn is kept for as long as
    /// what was made of them is: [`sent_in_turn`].
    pub(super) async fn turn(&self, size: u64) -> Result<Option<Turn>> {
        if size <= STREAM_BYTES {
            return Ok(None);
        }
        match Arc::clone(&self.large).acquire_owned().await {
            Ok(permit) => Ok(Some(Turn(permit))),
            Err(_) => Err(Problem::new("unavailable", "the service is stopping")),
        }
    }

    /// Bytes and answers held.
    pub(super) fn usage(&self) -> (u64, u64) {
        self.kept.as_ref().map_or((0, 0), |cache| (cache.weight(), cache.len() as u64))
    }

    /// The whole document, or a projection of it, in the coding that the client prefers.
    pub(super) async fn answer(
        &self,
        entry: &Arc<Entry>,
        fields: Option<&Projection>,
        coding: Coding,
    ) -> Result<Answer> {
        if coding == Coding::Zstd {
            let stored = match fields {
                None => Some(entry.frame.clone()),
                Some(projection) => entry.document().prefix(projection),
            };
            if let Some(stored) = stored {
                return Ok(Answer::of(stored, Coding::Zstd));
            }
        }
        let fields_text = fields.map(|projection| format!("={}", projection.to_text())).unwrap_or_default();
        let key = AnswerRef { etag: entry.meta.etag, coding, fields: &fields_text };
        let kept = || self.kept.as_ref().and_then(|cache| cache.get(&key));
        if let Some(kept) = kept() {
            return Ok(Answer::of(kept, coding));
        }
        let size = entry.meta.layout.raw_size();
        if size > STREAM_BYTES && fields.is_none() {
            return streamed(entry, coding);
        }
        let turn = self.turn(size).await?;
        // Whoever had the turn before may have made it.
        if turn.is_some()
            && let Some(kept) = kept()
        {
            return Ok(Answer::of(kept, coding));
        }
        let (made, turn) = if size <= INLINE_BYTES {
            (make(entry, fields, coding)?, turn)
        } else {
            let (entry, fields) = (Arc::clone(entry), fields.cloned());
            // The turn goes along: the work goes on even when nobody waits for it any more.
            blocking(move || Ok((make(&entry, fields.as_ref(), coding)?, turn))).await?
        };
        if let Some(cache) = &self.kept
            && (size <= STREAM_BYTES || made.len() as u64 <= cache.capacity() / KEPT_SHARE)
        {
            let key = AnswerKey { etag: entry.meta.etag, coding, fields: fields_text.into() };
            cache.insert(key, made.clone());
        }
        let length = Some(made.len() as u64);
        Ok(Answer { body: sent_in_turn(made, turn), length, coding })
    }
}

/// A body that keeps the turn until it has been sent, unless it is small: a slow client should hold up others
/// only for what takes memory.
pub(super) fn sent_in_turn(bytes: Bytes, turn: Option<Turn>) -> Body {
    match turn {
        Some(turn) if bytes.len() > SLICE_BYTES => {
            Body::from_stream(stream::unfold((bytes, turn), |(mut rest, turn)| async move {
                let slice = rest.split_to(rest.len().min(SLICE_BYTES));
                (!slice.is_empty()).then_some((Ok::<_, Infallible>(slice), (rest, turn)))
            }))
        }
        _ => Body::from(bytes),
    }
}

fn make(entry: &Entry, fields: Option<&Projection>, coding: Coding) -> Result<Bytes> {
    let document = entry.document();
    let json = match fields {
        None => document.decode()?,
        Some(projection) => document.project(projection)?,
    };
    encode(json, coding)
}

/// Puts JSON into a coding.
pub(super) fn encode(json: Vec<u8>, coding: Coding) -> Result<Bytes> {
    let failed = |error: std::io::Error| {
        Problem::new("internal_error", format!("the answer cannot be compressed: {error}"))
    };
    Ok(match coding {
        Coding::Identity => json,
        Coding::Zstd => {
            let level = if json.len() < COMPRESS_BYTES { -5 } else { ZSTD_LEVEL };
            zstd::bulk::compress(&json, level).map_err(failed)?
        }
        Coding::Gzip => {
            let mut compressed = Vec::with_capacity(json.len() / 4 + 64);
            let level = flate2::Compression::new(GZIP_LEVEL);
            flate2::bufread::GzEncoder::new(json.as_slice(), level)
                .read_to_end(&mut compressed)
                .map_err(failed)?;
            compressed
        }
    }
    .into())
}

fn streamed(entry: &Entry, coding: Coding) -> Result<Answer> {
    let failed =
        |error: std::io::Error| Problem::new("internal_error", format!("the answer cannot be read: {error}"));
    let reader = entry.document().reader().map_err(failed)?;
    Ok(match coding {
        Coding::Gzip => {
            let reader = flate2::read::GzEncoder::new(reader, flate2::Compression::new(GZIP_LEVEL));
            Answer { body: from_reader(reader), length: None, coding }
        }
        // The whole document in zstd is never made: it is what is stored.
        Coding::Identity | Coding::Zstd => {
            let length = Some(entry.meta.layout.raw_size());
            Answer { body: from_reader(reader), length, coding: Coding::Identity }
        }
    })
}
