//! Reads results: from the owner, or from whoever knows better or can still answer.

use std::sync::Arc;

use super::Inner;
use super::plan::{self, Local, Read};
use super::policy::InForce;
use super::remote::Patience;
use crate::domain::routing::Side;
use crate::domain::{Key, Meta, Version};
use crate::store::sqlite::ledger::Known;
use crate::store::{Error, GetOptions, Hit, Look, Result, Seen, Source, Via, dynamodb};

impl Inner {
    /// What there is under a key.
    pub(super) async fn look(self: &Arc<Self>, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        let policy = self.in_force();
        let found = match policy.policy.owner(key.id().bucket()) {
            Side::Sqlite => self.look_local_first(key, options, &policy).await?,
            Side::Dynamodb => self.look_newer(key, options).await?,
        };
        if !options.scan {
            self.maybe_compare(key, &policy.policy);
        }
        Ok(found)
    }

    /// A key that SQLite owns: DynamoDB is asked only for what SQLite knows nothing of.
    async fn look_local_first(
        self: &Arc<Self>,
        key: &Key,
        options: GetOptions,
        policy: &InForce,
    ) -> Result<Look<Hit>> {
        let local = match self.local_results.look(key, options).await {
            Err(damage @ Error::Corrupt { .. }) => {
                return self.look_beyond(key, options, policy, damage).await;
            }
            local => local?,
        };
        let state = match &local {
            Look::Entry(_) => Local::Held,
            Look::Deleted(_) => Local::Deleted,
            Look::Absent => Local::Absent,
        };
        match plan::read(Side::Sqlite, state, !self.remote.circuit.is_open()) {
            Read::RemoteElseUnasked => {}
            Read::Unasked => {
                self.count("get", Side::Sqlite, "refused");
                return Err(self.unasked());
            }
            _ => {
                self.count("get", Side::Sqlite, "owner");
                return Ok(local);
            }
        }
        // What is found will be SQLite's own: it must not be what was there a moment ago.
        let whole = GetOptions { consistent: true, ..options };
        let hit = match self.remote.ask(Patience::Other, self.remote.results.look(key, whole)).await {
            Ok(Look::Entry(hit)) => hit,
            Ok(other) => {
                self.count("get", Side::Sqlite, "owner");
                return Ok(other);
            }
            // What is there cannot be read by anybody: for the owner there is none.
            Err(error @ Error::Corrupt { .. }) => {
                tracing::debug!(%error, "what DynamoDB has of a key that SQLite owns is damaged");
                self.count("get", Side::Sqlite, "refused");
                return Ok(Look::Absent);
            }
            Err(error) => {
                tracing::debug!(%error, "a key that SQLite owns was not looked for in DynamoDB");
                self.count("get", Side::Sqlite, "refused");
                return Err(Error::unasked(dynamodb::BACKEND, &error));
            }
        };
        let known = self.known(key).await?;
        if known.held.is_some() {
            // Written, or copied, meanwhile.
            self.count("get", Side::Sqlite, "owner");
            return self.local_results.look(key, options).await;
        }
        if known.is_deleted() || !known.admits(hit.entry.meta.version) {
            self.count("get", Side::Sqlite, "owner");
            return Ok(Look::Absent);
        }
        self.count("get", Side::Dynamodb, "other");
        if !options.scan {
            self.copy_to_local(&hit, policy.generation);
        }
        Ok(Look::Entry(Hit { via: Via::Other, ..hit }))
    }

    /// A key that SQLite owns and whose entry there is damaged: where DynamoDB has it, or a newer one, that answers and
    /// heals it.
    async fn look_beyond(
        self: &Arc<Self>,
        key: &Key,
        options: GetOptions,
        policy: &InForce,
        damage: Error,
    ) -> Result<Look<Hit>> {
        let whole = GetOptions { consistent: true, ..options };
        let Ok(Look::Entry(hit)) =
            self.remote.ask(Patience::Other, self.remote.results.look(key, whole)).await
        else {
            return Err(damage);
        };
        let (known, version) = (self.known(key).await?, hit.entry.meta.version);
        if !known.admits(version) || known.held.is_some_and(|held| version < held) {
            return Err(damage);
        }
        self.count("get", Side::Dynamodb, "other");
        if !options.scan {
            self.copy_to_local(&hit, policy.generation);
        }
        Ok(Look::Entry(Hit { via: Via::Other, ..hit }))
    }

