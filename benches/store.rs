//! The stores on a real disk: durable puts, warm gets, look-ups, memory hits and listings.

mod corpus;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corpus::Corpus;
use crawlcache::clock::Clock;
use crawlcache::domain::document::{Encoded, encode};
use crawlcache::domain::{Key, Meta, Namespace};
use crawlcache::metrics::Metrics;
use crawlcache::store::sqlite::{Options, SqliteStore};
use crawlcache::store::tiered::Tiered;
use crawlcache::store::{Condition, GetOptions, ListQuery, Put, PutOutcome, ResultStore, Source};
use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Entries in the store that is read.
const ENTRIES: u64 = 20_000;

/// Entries that are read again and again: they fit in the page cache, and in the memory tier.
const HOT: u64 = 2000;

/// Keys of one look-up: the most that the API takes.
const LOOKUP_KEYS: u64 = 10_000;

/// Distinct documents, of about 20 KB as stored.
const DOCUMENTS: usize = 32;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("a runtime");
    let documents = documents();
    puts(&mut criterion, &runtime, &documents);
    reads(&mut criterion, &runtime, &documents);
    criterion.final_summary();
}

fn documents() -> Arc<[Encoded]> {
    let corpus = Corpus::load();
    let stored = |json: &[u8]| encode(json, 3).expect("a JSON object").frame.len();
    (0..DOCUMENTS)
        .map(|number| encode(&corpus.document(number, 20_000, stored), 3).expect("a JSON object"))
        .collect()
}

/// A store in a directory that goes with it.
struct Bench {
    clock: Clock,
    store: SqliteStore,
    documents: Arc<[Encoded]>,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn open(documents: &Arc<[Encoded]>) -> Arc<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options {
            data_dir: directory.path().to_owned(),
            readers: 4,
            cache_bytes: 16 << 20,
            max_bytes: 0,
            queue: 4096,
            encryption_key: crawlcache::config::EncryptionKey::default(),
            tombstone_seconds: 0,
            outbox_rows: 0,
            is_routed: true,
        };
        let clock = Clock::system();
        let store = SqliteStore::open(&options, &clock, &Metrics::new()).expect("a store");
        Arc::new(Self { clock, store, documents: Arc::clone(documents), _directory: directory })
    }

    /// Stores a document under key `number`.
    async fn put(&self, number: u64) {
        let documents = self.documents.len() as u64;
        let Encoded { frame, layout, etag, facts } =
            self.documents[usize::try_from(number % documents).expect("a small number")].clone();
        let now = self.clock.now();
        let meta = Meta {
            key: key(number),
            version: self.clock.next_version(),
            etag,
            created_at: now,
            updated_at: now,
            expires_at: now.plus_secs(86_400),
            status_code: facts.status_code,
            success: facts.success,
            validators: facts.validators,
            layout,
        };
        let outcome = self.store.put(Put { meta, frame: Some(frame), condition: Condition::Any }).await;
        assert_eq!(outcome.expect("stored"), PutOutcome::Created);
    }
}

fn key(number: u64) -> Key {
    let url = format!("https://site-{}.example/page/{number}", number % 100);
    Key::new(&Namespace::default(), &url, "").expect("a key")
}

/// Runs `work` on so many consecutive numbers, spread over so many clients, and times it.
async fn spread<F>(clients: u64, iterations: u64, work: impl Fn(u64) -> F + Send + Sync + 'static) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let work = Arc::new(work);
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients.min(iterations) {
        let (work, next) = (Arc::clone(&work), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= iterations {
                    break;
                }
                work(number).await;
            }
        });
    }
    tasks.join_all().await;
    begun.elapsed()
}

fn puts(criterion: &mut Criterion, runtime: &Runtime, documents: &Arc<[Encoded]>) {
    let mut group = criterion.benchmark_group("sqlite put");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(6));
    for clients in [1, 64] {
        let bench = Bench::open(documents);
        let used = AtomicU64::new(0);
        group.bench_function(BenchmarkId::new("clients", clients), |bencher| {
            bencher.to_async(runtime).iter_custom(|iterations| {
                let first = used.fetch_add(iterations, Ordering::Relaxed);
                let bench = Arc::clone(&bench);
                spread(clients, iterations, move |number| {
                    let bench = Arc::clone(&bench);
                    async move { bench.put(first + number).await }
                })
            });
        });
        runtime.block_on(bench.store.close());
    }
}

fn reads(criterion: &mut Criterion, runtime: &Runtime, documents: &Arc<[Encoded]>) {
    let bench = Bench::open(documents);
    let filling = Arc::clone(&bench);
    runtime.block_on(spread(64, ENTRIES, move |number| {
        let bench = Arc::clone(&filling);
        async move { bench.put(number).await }
    }));
    let tiered = Tiered::new(Arc::new(bench.store.clone()), 1 << 30);
    // Otherwise the first rounds would be misses under the name of hits.
    runtime.block_on(async {
        for number in 0..HOT {
            tiered.get(&key(number), GetOptions::default()).await.expect("read");
        }
    });
    for (name, source, store) in [
        ("sqlite get", Source::Sqlite, Arc::new(bench.store.clone()) as Arc<dyn ResultStore>),
        ("tiered hit", Source::Memory, Arc::new(tiered)),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1)).sample_size(30);
        for tasks in [1, 64] {
            group.bench_function(BenchmarkId::new("tasks", tasks), |bencher| {
                bencher.to_async(runtime).iter_custom(|iterations| {
                    let store = Arc::clone(&store);
                    spread(tasks, iterations, move |number| {
                        let store = Arc::clone(&store);
                        async move {
                            let hit = store.get(&key(number * 7919 % HOT), GetOptions::default()).await;
                            assert_eq!(hit.expect("read").map(|hit| hit.source), Some(source));
                        }
                    })
                });
            });
        }
    }
    lists(criterion, runtime, &bench);
    runtime.block_on(bench.store.close());
}

fn lists(criterion: &mut Criterion, runtime: &Runtime, bench: &Bench) {
    // Every other key is there: a stride that shares no factor with the number of entries meets each once.
    let number = |place: u64| if place.is_multiple_of(2) { place * 7919 % ENTRIES } else { ENTRIES + place };
    let keys: Vec<Key> = (0..LOOKUP_KEYS).map(|place| key(number(place))).collect();
    let mut group = criterion.benchmark_group("sqlite");
    group.sample_size(20).throughput(Throughput::Elements(LOOKUP_KEYS));
    group.bench_function("get_metas of 10,000", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let metas = bench.store.get_metas(&keys).await.expect("read");
            assert_eq!(metas.iter().flatten().count(), keys.len() / 2);
        });
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("list of 100", |bencher| {
        bencher.to_async(runtime).iter(|| async {
            let page = bench.store.list(&ListQuery::all(&Namespace::default(), 100)).await.expect("read");
            assert_eq!(page.items.len(), 100);
        });
    });
}
