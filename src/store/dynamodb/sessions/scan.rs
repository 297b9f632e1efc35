//! Walks over all sessions of the table, in each of its layouts.

use super::super::capacity::Table;
use super::super::item::{Item, read_text};
use super::super::scan::{Attributes, Page, Segment};
use super::layout::Layout;
use super::order::parse_item_key;
use super::stored::Stored;
use super::{DynamodbSessions, sealed_part, unreadable};
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::seal::{SealError, Standing};
use crate::store::{
    Error, PutSession, Resealed, Result, SessionCondition, SessionCursor, SessionPutOutcome, Unreadable,
};

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

    /// See [`crate::store::SessionStore::reseal`].
    pub(super) async fn reseal_page(
        &self,
        after: Option<&SessionCursor>,
        limit: usize,
        dry_run: bool,
    ) -> Result<Resealed> {
        let schema = self.schema().await?;
        let layout = schema.layout;
        let mut report = Resealed::default();
        if layout != Layout::Own {
            // Nothing is sealed in tables that other programs read.
            return Ok(report);
        }
        let after = after.map(|after| String::from_utf8(after.0.clone()).map_err(|_| Error::Cursor));
        let segment = Segment { number: 0, of: 1, after: after.transpose()? };
        let table = (Table::Sessions, self.0.table.as_str());
        let page = self.0.aws.scan(table, layout.names().id, &segment, limit, Attributes::default()).await;
        let Page { items, next } = page.map_err(|failure| self.failed(failure))?;
        report.next = next.map(|next| SessionCursor(next.into_bytes()));
        for item in items {
            let key = read_text(&item, layout.names().id).map(str::to_owned);
            let Some((key, (namespace, id))) = key.and_then(|key| Some((key.clone(), parse_item_key(&key)?)))
            else {
                continue;
            };
            report.seen += 1;
            match self.outdated(layout, &namespace, &id, item) {
                Ok(None) => {}
                Ok(Some(_)) if dry_run => report.resealed += 1,
                Ok(Some(record)) => {
                    let condition = SessionCondition::Version(record.session.version);
                    let put = PutSession { namespace, record, condition };
                    // What was written meanwhile is sealed under the current key.
                    let done = self.try_put(&schema, &key, &put).await?;
                    report.resealed += u64::from(done == Some(SessionPutOutcome::Replaced));
                }
                Err(error) => report.unreadable.push(Unreadable { namespace, id, error }),
            }
        }
        Ok(report)
    }

    /// The session of an item whose credentials are not sealed under the current key.
    fn outdated(
        &self,
        layout: Layout,
        namespace: &Namespace,
        id: &SessionId,
        item: Item,
    ) -> Result<Option<SessionRecord>> {
        let Stored { mut record, item, .. } = Stored::read(layout, id, item)?;
        let sealed = sealed_part(layout, &item);
        let standing = self.0.sealer.standing(sealed, &record.session);
        if let Some(sealed) = sealed {
            self.0.sealer.open(namespace, &mut record.session, sealed).map_err(unreadable)?;
        }
        Ok((standing == Standing::Outdated).then_some(record))
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
