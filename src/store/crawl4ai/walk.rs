//! The threads of a reading: one walks the table, the others read files and write documents.

use std::path::Path;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::budget::{Budget, Grant};
use super::content::Folders;
use super::database::Database;
use super::page::{Reader, Row};
use super::rows::{self, Stored};
use super::{Error, Filter};

/// Threads that read files: many waits on a disk overlap, and all cores are used.
const THREADS: std::ops::RangeInclusive<usize> = 4..=16;

/// Rows that may wait at either end.
const AHEAD: usize = 64;

/// What all rows on their way may take in memory.
const MEMORY_BYTES: u64 = 256 << 20;

/// What a row takes beside what is in its columns: most pages are smaller.
const ROW_BYTES: u64 = 1 << 20;

/// The rows of a cache, as they get ready.
#[derive(Debug)]
pub struct Rows {
    total: u64,
    ready: Option<Receiver<Result<(Row, Grant), Error>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Rows {
    pub(super) fn begin(path: &Path, filter: Filter) -> Result<Self, Error> {
        let mut database = Database::open(path)?;
        let prefix = filter.prefix.clone().unwrap_or_default();
        if database.read(rows::columns)?.is_none() {
            return Err(Error::NoTable(path.to_owned()));
        }
        let total = database.read(|connection| rows::count(connection, &prefix))?;
        let (jobs, work) = bounded::<(Stored, Grant)>(AHEAD);
        let (done, ready) = bounded(AHEAD);
        let reader = Reader { folders: Folders::beside(path), database: path.to_owned(), filter };
        let mut threads = Vec::new();
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let count = thread::available_parallelism().map_or(1, usize::from) * 2;
        for number in 0..count.clamp(*THREADS.start(), *THREADS.end()) {
            let (reader, work, done) = (reader.clone(), work.clone(), done.clone());
            let reading = move || {
                for (stored, grant) in work {
                    if done.send(Ok((reader.row(stored), grant))).is_err() {
                        return;
                    }
                }
            };
            let named = thread::Builder::new().name(format!("crawl4ai-{number}"));
            threads.push(named.spawn(reading).map_err(failed)?);
        }
        let path = path.to_owned();
        let walking = move || {
            let walked = walk(&mut database, &prefix, &jobs)
                .and_then(|there| if there { Ok(()) } else { Err(Error::NoTable(path)) });
            if let Err(error) = walked {
                let _ = done.send(Err(error));
            }
        };
        let named = thread::Builder::new().name("crawl4ai-rows".to_owned());
        threads.push(named.spawn(walking).map_err(|source| Error::Io { path: "threads".into(), source })?);
        Ok(Self { total, ready: Some(ready), threads })
    }

    /// How many rows there were at the beginning.
    pub fn total(&self) -> u64 {
        self.total
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // What is handed out counts as the caller's.
        Some(self.ready.as_ref()?.recv().ok()?.map(|(row, _)| row))
    }
}

impl Drop for Rows {
    /// Ends the threads: a copy of the database goes with the last of them.
    fn drop(&mut self) {
        self.ready = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Hands out all rows; whether the table was there to the end.
fn walk(database: &mut Database, prefix: &str, jobs: &Sender<(Stored, Grant)>) -> Result<bool, Error> {
    let budget = Budget::new(MEMORY_BYTES);
    let mut last = i64::MIN;
    loop {
        let Some(rows) = database.read(|connection| rows::after(connection, last, prefix))? else {
            return Ok(false);
        };
        if rows.is_empty() {
            return Ok(true);
        }
        for row in rows {
            last = row.rowid;
            // The document repeats what the columns say.
            let grant = budget.take(ROW_BYTES + 2 * row.bytes());
            if jobs.send((row, grant)).is_err() {
                return Ok(true);
            }
        }
    }
}
