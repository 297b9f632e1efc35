//! What operators rely on: changes that count at once and for good, whoever else changes something, and whatever is down.

use std::collections::BTreeSet;

use serde_json::json;

use super::{is_due, set};
use crate::support::{Request, Server, result_of};

const ROUTING: &str = "/v1/admin/routing";

/// A service over both stores. Nothing listens where DynamoDB should be.
fn without_dynamodb(directory: &std::path::Path) -> Server {
    let settings = [
        ("store.backend", "routed"),
        ("dynamodb.endpoint", "http://127.0.0.1:9"),
        ("dynamodb.max_retries", "0"),
        ("memory.bytes", "0"),
    ];
    Server::on(directory, &settings)
}

#[test]
fn changes_at_once_are_all_logged_and_kept_over_a_restart() {
    if !is_due() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = without_dynamodb(directory.path());
    let address = server.address();
    let clients: Vec<_> = (1..=16_u64)
        .map(|number| {
            std::thread::spawn(move || {
                let patch = json!({"percent": number, "reason": format!("client {number}")}).to_string();
                let request = Request::new(address, "PATCH", ROUTING)
                    .header("content-type", "application/merge-patch+json")
                    .body(patch);
                request.send().is(200).json()["generation"].as_u64().expect("a number")
            })
        })
        .collect();
    let generations: BTreeSet<u64> =
        clients.into_iter().map(|client| client.join().expect("ended")).collect();
    assert_eq!(generations, (1..=16).collect());
    let before = server.get(ROUTING).is(200).json();
    drop(server);

    let server = without_dynamodb(directory.path());
    assert_eq!(server.get(ROUTING).is(200).json(), before, "as it was left");
    let log = server.get("/v1/admin/routing/log?limit=1000").is(200).json();
    let items = log["items"].as_array().expect("items");
    let reasons: BTreeSet<&str> = items.iter().filter_map(|item| item["reason"].as_str()).collect();
    assert_eq!((items.len(), reasons.len()), (16, 16), "each once: {log}");
    assert_eq!(items[0]["after"], before["policy"]);
    let stale = server.request("PUT", ROUTING).header("if-match", "\"3\"").json(&before["policy"]).send();
    stale.problem(412, "precondition_failed");
}

#[test]
fn a_change_counts_for_the_next_request() {
    if !is_due() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = without_dynamodb(directory.path());
    let put = |url: &str| server.put(&result_of(url, &[]), r#"{"n":1}"#).status;
    for round in 0..5 {
        set(&server, &json!({"force": "dynamodb"}));
        assert_eq!(put(&format!("https://example.com/{round}")), 202, "queued for its owner");
        set(&server, &json!({"force": "none", "percent": 0}));
        assert_eq!(put(&format!("https://example.org/{round}")), 201, "SQLite owns it");
    }
    for round in 0..5 {
        server.get(&result_of(&format!("https://example.com/{round}"), &[])).is(200);
    }
    let back = server.post("/v1/admin/rollback", &json!({"reason": "done"})).is(200).json();
    assert_eq!((&back["policy"]["force"], &back["effective_percent"]), (&json!("sqlite"), &json!(0)));
}

#[test]
fn probes_are_answered_without_dynamodb() {
    if !is_due() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = without_dynamodb(directory.path());
    for _ in 0..20 {
        assert_eq!(server.get("/readyz").is(200).body, b"degraded\n");
        server.get("/metrics").is(200);
    }
    let health = server.get("/health").is(200).json();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["backends"]["sqlite"]["status"], "healthy");
    assert_eq!(health["backends"]["dynamodb"]["status"], "unhealthy");
}
