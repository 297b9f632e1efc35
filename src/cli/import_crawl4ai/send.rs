//! Sends what is packed, and notes what came of each row.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, Request};
use serde_json::Value;

use super::pack::{Load, Pack, Told};
use crate::cli::client::{Service, json, with_body};
use crate::cli::exit::{Exit, Outcome};

/// How often the rest of a request that broke off is sent again.
const ATTEMPTS: u32 = 5;

/// How long a service that is busy is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A request that imports lines.
pub(super) fn lines(service: &Service, body: Bytes) -> Request {
    let request =
        service.request(Method::POST, "/v1/results/import", &[("outcomes", Some("true".to_owned()))]);
    with_body(request, &[("content-type", "application/x-ndjson")], body)
}

/// Stores what is packed: all of its rows, with what came of them.
///
/// # Errors
/// When the service cannot be reached, or refuses to take anything.
pub(super) async fn store(service: Option<&Service>, pack: Pack) -> Outcome<Vec<Told>> {
    let Pack { mut settled, mut sent, load } = pack;
    if let Some(service) = service
        && !sent.is_empty()
    {
        match load {
            Load::Lines(body, begins) => store_lines(service, &mut sent, &body, &begins).await?,
            Load::Large(query, body) => store_large(service, &mut sent[0], &query, body).await?,
        }
    }
    settled.append(&mut sent);
    Ok(settled)
}

async fn store_lines(service: &Service, sent: &mut [Told], body: &Bytes, begins: &[usize]) -> Outcome<()> {
    let mut first = 0;
    for attempt in 1.. {
        let answer = json(service.send_again(lines(service, body.slice(begins[first]..))).await?).await?;
        let list = |name: &str| answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let word = |value: &Value, name: &str| value[name].as_str().unwrap_or("unknown").to_owned();
        for outcome in list("outcomes") {
            let line = outcome["line"].as_u64().and_then(|line| usize::try_from(line).ok()).unwrap_or(0);
            let Some(told) = line.checked_sub(1).and_then(|line| sent[first..].get_mut(line)) else {
                continue;
            };
            told.outcome = word(outcome, "outcome");
            if told.outcome == "failed" {
                told.fail(&word(outcome, "code"), &word(outcome, "detail"));
            }
        }
        // Lines are read in order: the rest was not looked at.
        first += answer["lines"].as_u64().and_then(|lines| usize::try_from(lines).ok()).unwrap_or(0);
        if first >= sent.len() {
            break;
        }
        if attempt == ATTEMPTS {
            let why = list("errors").iter().find(|error| error["line"] == 0).cloned().unwrap_or_default();
            for told in &mut sent[first..] {
                told.fail(&word(&why, "code"), &word(&why, "detail"));
            }
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    for told in sent.iter_mut().filter(|told| told.outcome.is_empty()) {
        told.fail("unknown", "the service did not say what came of it");
    }
    Ok(())
}

async fn store_large(
    service: &Service,
    told: &mut Told,
    query: &[(&'static str, Option<String>)],
    body: Bytes,
) -> Outcome<()> {
    let headers = [("content-type", "application/json"), ("content-encoding", "zstd")];
    let request = with_body(service.request(Method::PUT, "/v1/result", query), &headers, body);
    match service.send_again(request).await {
        Ok(response) => {
            let stored = json(response).await?;
            stored["outcome"].as_str().unwrap_or("unknown").clone_into(&mut told.outcome);
        }
        Err(failure) if matches!(failure.exit(), Exit::Unreachable | Exit::Refused) => return Err(failure),
        Err(failure) => told.fail(failure.code(), failure.detail()),
    }
    Ok(())
}
