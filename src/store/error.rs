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
    /// A session is sealed under a key that is not configured: with that key it can be read.
    #[error("the {backend} store holds what it has no key for: {detail}")]
    Sealed {
        /// The backend's name.
        backend: &'static str,
        /// Which session, and which key.
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
    /// The bucket does not exist, or not where it is looked for.
    #[error("the {backend} store has no such bucket: {detail}")]
    MissingBucket {
        /// The backend's name.
        backend: &'static str,
        /// Which.
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
    /// Nothing was found, and this backend, which may have it, could not be asked.
    #[error("the {backend} store may have it and could not be asked: {detail}")]
    Unasked {
        /// The backend's name.
        backend: &'static str,
        /// Why not.
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

/// Whom a failure concerns, and what ends it. Everything that a caller decides by the kind of an error is decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// This request alone: others may succeed, and this one fails again.
    Request,
    /// More than the store takes at once, or a backend that is left alone: the request succeeds later.
    Busy,
    /// The backend as a whole, until it comes back by itself.
    Passing,
    /// The backend as a whole, until an operator acts.
    Standing,
    /// Every write, until an operator acts.
    Writes,
}

impl Error {
    const fn scope(&self) -> Scope {
        match self {
            Self::Overloaded { .. } | Self::Unasked { .. } => Scope::Busy,
            Self::Unavailable { .. } | Self::Throttled { .. } | Self::Timeout { .. } => Scope::Passing,
            Self::AccessDenied { .. }
            | Self::Credentials { .. }
            | Self::ClockSkew { .. }
            | Self::MissingTable { .. }
            | Self::MissingBucket { .. }
            | Self::WrongSchema { .. } => Scope::Standing,
            Self::Full { .. } | Self::ReadOnly { .. } => Scope::Writes,
            Self::Corrupt { .. }
            | Self::Sealed { .. }
            | Self::TooLarge { .. }
            | Self::Unsupported { .. }
            | Self::Cursor
            | Self::Backend { .. } => Scope::Request,
        }
    }

    /// Whether the same request may succeed later although no operator does anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self.scope(), Scope::Busy | Scope::Passing)
    }

    /// Whether the request may have been carried out all the same: its answer may be lost, or that of an earlier try.
    pub const fn may_have_happened(&self) -> bool {
        matches!(self.scope(), Scope::Passing)
    }

    /// Whether the backend as a whole is out of order, and not this one request: another would fail as well.
    pub const fn is_outage(&self) -> bool {
        matches!(self.scope(), Scope::Passing | Scope::Standing)
    }

    /// Whether nothing is wrong with anything but this one request: it fails again, and others may succeed.
    pub const fn is_of_the_request(&self) -> bool {
        matches!(self.scope(), Scope::Request)
    }

    /// The backend that it is about: of several behind one store, the one that failed.
    pub const fn backend(&self) -> Option<&'static str> {
        match self {
            Self::Cursor => None,
            Self::Overloaded { backend, .. }
            | Self::Unavailable { backend, .. }
            | Self::Full { backend, .. }
            | Self::ReadOnly { backend, .. }
            | Self::Corrupt { backend, .. }
            | Self::Sealed { backend, .. }
            | Self::Throttled { backend, .. }
            | Self::Timeout { backend, .. }
            | Self::AccessDenied { backend, .. }
            | Self::Credentials { backend, .. }
            | Self::ClockSkew { backend, .. }
            | Self::MissingTable { backend, .. }
            | Self::MissingBucket { backend, .. }
            | Self::WrongSchema { backend, .. }
            | Self::TooLarge { backend, .. }
            | Self::Unsupported { backend, .. }
            | Self::Unasked { backend, .. }
            | Self::Backend { backend, .. } => Some(*backend),
        }
    }

    /// Whether this says only that a backend cannot be asked just now: it is away, slow or takes no more requests. What it
    /// has is unknown, not absent.
    pub const fn is_away(&self) -> bool {
        self.is_outage() || matches!(self, Self::Overloaded { .. } | Self::Unasked { .. })
    }

    /// That a backend was not asked, for this reason.
    pub fn unasked(backend: &'static str, reason: &Self) -> Self {
        Self::Unasked { backend, detail: reason.to_string() }
    }

    /// Whether this is about one thing that is stored, and others can be read all the same.
    pub const fn is_of_one(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Sealed { .. })
    }

    /// The word that metrics use.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable { .. } => "unavailable",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read_only",
            Self::Corrupt { .. } => "corrupt",
            Self::Sealed { .. } => "sealed",
            Self::Throttled { .. } => "throttled",
            Self::Timeout { .. } => "timeout",
            Self::AccessDenied { .. } => "access_denied",
            Self::Credentials { .. } => "credentials",
            Self::ClockSkew { .. } => "clock_skew",
            Self::MissingTable { .. } => "missing_table",
            Self::MissingBucket { .. } => "missing_bucket",
            Self::WrongSchema { .. } => "wrong_schema",
            Self::TooLarge { .. } => "too_large",
            Self::Unsupported { .. } => "unsupported",
            Self::Unasked { .. } => "unasked",
            Self::Cursor => "cursor",
            Self::Backend { .. } => "backend",
        }
    }

    /// The words of [`Error::reason`] that a backend can give; `unasked` is what a router says of one.
    pub const REASONS: [&'static str; 18] = [
        "overloaded",
        "unavailable",
        "full",
        "read_only",
        "corrupt",
        "sealed",
        "throttled",
        "timeout",
        "access_denied",
        "credentials",
        "clock_skew",
        "missing_table",
        "missing_bucket",
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

    /// One of each variant, in the order of [`Error::REASONS`].
    fn every() -> Vec<Error> {
        let (backend, detail) = ("dynamodb", String::new);
        vec![
            Error::Overloaded { backend, detail: detail() },
            Error::Unavailable { backend, detail: detail() },
            Error::Full { backend, detail: detail() },
            Error::ReadOnly { backend, detail: detail() },
            Error::Corrupt { backend, detail: detail() },
            Error::Sealed { backend, detail: detail() },
            Error::Throttled { backend, detail: detail() },
            Error::Timeout { backend, detail: detail() },
            Error::AccessDenied { backend, detail: detail() },
            Error::Credentials { backend, detail: detail() },
            Error::ClockSkew { backend, detail: detail() },
            Error::MissingTable { backend, detail: detail() },
            Error::MissingBucket { backend, detail: detail() },
            Error::WrongSchema { backend, detail: detail() },
            Error::TooLarge { backend, detail: detail() },
            Error::Unsupported { backend, detail: detail() },
            Error::Cursor,
            Error::Backend { backend, detail: detail() },
        ]
    }

    #[test]
    fn each_condition_has_a_word_and_one_scope() {
        let words: Vec<&str> = every().iter().map(Error::reason).collect();
        assert_eq!(words, Error::REASONS, "a variant is missing here or there");
        for error in every() {
            // Transient, an outage, of the request alone. What is both of the first may have happened.
            let expected = match error.reason() {
                "overloaded" => (true, false, false),
                "unavailable" | "throttled" | "timeout" => (true, true, false),
                "access_denied" | "credentials" | "clock_skew" | "missing_table" | "missing_bucket"
                | "wrong_schema" => (false, true, false),
                "full" | "read_only" => (false, false, false),
                _ => (false, false, true),
            };
            let found = (error.is_transient(), error.is_outage(), error.is_of_the_request());
            assert_eq!(found, expected, "{error:?}");
            assert_eq!(error.may_have_happened(), expected.0 && expected.1, "{error:?}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let error = Outer(Inner(std::io::Error::other("root")));
        assert_eq!(chain(&error), "outer, because inner: root");
    }
}
