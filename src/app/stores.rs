//! The one place where stores are put together.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::api;
use crate::clock::Clock;
use crate::config::{Backend, Config};
use crate::jobs::Sides;
use crate::metrics::Metrics;
use crate::store::circuit::Circuit;
use crate::store::dynamodb::{self, Aws, Bucket, DynamodbResults, DynamodbSessions, Tables};
use crate::store::metered::{Metered, MeteredLeases};
use crate::store::routed::policy::Routing;
use crate::store::routed::remote::Remote;
use crate::store::routed::{self, Routed};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::tiered::{Tiered, Trust};
use crate::store::{Error, HostStore, LeaseStore, ResultStore, SessionStore};
use tokio_util::sync::CancellationToken;

/// How long after a start the tables are checked again that were not right.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How long a start waits for its tables.
const PATIENCE: Duration = Duration::from_secs(5);

/// The stores of a service.
#[derive(Debug)]
pub(super) struct Stores {
    /// Where results are.
    pub(super) results: Arc<dyn ResultStore>,
    /// Where sessions are.
    pub(super) sessions: Arc<dyn SessionStore>,
    /// Where leases are.
    pub(super) leases: Arc<dyn LeaseStore>,
    /// What is known of hosts.
    pub(super) hosts: Arc<dyn HostStore>,
    /// The memory tier, if there is one.
    pub(super) memory: Option<Tiered>,
    /// The database of this process, where there is one: it is swept and closed.
    pub(super) database: Option<SqliteStore>,
    /// The router, where there is one.
    pub(super) routed: Option<Routed>,
    /// Both sides past the router, for long work, where there is one.
    pub(super) sides: Option<Sides>,
    /// The bucket for large bodies beside the tables, where there is one.
    pub(super) bucket: Option<Bucket>,
    /// What is yet to be found right about DynamoDB before the router uses it.
    pub(super) unchecked: Option<Unchecked>,
    /// The only backend; `None` where a router knows several.
    alone: Option<api::Backend>,
}

