//! Frames as objects of a bucket: named by their hash, never changed.
//!
//! A write of a head makes sure that its object is there, says that it holds this frame, and was put there within the
//! last day. So a lifecycle rule of the bucket may expire objects by age, if it leaves them for as long as the longest
//! entry stays, and two days. What others put in the place of an object has another length, or does not say what it
//! holds: it is written again. What was read and found to be another is written again whatever it says.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::MetadataDirective;
use bytes::{Bytes, BytesMut};

use super::super::failure::{Failure, Kind};
use super::super::{Aws, Bucket};
use super::body::{Object, Upkeep, frame_id};
use super::put::Care;
use crate::clock::Clock;
use crate::config;
use crate::domain::{Timestamp, Version};
use crate::store::{Error, Result};

/// The most that is reserved for a body before it is seen: what a head says of its length may be wrong.
const RESERVED: u64 = 64 << 20;

/// The metadata of an object that says which frame it holds.
const FRAME_ID: &str = "frame-id";

/// As many frames are known to be damaged in the bucket, at most: of more, the first are forgotten together.
const MOST_SUSPECTS: usize = 4096;

/// What the bucket says of an object.
struct Held {
    written: Timestamp,
    bytes: Option<u64>,
    /// Which frame it says that it holds; nothing in objects of releases that did not say it, and of others.
    id: Option<String>,
}

/// The bucket.
pub(super) struct Objects {
    aws: Aws,
    /// Its circuit, through which all of this goes.
    backend: Bucket,
    bucket: String,
    prefix: String,
    /// How long a body may take to arrive.
    timeout: Duration,
    upkeep: Upkeep,
    /// Frames whose objects were read and found to be something else.
    suspects: Mutex<HashSet<String>>,
}

impl Objects {
    pub(super) fn new(aws: &Aws, backend: Bucket, config: &config::S3, clock: &Clock) -> Self {
        Self {
            aws: aws.clone(),
            backend,
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            timeout: config.operation_timeout(),
            upkeep: Upkeep::new(clock),
            suspects: Mutex::default(),
        }
    }

    /// The object of a frame.
    pub(super) fn object_of(&self, frame: &Bytes) -> Object {
        let id = frame_id(frame);
        Object { key: format!("{}{id}", self.prefix), id }
    }

    /// The same frame under a name that no other write has.
    pub(super) fn renamed(&self, Object { id, .. }: Object, version: Version) -> Object {
        Object { key: format!("{}{id}.{:x}", self.prefix, version.as_u64()), id }
    }

    /// Remembers that an object is not what its head says.
    pub(super) fn suspect(&self, object: &Object) {
        let mut suspects = self.suspects();
        if suspects.len() >= MOST_SUSPECTS {
            suspects.clear();
        }
        suspects.insert(object.id.clone());
    }

