//! The document codec: a JSON object as one zstd frame of which any prefix is an answer.
//!
//! ```text
//! raw     {"url":…,"success":true   ,"markdown":{…}   ,"html":"…"   }
//!         └──────── head ─────────┘ └── segment 1 ──┘ └ segment 2 ┘
//! stored  [frame header, blocks…]flush[blocks…]flush[blocks…]flush 09 00 00 7D
//! ```
//!
//! The top-level fields are split (never re-serialised) and ordered hot first: the *head* with every small
//! field, then `markdown`, `extracted_content`, `cleaned_html`, `html`, then the rest with the largest last.
//! The compressor is flushed after the head and after each large field. Four bytes close the frame: the
//! header of a last raw block of one byte (RFC 8878 section 3.1.1.2) and the `}` in it. The same four bytes
//! close the stream after any flush, so "the metadata and the markdown" is a slice of what is stored.

mod decode;
mod encode;
mod inflate;
mod large;
mod layout;
mod patch;
mod split;

pub use decode::{Document, Projection};
pub use encode::{Encoded, encode};
pub use inflate::{Coding, Inflate};
pub use large::encode_large;
pub use layout::{Field, Layout};
pub use patch::merge_patch;
pub use split::Facts;
pub(crate) use split::split;

/// A last raw block of one byte, `}`: it ends the frame and the JSON object after any flush.
const CLOSE: [u8; 4] = [0x09, 0x00, 0x00, b'}'];

/// Values up to this many bytes belong to the head.
const HEAD_VALUE_BYTES: u64 = 1024;

/// The large fields that readers ask for most, in the order in which they are stored.
const HOT: [&str; 4] = ["markdown", "extracted_content", "cleaned_html", "html"];

/// More top-level fields than this are refused: each one has its place in the layout.
pub const MAX_FIELDS: usize = 16_384;

/// More bytes of top-level names than this, in all, are refused: the layout, and every listing, holds them.
pub const MAX_NAME_BYTES: usize = 256 << 10;

/// Why a body cannot become a document, or a stored document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not JSON.
    #[error("malformed JSON: {0}")]
    Syntax(String),
    /// JSON, but not an object.
    #[error("the document must be a JSON object")]
    NotAnObject,
    /// A top-level field appears twice: which one was meant cannot be known (RFC 7493 section 2.3).
    #[error("field `{0}` appears twice")]
    DuplicateField(String),
    /// More top-level fields than [`MAX_FIELDS`].
    #[error("the document has more than {MAX_FIELDS} top-level fields")]
    TooManyFields,
    /// More bytes of top-level names than [`MAX_NAME_BYTES`].
    #[error("the names of the document's top-level fields are longer than {MAX_NAME_BYTES} bytes in all")]
    NamesTooLong,
    /// Larger than the configured limit once decoded.
    #[error("the document is larger than {limit} bytes once decoded")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The content coding is broken or incomplete.
    #[error("the body is not valid {coding}: {detail}")]
    BadCoding {
        /// `zstd` or `gzip`.
        coding: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// A stored frame or layout is not what was written.
    #[error("the stored document is corrupt: {0}")]
    Corrupt(&'static str),
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod properties;
