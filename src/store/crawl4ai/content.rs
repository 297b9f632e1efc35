//! Content files: found by hash, through the chains that upgrades have made, and compared with the hash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh64::xxh64;

use super::page::Loss;

/// Upgrades of Crawl4AI that one row can have seen. A chain that is longer was made to have no end.
const MOST_HOPS: u32 = 64;

/// How long a file that does not match its hash may still be growing.
const GROWTH: Duration = Duration::from_millis(50);

/// What a column says.
#[derive(Debug)]
pub(super) struct Content {
    /// The text.
    pub(super) text: String,
    /// Files between the column and the text, the one that holds the text included; 0 for text in the column itself.
    pub(super) hops: u32,
    /// When that file was written.
    pub(super) modified: Option<SystemTime>,
}

/// The folders of the content files.
#[derive(Clone, Debug)]
pub(super) struct Folders(PathBuf);

impl Folders {
    /// Those beside a database.
    pub(super) fn beside(database: &Path) -> Self {
        Self(database.parent().unwrap_or(Path::new(".")).to_owned())
    }

    /// What `column` stands for, through as many files of `folder` as it takes. `depth` is how many it took to the
    /// contents of other columns of the same row: all of them have been through the same upgrades.
    pub(super) fn resolve(&self, folder: &str, column: String, depth: Option<u32>) -> Result<Content, Loss> {
        let folder = self.0.join(folder);
        let mut content = Content { text: column, hops: 0, modified: None };
        while is_hash(&content.text) {
            let path = folder.join(&content.text);
            match read(&path, &content.text)? {
                Some((text, modified)) => {
                    content = Content { text, hops: content.hops + 1, modified: Some(modified) };
                }
                // A text of that form may be what the page says.
                None if depth.is_some_and(|depth| content.hops >= depth) => break,
                None if content.hops == 0 => return Err(Loss::Missing),
                None => return Err(Loss::ChainBroken),
            }
            if content.hops > MOST_HOPS {
                return Err(Loss::ChainBroken);
            }
        }
        Ok(content)
    }
}

/// Whether a text has the form of the names of content files.
fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The text of a file that its hash names; `None` when there is no such file.
fn read(path: &Path, hash: &str) -> Result<Option<(String, SystemTime)>, Loss> {
    let expected = u64::from_str_radix(hash, 16).expect("sixteen hexadecimal digits");
    let mut seen = None;
    loop {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(Loss::Unreadable),
        };
        let length = bytes.len();
        if let Some(bytes) = matching(bytes, expected) {
            let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
            let text = String::from_utf8(bytes).map_err(|_| Loss::NotText)?;
            return Ok(Some((text, modified.unwrap_or(SystemTime::UNIX_EPOCH))));
        }
        if seen.is_some_and(|seen| seen >= length) {
            return Err(Loss::HashMismatch);
        }
        // Crawl4AI writes in place: another process may be at it now.
        seen = Some(length);
        std::thread::sleep(GROWTH);
    }
}

/// The bytes that the hash is of: as they are, or without the line ends that Windows has put in.
fn matching(bytes: Vec<u8>, expected: u64) -> Option<Vec<u8>> {
    if xxh64(&bytes, 0) == expected {
        return Some(bytes);
    }
    memchr::memmem::find(&bytes, b"\r\n")?;
    let mut kept = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            kept.push(*byte);
        }
    }
    (xxh64(&kept, 0) == expected).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_crawl4ai() {
        // xxhash.xxh64("Hello").hexdigest() and that of the empty text.
        assert_eq!(format!("{:016x}", xxh64(b"Hello", 0)), "0a75a91375b27d44");
        assert_eq!(format!("{:016x}", xxh64(b"", 0)), "ef46db3751d8e999");
        assert!(is_hash("0a75a91375b27d44"));
        for text in ["", "0A75A91375B27D44", "0a75a91375b27d4", "0a75a91375b27d4g", "0a75a91375b27d44 "] {
            assert!(!is_hash(text), "{text}");
        }
    }

    #[test]
    fn line_ends_of_windows_are_undone_only_where_that_gives_the_hash() {
        let hash = |text: &str| xxh64(text.as_bytes(), 0);
        let found = |text: &str, expected: &str| {
            matching(text.as_bytes().to_vec(), hash(expected))
                .map(|bytes| String::from_utf8(bytes).expect("text"))
        };
        assert_eq!(found("a\r\nb", "a\r\nb").as_deref(), Some("a\r\nb"));
        assert_eq!(found("a\r\nb\r\n", "a\nb\n").as_deref(), Some("a\nb\n"));
        assert_eq!(found("a\r\r\nb\r", "a\r\nb\r").as_deref(), Some("a\r\nb\r"));
        assert_eq!(found("a\r\nb", "a\nb\n"), None);
        assert_eq!(found("ab", "abc"), None);
    }
}
