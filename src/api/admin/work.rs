//! `/v1/admin/work`: migrations and verifications that the service does beside requests.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use super::worker;
use crate::api::body;
use crate::api::caller::Admin;
use crate::api::params::{NoParams, Params};
use crate::api::problem::{Problem, Result};
use crate::api::state::Api;
use crate::api::worker::NotStarted;
use crate::domain::Timestamp;
use crate::domain::work::{Finding, MigrateOptions, VerifyOptions, Work, WorkState, WorkStatus};

/// What is asked for: `migrate` or `verify`, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkRequest {
    /// `migrate` or `verify`.
    #[schema(example = "migrate")]
    kind: String,
    /// How. A migration: `to`, `batch_size`, `concurrency`, `dry_run`, `urls`, `since`, `units_per_second`, `restart`. A
    /// verification: `sample`, `content`, `repair`, `since`, `batch_size`. What is missing has its default.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"to": "dynamodb", "units_per_second": 500}))]
    options: Option<Value>,
}

impl WorkRequest {
    fn work(self) -> Result<Work> {
        let options = self.options.unwrap_or_else(|| json!({})).to_string();
        match self.kind.as_str() {
            "migrate" => checked_migration(body::read_json(options.as_bytes())?).map(Work::Migrate),
            "verify" => checked_verification(body::read_json(options.as_bytes())?).map(Work::Verify),
            other => Err(invalid("kind", &format!("`{other}` is not known; there are migrate and verify"))),
        }
    }
}

fn invalid(field: &str, detail: &str) -> Problem {
    Problem::new("invalid_field", format!("{field}: {detail}")).with("field", field)
}

fn checked_migration(options: MigrateOptions) -> Result<MigrateOptions> {
    check_batch(options.batch_size)?;
    if !(1..=256).contains(&options.concurrency) {
        return Err(invalid("concurrency", "a whole number from 1 to 256 is accepted"));
    }
    if options.units_per_second == Some(0) {
        return Err(invalid("units_per_second", "at least 1 is needed to get anywhere"));
    }
    Ok(options)
}

fn checked_verification(options: VerifyOptions) -> Result<VerifyOptions> {
    check_batch(options.batch_size)?;
    if !(options.sample > 0.0 && options.sample <= 1.0) {
        return Err(invalid("sample", "a share of more than 0, up to 1, is accepted"));
    }
    Ok(options)
}

fn check_batch(size: usize) -> Result<()> {
    if (1..=1000).contains(&size) {
        return Ok(());
    }
    Err(invalid("batch_size", "a whole number from 1 to 1000 is accepted"))
}

/// How far a piece of work is, and what came of it so far.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Work)]
pub(super) struct WorkDocument {
    /// Names it.
    #[schema(example = "migrate-3")]
    id: String,
    /// `migrate` or `verify`.
    #[schema(example = "migrate")]
    kind: &'static str,
    /// How it is done.
    #[schema(value_type = Object)]
    options: Value,
    /// `running`, `done`, `failed`, `cancelled`, or `interrupted` when the service was stopped meanwhile.
    #[schema(value_type = String, example = "running")]
    state: WorkState,
    /// When it began, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When this was found out, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Entries, sessions and tombstones that it has been through.
    done: u64,
    /// About how many there are.
    total: u64,
    /// How many in a second, lately.
    rate: f64,
    /// Seconds that are left at that rate; null where nobody can know.
    eta_seconds: Option<u64>,
    /// What became of them, by outcome.
    counts: BTreeMap<String, u64>,
    /// Bytes of the bodies that were copied, or in a dry run would be.
    bytes: u64,
    /// Read units of DynamoDB that it has taken.
    read_units: f64,
    /// Write units of DynamoDB that it has taken, or in a dry run would take.
    write_units: f64,
    /// The first of what differed or failed, up to a hundred.
    findings: Vec<FindingDocument>,
    /// Why it failed.
    error: Option<String>,
}

/// Something that differed or failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkFinding)]
pub(super) struct FindingDocument {
    /// `result`, `session` or `tombstone`.
    #[schema(example = "result")]
    kind: String,
    /// The tenant.
    namespace: String,
    /// The url, or the id of the session.
    #[schema(example = "https://example.com/")]
    name: String,
    /// The variant; empty for the default one.
    variant: String,
    /// Such as `missing_dynamodb`, `different` or `failed`.
    #[schema(example = "different")]
    outcome: String,
    /// Which fields, or what went wrong.
    detail: String,
}

impl FindingDocument {
    fn of(finding: Finding) -> Self {
        let Finding { kind, namespace, name, variant, outcome, detail } = finding;
        Self { kind, namespace, name, variant, outcome, detail }
    }
}

impl WorkDocument {
    pub(super) fn of(status: WorkStatus) -> Self {
        let kind = status.work.kind();
        let options = match &status.work {
            Work::Migrate(options) => json!(options),
            Work::Verify(options) => json!(options),
        };
        Self {
            id: status.id,
            kind,
            options,
            state: status.state,
            started_at: status.started_at,
            updated_at: status.updated_at,
            done: status.done,
            total: status.total,
            rate: status.rate,
            eta_seconds: status.eta_seconds,
            counts: status.counts,
            bytes: status.bytes,
            read_units: status.read_units,
            write_units: status.write_units,
            findings: status.findings.into_iter().map(FindingDocument::of).collect(),
            error: status.error,
        }
    }
}

