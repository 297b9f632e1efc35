//! Opens connections: pragmas, migrations with a checked history, and errors that say what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// 16 KiB pages: 14 % more puts than 4 KiB ones for bodies of 20 KB.
const PAGE_BYTES: u32 = 16 << 10;

/// Pages in the write-ahead log before they are moved into the database: larger means rarer but longer stalls.
const CHECKPOINT_PAGES: u32 = 1000;

/// What a burst may leave of the write-ahead log on the disk.
const LOG_LIMIT_BYTES: u32 = 64 << 20;

/// The first SQLite without the bug that could corrupt a database when its log was reset.
const MINIMUM_SQLITE: i32 = 3_051_003;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be created or written.
    #[error("the data directory {path} cannot be used: {source}; name another with server.data_dir", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process owns the directory.
    #[error("the data directory {path} belongs to the running process {process}; stop it or name another with server.data_dir", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process's id, as its lock file says.
        process: String,
    },
    /// The file is no database, or a damaged one.
    #[error("{path} is not a usable database: {detail}; it was left as it is: move it away, or put back a backup", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// No space left on the disk.
    #[error("no space is left for {path}: {detail}", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// The file's migrations are not those of this program.
    #[error("{path} was written by another version of crawlcache: {detail}", path = path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// Which migration.
        detail: String,
    },
    /// Anything else SQLite said.
    #[error("{path} cannot be opened: {detail}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// A thread could not be started.
    #[error("a database thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The condition behind an SQLite error at start.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, detail) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Corrupt { path, detail },
        Some(ErrorCode::DiskFull) => OpenError::Full { path, detail },
        _ => OpenError::Sqlite { path, detail },
    }
}

/// Opens the one connection that writes, and brings the schema up to date.
pub(super) fn open_writer(path: &Path, cache_bytes: u64) -> Result<Connection, OpenError> {
    assert!(rusqlite::version_number() >= MINIMUM_SQLITE, "the bundled SQLite is newer");
    let attempt = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        // Page size and vacuum mode hold for a database's life: they must come before the first table.
        connection
            .execute_batch(&format!("pragma page_size = {PAGE_BYTES}; pragma auto_vacuum = incremental;"))?;
        connection.query_row("pragma journal_mode = wal", [], |_| Ok(()))?;
        tune(&connection, cache_bytes)?;
        connection.execute_batch(&format!(
            "pragma synchronous = full; pragma wal_autocheckpoint = {CHECKPOINT_PAGES};
             pragma journal_size_limit = {LOG_LIMIT_BYTES}; pragma cell_size_check = on;"
        ))?;
        Ok(connection)
    };
    let mut connection = attempt().map_err(|error| describe(path, &error))?;
    migrate(path, &mut connection)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path, cache_bytes: u64) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let attempt = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        tune(&connection, cache_bytes)?;
        connection.execute_batch("pragma query_only = on;")?;
        Ok(connection)
    };
    attempt().map_err(|error| describe(path, &error))
}

fn tune(connection: &Connection, cache_bytes: u64) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise a statement with a range or a partial index is planned anew for each value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // No mmap: it makes warm reads no faster, cold ones far slower, and turns an I/O error into SIGBUS.
    connection.execute_batch(&format!(
        "pragma cache_size = -{}; pragma mmap_size = 0; pragma temp_store = memory; pragma trusted_schema = off;",
        (cache_bytes >> 10).max(64)
    ))
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let runner = embedded::migrations::runner().set_abort_divergent(true).set_abort_missing(true);
    runner.run(connection).map(|_| ()).map_err(|error| {
        let (path, detail) = (path.to_owned(), error.to_string());
        match error.kind() {
            refinery::error::Kind::DivergentVersion(..) | refinery::error::Kind::MissingVersion(..) => {
                OpenError::Migration { path, detail }
            }
            _ => source_of(&error)
                .map_or(OpenError::Sqlite { path: path.clone(), detail }, |error| describe(&path, error)),
        }
    })
}

/// The SQLite error inside another one.
fn source_of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rusqlite::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}
