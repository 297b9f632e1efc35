//! The most that DynamoDB takes from a bare SDK: how fast the same packed items go in, request by request.
//!
//! `batch-write` is what a migration is held against: `BatchWriteItem` with 25 items a request. It knows no conditions,
//! so a migration beside a live service cannot use it; the other kinds can.

mod measure;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementRequest, PutRequest, ReturnConsumedCapacity, WriteRequest,
};
use clap::{Parser, ValueEnum};
use crawlcache::config::Config;
use crawlcache::domain::document::encode;
use crawlcache::domain::{Key, Namespace};
use tokio::task::JoinSet;

use measure::{read_corpus, url_of};

#[derive(Clone, Parser)]
struct Arguments {
    /// Where DynamoDB is.
    #[arg(long)]
    endpoint: String,
    /// A table with the partition key `url`.
    #[arg(long)]
    table: String,
    /// The folder of documents.
    #[arg(long)]
    corpus: PathBuf,
    /// Requests under way at once.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Items to write.
    #[arg(long, default_value_t = 10_000)]
    items: usize,
    /// The number of the first key.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Items a request, for the kinds that take many.
    #[arg(long, default_value_t = 25)]
    batch: usize,
    /// How they are written.
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// `BatchWriteItem`, which replaces whatever is there.
    BatchWrite,
    /// `BatchExecuteStatement` of `INSERT`s, each of which is refused where an item is there.
    Insert,
    /// `PutItem` under the condition that nothing or something older is there.
    Put,
}

type Item = HashMap<String, AttributeValue>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
async fn run(arguments: Arguments) -> Result<()> {
    let writer = Arc::new(Writer::new(&arguments).await?);
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..arguments.clients {
        let writer = Arc::clone(&writer);
        clients.spawn(async move { writer.run().await });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let rate = arguments.items as f64 / seconds;
    println!("{} items in {seconds:.2} s, {rate:.0} a second", arguments.items);
    Ok(())
}

struct Writer {
    client: Client,
    arguments: Arguments,
    frames: Vec<(Vec<u8>, Vec<u8>)>,
    next: AtomicUsize,
}

impl Writer {
    async fn new(arguments: &Arguments) -> Result<Self> {
        let config = Config::default();
        let documents = read_corpus(&arguments.corpus).context("the corpus cannot be read")?;
        ensure!(!documents.is_empty(), "the corpus is empty");
        let frames: Result<Vec<_>> = documents
            .iter()
            .map(|raw| {
                let encoded = encode(raw, config.results.compression_level)?;
                Ok((encoded.frame.to_vec(), encoded.layout.as_bytes().to_vec()))
            })
            .collect();
        let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("dummy", "dummy", None, None, "bench"))
            .endpoint_url(&arguments.endpoint)
            .retry_config(RetryConfig::standard())
            .load()
            .await;
        Ok(Self {
            client: Client::new(&shared),
            arguments: arguments.clone(),
            frames: frames?,
            next: AtomicUsize::new(0),
        })
    }

    async fn run(&self) -> Result<()> {
        let batch = if self.arguments.kind == Kind::Put { 1 } else { self.arguments.batch };
        loop {
            let from = self.next.fetch_add(batch, Ordering::Relaxed);
            if from >= self.arguments.items {
                return Ok(());
            }
            let until = (from + batch).min(self.arguments.items);
            let items = (from..until).map(|number| self.item(self.arguments.first + number));
            let items = items.collect::<Result<Vec<Item>>>()?;
            match self.arguments.kind {
                Kind::BatchWrite => self.batch_write(items).await?,
                Kind::Insert => self.insert(items).await?,
                Kind::Put => self.put(items).await?,
            }
        }
    }

    /// An item as the service packs it, with the attributes of the index by time.
    fn item(&self, number: usize) -> Result<Item> {
        let url = url_of(number);
        let key = Key::new(&Namespace::default(), &url, "")?;
        let (frame, layout) = &self.frames[number % self.frames.len()];
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: u64| AttributeValue::N(number.to_string());
        let at = "2026-01-15T10:30:00.000Z";
        let attributes = [
            ("url", text(&url)),
            ("version", number(115_900_000_000_000_000)),
            ("etag", text(&key.id().to_string())),
            ("created_at", text(at)),
            ("updated_at", text(at)),
            ("expires_at", text("2036-01-15T10:30:00.000Z")),
            ("ttl", number(2_084_005_800)),
            ("time_shard", text(&format!("default {}", key.id().bucket() % 16))),
            ("listed_at", text(&format!("{at} {}", key.id()))),
            ("layout", AttributeValue::B(Blob::new(layout.clone()))),
            ("frame_bytes", number(frame.len() as u64)),
            ("success", AttributeValue::Bool(true)),
            ("status_code", number(200)),
            ("frame", AttributeValue::B(Blob::new(frame.clone()))),
        ];
        Ok(attributes.map(|(name, value)| (name.to_owned(), value)).into())
    }

    async fn batch_write(&self, items: Vec<Item>) -> Result<()> {
        let put = |item| -> Result<WriteRequest> {
            let put = PutRequest::builder().set_item(Some(item)).build()?;
            Ok(WriteRequest::builder().put_request(put).build())
        };
        let mut left = items.into_iter().map(put).collect::<Result<Vec<_>>>()?;
        while !left.is_empty() {
            let request = self.client.batch_write_item().request_items(&self.arguments.table, left);
            let answer = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await?;
            left = answer
                .unprocessed_items
                .and_then(|mut tables| tables.remove(&self.arguments.table))
                .unwrap_or_default();
        }
        Ok(())
    }

    async fn insert(&self, items: Vec<Item>) -> Result<()> {
        let statement = |item: Item| -> Result<BatchStatementRequest> {
            let (mut names, mut values) = (Vec::new(), Vec::new());
            let mut item: Vec<_> = item.into_iter().collect();
            item.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in item {
                names.push(format!("'{name}': ?"));
                values.push(value);
            }
            let text = format!("INSERT INTO \"{}\" VALUE {{{}}}", self.arguments.table, names.join(", "));
            Ok(BatchStatementRequest::builder().statement(text).set_parameters(Some(values)).build()?)
        };
        let statements = items.into_iter().map(statement).collect::<Result<Vec<_>>>()?;
        let request = self.client.batch_execute_statement().set_statements(Some(statements));
        let answer = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await?;
        for response in answer.responses() {
            ensure!(response.error().is_none(), "{:?}", response.error());
        }
        Ok(())
    }

    async fn put(&self, items: Vec<Item>) -> Result<()> {
        for item in items {
            let version = item["version"].clone();
            self.client
                .put_item()
                .table_name(&self.arguments.table)
                .set_item(Some(item))
                .condition_expression("attribute_not_exists(#url) OR #version < :version")
                .expression_attribute_names("#url", "url")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", version)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await?;
        }
        Ok(())
    }
}
