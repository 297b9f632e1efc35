//! Compares sessions: those of SQLite, and then those that it lacks.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::super::insist::Halt;
use super::super::track::{Kind, Tally, What};
use super::verdict::{Both, Held, Here, Subject, There};
use super::{SEGMENTS, Verification};
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::SessionStore;
use crate::store::dynamodb::{ScanPage, ScannedSession, Segment};
use crate::store::sqlite::ledger::Known;
use crate::store::sqlite::ledger::session_id;
use crate::store::sqlite::ledger::walk::Walked;

impl Verification {
    /// What SQLite holds, against DynamoDB.
    pub(super) async fn sessions_here(&self) -> Result<(), Halt> {
        let mut after = 0;
        loop {
            let limit = self.options.batch_size;
            let walked = self.insist.must(|| self.sides.database.walk_sessions(after, limit)).await?;
            let Some(last) = walked.last().map(|walked| walked.row) else { return Ok(()) };
            let mut tally = Tally::default();
            let mut spaces: BTreeMap<Namespace, Vec<SessionRecord>> = BTreeMap::new();
            for Walked { row, item } in walked {
                match item {
                    Ok((namespace, record)) if self.asks_for(&namespace, &record) => {
                        spaces.entry(namespace).or_default().push(record);
                    }
                    Ok(_) => tally.done += 1,
                    Err(wrong) => {
                        let detail = format!("in SQLite: {wrong}");
                        tally.find(What::Unknown(Kind::Session, row), "unreadable", detail);
                    }
                }
            }
            for (namespace, records) in spaces {
                self.compare_sessions(&namespace, records, &mut tally).await?;
            }
            after = last;
            self.enter(tally).await?;
        }
    }

    fn asks_for(&self, namespace: &Namespace, record: &SessionRecord) -> bool {
        self.samples(session_id(namespace, &record.session.id)) && self.admits(record.session.updated_at)
    }

    async fn compare_sessions(
        &self,
        namespace: &Namespace,
        records: Vec<SessionRecord>,
        tally: &mut Tally,
    ) -> Result<(), Halt> {
        let ids: Vec<SessionId> = records.iter().map(|record| record.session.id.clone()).collect();
        let get = self.insist.on(|| self.sides.sessions.get_many(namespace, &ids));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let there = self.purse.spend(ids.len() as f64, get).await?;
        // What is wrong is said of each when it is looked at again.
        let there = there.unwrap_or_else(|_| vec![Ok(None); ids.len()]);
        let (now, mut suspects) = (self.sides.clock.now(), Vec::new());
        for (record, there) in records.into_iter().zip(there) {
            let subject = Subject::Session(namespace.clone(), record.session.id.clone());
            let there = match there {
                Ok(Some(record)) => There::Held(Held::Session(Box::new(record))),
                Ok(None) => There::Absent,
                Err(error) => There::Unreadable(error.to_string()),
            };
            let here = Here::Held(Held::Session(Box::new(record)));
            let both = Both { here, there, known: Known::default() };
            match both.verdict(now) {
                verdict if verdict.is_good() => tally.count(Kind::Session, verdict.outcome()),
                _ => suspects.push((subject, both)),
            }
        }
        self.settle(suspects, tally).await
    }

    /// What only DynamoDB has.
    pub(super) async fn sessions_there(&self) -> Result<(), Halt> {
        try_join_all((0..SEGMENTS).map(|number| self.sessions_segment(number))).await?;
        Ok(())
    }

    async fn sessions_segment(&self, number: u32) -> Result<(), Halt> {
        let mut segment = Segment { number, of: SEGMENTS, after: None };
        loop {
            let limit = self.options.batch_size;
            let scan = self.insist.must(|| self.sides.sessions.scan(&segment, limit));
            let ScanPage { items, next } = Box::pin(self.purse.spend(1.0, scan)).await?;
            let (mut tally, mut suspects) = (Tally::default(), Vec::new());
            for item in items {
                let (namespace, id, there) = match item {
                    ScannedSession::Session(namespace, record) if self.asks_for(&namespace, &record) => {
                        let id = record.session.id.clone();
                        (namespace, id, There::Held(Held::Session(record)))
                    }
                    ScannedSession::Session(..) => {
                        tally.done += 1;
                        continue;
                    }
                    ScannedSession::Unreadable { namespace, id, wrong } => {
                        (namespace, id, There::Unreadable(wrong))
                    }
                };
                let ids = [id.clone()];
                let known = self.insist.must(|| self.sides.database.known_sessions(&namespace, &ids)).await?;
                let known = known.first().copied().unwrap_or_default();
                if known.held.is_some() {
                    // Compared before.
                    tally.done += 1;
                    continue;
                }
                let both = Both { here: Here::Absent, there, known };
                match both.verdict(self.sides.clock.now()) {
                    verdict if verdict.is_good() => tally.count(Kind::Session, verdict.outcome()),
                    _ => suspects.push((Subject::Session(namespace, id), both)),
                }
            }
            self.settle(suspects, &mut tally).await?;
            self.enter(tally).await?;
            match next {
                Some(after) => segment.after = Some(after),
                None => return Ok(()),
            }
        }
    }
}
