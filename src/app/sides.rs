//! The stores of a configuration without a service in front of them, for the command line.

use std::sync::Arc;

use super::StartError;
use super::stores;
use crate::clock::Clock;
use crate::config::Config;
use crate::jobs::Sides;
use crate::metrics::Metrics;
use crate::store::SessionStore;
use crate::store::dynamodb::{Aws, DynamodbResults, DynamodbSessions, Tables};
use crate::store::sqlite::SqliteStore;

/// Opens the data directory, which nobody else may have open, and the tables; makes those that are missing if it may
/// and `dynamodb.create_tables` asks for it.
///
/// # Errors
/// [`StartError`], which says what to do.
pub async fn open_sides(
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
    may_create: bool,
) -> Result<Sides, StartError> {
    let database = SqliteStore::open(&stores::options_beside(config), clock, metrics)?;
    let aws = Aws::connect(&config.dynamodb, &config.s3, metrics).await;
    let tables = Tables::new(aws.clone(), &config.dynamodb);
    let prepared = stores::prepare(&tables, may_create && config.dynamodb.create_tables);
    stores::in_time(prepared).await.map_err(StartError::Tables)?;
    let results = DynamodbResults::new(aws.clone(), config, clock, metrics);
    let sessions = DynamodbSessions::new(aws, config, clock, metrics);
    let keep_stale = config.results.keep_stale_seconds;
    let mut sides = Sides::new(database, results, sessions, clock.clone(), metrics.clone(), keep_stale);
    sides.alone = true;
    Ok(sides)
}

/// What a configuration keeps its data in, opened by this process.
#[derive(Debug)]
pub struct Opened(stores::Stores);

impl Opened {
    /// Opens the data directory, which nobody else may have open, and the tables, as the configuration says.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn open(config: &Config, clock: &Clock, metrics: &Metrics) -> Result<Self, StartError> {
        stores::Stores::open(config, clock, metrics).await.map(Self)
    }

    /// The sessions of each backend.
    pub fn sessions(&self) -> Vec<Arc<dyn SessionStore>> {
        self.0.backends().into_iter().map(|backend| backend.sessions).collect()
    }

    /// Closes what is open.
    pub async fn close(&self) {
        self.0.close().await;
    }
}
