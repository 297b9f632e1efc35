//! Composes the service from a configuration, and runs it until it is told to stop.

mod sides;
mod stores;
mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;

use crate::api::{Api, Parts, Worker, server};
use crate::auth::{AuthError, Watched};
use crate::clock::{Clock, ClockGuard};
use crate::config::Config;
use crate::jobs::Supervisor;
use crate::jobs::relay::{self, Relay};
use crate::jobs::runner::Runner;
use crate::jobs::sample;
use crate::jobs::sweep::Sweep;
use crate::jobs::tokens;
use crate::metrics::Metrics;
use crate::store;
use crate::store::dynamodb;
use crate::store::recent::Recent;
use crate::store::sqlite::OpenError;
use stores::Stores;
use worker::LongWork;

pub use sides::{Opened, open_sides};

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The tables in DynamoDB are not what they must be.
    #[error("cannot start on DynamoDB: {0}")]
    Tables(store::Error),
    /// When the database was last in use cannot be read.
    #[error("cannot read when the database was last in use: {0}")]
    Heartbeat(store::Error),
    /// Acknowledged writes would be left behind.
    #[error(
        "{rows} acknowledged writes wait in {path} that DynamoDB has yet to get, and a service with store.backend = \
         \"dynamodb\" does not see them: start it with \"routed\" until `crawlcache outbox` lists nothing, or accept that \
         they are left behind with --set store.abandon_outbox=true", path = path.display()
    )]
    Outbox {
        /// How many.
        rows: u64,
        /// The database.
        path: PathBuf,
    },
    /// The policy by which keys are spread over the stores cannot be read.
    #[error("cannot read the routing policy: {0}")]
    Routing(store::Error),
    /// What is known of long work cannot be read.
    #[error("cannot read what is known of migrations and verifications: {0}")]
    Work(store::Error),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] AuthError),
    /// Everybody could reach a service that asks nobody for a token.
    #[error(
        "{0} can be reached from other hosts and no token is configured: create one with `crawlcache token create`, \
         listen on a loopback address, or accept the risk with --insecure"
    )]
    Open(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A composed service that listens but does not serve yet.
#[derive(Debug)]
pub struct App {
    api: Api,
    listener: TcpListener,
    address: SocketAddr,
    stores: Stores,
    runner: Option<Runner>,
    supervisor: Supervisor,
}

impl App {
    /// Opens the store, reads the tokens and takes the address.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let mut stores = Stores::open(&config, &clock, &metrics).await?;
        let tokens = Arc::new(Watched::open(&config.tokens_path())?);
        let address = config.server.listen;
        if tokens.keyring().is_empty() && !config.server.is_loopback() && !config.server.insecure {
            return Err(StartError::Open(address));
        }
        let listening = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;

        let supervisor = Supervisor::new();
        let clock_guard = match &stores.database {
            Some(database) => {
                let last_seen = database.heartbeat().await.map_err(StartError::Heartbeat)?;
                Some(ClockGuard::new(&clock, last_seen))
            }
            None => None,
        };
        if let Some((database, guard)) = stores.database.as_ref().zip(clock_guard.clone()) {
            let sweep = Sweep {
                store: database.clone(),
                guard,
                metrics: metrics.clone(),
                keep_stale_seconds: config.results.keep_stale_seconds,
            };
            supervisor.spawn("sweep", sweep.run(config.sqlite.sweep_interval(), supervisor.stop_signal()));
        }
        if let Some(routed) = &stores.routed {
            let concurrency = config.routing.relay_concurrency;
            let relay = Relay { routed: routed.clone(), concurrency };
            supervisor.spawn("relay", relay.run(supervisor.stop_signal()));
            supervisor.spawn("watch", relay::watch(routed.clone(), supervisor.stop_signal()));
        }
        if let Some(unchecked) = stores.unchecked.take() {
            supervisor.spawn("tables", unchecked.until_right(supervisor.stop_signal()));
        }
        let behind = stores.bucket.as_ref().map(|_| dynamodb::S3);
        let recent =
            stores.routed.as_ref().map(|_| Recent::new(&metrics, dynamodb::BACKEND, behind, Instant::now()));
        if let Some(recent) = &recent {
            supervisor.spawn("sample", sample::run(recent.clone(), supervisor.stop_signal()));
        }
        let runner = runner(&stores, &supervisor).await?;
        supervisor.spawn("tokens", tokens::run(Arc::clone(&tokens), supervisor.stop_signal()));
        let parts = Parts {
            config,
            clock,
            clock_guard,
            metrics,
            results: Arc::clone(&stores.results),
            sessions: Arc::clone(&stores.sessions),
            leases: Arc::clone(&stores.leases),
            hosts: Arc::clone(&stores.hosts),
            memory: stores.memory.clone(),
            tokens,
            backends: stores.backends(),
            bucket: stores.bucket.clone(),
            routed: stores.routed.clone(),
            recent,
            worker: stores
                .routed
                .clone()
                .zip(runner.clone())
                .map(|(routed, runner)| -> Arc<dyn Worker> { Arc::new(LongWork { runner, routed }) }),
        };
        Ok(Self { api: Api::new(parts), listener, address, stores, runner, supervisor })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What handlers share: whoever asks the service without a network makes a router of it.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// What to tell whoever started it.
    pub fn summary(&self) -> Summary {
        Summary {
            address: self.address,
            data_dir: self.api.config.server.data_dir.clone(),
            store: self.api.results.to_string(),
            tokens: self.api.tokens.keyring().token_count(),
        }
    }

    /// Serves until `stop` resolves, then drains requests, flushes the writer and closes the store.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.supervisor.stop_signal();
        self.supervisor.spawn("signal", {
            let stopping = stopping.clone();
            async move {
                tokio::select! {
                    () = stop => stopping.cancel(),
                    () = stopping.cancelled() => {}
                }
            }
        });
        if !server::serve(self.api, self.listener, stopping).await {
            tracing::warn!("some requests did not finish in time and were cut off");
        }
        self.supervisor.shut_down().await;
        if let Some(runner) = &self.runner {
            runner.close().await;
        }
        self.stores.close().await;
        tracing::info!("stopped");
    }
}

/// Who does long work on both stores; what the end of the last process has interrupted goes on.
async fn runner(stores: &Stores, supervisor: &Supervisor) -> Result<Option<Runner>, StartError> {
    let Some(sides) = stores.sides.clone() else { return Ok(None) };
    let runner = Runner::open(sides, supervisor.stop_signal()).await.map_err(StartError::Work)?;
    let resuming = runner.clone();
    supervisor.spawn("resume", async move {
        if let Err(error) = resuming.resume().await {
            tracing::warn!(%error, "the migration that was interrupted does not go on");
        }
    });
    Ok(Some(runner))
}

/// What a start comes to, in a few readable lines.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The composed store.
    pub store: String,
    /// How many tokens there are.
    pub tokens: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        let data_dir = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let tokens = match self.tokens {
            0 => "none, open to this host".to_owned(),
            count => count.to_string(),
        };
        writeln!(f, "crawlcache {version} listens on http://{}", self.address)?;
        writeln!(f, "  data    {}", data_dir.display())?;
        writeln!(f, "  store   {}", self.store)?;
        writeln!(f, "  tokens  {tokens}")?;
        write!(f, "  docs    http://{}/docs", self.address)
    }
}
