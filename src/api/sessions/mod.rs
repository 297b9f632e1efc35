//! `/v1/sessions`: the route table of sessions, and what its handlers share.

mod batch;
mod change;
mod create;
mod events;
mod list;
mod one;
mod precondition;
mod request;
mod steps;
#[cfg(test)]
mod tests;
mod turns;
mod view;

pub(super) use turns::Turns;

use super::problem::{Problem, Result};
use super::state::Api;
use super::table::{Route, route};

/// The id that the route beside `/v1/sessions/{id}` takes: a session of that name could not be reached.
const RESERVED_ID: &str = "batch-get";

/// The routes whose answers have an entity tag. They are sent uncompressed: another coding would be other bytes
/// under the same tag.
pub(super) const TAGGED: &[Route] = &[
    route!(create: post),
    route!(one: get, put, patch, delete),
    route!(steps: status),
    route!(steps: touch),
    route!(events: post),
];

/// The routes that answer with many sessions or events.
pub(super) const COLLECTED: &[Route] = &[route!(list: get), route!(events: get), route!(batch: post)];

/// Counts what an operation on sessions came to.
async fn counted<T>(api: &Api, op: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = work.await;
    let result = outcome.as_ref().map_or_else(result_of, |_| "ok");
    api.metrics.session_operations.with_label_values(&[op, result]).inc();
    outcome
}

/// The word that metrics use for a problem.
fn result_of(problem: &Problem) -> &'static str {
    match (problem.code(), problem.status().as_u16()) {
        ("session_not_found", _) => "absent",
        ("session_expired", _) => "expired",
        (_, 409 | 412) => "conflict",
        (_, 500..) => "error",
        _ => "rejected",
    }
}
