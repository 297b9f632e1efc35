//! One line of an export, an import or a batch: a result with what is known about it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::body::{blocking, chunks, read_json};
use super::leases::{store_under, token};
use super::listing::KnownValidators;
use super::problem::{Problem, Result};
use super::state::Api;
use super::write::{
    Place, Terms, Times, TtlSource, Written, check_validator, keep, store, store_failed, ttl,
};
use crate::domain::document::{Coding, Inflate, Projection, encode};
use crate::domain::quality::{Guard, Quality, Why};
use crate::domain::{Entry, Key, Namespace, Timestamp, Validators};
use crate::store::Condition;

/// Documents up to this size are worked on where they are.
const INLINE_BYTES: u64 = 256 << 10;

/// Lines above this size are stored one at a time.
pub(super) const LARGE_LINE_BYTES: usize = 1 << 20;

/// Documents above this size are sent as they are decoded.
const STREAM_BYTES: u64 = 4 << 20;

/// A line that stores a result. `etag`, `version` and other members that only the service sets are ignored.
#[derive(Debug)]
pub(super) struct Record {
    /// What it is stored under.
    pub(super) key: Key,
    ttl: Option<u64>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    validators: KnownValidators,
    lease: Option<String>,
    quality: Option<Which>,
    /// The line, of which the document is a part.
    document: Bytes,
}

/// How the lines of a request are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storing {
    /// As documents that were just fetched.
    Fetched,
    /// With the times of the line, and never in place of what is newer.
    Imported,
    /// As an import, of what was deleted since: as a new write, and only where nothing is stored.
    Restored,
}

/// A line as it is sent.
#[derive(Debug, Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow, default)]
    variant: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl: Option<u64>,
    #[serde(default)]
    created_at: Option<Timestamp>,
    #[serde(default)]
    updated_at: Option<Timestamp>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    validators: KnownValidators,
    /// The lease that it is stored under; an import has none.
    #[serde(borrow, default)]
    lease: Option<Cow<'a, str>>,
    /// What the exporting service took it for.
    #[serde(default)]
    quality: Option<Which>,
    #[serde(borrow)]
    document: &'a RawValue,
}

/// Which of the two results of a key a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Good,
    Failed,
}

impl Record {
    /// Reads a line.
    pub(super) fn read(api: &Api, namespace: &Namespace, line: &Bytes) -> Result<Self> {
        let sent: Sent<'_> = read_json(line)?;
        Ok(Self {
            key: api.key(namespace, &sent.url, sent.variant.as_deref())?,
            ttl: sent.ttl,
            created_at: sent.created_at,
            updated_at: sent.updated_at,
            expires_at: sent.expires_at,
            validators: sent.validators,
            lease: sent.lease.map(Cow::into_owned),
            quality: sent.quality,
            document: line.slice_ref(sent.document.get().as_bytes()),
        })
    }

    /// Stores it.
    pub(super) async fn store(&self, api: &Api, op: &'static str, storing: Storing) -> Result<Written> {
        let import = storing != Storing::Fetched;
        let key = self.key.clone();
        let lease = self.lease.as_deref().filter(|_| !import).map(token).transpose()?;
        let now = api.clock.now();
        let limit = api.config.limits.decoded_bytes;
        let raw = self.document.clone();
        if raw.len() as u64 > limit {
            return Err(crate::domain::DocumentError::TooLarge { limit }.into());
        }
        for (name, value) in [
            ("etag", &self.validators.etag),
            ("last_modified", &self.validators.last_modified),
            ("head_fingerprint", &self.validators.head_fingerprint),
        ] {
            check_validator(name, value.as_deref())?;
        }
        let validators = Validators {
            etag: self.validators.etag.clone(),
            last_modified: self.validators.last_modified.clone(),
            head_fingerprint: self.validators.head_fingerprint.clone(),
        };
        let mut times = Times::fresh(now, ttl(api, self.ttl)?);
        let fetched = self.updated_at.filter(|_| import);
        if import {
            times = times.fetched(fetched.unwrap_or(now));
            times.created_at = self.created_at.unwrap_or(times.updated_at).min(times.updated_at);
            let longest = now.plus_secs(api.config.results.max_ttl_seconds);
            if self.ttl.is_none() {
                times.expires_at = self.expires_at.unwrap_or(times.expires_at).min(longest);
            }
        }
        let restored = storing == Storing::Restored;
        let place = if import && !restored { Place::fetched(api, now, fetched) } else { Place::newest(api) };
        let level = api.config.results.compression_level;
        let encoded = if raw.len() as u64 <= INLINE_BYTES {
            encode(&raw, level)?
        } else {
            blocking(move || {
                let source = Inflate { body: raw, coding: Coding::Identity, limit };
                Ok(encode(&source.body, level)?)
            })
            .await?
        };
        let ttl_source = if import { TtlSource::Kept } else { TtlSource::of(self.ttl) };
        // No entry has expired by then: the condition holds where there is none at all.
        let condition = if restored { Condition::Absent(Timestamp::from_millis(0)) } else { Condition::Any };
        let terms = Terms { validators, times, ttl_source, condition, place };
        if import && self.quality == Some(Which::Good) {
            // Where good results are it goes back, whatever it says of itself.
            let quality = api.guard().of_facts(&encoded.facts);
            return keep(api, op, key, encoded, terms, quality).await;
        }
        if import && self.quality == Some(Which::Failed) {
            // Failed it stays, whatever this service would make of it.
            let why = api.guard().of_facts(&encoded.facts).why().unwrap_or(Why::Blocked);
            return store_failed(api, op, &key, encoded, terms, Quality::Failed(why)).await;
        }
        if import {
            // What is met here says what became of the line.
            return store(api, op, key, encoded, terms).await;
        }
        store_under(api, lease, op, key, encoded, terms, None).await
    }
}

