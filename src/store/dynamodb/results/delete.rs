//! Deletes one entry: a tombstone takes its place, so that an older write which arrives later is seen to be old.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::{Item, number};
use super::super::pauses::Pauses;
use super::Inner;
use super::expression::Terms;
use super::key::{self, URL};
use super::put::{contended, entry_clause};
use super::requests::{Seen, Tell};
use super::stored::{Met, tombstone};
use crate::domain::{Key, Version};
use crate::store::{Condition, DeleteOutcome, Result};

/// How often a deletion is tried against what others have just written.
const TRIES: usize = 16;

impl Inner {
    pub(super) async fn delete(
        &self,
        key: &Key,
        version: Version,
        condition: &Condition,
    ) -> Result<DeleteOutcome> {
        let partition = key::partition(key);
        let mut seen = match self.delete_at_once(key, version, condition).await? {
            Some(Ok(outcome)) => return Ok(outcome),
            Some(Err(seen)) => seen,
            None => Seen { item: self.get_item(&partition, true).await?, retried: false },
        };
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        for _ in 0..TRIES {
            let met = Met::of(seen.item, key);
            // The first try of this very deletion happened, and its answer was lost.
            if seen.retried && met.stamp().is_none() && met.version() == Some(version) {
                return Ok(DeleteOutcome::Deleted);
            }
            if !condition.holds(met.stamp()) {
                return Ok(DeleteOutcome::ConditionFailed);
            }
            // A newer entry came after this delete was asked for: for the delete there is nothing left to do.
            if let Some(newer) = met.version().filter(|stored| *stored >= version) {
                self.saw(newer);
                return Ok(DeleteOutcome::Absent);
            }
            let mut terms = Terms::default();
            let unchanged = terms.unchanged(met.told.as_ref());
            match self.put_item(self.tombstone(key, version), unchanged, terms, Tell::Met).await? {
                Ok(_) if met.stamp().is_some() => return Ok(DeleteOutcome::Deleted),
                Ok(_) => return Ok(DeleteOutcome::Absent),
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
