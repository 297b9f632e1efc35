//! The way back starts: whatever DynamoDB says, at every share, and what was done meanwhile is not undone when it is over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::{drain, is_due, routed, set};
use crate::aws::{Refusal, StandIn};
use crate::proxy::{Proxy, Weather};
use crate::support::server::Setting;
use crate::support::{Server, dynamodb_local, eventually, result_of};

/// A service over both stores whose DynamoDB is a stand-in.
fn start(directory: &std::path::Path, standin: &StandIn, more: &[Setting<'_>]) -> Server {
    let settings = [
        ("store.backend", "routed"),
        ("dynamodb.endpoint", standin.url.as_str()),
        ("dynamodb.max_retries", "0"),
        ("dynamodb.attempt_millis", "500"),
        ("dynamodb.operation_millis", "500"),
        ("routing.circuit_seconds", "1"),
        ("memory.bytes", "0"),
    ];
    Server::on(directory, &[&settings[..], more].concat())
}

#[test]
fn no_state_of_dynamodb_keeps_the_way_back_from_starting() {
    if !is_due() {
        return;
    }
    let refusals = [
        Refusal::new("AccessDeniedException", "not authorized"),
        Refusal::new("UnrecognizedClientException", "unknown credentials"),
        Refusal::new("ExpiredTokenException", "expired"),
        Refusal::new("InvalidSignatureException", "Signature expired: 1 is now earlier than 2"),
        Refusal::new("ResourceNotFoundException", "no table"),
        Refusal::new("ValidationException", "The provided key element does not match the schema"),
        Refusal::new("ThrottlingException", "slow"),
        Refusal { status: 500, ..Refusal::new("InternalServerError", "oops") },
        Refusal { after: Duration::from_secs(20), ..Refusal::new("Late", "") },
    ];
    // Each of them under another policy: all of them with the way back held, the others in turn.
    let policies: [&[Setting<'_>]; 4] = [
        &[("routing.percent", "50"), ("routing.force", "sqlite")],
        &[("routing.percent", "0")],
        &[("routing.percent", "50"), ("dynamodb.create_tables", "true")],
        &[("routing.percent", "100")],
    ];
    for (number, refusal) in refusals.into_iter().enumerate() {
        for policy in [policies[0], policies[1 + number % 3]] {
            let place = format!("{} under {policy:?}", refusal.code);
            let directory = tempfile::tempdir().expect("a temporary directory");
            let said = refusal.clone();
            let standin = StandIn::start(None, move |_| Some(said.clone()));
            let server = start(directory.path(), &standin, policy);
            assert_eq!(server.get("/readyz").is(200).decoded(), b"degraded\n", "{place}");
            let health = server.get("/health").is(200).json();
            assert_eq!(health["backends"]["dynamodb"]["status"], "unhealthy", "{place}");
            let put = server.put(&result_of("https://example.com/", &[]), r#"{"n": 1}"#);
            assert!([201, 202].contains(&put.status), "{place}: {put:?}");
            server.get(&result_of("https://example.com/", &[])).is(200);
            let log = server.log();
            let warned =
                log.iter().any(|line| line.contains("WARN") && line.contains("DynamoDB is left alone"));
            assert!(warned, "{place}: {log:#?}");
        }
    }
}

#[test]
fn dynamodb_is_used_once_its_tables_are_right() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    // First access is denied, and later there are no tables.
    let refusal = Arc::new(Mutex::new(Some(Refusal::new("AccessDeniedException", "not authorized"))));
    let (says, asked) = (Arc::clone(&refusal), Arc::new(AtomicUsize::new(0)));
    let data = Arc::clone(&asked);
    let standin = StandIn::start(Some(local.clone()), move |operation| {
        data.fetch_add(usize::from(!operation.ends_with("Table")), Ordering::Relaxed);
        says.lock().expect("unpoisoned").clone()
    });
    let prefix = format!("right{}-", std::process::id());
    let settings = [("routing.percent", "100"), ("dynamodb.table_prefix", prefix.as_str())];
    let server = start(directory.path(), &standin, &settings);
    let url = "https://example.com/";
    server.put(&result_of(url, &[]), r#"{"n": 1}"#).is(202);
    let status = |server: &Server| server.get("/v1/admin/status").is(200).json();
    let why = status(&server);
    assert!(why["circuit"]["error"].as_str().is_some_and(|error| error.contains("denies access")), "{why}");
    *refusal.lock().expect("unpoisoned") = None;
    eventually("it has found that there are no tables", || {
        let error = status(&server)["circuit"]["error"].as_str().map(str::to_owned).unwrap_or_default();
        error.contains("does not exist").then_some(())
    });
    assert_eq!(asked.load(Ordering::Relaxed), 0, "what is not right is not used");
    assert_eq!(server.get("/readyz").is(200).decoded(), b"degraded\n");

    // An operator makes them.
    drop(routed(
        tempfile::tempdir().expect("a temporary directory").path(),
        &Proxy::start(&local),
        &prefix,
        &[],
    ));
    assert_eq!(drain(&server), 0, "by itself, and without a restart");
    eventually("it is well", || (server.get("/readyz").is(200).decoded() == b"ok\n").then_some(()));
    let read = server.get(&result_of(url, &[])).is(200);
    assert!(read.header("cache-status").is_some_and(|status| status.contains("detail=dynamodb")), "{read:?}");
}

#[test]
fn what_is_deleted_on_sqlite_alone_stays_deleted() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("alone{}-", std::process::id());
    let all = [("routing.percent", "100")];
    let (deleted, updated) = ("https://example.com/deleted", "https://example.com/updated");
    let server = routed(directory.path(), &proxy, &prefix, &all);
    for url in [deleted, updated] {
        server.put(&result_of(url, &[]), r#"{"n": 1}"#).is(201);
    }
    server.post("/v1/sessions", &json!({"id": "deleted"})).is(201);
    assert_eq!(drain(&server), 0);
    drop(server);

    // DynamoDB was never told of the share that is to be kept here, nor is it asked.
    proxy.set(Weather::Cut);
    let server = Server::on(directory.path(), &[("store.backend", "sqlite")]);
    server.request("DELETE", &result_of(deleted, &[])).send().is(204);
    server.put(&result_of(updated, &[]), r#"{"n": 2}"#).is(201);
    server.request("DELETE", "/v1/sessions/deleted").send().is(204);
    let log = server.log();
    assert!(log.iter().any(|line| line.contains("WARN") && line.contains("a router")), "{log:#?}");
    drop(server);

    proxy.set(Weather::Fair);
    let server = routed(directory.path(), &proxy, &prefix, &all);
    for round in ["at once", "once DynamoDB has been told"] {
        assert_eq!(
            server.get(&result_of(deleted, &[])).problem(404, "result_not_found")["reason"],
            "absent",
            "{round}"
        );
        assert_eq!(server.get(&result_of(updated, &[])).is(200).json()["n"], 2, "{round}");
        server.get("/v1/sessions/deleted").problem(404, "session_not_found");
        assert_eq!(drain(&server), 0);
    }
    // Another service, with no memory of its own.
    let other = tempfile::tempdir().expect("a temporary directory");
    let other = routed(other.path(), &proxy, &prefix, &all);
    other.get(&result_of(deleted, &[])).problem(404, "result_not_found");
    other.get("/v1/sessions/deleted").problem(404, "session_not_found");
}

#[test]
fn an_outbox_is_not_left_behind_without_a_word() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("behind{}-", std::process::id());
    let server = routed(directory.path(), &proxy, &prefix, &[("routing.percent", "100")]);
    proxy.set(Weather::Cut);
    let url = "https://example.com/";
    server.put(&result_of(url, &[]), r#"{"n": 1}"#).is(202);
    drop(server);
    proxy.set(Weather::Fair);

    let endpoint = proxy.url();
    let settings = [
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", endpoint.as_str()),
        ("dynamodb.table_prefix", prefix.as_str()),
    ];
    let (status, said) = Server::refused(directory.path(), &settings);
    assert!(!status.success(), "{said}");
    for part in ["1 acknowledged writes wait", "crawlcache outbox", "store.abandon_outbox=true"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    // SQLite alone reads what waits, and says so.
    let alone = Server::on(directory.path(), &[("store.backend", "sqlite")]);
    assert_eq!(alone.get(&result_of(url, &[])).is(200).json()["n"], 1);
    drop(alone);
    let consent = [&settings[..], &[("store.abandon_outbox", "true")]].concat();
    let server = Server::on(directory.path(), &consent);
    server.get(&result_of(url, &[])).problem(404, "result_not_found");
    assert!(server.log().iter().any(|line| line.contains("WARN") && line.contains("left behind")));
    drop(server);
    let server = routed(directory.path(), &proxy, &prefix, &[]);
    assert_eq!(drain(&server), 0, "they were only left");
    set(&server, &json!({"percent": 100}));
    assert_eq!(server.get(&result_of(url, &[])).is(200).json()["n"], 1);
    drop(server);
    drop(Server::on(directory.path(), &settings));
}
