//! What may go wrong in a store, by condition: what a caller can do about it decides the variant.

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a store could not do what it was asked. A miss is no error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More work than the store takes at once: try again later.
    #[error("the {backend} store is overloaded: {detail}")]
    Overloaded {
        /// The backend's name.
        backend: &'static str,
        /// What is full.
        detail: String,
    },
    /// The store cannot be reached or has stopped.
    #[error("the {backend} store is unavailable: {detail}")]
    Unavailable {
        /// The backend's name.
        backend: &'static str,
        /// What happened.
        detail: String,
    },
    /// No space is left, on the disk or within the configured bound.
    #[error("the {backend} store has no space left: {detail}")]
    Full {
        /// The backend's name.
        backend: &'static str,
        /// What is full.
        detail: String,
    },
    /// The medium refuses writes.
    #[error("the {backend} store is read-only: {detail}")]
    ReadOnly {
        /// The backend's name.
        backend: &'static str,
        /// What happened.
        detail: String,
    },
    /// What is stored is not what was written.
    #[error("the {backend} store holds corrupt data: {detail}")]
    Corrupt {
        /// The backend's name.
        backend: &'static str,
        /// Where.
        detail: String,
    },
    /// A page cursor that this store did not hand out.
    #[error("the cursor does not belong to this listing")]
    Cursor,
    /// Anything else the backend said.
    #[error("the {backend} store failed: {detail}")]
    Backend {
        /// The backend's name.
        backend: &'static str,
        /// What it said.
        detail: String,
    },
}

impl Error {
    /// The word that metrics use.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "unavailable",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read_only",
            Self::Corrupt { .. } => "corrupt",
            Self::Cursor => "cursor",
            Self::Backend { .. } => "backend",
        }
    }

    /// All words of [`Error::reason`].
    pub const REASONS: [&'static str; 7] =
        ["overloaded", "unavailable", "full", "read_only", "corrupt", "cursor", "backend"];
}
