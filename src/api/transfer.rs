//! `/v1/results/export` and `import`: everything, streamed in bounded memory.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::body::{Lines, Sent, ndjson};
use super::caller::{Reader, Writer};
use super::listing::ListParams;
use super::params::Params;
use super::problem::{Problem, Result};
use super::record::{LARGE_LINE_BYTES, Line, Record, Storing, document_line, export_head, line_error};
use super::state::Api;
use super::turns::{Turn, Turns};
use crate::domain::Key;
use crate::store::{self, GetOptions, ListOrder, ListQuery, Look};

/// Results that are read or written at once.
const AT_ONCE: usize = 16;

/// Metadata that is read at once.
const PAGE: usize = 500;

/// Failures that the report of an import names; more are only counted.
const MAX_ERRORS: usize = 100;

/// Export results.
///
/// One JSON object a line, as `/v1/results/import` reads it, oldest first. A result that is stored again while
/// the export runs may appear twice; none that is there throughout is left out.
#[utoipa::path(get, path = "/v1/results/export", tag = "results", operation_id = "export_results", params(ListParams), responses(
    (status = 200, description = "One result a line", body = String, content_type = "application/x-ndjson",
        example = json!("{\"url\":\"https://example.com/\",\"variant\":\"\",\"created_at\":\"2026-01-15T10:30:00.000Z\",\"document\":{}}\n")),
))]
pub(super) async fn export(
    State(api): State<Api>,
    caller: Reader,
    Params(params): Params<ListParams>,
) -> Result<Response> {
    let query = ListQuery { limit: PAGE, ..params.query(&api, caller.namespace(), ListOrder::Oldest)? };
    // The first page is read before the answer begins: what is wrong with the query is still an error then.
    let first = api.results.list(&query).await?;
    let pages = stream::try_unfold(Some((query, Some(first))), {
        let api = api.clone();
        move |state| {
            let api = api.clone();
            async move {
                let Some((query, page)) = state else { return Ok::<_, Problem>(None) };
                let page = match page {
                    Some(page) => page,
                    None => api.results.list(&query).await?,
                };
                let next = page.next.map(|cursor| (ListQuery { after: Some(cursor), ..query }, None));
                let keys: Vec<Key> = page.items.into_iter().map(|meta| meta.key).collect();
                Ok(Some((keys, next)))
            }
        }
    });
    let lines = pages
        .flat_map(move |page| {
            let api = api.clone();
            match page {
                Ok(keys) => {
                    stream::iter(keys).map(move |key| line(api.clone(), key)).buffered(AT_ONCE).boxed()
                }
                Err(problem) => stream::once(async move { Err(problem) }).boxed(),
            }
        })
        .filter_map(|line| async move { line.transpose() })
        .map_err(|problem| {
            // The status is sent already: breaking off is the only way left to say that this is not all.
            tracing::error!(code = problem.code(), detail = problem.detail(), "an export broke off");
            std::io::Error::other(problem.detail().to_owned())
        })
        .try_flatten();
    Ok(ndjson(lines))
}

/// The line of a key; nothing when it was deleted meanwhile.
async fn line(api: Api, key: Key) -> Result<Option<Line>> {
    // An export must not push out what is hot.
    let hit = match api.results.get(&key, GetOptions::scan()).await {
        Ok(Some(hit)) => hit,
        // What has just left SQLite was listed because that had it; what DynamoDB has was not listed either.
        Ok(None) | Err(store::Error::Unasked { .. }) => return Ok(None),
        // One damaged entry, which the store has logged and counted, is no reason to withhold the others.
        Err(store::Error::Corrupt { detail, .. }) => {
            tracing::error!(detail, "an export left out a damaged entry");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    document_line(&api, export_head(&hit.entry, api.guard()), hit.entry, None).await.map(Some)
}

/// Lines whose outcomes one import names at most.
const MAX_OUTCOMES: u64 = 10_000;

/// How an import answers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportParams {
    /// Whether the answer names the outcome of every line; such an import reads at most 10,000 lines.
    #[serde(default)]
    outcomes: bool,
    /// Whether what was deleted since it was exported is stored again. What is stored now is never replaced by it.
    #[serde(default)]
    restore: bool,
}

/// What an import did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct ImportReport {
    /// Lines read.
    lines: u64,
    /// Results that were new.
    created: u64,
    /// Results that replaced others.
    replaced: u64,
    /// Results whose content was there already.
    refreshed: u64,
    /// Results that were not stored because what is there is newer, or was stored by the same import before.
    superseded: u64,
    /// Results that were not stored because they were deleted since, where the store remembers that; `restore=true`
    /// stores them again.
    deleted: u64,
    /// Results that are safe here, and that the store that owns them will get when it can be reached again.
    queued: u64,
    /// Lines that were not stored.
    failed: u64,
    /// The first hundred of those: `line`, `code` and `detail`.
    errors: Vec<Value>,
    /// Whether the body was read to its end.
    complete: bool,
    /// With `outcomes=true`, for every line, in the order of the lines: `line` and `outcome`, which is `created`,
    /// `replaced`, `refreshed`, `superseded`, `deleted`, `queued` or `failed`, then with `code` and `detail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcomes: Option<Vec<Value>>,
}

