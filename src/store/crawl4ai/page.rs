//! What a row comes to: the page as a crawl result, or why there is none, and what was lost of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use super::Filter;
use super::content::{Content, Folders};
use super::rows::Stored;
use crate::domain::{Timestamp, Validators};

/// Columns whose content lies in files, the folder of each, and whether it is markdown.
const CONTENTS: [(&str, &str); 4] = [
    ("cleaned_html", "cleaned_html"),
    ("markdown", "markdown_content"),
    ("extracted_content", "extracted_content"),
    ("screenshot", "screenshots"),
];

/// Columns of JSON, and what each begins with.
const JSON: [(&str, u8); 5] = [
    ("media", b'{'),
    ("links", b'{'),
    ("metadata", b'{'),
    ("response_headers", b'{'),
    ("downloaded_files", b'['),
];

/// The fields of Crawl4AI's `MarkdownGenerationResult`.
const MARKDOWN: [&str; 5] =
    ["raw_markdown", "markdown_with_citations", "references_markdown", "fit_markdown", "fit_html"];

/// One row of the cache.
#[derive(Debug)]
pub struct Row {
    /// The page, exactly as it was crawled.
    pub url: String,
    /// The most files that it took from a column to its content: 0 for content in the row itself, 1 as it should be,
    /// more where upgrades have put hashes of hashes.
    pub hops: u32,
    /// Fields that cannot be read and are left out.
    pub losses: Vec<(&'static str, Loss)>,
    /// The page, or why there is none.
    pub page: Result<Page, Skip>,
}

/// A page that was read.
#[derive(Debug)]
pub struct Page {
    /// The crawl result: a JSON object without line breaks. It has no field that the cache does not have.
    pub document: Vec<u8>,
    /// The origin's validators.
    pub validators: Validators,
    /// When it was crawled; where the cache does not say, when its content was written.
    pub updated_at: Timestamp,
}

/// Why a field cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The file that the row names is not there.
    Missing,
    /// A file that another one names is not there, or they go on without an end.
    ChainBroken,
    /// The content is not that of its hash: it was cut off, or changed.
    HashMismatch,
    /// It is not UTF-8.
    NotText,
    /// The file system cannot read it.
    Unreadable,
    /// It is not JSON.
    BadJson,
    /// It is JSON of another kind than the field has.
    WrongKind,
    /// It cannot be sent in a header.
    NotAHeader,
}

impl Loss {
    /// One stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::ChainBroken => "chain_broken",
            Self::HashMismatch => "hash_mismatch",
            Self::NotText => "not_text",
            Self::Unreadable => "unreadable",
            Self::BadJson => "bad_json",
            Self::WrongKind => "wrong_kind",
            Self::NotAHeader => "not_a_header",
        }
    }
}

/// Why a row is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The crawl has failed.
    FailedPage,
    /// The row has no html.
    NoHtml,
    /// Its html cannot be read; a page without it is of no use to Crawl4AI either.
    Html(Loss),
    /// A file of the host that has crawled it.
    LocalFile,
    /// It is older than asked for.
    TooOld,
    /// Its url is not UTF-8.
    UrlNotText,
}

impl Skip {
    /// One stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailedPage => "failed_page",
            Self::NoHtml => "no_html",
            Self::Html(loss) => match loss {
                Loss::Missing => "html_missing",
                Loss::ChainBroken => "html_chain_broken",
                Loss::HashMismatch => "html_hash_mismatch",
                Loss::NotText => "html_not_text",
                _ => "html_unreadable",
            },
            Self::LocalFile => "local_file",
            Self::TooOld => "too_old",
            Self::UrlNotText => "url_not_text",
        }
    }
}

/// Makes rows of what is stored.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) folders: Folders,
    pub(super) database: PathBuf,
    pub(super) filter: Filter,
}

impl Reader {
    /// Reads everything that a row names.
    pub(super) fn row(&self, mut stored: Stored) -> Row {
        let url = String::from_utf8(std::mem::take(&mut stored.url));
        let is_text = url.is_ok();
        let url = url.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let mut row = Row { url, hops: 0, losses: Vec::new(), page: Err(Skip::UrlNotText) };
        if is_text {
            row.page = self.page(&mut row.hops, &mut row.losses, &row.url, stored);
        }
        row
    }

