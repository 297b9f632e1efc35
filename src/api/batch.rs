//! `/v1/results/batch-get` and `batch-put`: many results at once, one outcome a line.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::body::{Lines, Sent, json, ndjson};
use super::caller::{Reader, Writer};
use super::listing::shown;
use super::lookup::{Accepted, find, wanted};
use super::negotiate;
use super::params::{NoParams, Params};
use super::problem::{Problem, Result};
use super::record::{LARGE_LINE_BYTES, Line, Record, Storing, document_line, ready};
use super::state::Api;
use super::states::{AtMost, KeyText, Names};
use super::turns::{Turn, Turns};
use super::write::Written;
use crate::domain::document::Projection;
use crate::domain::quality::Wanted;
use crate::domain::{Key, Namespace};
use crate::store::GetOptions;

/// The most results in one request.
const MAX_KEYS: usize = 1000;

/// Results that are worked on at once.
const AT_ONCE: usize = 16;

/// Which results, and what counts as an answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchGetRequest {
    /// The keys, at most 1,000: a url, or an object with `url` and `variant`.
    #[schema(value_type = Vec<KeyText<'static>>, example = json!(["https://example.com/", {"url": "https://example.com/a", "variant": "mobile"}]))]
    keys: AtMost<Box<RawValue>, MAX_KEYS>,
    /// The fields to answer with; `head` stands for every small field.
    #[schema(value_type = Option<Vec<String>>)]
    fields: Option<Names>,
    /// The greatest age in seconds.
    max_age: Option<u64>,
    /// How many seconds past expiry are still acceptable.
    stale: Option<u64>,
    /// Fields that must be there and not blank.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    require: Names,
    /// `best`: the good result if it is acceptable, else the failed one; `good` or `failed`: only that one.
    #[serde(default)]
    #[schema(schema_with = wanted)]
    quality: Wanted,
}

/// Read many results.
///
/// One JSON object a line, in the order of the keys: `index`, `url`, `variant` and `status`; with status 200 also
/// `etag`, `age`, `ttl` and `document`, and `quality` where it is a failed one; otherwise the members of a problem.
#[utoipa::path(post, path = "/v1/results/batch-get", tag = "results", operation_id = "batch_get_results",
    request_body(content = BatchGetRequest, content_type = "application/json",
        example = json!({"keys": ["https://example.com/", {"url": "https://example.com/a", "variant": "mobile"}]})),
    responses((status = 200, description = "One outcome a line", body = String, content_type = "application/x-ndjson",
        example = json!("{\"index\":0,\"url\":\"https://example.com/\",\"variant\":\"\",\"status\":200,\"etag\":\"…\",\"age\":5,\"ttl\":3595,\"document\":{}}\n"))))]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Reader,
    _: Params<NoParams>,
    Sent { headers, body }: Sent,
) -> Result<Response> {
    let request: BatchGetRequest = json(&api, &headers, body).await?;
    let keys = request.keys.within("keys")?;
    let asked = Asked {
        namespace: caller.namespace().clone(),
        projection: request.fields.map(|fields| fields.within("names")).transpose()?.map(Projection::new),
        accepted: Accepted {
            limits: crate::domain::FreshnessLimits {
                max_age: request.max_age,
                stale: request.stale.unwrap_or(0),
            },
            require: request.require.within("names")?,
            quality: request.quality,
        },
        options: GetOptions::consistent(negotiate::wants_consistent(&headers)),
    };
    let lines = stream::iter(keys.into_iter().enumerate()).map(move |(index, key)| {
        let (api, asked) = (api.clone(), asked.clone());
        async move { asked.line(&api, index, &key).await }
    });
    Ok(ndjson(lines.buffered(AT_ONCE).flatten()))
}

#[derive(Clone)]
struct Asked {
    namespace: Namespace,
    projection: Option<Projection>,
    accepted: Accepted,
    options: GetOptions,
}

impl Asked {
    async fn line(&self, api: &Api, index: usize, key: &RawValue) -> Line {
        let mut head = Map::new();
        head.insert("index".to_owned(), json!(index));
        match self.outcome(api, key, &mut head).await {
            Ok(line) => line,
            Err(problem) => ready(problem_line(head, &problem)),
        }
    }

    async fn outcome(&self, api: &Api, key: &RawValue, head: &mut Map<String, Value>) -> Result<Line> {
        let key = read_key(api, &self.namespace, key)?;
        head.insert("url".to_owned(), json!(key.url()));
        head.insert("variant".to_owned(), json!(key.variant()));
        let found = match find(api, &key, self.options, &self.accepted, "batch_get").await? {
            Ok(found) => found,
            Err(missed) => return Err(missed.problem(&key)),
        };
        let entry = &found.hit.entry;
        head.insert("status".to_owned(), json!(200));
        if let Some(quality) = shown(found.quality) {
            head.insert("quality".to_owned(), json!(quality));
        }
        head.insert("etag".to_owned(), json!(entry.meta.etag.to_string()));
        head.insert("age".to_owned(), json!(found.freshness.age));
        head.insert("ttl".to_owned(), json!(found.freshness.ttl));
        document_line(api, std::mem::take(head), Arc::clone(entry), self.projection.clone()).await
    }
}

