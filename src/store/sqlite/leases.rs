//! The leases contract on SQLite: a row a key, decided in the writer's transactions.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::SqliteStore;
use super::error::{corrupt, from_sqlite};
use super::rows::{bytes_16, one, signed, time, unsigned};
use crate::domain::lease::{Claim, KEEP_ENDED_SECONDS, KEEP_SECONDS, Lease, LeaseState, LeaseToken};
use crate::domain::{KeyId, Namespace, Timestamp, Version};
use crate::store::{Claimed, Ending, Holder, LeaseStore, Renewed, Result};

/// About how many bytes a lease takes.
const WEIGHT: usize = 128;

/// The columns that [`lease_of`] reads, in its order.
const COLUMNS: &str = "namespace, secret, fence, granted_at, until, state";

/// When the last lease ends that was ever granted: from then on none is held, and nobody has to look.
#[derive(Debug, Default)]
pub(super) struct LastEnd(AtomicU64);

impl LastEnd {
    /// That of the leases in a database.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let last =
            connection.query_row("select coalesce(max(until), 0) from leases", [], |row| unsigned(row, 0));
        last.map(|last| Self(AtomicU64::new(last)))
    }

    /// Notes a lease, before anybody can know of it.
    fn raise(&self, until: Timestamp) {
        self.0.fetch_max(until.as_millis(), Ordering::AcqRel);
    }

    /// Whether a lease may be held at `now`.
    fn is_after(&self, now: Timestamp) -> bool {
        self.0.load(Ordering::Acquire) > now.as_millis()
    }
}

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        let claim = claim.clone();
        self.0.last_end.raise(claim.until);
        self.write(WEIGHT, move |connection, _| {
            let before = match find(connection, claim.token.key()) {
                Ok(before) => before,
                Err(error) => return Ok(Err(error)),
            };
            Ok(Ok(match Lease::grant(&claim, before.as_ref()) {
                Ok(lease) => {
                    save(connection, &lease)?;
                    Claimed::Won(lease)
                }
                Err(held) => Claimed::Held(held),
            }))
        })
        .await
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        let holder = holder.clone();
        self.0.last_end.raise(until);
        self.write(WEIGHT, move |connection, _| {
            let renewed = find_of(connection, &holder)
                .map(|lease| lease.and_then(|lease| lease.renewed(&holder.token, until)));
            Ok(match renewed {
                Ok(Some(lease)) => {
                    save(connection, &lease)?;
                    Ok(Renewed::Renewed(lease))
                }
                Ok(None) => Ok(Renewed::Lost),
                Err(error) => Err(error),
            })
        })
        .await
    }

    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        let holder = holder.clone();
        self.read(move |connection| {
            Ok(find_of(connection, &holder)?.and_then(|lease| lease.fence_of(&holder.token)))
        })
        .await
    }

    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        let holder = holder.clone();
        self.write(WEIGHT, move |connection, _| {
            let changed = connection
                .prepare_cached(
                    "update leases set state = ?1 where id = ?2 and namespace = ?3 and secret = ?4 and state = ?5",
                )?
                .execute((
                    ending.state().as_str(),
                    &holder.token.key().as_bytes()[..],
                    holder.namespace.as_str(),
                    &holder.token.secret()[..],
                    LeaseState::Held.as_str(),
                ))?;
            Ok(Ok(changed > 0))
        })
        .await
    }

    async fn revoke(&self, key: KeyId) -> Result<bool> {
        // Most keys have none, and nothing is to be written.
        if self.read(move |connection| find(connection, key)).await?.is_none() {
            return Ok(false);
        }
        self.write(WEIGHT, move |connection, _| {
            let lease = match find(connection, key) {
                Ok(lease) => lease,
                Err(error) => return Ok(Err(error)),
            };
            if let Some(lease) = &lease {
                save(connection, &Lease { state: LeaseState::Released, ..lease.clone() })?;
            }
            Ok(Ok(lease.is_some_and(|lease| lease.state == LeaseState::Held)))
        })
        .await
    }

    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        let mut held = vec![None; keys.len()];
        if !self.0.last_end.is_after(now) {
            return Ok(held);
        }
        // In the order of the pages, as all look-ups of many keys.
        let mut ids: Vec<(KeyId, usize)> = keys.iter().copied().zip(0..).collect();
        ids.sort_unstable();
        for (place, lease) in
            self.read_chunks(&ids, move |connection, ids| find_held(connection, ids, now)).await?
        {
            held[place] = Some(lease);
        }
        Ok(held)
    }

    fn is_shared(&self) -> bool {
        false
    }
}

