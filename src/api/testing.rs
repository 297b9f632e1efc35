//! Asks the router in tests: no network, and answers that are read to their end.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::auth::{NewToken, Scopes, TokensFile, Watched};
use crate::domain::Timestamp;

/// When the clock of a test begins.
pub(super) const T0: u64 = 1_768_473_000;

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(super) fn etag(&self) -> &str {
        self.header("etag")
    }

    /// Status and code, for the answers that are problems.
    pub(super) fn problem(&self) -> (u16, &str) {
        if self.status >= 400 {
            assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        }
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// Sends a request.
pub(super) async fn ask(
    router: &Router,
    token: Option<&str>,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_owned())).expect("a request");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&bytes));
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| text())
    };
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Tokens of these scopes, named `token 0`, `token 1` and so on, and their texts in the same order.
pub(super) fn tokens(scopes: &[Scopes]) -> (Arc<Watched>, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tokens.toml");
    let mut file = TokensFile::default();
    let mut texts = Vec::new();
    for (index, scopes) in scopes.iter().enumerate() {
        let new = NewToken::new(&format!("token {index}"), *scopes);
        texts.push(file.create(new, Timestamp::from_secs(T0)).expect("created").1.expose().to_owned());
    }
    if !scopes.is_empty() {
        file.save(&path).expect("saved");
    }
    (Arc::new(Watched::open(&path).expect("opens")), texts)
}
