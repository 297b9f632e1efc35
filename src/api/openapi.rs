//! The OpenAPI 3.1 document, generated from the handlers, and a page that renders it without the network.

use std::sync::LazyLock;

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, RefOr, ResponseBuilder};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::CODES;
use super::table::WITH_HEAD;

/// What every answer to a mistake looks like: RFC 9457.
#[derive(Debug, ToSchema, serde::Serialize)]
pub(super) struct ProblemDocument {
    /// `urn:crawlcache:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:crawlcache:problem:result_not_found")]
    kind: String,
    /// A short text that is the same for every problem of this code.
    title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// The stable name of the problem.
    #[schema(example = "result_not_found")]
    code: String,
    /// What is wrong in this case.
    detail: String,
    /// Why there is no answer: `absent`, `expired`, `too_old`, `field_missing`, `variant`, `damaged` or `failed`.
    reason: Option<String>,
    /// The parameter, header or field that is wrong.
    field: Option<String>,
}

/// The parts of the document that no handler can say.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "crawlcache",
        description = "A cache for web crawlers: ask for a page before fetching it, store what was fetched.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "results", description = "Crawl results: JSON documents by url and variant"),
        (name = "leases", description = "Leases: one crawler of a fleet fetches a page, the others wait for it or move on"),
        (name = "sessions", description = "Sessions: small JSON documents with states and expiry"),
        (name = "operations", description = "Health, metrics, statistics"),
        (name = "admin", description = "Moving a fleet from SQLite to DynamoDB: routing, long work, the outbox")
    ),
    components(schemas(ProblemDocument))
)]
struct Base;

/// The document to which routes are added.
pub(super) fn base() -> OpenApi {
    Base::openapi()
}

/// Adds what is the same for all routes: the problems, and the token.
pub(super) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token, where any is configured"))
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    for (path, item) in &mut document.paths.paths {
        let versioned = path.starts_with("/v1/");
        for operation in operations(item) {
            let takes_body = operation.request_body.is_some();
            let common: &[u16] = match (versioned, takes_body) {
                (false, _) => &[406, 500, 503],
                (true, false) => &[400, 401, 403, 406, 500, 501, 502, 503],
                (true, true) => &[400, 401, 403, 406, 408, 413, 415, 500, 501, 502, 503],
            };
            for status in common {
                operation
                    .responses
                    .responses
                    .entry(status.to_string())
                    .or_insert_with(|| RefOr::T(ResponseBuilder::new().description(titles(*status)).build()));
            }
            // Answered by the HTTP layer below the routes, which can send no body.
            for (status, description) in [
                ("414", "The request's target is longer than the HTTP layer reads"),
                ("431", "The request's head is larger than `limits.header_bytes`"),
            ] {
                let response = ResponseBuilder::new().description(description).build();
                operation.responses.responses.insert(status.to_owned(), RefOr::T(response));
            }
            describe_problems(operation);
            if versioned {
                operation.security = Some(vec![
                    utoipa::openapi::security::SecurityRequirement::default(),
                    utoipa::openapi::security::SecurityRequirement::new("token", Vec::<String>::new()),
                ]);
            }
        }
        if path == WITH_HEAD
            && let Some(get) = &item.get
        {
            item.head = Some(head_of(get));
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete, &mut item.head]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// The same without bodies.
fn head_of(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = Some("head_result".to_owned());
    head.summary = Some("Ask for a result's headers.".to_owned());
    head.description = Some("As GET, without the body.".to_owned());
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}

fn titles(status: u16) -> String {
    let titles: Vec<&str> =
        CODES.iter().filter(|(_, code_status, _)| *code_status == status).map(|(.., title)| *title).collect();
    titles.join("; ")
}

/// Every error answer is a problem.
fn describe_problems(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
            && !["414", "431"].contains(&status.as_str())
            && response.content.is_empty()
        {
            let content = ContentBuilder::new().schema(Some(ProblemDocument::schema())).build();
            response.content.insert("application/problem+json".to_owned(), RefOr::T(content));
        }
    }
}

/// `/openapi.json` and `/docs`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let ui = SwaggerUi::new("/docs").config(Config::from("/openapi.json").try_it_out_enabled(true));
    Router::<()>::new()
        .route("/openapi.json", axum::routing::get(document_json))
        .merge(Router::<()>::from(ui))
        .with_state(())
}

/// It is the same for every service of this build, so it is made once, by the first who asks.
async fn document_json() -> ([(HeaderName, &'static str); 1], Bytes) {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        serde_json::to_vec(&super::openapi_document())
            .expect("the document is made of strings and maps")
            .into()
    });
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}
