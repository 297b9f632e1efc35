//! The results store against DynamoDB Local, against answers made up, and against what others write.

mod bodies;
mod clocks;
mod damage;
mod foreign;
mod gathering;
mod indexes;
mod leases;
mod made_up;
mod races;

use bytes::Bytes;

use super::super::item::{Item, text};
use super::super::testing::{self, ResultsTable};
use super::super::{Aws, DynamodbResults};
use super::key::{URL, partition};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{Entry, Etag, Key, Layout, Timestamp, Version};
use crate::metrics::Metrics;
use crate::store::conformance::{at, key, put};
use crate::store::{GetOptions, Hit, Put, PutOutcome, Result, ResultStore as _};

const PAGE: &str = "https://example.com/page";

/// Any second of this century: the clock of a test.
const NOW: u64 = 1_800_000_000;

/// A store with a table of its own.
struct Setup {
    store: DynamodbResults,
    aws: Aws,
    config: Config,
    metrics: Metrics,
    clock: Clock,
    /// Dropped last.
    _table: ResultsTable,
}

impl Setup {
    async fn new(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let mut config = Config { dynamodb: testing::settings()?, ..Config::default() };
        change(&mut config);
        let (metrics, clock) = (Metrics::new(), Clock::manual(Timestamp::from_secs(NOW)));
        let aws = Aws::connect(&config.dynamodb, &Config::default().s3, &metrics).await;
        let table = ResultsTable::make(&aws, &config.dynamodb).await;
        let store = DynamodbResults::new(aws.clone(), &config, &clock, &metrics);
        Some(Self { store, aws, config, metrics, clock, _table: table })
    }

    /// The same over a bucket of the S3 server.
    async fn with_bucket() -> Option<Self> {
        let (s3, bucket) = testing::bucket()?;
        let setup = Self::new(|config| config.s3 = s3).await?;
        let aws = setup.aws.with_bucket(bucket, &setup.config.dynamodb, &setup.metrics);
        let store = DynamodbResults::new(aws.clone(), &setup.config, &setup.clock, &setup.metrics);
        Some(Self { store, aws, ..setup })
    }

    /// Another instance of the service on the same table, with other settings.
    fn other(&self, change: impl FnOnce(&mut Config)) -> DynamodbResults {
        let mut config = self.config.clone();
        change(&mut config);
        DynamodbResults::new(self.aws.clone(), &config, &self.clock, &self.metrics)
    }

    async fn put(&self, put: Put) -> PutOutcome {
        self.store.put(put).await.expect("stored")
    }

    async fn get(&self, key: &Key) -> Result<Option<Hit>> {
        self.store.get(key, GetOptions::default()).await
    }

    async fn item(&self, partition: &str) -> Option<Item> {
        self.store.0.get_item(partition, true).await.expect("a read")
    }

    async fn head(&self, key: &Key) -> Item {
        self.item(&partition(key)).await.expect("an item")
    }

    /// Writes an item as other programs do.
    async fn write(&self, item: Item) {
        let table = self.config.dynamodb.results_table();
        let put = self.aws.dynamodb().put_item().table_name(table).set_item(Some(item));
        put.send().await.expect("written");
    }

    async fn remove(&self, partition: &str) {
        let table = self.config.dynamodb.results_table();
        let delete = self.aws.dynamodb().delete_item().table_name(table).key(URL, text(partition));
        delete.send().await.expect("removed");
    }

    /// Capacity units that an operation has consumed so far.
    fn units(&self, operation: &str) -> f64 {
        let unit = if operation.contains("get") || operation == "query" { "read" } else { "write" };
        self.metrics.dynamodb_capacity.with_label_values(&["results", operation, unit]).get()
    }
}

/// A put at a second after [`NOW`].
fn put_now(key: &Key, text: &str, second: u64) -> Put {
    later(put(key, text, second))
}

/// Moves a put from 1970 to [`NOW`].
fn later(mut put: Put) -> Put {
    let meta = &mut put.meta;
    let moved = |time: Timestamp| time.plus_secs(NOW);
    (meta.created_at, meta.updated_at) = (moved(meta.created_at), moved(meta.updated_at));
    meta.expires_at = moved(meta.expires_at);
    meta.version = Version::first_of(meta.updated_at);
    put
}

/// A put of a frame of so many bytes that nothing can compress, as large in the table as here.
fn sized(key: &Key, bytes: usize, seed: u64, second: u64) -> Put {
    let mut put = put_now(key, "", second);
    let frame = noise(bytes, seed);
    // One field in one segment: all but the four bytes that close the frame.
    let mut layout = vec![1, 1];
    let mut number = |mut number: usize| {
        while number > 0x7f {
            layout.push(0x80 | u8::try_from(number & 0x7f).expect("seven bits"));
            number >>= 7;
        }
        layout.push(u8::try_from(number).expect("seven bits"));
    };
    number(bytes - 4);
    layout.extend(b"\x01a\x10");
    put.meta.layout = Layout::from_bytes(&layout).expect("a layout");
    assert_eq!(put.meta.layout.stored_size(), bytes as u64);
    put.meta.etag = Etag::of(&frame);
    put.frame = Some(frame);
    put
}

fn noise(bytes: usize, seed: u64) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut noise = vec![0; bytes];
    hasher.finalize_xof().fill(&mut noise);
    noise.into()
}

fn page() -> Key {
    key(PAGE)
}

fn now(second: u64) -> Timestamp {
    at(NOW + second)
}
