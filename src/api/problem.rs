//! Problems: what a client is told when something goes wrong, and the only place that names error statuses.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::domain::session::SessionError;
use crate::domain::{DocumentError, KeyError};
use crate::store;

/// An answer that says what went wrong: RFC 9457 `application/problem+json` with a stable `code`.
#[derive(Debug)]
pub(super) struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The result of a handler.
pub(super) type Result<T, E = Problem> = std::result::Result<T, E>;

/// Every code with its status and title. The codes are part of the API.
pub(super) const CODES: [(&str, u16, &str); 65] = [
    ("malformed_request", 400, "The request could not be read"),
    ("invalid_parameter", 400, "A parameter is missing, unknown or out of range"),
    ("invalid_url", 400, "The url cannot name a page"),
    ("invalid_variant", 400, "The variant is not valid"),
    ("invalid_cursor", 400, "The cursor does not belong to this listing"),
    ("malformed_json", 400, "The body is not JSON"),
    ("not_an_object", 400, "The body is not a JSON object"),
    ("duplicate_field", 400, "A top-level field appears twice"),
    ("too_many_fields", 400, "The document has too many top-level fields"),
    ("malformed_encoding", 400, "The body's content coding is broken"),
    ("invalid_field", 400, "A field has the wrong type or value"),
    ("invalid_session_id", 400, "The session id is not valid"),
    ("invalid_lease", 400, "This is no lease"),
    ("invalid_header", 400, "A header cannot be read"),
    ("unauthorized", 401, "A valid token is needed"),
    ("forbidden", 403, "The token's scope does not allow this"),
    ("not_found", 404, "There is no such route"),
    ("result_not_found", 404, "There is no such result to answer with"),
    ("field_not_found", 404, "The result has no such field"),
    ("session_not_found", 404, "There is no such session"),
    ("session_expired", 404, "The session has expired"),
    ("work_not_found", 404, "There is no such piece of work"),
    ("outbox_row_not_found", 404, "No such row of the outbox is parked"),
    ("method_not_allowed", 405, "The route does not know this method"),
    ("not_acceptable", 406, "No acceptable representation"),
    ("body_timeout", 408, "The body did not arrive in time"),
    ("illegal_transition", 409, "The session cannot go to that status"),
    ("status_mismatch", 409, "The session is not in the expected status"),
    ("session_exists", 409, "A session of this id exists"),
    ("lease_held", 409, "Another has the lease"),
    ("lease_lost", 409, "The lease is not the caller's any more"),
    ("lease_outdated", 409, "The lease does not allow this write any more"),
    ("write_conflict", 409, "Too many writers changed it at once"),
    ("encryption_key_missing", 409, "There is no key to seal sessions under"),
    ("not_routed", 409, "The service keeps everything in one store"),
    ("routing_pinned", 409, "Something outside holds what would change"),
    ("work_running", 409, "Other work has to end first"),
    ("precondition_failed", 412, "The precondition does not hold"),
    ("body_too_large", 413, "The body is too large"),
    ("document_too_large", 413, "The decoded document is too large"),
    ("unsupported_media_type", 415, "The content type is not accepted"),
    ("unsupported_encoding", 415, "The content coding is not accepted"),
    ("immutable_field", 422, "The field cannot be changed"),
    ("precondition_required", 428, "The change must name what it is based on"),
    ("internal_error", 500, "Something went wrong here"),
    ("entry_corrupt", 500, "What is stored is not what was written"),
    ("session_sealed", 500, "The session is sealed under a key that is not configured"),
    ("not_supported", 501, "The store, as it is set up, cannot do this"),
    ("backend_access_denied", 502, "The store denies access to this service"),
    ("backend_credentials", 502, "The store does not accept this service's credentials"),
    ("backend_clock_skew", 502, "This service's clock differs too much from the store's"),
    ("table_missing", 502, "A table of the store does not exist"),
    ("table_schema", 502, "A table of the store has another schema"),
    ("bucket_missing", 502, "The bucket for large bodies does not exist"),
    ("bucket_access_denied", 502, "The bucket for large bodies denies access to this service"),
    ("bucket_credentials", 502, "The bucket for large bodies does not accept this service's credentials"),
    ("throttled", 503, "The store asks for fewer requests"),
    ("backend_timeout", 503, "The store did not answer in time"),
    ("overloaded", 503, "Too much work at once"),
    ("unavailable", 503, "The store cannot answer"),
    ("bucket_throttled", 503, "The bucket for large bodies asks for fewer requests"),
    ("bucket_timeout", 503, "The bucket for large bodies did not answer in time"),
    ("bucket_unavailable", 503, "The bucket for large bodies cannot answer"),
    ("timeout", 503, "The answer took too long"),
    ("storage_full", 507, "No space is left"),
];

