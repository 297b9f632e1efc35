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
    /// The backend asks for fewer requests: capacity is used up.
    #[error("the {backend} store asks for fewer requests: {detail}")]
    Throttled {
        /// The backend's name.
        backend: &'static str,
        /// What it said.
        detail: String,
    },
    /// No answer within the configured time, all tries included.
    #[error("the {backend} store did not answer in time: {detail}")]
    Timeout {
        /// The backend's name.
        backend: &'static str,
        /// What was waited for.
        detail: String,
    },
    /// The credentials do not permit the operation.
    #[error("the {backend} store denies access: {detail}")]
    AccessDenied {
        /// The backend's name.
        backend: &'static str,
        /// What was denied.
        detail: String,
    },
    /// There are no credentials, or they are expired or unknown.
    #[error("the {backend} store does not accept the credentials: {detail}")]
    Credentials {
        /// The backend's name.
        backend: &'static str,
        /// What it said.
        detail: String,
    },
    /// This host's clock is too far from the backend's for a signature to hold.
    #[error("the {backend} store says that the clock of this host is wrong: {detail}")]
    ClockSkew {
        /// The backend's name.
        backend: &'static str,
        /// What it said.
        detail: String,
    },
    /// A table does not exist.
    #[error("the {backend} store has no such table: {detail}")]
    MissingTable {
        /// The backend's name.
        backend: &'static str,
        /// Which, and what makes it.
        detail: String,
    },
    /// A table does not have the keys that it must have.
    #[error("the {backend} store has a table of another schema: {detail}")]
    WrongSchema {
        /// The backend's name.
        backend: &'static str,
        /// Which, and how it differs.
        detail: String,
    },
    /// One entry is larger than the backend can hold.
    #[error("the {backend} store cannot hold anything so large: {detail}")]
    TooLarge {
        /// The backend's name.
        backend: &'static str,
        /// What is too large.
        detail: String,
    },
    /// The backend, as it is set up, has no way to do this.
    #[error("the {backend} store does not do this: {detail}")]
    Unsupported {
        /// The backend's name.
        backend: &'static str,
        /// What is missing, and how to get it.
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
    /// Whether the backend as a whole is out of order, and not this one request: another would fail as well.
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Throttled { .. }
                | Self::Timeout { .. }
                | Self::AccessDenied { .. }
                | Self::Credentials { .. }
                | Self::ClockSkew { .. }
                | Self::MissingTable { .. }
                | Self::WrongSchema { .. }
        )
    }

    /// The word that metrics use.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "unavailable",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read_only",
            Self::Corrupt { .. } => "corrupt",
            Self::Throttled { .. } => "throttled",
            Self::Timeout { .. } => "timeout",
            Self::AccessDenied { .. } => "access_denied",
            Self::Credentials { .. } => "credentials",
            Self::ClockSkew { .. } => "clock_skew",
            Self::MissingTable { .. } => "missing_table",
            Self::WrongSchema { .. } => "wrong_schema",
            Self::TooLarge { .. } => "too_large",
            Self::Unsupported { .. } => "unsupported",
            Self::Cursor => "cursor",
            Self::Backend { .. } => "backend",
        }
    }

    /// All words of [`Error::reason`].
    pub const REASONS: [&'static str; 16] = [
        "overloaded",
        "unavailable",
        "full",
        "read_only",
        "corrupt",
        "throttled",
        "timeout",
        "access_denied",
        "credentials",
        "clock_skew",
        "missing_table",
        "wrong_schema",
        "too_large",
        "unsupported",
        "cursor",
        "backend",
    ];
}

/// An error and its causes in one line; a cause that is told already is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer, because inner")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        let error = Outer(Inner(std::io::Error::other("root")));
        assert_eq!(chain(&error), "outer, because inner: root");
    }
}
