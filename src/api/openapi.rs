//! The OpenAPI 3.1 document: what of it no handler says, the committed file as it is served, and a page that renders it
//! without the network.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::CODES;
use super::table::WITH_HEAD;

/// What is served. `tests/documents.rs` makes it from the routes and holds it against them: at run time that would take
/// more memory than everything else that an idle service holds.
const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// The media type of problems.
const PROBLEM_JSON: &str = "application/problem+json";

/// Statuses of the HTTP layer below the routes, which can send no body.
const BARE: [(u16, &str); 2] = [
    (414, "The request's target is longer than the HTTP layer reads"),
    (431, "The request's head is larger than `limits.header_bytes`"),
];

/// What every answer to a mistake looks like (RFC 9457); some have members of their own beside these.
#[derive(Debug, ToSchema, serde::Serialize)]
#[schema(as = Problem)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    reason: Option<String>,
    /// The parameter, header or field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
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
    servers((url = "/", description = "The service that this document comes from")),
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
                (false, _) => &[406, 414, 431, 500, 503],
                (true, false) => &[400, 401, 403, 406, 414, 431, 500, 501, 502, 503],
                (true, true) => &[400, 401, 403, 406, 408, 413, 414, 415, 431, 500, 501, 502, 503],
            };
            let answers = &mut operation.responses.responses;
            for (status, answer) in answers.iter_mut() {
                if let RefOr::T(answer) = answer
                    && status.as_str() >= "400"
                    && answer.content.is_empty()
                {
                    answer.content.insert(PROBLEM_JSON.to_owned(), RefOr::T(problem()));
                }
            }
            for status in common {
                let name = name_of(*status);
                let shared = || RefOr::Ref(Ref::from_response_name(&name));
                answers.entry(status.to_string()).or_insert_with(shared);
                components.responses.entry(name).or_insert_with(|| RefOr::T(common_answer(*status)));
            }
            operation.security = Some(if versioned {
                vec![SecurityRequirement::default(), SecurityRequirement::new("token", Vec::<String>::new())]
            } else {
                Vec::new()
            });
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
    for (status, response) in &mut head.responses.responses {
        match response {
            RefOr::T(response) => response.content.clear(),
            RefOr::Ref(_) => {
                let status = status.parse().unwrap_or_default();
                *response = RefOr::T(ResponseBuilder::new().description(description_of(status)).build());
            }
        }
    }
    head
}

/// The component that all routes share for a status: its reason phrase as one word.
fn name_of(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.unwrap_or_default().replace(' ', "")
}

fn common_answer(status: u16) -> utoipa::openapi::Response {
    let answer = ResponseBuilder::new().description(description_of(status));
    if BARE.iter().any(|(bare, _)| *bare == status) {
        return answer.build();
    }
    answer.content(PROBLEM_JSON, problem()).build()
}

/// What a status may mean: the titles of its problems.
fn description_of(status: u16) -> String {
    let titles = CODES.iter().filter(|(_, code_status, _)| *code_status == status).map(|(.., title)| *title);
    let bare = BARE.iter().filter(|(bare, _)| *bare == status).map(|(_, description)| *description);
    titles.chain(bare).collect::<Vec<_>>().join("; ")
}

fn problem() -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build()
}

/// `/openapi.json` and `/docs`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let ui = SwaggerUi::new("/docs").config(Config::from("/openapi.json").try_it_out_enabled(true));
    Router::<()>::new()
        .route("/openapi.json", axum::routing::get(document_json))
        .merge(Router::<()>::from(ui))
        .with_state(())
}