/// Every piece of work that is known.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkList {
    /// The latest first.
    items: Vec<WorkDocument>,
}

/// List migrations and verifications, the latest first.
#[utoipa::path(get, path = "/v1/admin/work", tag = "admin", operation_id = "list_work", responses(
    (status = 200, description = "All that are known", body = WorkList),
    (status = 409, description = "The service keeps everything in one store"),
))]
pub(super) async fn list(State(api): State<Api>, _: Admin, _: Params<NoParams>) -> Result<Json<WorkList>> {
    let all = worker(&api)?.list().await?;
    Ok(Json(WorkList { items: all.into_iter().map(WorkDocument::of).collect() }))
}

/// Begin a migration or a verification.
///
/// One that was left off goes on where it was.
#[utoipa::path(post, path = "/v1/admin/work", tag = "admin", operation_id = "start_work",
    request_body(content = WorkRequest, content_type = "application/json",
        example = json!({"kind": "migrate", "options": {"to": "dynamodb", "dry_run": true}})),
    responses(
        (status = 202, description = "It has begun", body = WorkDocument,
            headers(("location" = String, description = "Where to ask how far it is"))),
        (status = 409, description = "Other work is under way, or the service keeps everything in one store"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn start(
    State(api): State<Api>,
    admin: Admin,
    _: Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let worker = worker(&api)?;
    let work = body::json::<WorkRequest>(&api, &headers, body).await?.work()?;
    let status = worker.start(work).await.map_err(refused)?;
    tracing::info!(who = admin.who(&api), id = status.id, "work was begun");
    let location = HeaderValue::try_from(format!("/v1/admin/work/{}", status.id))
        .unwrap_or(HeaderValue::from_static("/v1/admin/work"));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(WorkDocument::of(status))).into_response())
}

fn refused(error: NotStarted) -> Problem {
    match error {
        NotStarted::Busy { ref running } => {
            Problem::new("work_running", error.to_string()).with("running", running.as_str())
        }
        NotStarted::Invalid(detail) => Problem::new("invalid_field", detail).with("field", "options"),
        NotStarted::Store(error) => error.into(),
    }
}

/// Ask how far a piece of work is.
#[utoipa::path(get, path = "/v1/admin/work/{id}", tag = "admin", operation_id = "get_work",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "How far it is", body = WorkDocument),
        (status = 404, description = "There is no such piece of work"),
        (status = 409, description = "The service keeps everything in one store"),
    ))]
pub(super) async fn get(
    State(api): State<Api>,
    _: Admin,
    Path(id): Path<String>,
    _: Params<NoParams>,
) -> Result<Json<WorkDocument>> {
    let status = worker(&api)?.get(&id).await?.ok_or_else(|| absent(&id))?;
    Ok(Json(WorkDocument::of(status)))
}

/// Stop a piece of work; it can go on later.
#[utoipa::path(delete, path = "/v1/admin/work/{id}", tag = "admin", operation_id = "cancel_work",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "It has stopped, or is about to; nothing happens to one that has ended", body = WorkDocument),
        (status = 404, description = "There is no such piece of work"),
        (status = 409, description = "The service keeps everything in one store"),
        (status = 507, description = "No space is left"),
    ))]
pub(super) async fn cancel(
    State(api): State<Api>,
    admin: Admin,
    Path(id): Path<String>,
    _: Params<NoParams>,
) -> Result<Json<WorkDocument>> {
    let status = worker(&api)?.cancel(&id).await?.ok_or_else(|| absent(&id))?;
    tracing::info!(who = admin.who(&api), id, "work was cancelled");
    Ok(Json(WorkDocument::of(status)))
}

fn absent(id: &str) -> Problem {
    Problem::new("work_not_found", "there is no such piece of work; GET /v1/admin/work lists them all")
        .with("id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(request: Value) -> Option<Value> {
        let request: WorkRequest = serde_json::from_value(request).expect("a request");
        request.work().err().map(|problem| problem.to_json()["field"].clone())
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (options, field) in [
            (json!({"batch_size": 0}), Some("batch_size")),
            (json!({"batch_size": 1001}), Some("batch_size")),
            (json!({"concurrency": 257}), Some("concurrency")),
            (json!({"units_per_second": 0}), Some("units_per_second")),
            (json!({"to": "nowhere"}), Some("to")),
            (json!({"speed": 1}), Some("speed")),
            (json!({"to": "sqlite", "batch_size": 1000, "concurrency": 256}), None),
        ] {
            let named = field_of(json!({"kind": "migrate", "options": options}));
            assert_eq!(named, field.map(Value::from), "{options}");
        }
        for (options, field) in [
            (json!({"sample": 0}), Some("sample")),
            (json!({"sample": 1.01}), Some("sample")),
            (json!({"batch_size": 0}), Some("batch_size")),
            (json!({"sample": 0.5, "repair": true}), None),
        ] {
            let named = field_of(json!({"kind": "verify", "options": options}));
            assert_eq!(named, field.map(Value::from), "{options}");
        }
        assert_eq!(field_of(json!({"kind": "verify"})), None);
        assert_eq!(field_of(json!({"kind": "delete"})), Some("kind".into()));
    }
}