    /// A key that DynamoDB owns: the newer of what the two have counts.
    async fn look_newer(self: &Arc<Self>, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        let known = self.known(key).await?;
        let is_reachable = !self.remote.circuit.is_open();
        let state = local(&known);
        // A walk over many shows what a listing does.
        let is_certain = options.consistent && !options.scan;
        let plan = plan::read(Side::Dynamodb, state, is_reachable);
        match plan {
            // What waits to be delivered may have been overtaken by another process, or be delivered by now and not
            // noted: who reads past every copy is told.
            Read::Absent | Read::LocalQueued if is_certain && is_reachable => {}
            Read::Absent => {
                self.count("get", Side::Sqlite, "queued");
                return Ok(deleted(&known));
            }
            Read::Unasked => {
                self.count("get", Side::Dynamodb, "refused");
                return Err(self.unasked());
            }
            Read::LocalQueued => {
                if let Some(hit) = self.local_entry(key, options, Via::Queued).await? {
                    return Ok(Look::Entry(hit));
                }
            }
            Read::LocalFallback => {
                if let Some(hit) = self.fallback(key, options).await? {
                    return Ok(Look::Entry(hit));
                }
            }
            _ => {}
        }
        // Where SQLite knows something the versions are compared, and a read that lags behind would mislead.
        let compared = GetOptions { consistent: options.consistent || known.newest().is_some(), ..options };
        let remote = self.remote.ask(Patience::Owner, self.remote.results.look(key, compared)).await;
        match remote {
            Ok(remote) => self.newer(key, options, known, remote).await,
            // It is there, and damaged: what SQLite has is the answer unless it is older.
            Err(Error::Corrupt { backend, detail }) => {
                match self.local_unless_older(key, options, &known).await? {
                    Some(hit) => Ok(Look::Entry(hit)),
                    None => Err(Error::Corrupt { backend, detail }),
                }
            }
            Err(error) => match self.fallback(key, options).await? {
                Some(hit) if state == Local::Newest => Ok(Look::Entry(Hit { via: Via::Queued, ..hit })),
                Some(hit) => Ok(Look::Entry(hit)),
                None => {
                    self.count("get", Side::Dynamodb, "refused");
                    // It was deleted here, and another instance may have stored it anew.
                    Err(if known.is_deleted() { Error::unasked(dynamodb::BACKEND, &error) } else { error })
                }
            },
        }
    }

    /// The newer of what SQLite knows and DynamoDB has.
    async fn newer(
        self: &Arc<Self>,
        key: &Key,
        options: GetOptions,
        known: Known,
        remote: Look<Hit>,
    ) -> Result<Look<Hit>> {
        let version = match &remote {
            Look::Entry(hit) => Some(hit.entry.meta.version),
            Look::Deleted(version) => Some(*version),
            Look::Absent => None,
        };
        if known.held.is_some_and(|held| version.is_none_or(|version| version < held)) {
            if let Some(hit) = self.local_entry(key, options, Via::Other).await? {
                if !options.scan {
                    self.copy_to_remote(key);
                }
                return Ok(Look::Entry(hit));
            }
            // A write has gone to DynamoDB since, and has taken it away here.
            let again = GetOptions { consistent: true, ..options };
            let found = self.remote.ask(Patience::Owner, self.remote.results.look(key, again)).await?;
            self.count("get", Side::Dynamodb, "owner");
            return Ok(found);
        }
        self.count("get", Side::Dynamodb, "owner");
        match remote {
            Look::Entry(hit) if known.admits(hit.entry.meta.version) => Ok(Look::Entry(hit)),
            Look::Deleted(version) => {
                if known.held.is_some_and(|held| held < version) && !options.scan {
                    self.forget_older(key, version);
                }
                Ok(Look::Deleted(version))
            }
            // What SQLite knows to be deleted or replaced, DynamoDB has yet to learn.
            Look::Entry(_) | Look::Absent => Ok(deleted(&known)),
        }
    }

