//! `/v1/admin/sessions/rotate-key`: seals sessions anew under the current key, a page at a time.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::json;
use crate::api::caller::Admin;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::store::{SessionCursor, Unreadable};

/// Sessions that one request looks at, at most.
const PAGE: usize = 200;

/// Which page, and whether to write.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateRequest {
    /// Only counts what would be sealed anew.
    #[serde(default)]
    dry_run: bool,
    /// Where the last page ended.
    cursor: Option<String>,
}

/// What one page came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RotateReport {
    /// The backend whose sessions these are.
    #[schema(example = "sqlite")]
    backend: &'static str,
    /// Sessions that were looked at, of all namespaces.
    seen: u64,
    /// Those that were sealed under the current key, or would be.
    resealed: u64,
    /// Those that cannot be read, and stay as they are.
    unreadable: Vec<UnreadableName>,
    /// Send it as `cursor` for the next page; missing at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A session that cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnreadableName {
    /// Whose.
    #[schema(example = "default")]
    namespace: String,
    /// Which one.
    #[schema(example = "sess_a1b2c3d4")]
    id: String,
    /// `session_sealed` or `entry_corrupt`.
    #[schema(example = "session_sealed")]
    code: &'static str,
}

impl UnreadableName {
    fn of(unreadable: Unreadable) -> Self {
        let Unreadable { namespace, id, error } = unreadable;
        Self { namespace: namespace.to_string(), id: id.to_string(), code: Problem::from(error).code() }
    }
}

/// Seal sessions under the current key.
///
/// After `sessions.encryption_key` was changed, and the one before it was added to `sessions.older_encryption_keys`, this
/// seals everything under the new one, so that the older can go. Nothing else of a session changes, not even its version.
#[utoipa::path(post, path = "/v1/admin/sessions/rotate-key", tag = "admin", operation_id = "rotate_session_key",
    request_body(content = RotateRequest, content_type = "application/json", example = json!({"dry_run": true})),
    responses(
        (status = 200, description = "What one page of sessions came to", body = RotateReport),
        (status = 400, description = "The cursor is none of this walk"),
        (status = 507, description = "No space is left"),
        (status = 409, description = "There is no key: `sessions.encryption_key` is empty"),
    ))]
pub(super) async fn post(
    State(api): State<Api>,
    _: Admin,
    _: Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RotateReport>> {
    let request: RotateRequest = json(&api, &headers, body).await?;
    if !api.config.sessions.encryption_key.is_set() {
        return Err(Problem::new("encryption_key_missing", "`sessions.encryption_key` is empty"));
    }
    let unknown =
        || Problem::new("invalid_cursor", "the cursor does not belong to this walk").with("field", "cursor");
    let (place, after) = match &request.cursor {
        None => (0, None),
        Some(cursor) => {
            let (place, after) = read(cursor).ok_or_else(unknown)?;
            (place, (!after.is_empty()).then_some(SessionCursor(after)))
        }
    };
    let backend = api.backends.get(place).ok_or_else(unknown)?;
    let page = backend.sessions.reseal(after.as_ref(), PAGE, request.dry_run).await?;
    let next_cursor = match page.next {
        Some(next) => Some(write(place, &next.0)),
        None => (place + 1 < api.backends.len()).then(|| write(place + 1, &[])),
    };
    Ok(Json(RotateReport {
        backend: backend.name,
        seen: page.seen,
        resealed: page.resealed,
        unreadable: page.unreadable.into_iter().map(UnreadableName::of).collect(),
        next_cursor,
    }))
}

/// A cursor is the number of the backend, and hexadecimal digits of where its walk is.
fn write(place: usize, after: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{place}.");
    for byte in after {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn read(cursor: &str) -> Option<(usize, Vec<u8>)> {
    let (place, after) = cursor.split_once('.')?;
    if !after.is_ascii() || after.len() % 2 != 0 {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(after.get(at..at + 2)?, 16).ok();
    let after = (0..after.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some((place.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_were_written() {
        for (place, after) in [(0, &b"\0\xff"[..]), (1, b""), (1, b"default/s")] {
            assert_eq!(read(&write(place, after)), Some((place, after.to_vec())));
        }
        for text in ["", "0", "x.00", "0.0", "0.zz", "0.\u{e9}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