impl Problem {
    /// A problem of one of the [`CODES`].
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let status = CODES
            .iter()
            .find(|(known, ..)| *known == code)
            .and_then(|(_, status, _)| StatusCode::from_u16(*status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (members, headers) = (Map::new(), Vec::new());
        let mut problem = Self(Box::new(Inner { status, code, detail: detail.into(), members, headers }));
        match status {
            StatusCode::UNAUTHORIZED => problem = problem.header(WWW_AUTHENTICATE, "Bearer"),
            StatusCode::SERVICE_UNAVAILABLE => problem = problem.header(RETRY_AFTER, "1"),
            _ => {}
        }
        problem
    }

    /// A parameter that cannot be read: names it.
    pub(super) fn parameter(name: &str, detail: impl fmt::Display) -> Self {
        Self::new("invalid_parameter", format!("{name}: {detail}")).with("field", name)
    }

    /// Adds a member.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header; one that cannot be sent is left out.
    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// Its stable code.
    pub(super) fn code(&self) -> &'static str {
        self.0.code
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its explanation.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// As a JSON object, `status` included: also one line of a batch.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let title = CODES.iter().find(|(code, ..)| *code == self.0.code).map_or("", |(.., title)| title);
        let mut object = self.0.members.clone();
        for (name, value) in [
            ("type", json!(format!("urn:crawlcache:problem:{}", self.0.code))),
            ("title", json!(title)),
            ("status", json!(self.0.status.as_u16())),
            ("code", json!(self.0.code)),
            ("detail", json!(self.0.detail)),
        ] {
            object.insert(name.to_owned(), value);
        }
        object
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Value::Object(self.to_json()).to_string();
        let mut response = (self.0.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.0.headers);
        response
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let (code, field) = match error {
            KeyError::VariantTooLong { .. } | KeyError::VariantCharacter => ("invalid_variant", "variant"),
            KeyError::Namespace => ("invalid_parameter", "namespace"),
            _ => ("invalid_url", "url"),
        };
        Self::new(code, error.to_string()).with("field", field)
    }
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        let detail = error.to_string();
        match error {
            DocumentError::Syntax(_) => Self::new("malformed_json", detail),
            DocumentError::NotAnObject => Self::new("not_an_object", detail),
            DocumentError::DuplicateField(field) => Self::new("duplicate_field", detail).with("field", field),
            DocumentError::TooManyFields | DocumentError::NamesTooLong => {
                Self::new("too_many_fields", detail)
            }
            DocumentError::TooLarge { limit } => {
                Self::new("document_too_large", detail).with("limit_bytes", limit)
            }
            DocumentError::BadCoding { .. } => Self::new("malformed_encoding", detail),
            DocumentError::Corrupt(_) => {
                tracing::error!(error = %detail, "a stored document cannot be read");
                Self::new("entry_corrupt", detail)
            }
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        use store::Error;
        let detail = error.to_string();
        let is_of_bucket = error.backend() == Some(store::dynamodb::S3);
        let code = match error {
            Error::Unavailable { .. } if is_of_bucket => "bucket_unavailable",
            Error::Throttled { .. } if is_of_bucket => "bucket_throttled",
            Error::Timeout { .. } if is_of_bucket => "bucket_timeout",
            Error::AccessDenied { .. } if is_of_bucket => "bucket_access_denied",
            Error::Credentials { .. } if is_of_bucket => "bucket_credentials",
            Error::MissingBucket { .. } => "bucket_missing",
            Error::Overloaded { .. } => "overloaded",
            Error::Unavailable { .. } | Error::Unasked { .. } => "unavailable",
            Error::Full { .. } | Error::ReadOnly { .. } => "storage_full",
            Error::Corrupt { .. } => "entry_corrupt",
            Error::Sealed { .. } => "session_sealed",
            Error::Throttled { .. } => "throttled",
            Error::Timeout { .. } => "backend_timeout",
            Error::AccessDenied { .. } => "backend_access_denied",
            Error::Credentials { .. } => "backend_credentials",
            Error::ClockSkew { .. } => "backend_clock_skew",
            Error::MissingTable { .. } => "table_missing",
            Error::WrongSchema { .. } => "table_schema",
            Error::TooLarge { .. } => return Self::new("document_too_large", detail),
            Error::Unsupported { .. } => return Self::new("not_supported", detail),
            Error::Cursor => return Self::new("invalid_cursor", detail).with("field", "cursor"),
            Error::Backend { .. } => "internal_error",
        };
        let is_unasked = matches!(error, Error::Unasked { .. });
        tracing::error!(error = %detail, code, "a store operation failed");
        // What a backend says may name paths: that is for the log.
        let told = match code {
            "overloaded" => "the store takes no more work just now",
            _ if is_unasked => "nothing is known of it here, and the store that may have it cannot be asked",
            "unavailable" => "the store cannot be reached",
            "storage_full" => "the store has no space left",
            "throttled" => "the store asks for fewer requests; try again later",
            "backend_timeout" => "the store did not answer in time; try again later",
            "backend_access_denied" => "the store denies this service access; an operator has to grant it",
            "backend_credentials" => {
                "the store does not accept this service's credentials; an operator has to renew them"
            }
            "backend_clock_skew" => "this service's clock is wrong; an operator has to set it",
            "table_missing" => "a table of the store does not exist; an operator has to make it",
            "table_schema" => "a table of the store has another schema; an operator has to choose another",
            "bucket_unavailable" => {
                "the bucket for large bodies cannot be reached; smaller ones are stored and served"
            }
            "bucket_throttled" => "the bucket for large bodies asks for fewer requests; try again later",
            "bucket_timeout" => "the bucket for large bodies did not answer in time; try again later",
            "bucket_access_denied" => {
                "the bucket for large bodies denies this service access; an operator has to grant it"
            }
            "bucket_credentials" => {
                "the bucket for large bodies does not accept this service's credentials; an operator has to renew them"
            }
            "bucket_missing" => "the bucket for large bodies does not exist; an operator has to make it",
            "entry_corrupt" => "the stored entry is damaged; store it again to replace it",
            "session_sealed" => {
                "the session is sealed under a key that this service does not have; an operator has to add it to \
                 sessions.older_encryption_keys. Nothing is lost until then"
            }
            _ => "the store failed; the log has the details under this request's id",
        };
        Self::new(code, told)
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        let detail = error.to_string();
        match error {
            SessionError::InvalidId => Self::new("invalid_session_id", detail).with("field", "id"),
            SessionError::MissingField { field } => Self::new("invalid_field", detail).with("field", field),
            SessionError::InvalidField { field, .. } => {
                Self::new("invalid_field", detail).with("field", field)
            }
            SessionError::Immutable { field } => Self::new("immutable_field", detail).with("field", field),
            SessionError::IllegalTransition { from, to, allowed } => {
                let allowed: Vec<&str> = allowed.iter().map(|status| status.as_str()).collect();
                Self::new("illegal_transition", detail)
                    .with("current", from.as_str())
                    .with("requested", to.as_str())
                    .with("allowed", allowed)
                    .header(HeaderName::from_static("x-should-retry"), "false")
            }
            SessionError::StatusMismatch { current, .. } => {
                Self::new("status_mismatch", detail).with("current", current.as_str())
            }
            SessionError::NotAnObject => Self::new("not_an_object", detail),
            SessionError::TooLarge { limit } => {
                Self::new("document_too_large", detail).with("limit_bytes", limit)
            }
        }
    }
}

