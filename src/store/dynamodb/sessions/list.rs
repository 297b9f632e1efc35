//! Listings: partitions of an index merged in order, their sessions looked up and checked against the query.

use std::collections::VecDeque;

use futures_util::future::try_join_all;

use super::super::BACKEND;
use super::super::item::{Item, text};
use super::field::ceil_secs;
use super::layout::{Index, IndexKeys, Layout, Schema, Times};
use super::partition::{Found, Partition, Place};
use super::status::sdk_word;
use super::{DynamodbSessions, cursor, order};
use crate::domain::session::{SessionId, SessionRecord, Status};
use crate::domain::{Namespace, Timestamp};
use crate::store::{Error, Result, SessionFilter, SessionPage, SessionQuery, Unreadable};

/// The most entries of an index that are looked at together.
const TOGETHER: usize = 100;

/// The fewest, so that a listing whose filter admits little makes way.
const FEWEST: usize = 10;

/// How many times a page goes on looking when the filter admits little. A page may be short, and the next one
/// continues where it stopped.
const ROUNDS: usize = 10;

/// A listing: its partitions, and whether their entries are whole items.
struct Plan {
    partitions: Vec<Partition>,
    is_whole: bool,
}

impl DynamodbSessions {
    /// One page.
    pub(super) async fn page(&self, query: &SessionQuery) -> Result<SessionPage> {
        let schema = self.schema().await?;
        let (layout, plan) = match plan(&schema, query) {
            // It may have got its indexes since.
            Err(Error::Unsupported { .. }) => {
                let recent = self.recent_schema().await?;
                (recent.layout, plan(&recent, query)?)
            }
            planned => (schema.layout, planned?),
        };
        let Plan { mut partitions, is_whole } = plan;
        if query.limit == 0 {
            return Ok(SessionPage::default());
        }
        if let Some(after) = &query.after {
            cursor::read(layout, &query.namespace, after, &mut partitions)?;
        }
        let mut page = SessionPage::default();
        for _ in 0..ROUNDS {
            let missing = query.limit - page.items.len();
            if missing == 0 || partitions.iter().all(Partition::is_over) {
                break;
            }
            self.round(layout, query, &mut partitions, is_whole, &mut page).await?;
        }
        if !partitions.iter().all(Partition::is_over) {
            let used = partitions.iter().map(|partition| partition.after.as_ref());
            page.next = cursor::write(layout, query.descends(), used);
        }
        Ok(page)
    }

    /// Looks at the next entries and adds to the page those that the query admits.
    async fn round(
        &self,
        layout: Layout,
        query: &SessionQuery,
        partitions: &mut [Partition],
        is_whole: bool,
        page: &mut SessionPage,
    ) -> Result<()> {
        let missing = query.limit - page.items.len();
        // One more tells whether there are more.
        let together = missing.saturating_add(1).clamp(FEWEST, TOGETHER);
        let mut chosen: Vec<(usize, Found)> = Vec::with_capacity(together);
        let before: Vec<_> = partitions.iter().map(|partition| partition.after.clone()).collect();
        while chosen.len() < together {
            let fills = partitions.iter_mut().map(|partition| self.fill(layout, partition, together));
            try_join_all(fills).await?;
            let first = (0..partitions.len())
                .reduce(|best, next| if partitions[next].is_before(&partitions[best]) { next } else { best });
            let Some(first) = first else { break };
            let Some(found) = partitions[first].take() else {
                if partitions.iter().all(Partition::is_over) {
                    break;
                }
                // A page of the index with nothing on it; there is another.
                continue;
            };
            chosen.push((first, found));
        }
        let mut items = if is_whole {
            None
        } else {
            let keys = chosen.iter().map(|(_, found)| found.position.key.clone()).collect();
            Some(self.items(layout, keys).await?)
        };
        let mut afters = before;
        let mut rest = VecDeque::from(chosen);
        while page.items.len() < query.limit
            && let Some((partition, found)) = rest.pop_front()
        {
            let key = found.position.key.clone();
            afters[partition] = Some(found.position.clone());
            let item = match &mut items {
                None => Some(found.item),
                Some(items) => {
                    items.remove(&key).filter(|item| is_there(&partitions[partition], &found, item))
                }
            };
            if let Some(item) = item
                && let Some(record) = self.listed(layout, query, &key, item, &mut page.unreadable)
                && let Some(place) =
                    cursor::write(layout, query.descends(), afters.iter().map(Option::as_ref))
            {
                page.items.push(record);
                page.places.push(place);
            }
        }
        // What was not needed is for the next page.
        for (partition, found) in rest.into_iter().rev() {
            partitions[partition].ahead.push_front(found);
        }
        for (partition, after) in partitions.iter_mut().zip(afters) {
            partition.after = after;
        }
        Ok(())
    }

