//! The HTTP API: the route table and what lies around it, on one screen.

mod admin;
mod answers;
mod batch;
mod body;
mod caller;
mod damaged;
mod header_text;
mod health;
mod hosts;
mod inspect;
mod leases;
mod listing;
mod lookup;
mod negotiate;
mod observe;
mod openapi;
mod params;
mod problem;
mod purge;
mod query;
mod record;
mod request_id;
mod result;
mod results;
pub mod server;
mod sessions;
mod state;
mod states;
mod table;
#[cfg(test)]
mod testing;
mod transfer;
mod turns;
mod views;
mod worker;
mod write;

pub use state::{Api, Backend, Parts};
pub use worker::{NotStarted, Worker};

use axum::Router;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use observe::Observe;
use table::{Route, route};

/// Answers shorter than this are not worth compressing.
const COMPRESS_ABOVE_BYTES: u64 = 1024;

/// The routes that choose the coding of their answers themselves: documents are stored compressed, and another coding
/// would be other bytes under the same entity tag.
fn uncompressed() -> impl Iterator<Item = &'static Route> {
    const RESULTS: &[Route] = &[
        route!(result: get, put, patch, delete),
        route!(views: markdown),
        route!(views: html),
        route!(views: screenshot),
        route!(views: pdf),
    ];
    RESULTS.iter().chain(sessions::TAGGED).chain(admin::TAGGED)
}

fn compressed() -> impl Iterator<Item = &'static Route> {
    const RESULTS: &[Route] = &[
        route!(results: list, post),
        route!(states: lookup),
        route!(batch: get),
        route!(batch: put),
        route!(purge: purge),
        route!(transfer: export),
        route!(transfer: import),
    ];
    const OPERATIONS: &[Route] = &[
        route!(health: livez),
        route!(health: readyz),
        route!(health: health),
        route!(health: metrics),
        route!(health: stats),
    ];
    const HOSTS: &[Route] = &[route!(hosts: get)];
    let about_results = RESULTS.iter().chain(leases::ROUTES).chain(HOSTS);
    about_results.chain(sessions::COLLECTED).chain(admin::UNTAGGED).chain(OPERATIONS)
}

/// The whole service.
pub fn router(api: Api) -> Router {
    let serve = |router, route: &Route| (route.serve)(router);
    let documents = uncompressed().fold(Router::new(), serve);
    let others = compressed().fold(Router::new(), serve).merge(openapi::routes()).layer(compression());
    start_at_zero(&api);
    documents
        .merge(others)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(Observe(api.clone()))
        .with_state(api)
}

/// The OpenAPI document as the routes say it. What is served is the committed one, which tests hold against this.
pub fn openapi_document() -> OpenApi {
    let described = uncompressed()
        .chain(compressed())
        .fold(OpenApiRouter::with_openapi(openapi::base()), |router, route| (route.describe)(router));
    let mut document = described.into_openapi();
    openapi::complete(&mut document);
    document
}

fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = SizeAbove::new(COMPRESS_ABOVE_BYTES).and(NotForContentType::IMAGES);
    CompressionLayer::new().compress_when(worth_it)
}

/// Every good answer of every route has its series, and so has what goes wrong here: a rate of errors is 0, not absent,
/// and the first burst of them is counted.
/// A mistake of a client gets one when it first happens: most of the documented answers are mistakes that most services
/// never see, and each would be 19 lines of every scrape.
fn start_at_zero(api: &Api) {
    for served in uncompressed().chain(compressed()).flat_map(|route| (route.operations)()) {
        for status in served.own_statuses() {
            for method in &served.methods {
                api.metrics.http_request_duration.with_label_values(&[method, served.path.as_str(), status]);
            }
        }
    }
}
