//! The least that a get or a put on DynamoDB costs here: the bare AWS SDK with one item a document.
//!
//! Its items hold what the service stores of the same documents, and its client has the settings of the service's.

#[path = "measure/cpu.rs"]
mod cpu;
mod measure;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValue};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use crawlcache::config::Config;
use crawlcache::domain::document::encode;
use tokio::task::JoinSet;

use cpu::cpu_ticks;
use measure::{Latencies, read_corpus, report, url_of};

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
    /// Tasks.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How long to go on.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The number of the first key.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// How many keys are read, each of which is there.
    #[arg(long, default_value_t = 1000)]
    keys: usize,
    /// Parse and compress each document as it is put, rather than once before.
    #[arg(long)]
    encode: bool,
    /// Put as the service does: an update under a condition, with the attributes of the index by time.
    #[arg(long)]
    conditional: bool,
    /// What to do.
    #[arg(value_enum)]
    work: Work,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Put documents under keys that are not there yet.
    Put,
    /// Put a document under each key.
    Fill,
    /// Get what `fill` has put.
    Get,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
async fn run(arguments: Arguments) -> Result<()> {
    let bare = Arc::new(Bare::new(&arguments).await?);
    let mut clients = JoinSet::new();
    // What was made ready until here is not part of the work.
    let spent = cpu_ticks(std::process::id())?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.clients {
        let bare = Arc::clone(&bare);
        clients.spawn(async move { bare.run(end).await });
    }
    let mut latencies = Vec::with_capacity(arguments.clients);
    while let Some(client) = clients.join_next().await {
        latencies.push(client??);
    }
    let mut whole = report(latencies, begun.elapsed());
    whole["cpu_ticks"] = (cpu_ticks(std::process::id())? - spent).into();
    println!("{whole}");
    Ok(())
}

struct Bare {
    client: Client,
    arguments: Arguments,
    level: i32,
    documents: Vec<Bytes>,
    frames: Vec<Bytes>,
    next: AtomicUsize,
}

impl Bare {
    async fn new(arguments: &Arguments) -> Result<Self> {
        let config = Config::default();
        let level = config.results.compression_level;
        let documents = read_corpus(&arguments.corpus).context("the corpus cannot be read")?;
        ensure!(!documents.is_empty(), "the corpus is empty");
        let frames: Result<Vec<Bytes>, _> =
            documents.iter().map(|raw| encode(raw, level).map(|encoded| encoded.frame)).collect();
        let retries = RetryConfig::standard().with_max_attempts(config.dynamodb.max_retries + 1);
        let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("dummy", "dummy", None, None, "bench"))
            .endpoint_url(&arguments.endpoint)
            .retry_config(retries)
            .load()
            .await;
        Ok(Self {
            client: Client::new(&shared),
            arguments: arguments.clone(),
            level,
            documents,
            frames: frames?,
            next: AtomicUsize::new(arguments.first),
        })
    }

    async fn run(&self, end: Instant) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        loop {
            let begun = Instant::now();
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let filled =
                self.arguments.work == Work::Fill && number >= self.arguments.first + self.arguments.keys;
            if filled || (self.arguments.work != Work::Fill && begun >= end) {
                return Ok(latencies);
            }
            match self.arguments.work {
                Work::Put | Work::Fill => self.put(number).await?,
                Work::Get => self.get(number).await?,
            }
            latencies.note(begun);
        }
    }

    async fn put(&self, number: usize) -> Result<()> {
        let frame = if self.arguments.encode {
            encode(&self.documents[number % self.documents.len()], self.level)?.frame
        } else {
            self.frames[number % self.frames.len()].clone()
        };
        if self.arguments.conditional {
            return self.update(number, frame).await;
        }
        self.client
            .put_item()
            .table_name(&self.arguments.table)
            .item("url", AttributeValue::S(url_of(number)))
            .item("frame", AttributeValue::B(Blob::new(frame)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        Ok(())
    }

    async fn update(&self, number: usize, frame: Bytes) -> Result<()> {
        let listed_at = format!("2026-01-15T10:30:00.000Z {number:032x}");
        self.client
            .update_item()
            .table_name(&self.arguments.table)
            .key("url", AttributeValue::S(url_of(number)))
            .update_expression("SET #frame = :frame, #version = :version, #shard = :shard, #listed = :listed")
            .condition_expression("attribute_not_exists(#url) OR #version < :version")
            .expression_attribute_names("#url", "url")
            .expression_attribute_names("#frame", "frame")
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#shard", "time_shard")
            .expression_attribute_names("#listed", "listed_at")
            .expression_attribute_values(":frame", AttributeValue::B(Blob::new(frame)))
            .expression_attribute_values(":version", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(":shard", AttributeValue::S(format!("default {}", number % 16)))
            .expression_attribute_values(":listed", AttributeValue::S(listed_at))
            .return_values(ReturnValue::UpdatedOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        Ok(())
    }

    async fn get(&self, number: usize) -> Result<()> {
        // A prime: it meets every key before it meets one again.
        let number = number.wrapping_mul(7919) % self.arguments.keys;
        let found = self
            .client
            .get_item()
            .table_name(&self.arguments.table)
            .key("url", AttributeValue::S(url_of(number)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        let frame = found.item().and_then(|item| item.get("frame")).and_then(|frame| frame.as_b().ok());
        let expected = &self.frames[number % self.frames.len()];
        ensure!(
            frame.is_some_and(|frame| frame.as_ref().len() == expected.len()),
            "{number} is not what was put"
        );
        Ok(())
    }
}
