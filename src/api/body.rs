//! Request bodies: handed over with the headers, received within limits; and response bodies made from readers.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::params::field_of;
use super::problem::{Problem, Result};
use super::state::Api;
use crate::domain::document::{Coding, Encoded, Inflate, encode, encode_large};

/// Documents up to this size are encoded where they arrive: that takes less than handing them over.
const INLINE_BYTES: usize = 256 << 10;

/// Documents up to this size, decoded, are encoded in memory; larger ones in several passes.
const IN_MEMORY_BYTES: u64 = 8 << 20;

/// The largest JSON body, decoded, that is no document.
const MAX_JSON_BYTES: u64 = 16 << 20;

/// How much of a reader is sent at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// The headers and the body of a request, which are taken, not copied.
///
/// It takes the whole request, so that axum has it as the last argument of a handler only: whatever else looks at the
/// headers, such as who is calling, has looked by then.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        Ok(Self { headers: parts.headers, body })
    }
}

/// A body that has arrived, with the memory it was granted.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) source: Inflate,
    _memory: Memory,
}

impl Upload {
    /// Lowers the limit on its decoded size to `most` bytes, for bodies that are no documents.
    pub(super) fn at_most(mut self, most: u64) -> Self {
        self.source.limit = self.source.limit.min(most);
        self
    }
}

/// Memory granted to a body, given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Memory(Option<OwnedSemaphorePermit>);

impl Memory {
    /// Takes what `bytes` in all need beyond what was granted, or sheds the request: to wait here could block
    /// bodies on each other for ever.
    pub(super) fn cover(&mut self, api: &Api, bytes: usize) -> Result<()> {
        let granted = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(1024).saturating_sub(granted);
        if missing == 0 {
            return Ok(());
        }
        let kib = u32::try_from(missing).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&api.shared().body_memory).try_acquire_many_owned(kib) else {
            api.metrics.http_shed.with_label_values(&["body_memory"]).inc();
            return Err(Problem::new("overloaded", "too many large bodies are being received at once"));
        };
        match &mut self.0 {
            Some(granted) => granted.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// Which media types a route takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Accepts {
    /// `application/json`, any `+json`, or none named.
    Json,
    /// As `Json`; RFC 7396 names `application/merge-patch+json`.
    MergePatch,
    /// `application/x-ndjson` and its other names, or none named.
    Ndjson,
}

/// Checks a content type.
pub(super) fn check_content_type(headers: &HeaderMap, accepts: Accepts) -> Result<()> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (fits, wanted) = match accepts {
        Accepts::Json => (essence == "application/json" || essence.ends_with("+json"), "application/json"),
        Accepts::MergePatch => (
            essence == "application/json" || essence == "application/merge-patch+json",
            "application/merge-patch+json or application/json",
        ),
        Accepts::Ndjson => (
            ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines"]
                .contains(&essence.as_str()),
            "application/x-ndjson",
        ),
    };
    if fits {
        return Ok(());
    }
    Err(Problem::new("unsupported_media_type", format!("`{given}` is not accepted here; send {wanted}"))
        .with("accepted", wanted))
}

/// The content coding of a request.
pub(super) fn coding_of(headers: &HeaderMap) -> Result<Coding> {
    let Some(given) = headers.get(CONTENT_ENCODING) else { return Ok(Coding::Identity) };
    match given.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "zstd" => Ok(Coding::Zstd),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        _ => {
            let given = String::from_utf8_lossy(given.as_bytes()).into_owned();
            Err(Problem::new(
                "unsupported_encoding",
                format!("`{given}` is not accepted; send zstd, gzip or identity"),
            )
            .header(http::header::ACCEPT_ENCODING, "zstd, gzip, identity"))
        }
    }
}

/// Receives a body whole, within the limits on size, time and memory.
pub(super) async fn receive(api: &Api, headers: &HeaderMap, body: Body, accepts: Accepts) -> Result<Upload> {
    check_content_type(headers, accepts)?;
    let coding = coding_of(headers)?;
    let limits = &api.config.limits;
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes) {
        return Err(too_large(limits.body_bytes));
    }
    let mut memory = Memory::default();
    let collecting = collect(api, body, announced.unwrap_or(0), &mut memory);
    let bytes = tokio::time::timeout(limits.request_timeout(), collecting)
        .await
        .map_err(|_| Problem::new("body_timeout", "the body did not arrive in time"))??;
    Ok(Upload { source: Inflate { body: bytes, coding, limit: limits.decoded_bytes }, _memory: memory })
}

async fn collect(api: &Api, mut body: Body, announced: usize, memory: &mut Memory) -> Result<Bytes> {
    let limit = api.config.limits.body_bytes;
    let mut first = None;
    let mut whole = BytesMut::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Problem::new("malformed_request", format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > limit {
            return Err(too_large(limit));
        }
        memory.cover(api, size)?;
        // A body that comes in one piece is used as it is.
        if first.is_none() && whole.is_empty() && (size == announced || body.is_end_stream()) {
            first = Some(data);
            continue;
        }
        if whole.is_empty() {
            whole.reserve(announced.min(limit).max(data.len()));
            if let Some(first) = first.take() {
                whole.extend_from_slice(&first);
            }
        }
        whole.extend_from_slice(&data);
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// The problem of a body beyond `limit` bytes.
pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new("body_too_large", format!("the body is larger than {limit} bytes"))
        .with("limit_bytes", limit)
}

/// Encodes an uploaded document, off the async threads when it is large.
pub(super) async fn encode_upload(api: &Api, upload: Upload) -> Result<Encoded> {
    let level = api.config.results.compression_level;
    // A small compressed body may still be a large document: only a plain one is known to be small.
    let small = upload.source.coding == Coding::Identity && upload.source.body.len() <= INLINE_BYTES;
    let work = move || -> Result<Encoded> {
        match upload.source.read_whole(IN_MEMORY_BYTES)? {
            Some(raw) => Ok(encode(&raw, level)?),
            None => Ok(encode_large(&upload.source, level)?),
        }
    };
    if small { work() } else { blocking(work).await }
}

/// Runs work that would hold up an async thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Problem::new("unavailable", "the service is stopping")),
    }
}

