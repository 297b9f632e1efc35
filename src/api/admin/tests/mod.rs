//! The routes of operators, asked through the router: a real database, and stand-ins for what is far away.

mod beside;
mod clock;
mod flaky;
mod going;
mod routing;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::testing::{Answer, T0, ask, tokens};
use crate::api::{self, Api, Backend, Parts};
use crate::auth::Scopes;
use crate::clock::{Clock, ClockGuard};
use crate::config::Config;
use crate::domain::Timestamp;
use crate::domain::routing::{Force, Policy};
use crate::metrics::Metrics;
use crate::store::circuit::Circuit;
use crate::store::metered::Metered;
use crate::store::recent::Recent;
use crate::store::routed::policy::Routing;
use crate::store::routed::remote::Remote;
use crate::store::routed::{self, Routed};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{ResultStore, SessionStore};
use flaky::{Flaky, Hand};

const ROUTING: &str = "/v1/admin/routing";

/// A service over both stores.
struct Service {
    router: Router,
    routed: Routed,
    clock: Clock,
    metrics: Metrics,
    remote: Flaky,
    hand: Arc<Hand>,
    token: Option<String>,
    _directory: TempDir,
}

impl Service {
    async fn new() -> Self {
        Self::with(None, &[]).await.0
    }

    async fn pinned(force: Force) -> Self {
        Self::with(Some((force, "FORCE_SQLITE".to_owned())), &[]).await.0
    }

    /// With tokens of these scopes; the texts are in the same order.
    async fn with(pinned: Option<(Force, String)>, scopes: &[Scopes]) -> (Self, Vec<String>) {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Clock::manual(Timestamp::from_secs(T0));
        let (metrics, remote) = (Metrics::new(), Flaky::default());
        let options = Options {
            data_dir: directory.path().to_owned(),
            readers: 1,
            cache_bytes: 1 << 20,
            max_bytes: 0,
            queue: 64,
            encryption_key: crate::config::EncryptionKey::default(),
            tombstone_seconds: 3600,
            outbox_rows: 1000,
            is_routed: true,
        };
        let database = SqliteStore::open(&options, &clock, &metrics).expect("opens");
        let routing = Routing::open(&database, Policy::default(), pinned, &metrics).await.expect("a policy");
        let results = |store: Arc<dyn ResultStore>, name| -> Arc<dyn ResultStore> {
            Arc::new(Metered::results(store, &metrics, name))
        };
        let sessions = |store: Arc<dyn SessionStore>, name| -> Arc<dyn SessionStore> {
            Arc::new(Metered::sessions(store, &metrics, name))
        };
        let routed = Routed::new(routed::Parts {
            local_results: results(Arc::new(database.clone()), "sqlite"),
            local_sessions: sessions(Arc::new(database.clone()), "sqlite"),
            remote: Remote {
                results: results(Arc::new(remote.clone()), "dynamodb"),
                sessions: sessions(Arc::new(remote.clone()), "dynamodb"),
                circuit: Circuit::new("dynamodb", 5, Duration::from_mins(1), &metrics),
                owner_patience: Duration::from_secs(1),
                other_patience: Duration::from_secs(1),
            },
            database,
            routing,
            clock: clock.clone(),
            metrics: metrics.clone(),
        });
        let (tokens, texts) = tokens(scopes);
        let hand = Arc::new(Hand::default());
        let parts = Parts {
            config: Config::default(),
            clock: clock.clone(),
            clock_guard: Some(ClockGuard::new(&clock, None)),
            metrics: metrics.clone(),
            results: Arc::new(routed.clone()),
            sessions: Arc::new(routed.sessions()),
            leases: Arc::new(crate::store::memory::MemoryStore::new()),
            hosts: Arc::new(crate::store::memory::MemoryStore::new()),
            memory: None,
            tokens,
            backends: Backend::both(&routed),
            bucket: None,
            recent: Some(Recent::new(&metrics, "dynamodb", None, Instant::now())),
            routed: Some(routed.clone()),
            worker: Some(Arc::<Hand>::clone(&hand)),
        };
        let service = api::router(Api::new(parts));
        let token = texts.first().cloned();
        (Self { router: service, routed, clock, metrics, remote, hand, token, _directory: directory }, texts)
    }

    fn at(&self, second: u64) {
        self.clock.set(Timestamp::from_secs(T0 + second));
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(&self.router, self.token.as_deref(), (method, path), headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path, &[], &body.to_string()).await
    }

    /// Changes members of the policy, which must work.
    async fn set(&self, patch: Value) -> Value {
        self.send("PATCH", ROUTING, patch).await.is(200).body
    }
}
