//! Walks over all results of the table, whoever wrote them, with or without their bodies.

use bytes::Bytes;

use super::super::capacity::Table;
use super::super::item::{Item, read_text, text};
use super::super::pins;
use super::super::scan::{Attributes, Page, Segment};
use super::body::{Inline, Place};
use super::expression::Terms;
use super::head::META;
use super::key::{URL, key_of};
use super::leases::PREFIX;
use super::stored::{Stored, is_packed, meta, tombstone};
use super::{DynamodbResults, Inner};
use crate::domain::{Key, Meta, Version};
use crate::store::Result;

/// What an item of the table is.
#[derive(Clone, Debug)]
pub enum Scanned {
    /// An entry.
    Entry {
        /// Everything but the body.
        meta: Box<Meta>,
        /// The body, where it was asked for and lies in the item itself.
        frame: Option<Bytes>,
    },
    /// A deletion.
    Deleted {
        /// Of which key.
        key: Key,
        /// Of everything up to this version.
        version: Version,
    },
    /// A result that cannot be read.
    Unreadable {
        /// Which one.
        key: Key,
        /// What is wrong with it.
        wrong: String,
    },
}

impl DynamodbResults {
    /// One page of a segment: `limit` items are looked at, those that are no results among them. With `frames`, bodies
    /// come with the items that hold them; that costs no more units, but time.
    ///
    /// # Errors
    /// As any read; items that cannot be read are in the page.
    pub async fn scan(&self, segment: &Segment, limit: usize, frames: bool) -> Result<Page<Scanned>> {
        self.0.scan(segment, limit, frames).await
    }
}

impl Inner {
    async fn scan(&self, segment: &Segment, limit: usize, frames: bool) -> Result<Page<Scanned>> {
        let mut terms = Terms::default();
        let projection = (!frames).then(|| terms.projection(&[&META[..], &["deleted"]].concat()));
        // Parts of large bodies would come with all that they hold; leases are nobody's results.
        let others = ["part ", PREFIX, pins::PREFIX]
            .map(|prefix| format!("NOT begins_with({}, {})", terms.name(URL), terms.value(text(prefix))));
        let filter = others.join(" AND ");
        let (names, values) = terms.finish();
        let attributes = Attributes { projection, filter: Some(filter), names, values };
        let table = (Table::Results, self.table.as_str());
        let page = self.aws.scan(table, URL, segment, limit, attributes).await;
        let Page { mut items, next } = page.map_err(|failure| self.error(failure))?;
        if !frames {
            self.complete_plain(&mut items).await?;
        }
        let scan = move || items.into_iter().filter_map(|item| scanned(item, frames)).collect();
        let items = if frames {
            // Bodies are hashed, and those without a hash decoded.
            let scanned = tokio::task::spawn_blocking(scan).await;
            scanned.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        } else {
            scan()
        };
        Ok(Page { items, next })
    }

    /// Reads items in the plain layout whole: their etag is that of all their attributes.
    async fn complete_plain(&self, items: &mut Vec<Item>) -> Result<()> {
        let is_plain = |item: &Item| !is_packed(item) && tombstone(item).is_none() && key_of(item).is_some();
        let plain: Vec<String> = items
            .iter()
            .filter(|item| is_plain(item))
            .filter_map(|item| read_text(item, URL))
            .map(str::to_owned)
            .collect();
        if plain.is_empty() {
            return Ok(());
        }
        items.retain(|item| !is_plain(item));
        items.extend(self.items(plain, &[], true).await?.into_values());
        Ok(())
    }
}

/// What an item is; nothing if it is no result.
fn scanned(mut item: Item, frames: bool) -> Option<Scanned> {
    let key = key_of(&item)?;
    if let Some(version) = tombstone(&item) {
        return Some(Scanned::Deleted { key, version });
    }
    let read = if is_packed(&item) && !frames {
        meta(&item, &key).map(|meta| (meta, None))
    } else {
        Stored::read(&mut item, &key).and_then(|stored| match stored {
            Stored::Packed(meta, place) => match &place {
                Place::Inline(Inline { frame, .. }) => {
                    place.check(&meta, frame).map(|()| (meta, Some(frame.clone())))
                }
                Place::Parts(_) | Place::Object(_) => Ok((meta, None)),
            },
            Stored::Plain(entry) => Ok((entry.meta, Some(entry.frame))),
            Stored::Tombstone(_) => Err("it is no entry"),
        })
    };
    Some(match read {
        Ok((meta, frame)) => Scanned::Entry { meta: Box::new(meta), frame },
        Err(wrong) => Scanned::Unreadable { key, wrong: wrong.to_owned() },
    })
}