    fn page(
        &self,
        hops: &mut u32,
        losses: &mut Vec<(&'static str, Loss)>,
        url: &str,
        mut stored: Stored,
    ) -> Result<Page, Skip> {
        let is_file = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
        if is_file && !self.filter.local_files {
            return Err(Skip::LocalFile);
        }
        if !stored.success {
            return Err(Skip::FailedPage);
        }
        let cached_at = stored.cached_at.filter(|seconds| *seconds > 0.0);
        let cached_at =
            cached_at.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).map(since_epoch);
        self.check_age(cached_at)?;
        let html = stored.take("html").ok_or(Skip::NoHtml)?;
        let html = text(html).and_then(|column| self.html(column, &stored)).map_err(Skip::Html)?;
        let updated_at = match cached_at {
            Some(at) => at,
            None => self.written(&html),
        };
        self.check_age(Some(updated_at))?;
        *hops = html.hops;

        let mut document = Document::of(url);
        document.text("html", &html.text);
        for (name, folder) in CONTENTS {
            let Some(column) = stored.take(name) else { continue };
            match text(column).and_then(|column| self.folders.resolve(folder, column, Some(html.hops))) {
                Ok(content) => {
                    *hops = content.hops.max(*hops);
                    match name {
                        "markdown" => document.markdown(&content.text),
                        _ => document.text(name, &content.text),
                    }
                }
                Err(loss) => losses.push((name, loss)),
            }
        }
        for (name, begin) in JSON {
            let Some(column) = stored.take(name) else { continue };
            match text(column).and_then(|column| json(&column, begin).map(|json| json.map(str::to_owned))) {
                Ok(Some(json)) => document.json(name, &json),
                Ok(None) => {}
                Err(loss) => losses.push((name, loss)),
            }
        }
        let mut validator = |name: &'static str| {
            let column = text(stored.take(name)?).ok().filter(|text| Validators::accept(text));
            if column.is_none() {
                losses.push((name, Loss::NotAHeader));
            }
            column
        };
        let validators = Validators {
            etag: validator("etag"),
            last_modified: validator("last_modified"),
            head_fingerprint: validator("head_fingerprint"),
        };
        Ok(Page { document: document.end(), validators, updated_at })
    }

    /// What the column `html` stands for. A page may itself have the form of the name of a file: it does not name one
    /// that is missing where the other columns of the row have come to their contents through as many files.
    fn html(&self, column: String, stored: &Stored) -> Result<Content, Loss> {
        const FOLDER: &str = "html_content";
        match self.folders.resolve(FOLDER, column.clone(), None) {
            Err(Loss::Missing | Loss::ChainBroken) => {
                let others = CONTENTS.iter().filter_map(|(name, folder)| {
                    let column = text(stored.get(name)?.to_vec()).ok()?;
                    self.folders.resolve(folder, column, None).ok()
                });
                // Where no other column tells, what a file holds that is as its hash says is taken for the page.
                let depth = others.map(|content| content.hops).max().unwrap_or(1);
                self.folders.resolve(FOLDER, column, Some(depth))
            }
            resolved => resolved,
        }
    }

    fn check_age(&self, at: Option<Timestamp>) -> Result<(), Skip> {
        match (at, self.filter.since) {
            (Some(at), Some(since)) if at < since => Err(Skip::TooOld),
            _ => Ok(()),
        }
    }

    /// When a page was written whose row does not say.
    fn written(&self, html: &Content) -> Timestamp {
        let modified = || std::fs::metadata(&self.database).and_then(|metadata| metadata.modified()).ok();
        let time = html.modified.or_else(modified).unwrap_or(SystemTime::UNIX_EPOCH);
        since_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

fn since_epoch(time: Duration) -> Timestamp {
    Timestamp::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn text(bytes: Vec<u8>) -> Result<String, Loss> {
    String::from_utf8(bytes).map_err(|_| Loss::NotText)
}

/// JSON of the kind that begins so; `None` where a column says nothing.
fn json(column: &str, begin: u8) -> Result<Option<&str>, Loss> {
    let column = column.trim_ascii();
    // What Crawl4AI gives every JSON column by default, also the one that lists files.
    if column.is_empty() || column == "null" || (column == "{}" && begin == b'[') {
        return Ok(None);
    }
    serde_json::from_str::<&RawValue>(column).map_err(|_| Loss::BadJson)?;
    if column.as_bytes()[0] != begin {
        return Err(Loss::WrongKind);
    }
    Ok(Some(column))
}

/// Whether a text is Crawl4AI's `MarkdownGenerationResult`: a page's own markdown may be JSON as well.
fn is_markdown_result(text: &str) -> bool {
    if !text.starts_with('{') {
        return false;
    }
    let fields =
        serde_json::from_str::<BTreeMap<Cow<'_, str>, Option<Cow<'_, str>>>>(text).unwrap_or_default();
    fields.get("raw_markdown").is_some_and(Option::is_some)
        && fields.keys().all(|name| MARKDOWN.contains(&name.as_ref()))
}

/// A JSON object that is being written.
struct Document(Vec<u8>);

impl Document {
    fn of(url: &str) -> Self {
        let mut document = Self(b"{".to_vec());
        document.string("url");
        document.0.push(b':');
        document.string(url);
        document.json("success", "true");
        document
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    fn markdown(&mut self, text: &str) {
        if is_markdown_result(text) {
            self.json("markdown", text);
        } else {
            self.json("markdown", "{\"raw_markdown\":");
            self.string(text);
            self.0.push(b'}');
        }
    }

    /// Line breaks in it are white space between tokens: inside strings they are escaped.
    fn json(&mut self, name: &str, json: &str) {
        self.name(name);
        if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() {
            self.0.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        } else {
            self.0.extend_from_slice(json.as_bytes());
        }
    }

    fn name(&mut self, name: &str) {
        self.0.push(b',');
        self.string(name);
        self.0.push(b':');
    }

    fn string(&mut self, text: &str) {
        self.0.reserve(text.len() + 2);
        serde_json::to_writer(&mut self.0, text).expect("memory can be written");
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}
