//! Rows packed into requests: many small pages to one, a large page alone.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::domain::Validators;
use crate::store::crawl4ai::{Loss, Page, Row};

/// Pages above this size travel alone and compressed: the service bounds the lines that it takes.
const LARGE_BYTES: usize = 8 << 20;

/// After so many bytes a request takes no further page.
const PACK_BYTES: usize = 4 << 20;

/// The most pages in a request.
const PACK_PAGES: usize = 1000;

/// The zstd level of large pages: the service compresses anew.
const ZSTD_LEVEL: i32 = 1;

/// Under which terms pages are stored.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) variant: Option<String>,
    /// In seconds.
    pub(super) ttl: Option<u64>,
    /// Whether nothing is stored.
    pub(super) dry_run: bool,
}

/// What is known of a row, and what came of it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) url: String,
    /// A stable word.
    pub(super) outcome: String,
    /// Why it was skipped or failed: a stable word.
    pub(super) reason: Option<String>,
    /// The same for people.
    pub(super) detail: Option<String>,
    pub(super) hops: u32,
    pub(super) losses: Vec<(&'static str, Loss)>,
    pub(super) bytes: usize,
    pub(super) updated_at: Option<String>,
}

impl Told {
    /// One line of the report.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = Map::new();
        line.insert("url".to_owned(), json!(self.url));
        line.insert("outcome".to_owned(), json!(self.outcome));
        for (name, text) in
            [("reason", &self.reason), ("detail", &self.detail), ("updated_at", &self.updated_at)]
        {
            if let Some(text) = text {
                line.insert(name.to_owned(), json!(text));
            }
        }
        if self.hops > 1 {
            line.insert("recovered_through".to_owned(), json!(self.hops));
        }
        if !self.losses.is_empty() {
            let losses = self.losses.iter().map(|(field, loss)| ((*field).to_owned(), json!(loss.as_str())));
            line.insert("lost".to_owned(), Value::Object(losses.collect()));
        }
        if self.bytes > 0 {
            line.insert("bytes".to_owned(), json!(self.bytes));
        }
        let mut line = Value::Object(line).to_string().into_bytes();
        line.push(b'\n');
        line
    }

    /// Says that it was not stored.
    pub(super) fn fail(&mut self, reason: &str, detail: &str) {
        "failed".clone_into(&mut self.outcome);
        self.reason = Some(reason.to_owned());
        self.detail = Some(detail.to_owned());
    }
}

/// What is sent at once.
#[derive(Debug, Default)]
pub(super) struct Pack {
    /// Rows that nothing is sent of.
    pub(super) settled: Vec<Told>,
    /// Rows that are sent, in the order of what is sent.
    pub(super) sent: Vec<Told>,
    /// What is sent.
    pub(super) load: Load,
}

/// What is sent at once.
#[derive(Debug)]
pub(super) enum Load {
    /// Lines of an import, and where each begins.
    Lines(Bytes, Vec<usize>),
    /// A large page: the query of its request, and the document compressed with zstd.
    Large(Vec<(&'static str, Option<String>)>, Bytes),
}

impl Default for Load {
    fn default() -> Self {
        Self::Lines(Bytes::new(), Vec::new())
    }
}

/// Packs rows.
#[derive(Debug)]
pub(super) struct Packer {
    terms: Terms,
    settled: Vec<Told>,
    sent: Vec<Told>,
    lines: BytesMut,
    begins: Vec<usize>,
}

impl Packer {
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, settled: Vec::new(), sent: Vec::new(), lines: BytesMut::new(), begins: Vec::new() }
    }

    /// Takes a row, and returns what is full.
    pub(super) fn add(&mut self, row: Row) -> Vec<Pack> {
        let Row { url, hops, losses, page, .. } = row;
        let mut told = Told {
            url,
            outcome: String::new(),
            reason: None,
            detail: None,
            hops,
            losses,
            bytes: 0,
            updated_at: None,
        };
        let mut full = Vec::new();
        match page {
            Err(skip) => {
                "skipped".clone_into(&mut told.outcome);
                told.reason = Some(skip.as_str().to_owned());
                self.settled.push(told);
            }
            Ok(page) => {
                told.bytes = page.document.len();
                told.updated_at = Some(page.updated_at.to_string());
                if self.terms.dry_run {
                    "readable".clone_into(&mut told.outcome);
                    self.settled.push(told);
                } else if page.document.len() > LARGE_BYTES {
                    full.extend(self.large(told, &page));
                } else {
                    self.line(told, &page);
                }
            }
        }
        if self.lines.len() >= PACK_BYTES || self.sent.len() + self.settled.len() >= PACK_PAGES {
            full.push(self.finish());
        }
        full
    }

    fn line(&mut self, told: Told, page: &Page) {
        let mut head = Map::new();
        head.insert("url".to_owned(), json!(told.url));
        head.insert("updated_at".to_owned(), json!(page.updated_at));
        let Validators { etag, last_modified, head_fingerprint } = &page.validators;
        let mut validators = Map::new();
        for (name, value) in
            [("etag", etag), ("last_modified", last_modified), ("head_fingerprint", head_fingerprint)]
        {
            validators.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        if !validators.is_empty() {
            head.insert("validators".to_owned(), Value::Object(validators));
        }
        head.extend(self.terms.variant.as_ref().map(|variant| ("variant".to_owned(), json!(variant))));
        head.extend(self.terms.ttl.map(|ttl| ("ttl".to_owned(), json!(ttl))));
        let head = Value::Object(head).to_string();
        self.begins.push(self.lines.len());
        self.lines.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
        self.lines.extend_from_slice(b",\"document\":");
        self.lines.extend_from_slice(&page.document);
        self.lines.extend_from_slice(b"}\n");
        self.sent.push(told);
    }

    fn large(&mut self, mut told: Told, page: &Page) -> Option<Pack> {
        let smaller = match zstd::bulk::compress(&page.document, ZSTD_LEVEL) {
            Ok(smaller) => smaller,
            Err(error) => {
                told.fail("failed", &format!("it cannot be compressed: {error}"));
                self.settled.push(told);
                return None;
            }
        };
        let query = vec![
            ("url", Some(told.url.clone())),
            ("variant", self.terms.variant.clone()),
            ("ttl", self.terms.ttl.map(|ttl| ttl.to_string())),
            ("updated_at", told.updated_at.clone()),
            ("origin_etag", page.validators.etag.clone()),
            ("origin_last_modified", page.validators.last_modified.clone()),
            ("head_fingerprint", page.validators.head_fingerprint.clone()),
        ];
        Some(Pack { settled: Vec::new(), sent: vec![told], load: Load::Large(query, smaller.into()) })
    }

    /// What is left.
    pub(super) fn finish(&mut self) -> Pack {
        let load = Load::Lines(self.lines.split().freeze(), std::mem::take(&mut self.begins));
        Pack { settled: std::mem::take(&mut self.settled), sent: std::mem::take(&mut self.sent), load }
    }
}
