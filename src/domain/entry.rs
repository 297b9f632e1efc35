//! What a store keeps for a key: the document and everything known about it.

use std::fmt;

use bytes::Bytes;

use super::document::{Document, Layout};
use super::key::Key;
use super::time::{Timestamp, Version};

/// BLAKE3-128 of a document's content: equal for equal content, whatever the time or the variant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Etag([u8; 16]);

impl Etag {
    /// The etag of a document's raw bytes.
    pub fn of(raw: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(raw);
        Self::finish(&hasher)
    }

    /// The etag of what `hasher` has seen.
    pub(crate) fn finish(hasher: &blake3::Hasher) -> Self {
        let mut etag = [0; 16];
        etag.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(etag)
    }

    /// The etag that a store kept as bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The 32 lower-case hexadecimal digits that stand between the quotes of an `ETag` header.
    pub fn hex(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the origin said that lets a crawler ask "has it changed?": they change without a new body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The origin's `ETag` response header.
    pub etag: Option<String>,
    /// The origin's `Last-Modified` response header.
    pub last_modified: Option<String>,
    /// Crawl4AI's fingerprint of the page's `<head>`.
    pub head_fingerprint: Option<String>,
}

impl Validators {
    /// The longest validator in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Whether a text can travel in a header: visible ASCII and spaces.
    pub fn accept(text: &str) -> bool {
        let fits = !text.is_empty() && text.len() <= Self::MAX_BYTES;
        fits && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    }

    /// These, with those that `newer` names in place of their own.
    #[must_use]
    pub fn updated_by(&self, newer: &Self) -> Self {
        let pick = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
        Self {
            etag: pick(&newer.etag, &self.etag),
            last_modified: pick(&newer.last_modified, &self.last_modified),
            head_fingerprint: pick(&newer.head_fingerprint, &self.head_fingerprint),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none() && self.head_fingerprint.is_none()
    }
}

/// Everything about an entry but its body.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Whose, which page, which variant.
    pub key: Key,
    /// The write that made it what it is.
    pub version: Version,
    /// The content's hash.
    pub etag: Etag,
    /// When the key was first stored; kept when the document is replaced.
    pub created_at: Timestamp,
    /// When the document was last stored, or last confirmed by the origin: what `Age` counts from.
    pub updated_at: Timestamp,
    /// When it stops being fresh.
    pub expires_at: Timestamp,
    /// The document's `status_code`, where it has one.
    pub status_code: Option<u16>,
    /// The document's `success`, where it has one.
    pub success: Option<bool>,
    /// The origin's validators.
    pub validators: Validators,
    /// Where each field lies in the frame.
    pub layout: Layout,
}

/// One stored result: its metadata and its body.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Everything but the body.
    pub meta: Meta,
    /// The body: one zstd frame.
    pub frame: Bytes,
}

impl Entry {
    /// The body with its layout, ready to be read.
    pub fn document(&self) -> Document<'_> {
        Document::new(&self.meta.layout, &self.frame)
    }

    /// About how many bytes the entry holds in memory.
    pub fn weight(&self) -> u64 {
        /// The structs themselves, allocator overhead and the cache's own bookkeeping.
        const FIXED: usize = 640;
        let text = self.meta.key.url().len() + self.meta.key.variant().len() + self.meta.layout.heap_bytes();
        (FIXED + text + self.frame.len()) as u64
    }
}
