//! Sessions from one side to the other, in both directions.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::Mutex;

use super::super::insist::Halt;
use super::super::purse::write_cost;
use super::super::track::{Kind, Tally, What};
use super::inward::Places;
use super::{Cursor, Migration, Place};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Namespace, Version};
use crate::store::dynamodb::{ScanPage, ScannedSession, Segment};
use crate::store::sqlite::ledger::walk::Walked;
use crate::store::sqlite::ledger::{Beside, Fenced, Known};
use crate::store::{PutSession, Result as StoreResult, SessionCondition, SessionPutOutcome, SessionStore};

/// What a session takes, about.
const USUAL_BYTES: u64 = 1024;

/// A session and whose it is.
type Owned = (Namespace, SessionRecord);

impl Migration {
    pub(super) async fn sessions_outward(&self) -> Result<(), Halt> {
        if self.scope.names_urls() {
            return Ok(());
        }
        let mut place: Place = self.track.place();
        loop {
            let limit = self.options.batch_size;
            let walked =
                self.insist.must(|| self.sides.database.walk_sessions(place.sessions, limit)).await?;
            let Some(last) = walked.last().map(|walked| walked.row) else { return Ok(()) };
            let mut tally = Tally::default();
            let mut wanted = Vec::new();
            for Walked { row, item } in walked {
                match item {
                    Ok(owned) => wanted.extend(self.wanted(owned, &mut tally)),
                    Err(wrong) => tally.find(What::Unknown(Kind::Session, row), "failed", wrong),
                }
            }
            let wanted = self.sessions_lacking(wanted, &mut tally).await?;
            self.put_all(wanted, true, &mut tally).await?;
            place.sessions = last;
            self.track.enter_at(tally, serde_json::to_value(&place).expect("it has text keys"));
            self.save().await?;
        }
    }

    pub(super) async fn sessions_inward(&self) -> Result<(), Halt> {
        if self.scope.names_urls() {
            return Ok(());
        }
        let mut place: Place = self.track.place();
        if place.session_segments.is_empty() {
            place.session_segments = vec![Cursor::default(); self.segments()];
        }
        let cursors = place.session_segments.clone();
        let places: Places = Arc::new(Mutex::new(place));
        let walks = cursors.into_iter().enumerate();
        try_join_all(walks.map(|(number, cursor)| self.sessions_segment(number, cursor, &places))).await?;
        Ok(())
    }

    async fn sessions_segment(&self, number: usize, mut cursor: Cursor, places: &Places) -> Result<(), Halt> {
        let of = u32::try_from(places.lock().await.session_segments.len()).unwrap_or(1);
        while !cursor.done {
            let segment =
                Segment { number: u32::try_from(number).unwrap_or(0), of, after: cursor.after.take() };
            let limit = self.options.batch_size;
            let scan = Box::pin(self.insist.must(|| self.sides.sessions.scan(&segment, limit)));
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let estimate = (limit as u64 * USUAL_BYTES / 4096) as f64;
            let ScanPage { items, next } = Box::pin(self.purse.spend(estimate, scan)).await?;
            let mut tally = Tally::default();
            let mut wanted = Vec::new();
            for item in items {
                match item {
                    ScannedSession::Session(namespace, record) => {
                        wanted.extend(self.wanted((namespace, *record), &mut tally));
                    }
                    ScannedSession::Unreadable { namespace, id, wrong } => {
                        tally.find(What::Session(&namespace, &id), "failed", wrong);
                    }
                }
            }
            self.put_all(wanted, false, &mut tally).await?;
            cursor = Cursor { done: next.is_none(), after: next };
            let mut place = places.lock().await;
            place.session_segments[number] = cursor.clone();
            self.track.enter_at(tally, serde_json::to_value(&*place).expect("it has text keys"));
            drop(place);
            self.save().await?;
        }
        Ok(())
    }

    /// The session, if it is one to copy.
    fn wanted(&self, owned: Owned, tally: &mut Tally) -> Option<Owned> {
        let session = &owned.1.session;
        let outcome = if !self.scope.admits_time(session.updated_at) {
            "skipped"
        } else if session.is_expired(self.sides.clock.now()) {
            "expired"
        } else {
            return Some(owned);
        };
        tally.count(Kind::Session, outcome);
        None
    }

