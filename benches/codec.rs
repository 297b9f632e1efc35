//! The document codec: encode, slice, project, decode and patch, in bytes of JSON a second.

mod corpus;

use std::hint::black_box;

use bytes::Bytes;
use corpus::Corpus;
use crawlcache::domain::document::{Document, Encoded, Projection, encode, merge_patch};
use criterion::{BenchmarkId, Criterion, Throughput};

/// The configured default.
const LEVEL: i32 = 3;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let corpus = Corpus::load();
    let documents = documents(&corpus);
    encoding(&mut criterion, &documents);
    reading(&mut criterion, &documents);
    patching(&mut criterion, &documents);
    criterion.final_summary();
}

/// A document and what it is called.
struct Sample {
    name: String,
    json: Bytes,
    encoded: Encoded,
}

/// Three documents by their size as stored, and one by its size as JSON.
fn documents(corpus: &Corpus) -> Vec<Sample> {
    let stored = |json: &[u8]| encode(json, LEVEL).expect("a JSON object").frame.len();
    let by_stored =
        [4, 30, 150].map(|kib| (format!("{kib} KiB stored"), corpus.document(1, kib << 10, stored)));
    let by_json = ("150 KB JSON".to_owned(), corpus.document(1, 150_000, <[u8]>::len));
    by_stored
        .into_iter()
        .chain([by_json])
        .map(|(name, json)| {
            let encoded = encode(&json, LEVEL).expect("a JSON object");
            Sample { name, json: json.into(), encoded }
        })
        .collect()
}

fn encoding(criterion: &mut Criterion, documents: &[Sample]) {
    let mut group = criterion.benchmark_group("encode");
    for Sample { name, json, .. } in documents {
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| encode(black_box(json), LEVEL).expect("a JSON object"));
        });
    }
}

fn reading(criterion: &mut Criterion, documents: &[Sample]) {
    let head_and_markdown = Projection::new(["head", "markdown"]);
    let html = Projection::new(["html"]);
    for (work, run) in [
        (
            "prefix",
            &(|document: Document<'_>| document.prefix(&head_and_markdown).map_or(0, |it| it.len()))
                as &dyn Fn(Document<'_>) -> usize,
        ),
        ("project", &|document| document.project(&html).expect("intact").len()),
        ("decode", &|document| document.decode().expect("intact").len()),
    ] {
        let mut group = criterion.benchmark_group(work);
        for Sample { name, json, encoded } in documents {
            let document = Document::new(&encoded.layout, &encoded.frame);
            assert!(run(document) > 0, "{work} of {name} gives nothing");
            group.throughput(Throughput::Bytes(json.len() as u64));
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| run(black_box(document)));
            });
        }
    }
}

fn patching(criterion: &mut Criterion, documents: &[Sample]) {
    let patch = br#"{"screenshot":"iVBORw0KGgo=","metadata":{"title":"Another"},"error_message":null}"#;
    let mut group = criterion.benchmark_group("merge_patch");
    for Sample { name, json, .. } in documents {
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| merge_patch(black_box(json), patch).expect("two objects"));
        });
    }
}