impl ImportReport {
    fn note(&mut self, number: u64, outcome: &Result<&'static str>) {
        if let Some(outcomes) = &mut self.outcomes
            && number > 0
        {
            outcomes.push(match outcome {
                Ok(word) => json!({ "line": number, "outcome": word }),
                Err(problem) => {
                    let mut failed = line_error(number, problem);
                    failed["outcome"] = json!("failed");
                    failed
                }
            });
        }
        match outcome {
            Ok("created") => self.created += 1,
            Ok("replaced") => self.replaced += 1,
            Ok("superseded") => self.superseded += 1,
            Ok(DELETED) => self.deleted += 1,
            Ok("queued") => self.queued += 1,
            Ok(_) => self.refreshed += 1,
            Err(problem) => {
                self.failed += 1;
                if self.errors.len() < MAX_ERRORS {
                    self.errors.push(line_error(number, problem));
                }
            }
        }
    }
}

/// Import results.
///
/// One JSON object a line, as `/v1/results/export` writes it: `url`, `document`, and optionally `variant`,
/// `created_at`, `updated_at`, `expires_at`, `ttl`, `validators`, `quality`. The results keep those times. A bad line is
/// counted and never fails the rest. Lines of one key are stored one after the other. There is no limit on the number of
/// lines, unless their outcomes are asked for.
///
/// A result that is newer than its line stays, and so does a deletion: `restore=true` stores again what was deleted since,
/// with the times of the line, and still replaces nothing that is stored.
#[utoipa::path(post, path = "/v1/results/import", tag = "results", operation_id = "import_results", params(ImportParams),
    request_body(content = String, content_type = "application/x-ndjson",
        example = json!("{\"url\":\"https://example.com/\",\"document\":{\"success\":true}}\n")),
    responses((status = 200, description = "What was stored", body = ImportReport)))]
pub(super) async fn import(
    State(api): State<Api>,
    caller: Writer,
    Params(params): Params<ImportParams>,
    Sent { headers, body }: Sent,
) -> Result<Json<ImportReport>> {
    let namespace = caller.namespace().clone();
    let mut lines = Lines::of(&api, &headers, body)?;
    let mut report = ImportReport { outcomes: params.outcomes.then(Vec::new), ..ImportReport::default() };
    let mut waiting = stream::FuturesOrdered::new();
    let mut turns = Turns::default();
    loop {
        let (number, line) = match lines.next(&api).await {
            Ok(Some(line)) => line,
            Ok(None) => {
                report.complete = true;
                break;
            }
            Err(problem) => {
                report.note(0, &Err(problem));
                break;
            }
        };
        if params.outcomes && report.lines == MAX_OUTCOMES {
            let detail =
                format!("more than {MAX_OUTCOMES} lines; line {number} and those after it were not stored");
            report.note(0, &Err(Problem::new("body_too_large", detail)));
            break;
        }
        report.lines += 1;
        // A large document is stored alone: many at once would take many times its memory.
        let large = line.as_ref().is_ok_and(|line| line.len() > LARGE_LINE_BYTES);
        let record = line.and_then(|line| Record::read(&api, &namespace, &line));
        let turn = record.as_ref().ok().map(|record| turns.next(record.key.id()));
        let (api, restore) = (api.clone(), params.restore);
        waiting.push_back(async move { (number, import_line(&api, record, turn, restore).await) });
        let most = if large { 1 } else { AT_ONCE };
        while waiting.len() >= most
            && let Some((number, outcome)) = waiting.next().await
        {
            report.note(number, &outcome);
        }
    }
    while let Some((number, outcome)) = waiting.next().await {
        report.note(number, &outcome);
    }
    Ok(Json(report))
}