/// What is remembered of a key's lease.
fn find(connection: &Connection, id: KeyId) -> Result<Option<Lease>> {
    let mut statement = connection
        .prepare_cached(&format!("select {COLUMNS} from leases where id = ?1"))
        .map_err(|error| from_sqlite(&error))?;
    one(&mut statement, [&id.as_bytes()[..]], |row| lease_of(row, id))
}

/// The lease that a holder speaks of, whoever's it is by now.
fn find_of(connection: &Connection, holder: &Holder) -> Result<Option<Lease>> {
    let found = find(connection, holder.token.key())?;
    Ok(found.filter(|lease| lease.namespace == holder.namespace))
}

/// The leases of those keys that are held at `now`, each with the number that came with its key.
fn find_held(
    connection: &Connection,
    ids: Vec<(KeyId, usize)>,
    now: Timestamp,
) -> Result<Vec<(usize, Lease)>> {
    let sql = format!("select {COLUMNS} from leases where id = ?1 and until > ?2 and state = ?3");
    let mut statement = connection.prepare_cached(&sql).map_err(|error| from_sqlite(&error))?;
    let mut found = Vec::new();
    for (id, place) in ids {
        let parameters = (&id.as_bytes()[..], signed(now.as_millis()), LeaseState::Held.as_str());
        let lease = one(&mut statement, parameters, |row| lease_of(row, id))?;
        found.extend(lease.map(|lease| (place, lease)));
    }
    Ok(found)
}

fn save(connection: &Connection, lease: &Lease) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "insert or replace into leases (id, {COLUMNS}) values (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
        ))?
        .execute((
            &lease.token.key().as_bytes()[..],
            lease.namespace.as_str(),
            &lease.token.secret()[..],
            signed(lease.fence.as_u64()),
            signed(lease.granted_at.as_millis()),
            signed(lease.until.as_millis()),
            lease.state.as_str(),
        ))?;
    Ok(())
}

fn lease_of(row: &Row<'_>, id: KeyId) -> Result<Lease> {
    let read = || -> rusqlite::Result<_> {
        let token = LeaseToken::new(id, bytes_16(row, 1)?);
        let fence = Version::from_u64(unsigned(row, 2)?);
        let (namespace, state): (String, String) = (row.get(0)?, row.get(5)?);
        Ok((namespace, token, fence, time(row, 3)?, time(row, 4)?, state))
    };
    let broken = |what: &dyn std::fmt::Display| corrupt(format!("the lease of {id}: {what}"));
    let (namespace, token, fence, granted_at, until, state) = read().map_err(|error| match error {
        rusqlite::Error::SqliteFailure(..) => from_sqlite(&error),
        _ => broken(&error),
    })?;
    Ok(Lease {
        namespace: Namespace::new(&namespace).map_err(|error| broken(&error))?,
        token,
        fence,
        granted_at,
        until,
        state: LeaseState::of(&state).ok_or_else(|| broken(&"its state is unknown"))?,
    })
}

/// Forgets up to `limit` leases that nobody has to remember at `now`, and says how many.
pub(super) fn sweep(connection: &Connection, now: Timestamp, limit: u32) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "delete from leases where id in
                 (select id from leases where until <= ?1 and (state <> ?2 or until <= ?3) limit ?4)",
        )?
        .execute((
            signed(now.as_millis()) - signed(KEEP_ENDED_SECONDS * 1000),
            LeaseState::Held.as_str(),
            signed(now.as_millis()) - signed(KEEP_SECONDS * 1000),
            limit,
        ))
}
