//! Reads the cache that Crawl4AI keeps on a disk: `crawl4ai.db` and the content files beside it. Never writes to it.
//!
//! A row names its contents by hash, and each upgrade of Crawl4AI may have put a hash of that hash in its place: the
//! chain of files is followed to the content, which is compared with the hash that names it. Crawl4AI may go on
//! writing meanwhile: rows are read in short transactions in the order in which they were first stored, so that none
//! that is there throughout is left out, and most that come meanwhile are read too.

mod budget;
mod content;
mod database;
mod page;
mod rows;
#[cfg(test)]
mod tests;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

pub use page::{Loss, Page, Row, Skip};
pub use walk::Rows;

use crate::domain::Timestamp;

/// The name of the database in Crawl4AI's directory.
const FILE_NAME: &str = "crawl4ai.db";

/// The name of Crawl4AI's directory.
const DIRECTORY: &str = ".crawl4ai";

/// Why a cache cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no database where it was looked for.
    #[error("there is no {FILE_NAME} in {}", .0.display())]
    Missing(PathBuf),
    /// It holds no table of pages, or one without its key.
    #[error("{} is no cache of Crawl4AI: it has no table `crawled_data` with a column `url`", .0.display())]
    NoTable(PathBuf),
    /// SQLite cannot read it.
    #[error("{} cannot be read: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file system fails.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// What was to be read or copied.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has to be copied to be read, and somebody writes to it all the time.
    #[error("{} changes faster than it can be copied; stop what writes to it", .0.display())]
    Unsettled(PathBuf),
}

/// Which rows are read.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those that were stored at or after this time.
    pub since: Option<Timestamp>,
    /// Only those whose url begins so.
    pub prefix: Option<String>,
    /// Files of the host that crawled them (`file://` urls) too.
    pub local_files: bool,
}

/// A cache of Crawl4AI.
#[derive(Clone, Debug)]
pub struct Source {
    database: PathBuf,
}

impl Source {
    /// The cache at `path`: Crawl4AI's directory, the one above it, or the database itself.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none.
    pub fn find(path: &Path) -> Result<Self, Error> {
        let places = [path.to_owned(), path.join(FILE_NAME), path.join(DIRECTORY).join(FILE_NAME)];
        let database = places.into_iter().find(|place| place.is_file());
        Ok(Self { database: database.ok_or_else(|| Error::Missing(path.to_owned()))? })
    }

    /// The database.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Reads the rows on threads of its own; they come in no particular order.
    ///
    /// # Errors
    /// When there is nothing to be read at all.
    pub fn read(&self, filter: Filter) -> Result<Rows, Error> {
        Rows::begin(&self.database, filter)
    }
}