/// The outcome of a line that is older than the deletion of its key.
const DELETED: &str = "deleted";

async fn import_line(
    api: &Api,
    record: Result<Record>,
    turn: Option<Turn>,
    restore: bool,
) -> Result<&'static str> {
    let record = record?;
    let mut turn = turn;
    if let Some(turn) = &mut turn {
        turn.come().await;
    }
    let written = record.store(api, "import", Storing::Imported).await?;
    if !written.is_superseded() {
        return Ok(written.stored.outcome);
    }
    let found = api.results.look(&written.kept.key, GetOptions::scan()).await?;
    if !matches!(found, Look::Deleted(_)) {
        return Ok(written.stored.outcome);
    }
    if !restore {
        return Ok(DELETED);
    }
    let restored = record.store(api, "import", Storing::Restored).await?;
    // Stored by another caller since it was looked for.
    Ok(if restored.is_unmet() { "superseded" } else { restored.stored.outcome })
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;

    use async_trait::async_trait;

    use crate::api::testing::{T0, ask, tokens};
    use crate::api::{Api, Parts, router};
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::domain::{Key, Meta, Timestamp, Version};
    use crate::metrics::Metrics;
    use crate::store::conformance::put;
    use crate::store::memory::MemoryStore;
    use crate::store::{
        Condition, DeleteOutcome, GetOptions, Hit, ListQuery, Look, Page, Placed, Put, PutOutcome, Result,
        ResultStore, Status,
    };

    /// A store that knows each page to be deleted, and where another client stores it again as soon as that was said.
    #[derive(Clone, Debug)]
    struct Contested(MemoryStore);

    impl fmt::Display for Contested {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("contested")
        }
    }

    #[async_trait]
    impl ResultStore for Contested {
        async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
            ResultStore::get(&self.0, key, options).await
        }

        async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
            self.0.get_metas(keys).await
        }

        async fn look(&self, key: &Key, _: GetOptions) -> Result<Look<Hit>> {
            ResultStore::put(&self.0, put(key, "another's", T0)).await?;
            Ok(Look::Deleted(Version::first_of(Timestamp::from_secs(T0))))
        }

        async fn put(&self, _: Put) -> Result<PutOutcome> {
            Ok(PutOutcome::Superseded)
        }

        async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
            self.0.put_newest(put).await
        }

        async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
            ResultStore::delete(&self.0, key, version, condition).await
        }

        async fn delete_newest(
            &self,
            key: &Key,
            version: Version,
            condition: Condition,
        ) -> Result<Placed<DeleteOutcome>> {
            self.0.delete_newest(key, version, condition).await
        }

        async fn list(&self, query: &ListQuery) -> Result<Page> {
            ResultStore::list(&self.0, query).await
        }

        async fn status(&self) -> Result<Status> {
            ResultStore::status(&self.0).await
        }
    }

    #[tokio::test]
    async fn what_another_stores_while_it_is_restored_supersedes_it() {
        let store = MemoryStore::new();
        let router = router(Api::new(Parts {
            config: Config::default(),
            clock: Clock::manual(Timestamp::from_secs(T0)),
            clock_guard: None,
            metrics: Metrics::new(),
            results: Arc::new(Contested(store.clone())),
            sessions: Arc::new(store.clone()),
            leases: Arc::new(store.clone()),
            hosts: Arc::new(store),
            memory: None,
            tokens: tokens(&[]).0,
            backends: Vec::new(),
            bucket: None,
            routed: None,
            recent: None,
            worker: None,
        }));
        for (number, quality) in ["", r#""quality":"good","#, r#""quality":"failed","#].iter().enumerate() {
            let time = "2026-01-01T00:00:00Z";
            let line = format!(
                r#"{{"url":"https://example.com/{number}",{quality}"updated_at":"{time}","document":{{"n":1}}}}"#
            );
            let json = [("content-type", "application/x-ndjson")];
            let target = ("POST", "/v1/results/import?restore=true");
            let report = ask(&router, None, target, &json, &line).await.is(200).body;
            assert_eq!(
                (&report["superseded"], &report["failed"]),
                (&1.into(), &0.into()),
                "{quality} {report}"
            );
        }
    }
}
