//! What every handler shares.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::Semaphore;

use super::answers::Answers;
use super::damaged::Damaged;
use super::leases::Hub;
use super::request_id::RequestIds;
use super::sessions::Turns;
use super::worker::Worker;
use crate::auth::Watched;
use crate::clock::{Clock, ClockGuard};
use crate::config::Config;
use crate::domain::quality::Guard;
use crate::domain::routing::Side;
use crate::domain::{Key, KeyError, Namespace};
use crate::metrics::Metrics;
use crate::store::dynamodb::Bucket;
use crate::store::recent::Recent;
use crate::store::routed::Routed;
use crate::store::tiered::Tiered;
use crate::store::{HostStore, LeaseStore, ResultStore, SessionStore};

/// The pieces that the service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// Whether the time is believed where it removes something; nothing where nothing is removed by this process.
    pub clock_guard: Option<ClockGuard>,
    /// The metrics.
    pub metrics: Metrics,
    /// Where results are.
    pub results: Arc<dyn ResultStore>,
    /// Where sessions are.
    pub sessions: Arc<dyn SessionStore>,
    /// Who fetches what.
    pub leases: Arc<dyn LeaseStore>,
    /// What is known of hosts.
    pub hosts: Arc<dyn HostStore>,
    /// The memory tier, if there is one, for its size.
    pub memory: Option<Tiered>,
    /// The tokens.
    pub tokens: Arc<Watched>,
    /// The backends behind them.
    pub backends: Vec<Backend>,
    /// The bucket for large bodies beside the tables, where there is one.
    pub bucket: Option<Bucket>,
    /// The router over two backends, where there is one.
    pub routed: Option<Routed>,
    /// How the backend did lately that a router may move keys to.
    pub recent: Option<Recent>,
    /// Who does long work.
    pub worker: Option<Arc<dyn Worker>>,
}

/// A place where results and sessions are kept.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: &'static str,
    /// Its results.
    pub results: Arc<dyn ResultStore>,
    /// Its sessions.
    pub sessions: Arc<dyn SessionStore>,
}

impl Backend {
    /// Both of those that a router knows.
    pub fn both(routed: &Routed) -> Vec<Self> {
        let parts = routed.parts();
        let (local, remote) = (&parts.local_results, &parts.remote);
        let backend = |side: Side, results: &Arc<dyn ResultStore>, sessions: &Arc<dyn SessionStore>| Self {
            name: side.as_str(),
            results: Arc::clone(results),
            sessions: Arc::clone(sessions),
        };
        vec![
            backend(Side::Sqlite, local, &parts.local_sessions),
            backend(Side::Dynamodb, &remote.results, &remote.sessions),
        ]
    }
}

/// What every handler shares. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Api(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) answers: Answers,
    /// What reads have found damaged.
    pub(super) damaged: Damaged,
    /// Tells good results from failed ones.
    pub(super) guard: Guard,
    /// KiB that request bodies may still take.
    pub(super) body_memory: Arc<Semaphore>,
    pub(super) session_turns: Turns,
    /// Who waits for leases.
    pub(super) hub: Hub,
    pub(super) in_flight: AtomicU64,
    pub(super) request_ids: RequestIds,
    pub(super) started: std::time::Instant,
}

impl std::ops::Deref for Api {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl Api {
    /// Assembles the service.
    pub fn new(parts: Parts) -> Self {
        let answers = Answers::new(parts.config.memory.decoded_bytes);
        let body_memory = Arc::new(Semaphore::new(parts.config.limits.body_memory_bytes.div_ceil(1024)));
        let results = &parts.config.results;
        let guard = Guard::new(results.guard, results.failed_statuses.clone(), &results.block_markers)
            .expect("the configuration bounds the markers, and a test searches for as many");
        // At most half of the connections: those who store what others wait for need some, too.
        let waiters = parts.config.leases.max_waiters.min(parts.config.limits.connections / 2);
        Self(Arc::new(Shared {
            answers,
            damaged: Damaged::default(),
            guard,
            body_memory,
            session_turns: Turns::new(),
            hub: Hub::new(waiters),
            in_flight: AtomicU64::new(0),
            request_ids: RequestIds::new(),
            started: std::time::Instant::now(),
            parts,
        }))
    }

    /// The result of a look-up that a backend itself answered: the one that owns the key.
    pub(super) fn lookup_hit(&self, key: &Key) -> &'static str {
        let owner = match &self.routed {
            Some(routed) => routed.parts().routing.current().policy.owner(key.id().bucket()).as_str(),
            None => self.backends.first().map_or("", |backend| backend.name),
        };
        if owner == Side::Dynamodb.as_str() { "hit_dynamodb" } else { "hit_sqlite" }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Tells good results from failed ones.
    pub(super) fn guard(&self) -> &Guard {
        &self.0.guard
    }

    /// The key of a (good) result, with the url in the configured form.
    pub(super) fn key(
        &self,
        namespace: &Namespace,
        url: &str,
        variant: Option<&str>,
    ) -> super::problem::Result<Key> {
        let url = self.config.results.canonical_urls.apply(url)?;
        let key = Key::new(namespace, &url, variant.unwrap_or_default())?;
        // Only stores name failed results by their keys.
        if key.is_failed() { Err(KeyError::VariantCharacter.into()) } else { Ok(key) }
    }
}