    /// The session of an item, if the query admits it. One that cannot be read must not hide the others.
    fn listed(
        &self,
        layout: Layout,
        query: &SessionQuery,
        key: &str,
        item: Item,
        unreadable: &mut Vec<Unreadable>,
    ) -> Option<SessionRecord> {
        // Others may use names that no session here can have: such a session cannot be asked for either.
        let named = match layout {
            Layout::Own => order::parse_item_key(key),
            Layout::Wallcrawler(_) => SessionId::new(key).ok().map(|id| (Namespace::default(), id)),
        };
        let (namespace, id) = named?;
        let record = match self.record(layout, &namespace, &id, item) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%id, %error, "a listing left out a session");
                if namespace == query.namespace {
                    unreadable.push(Unreadable { namespace, id, error });
                }
                return None;
            }
        };
        (namespace == query.namespace && query.admits(&record.session)).then_some(record)
    }
}

/// Whether an item is still where the index has it: one that has moved is found at its new place.
fn is_there(partition: &Partition, found: &Found, item: &Item) -> bool {
    let IndexKeys { hash, range, .. } = partition.index;
    item.get(hash) == Some(&text(&partition.hash))
        && item.get(range).and_then(Place::of) == Some(found.position.place.clone())
}

/// Which partitions of which index a query is about.
fn plan(schema: &Schema, query: &SessionQuery) -> Result<Plan> {
    let layout = schema.layout;
    if layout != Layout::Own {
        // Only for the refusal of namespaces.
        DynamodbSessions::key(layout, &query.namespace, &SessionId::from_random(0))?;
    }
    let (by_project, by_status) = layout.indexes();
    let (index, keys, hashes, (from, until)) = match &query.filter {
        SessionFilter::Project { project_id, created_after, created_before, .. } => {
            let hashes = match layout {
                Layout::Own => vec![order::project_key(&query.namespace, project_id)],
                // No key of an index is empty.
                Layout::Wallcrawler(_) if project_id.is_empty() => Vec::new(),
                Layout::Wallcrawler(_) => vec![project_id.clone()],
            };
            let bounds = created_bounds(layout, *created_after, *created_before);
            (schema.by_project, by_project, hashes, bounds)
        }
        SessionFilter::Status { status, expires_after, expires_before } => {
            // What has expired by then need not be read; `admits` judges what is read.
            let from = (*expires_after).max(query.live_at);
            let place = |at: Timestamp| match layout {
                Layout::Own => Place::text(at.to_string()),
                Layout::Wallcrawler(_) => Place::number(ceil_secs(at)),
            };
            let bounds = (from.map(place), expires_before.map(place));
            (schema.by_status, by_status, status_partitions(layout, &query.namespace, *status), bounds)
        }
    };
    let Index { is_whole } = index.ok_or_else(|| missing(layout, keys))?;
    let partition = |hash: String| Partition {
        index: keys,
        hash,
        from: from.clone(),
        until: until.clone(),
        descends: query.descends(),
        after: None,
        ahead: VecDeque::new(),
        is_read: false,
    };
    Ok(Plan { partitions: hashes.into_iter().map(partition).collect(), is_whole })
}

fn created_bounds(
    layout: Layout,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
) -> (Option<Place>, Option<Place>) {
    match layout {
        Layout::Own => {
            (from.map(|at| Place::text(at.to_string())), until.map(|at| Place::text(at.to_string())))
        }
        Layout::Wallcrawler(Times::Number) => {
            (from.map(|at| Place::number(at.as_secs())), until.map(|at| Place::number(at.as_secs())))
        }
        Layout::Wallcrawler(Times::Text) => {
            // Whatever stands behind the seconds, a fraction or `Z`, comes before the tilde.
            let until = until.map(|at| Place::text(format!("{}~", cursor::second(at))));
            (from.map(|at| Place::text(cursor::second(at))), until)
        }
    }
}

/// Where sessions in a status are. In Wallcrawler's younger tables the index has the SDK's word for it, and not every
/// program writes that word: some write where the session is in its life.
fn status_partitions(layout: Layout, namespace: &Namespace, status: Status) -> Vec<String> {
    let mut words = match layout {
        Layout::Own => {
            (0..order::SHARDS).map(|shard| order::status_shard(namespace, status, shard)).collect()
        }
        Layout::Wallcrawler(Times::Number) => vec![status.as_str().to_owned()],
        Layout::Wallcrawler(Times::Text) => vec![sdk_word(status).to_owned(), status.as_str().to_owned()],
    };
    words.dedup();
    words
}

fn missing(layout: Layout, keys: IndexKeys) -> Error {
    let IndexKeys { name, hash, range } = keys;
    let helps = match layout {
        Layout::Own => "`crawlcache tables create --update` adds it".to_owned(),
        Layout::Wallcrawler(_) => format!("add it with the keys `{hash}` and `{range}`"),
    };
    let detail = format!("listing needs the index {name}, which the table does not have; {helps}");
    Error::Unsupported { backend: BACKEND, detail }
}
