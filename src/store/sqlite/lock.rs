//! One process owns a data directory: a lock file says who.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::schema::OpenError;

const FILE_NAME: &str = "crawlcache.lock";

/// The lock on a data directory, held until it is dropped. The kernel releases it when the process dies.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held for its lock")] File);

impl DirectoryLock {
    /// Creates the directory if it is missing, for its user alone, and takes its lock.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
        create_private(directory).map_err(unusable)?;
        let path = directory.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                file.read_to_string(&mut process).map_err(unusable)?;
                return Err(OpenError::Locked {
                    path: directory.to_owned(),
                    process: process.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        // The content only helps people; the lock is what counts, so a full disk is no reason to stop here.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// The process that owns a data directory now, as its lock file says; `None` where nobody does. Changes nothing.
pub fn owner(directory: &Path) -> Option<String> {
    let mut file = File::open(directory.join(FILE_NAME)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            file.read_to_string(&mut process).ok()?;
            Some(process.trim().to_owned())
        }
        _ => None,
    }
}

/// Creates a directory that only its user may enter: sessions may hold credentials. One that exists is left alone,
/// and so are the directories above it.
fn create_private(directory: &Path) -> std::io::Result<()> {
    if let Some(above) = directory.parent() {
        std::fs::create_dir_all(above)?;
    }
    let mut builder = DirBuilder::new();
    // Recursive, so that an existing directory is no error.
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
