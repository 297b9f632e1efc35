//! A leaf that keeps everything in maps: the reference that tests hold other stores against.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{
    Claimed, Condition, Cursor, DeleteOutcome, Ending, Error, Found, GetOptions, Health, Heat, Hit, Holder,
    HostStore, LeaseStore, ListOrder, ListQuery, Page, Placed, Put, PutOutcome, PutSession, Renewed, Result,
    ResultStore, SessionCondition, SessionCursor, SessionDeleteOutcome, SessionPage, SessionPutOutcome,
    SessionQuery, SessionStore, Source, Stamp, Status, Via,
};
use crate::domain::learning::{Counters, Visit};
use crate::domain::lease::{Claim, Lease, LeaseState};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Entry, Key, KeyId, Meta, Namespace, Timestamp, Version};

/// A store without a medium. Clones share the content.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    results: HashMap<KeyId, (u64, Arc<Entry>)>,
    /// Numbers entries as they come, as row numbers do.
    next: u64,
    sessions: HashMap<(Namespace, SessionId), SessionRecord>,
    leases: HashMap<KeyId, Lease>,
    hosts: HashMap<(Namespace, String), Counters>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_status(&self) -> Status {
        let content = self.content();
        let sum = |size: fn(&Meta) -> u64| content.results.values().map(|(_, entry)| size(&entry.meta)).sum();
        let stored_bytes = sum(|meta| meta.layout.stored_size());
        Status {
            backend: "memory",
            health: Health::Healthy,
            entries: content.results.len() as u64,
            stored_bytes: Some(stored_bytes),
            raw_bytes: Some(sum(|meta| meta.layout.raw_size())),
            sessions: content.sessions.len() as u64,
            size_bytes: stored_bytes,
            limit_bytes: None,
        }
    }
}

impl fmt::Display for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory")
    }
}

#[async_trait]
impl ResultStore for MemoryStore {
    async fn get(&self, key: &Key, _options: GetOptions) -> Result<Option<Hit>> {
        let found = self.content().results.get(&key.id()).map(|(_, entry)| Arc::clone(entry));
        Ok(found.map(|entry| Hit { entry, source: Source::Memory, via: Via::Owner, heat: Heat::default() }))
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        let content = self.content();
        Ok(keys
            .iter()
            .map(|key| content.results.get(&key.id()).map(|(_, entry)| entry.meta.clone()))
            .collect())
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        Ok(self.content().put(put))
    }

