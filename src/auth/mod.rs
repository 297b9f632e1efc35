//! Tokens: random, stored hashed, compared in constant time, scoped, and bound to a namespace.
//!
//! `secret` makes and hashes token texts, `file` keeps the hashes on disk, `keyring` answers who presented one,
//! and `watched` follows the file while the service runs.

mod file;
mod keyring;
mod scope;
mod secret;
mod watched;
mod wire;

pub use file::{NewToken, TokenRecord, TokensFile};
pub use keyring::{Keyring, Principal};
pub use scope::{Scope, ScopeError, Scopes};
pub use secret::TokenText;
pub use watched::{Reload, Watched};

use std::io;
use std::path::{Path, PathBuf};

/// Why tokens cannot be read, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The tokens file cannot be read.
    #[error("the tokens file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The tokens file is not what this program writes.
    #[error("the tokens file {} is malformed: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// The tokens file is gone although it held tokens before.
    #[error("the tokens file {} is gone; the tokens read before stay valid", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The tokens file cannot be locked or written; it is as it was.
    #[error("the tokens file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name that a listing could not show.
    #[error("a token's name must be 1 to {} characters without control characters", file::MAX_NAME_CHARS)]
    Name,
    /// A token without a scope could do nothing.
    #[error("a token needs at least one scope of {}", Scope::NAMES)]
    NoScope,
    /// A token that would be expired from the start.
    #[error("the token would expire at {0}, which is not in the future")]
    Expired(crate::domain::Timestamp),
    /// Nothing to revoke.
    #[error("there is no token with the id `{0}`")]
    NoSuchToken(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

impl AuthError {
    fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    fn write(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Write { path: path.to_owned(), source }
    }
}
