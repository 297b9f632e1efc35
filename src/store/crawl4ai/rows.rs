//! The table of pages, whichever columns its version of Crawl4AI has given it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

/// Columns that hold text, or name the files that do.
pub(super) const TEXTS: [&str; 13] = [
    "html",
    "cleaned_html",
    "markdown",
    "extracted_content",
    "screenshot",
    "media",
    "links",
    "metadata",
    "response_headers",
    "downloaded_files",
    "etag",
    "last_modified",
    "head_fingerprint",
];

/// Rows that are read in one transaction.
const MOST_ROWS: usize = 256;

/// After so many bytes a transaction takes no further row.
const MOST_BYTES: u64 = 8 << 20;

/// A row as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its place in the table.
    pub(super) rowid: i64,
    pub(super) url: Vec<u8>,
    pub(super) success: bool,
    /// Unix seconds, where the version keeps them.
    pub(super) cached_at: Option<f64>,
    /// In the order of [`TEXTS`].
    texts: [Option<Vec<u8>>; TEXTS.len()],
}

impl Stored {
    /// The text of a column of [`TEXTS`]; empty ones say nothing.
    pub(super) fn take(&mut self, column: &str) -> Option<Vec<u8>> {
        let at = TEXTS.iter().position(|name| *name == column)?;
        self.texts[at].take()
    }

    /// As [`Stored::take`], and it stays.
    pub(super) fn get(&self, column: &str) -> Option<&[u8]> {
        let at = TEXTS.iter().position(|name| *name == column)?;
        self.texts[at].as_deref()
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> u64 {
        let texts = self.texts.iter().flatten().map(Vec::len).sum::<usize>();
        (self.url.len() + texts) as u64
    }
}

/// The table and those of its columns that are known here; `None` where it is not there or has no key.
pub(super) fn columns(connection: &Connection) -> rusqlite::Result<Option<Vec<String>>> {
    let mut statement = connection.prepare("select name from pragma_table_info('crawled_data')")?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(names.iter().any(|name| name == "url").then_some(names))
}

/// How many rows there are whose url begins with `prefix`.
pub(super) fn count(connection: &Connection, prefix: &str) -> rusqlite::Result<u64> {
    let sql = "select count(*) from crawled_data where substr(url, 1, length(?1)) = ?1";
    let count: i64 = connection.query_row(sql, [prefix], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// The rows after `after`, as many as make a good transaction; none when there are no more.
pub(super) fn after(
    connection: &Connection,
    after: i64,
    prefix: &str,
) -> rusqlite::Result<Option<Vec<Stored>>> {
    let Some(there) = columns(connection)? else { return Ok(None) };
    let column =
        |name: &str| if there.iter().any(|it| it == name) { name.to_owned() } else { "null".to_owned() };
    let names = ["success", "cached_at"].iter().chain(&TEXTS).map(|name| column(name)).collect::<Vec<_>>();
    // A row keeps its rowid when it is stored again, and a new one comes last.
    let sql = format!(
        "select rowid, url, {} from crawled_data where rowid > ?1 and substr(url, 1, length(?2)) = ?2 order by rowid",
        names.join(", ")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![after, prefix])?;
    let (mut read, mut bytes) = (Vec::new(), 0);
    while read.len() < MOST_ROWS && bytes < MOST_BYTES {
        let Some(row) = rows.next()? else { break };
        let mut texts = [const { None }; TEXTS.len()];
        for (at, text) in texts.iter_mut().enumerate() {
            *text = bytes_of(row.get_ref(at + 4)?).filter(|text| !text.is_empty());
        }
        let stored = Stored {
            rowid: row.get(0)?,
            url: bytes_of(row.get_ref(1)?).unwrap_or_default(),
            success: is_true(row.get_ref(2)?),
            cached_at: match row.get_ref(3)? {
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
                ValueRef::Integer(seconds) => Some(seconds as f64),
                ValueRef::Real(seconds) => Some(seconds),
                _ => None,
            },
            texts,
        };
        bytes += stored.bytes();
        read.push(stored);
    }
    Ok(Some(read))
}

fn bytes_of(value: ValueRef<'_>) -> Option<Vec<u8>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
    }
}

fn is_true(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Integer(number) => number != 0,
        ValueRef::Text(text) => text.eq_ignore_ascii_case(b"true"),
        _ => false,
    }
}
