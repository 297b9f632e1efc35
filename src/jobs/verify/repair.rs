//! Mends a difference: the newer version goes to the other side, with its own times.
//!
//! Every write is one that a side takes only if it has nothing newer, so that a service may go on writing. Where both
//! have the same version and yet differ, somebody has changed one of them past the service: SQLite's is taken, whose
//! bodies carry a digest of everything about them.

use super::super::insist::Halt;
use super::super::sides::whole;
use super::Verification;
use super::verdict::{Both, Held, Here, Subject, There, Verdict};
use crate::domain::routing::Side;
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Key, Namespace, Version};
use crate::store::sqlite::ledger::Beside;
use crate::store::{Condition, PutSession, ResultStore, SessionCondition, SessionStore};

/// The side that was mended, or which could not be, and why.
pub(super) type Repaired = Result<Side, (Side, String)>;

/// Looks after which a repair has to be seen: the second mends what the first one cannot, such as an earlier time of
/// creation that stayed.
const ROUNDS: usize = 2;

impl Verification {
    /// Mends what `verdict` says of `both`, and looks whether it is mended.
    pub(super) async fn repair(
        &self,
        subject: &Subject,
        both: &Both,
        verdict: &Verdict,
    ) -> Result<Repaired, Halt> {
        let (mut both, mut verdict) = (both.clone(), verdict.clone());
        let mut mended = to_mend(&both, &verdict);
        for _ in 0..ROUNDS {
            let side = to_mend(&both, &verdict);
            let tried = match subject {
                Subject::Result(key) => Box::pin(self.mend_result(key, &both, side)).await?,
                Subject::Session(namespace, id) => self.mend_session(namespace, id, &both, side).await?,
            };
            if let Err(why) = tried {
                return Ok(Err((side, why)));
            }
            both = self.look(subject).await?;
            verdict = both.verdict(self.sides.clock.now());
            if verdict.is_good() {
                if let (Subject::Result(key), true) = (subject, self.options.content)
                    && matches!(both.here, Here::Held(_))
                    && let wrong @ (Verdict::Different(_) | Verdict::Unreadable(_)) =
                        self.contents(key).await?
                {
                    return Ok(Err((side, wrong.detail())));
                }
                return Ok(Ok(mended));
            }
            mended = side;
        }
        Ok(Err((mended, verdict.detail())))
    }

    async fn mend_result(&self, key: &Key, both: &Both, side: Side) -> Result<Result<(), String>, Halt> {
        let sides = &self.sides;
        let done = match (side, &both.here, &both.there) {
            (Side::Sqlite, _, There::Deleted(version)) => {
                self.insist.on(|| sides.database.supersede(key, *version, true)).await?
            }
            (Side::Sqlite, ..) => match self.entry_there(key).await? {
                Ok(Some(entry)) => {
                    let put = whole(entry);
                    let put =
                        self.insist.on(|| sides.database.put_beside(put.clone(), None, Beside::Nothing));
                    put.await?.map(drop)
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            (Side::Dynamodb, Here::Held(here), there) => match self.entry_here(key).await? {
                Ok(Some(entry)) => {
                    let is_newer = match there {
                        There::Unreadable(_) => false,
                        there => there.version() != Some(here.version()),
                    };
                    if is_newer {
                        let put = whole(entry);
                        let put = self.insist.on(|| sides.results.put(put.clone()));
                        self.purse.spend(1.0, put).await?.map(drop)
                    } else {
                        let mend = self.insist.on(|| sides.results.mend(&entry));
                        self.purse.spend(1.0, mend).await?.map(drop)
                    }
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            (Side::Dynamodb, _, there) => match both.known.tombstone {
                Some(tombstone) => {
                    // One of the very version of the deletion is deleted, too.
                    let same = there.version() == Some(tombstone.version);
                    let version = if same { tombstone.version.next() } else { tombstone.version };
                    let delete = self.insist.on(|| sides.results.delete(key, version, Condition::Any));
                    self.purse.spend(1.0, delete).await?.map(drop)
                }
                None => return Ok(Err("neither side can be read".to_owned())),
            },
        };
        sides.changed(&[key.id()]);
        Ok(done.map_err(|error| error.to_string()))
    }

    async fn mend_session(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        both: &Both,
        side: Side,
    ) -> Result<Result<(), String>, Halt> {
        let sides = &self.sides;
        let put = |record: &SessionRecord, condition| PutSession {
            namespace: namespace.clone(),
            record: record.clone(),
            condition,
        };
        let done = match (side, &both.here, &both.there) {
            (Side::Sqlite, _, There::Held(Held::Session(record))) => {
                let put = put(record, SessionCondition::OlderThan(record.session.version));
                let put =
                    self.insist.on(|| sides.database.put_session_beside(put.clone(), None, Beside::Nothing));
                put.await?.map(drop)
            }
            (Side::Dynamodb, Here::Held(Held::Session(record)), there) => {
                let version = record.session.version;
                let same = matches!(there, There::Held(there) if there.version() == version);
                let condition = if same {
                    SessionCondition::Version(version)
                } else {
                    SessionCondition::OlderThan(version)
                };
                let put = put(record, condition);
                let put = self.insist.on(|| sides.sessions.put(put.clone()));
                self.purse.spend(1.0, put).await?.map(drop)
            }
            (Side::Dynamodb, _, There::Held(_)) => {
                let limit: Option<Version> = both.known.tombstone.map(|tombstone| tombstone.version);
                let Some(limit) = limit else { return Ok(Err("SQLite cannot be read".to_owned())) };
                // One of the very version of the deletion is deleted, too.
                let condition = SessionCondition::OlderThan(limit.next());
                let delete =
                    self.insist.on(|| SessionStore::delete(&sides.sessions, namespace, id, condition));
                self.purse.spend(1.0, delete).await?.map(drop)
            }
            _ => return Ok(Err("neither side can be read".to_owned())),
        };
        Ok(done.map_err(|error| error.to_string()))
    }
}

/// The side that lacks the newer version.
fn to_mend(both: &Both, verdict: &Verdict) -> Side {
    match verdict {
        Verdict::MissingSqlite | Verdict::Deleted("SQLite") => Side::Sqlite,
        Verdict::Different(_) => match (&both.here, &both.there) {
            (Here::Held(here), There::Held(there)) if there.version() > here.version() => Side::Sqlite,
            _ => Side::Dynamodb,
        },
        Verdict::Unreadable(_) if matches!(both.here, Here::Unreadable(_)) => Side::Sqlite,
        _ => Side::Dynamodb,
    }
}