    fn suspects(&self) -> MutexGuard<'_, HashSet<String>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Result<&aws_sdk_s3::Client> {
        let missing = || Error::Unsupported {
            backend: super::BACKEND,
            detail: "no bucket is configured: set s3.bucket".to_owned(),
        };
        self.aws.s3().ok_or_else(missing)
    }

    /// The bucket as a backend of its own.
    pub(super) const fn backend(&self) -> &Bucket {
        &self.backend
    }

    /// Makes sure that the object of a frame is in the bucket.
    pub(super) async fn write(&self, object: &Object, frame: &Bytes, care: Care) -> Result<()> {
        self.backend.ask(self.write_now(object, frame, care)).await
    }

    async fn write_now(&self, object: &Object, frame: &Bytes, care: Care) -> Result<()> {
        let suspected = care == Care::Repair || self.suspects().contains(&object.id);
        if !suspected && let Some(held) = self.held(object).await? {
            let says = held.bytes == Some(frame.len() as u64) && held.id.as_ref() == Some(&object.id);
            if says && self.upkeep.is_young(held.written) {
                return Ok(());
            }
        }
        let request = self
            .client()?
            .put_object()
            .bucket(&self.bucket)
            .key(&object.key)
            .content_type("application/zstd")
            .metadata(FRAME_ID, &object.id)
            .body(ByteStream::from(frame.clone()));
        self.aws.call_s3(Box::pin(request.send())).await.map_err(|failure| self.backend.error(failure))?;
        self.suspects().remove(&object.id);
        Ok(())
    }

    /// Makes sure that an object of a frame of `size` bytes stays; false if it is gone, or is another.
    pub(super) async fn keep(&self, object: &Object, size: u64) -> Result<bool> {
        self.backend.ask(self.keep_now(object, size)).await
    }

    async fn keep_now(&self, object: &Object, size: u64) -> Result<bool> {
        if self.suspects().contains(&object.id) {
            return Ok(false);
        }
        let Some(held) = self.held(object).await? else { return Ok(false) };
        let said = match &held.id {
            Some(id) => *id == object.id,
            // It does not say: it is read.
            None => self.get_now(object, size).await?.is_some_and(|frame| frame_id(&frame) == object.id),
        };
        if held.bytes != Some(size) || !said {
            return Ok(false);
        }
        if held.id.is_some() && self.upkeep.is_young(held.written) {
            return Ok(true);
        }
        // A copy onto itself is as new as any.
        let request = self
            .client()?
            .copy_object()
            .copy_source(format!("{}/{}", self.bucket, object.key))
            .bucket(&self.bucket)
            .key(&object.key)
            .content_type("application/zstd")
            .metadata(FRAME_ID, &object.id)
            .metadata_directive(MetadataDirective::Replace);
        self.there(self.aws.call_s3(Box::pin(request.send())).await).map(|copied| copied.is_some())
    }

    async fn held(&self, object: &Object) -> Result<Option<Held>> {
        let request = self.client()?.head_object().bucket(&self.bucket).key(&object.key);
        let head = self.there(self.aws.call_s3(Box::pin(request.send())).await)?;
        Ok(head.map(|head| {
            let seconds = head.last_modified().map_or(0, |at| u64::try_from(at.secs()).unwrap_or_default());
            Held {
                written: Timestamp::from_secs(seconds),
                bytes: head.content_length().and_then(|bytes| u64::try_from(bytes).ok()),
                id: head.metadata.and_then(|mut said| said.remove(FRAME_ID)),
            }
        }))
    }

    /// A frame; nothing if its object is missing.
    pub(super) async fn get(&self, object: &Object, size: u64) -> Result<Option<Bytes>> {
        self.backend.ask(self.get_now(object, size)).await
    }

    async fn get_now(&self, object: &Object, size: u64) -> Result<Option<Bytes>> {
        let request = self.client()?.get_object().bucket(&self.bucket).key(&object.key);
        let Some(found) = self.there(self.aws.call_s3(Box::pin(request.send())).await)? else {
            return Ok(None);
        };
        let mut body = found.body;
        let read = async {
            let mut frame = BytesMut::with_capacity(usize::try_from(size.min(RESERVED)).unwrap_or_default());
            while let Some(chunk) = body
                .try_next()
                .await
                .map_err(|error| Failure::new(Kind::Unavailable, error.to_string()).of_s3())?
            {
                frame.extend_from_slice(&chunk);
                if frame.len() as u64 > size {
                    break;
                }
            }
            Ok(frame.freeze())
        };
        let late = || Failure::new(Kind::Timeout, "the body of an object did not arrive in time").of_s3();
        let frame = tokio::time::timeout(self.timeout, read).await.unwrap_or_else(|_| Err(late()));
        frame.map(Some).map_err(|failure| self.backend.error(failure))
    }

    fn there<T>(&self, answer: std::result::Result<T, Failure>) -> Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.kind == Kind::MissingObject => Ok(None),
            Err(failure) => Err(self.backend.error(failure)),
        }
    }
}
