//! Frames as objects of a bucket: named by their hash, never changed.
//!
//! A write of a head makes sure that its object is there and was put there within the last day. So a lifecycle rule
//! of the bucket may expire objects by age, if it leaves them for as long as the longest entry stays, and two days.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::MetadataDirective;
use bytes::{Bytes, BytesMut};

use super::super::Aws;
use super::super::failure::{Failure, Kind};
use super::body::{Object, Upkeep, frame_id};
use crate::clock::Clock;
use crate::config;
use crate::domain::Timestamp;
use crate::store::{Error, Result};

/// The most that is reserved for a body before it is seen: what a head says of its length may be wrong.
const RESERVED: u64 = 64 << 20;

/// The bucket.
pub(super) struct Objects {
    aws: Aws,
    bucket: String,
    prefix: String,
    /// How long a body may take to arrive.
    timeout: Duration,
    upkeep: Upkeep,
}

impl Objects {
    pub(super) fn new(aws: &Aws, config: &config::S3, clock: &Clock) -> Self {
        Self {
            aws: aws.clone(),
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            timeout: config.operation_timeout(),
            upkeep: Upkeep::new(clock),
        }
    }

    fn client(&self) -> Result<&aws_sdk_s3::Client> {
        let missing = || Error::Unsupported {
            backend: super::BACKEND,
            detail: "no bucket is configured: set s3.bucket".to_owned(),
        };
        self.aws.s3().ok_or_else(missing)
    }

    /// Makes sure that a frame is in the bucket.
    pub(super) async fn write(&self, frame: &Bytes) -> Result<Object> {
        let id = frame_id(frame);
        let object = Object { key: format!("{}{id}", self.prefix), id };
        if !self.written_at(&object).await?.is_some_and(|at| self.upkeep.is_young(at)) {
            let request = self
                .client()?
                .put_object()
                .bucket(&self.bucket)
                .key(&object.key)
                .content_type("application/zstd")
                .body(ByteStream::from(frame.clone()));
            self.aws.call(Box::pin(request.send())).await.map_err(|failure| self.error(failure))?;
        }
        Ok(object)
    }

    /// Makes sure that an object which is there stays; false if it is gone.
    pub(super) async fn keep(&self, object: &Object) -> Result<bool> {
        match self.written_at(object).await? {
            None => Ok(false),
            Some(at) if self.upkeep.is_young(at) => Ok(true),
            Some(_) => {
                // A copy onto itself is as new as any.
                let request = self
                    .client()?
                    .copy_object()
                    .copy_source(format!("{}/{}", self.bucket, object.key))
                    .bucket(&self.bucket)
                    .key(&object.key)
                    .content_type("application/zstd")
                    .metadata_directive(MetadataDirective::Replace);
                self.there(self.aws.call(Box::pin(request.send())).await).map(|copied| copied.is_some())
            }
        }
    }

    async fn written_at(&self, object: &Object) -> Result<Option<Timestamp>> {
        let request = self.client()?.head_object().bucket(&self.bucket).key(&object.key);
        let head = self.there(self.aws.call(Box::pin(request.send())).await)?;
        Ok(head.map(|head| {
            let seconds = head.last_modified().map_or(0, |at| u64::try_from(at.secs()).unwrap_or_default());
            Timestamp::from_secs(seconds)
        }))
    }

    /// A frame; nothing if its object is missing.
    pub(super) async fn get(&self, object: &Object, size: u64) -> Result<Option<Bytes>> {
        let request = self.client()?.get_object().bucket(&self.bucket).key(&object.key);
        let Some(found) = self.there(self.aws.call(Box::pin(request.send())).await)? else { return Ok(None) };
        let mut body = found.body;
        let read = async {
            let mut frame = BytesMut::with_capacity(usize::try_from(size.min(RESERVED)).unwrap_or_default());
            while let Some(chunk) =
                body.try_next().await.map_err(|error| Failure::new(Kind::Unavailable, error.to_string()))?
            {
                frame.extend_from_slice(&chunk);
                if frame.len() as u64 > size {
                    break;
                }
            }
            Ok(frame.freeze())
        };
        let late = || Failure::new(Kind::Timeout, "the body of an object did not arrive in time");
        let frame = tokio::time::timeout(self.timeout, read).await.unwrap_or_else(|_| Err(late()));
        frame.map(Some).map_err(|failure| self.error(failure))
    }

    fn there<T>(&self, answer: std::result::Result<T, Failure>) -> Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.kind == Kind::MissingObject => Ok(None),
            Err(failure) => Err(self.error(failure)),
        }
    }

    fn error(&self, failure: Failure) -> Error {
        if failure.kind != Kind::MissingTable {
            return failure.into();
        }
        let detail = format!("the bucket {} of s3.bucket does not exist ({})", self.bucket, failure.detail);
        Error::MissingTable { backend: super::BACKEND, detail }
    }
}
