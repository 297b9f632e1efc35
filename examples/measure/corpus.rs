//! Documents from a folder.

use std::path::Path;

use bytes::Bytes;

/// The documents in a folder, in order of name.
pub(crate) fn read_corpus(folder: &Path) -> std::io::Result<Vec<Bytes>> {
    let mut files =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    files.iter().map(|file| Ok(std::fs::read(file)?.into())).collect()
}