    async fn put_newest(&self, mut put: Put) -> Result<Placed<PutOutcome>> {
        let mut content = self.content();
        put.meta.version = content.version_above(&put.meta.key, put.meta.version);
        let version = put.meta.version;
        Ok(Placed { outcome: content.put(put), version })
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        Ok(self.content().delete(key, version, &condition))
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        let mut content = self.content();
        let version = content.version_above(key, version);
        Ok(Placed { outcome: content.delete(key, version, &condition), version })
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        let content = self.content();
        let position = |number: u64, meta: &Meta| (meta.updated_at, number);
        let mut found: Vec<((Timestamp, u64), Meta)> = content
            .results
            .values()
            .filter(|(_, entry)| *entry.meta.key.namespace() == query.namespace && query.admits(&entry.meta))
            .map(|(number, entry)| (position(*number, &entry.meta), entry.meta.clone()))
            .collect();
        found.sort_by_key(|(position, _)| *position);
        if query.order == ListOrder::Newest {
            found.reverse();
        }
        if let Some(cursor) = &query.after {
            let (time, number) = read_cursor(&cursor.0).ok_or(Error::Cursor)?;
            let after = (Timestamp::from_millis(time), number);
            found.retain(|(position, _)| match query.order {
                ListOrder::Newest => *position < after,
                ListOrder::Oldest => *position > after,
            });
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let places: Vec<Cursor> =
            found.iter().map(|((time, number), _)| Cursor(cursor(time.as_millis(), *number))).collect();
        let next = places.last().filter(|_| more).cloned();
        Ok(Page { items: found.into_iter().map(|(_, meta)| meta).collect(), places, next })
    }

    async fn status(&self) -> Result<Status> {
        Ok(self.current_status())
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        Ok(self.content().sessions.get(&(namespace.clone(), id.clone())).cloned())
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        let content = self.content();
        let found = |id: &SessionId| Ok(content.sessions.get(&(namespace.clone(), id.clone())).cloned());
        Ok(ids.iter().map(found).collect())
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        let mut content = self.content();
        let key = (put.namespace, put.record.session.id.clone());
        let stored =
            content.sessions.get(&key).map(|record| (record.session.version, record.session.expires_at));
        if !put.condition.holds(stored) {
            return Ok(SessionPutOutcome::ConditionFailed);
        }
        content.sessions.insert(key, put.record);
        Ok(if stored.is_some() { SessionPutOutcome::Replaced } else { SessionPutOutcome::Created })
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        let mut content = self.content();
        let key = (namespace.clone(), id.clone());
        let stored =
            content.sessions.get(&key).map(|record| (record.session.version, record.session.expires_at));
        Ok(match stored {
            None => SessionDeleteOutcome::Absent,
            Some(_) if !condition.holds(stored) => SessionDeleteOutcome::ConditionFailed,
            Some(_) => {
                content.sessions.remove(&key);
                SessionDeleteOutcome::Deleted
            }
        })
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        let content = self.content();
        let mut found: Vec<((Timestamp, SessionId), SessionRecord)> = content
            .sessions
            .iter()
            .filter(|((namespace, _), record)| *namespace == query.namespace && query.admits(&record.session))
            .map(|((_, id), record)| ((query.position(&record.session), id.clone()), record.clone()))
            .collect();
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        if query.descends() {
            found.reverse();
        }
        if let Some(cursor) = &query.after {
            let (time, id) = cursor.0.split_at_checked(8).ok_or(Error::Cursor)?;
            let time =
                Timestamp::from_millis(u64::from_be_bytes(time.try_into().map_err(|_| Error::Cursor)?));
            let id = std::str::from_utf8(id).map_err(|_| Error::Cursor)?;
            let after = (time, SessionId::new(id).map_err(|_| Error::Cursor)?);
            found
                .retain(|(position, _)| if query.descends() { *position < after } else { *position > after });
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let place = |(time, id): &(Timestamp, SessionId)| {
            let mut cursor = time.as_millis().to_be_bytes().to_vec();
            cursor.extend_from_slice(id.as_str().as_bytes());
            SessionCursor(cursor)
        };
        let places: Vec<SessionCursor> = found.iter().map(|(position, _)| place(position)).collect();
        let next = places.last().filter(|_| more).cloned();
        let items = found.into_iter().map(|(_, record)| record).collect();
        Ok(SessionPage { items, places, next, ..SessionPage::default() })
    }

    async fn status(&self) -> Result<Status> {
        Ok(self.current_status())
    }
}

impl Content {
    /// A version of at least `version`, and later than that of the entry of a key.
    fn version_above(&self, key: &Key, version: Version) -> Version {
        let stored = self.results.get(&key.id()).map(|(_, entry)| entry.meta.version);
        version.max(stored.map(Version::next).unwrap_or_default())
    }

    fn put(&mut self, put: Put) -> PutOutcome {
        let id = put.meta.key.id();
        let stored = self.results.get(&id).cloned();
        if !put.condition.holds(stored.as_ref().map(|(_, entry)| Stamp::of(&entry.meta))) {
            return PutOutcome::ConditionFailed;
        }
        let (number, outcome, mut entry) = match (stored, put.frame) {
            (Some((_, stored)), _) if stored.meta.version >= put.meta.version => {
                return PutOutcome::Superseded;
            }
            (Some((number, stored)), _) if stored.meta.etag == put.meta.etag => {
                // The body stays, and so does its layout: the same content may have been compressed otherwise.
                let meta = Meta { layout: stored.meta.layout.clone(), ..put.meta };
                (number, PutOutcome::Refreshed, Entry { meta, frame: stored.frame.clone() })
            }
            (_, None) => return PutOutcome::ConditionFailed,
            (Some((number, _)), Some(frame)) => {
                (number, PutOutcome::Replaced, Entry { meta: put.meta, frame })
            }
            (None, Some(frame)) => {
                self.next += 1;
                (self.next, PutOutcome::Created, Entry { meta: put.meta, frame })
            }
        };
        if let Some((_, stored)) = self.results.get(&id) {
            entry.meta.created_at = entry.meta.created_at.min(stored.meta.created_at);
        }
        self.results.insert(id, (number, Arc::new(entry)));
        outcome
    }

    fn delete(&mut self, key: &Key, version: Version, condition: &Condition) -> DeleteOutcome {
        let stored = self.results.get(&key.id()).map(|(_, entry)| Arc::clone(entry));
        if !condition.holds(stored.as_ref().map(|entry| Stamp::of(&entry.meta))) {
            return DeleteOutcome::ConditionFailed;
        }
        if stored.is_none_or(|stored| stored.meta.version >= version) {
            return DeleteOutcome::Absent;
        }
        self.results.remove(&key.id());
        DeleteOutcome::Deleted
    }

    /// The lease that a holder speaks of.
    fn lease(&mut self, holder: &Holder) -> Option<&mut Lease> {
        self.leases
            .get_mut(&holder.token.key())
            .filter(|lease| lease.namespace == holder.namespace && lease.token == holder.token)
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        let leases = &mut self.content().leases;
        let key = claim.token.key();
        Ok(match Lease::grant(claim, leases.get(&key)) {
            Ok(lease) => {
                leases.insert(key, lease.clone());
                Claimed::Won(lease)
            }
            Err(held) => Claimed::Held(held),
        })
    }

    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        let mut content = self.content();
        let Some(lease) = content.lease(holder) else { return Ok(Renewed::Lost) };
        let Some(renewed) = lease.renewed(&holder.token, until) else { return Ok(Renewed::Lost) };
        lease.clone_from(&renewed);
        Ok(Renewed::Renewed(renewed))
    }

    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        Ok(self.content().lease(holder).and_then(|lease| lease.fence_of(&holder.token)))
    }

    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        let mut content = self.content();
        let held = content.lease(holder).filter(|lease| lease.state == LeaseState::Held);
        Ok(held.map(|lease| lease.state = ending.state()).is_some())
    }

    async fn revoke(&self, key: KeyId) -> Result<bool> {
        let mut content = self.content();
        let Some(lease) = content.leases.get_mut(&key) else { return Ok(false) };
        Ok(std::mem::replace(&mut lease.state, LeaseState::Released) == LeaseState::Held)
    }

    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        let content = self.content();
        Ok(keys
            .iter()
            .map(|key| content.leases.get(key).filter(|lease| lease.is_held(now)).cloned())
            .collect())
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[async_trait]
impl HostStore for MemoryStore {
    async fn counters(&self, namespace: &Namespace, host: &str) -> Result<Counters> {
        let known = self.content().hosts.get(&(namespace.clone(), host.to_owned())).copied();
        Ok(known.unwrap_or_default())
    }

    async fn observe(&self, namespace: &Namespace, host: &str, visit: Visit) -> Result<()> {
        let mut content = self.content();
        let counters = content.hosts.entry((namespace.clone(), host.to_owned())).or_default();
        *counters = counters.and(visit);
        Ok(())
    }
}

fn cursor(time: u64, number: u64) -> Vec<u8> {
    [time.to_be_bytes(), number.to_be_bytes()].concat()
}

fn read_cursor(bytes: &[u8]) -> Option<(u64, u64)> {
    let (time, number) = bytes.split_at_checked(8)?;
    Some((u64::from_be_bytes(time.try_into().ok()?), u64::from_be_bytes(number.try_into().ok()?)))
}