/// An error that a library answered in its own words, as a problem; anything else as it is.
pub(super) fn in_our_words(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/problem+json") || kind.starts_with("application/json") {
        return response;
    }
    let code = match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::NOT_ACCEPTABLE => "not_acceptable",
        _ if status.is_client_error() => "malformed_request",
        _ => "internal_error",
    };
    Problem::new(code, status.canonical_reason().unwrap_or("the request failed")).into_response()
}

/// The answer where no route matches.
pub(super) async fn no_route(uri: http::Uri) -> Problem {
    Problem::new("not_found", format!("there is no route {}; /docs lists them all", uri.path()))
}

/// The answer where the route knows other methods only.
pub(super) async fn no_method(method: http::Method) -> Problem {
    Problem::new("method_not_allowed", format!("{method} is not known here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_errors() {
        for (index, (code, status, title)) in CODES.iter().enumerate() {
            assert!(CODES[index + 1..].iter().all(|(other, ..)| other != code), "{code}");
            assert!((400..600).contains(status) && !title.is_empty(), "{code}");
        }
    }

    #[test]
    fn a_bucket_has_codes_of_its_own() {
        use store::Error;
        let detail = || "a detail".to_owned();
        for (of, codes) in [
            ("dynamodb", ["unavailable", "throttled", "backend_timeout", "backend_access_denied"]),
            ("s3", ["bucket_unavailable", "bucket_throttled", "bucket_timeout", "bucket_access_denied"]),
        ] {
            let errors = [
                Error::Unavailable { backend: of, detail: detail() },
                Error::Throttled { backend: of, detail: detail() },
                Error::Timeout { backend: of, detail: detail() },
                Error::AccessDenied { backend: of, detail: detail() },
            ];
            assert_eq!(errors.map(|error| Problem::from(error).code()), codes);
        }
        let missing = Problem::from(Error::MissingBucket { backend: "s3", detail: detail() });
        assert_eq!((missing.code(), missing.status()), ("bucket_missing", StatusCode::BAD_GATEWAY));
        let left_alone = Problem::from(Error::Unavailable { backend: "s3", detail: detail() });
        assert!(left_alone.0.headers.iter().any(|(name, _)| name == RETRY_AFTER), "{left_alone:?}");
    }

    #[test]
    fn foreign_errors_are_put_into_our_words() {
        let foreign = |status: StatusCode, kind: &'static str| {
            in_our_words((status, [(CONTENT_TYPE, kind)], "text").into_response())
        };
        let kind =
            |response: &Response| response.headers()[CONTENT_TYPE].to_str().map(str::to_owned).expect("text");
        let answered = foreign(StatusCode::NOT_ACCEPTABLE, "text/plain");
        assert_eq!(
            (answered.status(), kind(&answered)),
            (StatusCode::NOT_ACCEPTABLE, "application/problem+json".into())
        );
        assert_eq!(kind(&foreign(StatusCode::OK, "text/plain")), "text/plain");
        assert_eq!(kind(&foreign(StatusCode::SERVICE_UNAVAILABLE, "application/json")), "application/json");
    }

    #[test]
    fn a_problem_has_its_five_members_and_its_own() {
        let problem = Problem::from(DocumentError::DuplicateField("html".into()));
        let object = problem.to_json();
        assert_eq!(object["type"], "urn:crawlcache:problem:duplicate_field");
        assert_eq!((&object["status"], &object["field"]), (&json!(400), &json!("html")));
    }
}