    /// SQLite's entry where the owner cannot be reached; none where it is damaged, too.
    async fn fallback(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        match self.local_entry(key, options, Via::Fallback).await {
            Err(Error::Corrupt { .. }) => Ok(None),
            found => found,
        }
    }

    /// SQLite's entry in the place of a damaged one of DynamoDB's that is not newer, which it heals.
    async fn local_unless_older(
        self: &Arc<Self>,
        key: &Key,
        options: GetOptions,
        known: &Known,
    ) -> Result<Option<Hit>> {
        let Some(held) = known.held else { return Ok(None) };
        let call = self.remote.results.look_metas(std::slice::from_ref(key));
        let newest = match self.remote.ask(Patience::Owner, call).await?.pop() {
            Some(Look::Entry(meta)) => Some(meta.version),
            Some(Look::Deleted(version)) => Some(version),
            _ => None,
        };
        if newest.is_some_and(|newest| newest > held) {
            return Ok(None);
        }
        let found = self.local_entry(key, options, Via::Other).await?;
        if found.is_some() && !options.scan {
            self.copy_to_remote(key);
        }
        Ok(found)
    }

    /// SQLite's entry, counted as the answer.
    async fn local_entry(&self, key: &Key, options: GetOptions, via: Via) -> Result<Option<Hit>> {
        let found = self.local_results.get(key, options).await?;
        if found.is_some() {
            self.count("get", Side::Sqlite, reason(via));
        }
        Ok(found.map(|hit| Hit { via, ..hit }))
    }