fn read_key(api: &Api, namespace: &Namespace, key: &RawValue) -> Result<Key> {
    let text = serde_json::from_str::<KeyText<'_>>(key.get()).map_err(|_| {
        Problem::new("invalid_field", "a key is a url, or an object with `url` and `variant`")
            .with("field", "keys")
    })?;
    let (url, variant) = text.parts();
    api.key(namespace, url, variant)
}

/// Store many results.
///
/// One JSON object a line: `url`, `document`, and optionally `variant`, `ttl` in seconds, `validators` and `lease`. One
/// outcome a line comes back, in order; a bad line never fails the rest. Lines of one key are stored one after the other,
/// so the last of them stays. At most 1,000 lines.
#[utoipa::path(post, path = "/v1/results/batch-put", tag = "results", operation_id = "batch_put_results",
    request_body(content = String, content_type = "application/x-ndjson",
        example = json!("{\"url\":\"https://example.com/\",\"document\":{\"success\":true}}\n")),
    responses((status = 200, description = "One outcome a line", body = String, content_type = "application/x-ndjson",
        example = json!("{\"line\":1,\"status\":201,\"outcome\":\"created\",\"url\":\"https://example.com/\",\"variant\":\"\",\"etag\":\"…\"}\n"))))]
pub(super) async fn put(
    State(api): State<Api>,
    caller: Writer,
    _: Params<NoParams>,
    Sent { headers, body }: Sent,
) -> Result<Response> {
    let namespace = caller.namespace().clone();
    let mut lines = Lines::of(&api, &headers, body)?;
    let mut waiting = stream::FuturesOrdered::new();
    let mut turns = Turns::default();
    let mut outcomes = BytesMut::new();
    let mut count = 0;
    // Outcomes are held back until all lines are read: a client that writes everything before it reads would
    // otherwise wait for us while we wait for it.
    loop {
        let (number, line) = match lines.next(&api).await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(problem) if count == 0 => return Err(problem),
            Err(problem) => {
                // What was read so far is stored: the client must learn both.
                while let Some(outcome) = waiting.next().await {
                    outcomes.put::<Bytes>(outcome);
                }
                outcomes.put(problem_line(Map::new(), &problem));
                return Ok(ndjson(ready(outcomes.freeze())));
            }
        };
        count += 1;
        if count > MAX_KEYS {
            let problem = Problem::new(
                "body_too_large",
                format!("more than {MAX_KEYS} lines; this one and those after it were not stored"),
            );
            waiting.push_back(futures_util::FutureExt::boxed(async move {
                problem_line(line_number(number), &problem)
            }));
            break;
        }
        let large = line.as_ref().is_ok_and(|line| line.len() > LARGE_LINE_BYTES);
        let record = line.and_then(|line| Record::read(&api, &namespace, &line));
        let turn = record.as_ref().ok().map(|record| turns.next(record.key.id()));
        let api = api.clone();
        waiting.push_back(futures_util::FutureExt::boxed(async move {
            match store_line(&api, record, turn).await {
                Ok(written) => {
                    let mut outcome = line_number(number);
                    outcome.insert("status".to_owned(), json!(written.status.as_u16()));
                    if let Ok(Value::Object(stored)) = serde_json::to_value(&written.stored) {
                        outcome.extend(stored);
                    }
                    to_line(&Value::Object(outcome))
                }
                Err(problem) => problem_line(line_number(number), &problem),
            }
        }));
        // A large document is stored alone: many at once would take many times its memory.
        let most = if large { 1 } else { AT_ONCE };
        while waiting.len() >= most
            && let Some(outcome) = waiting.next().await
        {
            outcomes.put::<Bytes>(outcome);
        }
    }
    while let Some(outcome) = waiting.next().await {
        outcomes.put::<Bytes>(outcome);
    }
    Ok(ndjson(ready(outcomes.freeze())))
}

async fn store_line(api: &Api, record: Result<Record>, turn: Option<Turn>) -> Result<Written> {
    let record = record?;
    let mut turn = turn;
    if let Some(turn) = &mut turn {
        turn.come().await;
    }
    record.store(api, "batch_put", Storing::Fetched).await
}

fn line_number(number: u64) -> Map<String, Value> {
    Map::from_iter([("line".to_owned(), json!(number))])
}

/// A problem as one line.
pub(super) fn problem_line(mut head: Map<String, Value>, problem: &Problem) -> Bytes {
    head.extend(problem.to_json());
    to_line(&Value::Object(head))
}

fn to_line(value: &Value) -> Bytes {
    let mut line = value.to_string();
    line.push('\n');
    line.into()
}
