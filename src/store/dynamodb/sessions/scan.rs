//! Walks over all sessions of the table, in each of its layouts.

use super::super::capacity::Table;
use super::super::item::{Item, read_text};
use super::super::scan::{Attributes, Page, Segment};
use super::layout::Layout;
use super::order::parse_item_key;
use super::{DynamodbSessions, sealed_part};
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::Result;
use crate::store::seal::SealError;

/// What an item of the table is.
#[derive(Clone, Debug)]
pub enum ScannedSession {
    /// A session.
    Session(Namespace, Box<SessionRecord>),
    /// One that cannot be read.
    Unreadable {
        /// Whose.
        namespace: Namespace,
        /// Which one.
        id: SessionId,
        /// What is wrong with it.
        wrong: String,
    },
}

impl DynamodbSessions {
    /// One page of a segment: `limit` items are looked at, those that are no sessions among them.
    ///
    /// # Errors
    /// As any read; sessions that cannot be read are in the page.
    pub async fn scan(&self, segment: &Segment, limit: usize) -> Result<Page<ScannedSession>> {
        let layout = self.schema().await?.layout;
        let table = (Table::Sessions, self.0.table.as_str());
        let page = self.0.aws.scan(table, layout.names().id, segment, limit, Attributes::default()).await;
        let Page { items, next } = page.map_err(|failure| self.failed(failure))?;
        Ok(Page { items: items.into_iter().filter_map(|item| self.scanned(layout, item)).collect(), next })
    }

    /// What an item is; nothing if it is no session.
    fn scanned(&self, layout: Layout, item: Item) -> Option<ScannedSession> {
        let key = read_text(&item, layout.names().id)?;
        let (namespace, id) = match layout {
            Layout::Own => parse_item_key(key)?,
            Layout::Wallcrawler(_) => (Namespace::default(), SessionId::new(key).ok()?),
        };
        if self.0.sealer.is_without_key() && sealed_part(layout, &item).is_some() {
            let wrong = SealError::Closed.to_string();
            return Some(ScannedSession::Unreadable { namespace, id, wrong });
        }
        Some(match self.record(layout, &namespace, &id, item) {
            Ok(record) => ScannedSession::Session(namespace, Box::new(record)),
            Err(error) => ScannedSession::Unreadable { namespace, id, wrong: error.to_string() },
        })
    }
}
