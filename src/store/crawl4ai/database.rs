//! Opens a database that is not ours without leaving a trace, while its owner may write to it.
//!
//! Who joins the locks of a WAL database makes files beside it. So one that nobody has open is read as it lies there,
//! and whatever was read counts only if nothing has changed meanwhile; one that is in use is joined, read-only; and one
//! that can be neither (its log lies there, but no index of it, or in a directory that cannot be written to) is copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::Error;

/// What cannot stand in the path of a `file:` address as it is.
const RESERVED: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

/// How long a lock is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// How often something is tried that somebody's writes may spoil.
const ATTEMPTS: u32 = 5;

/// A file that was written within this time may be written again without a visible change of its time.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);

/// A database and how it is read.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    connection: Connection,
    kind: Kind,
    /// How often what was read did not count.
    spoiled: u32,
}

#[derive(Debug)]
enum Kind {
    /// As it lies there: what is read counts only while this is how it looks.
    Still(Look),
    /// With the locks of those who write to it.
    Joined,
    /// A copy.
    Copied { _directory: Scratch },
}

/// How a database and its companions look: sizes and times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look([Option<(u64, SystemTime)>; 3]);

impl Look {
    /// The database, its write-ahead log, its rollback journal.
    const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

    fn at(path: &Path) -> Self {
        Self(Self::SUFFIXES.map(|suffix| {
            let metadata = fs::metadata(beside(path, suffix)).ok()?;
            // An empty companion says no more than none.
            (metadata.len() > 0 || suffix.is_empty()).then_some(())?;
            Some((metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
        }))
    }

    /// Whether nothing is left to be taken over from a log or a journal.
    fn is_still(&self) -> bool {
        self.0[1].is_none() && self.0[2].is_none()
    }

    /// The same, once it is so old that a later change shows.
    fn settled(path: &Path) -> Self {
        let look = Self::at(path);
        let changed = look.0[0].and_then(|(_, time)| time.elapsed().ok());
        if changed.is_some_and(|ago| ago < CLOCK_GRAIN) {
            std::thread::sleep(CLOCK_GRAIN);
            return Self::at(path);
        }
        look
    }
}

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Self::open_after(path, 0)
    }

    fn open_after(path: &Path, spoiled: u32) -> Result<Self, Error> {
        let look = Look::settled(path);
        let (connection, kind) = if look.is_still() && spoiled < ATTEMPTS {
            match connect(&address(path), OpenFlags::SQLITE_OPEN_READ_ONLY) {
                Ok(connection) => (connection, Kind::Still(look)),
                // Half of somebody's write looks like damage.
                Err(_) if Look::at(path) != look => return Self::open_after(path, spoiled + 1),
                Err(error) => return Err(failed(path)(error)),
            }
        } else if beside(path, "-shm").exists() || look.is_still() {
            match connect(&absolute(path), OpenFlags::SQLITE_OPEN_READ_ONLY) {
                Ok(connection) => (connection, Kind::Joined),
                Err(_) => copy(path)?,
            }
        } else {
            copy(path)?
        };
        Ok(Self { path: path.to_owned(), connection, kind, spoiled })
    }

    /// Reads something, again if somebody's write has spoiled it.
    pub(super) fn read<T>(
        &mut self,
        mut work: impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        loop {
            let read = work(&self.connection);
            match &self.kind {
                Kind::Still(look) if Look::at(&self.path) != *look => {
                    *self = Self::open_after(&self.path, self.spoiled + 1)?;
                }
                _ => return read.map_err(failed(&self.path)),
            }
        }
    }
}

fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Sqlite { path: path.to_owned(), source }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A path that no SQLite takes for an address.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The address that lets SQLite read a file without locks.
fn address(path: &Path) -> PathBuf {
    format!("file:{}?immutable=1", percent_encode(absolute(path).as_os_str().as_encoded_bytes(), RESERVED))
        .into()
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // Only now is the file looked at.
    connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Copies the database with what belongs to it, as it was at one moment.
fn copy(path: &Path) -> Result<(Connection, Kind), Error> {
    let directory = Scratch::new().map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
    let target = directory.0.join("copy.db");
    for _ in 0..ATTEMPTS {
        let look = Look::settled(path);
        for (suffix, there) in Look::SUFFIXES.into_iter().zip(&look.0) {
            let (from, to) = (beside(path, suffix), beside(&target, suffix));
            let copied = if there.is_some() {
                fs::copy(&from, &to).map(drop)
            } else {
                fs::remove_file(&to).or_else(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                })
            };
            match copied {
                // It has gone meanwhile: then it looks different, too.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !suffix.is_empty() => {}
                copied => copied.map_err(|source| Error::Io { path: from, source })?,
            }
        }
        if Look::at(path) == look {
            // The log is taken over into the copy: that writes.
            let connection = connect(&target, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed(path))?;
            return Ok((connection, Kind::Copied { _directory: directory }));
        }
    }
    Err(Error::Unsettled(path.to_owned()))
}

/// A directory for a copy, which goes with it.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let random = getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?;
        let path = std::env::temp_dir().join(format!("crawlcache-import-{random:016x}"));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
