//! Listings of sessions.

use std::collections::HashSet;

use super::super::Inner;
use super::super::read::local;
use super::super::sessions::{admits, beats};
use super::cursor::Cursors;
use super::merge::{Merged, Placed, Stream, merge};
use super::{Listed, PATIENCE, ROUNDS, is_doubtful};
use crate::domain::routing::{Side, session_bucket};
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::sqlite::ledger::Known;
use crate::store::{Result, SessionCursor, SessionPage, SessionQuery, Unreadable};

const OPERATION: &str = "session_list";

impl Inner {
    /// One page of both sides in the order of the query.
    pub(in crate::store::routed) async fn list_sessions(&self, query: &SessionQuery) -> Result<SessionPage> {
        let mut page = SessionPage::default();
        if query.limit == 0 {
            return Ok(page);
        }
        let mut cursors = Cursors::read(query.after.as_ref().map(|cursor| &*cursor.0))?;
        for _ in 0..ROUNDS {
            let Merged { shown, next } = self.merged_sessions(query, cursors, &mut page.unreadable).await?;
            for (record, place) in shown {
                page.items.push(record);
                page.places.push(SessionCursor(place.write()));
            }
            page.next = next.as_ref().map(|next| SessionCursor(next.write()));
            match next {
                Some(next) if page.items.is_empty() => cursors = next,
                _ => break,
            }
        }
        // What can be read on one side can be read.
        let mut seen: HashSet<SessionId> =
            page.items.iter().map(|record| record.session.id.clone()).collect();
        page.unreadable.retain(|unreadable| seen.insert(unreadable.id.clone()));
        Ok(page)
    }

    async fn merged_sessions(
        &self,
        query: &SessionQuery,
        mut cursors: Cursors,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<Merged<SessionRecord>> {
        let at = |after: &Option<Vec<u8>>| SessionQuery {
            after: after.clone().map(SessionCursor),
            ..query.clone()
        };
        let remote = if cursors.without_remote {
            None
        } else {
            let query = at(&cursors.remote);
            self.listed_there(OPERATION, self.remote.sessions.list(&query)).await?
        };
        cursors.without_remote = remote.is_none();
        let remote = match remote {
            Some(mut page) => {
                unreadable.append(&mut page.unreadable);
                self.remote_sessions(query, page).await?
            }
            None => Stream::none(),
        };
        let mut page = self.local_sessions.list(&at(&cursors.local)).await?;
        unreadable.append(&mut page.unreadable);
        let local = self.local_sessions_of(query, page).await?;
        let key = |record: &SessionRecord| record.session.id.clone();
        Ok(merge(cursors, local, remote, query.descends(), query.limit, key))
    }

    async fn remote_sessions(
        &self,
        query: &SessionQuery,
        page: SessionPage,
    ) -> Result<Stream<SessionRecord>> {
        let known = self.known_records(query, &page.items).await?;
        let policy = self.in_force().policy;
        let placed = |((record, place), known): ((SessionRecord, SessionCursor), Known)| {
            let (id, version) = (&record.session.id, record.session.version);
            let listed = Listed {
                owner: policy.owner(session_bucket(&query.namespace, id)),
                local: local(&known),
                is_admitted: admits(&known, version),
                is_newer: known.held.is_none_or(|held| held != version && !beats(held, version)),
            };
            let at = query.position(&record.session);
            Placed { at, place: place.0, shown: listed.is_shown().then_some(record) }
        };
        let entries = page.items.into_iter().zip(page.places).zip(known).map(placed).collect();
        Ok(Stream::new(entries, page.next.map(|next| next.0), query.descends()))
    }

    async fn local_sessions_of(
        &self,
        query: &SessionQuery,
        page: SessionPage,
    ) -> Result<Stream<SessionRecord>> {
        self.count(OPERATION, Side::Sqlite, "owner");
        let namespace = &query.namespace;
        let known = self.known_records(query, &page.items).await?;
        let policy = self.in_force().policy;
        let doubtful: Vec<SessionId> = page
            .items
            .iter()
            .zip(&known)
            .map(|(record, known)| (&record.session.id, known))
            .filter(|(id, known)| is_doubtful(policy.owner(session_bucket(namespace, id)), local(known)))
            .map(|(id, _)| id.clone())
            .collect();
        let there = if doubtful.is_empty() {
            Vec::new()
        } else {
            let found = self.remote.sessions.get_many(namespace, &doubtful);
            self.remote.circuit.run(PATIENCE, found).await?
        };
        let mut there = doubtful.into_iter().zip(there).peekable();
        let placed = |((record, place), known): ((SessionRecord, SessionCursor), Known)| {
            let session = &record.session;
            let there = there.next_if(|(id, _)| *id == session.id).and_then(|(_, there)| there.ok()?);
            let is_newer = |there: SessionRecord| {
                let version = there.session.version;
                admits(&known, version) && version != session.version && !beats(session.version, version)
            };
            // What has left SQLite meanwhile is deleted, or has been written to DynamoDB, which shows it.
            let is_shown = known.held.is_some() && !there.is_some_and(is_newer);
            let at = query.position(session);
            Placed { at, place: place.0, shown: is_shown.then_some(record) }
        };
        let entries = page.items.into_iter().zip(page.places).zip(known).map(placed).collect();
        Ok(Stream::new(entries, page.next.map(|next| next.0), query.descends()))
    }

    async fn known_records(&self, query: &SessionQuery, records: &[SessionRecord]) -> Result<Vec<Known>> {
        let ids: Vec<SessionId> = records.iter().map(|record| record.session.id.clone()).collect();
        self.database.known_sessions(&query.namespace, &ids).await
    }
}
