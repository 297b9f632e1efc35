//! Objects in the bucket that no item names any more: bodies that were replaced, deleted or never finished.
//!
//! A writer may be about to name one of them, in an item that the scan has passed already. So an object is deleted only
//! once the sweep has taken it from the writers: `pins`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use aws_smithy_types::DateTime;
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::about;
use crate::config;
use crate::domain::Timestamp;
use crate::store::Result;
use crate::store::dynamodb::Aws;
use crate::store::dynamodb::capacity::{Operation, Table};
use crate::store::dynamodb::failure::{Failure, Kind};
use crate::store::dynamodb::item::{number, read_text, text};
use crate::store::dynamodb::pins;

/// Hexadecimal digits of a frame id, which names its object.
const FRAME_ID_DIGITS: usize = 32;

/// Objects that are deleted at once.
const DELETIONS: usize = 8;

/// Which objects to look for, and what to do with them.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Now.
    pub now: Timestamp,
    /// Younger objects stay: the item that names one is written after it.
    pub older_than_seconds: u64,
    /// Whether they are only counted.
    pub dry_run: bool,
    /// Read units a second that the scan of the table may take.
    pub read_units: u32,
}

/// What a sweep has found and done, or has so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Swept {
    /// Objects under the prefix that are named as bodies are.
    pub objects: u64,
    /// Objects under the prefix with other names, which are left alone.
    pub foreign: u64,
    /// Items of the table that were looked at.
    pub items: u64,
    /// Read units that this took.
    pub read_units: f64,
    /// Objects of the age that no item names.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Those that were deleted.
    pub deleted: u64,
    /// Those that a writer has taken up meanwhile, and stay.
    pub renewed: u64,
    /// Those that could not be deleted.
    pub failed: u64,
}

/// The bucket beside the table of results.
#[derive(Clone, Debug)]
pub struct Orphans {
    aws: Aws,
    table: String,
    bucket: String,
    prefix: String,
}

/// An object that nothing may name.
struct Object {
    bytes: u64,
    modified: Option<DateTime>,
}

impl Orphans {
    /// Those of a configuration; `None` where it names no bucket.
    pub fn new(aws: Aws, dynamodb: &config::Dynamodb, s3: &config::S3) -> Option<Self> {
        let (bucket, prefix) = (s3.bucket.clone(), s3.prefix.clone());
        (!bucket.is_empty()).then(|| Self { aws, table: dynamodb.results_table(), bucket, prefix })
    }

    /// Lists the bucket, reads the whole table for what it names, and deletes the rest. `progress` hears of each page.
    ///
    /// # Errors
    /// When the bucket or the table cannot be read: then nothing is deleted. Deletions that fail are counted.
    pub async fn sweep(&self, sweep: &Sweep, mut progress: impl FnMut(&Swept)) -> Result<Swept> {
        let (mut swept, begun) = (Swept::default(), Instant::now());
        // The bucket first: an object that is listed and that an item names later was young then, or is renewed.
        let listed = self.candidates(sweep, &mut swept, &mut progress).await;
        let mut candidates = listed.map_err(|failure| about(&self.bucket, failure))?;
        if !candidates.is_empty() {
            let scanned = self.keep_named(sweep, &mut candidates, &mut swept, &mut progress).await;
            scanned.map_err(|failure| about(&self.table, failure))?;
        }
        swept.orphans = candidates.len() as u64;
        swept.orphan_bytes = candidates.values().map(|object| object.bytes).sum();
        progress(&swept);
        if sweep.dry_run {
            return Ok(swept);
        }
        let mut deletions = stream::iter(candidates)
            .map(|(key, object)| async move {
                let now = sweep.now.plus_secs(begun.elapsed().as_secs());
                self.delete(&key, &object, sweep.now, now).await
            })
            .buffer_unordered(DELETIONS);
        while let Some(deleted) = deletions.next().await {
            match deleted {
                Ok(true) => swept.deleted += 1,
                Ok(false) => swept.renewed += 1,
                Err(failure) => {
                    swept.failed += 1;
                    tracing::warn!(bucket = %self.bucket, detail = failure.detail, "an object cannot be deleted");
                }
            }
            progress(&swept);
        }
        Ok(swept)
    }

