//! Maps what SQLite says to conditions, in one place.

use rusqlite::ErrorCode;

use super::BACKEND;
use crate::store::Error;

/// The condition behind an SQLite error.
pub(super) fn from_sqlite(error: &rusqlite::Error) -> Error {
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { backend: BACKEND, detail },
        Some(ErrorCode::ReadOnly) => Error::ReadOnly { backend: BACKEND, detail },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Corrupt { backend: BACKEND, detail }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Overloaded { backend: BACKEND, detail }
        }
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => {
            Error::Unavailable { backend: BACKEND, detail }
        }
        _ => Error::Backend { backend: BACKEND, detail },
    }
}

/// A row whose content is not what was written.
pub(super) fn corrupt(detail: impl Into<String>) -> Error {
    Error::Corrupt { backend: BACKEND, detail: detail.into() }
}
