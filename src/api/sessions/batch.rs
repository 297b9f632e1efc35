//! `POST /v1/sessions/batch-get`: many sessions by id.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use futures_util::future::join_all;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::counted;
use super::view::{ChosenFields, Secrecy, UnreadableSession, document};
use crate::api::body::json;
use crate::api::caller::Reader;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::session::SessionId;

/// The most ids in one request.
const MAX_IDS: usize = 100;

/// Which sessions, and what of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SessionBatchGetRequest)]
pub(super) struct BatchGetRequest {
    /// Their ids, at most 100.
    #[schema(example = json!(["sess_a1b2c3d4", "sess_00c0ffee"]), max_items = 100)]
    ids: Vec<String>,
    /// The fields to answer with.
    #[schema(example = json!(["id", "status"]))]
    fields: Option<Vec<String>>,
}

/// What there is of the sessions that were asked for.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = SessionBatch)]
pub(super) struct Batch {
    /// The sessions, without credentials, in the order of the ids.
    #[schema(value_type = Vec<ChosenFields>)]
    items: Vec<Value>,
    /// The ids of those that are not there, or have expired.
    #[schema(example = json!(["sess_00c0ffee"]))]
    missing: Vec<String>,
    /// The ids of those that cannot be told of: the store that may have them could not be asked. Missing where there are
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
    /// Those that are there and cannot be read; missing where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<UnreadableSession>,
}

/// Read many sessions.
#[utoipa::path(post, path = "/v1/sessions/batch-get", tag = "sessions", operation_id = "batch_get_sessions",
    request_body(content = BatchGetRequest, content_type = "application/json", example = json!({"ids": ["sess_a1b2c3d4", "sess_00c0ffee"]})),
    responses((status = 200, description = "Those that are there, and the ids of the others", body = Batch)))]
pub(super) async fn post(
    State(api): State<Api>,
    caller: Reader,
    _: Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Batch>> {
    counted(&api, "batch_get", async {
        let request: BatchGetRequest = json(&api, &headers, body).await?;
        if request.ids.len() > MAX_IDS {
            let detail = format!("`ids` has {} of them; at most {MAX_IDS} are accepted", request.ids.len());
            return Err(Problem::new("invalid_field", detail).with("field", "ids"));
        }
        let ids = request.ids.iter().map(|id| SessionId::new(id)).collect::<Result<Vec<_>, _>>()?;
        let found = match api.sessions.get_many(caller.namespace(), &ids).await {
            Ok(found) => found,
            // With a router some of them may be known all the same: each by itself.
            Err(error) if error.is_away() && api.routed.is_some() => {
                join_all(ids.iter().map(|id| api.sessions.get(caller.namespace(), id))).await
            }
            Err(error) => return Err(error.into()),
        };
        let now = api.clock.now();
        let mut batch = Batch::default();
        for (id, record) in ids.iter().zip(found) {
            let record = match record {
                Ok(record) => record,
                Err(error) if error.is_away() => {
                    batch.unknown.push(id.to_string());
                    continue;
                }
                Err(error) if error.is_of_one() => {
                    batch.unreadable.push(UnreadableSession::of(id, error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match record.filter(|record| !record.session.is_expired(now)) {
                Some(record) => {
                    let item = document(&record.session, request.fields.as_deref(), Secrecy::Hidden)?;
                    batch.items.push(Value::Object(item));
                }
                None => batch.missing.push(id.to_string()),
            }
        }
        Ok(Json(batch))
    })
    .await
}
