//! What is learned of hosts, in items of the table of results.

use async_trait::async_trait;

use super::super::item::{number, read_number};
use super::DynamodbResults;
use super::expression::Terms;
use super::requests::Tell;
use crate::domain::Namespace;
use crate::domain::learning::{Counters, KEEP_SECONDS, MANY, Visit};
use crate::store::{HostStore, Result};

/// The partition key of a host's item. Results have a url before the first space, and `host` is none.
fn partition(namespace: &Namespace, host: &str) -> String {
    format!("host {namespace} {host}")
}

#[async_trait]
impl HostStore for DynamodbResults {
    async fn counters(&self, namespace: &Namespace, host: &str) -> Result<Counters> {
        let item = self.0.get_item(&partition(namespace, host), false).await?.unwrap_or_default();
        let count = |name: &str| read_number(&item, name).unwrap_or_default();
        Ok(Counters { visits: count("visits"), changes: count("changes"), seconds: count("seconds") })
    }

    async fn observe(&self, namespace: &Namespace, host: &str, visit: Visit) -> Result<()> {
        let partition = partition(namespace, host);
        let mut terms = Terms::default();
        let sums = [("visits", 1), ("changes", u64::from(visit.changed)), ("seconds", visit.seconds)]
            .map(|(name, count)| format!("{} {}", terms.name(name), terms.value(number(count))));
        // Every write here has a condition; this one always holds.
        let always = terms.lacks("deleted");
        // For the sweep of DynamoDB itself, where the table has it.
        let forget_at = self.0.clock.now().plus_secs(KEEP_SECONDS);
        let forgotten = terms.compare("ttl", "=", number(forget_at.as_secs()));
        let update = format!("ADD {} SET {forgotten}", sums.join(", "));
        let before = self.0.update_item(&partition, update, always, terms, Tell::Old).await?;
        let before = before.ok().flatten().unwrap_or_default();
        let count = |name: &str| read_number(&before, name).unwrap_or_default();
        let now = Counters { visits: count("visits"), changes: count("changes"), seconds: count("seconds") };
        let now = Counters {
            visits: now.visits + 1,
            changes: now.changes + u64::from(visit.changed),
            seconds: now.seconds + visit.seconds,
        };
        if now.visits < MANY {
            return Ok(());
        }
        let faded = now.faded();
        let mut terms = Terms::default();
        let unchanged = terms.compare("visits", "=", number(now.visits));
        let halves = [("visits", faded.visits), ("changes", faded.changes), ("seconds", faded.seconds)]
            .map(|(name, count)| format!("{} = {}", terms.name(name), terms.value(number(count))));
        let update = format!("SET {}", halves.join(", "));
        // Where somebody was faster, the next visit fades them.
        let _ = self.0.update_item(&partition, update, unchanged, terms, Tell::Nothing).await?;
        Ok(())
    }
}
