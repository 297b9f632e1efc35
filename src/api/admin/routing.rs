//! `/v1/admin/routing`: reads and changes the policy in force.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::ETAG;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::policy::{MemberChange, Moves, PolicyPatch, RoutingDocument, WholePolicy, changes, warnings};
use super::precondition::{Precondition, etag};
use super::{reason, routed};
use crate::api::body::json;
use crate::api::caller::Admin;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::routing::Policy;
use crate::store::routed::policy::{Author, InForce, Refused};

/// How often a change without a precondition is tried again when somebody else was faster.
const ATTEMPTS: usize = 64;

/// How to change it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangeParams {
    /// Say what would change, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// A change that was made, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RoutingChange)]
pub(super) struct ChangeDocument {
    /// What is in force, or would be. The number of a change that was not made is that of the policy in force.
    #[serde(flatten)]
    routing: RoutingDocument,
    /// Whether it was only asked what would change.
    dry_run: bool,
    /// What differs from before; empty where nothing does, and then nothing was changed.
    changes: Vec<MemberChange>,
    /// How many keys change their owner.
    moves: Moves,
    /// What to mind.
    #[schema(value_type = Vec<String>)]
    warnings: Vec<&'static str>,
}

/// Read the routing policy.
#[utoipa::path(get, path = "/v1/admin/routing", tag = "admin", operation_id = "get_routing", responses(
    (status = 200, description = "What is in force", body = RoutingDocument,
        headers(("etag" = String, description = "The number of the policy"))),
    (status = 409, description = "The service keeps everything in one store"),
))]
pub(super) async fn get(State(api): State<Api>, _: Admin, _: Params<NoParams>) -> Result<Response> {
    let current = routed(&api)?.parts().routing.current();
    let tag = [(ETAG, etag(current.generation))];
    Ok((tag, Json(RoutingDocument::of(&current))).into_response())
}

/// Set the routing policy.
///
/// The whole of it, so it must name with `If-Match` what it is based on. It counts from the next operation on, and
/// after a restart.
#[utoipa::path(put, path = "/v1/admin/routing", tag = "admin", operation_id = "put_routing", params(ChangeParams),
    request_body(content = WholePolicy, content_type = "application/json",
        example = json!({"percent": 25, "force": "none", "dual_write": true, "shadow_read": 0.05, "on_owner_failure": "queue", "reason": "the second step"})),
    responses(
        (status = 200, description = "What is in force now, or would be", body = ChangeDocument,
            headers(("etag" = String, description = "The number of the policy in force"))),
        (status = 409, description = "The service keeps everything in one store, or a variable holds `force`"),
        (status = 412, description = "Another policy is in force: `current` is what it is"),
        (status = 428, description = "`If-Match` is missing"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn put(
    State(api): State<Api>,
    admin: Admin,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    routed(&api)?;
    let mut request: WholePolicy = json(&api, &headers, body).await?;
    let precondition = Precondition::of(&headers)?.required()?;
    let policy = request.policy()?;
    let author = Author { who: admin.who(&api), reason: reason(request.reason.take())? };
    let change = Change { precondition, author, dry_run: params.dry_run };
    change.make(&api, |_| Ok(policy)).await
}

/// Change parts of the routing policy.
///
/// RFC 7396: only the members that change. It counts from the next operation on, and after a restart.
#[utoipa::path(patch, path = "/v1/admin/routing", tag = "admin", operation_id = "patch_routing", params(ChangeParams),
    request_body(content = PolicyPatch, content_type = "application/merge-patch+json",
        example = json!({"shadow_read": 0.05, "reason": "compare more"})),
    responses(
        (status = 200, description = "What is in force now, or would be", body = ChangeDocument,
            headers(("etag" = String, description = "The number of the policy in force"))),
        (status = 409, description = "The service keeps everything in one store, a variable holds `force`, or too many changed it at once"),
        (status = 412, description = "Another policy is in force: `current` is what it is"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn patch(
    State(api): State<Api>,
    admin: Admin,
    Params(params): Params<ChangeParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    routed(&api)?;
    let mut request: PolicyPatch = json(&api, &headers, body).await?;
    let precondition = Precondition::of(&headers)?;
    let author = Author { who: admin.who(&api), reason: reason(request.reason.take())? };
    let change = Change { precondition, author, dry_run: params.dry_run };
    change.make(&api, |before| request.applied(&before.policy)).await
}

/// Who changes the policy, and when they may.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) precondition: Precondition,
    pub(super) author: Author,
    pub(super) dry_run: bool,
}

impl Change {
    /// Puts what `next` makes of the policy in force into its place, and answers with it.
    pub(super) async fn make(
        self,
        api: &Api,
        next: impl Fn(&InForce) -> Result<Policy> + Send,
    ) -> Result<Response> {
        let routing = &routed(api)?.parts().routing;
        for _ in 0..ATTEMPTS {
            let before = routing.current();
            self.precondition.check(&before)?;
            let after = next(&before)?;
            if let Some(by) = before.pinned_by.as_deref().filter(|_| after.force != before.policy.force) {
                return Err(pinned(by));
            }
            if self.dry_run || after == before.policy {
                let would_be = InForce { policy: after, ..InForce::clone(&before) };
                return Ok(answer(&before, &would_be, self.dry_run));
            }
            let (expected, author) = (Some(before.generation), self.author.clone());
            match routing.change(expected, after, author, api.clock.now()).await? {
                Ok(in_force) => return Ok(answer(&before, &Arc::unwrap_or_clone(in_force), false)),
                Err(Refused::Pinned { by }) => return Err(pinned(&by)),
                // Once more on what is in force by now, if the precondition allows that.
                Err(Refused::Changed { .. }) => {}
            }
        }
        Err(Problem::new(
            "write_conflict",
            "others changed the policy each time; send If-Match and decide yourself",
        ))
    }
}

fn answer(before: &InForce, after: &InForce, dry_run: bool) -> Response {
    let tag = [(ETAG, etag(after.generation))];
    let document = ChangeDocument {
        routing: RoutingDocument::of(after),
        dry_run,
        changes: changes(&before.policy, &after.policy),
        moves: Moves::between(&before.policy, &after.policy),
        warnings: warnings(&before.policy, &after.policy),
    };
    (tag, Json(document)).into_response()
}

fn pinned(by: &str) -> Problem {
    let detail = format!("`force` is held by {by}: unset it and start again to change it here");
    Problem::new("routing_pinned", detail).with("field", "force").with("pinned_by", by)
}
