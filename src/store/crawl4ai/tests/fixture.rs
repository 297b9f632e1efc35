//! Writes caches in the shapes of all versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params_from_iter};
use serde_json::Value;
use tempfile::TempDir;
use xxhash_rust::xxh64::xxh64;

use crate::store::crawl4ai::{Filter, Row, Source};

/// The table up to 0.3.73.
pub(super) const OLD: &str = "create table crawled_data (url TEXT PRIMARY KEY, html TEXT, cleaned_html TEXT, \
    markdown TEXT, extracted_content TEXT, success BOOLEAN, media TEXT DEFAULT \"{}\", links TEXT DEFAULT \"{}\", \
    metadata TEXT DEFAULT \"{}\", screenshot TEXT DEFAULT \"\")";

/// What 0.3.74 has added.
const MIDDLE: [&str; 2] = ["response_headers TEXT DEFAULT \"{}\"", "downloaded_files TEXT DEFAULT \"{}\""];

/// What 0.8.0 has added.
const NEW: [&str; 4] = [
    "etag TEXT DEFAULT \"\"",
    "last_modified TEXT DEFAULT \"\"",
    "head_fingerprint TEXT DEFAULT \"\"",
    "cached_at REAL DEFAULT 0",
];

/// Columns whose contents lie in files, and the folders of these.
pub(super) const FOLDERS: [(&str, &str); 5] = [
    ("html", "html_content"),
    ("cleaned_html", "cleaned_html"),
    ("markdown", "markdown_content"),
    ("extracted_content", "extracted_content"),
    ("screenshot", "screenshots"),
];

/// A cache in a directory that goes with it.
pub(super) struct Cache {
    pub(super) directory: TempDir,
}

impl Cache {
    /// The table of the newest version.
    pub(super) fn new() -> Self {
        let cache = Self::middle();
        NEW.iter().for_each(|column| cache.add_column(column));
        cache
    }

    /// The table without the four columns of 0.8.0.
    pub(super) fn middle() -> Self {
        let cache = Self::old();
        MIDDLE.iter().for_each(|column| cache.add_column(column));
        cache
    }

    pub(super) fn old() -> Self {
        let cache = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        for (_, folder) in FOLDERS {
            fs::create_dir(cache.path().join(folder)).expect("made");
        }
        let connection = cache.connect();
        connection.pragma_update(None, "journal_mode", "wal").expect("set");
        connection.execute(OLD, []).expect("made");
        cache
    }

    fn add_column(&self, column: &str) {
        self.connect().execute(&format!("alter table crawled_data add column {column}"), []).expect("added");
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path().join("crawl4ai.db")
    }

    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.database()).expect("opened")
    }

    /// Writes a content file as Crawl4AI does, and returns its name.
    pub(super) fn file(&self, column: &str, text: &str) -> String {
        let name = hash(text);
        fs::write(self.file_path(column, &name), text).expect("written");
        name
    }

    pub(super) fn file_path(&self, column: &str, name: &str) -> PathBuf {
        let (_, folder) = FOLDERS.into_iter().find(|(it, _)| *it == column).expect("a column with files");
        self.path().join(folder).join(name)
    }

    /// Inserts a row of a page that was crawled, with these columns.
    pub(super) fn insert(&self, url: &str, columns: &[(&str, &str)]) {
        insert(&self.connect(), url, columns);
    }

    /// A page with this html, and these other contents, in files.
    pub(super) fn page(&self, url: &str, contents: &[(&str, &str)]) {
        let files: Vec<(&str, String)> =
            contents.iter().map(|(column, text)| (*column, self.file(column, text))).collect();
        let columns: Vec<(&str, &str)> =
            files.iter().map(|(column, name)| (*column, name.as_str())).collect();
        self.insert(url, &columns);
    }

    /// What each upgrade does: contents that are hashes already become files that are named by their hashes.
    pub(super) fn upgrade(&self) {
        let connection = self.connect();
        for (column, _) in FOLDERS {
            let mut select =
                connection.prepare(&format!("select url, {column} from crawled_data")).expect("prepared");
            let rows: Vec<(String, Option<String>)> = select
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("read")
                .collect::<rusqlite::Result<_>>()
                .expect("read");
            for (url, content) in rows {
                let Some(content) = content.filter(|content| !content.is_empty()) else { continue };
                let name = self.file(column, &content);
                let update = format!("update crawled_data set {column} = ?1 where url = ?2");
                connection.execute(&update, [name, url]).expect("updated");
            }
        }
    }

    pub(super) fn read(&self) -> BTreeMap<String, Row> {
        read(self.path(), Filter::default())
    }
}

pub(super) fn insert(connection: &Connection, url: &str, columns: &[(&str, &str)]) {
    let names = columns.iter().flat_map(|(name, _)| [", ", *name]).collect::<String>();
    let marks = ", ?".repeat(columns.len());
    let success =
        if columns.iter().any(|(name, _)| *name == "success") { ("", "") } else { (", success", ", 1") };
    let sql = format!("insert into crawled_data (url{names}{}) values (?{marks}{})", success.0, success.1);
    let values = std::iter::once(url).chain(columns.iter().map(|(_, value)| *value));
    connection.execute(&sql, params_from_iter(values)).expect("inserted");
}

pub(super) fn hash(text: &str) -> String {
    format!("{:016x}", xxh64(text.as_bytes(), 0))
}

/// Everything in a cache, by url.
pub(super) fn read(path: &Path, filter: Filter) -> BTreeMap<String, Row> {
    let rows = Source::find(path).expect("found").read(filter).expect("begun");
    let rows = rows.map(|row| row.expect("read")).map(|row| (row.url.clone(), row));
    rows.collect()
}

/// The document of a row that is a page.
#[track_caller]
pub(super) fn document(row: &Row) -> Value {
    let page = row.page.as_ref().expect("a page");
    assert!(!page.document.contains(&b'\n'), "one line");
    serde_json::from_slice(&page.document).expect("JSON")
}

/// The names and contents of all files below a directory.
pub(super) fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("read"));
        }
    }
    files
}