    /// Leaves out those that DynamoDB has in this version or a newer one.
    async fn sessions_lacking(&self, wanted: Vec<Owned>, tally: &mut Tally) -> Result<Vec<Owned>, Halt> {
        let mut spaces: BTreeMap<Namespace, Vec<SessionRecord>> = BTreeMap::new();
        for (namespace, record) in wanted {
            spaces.entry(namespace).or_default().push(record);
        }
        let mut lacking = Vec::new();
        for (namespace, records) in spaces {
            let ids: Vec<SessionId> = records.iter().map(|record| record.session.id.clone()).collect();
            let get = self.insist.on(|| self.sides.sessions.get_many(&namespace, &ids));
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let there = self.purse.spend(ids.len() as f64, get).await?;
            // A table that cannot have the namespace says so once more, for each session.
            let there = there.unwrap_or_else(|_| vec![Ok(None); ids.len()]);
            for (record, there) in records.into_iter().zip(there) {
                match there {
                    Ok(Some(there)) if there.session.version >= record.session.version => {
                        tally.count(Kind::Session, "present");
                    }
                    _ => lacking.push((namespace.clone(), record)),
                }
            }
        }
        Ok(lacking)
    }

    async fn put_all(&self, wanted: Vec<Owned>, outward: bool, tally: &mut Tally) -> Result<(), Halt> {
        let puts = wanted.into_iter().map(|(namespace, record)| {
            let migration = self.clone();
            async move { migration.put_session(namespace, record, outward).await }
        });
        for put in self.together(puts.collect::<Vec<_>>()).await {
            tally.absorb(put?);
        }
        Ok(())
    }

    pub(in crate::jobs) async fn put_session(
        &self,
        namespace: Namespace,
        record: SessionRecord,
        outward: bool,
    ) -> Result<Tally, Halt> {
        let mut tally = Tally::default();
        let (id, version) = (record.session.id.clone(), record.session.version);
        let condition = SessionCondition::OlderThan(version);
        let put = PutSession { namespace: namespace.clone(), record, condition };
        if self.options.dry_run {
            self.try_session(&put, outward, &mut tally).await?;
            return Ok(tally);
        }
        let done = if outward {
            let call = self.insist.on(|| self.sides.sessions.put(put.clone()));
            let done = self.purse.spend(write_cost(USUAL_BYTES), call).await?;
            if done.is_ok() {
                self.take_back(&namespace, &id, version).await?;
            }
            done
        } else {
            self.put_session_inward(&put).await?
        };
        match done {
            Ok(SessionPutOutcome::ConditionFailed) => tally.count(Kind::Session, "present"),
            Ok(_) => tally.count(Kind::Session, self.copied()),
            Err(error) => tally.find(What::Session(&namespace, &id), "failed", error.to_string()),
        }
        Ok(tally)
    }

    /// Deletes in DynamoDB what was deleted in SQLite while it was copied: a deletion leaves nothing there that would
    /// have kept the copy away.
    async fn take_back(&self, namespace: &Namespace, id: &SessionId, copied: Version) -> Result<(), Halt> {
        let ids = [id.clone()];
        let known = self.insist.must(|| self.sides.database.known_sessions(namespace, &ids)).await?;
        if known.first().is_some_and(|known| known.is_deleted() && !known.admits(copied)) {
            let condition = SessionCondition::Version(copied);
            self.insist.must(|| self.sides.sessions.delete(namespace, id, condition)).await?;
        }
        Ok(())
    }

    async fn put_session_inward(&self, put: &PutSession) -> Result<StoreResult<SessionPutOutcome>, Halt> {
        let done = self
            .insist
            .on(|| self.sides.database.put_session_beside(put.clone(), None, Beside::Nothing))
            .await?;
        Ok(done.map(|done| match done {
            Fenced::Done(outcome) => outcome,
            Fenced::Outdated => SessionPutOutcome::ConditionFailed,
        }))
    }

    /// What a put would come to.
    async fn try_session(&self, put: &PutSession, outward: bool, tally: &mut Tally) -> Result<(), Halt> {
        let (namespace, session) = (&put.namespace, &put.record.session);
        let holds = if outward {
            // Those that DynamoDB has were left out before.
            true
        } else {
            let ids = [session.id.clone()];
            let known = self.insist.must(|| self.sides.database.known_sessions(namespace, &ids)).await?;
            known.first().and_then(Known::newest).is_none_or(|newest| newest < session.version)
        };
        tally.count(Kind::Session, if holds { self.copied() } else { "present" });
        if outward && holds {
            tally.write_units += write_cost(USUAL_BYTES);
        }
        Ok(())
    }
}
