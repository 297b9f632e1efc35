//! `GET /v1/sessions`: the sessions of a project, or those in a status, page by page.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::counted;
use super::view::{Secrecy, SessionDocument, UnreadableSession, document};
use crate::api::caller::Reader;
use crate::api::listing::{MAX_LIMIT, bind, time, unbind};
use crate::api::params::{Params, bounded};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::domain::session::Status;
use crate::domain::{Namespace, Timestamp};
use crate::store::{SessionCursor, SessionFilter, SessionPage, SessionQuery};

/// How many sessions are read at a time: each may be as large as the configuration allows.
const READ_AT_ONCE: usize = 100;

/// A page ends early when it has grown to so many bytes of JSON.
const PAGE_BYTES: usize = 8 << 20;

/// Which sessions.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Those of this project, by creation time. Either this or `status` is needed.
    project_id: Option<String>,
    /// Those in this status, such as `READY`: of the project, or else all, the soonest to expire first.
    status: Option<String>,
    /// Only those created at or after this time: RFC 3339 or Unix seconds. Needs `project_id`.
    created_after: Option<String>,
    /// Only those created before this time. Needs `project_id`.
    created_before: Option<String>,
    /// Only those that expire at or after this time. Only without `project_id`.
    expires_after: Option<String>,
    /// Only those that expire before this time. Only without `project_id`.
    expires_before: Option<String>,
    /// `desc` (newest first) when missing, or `asc`. Needs `project_id`.
    order: Option<String>,
    /// At most so many a page, 1 to 1000; 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// Expired ones too, as long as they are kept.
    #[serde(default)]
    include_expired: bool,
}

/// One page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionsPage {
    /// The sessions, without credentials.
    #[schema(value_type = Vec<SessionDocument>)]
    items: Vec<Value>,
    /// Those that would be on this page and cannot be read; missing where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<UnreadableSession>,
    /// Send it as `cursor=` for the next page; missing at the end. A page may be short before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List the sessions of a project, or those in a status.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", operation_id = "list_sessions", params(ListParams),
    responses((status = 200, description = "One page", body = SessionsPage)))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ListParams>,
) -> Result<Json<SessionsPage>> {
    counted(&api, "list", async {
        let mut query = params.query(caller.namespace(), api.clock.now())?;
        let fingerprint = fingerprint(&query);
        let (mut items, mut unreadable) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut wanted = query.limit;
        loop {
            query.limit = wanted.min(READ_AT_ONCE);
            let SessionPage { items: found, unreadable: closed, next, .. } =
                api.sessions.list(&query).await?;
            wanted = wanted.saturating_sub(found.len() + closed.len());
            unreadable
                .extend(closed.into_iter().map(|closed| UnreadableSession::of(&closed.id, closed.error)));
            for record in found {
                let item = Value::Object(document(&record.session, None, Secrecy::Hidden)?);
                bytes += item.to_string().len();
                items.push(item);
            }
            query.after = next;
            if wanted == 0 || bytes >= PAGE_BYTES || query.after.is_none() {
                break;
            }
        }
        let next_cursor = query.after.map(|next| bind(fingerprint, &next.0));
        Ok(Json(SessionsPage { items, unreadable, next_cursor }))
    })
    .await
}

impl ListParams {
    /// The query, with its cursor checked.
    fn query(&self, namespace: &Namespace, now: Timestamp) -> Result<SessionQuery> {
        let limit = bounded("limit", self.limit, 1..=MAX_LIMIT, 100)?;
        let mut query = SessionQuery {
            namespace: namespace.clone(),
            filter: self.filter()?,
            live_at: (!self.include_expired).then_some(now),
            limit: usize::try_from(limit).unwrap_or(1000),
            after: None,
        };
        if let Some(cursor) = &self.cursor {
            query.after = Some(SessionCursor(unbind(fingerprint(&query), cursor)?));
        }
        Ok(query)
    }

    fn filter(&self) -> Result<SessionFilter> {
        let status = self.status.as_deref().map(read_status).transpose()?;
        match (&self.project_id, status) {
            (Some(project_id), _) if project_id.is_empty() => {
                Err(Problem::parameter("project_id", "must not be empty"))
            }
            (Some(project_id), status) => {
                refuse(
                    [("expires_after", &self.expires_after), ("expires_before", &self.expires_before)],
                    "lists by status alone take it, those of a project do not",
                )?;
                Ok(SessionFilter::Project {
                    project_id: project_id.clone(),
                    created_after: time("created_after", self.created_after.as_deref())?,
                    created_before: time("created_before", self.created_before.as_deref())?,
                    status,
                    ascending: self.ascending()?,
                })
            }
            (None, Some(status)) => {
                refuse(
                    [
                        ("created_after", &self.created_after),
                        ("created_before", &self.created_before),
                        ("order", &self.order),
                    ],
                    "lists of a project take it, those by status alone do not",
                )?;
                Ok(SessionFilter::Status {
                    status,
                    expires_after: time("expires_after", self.expires_after.as_deref())?,
                    expires_before: time("expires_before", self.expires_before.as_deref())?,
                })
            }
            (None, None) => Err(Problem::parameter(
                "project_id",
                "give project_id, status or both; nothing lists them all",
            )),
        }
    }

    fn ascending(&self) -> Result<bool> {
        match self.order.as_deref() {
            None | Some("desc") => Ok(false),
            Some("asc") => Ok(true),
            Some(_) => Err(Problem::parameter("order", "`asc` or `desc` is accepted")),
        }
    }
}

fn read_status(text: &str) -> Result<Status> {
    Status::parse(text).ok_or_else(|| {
        let names: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
        Problem::parameter("status", format!("one of {} is accepted", names.join(", ")))
    })
}

/// Refuses parameters that do not belong to the listing that was chosen.
fn refuse<const N: usize>(given: [(&str, &Option<String>); N], why: &str) -> Result<()> {
    match given.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(Problem::parameter(name, why)),
        None => Ok(()),
    }
}

/// What a cursor is bound to: everything that says which sessions come, in which order.
fn fingerprint(query: &SessionQuery) -> u64 {
    let stable = SessionQuery {
        after: None,
        limit: 0,
        live_at: query.live_at.map(|_| Timestamp::default()),
        ..query.clone()
    };
    xxhash_rust::xxh3::xxh3_64(format!("{stable:?}").as_bytes())
}
