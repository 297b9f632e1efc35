//! With DynamoDB dead, slow or flapping: what SQLite owns is served as ever, and the service says how it is.

use serde_json::json;

use super::{drain, is_due, routed, set};
use crate::proxy::{Proxy, Weather};
use crate::support::{dynamodb_local, eventually, result_of};

/// Keys of either owner at 50 %, by their buckets.
fn split(percent: u16) -> (Vec<String>, Vec<String>) {
    use crawlcache::domain::{Key, Namespace};
    let urls = (0..60).map(|number| format!("https://example.com/{number}"));
    urls.partition(|url| {
        Key::new(&Namespace::default(), url, "").expect("a key").id().bucket() >= percent * 100
    })
}

#[test]
fn it_starts_without_dynamodb_says_so_and_recovers() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("outages{}-", std::process::id());
    drop(routed(directory.path(), &proxy, &prefix, &[]));

    proxy.set(Weather::Cut);
    let server = routed(directory.path(), &proxy, &prefix, &[("routing.percent", "50")]);
    let (here, there) = split(50);
    for url in &here {
        server.put(&result_of(url, &[]), json!({"url": url, "n": 1}).to_string()).is(201);
        assert_eq!(server.get(&result_of(url, &[])).is(200).json()["n"], 1);
    }
    for url in &there {
        let queued = server.put(&result_of(url, &[]), json!({"url": url, "n": 1}).to_string()).is(202);
        assert_eq!(queued.json()["outcome"], "queued");
        assert!(queued.header("cache-status").is_some_and(|status| status.contains("queued")), "{queued:?}");
        let read = server.get(&result_of(url, &[])).is(200);
        assert!(read.header("cache-status").is_some_and(|status| status.contains("queued")), "{read:?}");
    }
    let ready = server.get("/readyz").is(200);
    assert_eq!(ready.decoded(), b"degraded\n");
    proxy.set(Weather::Fair);
    assert_eq!(drain(&server), 0);
    eventually("it is well again", || (server.get("/readyz").is(200).decoded() == b"ok\n").then_some(()));
    for url in &there {
        assert_eq!(server.get(&result_of(url, &[])).is(200).json()["n"], 1);
    }
}

#[test]
fn a_write_that_may_not_be_queued_is_refused() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("refuse{}-", std::process::id());
    let server = routed(directory.path(), &proxy, &prefix, &[("routing.percent", "100")]);
    let url = "https://example.com/";
    server.put(&result_of(url, &[]), r#"{"n": 1}"#);
    assert_eq!(drain(&server), 0);
    let etag = server.get(&result_of(url, &[])).is(200).header("etag").expect("an etag").to_owned();
    proxy.set(Weather::Reset);
    let conditional = server
        .request("PUT", &result_of(url, &[]))
        .header("content-type", "application/json")
        .header("if-match", &etag)
        .body(r#"{"n": 2}"#)
        .send();
    assert_eq!(conditional.status, 503, "only the owner can judge: {conditional:?}");
    set(&server, &json!({"on_owner_failure": "reject"}));
    server.put(&result_of(url, &[]), r#"{"n": 3}"#).is(503);
    proxy.set(Weather::Fair);
    let read = eventually("it can be read again", || {
        let answer = server.get(&result_of(url, &[]));
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(read["n"], 1, "what was refused was not stored");
}

#[test]
fn what_sqlite_owns_is_not_slowed_by_a_silent_dynamodb() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("silent{}-", std::process::id());
    let server = routed(directory.path(), &proxy, &prefix, &[("routing.percent", "50")]);
    let (here, _) = split(50);
    proxy.set(Weather::Silent);
    // Misses look for the key on the other side until the circuit opens; hits never do.
    for url in &here {
        server.put(&result_of(url, &[]), r#"{"n": 1}"#).is(201);
        server.get(&result_of(url, &[])).is(200);
    }
    for number in 0..10 {
        server.get(&result_of(&format!("{}?{number}", here[0]), &[]));
    }
    eventually("the circuit opens", || {
        (server.metrics().of(r#"circuit_opened_total{backend="dynamodb"}"#) > 0).then_some(())
    });
    proxy.set(Weather::Fair);
    eventually("the circuit closes", || {
        (server.metrics().of(r#"circuit_state{backend="dynamodb"}"#) == 0).then_some(())
    });
}
