//! The HTTP API: the route table and what lies around it, on one screen.

mod admin;
mod answers;
mod batch;
mod body;
mod caller;
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
mod record;
mod request_id;
mod result;
mod results;
pub mod server;
mod sessions;
mod state;
mod states;
#[cfg(test)]
mod testing;
mod transfer;
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
use utoipa_axum::routes;

use observe::Observe;

/// Answers shorter than this are not worth compressing.
const COMPRESS_ABOVE_BYTES: u64 = 1024;

/// The routes and their description.
fn table() -> (Router<Api>, OpenApi) {
    // Documents choose their own coding: they are stored compressed.
    let documents = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(result::get, result::put, result::patch, result::delete))
        .routes(routes!(views::markdown))
        .routes(routes!(views::html))
        .routes(routes!(views::screenshot))
        .routes(routes!(views::pdf))
        .merge(sessions::tagged())
        .merge(admin::tagged());
    let others = OpenApiRouter::new()
        .routes(routes!(results::list, results::post))
        .routes(routes!(states::lookup))
        .routes(routes!(batch::get))
        .routes(routes!(batch::put))
        .routes(routes!(purge::purge))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::import))
        .merge(leases::routes())
        .routes(routes!(hosts::get))
        .merge(sessions::collected())
        .merge(admin::untagged())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
        .routes(routes!(health::stats));
    let (documents, mut document) = documents.split_for_parts();
    let (others, description) = others.split_for_parts();
    document.merge(description);
    openapi::complete(&mut document);
    let compressed = others.merge(openapi::routes(document.clone())).layer(compression());
    (documents.merge(compressed), document)
}

/// The whole service.
pub fn router(api: Api) -> Router {
    let (routes, document) = table();
    start_at_zero(&api, &document);
    routes
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(Observe(api.clone()))
        .with_state(api)
}

/// The OpenAPI document.
pub fn openapi_document() -> OpenApi {
    table().1
}

fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = SizeAbove::new(COMPRESS_ABOVE_BYTES).and(NotForContentType::IMAGES);
    CompressionLayer::new().compress_when(worth_it)
}

/// Every documented answer has its series from the start.
fn start_at_zero(api: &Api, document: &OpenApi) {
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            ("GET", &item.get),
            ("HEAD", &item.get),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ] {
            for status in operation.iter().flat_map(|operation| operation.responses.responses.keys()) {
                api.metrics.http_request_duration.with_label_values(&[method, path, status]);
            }
        }
    }
}
