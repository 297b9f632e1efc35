//! Reads one entry: the head, and the body that it names.

use std::sync::Arc;

use bytes::Bytes;

use super::super::item::{Item, read_number};
use super::Inner;
use super::body::{Inline, Place};
use super::key::partition;
use super::stored::{Stored, corrupt};
use crate::domain::{Entry, Key, Meta, Version};
use crate::store::{Error, GetOptions, Heat, Hit, Look, Result, Source, Via};

/// How often a read begins anew when the head that it follows is replaced meanwhile.
const ROUNDS: usize = 4;

/// What there is under a key.
pub(super) async fn look(inner: &Arc<Inner>, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
    let partition = partition(key);
    let consistent = inner.consistent(options);
    let head = match &inner.gather {
        Some(gather) => gather.get(inner, &partition, consistent).await?,
        None => inner.get_item(&partition, consistent).await?,
    };
    Ok(match inner.follow(key, &partition, head, consistent).await? {
        Look::Entry(entry) => Look::Entry(Hit {
            entry: Arc::new(entry),
            source: Source::Dynamodb,
            via: Via::Owner,
            heat: Heat::default(),
        }),
        Look::Deleted(version) => Look::Deleted(version),
        Look::Absent => Look::Absent,
    })
}

impl Inner {
    /// What a head says. What it names is there before it: where it is not, the head is an old one.
    async fn follow(
        &self,
        key: &Key,
        partition: &str,
        mut head: Option<Item>,
        mut consistent: bool,
    ) -> Result<Look<Entry>> {
        let mut missed: Option<(Version, String)> = None;
        for _ in 0..ROUNDS {
            let Some(mut item) = head else { return Ok(Look::Absent) };
            let ttl = read_number(&item, "ttl").unwrap_or(u64::MAX);
            let (meta, place) = match Stored::read(&mut item, key).map_err(|wrong| corrupt(key, wrong))? {
                Stored::Tombstone(version) => return Ok(Look::Deleted(version)),
                Stored::Plain(entry) => return Ok(Look::Entry(entry)),
                Stored::Packed(meta, place) => (meta, place),
            };
            if let Some(frame) = self.frame_at(&meta, &place, consistent).await? {
                return self.checked(meta, &place, frame).await.map(Look::Entry);
            }
            // DynamoDB deletes late, and in no order.
            if self.upkeep.is_over(ttl) {
                return Ok(Look::Absent);
            }
            let this = (meta.version, place.frame_id().unwrap_or_default().to_owned());
            if consistent && missed.as_ref() == Some(&this) {
                return Err(corrupt(key, "a part of its body is gone"));
            }
            // What was read may have come from a replica that has the head but not yet what the head names.
            missed = Some(this);
            consistent = true;
            head = self.get_item(partition, true).await?;
        }
        Err(corrupt(key, "its body is gone, each time that it is read"))
    }

    /// What is where a head says that its frame is; nothing if a part of it is missing.
    pub(super) async fn frame_at(
        &self,
        meta: &Meta,
        place: &Place,
        consistent: bool,
    ) -> Result<Option<Bytes>> {
        let size = meta.layout.stored_size();
        match place {
            Place::Inline(Inline { frame, .. }) => Ok(Some(frame.clone())),
            Place::Parts(parts) => self.read_parts(parts, size, consistent).await,
            Place::Object(object) => match &self.objects {
                Some(objects) => objects.get(object, size).await,
                None => Err(no_bucket(&meta.key)),
            },
        }
    }

    /// The entry, if the frame is the one that was written for it.
    async fn checked(&self, meta: Meta, place: &Place, frame: Bytes) -> Result<Entry> {
        let check = |meta: Meta, place: &Place| match place.check(&meta, &frame) {
            Ok(()) => Ok(Entry { meta, frame }),
            Err(wrong) => Err(corrupt(&meta.key, wrong)),
        };
        if !place.check_takes_long(&meta) {
            let checked = check(meta, place);
            if checked.is_err()
                && let (Some(objects), Place::Object(object)) = (&self.objects, place)
            {
                objects.suspect(object);
            }
            return checked;
        }
        let place = place.clone();
        let checked = tokio::task::spawn_blocking(move || check(meta, &place)).await;
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

fn no_bucket(key: &Key) -> Error {
    let detail = format!("the body of {} is in a bucket: set s3.bucket", key.id());
    Error::Unsupported { backend: super::BACKEND, detail }
}
