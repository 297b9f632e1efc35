//! Listings of results.

use super::super::Inner;
use super::super::read::local;
use super::cursor::Cursors;
use super::merge::{Merged, Placed, Stream, merge};
use super::{Listed, PATIENCE, ROUNDS, is_doubtful};
use crate::domain::{Key, KeyId, Meta};
use crate::store::sqlite::ledger::Known;
use crate::store::{Cursor, ListOrder, ListQuery, Look, Page, Result};

const OPERATION: &str = "list";

impl Inner {
    /// One page of both sides in the order of the query.
    pub(in crate::store::routed) async fn list(&self, query: &ListQuery) -> Result<Page> {
        let mut page = Page::default();
        if query.limit == 0 {
            return Ok(page);
        }
        let mut cursors = Cursors::read(query.after.as_ref().map(|cursor| &*cursor.0))?;
        for _ in 0..ROUNDS {
            let Merged { shown, next } = self.merged(query, cursors).await?;
            for (meta, place) in shown {
                page.items.push(meta);
                page.places.push(Cursor(place.write()));
            }
            page.next = next.as_ref().map(|next| Cursor(next.write()));
            match next {
                Some(next) if page.items.is_empty() => cursors = next,
                _ => break,
            }
        }
        Ok(page)
    }

    async fn merged(&self, query: &ListQuery, mut cursors: Cursors) -> Result<Merged<Meta>> {
        let descends = query.order == ListOrder::Newest;
        let at = |after: &Option<Vec<u8>>| ListQuery { after: after.clone().map(Cursor), ..query.clone() };
        let remote = if cursors.without_remote {
            None
        } else {
            let query = at(&cursors.remote);
            self.listed_there(OPERATION, self.remote.results.list(&query)).await?
        };
        cursors.without_remote = remote.is_none();
        let remote = match remote {
            Some(page) => self.remote_stream(page, descends).await?,
            None => Stream::none(),
        };
        let page = self.local_results.list(&at(&cursors.local)).await?;
        let local = self.local_stream(page, descends).await?;
        Ok(merge(cursors, local, remote, descends, query.limit, |meta| meta.key.id()))
    }

    async fn remote_stream(&self, page: Page, descends: bool) -> Result<Stream<Meta>> {
        let known = self.known_metas(&page.items).await?;
        let policy = self.in_force().policy;
        let placed = |((meta, place), known): ((Meta, Cursor), Known)| {
            let version = meta.version;
            let listed = Listed {
                owner: policy.owner(meta.key.id().bucket()),
                local: local(&known),
                is_admitted: known.admits(version),
                is_newer: known.held.is_none_or(|held| held < version),
            };
            Placed { at: meta.updated_at, place: place.0, shown: listed.is_shown().then_some(meta) }
        };
        let mut entries: Vec<_> = page.items.into_iter().zip(page.places).zip(known).map(placed).collect();
        // DynamoDB has sorted them by what they are now; where its index has them is where to go on.
        entries.sort_by(|a, b| a.place.cmp(&b.place));
        if descends {
            entries.reverse();
        }
        Ok(Stream::new(entries, page.next.map(|next| next.0), descends))
    }

    async fn local_stream(&self, page: Page, descends: bool) -> Result<Stream<Meta>> {
        self.count(OPERATION, crate::domain::routing::Side::Sqlite, "owner");
        let known = self.known_metas(&page.items).await?;
        let policy = self.in_force().policy;
        let doubtful: Vec<Key> = page
            .items
            .iter()
            .zip(&known)
            .filter(|(meta, known)| is_doubtful(policy.owner(meta.key.id().bucket()), local(known)))
            .map(|(meta, _)| meta.key.clone())
            .collect();
        let there = if doubtful.is_empty() {
            Vec::new()
        } else {
            self.remote.circuit.run(PATIENCE, self.remote.results.look_metas(&doubtful)).await?
        };
        let mut there = doubtful.into_iter().zip(there).peekable();
        let placed = |((meta, place), known): ((Meta, Cursor), Known)| {
            let newest = match there.next_if(|(key, _)| *key == meta.key) {
                Some((_, Look::Entry(there))) => Some(there.version),
                Some((_, Look::Deleted(version))) => Some(version),
                Some((_, Look::Absent)) | None => None,
            };
            // What has left SQLite meanwhile is deleted, or has been written to DynamoDB, which shows it.
            let is_shown = known.held.is_some() && newest.is_none_or(|newest| newest <= meta.version);
            Placed { at: meta.updated_at, place: place.0, shown: is_shown.then_some(meta) }
        };
        let entries = page.items.into_iter().zip(page.places).zip(known).map(placed).collect();
        Ok(Stream::new(entries, page.next.map(|next| next.0), descends))
    }

    async fn known_metas(&self, metas: &[Meta]) -> Result<Vec<Known>> {
        let ids: Vec<KeyId> = metas.iter().map(|meta| meta.key.id()).collect();
        self.database.known(&ids).await
    }
}
