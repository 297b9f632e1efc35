//! Online backup: a consistent copy of a database that is in use.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{FILE_NAME, rows};

/// What every database file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Why no backup was made. Nothing is left at the target.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no database to copy.
    #[error("there is no database in {}", .0.display())]
    Missing(PathBuf),
    /// The target is there already.
    #[error("{} exists; a backup never overwrites", .0.display())]
    Exists(PathBuf),
    /// Where the copy is written before it is whole there is something that may not be an unfinished backup.
    #[error("{} is in the way and may be more than an unfinished backup: move it away", .0.display())]
    InTheWay(PathBuf),
    /// The copy failed or did not pass its check.
    #[error("the backup failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The copy is not sound.
    #[error("the copy did not pass its check: {0}")]
    Unsound(String),
    /// The file system failed.
    #[error("the backup failed: {0}")]
    Io(#[from] io::Error),
}

fn open(data_dir: &Path) -> Result<Connection, BackupError> {
    let path = data_dir.join(FILE_NAME);
    if !path.is_file() {
        return Err(BackupError::Missing(data_dir.to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// About how many bytes a backup will have.
///
/// # Errors
/// [`BackupError`] when the database cannot be read.
pub fn backup_size(data_dir: &Path) -> Result<u64, BackupError> {
    let connection = open(data_dir)?;
    let pragma =
        |name: &str| connection.query_row(&format!("pragma {name}"), [], |row| rows::unsigned(row, 0));
    Ok(pragma("page_count")?.saturating_sub(pragma("freelist_count")?) * pragma("page_size")?)
}

/// Copies the database of a data directory to `target`, while the service may be writing to it.
///
/// The copy is one snapshot, without free pages. It is written beside the target, checked, flushed to the
/// disk and then given its name, so that `target` is a whole backup or not there. What an interrupted backup left
/// beside the target is replaced where it can be told for that.
///
/// # Errors
/// [`BackupError`]; nothing is left at the target.
pub fn backup(data_dir: &Path, target: &Path) -> Result<(), BackupError> {
    if target.exists() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let source = open(data_dir)?;
    let partial = backup_partial_path(target);
    remove_unfinished(&partial)?;
    // From here on it is ours, whatever it holds when the copy fails; SQLite writes into an empty file.
    create_private(&partial)?;
    let copied = copy(&source, &partial).and_then(|()| give_name(&partial, target));
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied?;
    sync_directory_of(target).map_err(|error| {
        // Whole, but perhaps gone after a power cut: nobody may count on it.
        let _ = fs::remove_file(target);
        error.into()
    })
}

/// Where a backup to `target` is written until it is whole.
pub fn backup_partial_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn copy(source: &Connection, partial: &Path) -> Result<(), BackupError> {
    source.execute("vacuum into ?1", [partial.to_string_lossy()])?;
    let copy = Connection::open(partial)?;
    let verdict: String = copy.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(BackupError::Unsound(verdict));
    }
    drop(copy);
    File::open(partial)?.sync_all()?;
    Ok(())
}

/// Removes what an interrupted backup left at `partial`: a database, or a file without content. Anything else may be
/// somebody's, even if it begins with zeros as most interrupted copies do: SQLite writes the first page late.
fn remove_unfinished(partial: &Path) -> Result<(), BackupError> {
    let mut start = Vec::new();
    match File::open(partial) {
        Ok(file) => file.take(MAGIC.len() as u64).read_to_end(&mut start)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // SQLite writes the head of a copy last: until then there are zeros.
    if !start.is_empty() && start != MAGIC && start != [0; MAGIC.len()] {
        return Err(BackupError::InTheWay(partial.to_owned()));
    }
    Ok(fs::remove_file(partial)?)
}

/// Creates a file that only its user may read: sessions may hold credentials.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives a whole copy its name, unless something else has got that name meanwhile.
fn give_name(partial: &Path, target: &Path) -> Result<(), BackupError> {
    match fs::hard_link(partial, target) {
        Ok(()) => {
            if let Err(error) = fs::remove_file(partial) {
                tracing::warn!(%error, path = %partial.display(), "the second name of the backup stays");
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(BackupError::Exists(target.to_owned()))
        }
        // File systems without hard links differ in the error: if it is another one, renaming fails as well.
        Err(_) if fs::symlink_metadata(target).is_ok() => Err(BackupError::Exists(target.to_owned())),
        Err(_) => Ok(fs::rename(partial, target)?),
    }
}

/// Makes a new name survive a power cut.
fn sync_directory_of(target: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(directory.unwrap_or(Path::new(".")))?.sync_all() {
        // Some network file systems cannot, and have their own idea of when a name is there to stay.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let (partial, target) = (directory.path().join("copy.partial"), directory.path().join("copy"));
        fs::write(&partial, "copy").expect("written");
        fs::write(&target, "precious").expect("written");
        let refused = give_name(&partial, &target);
        assert!(matches!(&refused, Err(BackupError::Exists(path)) if *path == target), "{refused:?}");
        assert_eq!(fs::read(&target).expect("still there"), b"precious");
        fs::remove_file(&target).expect("removed");
        give_name(&partial, &target).expect("free");
        assert_eq!(fs::read(&target).expect("there"), b"copy");
        assert!(!partial.exists(), "one name is enough");
        sync_directory_of(&target).expect("synced");
        sync_directory_of(Path::new("name")).expect("the working directory");
    }
}
