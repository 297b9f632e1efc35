//! Reads many items: requests of a hundred, some of them at once.

use std::collections::HashMap;
use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::batch::{MOST_KEYS, Wanted};
use super::super::capacity::Table;
use super::super::item::{Item, read_text, text};
use super::Inner;
use super::expression::Terms;
use super::head::META;
use super::key::{URL, partition};
use super::stored::{Stored, is_packed, meta, tombstone};
use crate::domain::{Key, Meta};
use crate::store::{Look, Result};

/// Requests of one caller that are under way at once.
const AT_ONCE: usize = 4;

impl Inner {
    pub(super) async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        let partitions: Vec<String> = keys.iter().map(partition).collect();
        let distinct: HashSet<&String> = partitions.iter().collect();
        let heads = self.heads(distinct.into_iter().cloned().collect(), self.consistent).await?;
        let look = |(key, partition): (&Key, &String)| match heads.get(partition) {
            None => Look::Absent,
            Some(head) => match tombstone(head) {
                Some(version) => Look::Deleted(version),
                None => meta_of(head, key).into(),
            },
        };
        Ok(keys.iter().zip(&partitions).map(look).collect())
    }

    /// The heads of distinct partition keys: packed ones and tombstones without the frame, plain ones whole.
    pub(super) async fn heads(
        &self,
        partitions: Vec<String>,
        consistent: bool,
    ) -> Result<HashMap<String, Item>> {
        let mut attributes = META.to_vec();
        attributes.push("deleted");
        let mut heads = self.items(partitions, &attributes, consistent).await?;
        // Their etag is that of all their attributes.
        let plain = heads.iter().filter(|(_, head)| !is_packed(head) && tombstone(head).is_none());
        let plain: Vec<String> = plain.map(|(partition, _)| partition.clone()).collect();
        if !plain.is_empty() {
            plain.iter().for_each(|partition| drop(heads.remove(partition)));
            heads.extend(self.items(plain, &[], consistent).await?);
        }
        Ok(heads)
    }

    /// The items of distinct partition keys, as far as `attributes` go; whole ones without them.
    pub(super) async fn items(
        &self,
        partitions: Vec<String>,
        attributes: &[&str],
        consistent: bool,
    ) -> Result<HashMap<String, Item>> {
        let requests =
            partitions.chunks(MOST_KEYS).map(|chunk| self.items_at_once(chunk, attributes, consistent));
        let found: Vec<Vec<Item>> =
            stream::iter(requests.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await?;
        let named = |item: Item| read_text(&item, URL).map(str::to_owned).map(|partition| (partition, item));
        Ok(found.into_iter().flatten().filter_map(named).collect())
    }

    async fn items_at_once(
        &self,
        partitions: &[String],
        attributes: &[&str],
        consistent: bool,
    ) -> Result<Vec<Item>> {
        let keys = partitions.iter().map(|partition| Item::from([(URL.to_owned(), text(partition))]));
        let projection = (!attributes.is_empty()).then(|| {
            let mut terms = Terms::default();
            let projection = terms.projection(attributes);
            (projection, terms.finish().0.unwrap_or_default())
        });
        let (name, unprocessed) = (self.table.as_str(), &self.unprocessed);
        let wanted = Wanted { table: Table::Results, name, projection, consistent, unprocessed };
        self.aws.get_many(wanted, keys.collect()).await.map_err(|failure| self.error(failure))
    }
}

/// The metadata of a head; nothing if it is none, or damaged: one such item must not hide the others.
pub(super) fn meta_of(head: &Item, key: &Key) -> Option<Meta> {
    let read = if tombstone(head).is_some() {
        return None;
    } else if is_packed(head) {
        meta(head, key)
    } else {
        Stored::read(&mut head.clone(), key).and_then(|stored| stored.meta().cloned().ok_or("it is no entry"))
    };
    read.inspect_err(|wrong| tracing::error!(key = %key.id(), wrong, "a damaged item was left out")).ok()
}
