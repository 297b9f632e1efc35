//! `/v1/admin`: what operators read and change while a fleet moves from SQLite to DynamoDB.

mod audit;
mod clock;
mod gate;
mod outbox;
mod policy;
mod precondition;
mod rollback;
mod routing;
mod seal;
mod status;
#[cfg(test)]
mod tests;
mod work;

use super::problem::{Problem, Result};
use super::state::Api;
use super::table::{Route, route};
use super::worker::Worker;
use crate::store::routed::Routed;

/// The routes whose answers have an entity tag: they are sent uncompressed.
pub(super) const TAGGED: &[Route] = &[route!(routing: get, put, patch), route!(rollback: post)];

/// The others.
pub(super) const UNTAGGED: &[Route] = &[
    route!(audit: get),
    route!(clock: get),
    route!(clock: confirm),
    route!(status: get),
    route!(gate: get),
    route!(outbox: list),
    route!(outbox: retry),
    route!(outbox: discard),
    route!(seal: post),
    route!(work: list, start),
    route!(work: get, cancel),
];

/// The router; a problem that says how to get one where there is none.
fn routed(api: &Api) -> Result<&Routed> {
    api.routed.as_ref().ok_or_else(not_routed)
}

/// Who does long work.
fn worker(api: &Api) -> Result<&dyn Worker> {
    routed(api)?;
    api.worker.as_deref().ok_or_else(|| Problem::new("not_supported", "this service does no long work"))
}

fn not_routed() -> Problem {
    let detail = "the service keeps everything in one store; start it with `store.backend = \"routed\"` or \
                  DYNAMODB_MIGRATION_PCT=0 to have it keep keys in SQLite and DynamoDB";
    Problem::new("not_routed", detail)
}

/// The longest reason for a change, in characters.
const REASON_CHARS: usize = 1000;

/// A reason as it goes into the log: without what a log cannot show.
fn reason(given: Option<String>) -> Result<String> {
    let reason = given.unwrap_or_default().trim().to_owned();
    if reason.chars().count() > REASON_CHARS || reason.chars().any(char::is_control) {
        let detail = format!("reason: up to {REASON_CHARS} characters on one line are accepted");
        return Err(Problem::new("invalid_field", detail).with("field", "reason"));
    }
    Ok(reason)
}
