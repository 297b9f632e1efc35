//! Random sequences of operations against a plain map, the clock and the sweep included.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::fixtures::{all_pages, at, document, facts, namespace};
use super::{TIER_BYTES, sqlite};
use crate::clock::Clock;
use crate::domain::{Etag, Key, Meta, Namespace, Validators, Version};
use crate::store::sqlite::SqliteStore;
use crate::store::tiered::Tiered;
use crate::store::{
    Condition, DeleteOutcome, GetOptions, ListFilter, ListOrder, ListQuery, Put, PutOutcome, ResultStore,
};

const KEYS: [(&str, &str); 3] = [("https://a/1", ""), ("https://a/1", "v"), ("https://b/1", "")];

#[derive(Clone, Copy, Debug)]
enum If {
    Any,
    Absent,
    Present,
    Matches(usize),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// `old`: with a version from before anything else.
    Put {
        key: usize,
        text: usize,
        body: bool,
        old: bool,
        life: u64,
        condition: If,
    },
    Delete {
        key: usize,
        old: bool,
        condition: If,
    },
    Get {
        key: usize,
        consistent: bool,
    },
    Lookup,
    List {
        filter: usize,
        newest: bool,
        live: bool,
        limit: usize,
    },
    Advance(u64),
    Sweep,
}

fn condition() -> impl Strategy<Value = If> {
    prop_oneof![
        5 => Just(If::Any),
        1 => Just(If::Absent),
        1 => Just(If::Present),
        2 => (0..3_usize).prop_map(If::Matches),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let put =
        (key(), 0..3_usize, prop::bool::weighted(0.75), prop::bool::weighted(0.1), 0..40_u64, condition());
    prop_oneof![
        8 => put.prop_map(|(key, text, body, old, life, condition)| Step::Put { key, text, body, old, life, condition }),
        2 => (key(), prop::bool::weighted(0.2), condition())
            .prop_map(|(key, old, condition)| Step::Delete { key, old, condition }),
        5 => (key(), prop::bool::weighted(0.3)).prop_map(|(key, consistent)| Step::Get { key, consistent }),
        1 => Just(Step::Lookup),
        3 => (0..4_usize, any::<bool>(), any::<bool>(), 1..4_usize)
            .prop_map(|(filter, newest, live, limit)| Step::List { filter, newest, live, limit }),
        3 => (1..20_u64).prop_map(Step::Advance),
        2 => Just(Step::Sweep),
    ]
}

/// One store under test with the map that says what it should hold.
struct Run<'s> {
    store: &'s dyn ResultStore,
    /// The same database, for sweeping and for looking past memory.
    database: &'s SqliteStore,
    namespace: Namespace,
    clock: Clock,
    held: HashMap<usize, (Meta, Bytes)>,
    /// What was swept from the database: memory may go on showing it until the next write of the key.
    swept: HashMap<usize, Meta>,
}