impl Stores {
    /// Opens what the configuration asks for.
    pub(super) async fn open(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Self, StartError> {
        match config.store.backend {
            Backend::Sqlite => embedded(config, clock, metrics).await,
            Backend::Dynamodb => shared(config, clock, metrics).await,
            Backend::Routed => routed(config, clock, metrics).await,
        }
    }

    /// The backends, one or both.
    pub(super) fn backends(&self) -> Vec<api::Backend> {
        let both = self.routed.iter().flat_map(api::Backend::both);
        both.chain(self.alone.clone()).collect()
    }

    /// Finishes the writes under way and closes what is open.
    pub(super) async fn close(&self) {
        if let Some(memory) = &self.memory {
            memory.close().await;
        }
        if let Some(routed) = &self.routed {
            routed.close().await;
        }
        if let Some(database) = &self.database {
            database.close().await;
        }
    }
}

/// How the database of this process is opened.
fn options(config: &Config) -> sqlite::Options {
    sqlite::Options {
        data_dir: config.server.data_dir.clone(),
        readers: config.sqlite.readers,
        cache_bytes: config.sqlite.cache_bytes,
        max_bytes: config.sqlite.max_bytes,
        queue: config.sqlite.queue,
        encryption_key: config.sessions.keys(),
        // Longer than anything can live that they have to stop, sessions included.
        tombstone_seconds: config
            .results
            .max_ttl_seconds
            .saturating_add(config.results.keep_stale_seconds)
            .max(crate::domain::session::MAX_TTL_SECONDS),
        outbox_rows: config.routing.outbox_rows,
        is_routed: false,
    }
}

/// How it is opened beside DynamoDB.
pub(super) fn options_beside(config: &Config) -> sqlite::Options {
    sqlite::Options { is_routed: true, ..options(config) }
}

/// Everything in a file of this process.
async fn embedded(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Stores, StartError> {
    let backend = sqlite::BACKEND;
    let database = SqliteStore::open(&options(config), clock, metrics)?;
    if database.waits_for_router() {
        let outbox = database.outbox_status().await.map_err(StartError::Routing)?;
        tracing::warn!(
            queued = outbox.queued,
            parked = outbox.parked,
            "a router over this database and DynamoDB was here: what only DynamoDB has is not seen, what waits for it waits \
             until a router is back, and deletions are remembered until then"
        );
    }
    let metered: Arc<dyn ResultStore> =
        Arc::new(Metered::results(Arc::new(database.clone()), metrics, backend));
    let sessions: Arc<dyn SessionStore> =
        Arc::new(Metered::sessions(Arc::new(database.clone()), metrics, backend));
    let alone = alone(backend, &metered, &sessions);
    let memory = (config.memory.bytes > 0).then(|| Tiered::new(Arc::clone(&metered), config.memory.bytes));
    if let Some(memory) = &memory {
        // What sweep and eviction remove must not live on in memory, where no listing and so no purge would find it.
        let first = database.on_removed(memory.forgetter());
        debug_assert!(first, "nobody else was given the store yet");
    }
    let results = in_front(memory.as_ref(), metered);
    Ok(Stores {
        results,
        sessions,
        leases: Arc::new(MeteredLeases::new(Arc::new(database.clone()), metrics, backend)),
        hosts: Arc::new(database.clone()),
        memory,
        database: Some(database),
        routed: None,
        sides: None,
        bucket: None,
        unchecked: None,
        alone: Some(alone),
    })
}

/// Everything in DynamoDB, which other instances write to as well.
async fn shared(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Stores, StartError> {
    check_outbox(config)?;
    let aws = Aws::connect(&config.dynamodb, &config.s3, metrics).await;
    check_tables(&aws, config).await?;
    let (results, sessions) = in_dynamodb(aws, config, clock, metrics);
    let bucket = results.bucket().cloned();
    let leases = MeteredLeases::new(Arc::new(results.clone()), metrics, dynamodb::BACKEND);
    let (metered, sessions) = metered(&results, &sessions, metrics);
    let hosts = Arc::new(results);
    let alone = alone(dynamodb::BACKEND, &metered, &sessions);
    let memory = (config.memory.bytes > 0)
        .then(|| Tiered::shared(Arc::clone(&metered), config.memory.bytes, trust(config, Some(metrics))));
    let results = in_front(memory.as_ref(), metered);
    Ok(Stores {
        results,
        sessions,
        leases: Arc::new(leases),
        hosts,
        memory,
        database: None,
        routed: None,
        sides: None,
        bucket,
        unchecked: None,
        alone: Some(alone),
    })
}

/// Refuses to leave acknowledged writes behind without a word of consent: a service that knows only DynamoDB does not see
/// what waits for it in a database.
fn check_outbox(config: &Config) -> Result<(), StartError> {
    let (rows, path) = match sqlite::left_in(&config.server.data_dir) {
        Ok(None | Some((0, _))) => return Ok(()),
        Ok(Some(left)) => left,
        Err(error) => {
            tracing::warn!(%error, "whether writes for DynamoDB wait in the data directory cannot be seen");
            return Ok(());
        }
    };
    if !config.store.abandon_outbox {
        return Err(StartError::Outbox { rows, path });
    }
    tracing::warn!(rows, path = %path.display(), "acknowledged writes that DynamoDB has yet to get are left behind");
    Ok(())
}

/// Both, with a router that knows who owns what.
async fn routed(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Stores, StartError> {
    let database = SqliteStore::open(&options_beside(config), clock, metrics)?;
    let aws = Aws::connect(&config.dynamodb, &config.s3, metrics).await;
    let (tables, create) = (Tables::new(aws.clone(), &config.dynamodb), config.dynamodb.create_tables);
    let checked = in_time(prepare(&tables, create)).await;
    let (results, sessions) = in_dynamodb(aws, config, clock, metrics);
    let bucket = results.bucket().cloned();
    let (remote_results, remote_sessions) = metered(&results, &sessions, metrics);
    let remote_leases = MeteredLeases::new(Arc::new(results.clone()), metrics, dynamodb::BACKEND);
    let local_leases = MeteredLeases::new(Arc::new(database.clone()), metrics, sqlite::BACKEND);
    let keep_stale = config.results.keep_stale_seconds;
    let mut sides =
        Sides::new(database.clone(), results, sessions, clock.clone(), metrics.clone(), keep_stale);
    let settings = &config.routing;
    let circuit =
        Circuit::new(dynamodb::BACKEND, settings.circuit_failures, settings.circuit_pause(), metrics);
    // The way back must not depend on DynamoDB: whatever is wrong with it, the service starts without.
    let unchecked = checked.err().map(|error| {
        tracing::warn!(%error, "DynamoDB is left alone until its tables are found right");
        circuit.hold(&error);
        Unchecked { tables, create, circuit: circuit.clone(), longest_pause: settings.circuit_pause() }
    });
    let routing = Routing::open(&database, settings.configured(), settings.pinned(), metrics)
        .await
        .map_err(StartError::Routing)?;
    let local_results: Arc<dyn ResultStore> =
        Arc::new(Metered::results(Arc::new(database.clone()), metrics, sqlite::BACKEND));
    let local_sessions: Arc<dyn SessionStore> =
        Arc::new(Metered::sessions(Arc::new(database.clone()), metrics, sqlite::BACKEND));
    let routed = Routed::new(routed::Parts {
        database: database.clone(),
        local_results,
        local_sessions,
        remote: Remote {
            results: remote_results,
            sessions: remote_sessions,
            circuit,
            owner_patience: settings.owner_patience(),
            other_patience: settings.other_patience(),
        },
        routing: routing.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    });
    let behind: Arc<dyn ResultStore> = Arc::new(routed.clone());
    let memory = (config.memory.bytes > 0)
        .then(|| Tiered::shared(Arc::clone(&behind), config.memory.bytes, trust(config, None)));
    if let Some(memory) = &memory {
        let first = database.on_removed(memory.forgetter()) && routed.on_changed(memory.forgetter());
        debug_assert!(first, "nobody else was given the stores yet");
        sides = sides.on_changed(memory.forgetter());
        // Who owns what has changed, and with it whom a copy can be trusted to.
        let copies = memory.forgetter_of_all();
        routing.on_change(move |_| copies());
    }
    let sessions = Arc::new(routed.sessions());
    let leases = Arc::new(routed.leases(Arc::new(local_leases), Arc::new(remote_leases)));
    let results = in_front(memory.as_ref(), behind);
    Ok(Stores {
        results,
        sessions,
        leases,
        hosts: Arc::new(database.clone()),
        memory,
        database: Some(database),
        routed: Some(routed),
        sides: Some(sides),
        bucket,
        unchecked,
        alone: None,
    })
}

fn alone(
    name: &'static str,
    results: &Arc<dyn ResultStore>,
    sessions: &Arc<dyn SessionStore>,
) -> api::Backend {
    api::Backend { name, results: Arc::clone(results), sessions: Arc::clone(sessions) }
}

/// How long copies in memory answer of what DynamoDB has. A router has a circuit of its own; without one the tier gets it,
/// with these metrics.
fn trust(config: &Config, metrics: Option<&Metrics>) -> Trust {
    let settings = &config.routing;
    let circuit = |metrics| {
        Circuit::new(dynamodb::BACKEND, settings.circuit_failures, settings.circuit_pause(), metrics)
    };
    Trust {
        trust: config.memory.trust(),
        outage: config.memory.outage(),
        circuit: metrics.map(|metrics| (circuit(metrics), config.dynamodb.attempt_timeout())),
    }
}

/// What keeps a router from using DynamoDB until its tables are found right.
#[derive(Debug)]
pub(super) struct Unchecked {
    tables: Tables,
    create: bool,
    circuit: Circuit,
    longest_pause: Duration,
}

impl Unchecked {
    /// Checks them, and makes them where that is asked for, again and again until they are right or `stop` is cancelled.
    pub(super) async fn until_right(self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let Some(checked) = stop.run_until_cancelled(prepare(&self.tables, self.create)).await else {
                return;
            };
            match checked {
                Ok(()) => {
                    tracing::info!("the tables in DynamoDB are right: it is used from now on");
                    return self.circuit.release();
                }
                Err(error) => {
                    tracing::debug!(%error, "DynamoDB is still left alone");
                    // What is wrong may be something else by now.
                    self.circuit.hold(&error);
                }
            }
            pause = (pause * 2).min(self.longest_pause);
        }
    }
}

/// The tables of DynamoDB.
fn in_dynamodb(
    aws: Aws,
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
) -> (DynamodbResults, DynamodbSessions) {
    let results = DynamodbResults::new(aws.clone(), config, clock, metrics);
    (results, DynamodbSessions::new(aws, config, clock, metrics))
}

fn metered(
    results: &DynamodbResults,
    sessions: &DynamodbSessions,
    metrics: &Metrics,
) -> (Arc<dyn ResultStore>, Arc<dyn SessionStore>) {
    (
        Arc::new(Metered::results(Arc::new(results.clone()), metrics, dynamodb::BACKEND)),
        Arc::new(Metered::sessions(Arc::new(sessions.clone()), metrics, dynamodb::BACKEND)),
    )
}

/// Makes and checks the tables, as far as DynamoDB says anything.
async fn check_tables(aws: &Aws, config: &Config) -> Result<(), StartError> {
    match in_time(prepare(&Tables::new(aws.clone(), &config.dynamodb), config.dynamodb.create_tables)).await {
        Ok(()) => Ok(()),
        // It may come back, and until then the service says that it is not ready.
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, "the tables could not be checked: starting without");
            Ok(())
        }
        Err(error) => Err(StartError::Tables(error)),
    }
}

/// A backend that says nothing must not keep the service from saying that it lives.
pub(super) async fn in_time(prepare: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(PATIENCE, prepare).await.unwrap_or_else(|_| {
        let detail = format!("nothing was said of the tables within {} s", PATIENCE.as_secs());
        Err(Error::Timeout { backend: dynamodb::BACKEND, detail })
    })
}

/// Makes missing tables, if asked for, and checks that they can be used.
pub(super) async fn prepare(tables: &Tables, create: bool) -> Result<(), Error> {
    if create {
        Box::pin(tables.create_missing()).await?;
    }
    Box::pin(tables.ready()).await
}

fn in_front(memory: Option<&Tiered>, store: Arc<dyn ResultStore>) -> Arc<dyn ResultStore> {
    match memory {
        Some(memory) => Arc::new(memory.clone()),
        None => store,
    }
}
