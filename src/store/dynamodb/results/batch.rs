//! Reads many items: requests of a hundred, some of them at once.

use std::collections::HashMap;
use std::collections::HashSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::super::batch::{Batch, MOST_KEYS, Wanted};
use super::super::capacity::Table;
use super::super::item::{Item, read_text, text};
use super::Inner;
use super::expression::Terms;
use super::head::META;
use super::key::{URL, partition};
use super::stored::{Stored, is_packed, meta, tombstone};
use crate::domain::{Key, Meta};
use crate::store::{Error, Look, Result, Seen};

/// Requests of one caller that are under way at once.
const AT_ONCE: usize = 4;

/// Items by their partition keys, as far as DynamoDB tells of them.
#[derive(Debug, Default)]
struct Items {
    found: HashMap<String, Item>,
    /// Of which nothing was told.
    left: HashSet<String>,
    /// Why; the last reason where there are several.
    why: Option<Error>,
}

impl Items {
    /// All of them.
    fn all(self) -> Result<HashMap<String, Item>> {
        match self.why {
            None => Ok(self.found),
            Some(error) => Err(error),
        }
    }

    fn absorb(&mut self, other: Self) {
        self.found.extend(other.found);
        self.left.extend(other.left);
        self.why = other.why.or(self.why.take());
    }
}

impl Inner {
    pub(super) async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        let partitions: Vec<String> = keys.iter().map(partition).collect();
        let heads = self.heads(distinct(&partitions), self.consistent).await?;
        let look = |(key, partition): (&Key, &String)| look_at(heads.get(partition), key);
        Ok(keys.iter().zip(&partitions).map(look).collect())
    }

    /// As [`Inner::look_metas`], as far as DynamoDB tells of the keys.
    pub(super) async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        let partitions: Vec<String> = keys.iter().map(partition).collect();
        let distinct = distinct(&partitions);
        let count = distinct.len();
        let heads = self.some_heads(distinct, self.consistent).await;
        match heads.why {
            Some(error) if heads.left.len() == count || !error.is_away() => return Err(error),
            Some(error) => {
                tracing::warn!(%error, keys = heads.left.len(), of = count, "a look-up is answered in part");
            }
            None => {}
        }
        let seen = |(key, partition): (&Key, &String)| {
            if heads.left.contains(partition) {
                return Seen::Unknown;
            }
            Seen::Told(look_at(heads.found.get(partition), key))
        };
        Ok(keys.iter().zip(&partitions).map(seen).collect())
    }

    /// The heads of distinct partition keys: packed ones and tombstones without the frame, plain ones whole.
    pub(super) async fn heads(
        &self,
        partitions: Vec<String>,
        consistent: bool,
    ) -> Result<HashMap<String, Item>> {
        self.some_heads(partitions, consistent).await.all()
    }

    async fn some_heads(&self, partitions: Vec<String>, consistent: bool) -> Items {
        let mut attributes = META.to_vec();
        attributes.push("deleted");
        let mut heads = self.some_items(partitions, &attributes, consistent).await;
        // Their etag is that of all their attributes.
        let plain = heads.found.iter().filter(|(_, head)| !is_packed(head) && tombstone(head).is_none());
        let plain: Vec<String> = plain.map(|(partition, _)| partition.clone()).collect();
        if !plain.is_empty() {
            plain.iter().for_each(|partition| drop(heads.found.remove(partition)));
            heads.absorb(self.some_items(plain, &[], consistent).await);
        }
        heads
    }

    /// The items of distinct partition keys, as far as `attributes` go; whole ones without them.
    pub(super) async fn items(
        &self,
        partitions: Vec<String>,
        attributes: &[&str],
        consistent: bool,
    ) -> Result<HashMap<String, Item>> {
        self.some_items(partitions, attributes, consistent).await.all()
    }

    async fn some_items(&self, partitions: Vec<String>, attributes: &[&str], consistent: bool) -> Items {
        let (mut items, mut asking) = (Items::default(), FuturesUnordered::new());
        let mut chunks = partitions.chunks(MOST_KEYS);
        loop {
            // One that fails is no reason to wait for the failure of a hundred others.
            while items.why.is_none()
                && asking.len() < AT_ONCE
                && let Some(chunk) = chunks.next()
            {
                asking.push(self.items_at_once(chunk, attributes, consistent));
            }
            let Some(some) = asking.next().await else { break };
            items.absorb(some);
        }
        items.left.extend(chunks.flatten().cloned());
        items
    }

    async fn items_at_once(&self, partitions: &[String], attributes: &[&str], consistent: bool) -> Items {
        let keys = partitions.iter().map(|partition| Item::from([(URL.to_owned(), text(partition))]));
        let projection = (!attributes.is_empty()).then(|| {
            let mut terms = Terms::default();
            let projection = terms.projection(attributes);
            (projection, terms.finish().0.unwrap_or_default())
        });
        let (name, unprocessed) = (self.table.as_str(), &self.unprocessed);
        let wanted = Wanted { table: Table::Results, name, projection, consistent, unprocessed };
        let Batch { found, left } = self.aws.get_some(wanted, keys.collect()).await;
        let name_of = |item: &Item| read_text(item, URL).map(str::to_owned);
        let named = |item: Item| name_of(&item).map(|partition| (partition, item));
        let found = found.into_iter().filter_map(named).collect();
        let Some(left) = left else { return Items { found, ..Items::default() } };
        let unread = match left.keys {
            Some(keys) => keys.iter().filter_map(name_of).collect(),
            None => partitions.iter().cloned().collect(),
        };
        Items { found, left: unread, why: Some(self.error(left.failure)) }
    }
}

fn distinct(partitions: &[String]) -> Vec<String> {
    partitions.iter().collect::<HashSet<_>>().into_iter().cloned().collect()
}

/// What a head says, if there is one.
fn look_at(head: Option<&Item>, key: &Key) -> Look<Meta> {
    match head {
        None => Look::Absent,
        Some(head) => match tombstone(head) {
            Some(version) => Look::Deleted(version),
            None => meta_of(head, key).into(),
        },
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
