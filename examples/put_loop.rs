//! The least that a durable put costs here: parse, compress and commit in one process, without HTTP.
//!
//! It also fills a store: `--entries N` puts N results, each document compressed once.

#[path = "measure/cpu.rs"]
mod cpu;
mod measure;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use crawlcache::clock::Clock;
use crawlcache::config::Config;
use crawlcache::domain::document::{Encoded, encode};
use crawlcache::domain::{Key, Meta, Namespace};
use crawlcache::metrics::Metrics;
use crawlcache::store::sqlite::{Options, SqliteStore};
use crawlcache::store::{Condition, Put, PutOutcome, ResultStore};
use tokio::task::JoinSet;

use cpu::cpu_ticks;
use measure::{Latencies, document_of, read_corpus, report, url_among};

#[derive(Clone, Parser)]
struct Arguments {
    /// The directory of the store.
    #[arg(long)]
    data_dir: PathBuf,
    /// The folder of documents.
    #[arg(long)]
    corpus: PathBuf,
    /// Tasks that put.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long to go on.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The number of the first key.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Put so many instead, however long it takes.
    #[arg(long)]
    entries: Option<usize>,
    /// Keys that are there, from 0; none of them is new then.
    #[arg(long, conflicts_with = "entries")]
    keys: Option<usize>,
    /// Put another document under each of these keys, instead of the same again.
    #[arg(long, requires = "keys")]
    changed: bool,
    /// Hosts that the keys are spread over.
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// How many seconds the results stay fresh.
    #[arg(long, default_value_t = 86_400)]
    ttl: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
async fn run(arguments: Arguments) -> Result<()> {
    let sqlite = Config::default().sqlite;
    let options = Options {
        data_dir: arguments.data_dir.clone(),
        readers: sqlite.readers,
        cache_bytes: sqlite.cache_bytes,
        max_bytes: sqlite.max_bytes,
        queue: sqlite.queue,
        encryption_key: crawlcache::config::EncryptionKey::default(),
        tombstone_seconds: 0,
        outbox_rows: 0,
        is_routed: true,
    };
    let clock = Clock::system();
    let store = SqliteStore::open(&options, &clock, &Metrics::new())?;
    let putter = Arc::new(Putter::new(store.clone(), clock, &arguments)?);
    let mut clients = JoinSet::new();
    // What was made ready until here is not part of the work.
    let spent = cpu_ticks(std::process::id())?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.clients {
        let putter = Arc::clone(&putter);
        clients.spawn(async move { putter.run(end).await });
    }
    let mut latencies = Vec::with_capacity(arguments.clients);
    while let Some(client) = clients.join_next().await {
        latencies.push(client??);
    }
    let mut whole = report(latencies, begun.elapsed());
    whole["cpu_ticks"] = (cpu_ticks(std::process::id())? - spent).into();
    println!("{whole}");
    store.close().await;
    Ok(())
}

struct Putter {
    store: SqliteStore,
    clock: Clock,
    level: i32,
    documents: Vec<Bytes>,
    /// Where a store is filled: what to put, and the number after the last key.
    ready_made: Option<(Vec<Encoded>, usize)>,
    next: AtomicUsize,
    keys: Option<usize>,
    changed: bool,
    hosts: usize,
    ttl: u64,
}

impl Putter {
    fn new(store: SqliteStore, clock: Clock, arguments: &Arguments) -> Result<Self> {
        let level = Config::default().results.compression_level;
        let documents = read_corpus(&arguments.corpus).context("the corpus cannot be read")?;
        ensure!(!documents.is_empty(), "the corpus is empty");
        let ready_made = match arguments.entries {
            None => None,
            Some(entries) => {
                let encoded: Result<Vec<_>, _> = documents.iter().map(|raw| encode(raw, level)).collect();
                Some((encoded?, arguments.first + entries))
            }
        };
        let &Arguments { first, keys, changed, hosts, ttl, .. } = arguments;
        let next = AtomicUsize::new(first);
        Ok(Self { store, clock, level, documents, ready_made, next, keys, changed, hosts, ttl })
    }

    async fn run(&self, end: Instant) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        loop {
            let begun = Instant::now();
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let (key, document) = document_of(number, self.keys, self.changed);
            let encoded = match &self.ready_made {
                Some((_, last)) if number >= *last => break,
                Some((encoded, _)) => encoded[number % encoded.len()].clone(),
                None if begun >= end => break,
                None => encode(&self.documents[document % self.documents.len()], self.level)?,
            };
            self.put(key, encoded).await?;
            latencies.note(begun);
        }
        Ok(latencies)
    }

    async fn put(&self, number: usize, encoded: Encoded) -> Result<()> {
        let Encoded { frame, layout, etag, facts } = encoded;
        let now = self.clock.now();
        let meta = Meta {
            key: Key::new(&Namespace::default(), &url_among(number, self.hosts), "")?,
            version: self.clock.next_version(),
            etag,
            created_at: now,
            updated_at: now,
            expires_at: now.plus_secs(self.ttl),
            status_code: facts.status_code,
            success: facts.success,
            validators: facts.validators,
            layout,
        };
        let outcome = self.store.put(Put { meta, frame: Some(frame), condition: Condition::Any }).await?;
        ensure!((outcome == PutOutcome::Created) == self.keys.is_none(), "key {number}: {outcome:?}");
        Ok(())
    }
}
