//! `GET /v1/result?…&lease=&wait=`: the page, or the lease to fetch it, in one call.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::asking::Asked;
use super::granted::Granted;
use super::standing::{Standing, Turnout};
use super::terms::{WantedLease, come_back, failed, name, won};
use crate::api::lookup::{Accepted, Found, count_error, count_outcome};
use crate::api::observe::Waited;
use crate::api::problem::Result;
use crate::api::state::Api;
use crate::domain::Key;
use crate::store::GetOptions;

/// What goes along with the answer of a page.
#[derive(Debug)]
pub(in crate::api) struct Along {
    granted: Option<Granted>,
    waited: Duration,
}

impl Along {
    /// Tells the holder of its lease, if it got one.
    pub(in crate::api) fn put_on(self, response: &mut Response) {
        if let Some(granted) = self.granted {
            name(response.headers_mut(), &granted.tell());
        }
        response.extensions_mut().insert(Waited(self.waited));
    }
}

/// The page, or the answer that there is none and how its lease stands.
pub(in crate::api) async fn one_call(
    api: &Api,
    key: &Key,
    options: GetOptions,
    accepted: &Accepted,
    wanted: WantedLease,
) -> Result<std::result::Result<(Found, Along), Response>> {
    let WantedLease { seconds, wait } = wanted;
    let asked = Asked { api, key, accepted, options, seconds, wait, insists: false };
    let Turnout { looked, standing, waited } =
        asked.settle().await.inspect_err(|_| count_error(api, "get"))?;
    count_outcome(api, "get", &looked);
    let missed = match looked {
        Ok(found) => {
            let granted = if let Standing::Won(granted) = standing { Some(granted) } else { None };
            return Ok(Ok((found, Along { granted, waited })));
        }
        Err(missed) => missed,
    };
    let problem = missed.problem(key);
    let mut response = match standing {
        Standing::Won(granted) => {
            let lease = granted.tell();
            let mut response = problem.with("lease", won(&lease, seconds)).into_response();
            name(response.headers_mut(), &lease);
            response
        }
        Standing::Held(held) => {
            let told = json!({"state": "held", "expires_at": held.until});
            come_back(problem.with("lease", told), &held, api.clock.now()).into_response()
        }
        Standing::Failed(left) => failed(problem, left).into_response(),
        // A page that is missing is not fresh, nor is there a stale one.
        Standing::Fresh | Standing::Unknown(_) => problem.into_response(),
    };
    response.extensions_mut().insert(Waited(waited));
    Ok(Err(response))
}
