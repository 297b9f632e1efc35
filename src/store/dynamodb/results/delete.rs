//! Deletes one entry: a tombstone takes its place, so that an older write which arrives later is seen to be old.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::{Item, number};
use super::super::pauses::Pauses;
use super::Inner;
use super::expression::Terms;
use super::key::{self, URL};
use super::put::{contended, entry_clause, unknown};
use super::requests::{Seen, Tell};
use super::stored::{Met, tombstone};
use crate::domain::{Key, Version};
use crate::store::{Condition, DeleteOutcome, Placed, Result, Versioning};

/// How often a deletion is tried against what others have just written.
const TRIES: usize = 16;

impl Inner {
    pub(super) async fn delete(
        &self,
        key: &Key,
        mut version: Version,
        condition: &Condition,
        versioning: Versioning,
    ) -> Result<Placed<DeleteOutcome>> {
        let partition = key::partition(key);
        let mut seen = match self.delete_at_once(key, version, condition).await? {
            Some(Ok(outcome)) => return Ok(Placed { outcome, version }),
            Some(Err(seen)) => seen,
            None => Seen { item: self.get_item(&partition, true).await?, retried: false },
        };
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        let mut is_uncertain = false;
        for _ in 0..TRIES {
            let met = Met::of(seen.item, key);
            is_uncertain |= seen.retried;
            let is_there = met.stamp().is_some();
            // An earlier try of this very deletion happened, and its answer was lost.
            if is_uncertain && !is_there && met.version() == Some(version) {
                return Ok(Placed { outcome: DeleteOutcome::Deleted, version });
            }
            let (is_own, is_conditional) = (versioning == Versioning::Newest, *condition != Condition::Any);
            // It may have happened, and what is there may have come since: neither is an answer.
            if is_uncertain && met.is_newer_than(version) && (is_conditional || (is_own && is_there)) {
                return Err(unknown(key));
            }
            if !condition.holds(met.stamp()) {
                return Ok(Placed { outcome: DeleteOutcome::ConditionFailed, version });
            }
            if let Some(newer) = met.version().filter(|stored| *stored >= version) {
                let above = self.version_above(newer, &met);
                // It is deleted already; or what came after a deletion that is only repeated here stays.
                if !is_there || !is_own {
                    return Ok(Placed { outcome: DeleteOutcome::Absent, version: newer });
                }
                version = above;
            }
            let mut terms = Terms::default();
            let unchanged = terms.unchanged(met.told.as_ref());
            let outcome = if is_there { DeleteOutcome::Deleted } else { DeleteOutcome::Absent };
            match self.put_item(self.tombstone(key, version), unchanged, terms, Tell::Met).await? {
                Ok(_) => return Ok(Placed { outcome, version }),
                Err(unmet) => seen = self.met(&partition, unmet).await?,
            }
            if !pauses.pause().await {
                break;
            }
        }
        Err(contended(key))
    }

    /// Deletes what is older and ours in one request. Nothing if no such request can be made; else the outcome, or
    /// what was met.
    async fn delete_at_once(
        &self,
        key: &Key,
        version: Version,
        condition: &Condition,
    ) -> Result<Option<std::result::Result<DeleteOutcome, Seen>>> {
        let mut terms = Terms::default();
        let Some(entry) = entry_clause(&mut terms, condition) else { return Ok(None) };
        let older = terms.compare("version", "<", number(version.as_u64()));
        let mut cases = vec![format!("{} AND {older}{entry}", terms.exists("layout"))];
        if condition.holds(None) {
            cases.push(terms.lacks(URL));
            cases.push(format!("{} AND {older}", terms.exists("deleted")));
        }
        let expression = cases.iter().map(|case| format!("({case})")).collect::<Vec<_>>().join(" OR ");
        Ok(Some(match self.put_item(self.tombstone(key, version), expression, terms, Tell::Old).await? {
            Err(unmet) => Err(self.met(&key::partition(key), unmet).await?),
            Ok(Some(old)) if !old.is_empty() && tombstone(&old).is_none() => Ok(DeleteOutcome::Deleted),
            Ok(_) => Ok(DeleteOutcome::Absent),
        }))
    }

    fn tombstone(&self, key: &Key, version: Version) -> Item {
        let mut item = key::attributes(key);
        item.insert("version".to_owned(), number(version.as_u64()));
        item.insert("deleted".to_owned(), AttributeValue::Bool(true));
        let ttl = self.clock.now().as_secs().saturating_add(self.tombstone_seconds);
        item.insert("ttl".to_owned(), number(ttl));
        item
    }
}