/// A line of an answer: in one piece, or as it is read where the document is large.
pub(super) type Line = BoxStream<'static, std::io::Result<Bytes>>;

/// A line that is ready.
pub(super) fn ready(line: Bytes) -> Line {
    stream::once(async move { Ok(line) }).boxed()
}

/// `head` with the document, or a projection of it, as the last member: one line.
pub(super) async fn document_line(
    api: &Api,
    head: Map<String, Value>,
    entry: Arc<Entry>,
    projection: Option<Projection>,
) -> Result<Line> {
    let mut begin = Value::Object(head).to_string().into_bytes();
    begin.pop();
    begin.extend_from_slice(b",\"document\":");
    let size = entry.meta.layout.raw_size();
    if size > STREAM_BYTES && projection.is_none() {
        let reader = entry.document().reader().map_err(|error| {
            Problem::new("internal_error", format!("the document cannot be read: {error}"))
        })?;
        let document = chunks(reader).map_ok(|chunk| on_one_line(chunk.into()).into());
        return Ok(stream::iter([Ok(begin.into())])
            .chain(document)
            .chain(stream::iter([Ok(Bytes::from_static(b"}\n"))]))
            .boxed());
    }
    let turn = api.shared().answers.turn(size).await?;
    let work = move || -> Result<Bytes> {
        let _turn = turn;
        let json = match &projection {
            None => entry.document().decode()?,
            Some(projection) => entry.document().project(projection)?,
        };
        let mut line = begin;
        line.extend_from_slice(&on_one_line(json));
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    };
    let line = if size <= INLINE_BYTES { work()? } else { blocking(work).await? };
    Ok(ready(line))
}

/// JSON text without line breaks: they are white space between tokens, since inside strings they are escaped.
fn on_one_line(mut json: Vec<u8>) -> Vec<u8> {
    // Compact JSON has none: then this is one fast scan.
    if let Some(first) = memchr::memchr2(b'\n', b'\r', &json) {
        for byte in &mut json[first..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    json
}

/// What an export says about an entry beside its document.
pub(super) fn export_head(entry: &Entry, guard: &Guard) -> Map<String, Value> {
    let meta = &entry.meta;
    let mut head = Map::new();
    head.insert("url".to_owned(), json!(meta.key.url()));
    head.insert("variant".to_owned(), json!(meta.key.caller_variant()));
    // Which of the two it is; said of a good one only where an import would take it for a failed one.
    if meta.key.is_failed() {
        head.insert("quality".to_owned(), json!("failed"));
    } else if guard.of(meta) != Quality::Good {
        head.insert("quality".to_owned(), json!("good"));
    }
    head.insert("etag".to_owned(), json!(meta.etag.to_string()));
    head.insert("created_at".to_owned(), json!(meta.created_at));
    head.insert("updated_at".to_owned(), json!(meta.updated_at));
    head.insert("expires_at".to_owned(), json!(meta.expires_at));
    let validators = KnownValidators::of(meta);
    if !validators.is_empty() {
        head.insert("validators".to_owned(), json!(validators));
    }
    head
}

/// The problem of a line as it is counted in a report: its code and what it says.
pub(super) fn line_error(number: u64, problem: &Problem) -> Value {
    json!({ "line": number, "code": problem.code(), "detail": problem.detail() })
}