impl Run<'_> {
    fn key(&self, number: usize) -> Key {
        let (url, variant) = KEYS[number];
        Key::new(&self.namespace, url, variant).expect("a key")
    }

    fn etag(number: usize) -> Etag {
        document(&format!("text {number}")).etag
    }

    fn condition(&self, condition: If) -> Condition {
        match condition {
            If::Any => Condition::Any,
            If::Absent => Condition::Absent(self.clock.now()),
            If::Present => Condition::Present,
            If::Matches(text) => Condition::Matches(vec![Self::etag(text)]),
        }
    }

    /// Whether a condition holds, said in other words than the store's.
    fn holds(&self, key: usize, condition: If) -> bool {
        let held = self.held.get(&key).map(|(meta, _)| meta);
        match condition {
            If::Any => true,
            If::Absent => held.is_none_or(|meta| meta.expires_at < self.clock.now()),
            If::Present => held.is_some(),
            If::Matches(text) => held.is_some_and(|meta| meta.etag == Self::etag(text)),
        }
    }

    fn version(&self, old: bool) -> Version {
        if old { Version::first_of(at(1)) } else { self.clock.next_version() }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Put { key, text, body, old, life, condition } => {
                self.put(key, text, body, old, life, condition).await;
            }
            Step::Delete { key, old, condition } => self.delete(key, old, condition).await,
            Step::Get { key, consistent } => self.get(key, consistent).await,
            Step::Lookup => self.lookup().await,
            Step::List { filter, newest, live, limit } => self.list(filter, newest, live, limit).await,
            Step::Advance(seconds) => self.clock.set(self.clock.now().plus_secs(seconds)),
            Step::Sweep => self.sweep().await,
        }
    }

    async fn put(&mut self, key: usize, text: usize, body: bool, old: bool, life: u64, condition: If) {
        let (encoded, now) = (document(&format!("text {text}")), self.clock.now());
        let meta = Meta {
            key: self.key(key),
            version: self.version(old),
            etag: encoded.etag,
            created_at: now,
            updated_at: now,
            expires_at: now.plus_secs(life),
            status_code: Some(200),
            success: None,
            validators: Validators { etag: Some(life.to_string()), ..Validators::default() },
            layout: encoded.layout,
        };
        let put = Put {
            meta: meta.clone(),
            frame: body.then(|| encoded.frame.clone()),
            condition: self.condition(condition),
        };
        let expected = match self.held.get(&key) {
            _ if !self.holds(key, condition) => PutOutcome::ConditionFailed,
            Some((held, _)) if held.version >= meta.version => PutOutcome::Superseded,
            Some((held, _)) if held.etag == meta.etag => PutOutcome::Refreshed,
            _ if !body => PutOutcome::ConditionFailed,
            Some(_) => PutOutcome::Replaced,
            None => PutOutcome::Created,
        };
        assert_eq!(self.store.put(put).await.expect("a put"), expected, "{}", self.store);
        if expected != PutOutcome::Superseded {
            self.swept.remove(&key);
        }
        if matches!(expected, PutOutcome::Created | PutOutcome::Replaced | PutOutcome::Refreshed) {
            let created_at = self.held.get(&key).map_or(now, |(held, _)| held.created_at);
            self.held.insert(key, (Meta { created_at, ..meta }, encoded.frame));
        }
    }

    async fn delete(&mut self, key: usize, old: bool, condition: If) {
        let version = self.version(old);
        let held = self.held.get(&key).map(|(meta, _)| meta.version);
        let expected = if !self.holds(key, condition) {
            DeleteOutcome::ConditionFailed
        } else if held.is_some_and(|held| held < version) {
            DeleteOutcome::Deleted
        } else {
            DeleteOutcome::Absent
        };
        let outcome = self.store.delete(&self.key(key), version, self.condition(condition)).await;
        assert_eq!(outcome.expect("a delete"), expected, "{}", self.store);
        self.swept.remove(&key);
        if expected == DeleteOutcome::Deleted {
            self.held.remove(&key);
        }
    }

    /// Whether an answer is what is held, or what memory may still show of what was swept.
    fn check(&self, key: usize, answer: Option<&Meta>, consistent: bool) {
        let held = self.held.get(&key).map(|(meta, _)| facts(meta));
        let answer = answer.map(facts);
        if answer != held {
            let excused = !consistent && held.is_none() && answer == self.swept.get(&key).map(facts);
            assert!(excused, "{}: key {key} shows {answer:?} and not {held:?}", self.store);
        }
    }

    async fn get(&mut self, key: usize, consistent: bool) {
        let hit = self.store.get(&self.key(key), GetOptions::consistent(consistent)).await.expect("a get");
        self.check(key, hit.as_ref().map(|hit| &hit.entry.meta), consistent);
        if let (Some(hit), Some((_, frame))) = (hit, self.held.get(&key)) {
            assert_eq!(hit.entry.frame, *frame, "{}", self.store);
        }
        if consistent {
            self.swept.remove(&key);
        }
    }

    async fn lookup(&mut self) {
        let keys: Vec<Key> = (0..KEYS.len()).map(|number| self.key(number)).collect();
        let metas = self.store.get_metas(&keys).await.expect("metas");
        assert_eq!(metas.len(), keys.len(), "{}", self.store);
        for (number, meta) in metas.iter().enumerate() {
            self.check(number, meta.as_ref(), false);
        }
    }

    async fn list(&mut self, filter: usize, newest: bool, live: bool, limit: usize) {
        let filter = match filter {
            0 => ListFilter::All,
            1 => ListFilter::Host("a".to_owned()),
            2 => ListFilter::Prefix("https://b/".to_owned()),
            _ => ListFilter::Url("https://a/1".to_owned()),
        };
        let query = ListQuery {
            filter,
            live_at: live.then(|| self.clock.now()),
            order: if newest { ListOrder::Newest } else { ListOrder::Oldest },
            ..ListQuery::all(&self.namespace, limit)
        };
        let metas = all_pages(self.store, &query).await;
        let ordered = metas.is_sorted_by(|a, b| {
            if newest { a.updated_at >= b.updated_at } else { a.updated_at <= b.updated_at }
        });
        assert!(ordered, "{}: {query:?}", self.store);
        let mut listed: Vec<String> = metas.iter().map(facts).collect();
        let url = |meta: &Meta| match &query.filter {
            ListFilter::All => true,
            ListFilter::Host(host) => meta.key.url().starts_with(&format!("https://{host}/")),
            ListFilter::Prefix(prefix) => meta.key.url().starts_with(prefix),
            ListFilter::Url(url) => meta.key.url() == url,
        };
        let lives = |meta: &Meta| !live || meta.expires_at >= self.clock.now();
        let held = self.held.values().map(|(meta, _)| meta);
        let mut expected: Vec<String> = held.filter(|meta| url(meta) && lives(meta)).map(facts).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{}: {query:?}", self.store);
    }

    /// Sweeps all that has expired, and nothing else.
    async fn sweep(&mut self) {
        let now = self.clock.now();
        while self.database.sweep_batch(now, now).await.expect("a sweep").is_full() {}
        let expired: Vec<usize> =
            self.held.iter().filter(|(_, (meta, _))| meta.expires_at < now).map(|(key, _)| *key).collect();
        for key in expired {
            self.swept.extend(self.held.remove(&key).map(|(meta, _)| (key, meta)));
        }
        for key in 0..KEYS.len() {
            let found =
                ResultStore::get(self.database, &self.key(key), GetOptions::default()).await.expect("a get");
            self.check(key, found.map(|hit| hit.entry.meta.clone()).as_ref(), true);
        }
    }
}

/// Runs many sequences on one store, each in a namespace of its own.
fn hold_against_a_map(compose: impl Fn(&SqliteStore) -> Arc<dyn ResultStore>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (database, _directory) = sqlite();
    let store = compose(&database);
    let runs = AtomicUsize::new(0);
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        let mut run = Run {
            store: &*store,
            database: &database,
            namespace: namespace(&format!("run-{}", runs.fetch_add(1, Ordering::Relaxed))),
            clock: Clock::manual(at(1000)),
            held: HashMap::new(),
            swept: HashMap::new(),
        };
        runtime.block_on(async {
            for step in steps {
                run.step(step).await;
            }
        });
    });
}

#[test]
fn sqlite_is_a_map() {
    hold_against_a_map(|database| Arc::new(database.clone()));
}

#[test]
fn tiered_sqlite_is_a_map() {
    hold_against_a_map(|database| Arc::new(Tiered::new(Arc::new(database.clone()), TIER_BYTES)));
}