    /// What can be told of many keys, without bodies.
    pub(super) async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        let policy = self.in_force().policy;
        let mut found = self.local_results.look_metas(keys).await?;
        let owners: Vec<Side> = keys.iter().map(|key| policy.owner(key.id().bucket())).collect();
        let mut wanted: Vec<usize> = (0..keys.len())
            .filter(|at| owners[*at] == Side::Dynamodb || matches!(found[*at], Look::Absent))
            .collect();
        self.count_many("lookup", Side::Sqlite, "owner", keys.len() - wanted.len());
        if wanted.is_empty() {
            return Ok(found.into_iter().map(Seen::Told).collect());
        }
        let ids: Vec<_> = wanted.iter().map(|at| keys[*at].id()).collect();
        let known = self.database.known(&ids).await?;
        // What was written between the two is looked at again, now that it is known.
        let is_changed = |(at, known): &(&usize, &Known)| known.held != version_of(&found[**at]);
        let changed: Vec<usize> = wanted.iter().zip(&known).filter(is_changed).map(|(at, _)| *at).collect();
        if !changed.is_empty() {
            let again: Vec<Key> = changed.iter().map(|at| keys[*at].clone()).collect();
            let again = self.local_results.look_metas(&again).await?;
            changed.into_iter().zip(again).for_each(|(at, look)| found[at] = look);
        }
        let mut knowledge = known.iter();
        wanted.retain(|at| {
            let newest = knowledge.next().map(local);
            !matches!(
                (newest, &found[*at]),
                (Some(Local::Newest), Look::Entry(_)) | (Some(Local::DeletedNewest), Look::Deleted(_))
            )
        });
        self.count_many("lookup", Side::Sqlite, "queued", ids.len() - wanted.len());
        let mut seen: Vec<Seen> = found.into_iter().map(Seen::Told).collect();
        if wanted.is_empty() {
            return Ok(seen);
        }
        let asked: Vec<Key> = wanted.iter().map(|at| keys[*at].clone()).collect();
        let owns_some = wanted.iter().any(|at| owners[*at] == Side::Dynamodb);
        let patience = if owns_some { Patience::Owner } else { Patience::Other };
        let call = self.remote.results.survey(&asked);
        let remote = match self.remote.ask_many(patience, asked.len(), call).await {
            Ok(remote) => remote,
            Err(error) => {
                tracing::warn!(%error, keys = asked.len(), "DynamoDB was left out of a look-up");
                vec![Seen::Unknown; asked.len()]
            }
        };
        let refused = remote.iter().filter(|seen| matches!(seen, Seen::Unknown)).count();
        self.count_many("lookup", Side::Dynamodb, "refused", refused);
        self.count_many("lookup", Side::Dynamodb, "owner", asked.len() - refused);
        // In the order of `ids`, of which `wanted` is a part in the same order.
        let by_id: std::collections::HashMap<_, _> = ids.iter().zip(&known).collect();
        for ((at, key), remote) in wanted.into_iter().zip(&asked).zip(remote) {
            let known = by_id.get(&key.id()).copied().copied().unwrap_or_default();
            // What is only queued or intended is nowhere yet.
            let newest = known.held.max(known.tombstone.map(|tombstone| tombstone.version));
            let newest = newest.max(match &seen[at] {
                Seen::Told(look) => version_of(look),
                Seen::Unconfirmed(..) | Seen::Unknown => None,
            });
            let is_newer = |version: Version| newest.is_none_or(|newest| version >= newest);
            match remote {
                Seen::Told(Look::Entry(meta)) if is_newer(meta.version) && known.admits(meta.version) => {
                    seen[at] = Seen::Told(Look::Entry(meta));
                }
                Seen::Told(Look::Deleted(version)) if is_newer(version) => {
                    seen[at] = Seen::Told(Look::Deleted(version));
                }
                // The owner has not spoken, or it has none and the other side could not be asked.
                Seen::Unknown => {
                    seen[at] = match std::mem::replace(&mut seen[at], Seen::Unknown) {
                        Seen::Told(Look::Entry(meta)) => Seen::Unconfirmed(Box::new(meta), Source::Sqlite),
                        _ => Seen::Unknown,
                    };
                }
                _ => {}
            }
        }
        Ok(seen)
    }

    /// That DynamoDB, which may have what SQLite has not, is left alone just now.
    pub(super) fn unasked(&self) -> Error {
        let detail = format!("it is left alone for a moment: {}", self.remote.circuit.status().error);
        Error::Unasked { backend: dynamodb::BACKEND, detail }
    }

    /// What SQLite knows of one key.
    pub(super) async fn known(&self, key: &Key) -> Result<Known> {
        let known = self.database.known(&[key.id()]).await?;
        known.first().copied().ok_or_else(|| Error::Backend {
            backend: crate::store::sqlite::BACKEND,
            detail: "it said nothing of a key".to_owned(),
        })
    }

    fn count_many(&self, operation: &str, side: Side, reason: &str, count: usize) {
        self.metrics.routed.with_label_values(&[operation, side.as_str(), reason]).inc_by(count as u64);
    }
}

/// The version of what was found.
fn version_of(look: &Look<Meta>) -> Option<Version> {
    match look {
        Look::Entry(meta) => Some(meta.version),
        Look::Deleted(_) | Look::Absent => None,
    }
}

/// The state that the tables of [`plan`] know.
pub(super) fn local(known: &Known) -> Local {
    let newest = known.held.max(known.tombstone.map(|tombstone| tombstone.version));
    // A row for a version that SQLite does not have is of a write whose outcome is not known yet.
    let is_queued = known.queued.is_some_and(|queued| newest.is_some_and(|newest| newest >= queued));
    match (known.held.is_some(), known.is_deleted(), is_queued) {
        (true, _, true) => Local::Newest,
        (true, _, false) => Local::Held,
        (false, true, true) => Local::DeletedNewest,
        (false, true, false) => Local::Deleted,
        (false, false, _) => Local::Absent,
    }
}

fn deleted(known: &Known) -> Look<Hit> {
    match known.tombstone {
        Some(tombstone) if known.is_deleted() => Look::Deleted(tombstone.version),
        _ => Look::Absent,
    }
}

fn reason(via: Via) -> &'static str {
    match via {
        Via::Owner => "owner",
        Via::Other => "other",
        Via::Queued => "queued",
        // The second is said by memory, which is in front of this.
        Via::Fallback | Via::Outage => "fallback",
    }
}
