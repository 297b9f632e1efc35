//! The one place where stores are put together.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::clock::Clock;
use crate::config::{Backend, Config};
use crate::metrics::Metrics;
use crate::store::dynamodb::{self, Aws, DynamodbResults, DynamodbSessions, Tables};
use crate::store::metered::Metered;
use crate::store::sqlite::{self, SqliteStore};
use crate::store::tiered::Tiered;
use crate::store::{Error, ResultStore, SessionStore};

/// How long a start waits for its tables.
const PATIENCE: Duration = Duration::from_secs(5);

/// The stores of a service.
#[derive(Debug)]
pub(super) struct Stores {
    /// Where results are.
    pub(super) results: Arc<dyn ResultStore>,
    /// Where sessions are.
    pub(super) sessions: Arc<dyn SessionStore>,
    /// The memory tier, if there is one.
    pub(super) memory: Option<Tiered>,
    /// The database of this process, where there is one: it is swept and closed.
    pub(super) database: Option<SqliteStore>,
    /// The name of the backend behind both.
    pub(super) backend: &'static str,
}

impl Stores {
    /// Opens what the configuration asks for.
    pub(super) async fn open(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Self, StartError> {
        match config.store.backend {
            Backend::Sqlite => embedded(config, clock, metrics),
            Backend::Dynamodb => shared(config, clock, metrics).await,
        }
    }

    /// Finishes the writes under way and closes what is open.
    pub(super) async fn close(&self) {
        if let Some(memory) = &self.memory {
            memory.close().await;
        }
        if let Some(database) = &self.database {
            database.close().await;
        }
    }
}

/// Everything in a file of this process.
fn embedded(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Stores, StartError> {
    let options = sqlite::Options {
        data_dir: config.server.data_dir.clone(),
        readers: config.sqlite.readers,
        cache_bytes: config.sqlite.cache_bytes,
        max_bytes: config.sqlite.max_bytes,
        queue: config.sqlite.queue,
        encryption_key: config.sessions.encryption_key.clone(),
    };
    let backend = sqlite::BACKEND;
    let database = SqliteStore::open(&options, clock, metrics)?;
    let metered: Arc<dyn ResultStore> =
        Arc::new(Metered::results(Arc::new(database.clone()), metrics, backend));
    let sessions = Arc::new(Metered::sessions(Arc::new(database.clone()), metrics, backend));
    let memory = (config.memory.bytes > 0).then(|| Tiered::new(Arc::clone(&metered), config.memory.bytes));
    if let Some(memory) = &memory {
        // What sweep and eviction remove must not live on in memory, where no listing and so no purge would find it.
        let first = database.on_removed(memory.forgetter());
        debug_assert!(first, "nobody else was given the store yet");
    }
    let results = in_front(memory.as_ref(), metered);
    Ok(Stores { results, sessions, memory, database: Some(database), backend })
}

/// Everything in DynamoDB, which other instances write to as well.
async fn shared(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Stores, StartError> {
    let backend = dynamodb::BACKEND;
    let aws = Aws::connect(&config.dynamodb, &config.s3, metrics).await;
    match in_time(prepare(&Tables::new(aws.clone(), &config.dynamodb), config.dynamodb.create_tables)).await {
        Ok(()) => {}
        // It may come back, and until then the service says that it is not ready.
        Err(
            error @ (Error::Unavailable { .. }
            | Error::Timeout { .. }
            | Error::Throttled { .. }
            | Error::Overloaded { .. }),
        ) => tracing::warn!(%error, "the tables could not be checked: starting without"),
        Err(error) => return Err(StartError::Tables(error)),
    }
    let results = DynamodbResults::new(aws.clone(), config, clock, metrics);
    let sessions = DynamodbSessions::new(aws, config, clock, metrics);
    let metered: Arc<dyn ResultStore> = Arc::new(Metered::results(Arc::new(results), metrics, backend));
    let sessions = Arc::new(Metered::sessions(Arc::new(sessions), metrics, backend));
    let memory = (config.memory.bytes > 0)
        .then(|| Tiered::shared(Arc::clone(&metered), config.memory.bytes, config.memory.trust()));
    let results = in_front(memory.as_ref(), metered);
    Ok(Stores { results, sessions, memory, database: None, backend })
}

/// A backend that says nothing must not keep the service from saying that it lives.
async fn in_time(prepare: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(PATIENCE, prepare).await.unwrap_or_else(|_| {
        let detail = format!("nothing was said of the tables within {} s", PATIENCE.as_secs());
        Err(Error::Timeout { backend: dynamodb::BACKEND, detail })
    })
}

async fn prepare(tables: &Tables, create: bool) -> Result<(), Error> {
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
