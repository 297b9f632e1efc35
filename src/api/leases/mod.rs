//! `/v1/leases`: one crawler of a fleet fetches a page, the others wait for it or move on.

mod asking;
mod fenced;
mod granted;
mod hub;
mod one_call;
mod routes;
mod standing;
mod terms;
#[cfg(test)]
mod tests;

pub(super) use fenced::store_under;
pub(super) use granted::revoke;
pub(super) use hub::Hub;
pub(super) use one_call::one_call;
pub(super) use terms::{LeaseHeader, WantedLease, named, token};

use super::state::Api;
use super::table::{Route, route};
use crate::domain::{Key, KeyId};

/// The routes.
pub(super) const ROUTES: &[Route] = &[route!(routes: post), route!(routes: put, delete)];

/// Which of these keys somebody fetches just now; none where that cannot be seen.
pub(super) async fn held(api: &Api, keys: &[&Key]) -> Option<Vec<bool>> {
    if keys.is_empty() {
        return Some(Vec::new());
    }
    let ids: Vec<KeyId> = keys.iter().map(|key| key.id()).collect();
    match api.leases.held(&ids, api.clock.now()).await {
        Ok(leases) => Some(leases.iter().map(Option::is_some).collect()),
        Err(error) => {
            tracing::warn!(%error, "which pages are being fetched cannot be seen");
            None
        }
    }
}