    /// Objects of the age, by their key.
    async fn candidates(
        &self,
        sweep: &Sweep,
        swept: &mut Swept,
        progress: &mut impl FnMut(&Swept),
    ) -> std::result::Result<HashMap<String, Object>, Failure> {
        let client =
            self.aws.s3().ok_or_else(|| Failure::new(Kind::Other, "there is no client of a bucket"))?;
        let youngest = sweep.now.minus_secs(sweep.older_than_seconds).as_secs();
        let mut candidates = HashMap::new();
        let mut next = None;
        loop {
            let request = client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
            let page = self.aws.call_s3(request.set_continuation_token(next).send()).await?;
            for object in page.contents.unwrap_or_default() {
                let (Some(key), modified) = (object.key, object.last_modified) else { continue };
                if frame_id(&key, &self.prefix).is_none() {
                    swept.foreign += 1;
                    continue;
                }
                swept.objects += 1;
                let is_old = |modified: DateTime| u64::try_from(modified.secs()).unwrap_or(0) <= youngest;
                if modified.is_some_and(is_old) {
                    let bytes = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                    candidates.insert(key, Object { bytes, modified });
                }
            }
            progress(swept);
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(candidates);
            }
        }
    }

    /// Reads the table from end to end, page by page and no faster than allowed, and forgets what an item names.
    async fn keep_named(
        &self,
        sweep: &Sweep,
        candidates: &mut HashMap<String, Object>,
        swept: &mut Swept,
        progress: &mut impl FnMut(&Swept),
    ) -> std::result::Result<(), Failure> {
        let mut start = None;
        loop {
            let request = self
                .aws
                .dynamodb()
                .scan()
                .table_name(&self.table)
                .projection_expression("#object")
                .filter_expression("attribute_exists(#object)")
                .expression_attribute_names("#object", "object")
                // What was written last must not be missed: twice the price is less than a body lost.
                .consistent_read(true)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .set_exclusive_start_key(start);
            let page = self.aws.call(request.send()).await?;
            self.aws.count(Table::Results, Operation::Scan, page.consumed_capacity.as_ref());
            for item in page.items() {
                if let Some(object) = read_text(item, "object") {
                    candidates.remove(object);
                }
            }
            let units = page.consumed_capacity.and_then(|consumed| consumed.capacity_units).unwrap_or(0.0);
            swept.items += u64::try_from(page.scanned_count).unwrap_or(0);
            swept.read_units += units.max(0.0);
            progress(swept);
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(());
            }
            let pause = units.max(0.0) / f64::from(sweep.read_units.max(1));
            tokio::time::sleep(Duration::try_from_secs_f64(pause).unwrap_or_default()).await;
        }
    }

    /// False when a writer has taken it up, or written it again since it was listed: an item will name it.
    async fn delete(
        &self,
        key: &str,
        object: &Object,
        began: Timestamp,
        now: Timestamp,
    ) -> std::result::Result<bool, Failure> {
        if !self.take(key, began, now).await? {
            return Ok(false);
        }
        let deleted = self.delete_unchanged(key, object).await?;
        // Where the answer of the deletion was lost, the mark stays: the object may be deleted late.
        self.give_back(key).await?;
        Ok(deleted)
    }

    /// Puts the mark of the sweep in the place of a pin; false if there is one that counts, or another sweep's mark.
    async fn take(&self, key: &str, began: Timestamp, now: Timestamp) -> std::result::Result<bool, Failure> {
        let reach = |from: Timestamp| number(from.minus_secs(pins::REACH_SECONDS).as_secs());
        let request = self
            .aws
            .dynamodb()
            .put_item()
            .table_name(&self.table)
            .set_item(Some(pins::mark(key, now.as_secs())))
            .condition_expression(
                "(attribute_not_exists(#pinned) OR #pinned < :began) \
                 AND (attribute_not_exists(#taken) OR #taken < :now)",
            )
            .expression_attribute_names("#pinned", pins::PINNED_AT)
            .expression_attribute_names("#taken", pins::TAKEN_AT)
            .expression_attribute_values(":began", reach(began))
            .expression_attribute_values(":now", reach(now))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        // A condition that does not hold is an answer, and no failure.
        let send = async {
            match request.send().await {
                Ok(put) => Ok(Some(put)),
                Err(error) if error.as_service_error().is_some_and(is_unmet) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let taken = self.aws.call(Box::pin(send)).await?;
        let taken = taken.inspect(|put| {
            self.aws.count(Table::Results, Operation::Put, put.consumed_capacity());
        });
        Ok(taken.is_some())
    }

    /// Removes the mark.
    async fn give_back(&self, key: &str) -> std::result::Result<(), Failure> {
        let request = self
            .aws
            .dynamodb()
            .delete_item()
            .table_name(&self.table)
            .key("url", text(pins::key(key)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let removed = self.aws.call(Box::pin(request.send())).await?;
        self.aws.count(Table::Results, Operation::Delete, removed.consumed_capacity());
        Ok(())
    }

    async fn delete_unchanged(&self, key: &str, object: &Object) -> std::result::Result<bool, Failure> {
        let client =
            self.aws.s3().ok_or_else(|| Failure::new(Kind::Other, "there is no client of a bucket"))?;
        let head = client.head_object().bucket(&self.bucket).key(key).send();
        // The list tells milliseconds, the head whole seconds.
        let seconds = |time: Option<DateTime>| time.map(|time| time.secs());
        match self.aws.call_s3(head).await {
            Ok(head) if seconds(head.last_modified) != seconds(object.modified) => return Ok(false),
            Err(failure) if failure.kind == Kind::MissingObject => return Ok(false),
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
        self.aws.call_s3(client.delete_object().bucket(&self.bucket).key(key).send()).await.map(|_| true)
    }
}

fn is_unmet(error: &PutItemError) -> bool {
    matches!(error, PutItemError::ConditionalCheckFailedException(_))
}

/// The frame id that an object of this key is named after; `None` for everything that is not ours.
fn frame_id<'k>(key: &'k str, prefix: &str) -> Option<&'k str> {
    let name = key.strip_prefix(prefix)?.rsplit('/').next()?;
    let id = name.split('.').next()?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (id.len() == FRAME_ID_DIGITS && id.bytes().all(is_hex)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bodies_are_ours() {
        let id = "0123456789abcdef0123456789abcdef";
        for (key, expected) in [
            (format!("crawlcache/{id}"), Some(id)),
            (format!("crawlcache/01/{id}.zst"), Some(id)),
            (format!("other/{id}"), None),
            ("crawlcache/report.csv".to_owned(), None),
            (format!("crawlcache/{}", id.to_uppercase()), None),
            ("crawlcache/".to_owned(), None),
        ] {
            assert_eq!(frame_id(&key, "crawlcache/"), expected, "{key}");
        }
    }
}