async fn document_json() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::DOCUMENT;

    /// Clients are generated from these names: one that is changed or taken away breaks them.
    const OPERATIONS: [(&str, &str); 54] = [
        ("get_health", "GET /health"),
        ("get_livez", "GET /livez"),
        ("get_metrics", "GET /metrics"),
        ("get_readyz", "GET /readyz"),
        ("get_clock", "GET /v1/admin/clock"),
        ("confirm_clock", "POST /v1/admin/clock/confirm"),
        ("get_routing_gate", "GET /v1/admin/gate"),
        ("list_outbox", "GET /v1/admin/outbox"),
        ("retry_outbox", "POST /v1/admin/outbox/retry"),
        ("discard_outbox_row", "DELETE /v1/admin/outbox/{seq}"),
        ("rotate_session_key", "POST /v1/admin/sessions/rotate-key"),
        ("rollback_routing", "POST /v1/admin/rollback"),
        ("get_routing", "GET /v1/admin/routing"),
        ("put_routing", "PUT /v1/admin/routing"),
        ("patch_routing", "PATCH /v1/admin/routing"),
        ("list_routing_changes", "GET /v1/admin/routing/log"),
        ("get_routing_status", "GET /v1/admin/status"),
        ("list_work", "GET /v1/admin/work"),
        ("start_work", "POST /v1/admin/work"),
        ("get_work", "GET /v1/admin/work/{id}"),
        ("cancel_work", "DELETE /v1/admin/work/{id}"),
        ("get_host", "GET /v1/hosts/{host}"),
        ("ask_for_lease", "POST /v1/leases"),
        ("keep_lease", "PUT /v1/leases/{token}"),
        ("give_up_lease", "DELETE /v1/leases/{token}"),
        ("get_result", "GET /v1/result"),
        ("put_result", "PUT /v1/result"),
        ("delete_result", "DELETE /v1/result"),
        ("head_result", "HEAD /v1/result"),
        ("patch_result", "PATCH /v1/result"),
        ("get_result_html", "GET /v1/result/html"),
        ("get_result_markdown", "GET /v1/result/markdown"),
        ("get_result_pdf", "GET /v1/result/pdf"),
        ("get_result_screenshot", "GET /v1/result/screenshot"),
        ("list_results", "GET /v1/results"),
        ("post_result", "POST /v1/results"),
        ("batch_get_results", "POST /v1/results/batch-get"),
        ("batch_put_results", "POST /v1/results/batch-put"),
        ("export_results", "GET /v1/results/export"),
        ("import_results", "POST /v1/results/import"),
        ("lookup_results", "POST /v1/results/lookup"),
        ("purge_results", "POST /v1/results/purge"),
        ("list_sessions", "GET /v1/sessions"),
        ("create_session", "POST /v1/sessions"),
        ("batch_get_sessions", "POST /v1/sessions/batch-get"),
        ("get_session", "GET /v1/sessions/{id}"),
        ("put_session", "PUT /v1/sessions/{id}"),
        ("delete_session", "DELETE /v1/sessions/{id}"),
        ("patch_session", "PATCH /v1/sessions/{id}"),
        ("get_session_events", "GET /v1/sessions/{id}/events"),
        ("append_session_event", "POST /v1/sessions/{id}/events"),
        ("set_session_status", "POST /v1/sessions/{id}/status"),
        ("touch_session", "POST /v1/sessions/{id}/touch"),
        ("get_stats", "GET /v1/stats"),
    ];

    /// Members of example bodies that can be left out all the same: an operation that needs one of several, or that does less
    /// because of them.
    const HARMLESS: [(&str, &str); 9] = [
        ("put_routing", "reason"),
        ("patch_routing", "shadow_read"),
        ("patch_routing", "reason"),
        ("rollback_routing", "reason"),
        ("start_work", "options"),
        ("retry_outbox", "seq"),
        ("rotate_session_key", "dry_run"),
        ("purge_results", "host"),
        ("purge_results", "dry_run"),
    ];

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("the document is JSON")
    }

    /// Each operation with its method and path.
    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().expect("paths");
        paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("methods").iter();
                methods
                    .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
            })
            .collect()
    }

    /// Calls `look` with every object of the document and where it is.
    fn each_object<'d>(
        value: &'d Value,
        at: &str,
        look: &mut impl FnMut(&str, &'d serde_json::Map<String, Value>),
    ) {
        match value {
            Value::Object(object) => {
                look(at, object);
                object.iter().for_each(|(name, value)| each_object(value, &format!("{at}/{name}"), look));
            }
            Value::Array(items) => items.iter().for_each(|item| each_object(item, at, look)),
            _ => {}
        }
    }

    /// What a `$ref` names, or the value itself.
    fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
        match value["$ref"].as_str() {
            Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("it is there"),
            None => value,
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_that_stays() {
        let document = document();
        let mut named = BTreeMap::new();
        for (operation, description) in operations(&document) {
            let id = description["operationId"].as_str().unwrap_or_else(|| panic!("{operation} has no id"));
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{operation}: {id}");
            if let Some(other) = named.insert(id, operation.clone()) {
                panic!("{id} is the id of {operation} and of {other}");
            }
        }
        let known: BTreeMap<_, _> = OPERATIONS.into_iter().map(|(id, what)| (id, what.to_owned())).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn a_problem_is_described_once() {
        let document = document();
        let mut found = 0;
        each_object(&document, "", &mut |at, object| {
            if let Some(problem) = object.get("application/problem+json") {
                assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{at}");
                found += 1;
            }
        });
        assert!(found > 50, "{found}");
        for (operation, description) in operations(&document) {
            for (status, answer) in description["responses"].as_object().expect("answers") {
                if status.as_str() < "400"
                    || operation.starts_with("HEAD ")
                    || ["414", "431"].contains(&status.as_str())
                {
                    continue;
                }
                let content = &resolved(&document, answer)["content"];
                assert!(content.is_object(), "{operation} {status} says nothing of its body");
            }
        }
    }

    #[test]
    fn the_service_is_where_the_document_comes_from() {
        let document = document();
        let servers = document["servers"].as_array().expect("servers");
        assert!(servers.iter().all(|server| server["url"] == "/"), "{servers:?}");
    }

    #[test]
    fn null_is_the_default_only_of_what_can_be_null() {
        each_object(&document(), "", &mut |at, object| {
            if object.get("default") == Some(&Value::Null) {
                let types = object.get("type").and_then(Value::as_array);
                assert!(types.is_some_and(|types| types.contains(&"null".into())), "{at}");
            }
        });
    }

    /// The page of `/docs` fills in every example, and sends it when Execute is pressed.
    #[test]
    fn no_example_fills_in_what_can_be_left_out() {
        let document = document();
        for (operation, description) in operations(&document) {
            for parameter in description["parameters"].as_array().into_iter().flatten() {
                let parameter = resolved(&document, parameter);
                let has_example = ["example", "examples"]
                    .iter()
                    .any(|name| !parameter[name].is_null() || !parameter["schema"][name].is_null());
                let needed = parameter["required"] == true;
                assert!(needed || !has_example, "{operation}: {}", parameter["name"]);
            }
            let Some(body) = description.get("requestBody") else { continue };
            for (media_type, content) in
                resolved(&document, body)["content"].as_object().expect("media types")
            {
                // Without an example the page would make one of every member that there is.
                let example = &content["example"];
                assert!(!example.is_null(), "{operation} {media_type} has no example");
                let id = description["operationId"].as_str().expect("an id");
                let mut schema = resolved(&document, &content["schema"]);
                if let Some(of_many) = schema["oneOf"].as_array() {
                    schema = of_many
                        .iter()
                        .map(|one| resolved(&document, one))
                        .find(|one| one["type"] == "object")
                        .expect("an object");
                }
                let text =
                    example.as_str().map(|lines| serde_json::from_str::<Value>(lines).expect("a line"));
                for member in text.as_ref().unwrap_or(example).as_object().expect("an object").keys() {
                    assert!(
                        !["lease", "updated_at", "ttl", "ttl_seconds"].contains(&member.as_str()),
                        "{operation}: {member}"
                    );
                    let needed = schema["required"]
                        .as_array()
                        .is_some_and(|required| required.contains(&member.as_str().into()));
                    // What has no named members is a document of the caller's own.
                    let free = schema.get("properties").is_none();
                    assert!(needed || free || HARMLESS.contains(&(id, member)), "{operation}: {member}");
                }
            }
        }
    }
}
