//! A bucket that refuses, that is not there or that says nothing: what needs no bucket goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::aws::{Refusal, StandIn};
use crate::proxy::{Proxy, Weather};
use crate::routing::{drain, set};
use crate::support::documents::noise;
use crate::support::server::Setting;
use crate::support::{Server, bucket, dynamodb_local, eventually, on_sqlite, result_of};

const SMALL: &str = "https://example.com/small";

/// A document that no item of these services holds.
fn large(number: u64) -> String {
    json!({"n": number, "html": noise(number, 60_000)}).to_string()
}

fn url(number: u64) -> String {
    format!("https://example.com/large/{number}")
}

/// A service with a bucket at `s3`, and tables of its own.
fn on(directory: &Path, backend: &str, dynamodb: &str, s3: &str, more: &[Setting<'_>]) -> Server {
    let settings = bucket().expect("it was there before");
    let name = directory.to_str().expect("a path").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let (prefix, objects) = (format!("bucket{name}-"), format!("it{name}/"));
    let own: [Setting<'_>; 12] = [
        ("store.backend", backend),
        ("dynamodb.endpoint", dynamodb),
        ("dynamodb.table_prefix", &prefix),
        ("dynamodb.create_tables", "true"),
        ("dynamodb.max_item_bytes", "16384"),
        ("routing.percent", "100"),
        // A busy machine is no outage.
        ("routing.owner_millis", "5000"),
        ("routing.circuit_seconds", "1"),
        ("memory.bytes", "0"),
        ("s3.endpoint", s3),
        ("s3.prefix", &objects),
        ("s3.operation_millis", "20000"),
    ];
    let known = settings.iter().filter(|(key, _)| own.iter().all(|(own, _)| own != key));
    let known = known.map(|(key, value)| (*key, value.as_str()));
    Server::on(directory, &known.chain(own).chain(more.iter().copied()).collect::<Vec<_>>())
}

/// Where the servers are, if they are; this suite brings its own stores, so once is enough.
fn servers() -> Option<(String, String)> {
    let s3 = bucket()?.into_iter().find_map(|(key, value)| (key == "s3.endpoint").then_some(value))?;
    on_sqlite().then(dynamodb_local).flatten().map(|dynamodb| (dynamodb, s3))
}

fn health(server: &Server) -> Value {
    server.get("/health").is(200).json()
}

fn errors(server: &Server, backend: &str, reason: &str) -> u64 {
    server.metrics().of(&format!("backend_errors_total{{backend=\"{backend}\",reason=\"{reason}\"}}"))
}

/// Everything that needs no bucket, once.
#[track_caller]
fn without_bucket(server: &Server, session: &str) {
    let target = result_of(SMALL, &[]);
    let put = server.put(&target, r#"{"n":1}"#);
    assert!([200, 201].contains(&put.status), "{put:?}");
    let etag = server.get(&target).is(200).header("etag").expect("an etag").to_owned();
    server.request("PUT", &target).header("if-match", &etag).body(r#"{"n":2}"#).send().is(200);
    server.post(&format!("/v1/sessions/{session}/touch"), &json!({})).is(200);
    server.get(&format!("/v1/sessions/{session}")).is(200);
    server.get("/v1/results").is(200);
    server.post("/v1/results/lookup", &json!({"keys": [SMALL]})).is(200);
    let lease = server.post("/v1/leases", &json!({"url": "https://example.com/leased"})).is(201).json();
    let released = format!("/v1/leases/{}", lease["token"].as_str().expect("a lease"));
    server.request("DELETE", &released).send().is(204);
    server.request("DELETE", &target).send().is(204);
}

#[test]
fn what_needs_no_bucket_goes_on_while_it_refuses() {
    let Some((dynamodb, s3)) = servers() else { return };
    for backend in ["dynamodb", "routed"] {
        let refuses = Arc::new(AtomicBool::new(false));
        let refusing = Arc::clone(&refuses);
        let denied = Refusal { status: 403, ..Refusal::new("AccessDenied", "Access Denied") };
        let standin = StandIn::start(Some(s3.clone()), move |_| {
            refusing.load(Ordering::Relaxed).then(|| denied.clone())
        });
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = on(directory.path(), backend, &dynamodb, &standin.url, &[]);
        let session = server.post("/v1/sessions", &json!({"profile": "mcp"})).is(201).json();
        let session = session["id"].as_str().expect("an id");
        server.put(&result_of(&url(0), &[]), large(0)).is(201);
        assert_eq!(health(&server)["backends"]["s3"]["status"], "healthy");

        refuses.store(true, Ordering::Relaxed);
        for number in 1..8 {
            let put = server.put(&result_of(&url(number), &[]), large(number));
            match backend {
                "routed" => assert_eq!(put.is(202).json()["outcome"], "queued"),
                _ if number < 5 => drop(put.problem(502, "bucket_access_denied")),
                // Left alone by then.
                _ => {
                    let code = put.json()["code"].as_str().map(str::to_owned).expect("a code");
                    assert!(["bucket_access_denied", "bucket_unavailable"].contains(&&*code), "{put:?}");
                }
            }
            without_bucket(&server, session);
        }
        let series = server.metrics();
        assert!(series.of(r#"circuit_opened_total{backend="s3"}"#) > 0, "{backend}: it is left alone");
        assert!(errors(&server, "s3", "access_denied") > 0, "{backend}");
        for reason in ["access_denied", "unavailable", "timeout", "missing_table"] {
            assert_eq!(errors(&server, "dynamodb", reason), 0, "{backend}: {reason}");
        }
        assert_eq!(series.of(r#"circuit_opened_total{backend="dynamodb"}"#), 0, "{backend}");
        let health = health(&server);
        assert_eq!(
            (&health["status"], &health["backends"]["s3"]["status"]),
            (&json!("degraded"), &json!("unhealthy"))
        );
        assert_eq!(health["backends"]["dynamodb"]["status"], "healthy", "{health}");
        assert_eq!(server.get("/readyz").is(200).decoded(), b"degraded\n");
        let log = server.log().join("\n");
        assert!(log.contains("the s3 store denies access"), "{log}");
        assert!(!log.contains("the dynamodb store denies access"), "{log}");

        refuses.store(false, Ordering::Relaxed);
        // Nothing but the look at its health asks for the bucket.
        eventually("it is well again", || (server.get("/readyz").is(200).decoded() == b"ok\n").then_some(()));
        if backend == "routed" {
            assert_eq!(drain(&server), 0);
        } else {
            server.put(&result_of(&url(7), &[]), large(7)).is(201);
        }
        assert_eq!(server.get(&result_of(&url(7), &[])).is(200).json()["n"], 7, "{backend}");
    }
}

#[test]
fn the_relay_delivers_what_needs_no_bucket() {
    let Some((dynamodb, s3)) = servers() else { return };
    let refuses = Arc::new(AtomicBool::new(true));
    let refusing = Arc::clone(&refuses);
    let denied = Refusal { status: 403, ..Refusal::new("AccessDenied", "Access Denied") };
    let standin = StandIn::start(Some(s3), move |_| refusing.load(Ordering::Relaxed).then(|| denied.clone()));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = on(directory.path(), "routed", &dynamodb, &standin.url, &[]);
    set(&server, &json!({"percent": 0, "dual_write": true}));
    for number in 0..6 {
        server.put(&result_of(&url(number), &[]), large(number)).is(201);
        server.put(&result_of(&format!("{SMALL}/{number}"), &[]), r#"{"n":1}"#).is(201);
    }
    let rows = |state: &str| server.metrics().of(&format!("outbox_rows{{state=\"{state}\"}}"));
    eventually("the small ones are delivered", || (rows("queued") == 6).then_some(()));
    let listed = server.get("/v1/admin/outbox").is(200).json();
    let row = &listed["items"].as_array().expect("rows")[0];
    assert!(row["error"].as_str().is_some_and(|error| error.contains("the s3 store")), "{listed}");
    assert_eq!(rows("parked"), 0, "nothing is wrong with the rows");
    refuses.store(false, Ordering::Relaxed);
    assert_eq!(drain(&server), 0);
}

#[test]
fn a_bucket_that_is_not_there_is_no_table_that_is_not_there() {
    let Some((dynamodb, s3)) = servers() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = [("s3.bucket", "never-made")];
    let server = on(directory.path(), "dynamodb", &dynamodb, &s3, &missing);
    server.put(&result_of(&url(1), &[]), large(1)).problem(502, "bucket_missing");
    server.put(&result_of(SMALL, &[]), r#"{"n":1}"#).is(201);
    assert_eq!(
        (errors(&server, "s3", "missing_bucket"), errors(&server, "dynamodb", "missing_table")),
        (1, 0)
    );
    assert_eq!(health(&server)["backends"]["s3"]["status"], "unhealthy");
    assert_eq!(server.get("/readyz").is(200).decoded(), b"degraded\n");
}

#[test]
fn a_bucket_that_says_nothing_is_not_taken_for_a_silent_dynamodb() {
    let Some((dynamodb, s3)) = servers() else { return };
    let proxy = Proxy::start(&s3);
    let directory = tempfile::tempdir().expect("a temporary directory");
    // What the bucket may take is less than what the router waits for DynamoDB: so it is seen to the end.
    let once =
        [("routing.circuit_failures", "1"), ("s3.attempt_millis", "1000"), ("s3.operation_millis", "1500")];
    let server = on(directory.path(), "routed", &dynamodb, &proxy.url(), &once);
    proxy.set(Weather::Silent);
    server.put(&result_of(&url(1), &[]), large(1)).is(202);
    let status = server.get("/v1/admin/status").is(200).json();
    assert_eq!((&status["circuit"]["failures"], &status["circuit"]["state"]), (&json!(0), &json!("closed")));
    assert_ne!(status["bucket_circuit"]["state"], "closed", "{status}");
    assert_eq!((errors(&server, "s3", "timeout"), errors(&server, "dynamodb", "timeout")), (1, 0));
    server.put(&result_of(SMALL, &[]), r#"{"n":1}"#).is(201);
    proxy.set(Weather::Fair);
    assert_eq!(drain(&server), 0);
}
