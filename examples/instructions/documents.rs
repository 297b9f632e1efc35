//! The document codec on its own.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use anyhow::ensure;
use crawlcache::domain::document::{Document, Encoded, Projection, encode};

use crate::corpus::Corpus;
use crate::{Ready, Work};

/// The configured default.
const LEVEL: i32 = 3;

/// The size of the document as JSON.
pub(crate) const DOCUMENT_BYTES: usize = 150_000;

/// Encoding a document, decoding it, and two projections: a prefix of what is stored, and one that has to be decoded.
pub(crate) fn works(corpus: &Corpus) -> Vec<Work> {
    let json = Rc::new(corpus.document(1, DOCUMENT_BYTES, <[u8]>::len));
    let encoded = Rc::new(encode(&json, LEVEL).expect("a JSON object"));
    let (raw, whole) = (Rc::clone(&json), encoded.frame.len());
    vec![
        repeated("encode", 4, whole, move || {
            encode(black_box(&raw), LEVEL).expect("a JSON object").frame.len()
        }),
        reading("decode", 10, &encoded, json.len(), |document| document.decode().expect("intact").len()),
        projecting("prefix_markdown", &encoded, &["head", "markdown"]),
        projecting("project_markdown", &encoded, &["markdown"]),
    ]
}

fn projecting(name: &'static str, encoded: &Rc<Encoded>, fields: &[&str]) -> Work {
    let projection = Projection::new(fields.iter().copied());
    let read = move |document: Document<'_>| match document.prefix(&projection) {
        Some(prefix) => prefix.len(),
        None => document.project(&projection).expect("intact").len(),
    };
    let bytes = read(Document::new(&encoded.layout, &encoded.frame));
    reading(name, 20, encoded, bytes, read)
}

fn reading(
    name: &'static str,
    operations: usize,
    encoded: &Rc<Encoded>,
    bytes: usize,
    read: impl Fn(Document<'_>) -> usize + 'static,
) -> Work {
    let encoded = Rc::clone(encoded);
    repeated(name, operations, bytes, move || read(black_box(Document::new(&encoded.layout, &encoded.frame))))
}

/// The same again and again, of which each has to come to so many bytes.
fn repeated(
    name: &'static str,
    operations: usize,
    bytes: usize,
    operation: impl Fn() -> usize + 'static,
) -> Work {
    let operation = Rc::new(operation);
    Work::new(name, operations, move |count| {
        let (operation, total) = (Rc::clone(&operation), Rc::new(RefCell::new(0)));
        let sum = Rc::clone(&total);
        Ready {
            run: Box::new(move || *total.borrow_mut() = (0..count).map(|_| operation()).sum()),
            check: Box::new(move || {
                let sum = *sum.borrow();
                ensure!(sum == bytes * count && bytes > 0, "{name}: {sum} B of {count} times {bytes} B");
                Ok(())
            }),
        }
    })
}
