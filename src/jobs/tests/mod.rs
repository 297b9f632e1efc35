//! Migrations and verifications between a real database and DynamoDB Local.

mod migrating;
mod running;
mod verifying;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::Sides;
use super::runner::Runner;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::routing::Side;
use crate::domain::work::{MigrateOptions, VerifyOptions, Work, WorkState, WorkStatus};
use crate::domain::{Entry, Key, KeyId, Timestamp};
use crate::metrics::Metrics;
use crate::store::conformance::{claim, facts, key, options, put, session};
use crate::store::dynamodb::testing::{self, ResultsTable};
use crate::store::dynamodb::{Aws, DynamodbResults, DynamodbSessions, Segment};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    GetOptions, LeaseStore as _, Put, PutSession, ResultStore, SessionCondition, SessionStore,
};

/// Any second of this century: the clock of a test.
const NOW: u64 = 1_800_000_000;

/// Both sides, of which no other test has either.
struct Setup {
    sides: Sides,
    runner: Runner,
    stop: CancellationToken,
    clock: Clock,
    aws: Aws,
    config: Config,
    changed: Arc<Mutex<Vec<KeyId>>>,
    _directory: TempDir,
    /// Dropped last.
    _table: ResultsTable,
}

impl Setup {
    async fn new() -> Option<Self> {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let mut config = Config { dynamodb: testing::settings()?, ..Config::default() };
        change(&mut config);
        let clock = Clock::manual(at(0));
        let metrics = Metrics::new();
        let aws = Aws::connect(&config.dynamodb, &config.s3, &metrics).await;
        let table = ResultsTable::make(&aws, &config.dynamodb).await;
        let directory = tempfile::tempdir().expect("a directory");
        let changed = Arc::new(Mutex::new(Vec::new()));
        let sides = sides(&directory, &aws, &config, &clock, &metrics, &changed);
        let stop = CancellationToken::new();
        let runner = Runner::open(sides.clone(), stop.clone()).await.expect("a runner");
        Some(Self { sides, runner, stop, clock, aws, config, changed, _directory: directory, _table: table })
    }

    /// The same tables beside an empty database.
    async fn elsewhere(self) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let sides =
            sides(&directory, &self.aws, &self.config, &self.clock, &self.sides.metrics, &self.changed);
        let runner = Runner::open(sides.clone(), self.stop.clone()).await.expect("a runner");
        Self { sides, runner, _directory: directory, ..self }
    }

    /// The same sides in a new process.
    async fn again(mut self) -> Self {
        self.runner.close().await;
        self.stop = CancellationToken::new();
        self.runner = Runner::open(self.sides.clone(), self.stop.clone()).await.expect("a runner");
        self
    }

    async fn migrate(&self, options: MigrateOptions) -> WorkStatus {
        self.done(Work::Migrate(options)).await
    }

    async fn verify(&self, options: VerifyOptions) -> WorkStatus {
        self.done(Work::Verify(options)).await
    }

    async fn done(&self, work: Work) -> WorkStatus {
        let begun = self.runner.start(work).await.expect("begun");
        let status = self.ended(&begun.id).await;
        assert_eq!(status.state, WorkState::Done, "{status:?}");
        assert_eq!(status.done, status.total, "{status:?}");
        status
    }

    async fn ended(&self, id: &str) -> WorkStatus {
        self.until(id, |status| status.state != WorkState::Running).await
    }

    async fn until(&self, id: &str, holds: impl Fn(&WorkStatus) -> bool) -> WorkStatus {
        for _ in 0..12_000 {
            let status = self.runner.get(id).expect("it is known");
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?}", self.runner.get(id));
    }

    async fn put_here(&self, put: Put) {
        ResultStore::put(&self.sides.database, put).await.expect("a put");
    }

    async fn put_there(&self, put: Put) {
        self.sides.results.put(put).await.expect("a put");
    }

    async fn put_both(&self, put: Put) {
        self.put_here(put.clone()).await;
        self.put_there(put).await;
    }

    /// Somebody fetches the page, as either side has it: that is no work of anybody's.
    async fn lease_both(&self, key: &Key) {
        let claim = claim(key, 1, NOW);
        self.sides.database.acquire(&claim).await.expect("a lease");
        self.sides.results.acquire(&claim).await.expect("a lease");
    }

    async fn here(&self, key: &Key) -> Option<Arc<Entry>> {
        let hit = ResultStore::get(&self.sides.database, key, GetOptions::scan()).await.expect("a get");
        hit.map(|hit| hit.entry)
    }

    async fn there(&self, key: &Key) -> Option<Arc<Entry>> {
        let hit = self.sides.results.get(key, GetOptions::scan()).await.expect("a get");
        hit.map(|hit| hit.entry)
    }

    /// Both sides have the same of this key.
    async fn is_same(&self, key: &Key) {
        let (here, there) = (self.here(key).await.expect("here"), self.there(key).await.expect("there"));
        assert_eq!(facts(&here.meta), facts(&there.meta));
        assert_eq!(here.frame, there.frame);
    }

    /// How many results DynamoDB has.
    async fn items(&self) -> u64 {
        let (mut items, mut segment) = (0, Segment { number: 0, of: 1, after: None });
        loop {
            let page = self.sides.results.scan(&segment, 1000, false).await.expect("a page");
            items += page.items.len() as u64;
            match page.next {
                Some(after) => segment.after = Some(after),
                None => return items,
            }
        }
    }
}

fn sides(
    directory: &TempDir,
    aws: &Aws,
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
    changed: &Arc<Mutex<Vec<KeyId>>>,
) -> Sides {
    let options = crate::store::sqlite::Options { tombstone_seconds: 1000, ..options(directory.path()) };
    let database = SqliteStore::open(&options, clock, metrics).expect("a database");
    let results = DynamodbResults::new(aws.clone(), config, clock, metrics);
    let sessions = DynamodbSessions::new(aws.clone(), config, clock, metrics);
    let heard = Arc::clone(changed);
    let mut sides = Sides::new(database, results, sessions, clock.clone(), metrics.clone(), 0)
        .on_changed(move |ids| heard.lock().expect("not poisoned").extend(ids));
    sides.patience = Duration::from_secs(5);
    sides
}

/// A second of the test, which begins at 0; entries of then live another thousand.
fn at(second: u64) -> Timestamp {
    Timestamp::from_secs(NOW + second)
}

fn page(number: u64) -> Key {
    key(&format!("https://example.com/{number}"))
}

/// A put of that page at a second, saying so.
fn said(number: u64, second: u64) -> Put {
    put(&page(number), &format!("page {number} of {second}"), NOW + second)
}

/// A put of about `bytes` bytes that do not compress.
fn noise(key: &Key, bytes: usize) -> Put {
    use base64::Engine as _;
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let mut random = vec![0; bytes * 3 / 4];
    let seed = DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut random);
    put(key, &base64::engine::general_purpose::STANDARD.encode(random), NOW)
}

fn put_of_session(name: &str, second: u64) -> PutSession {
    let record = session(name, NOW + second);
    PutSession { namespace: crate::domain::Namespace::default(), record, condition: SessionCondition::Any }
}

async fn session_there(setup: &Setup, put: &PutSession) -> Option<crate::domain::session::SessionRecord> {
    setup.sides.sessions.get(&put.namespace, &put.record.session.id).await.expect("a get")
}

fn to_sqlite() -> MigrateOptions {
    MigrateOptions { to: Side::Sqlite, ..MigrateOptions::default() }
}
