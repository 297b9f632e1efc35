//! Lists entries: the rows of an index in order, and behind each the entry as it is now.

use std::collections::HashSet;

use super::batch::meta_of;
use super::head::{SHARDS, host_shard, time_shard};
use super::key::key_of;
use super::merge::{Merge, Next, Row, Rows, Urls};
use super::{BACKEND, Inner};
use crate::domain::{KeyId, Timestamp, host_of};
use crate::store::{Cursor, Error, ListFilter, ListOrder, ListQuery, Page, Result};

/// Rows of the index that one page looks at beyond what it shows.
const MOST_ROWS: usize = 10_000;

/// Entries that one page reads beyond what it shows: a filter that only they can tell may let few pass.
const MOST_READS: usize = 1000;

/// Rows of a shard that one request looks at.
const MOST_STEP: usize = 500;

/// Entries that are read at a time where not every one will be shown.
const READS: usize = 100;

/// A time, a space and the id of a key.
const PLACE_BYTES: usize = 24 + 1 + 32;

impl Inner {
    pub(super) async fn list(&self, query: &ListQuery) -> Result<Page> {
        let after = query.after.as_ref().map(place_of).transpose()?;
        let Some(rows) = self.rows(query, after)? else { return Ok(Page::default()) };
        let selective = is_selective(query, &rows);
        let step = if rows.urls == Urls::All { (query.limit / 8 + 4).min(MOST_STEP) } else { MOST_STEP };
        let mut merge = Merge::new(self, &rows, step, MOST_ROWS.saturating_add(query.limit));
        let mut page = Page::default();
        let mut shown: HashSet<KeyId> = HashSet::new();
        let mut reads = MOST_READS.saturating_add(query.limit);
        while page.items.len() < query.limit {
            let missing = query.limit - page.items.len();
            let wanted = if selective { missing.max(READS) } else { missing.min(10 * READS) };
            let (chunk, end) = take(&mut merge, wanted.min(reads)).await?;
            reads -= chunk.len();
            // An entry written since the index was read is shown as it is now: its row may have moved to where this
            // listing has been, so to wait for it could lose it.
            let partitions: HashSet<&String> = chunk.iter().map(|row| &row.url).collect();
            let heads = self.heads(partitions.into_iter().cloned().collect(), true).await?;
            for row in chunk {
                let meta = heads.get(&row.url).and_then(|head| meta_of(head, &key_of(head)?));
                if let Some(meta) = meta.filter(|meta| {
                    *meta.key.namespace() == query.namespace
                        && query.admits(meta)
                        && shown.insert(meta.key.id())
                }) {
                    page.items.push(meta);
                    page.places.push(cursor(row.place.clone()));
                    if page.items.len() == query.limit {
                        page.next = Some(cursor(row.place));
                        break;
                    }
                }
            }
            match end {
                _ if page.next.is_some() => {}
                Next::Row(row) if reads == 0 => page.next = Some(cursor(row.place)),
                Next::Row(_) => continue,
                Next::Tired(place) => page.next = Some(cursor(place)),
                Next::End => {}
            }
            break;
        }
        // Each keeps the place of its row, which is where a listing goes on: what was written since is out of its turn.
        let mut placed: Vec<_> = page.items.into_iter().zip(page.places).collect();
        placed.sort_by_cached_key(|(meta, _)| (meta.updated_at, *meta.key.id().as_bytes()));
        if query.order == ListOrder::Newest {
            placed.reverse();
        }
        (page.items, page.places) = placed.into_iter().unzip();
        Ok(page)
    }

    /// The rows of the index that may hold what is asked for; nothing if none can.
    fn rows(&self, query: &ListQuery, after: Option<String>) -> Result<Option<Rows>> {
        let mut range = (
            query.since.map_or_else(|| "0".to_owned(), |since| since.to_string()),
            // A place is longer than a time: none of those at that time is included.
            query.until.map_or_else(|| "~".to_owned(), |until| until.to_string()),
        );
        if let Some(after) = after {
            match query.order {
                // All places are of one length: this one lies between it and the next.
                ListOrder::Oldest => range.0 = range.0.max(format!("{after} ")),
                ListOrder::Newest => range.1 = range.1.min(before(&after)),
            }
        }
        if range.0 > range.1 {
            return Ok(None);
        }
        let shards =
            |of: &dyn Fn(u16) -> Option<String>| (0..SHARDS).map(of).collect::<Option<Vec<String>>>();
        let host = match &query.filter {
            ListFilter::Url(url) => Some(host_of(url)),
            other => other.host(),
        };
        let by_host = host
            .filter(|_| self.form.host_index)
            .and_then(|host| shards(&|shard| host_shard(&query.namespace, &host, shard)));
        let (index, partition, shards) = match by_host {
            Some(shards) => ("host-index", "host_shard", shards),
            None if self.form.time_index => {
                let shards = (0..SHARDS).map(|shard| time_shard(&query.namespace, shard)).collect();
                ("time-index", "time_shard", shards)
            }
            None => return Err(no_index(&query.filter)),
        };
        let urls = match &query.filter {
            ListFilter::Prefix(prefix) if !prefix.is_empty() => Urls::Prefix(prefix.clone()),
            ListFilter::Url(url) => Urls::One(url.clone()),
            _ => Urls::All,
        };
        Ok(Some(Rows { index, partition, shards, range, order: query.order, urls }))
    }
}

/// Takes up to `wanted` rows, and says what came after them: the last of them again if that was enough.
async fn take(merge: &mut Merge<'_>, wanted: usize) -> Result<(Vec<Row>, Next)> {
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < wanted.max(1) {
        match merge.next().await? {
            Next::Row(row) => rows.push(row),
            end => return Ok((rows, end)),
        }
    }
    let last = rows.last().cloned();
    Ok((rows, last.map_or(Next::End, Next::Row)))
}

/// Whether the entries decide what the index cannot.
fn is_selective(query: &ListQuery, rows: &Rows) -> bool {
    let of_filter = match &query.filter {
        ListFilter::All => false,
        ListFilter::Host(_) => rows.index == "time-index",
        ListFilter::Prefix(_) | ListFilter::Url(_) => true,
    };
    of_filter || query.status_code.is_some() || query.live_at.is_some()
}

fn no_index(filter: &ListFilter) -> Error {
    let setting = match filter {
        ListFilter::Host(_) => "dynamodb.time_index or dynamodb.host_index",
        _ => "dynamodb.time_index",
    };
    let detail = format!(
        "listings need an index of the table of results: set {setting} and run `crawlcache tables create --update`"
    );
    Error::Unsupported { backend: BACKEND, detail }
}

fn cursor(place: String) -> Cursor {
    Cursor(place.into_bytes())
}

/// The place that a cursor names.
fn place_of(cursor: &Cursor) -> Result<String> {
    let place = std::str::from_utf8(&cursor.0).map_err(|_| Error::Cursor)?;
    let (time, id) = place.split_once(' ').filter(|_| place.len() == PLACE_BYTES).ok_or(Error::Cursor)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let known = Timestamp::parse(time).is_ok_and(|parsed| parsed.to_string() == time);
    if known && id.bytes().all(is_digit) { Ok(place.to_owned()) } else { Err(Error::Cursor) }
}

/// What lies between the last place before this one and this one.
fn before(place: &str) -> String {
    let mut bytes = place.as_bytes().to_vec();
    // The last character is a digit; what comes before it in the alphabet, made longer, comes after all that begin
    // with a smaller one.
    if let Some(last) = bytes.last_mut() {
        *last -= 1;
    }
    bytes.push(b'~');
    String::from_utf8(bytes).unwrap_or_default()
}