/// A small JSON body, parsed.
pub(super) async fn json<T: serde::de::DeserializeOwned>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<T> {
    let upload = receive(api, headers, body, Accepts::Json).await?.at_most(MAX_JSON_BYTES);
    let raw = upload.source.read_whole(MAX_JSON_BYTES)?.unwrap_or_default();
    read_json(&raw)
}

/// Reads JSON text. Where it does not fit, the problem names the field.
pub(super) fn read_json<'de, T: serde::Deserialize<'de>>(raw: &'de [u8]) -> Result<T> {
    serde_json::from_slice(raw).map_err(|error| {
        let detail = error.to_string();
        if !error.is_data() {
            return Problem::new("malformed_json", detail);
        }
        // Only what failed is read with its path, once more: to keep the path costs more than to parse.
        let path = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(raw));
        let path = path.err().map(|error| error.path().to_string());
        misfit(field_of(path, &detail), detail)
    })
}

fn misfit(field: Option<String>, detail: String) -> Problem {
    let problem = Problem::new("invalid_field", detail);
    match field {
        Some(name) => problem.with("field", name),
        None => problem,
    }
}

/// What a reader holds, read off the async threads.
pub(super) fn chunks(
    reader: impl Read + Send + 'static,
) -> impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(reader, |mut reader| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
            read.map(|_| (chunk, reader))
        });
        let (chunk, reader) = read.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>(if chunk.is_empty() { None } else { Some((Bytes::from(chunk), reader)) })
    })
}

/// A response body that is read as it is sent.
pub(super) fn from_reader(reader: impl Read + Send + 'static) -> Body {
    Body::from_stream(chunks(reader))
}

/// The lines of an NDJSON body, empty ones left out.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    scanned: usize,
    limit: usize,
    /// Whether the line that is being read is over the limit.
    skipping: bool,
    number: u64,
    ended: bool,
    memory: Memory,
    idle: Duration,
}

impl Lines {
    /// The lines of a request body. The content type must be NDJSON and the coding identity.
    pub(super) fn of(api: &Api, headers: &HeaderMap, body: Body) -> Result<Self> {
        check_content_type(headers, Accepts::Ndjson)?;
        if coding_of(headers)? != Coding::Identity {
            return Err(Problem::new("unsupported_encoding", "NDJSON is accepted without a content coding"));
        }
        let limits = &api.config.limits;
        Ok(Self {
            body,
            buffer: BytesMut::new(),
            scanned: 0,
            limit: limits.body_bytes,
            skipping: false,
            number: 0,
            ended: false,
            memory: Memory::default(),
            idle: limits.request_timeout(),
        })
    }

    /// The next line and its number, counted from 1; in its place the problem of one beyond the body limit.
    ///
    /// # Errors
    /// What ends the body: nothing can be read after it.
    pub(super) async fn next(&mut self, api: &Api) -> Result<Option<(u64, Result<Bytes>)>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
                let mut line = self.buffer.split_to(self.scanned + at + 1);
                self.scanned = 0;
                line.truncate(line.len() - 1);
                if let Some(line) = self.end_line(line) {
                    return Ok(Some(line));
                }
                continue;
            }
            // Of a line that is too long nothing is kept: it is only looked through for its end.
            self.skipping |= self.buffer.len() > self.limit;
            if self.skipping {
                self.buffer.clear();
            }
            self.scanned = self.buffer.len();
            if self.ended {
                let rest = std::mem::take(&mut self.buffer);
                self.scanned = 0;
                return Ok(self.end_line(rest));
            }
            self.fill(api).await?;
        }
    }

    fn end_line(&mut self, line: BytesMut) -> Option<(u64, Result<Bytes>)> {
        self.number += 1;
        let line = if std::mem::take(&mut self.skipping) || line.len() > self.limit {
            Err(too_large(self.limit))
        } else {
            Ok(content_of(line)?)
        };
        Some((self.number, line))
    }

    async fn fill(&mut self, api: &Api) -> Result<()> {
        let frame = tokio::time::timeout(self.idle, self.body.frame())
            .await
            .map_err(|_| Problem::new("body_timeout", "the body did not go on in time"))?;
        match frame {
            None => self.ended = true,
            Some(Err(error)) => {
                return Err(Problem::new("malformed_request", format!("the body broke off: {error}")));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
            }
        }
        self.memory.cover(api, self.buffer.len())
    }
}

fn content_of(line: BytesMut) -> Option<Bytes> {
    line.iter().any(|byte| !byte.is_ascii_whitespace()).then(|| line.freeze())
}

/// A streamed NDJSON response. An error breaks it off: the status is sent already.
pub(super) fn ndjson(lines: impl stream::Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
