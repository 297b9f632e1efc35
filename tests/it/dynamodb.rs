//! The service on DynamoDB: what several instances share, and what each condition of the backend comes to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::aws::{self, Refusal, StandIn};
use crate::support::documents::noise;
use crate::support::server::Setting;
use crate::support::{Server, dynamodb_local, eventually, result_of};

const URL: &str = "https://example.com/";

/// A service on a stand-in, which starts although its tables cannot be checked.
fn on(standin: &StandIn, more: &[Setting<'_>]) -> Server {
    let settings =
        [("store.backend", "dynamodb"), ("dynamodb.endpoint", standin.url.as_str()), ("memory.bytes", "0")];
    Server::start(&[&settings[..], more].concat())
}

/// Settings for tables of one's own on DynamoDB Local.
fn on_local<'s>(local: &'s str, prefix: &'s str) -> Vec<Setting<'s>> {
    vec![
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", local),
        ("dynamodb.table_prefix", prefix),
        ("dynamodb.create_tables", "true"),
        ("memory.bytes", "0"),
    ]
}

fn asked(standin: &StandIn, operation: &str) -> usize {
    standin.asked().iter().filter(|asked| *asked == operation).count()
}

#[test]
fn every_condition_is_told_apart() {
    let says = Refusal::new;
    for (refusal, status, code, reason, tries) in [
        (says("ProvisionedThroughputExceededException", "slow"), 503, "throttled", "throttled", 2),
        (says("AccessDeniedException", "not authorized"), 502, "backend_access_denied", "access_denied", 1),
        (says("ExpiredTokenException", "expired"), 502, "backend_credentials", "credentials", 1),
        (
            says("InvalidSignatureException", "Signature expired: 1 is now earlier than 2"),
            502,
            "backend_clock_skew",
            "clock_skew",
            1,
        ),
        (says("ResourceNotFoundException", "no table"), 502, "table_missing", "missing_table", 1),
        (
            says("ValidationException", "The provided key element does not match the schema"),
            502,
            "table_schema",
            "wrong_schema",
            1,
        ),
        (
            Refusal { status: 500, ..says("InternalServerError", "oops") },
            503,
            "unavailable",
            "unavailable",
            2,
        ),
        (Refusal { after: Duration::from_secs(2), ..says("Late", "") }, 503, "backend_timeout", "timeout", 1),
    ] {
        let standin = StandIn::start(None, move |operation| {
            // The start goes on without a check of the tables.
            let starting = Refusal { status: 500, ..Refusal::new("InternalServerError", "starting") };
            Some(if operation == "DescribeTable" { starting } else { refusal.clone() })
        });
        let times = [("dynamodb.attempt_millis", "300"), ("dynamodb.operation_millis", "300")];
        let times = if code == "backend_timeout" { &times[..] } else { &[] };
        let server = on(&standin, &[&[("dynamodb.max_retries", "1")], times].concat());
        let before = asked(&standin, "GetItem");
        server.get(&result_of(URL, &[])).problem(status, code);
        assert!(asked(&standin, "GetItem") - before >= tries, "{reason}: tries");
        let errors = format!("backend_errors_total{{backend=\"dynamodb\",reason=\"{reason}\"}}");
        assert!(server.metrics().of(&errors) >= 1, "{reason}");
        server.get("/readyz").problem(503, "unavailable");
        server.get("/livez").is(200);
    }
}

#[test]
fn a_write_that_a_transaction_is_in_the_way_of_is_tried_again_and_never_an_error_of_the_service() {
    let Some(local) = dynamodb_local() else { return };
    let prefix = format!("conflict{}-", std::process::id());
    for code in
        ["TransactionConflictException", "TransactionInProgressException", "ReplicatedWriteConflictException"]
    {
        let left = Arc::new(AtomicUsize::new(0));
        let refusals = Arc::clone(&left);
        let standin = StandIn::start(Some(local.clone()), move |operation| {
            let is_write = matches!(operation, "PutItem" | "UpdateItem" | "DeleteItem");
            let take = |left: usize| left.checked_sub(1);
            let is_in_the_way =
                is_write && refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
            is_in_the_way.then(|| Refusal::new(code, "Transaction is ongoing for the item"))
        });
        let server = Server::start(&on_local(&standin.url, &prefix));
        let in_the_way = |times: usize| left.store(times, Ordering::Relaxed);
        let target = result_of(&format!("{URL}{code}"), &[]);

        in_the_way(1);
        server.put(&target, r#"{"n":1}"#).is(201);
        let etag = server.get(&target).is(200).header("etag").expect("an etag").to_owned();
        in_the_way(2);
        server.request("PUT", &target).header("if-match", &etag).body(r#"{"n":2}"#).send().is(200);
        in_the_way(1);
        server.request("PATCH", &target).body(r#"{"m":1}"#).send().is(200);
        in_the_way(1);
        let session = server.post("/v1/sessions", &json!({"profile": "mcp"})).is(201).json();
        let path = format!("/v1/sessions/{}", session["id"].as_str().expect("an id"));
        in_the_way(1);
        server.post(&format!("{path}/status"), &json!({"status": "STOPPED"})).is(200);
        in_the_way(1);
        server.post("/v1/leases", &json!({"url": format!("{URL}{code}/leased")})).is(201);
        in_the_way(1);
        server.request("DELETE", &target).send().is(204);
        server.get(&target).problem(404, "result_not_found");
        assert_eq!(left.load(Ordering::Relaxed), 0, "{code}: each was met");

        in_the_way(usize::MAX);
        let busy = server.put(&target, r#"{"n":3}"#);
        busy.problem(503, "overloaded");
        assert_eq!(busy.header("retry-after"), Some("1"), "{code}");
        server.request("DELETE", &path).send().problem(503, "overloaded");
        server.get("/readyz").is(200);
    }
}

#[test]
fn a_silent_backend_keeps_neither_the_start_nor_the_health_waiting() {
    let standin = StandIn::start(None, |_| {
        Some(Refusal { after: Duration::from_secs(20), ..Refusal::new("Late", "") })
    });
    let server = on(&standin, &[]);
    server.get("/livez").is(200);
    server.get("/readyz").problem(503, "unavailable");
}

#[test]
fn a_write_whose_answer_is_lost_says_what_it_did() {
    let Some(local) = dynamodb_local() else { return };
    let lose = Arc::new(AtomicBool::new(false));
    let losing = Arc::clone(&lose);
    let standin = StandIn::start(Some(local), move |operation| {
        let write = matches!(operation, "PutItem" | "UpdateItem");
        (write && losing.swap(false, Ordering::Relaxed)).then(Refusal::of_the_answer)
    });
    let prefix = format!("lost{}-", std::process::id());
    let server = Server::start(&on_local(&standin.url, &prefix));
    let next_is_lost = || lose.store(true, Ordering::Relaxed);

    next_is_lost();
    let create = server.request("PUT", &result_of(URL, &[])).header("if-none-match", "*");
    let created = create.json(&json!({"n": 1})).send().is(201);
    assert_eq!(created.json()["outcome"], "created");
    next_is_lost();
    assert_eq!(server.put(&result_of(URL, &[]), r#"{"n":2}"#).is(200).json()["outcome"], "replaced");
    let etag = server.get(&result_of(URL, &[])).is(200).header("etag").expect("an etag").to_owned();
    next_is_lost();
    server.request("DELETE", &result_of(URL, &[])).header("if-match", &etag).send().is(204);
    server.get(&result_of(URL, &[])).problem(404, "result_not_found");

    next_is_lost();
    let session = server.post("/v1/sessions", &json!({"profile": "mcp"})).is(201).json();
    let events = format!("/v1/sessions/{}/events", session["id"].as_str().expect("an id"));
    next_is_lost();
    server.post(&events, &json!({"event_type": "Once", "source": "test"})).is(201);
    let listed = server.get(&events).is(200).json();
    let once =
        listed["items"].as_array().expect("events").iter().filter(|event| event["event_type"] == "Once");
    assert_eq!(once.count(), 1, "{listed}");
    assert!(!lose.load(Ordering::Relaxed), "each was lost");
}

#[test]
fn a_missing_table_is_named_at_the_start_with_what_makes_it() {
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", local.as_str()),
        ("dynamodb.table_prefix", "never-"),
        ("dynamodb.create_tables", "false"),
    ];
    let (status, text) = Server::refused(directory.path(), &settings);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("never-crawl4ai-") && text.contains("crawlcache tables create"), "{text}");
}

#[test]
fn a_table_of_another_schema_is_refused_at_the_start() {
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let prefix = format!("schema{}-", std::process::id());
    drop(Server::on(directory.path(), &on_local(&local, &prefix)));
    let mut settings = on_local(&local, &prefix);
    settings.push(("dynamodb.sessions_table", "crawl4ai-results"));
    let (status, text) = Server::refused(directory.path(), &settings);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("crawl4ai-results") && text.contains("session_id"), "{text}");
}

/// Carries bytes to and from `target` once it is let.
fn forward(listener: TcpListener, target: SocketAddr) {
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(target) else { continue };
            for (mut from, mut to) in [
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket")),
                (server, client),
            ] {
                thread::spawn(move || {
                    let mut bytes = [0; 16 << 10];
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
}

#[test]
fn it_starts_without_its_backend_and_serves_once_that_is_there() {
    let Some(local) = dynamodb_local() else { return };
    // The tables are there already.
    let directory = tempfile::tempdir().expect("a directory");
    let prefix = format!("late{}-", std::process::id());
    let tables = [
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", local.as_str()),
        ("dynamodb.table_prefix", prefix.as_str()),
        ("dynamodb.create_tables", "true"),
    ];
    drop(Server::on(directory.path(), &tables));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let endpoint = format!("http://{address}");
    let server = Server::start(&[
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", &endpoint),
        ("dynamodb.table_prefix", &prefix),
    ]);
    server.get("/readyz").problem(503, "unavailable");
    server.get(&result_of(URL, &[])).problem(503, "unavailable");
    assert_eq!(server.get("/health").is(503).json()["backends"]["dynamodb"]["status"], "unhealthy");

    let target = local.strip_prefix("http://").and_then(|target| target.parse().ok()).expect("an address");
    forward(TcpListener::bind(address).expect("still free"), target);
    eventually("it is ready", || (server.get("/readyz").status == 200).then_some(()));
    server.put(&result_of(URL, &[]), r#"{"a":1}"#).is(201);
    assert_eq!(server.get(&result_of(URL, &[])).is(200).json(), json!({"a": 1}));
    // Sessions found their layout late, too.
    server.post("/v1/sessions", &json!({"profile": "mcp"})).is(201);
}

#[test]
fn instances_share_results_and_sessions() {
    let Some(local) = dynamodb_local() else { return };
    let prefix = format!("two{}-", std::process::id());
    let settings = [
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", local.as_str()),
        ("dynamodb.table_prefix", prefix.as_str()),
        ("dynamodb.create_tables", "true"),
    ];
    let (one, other) = (Server::start(&settings), Server::start(&settings));
    one.put(&result_of(URL, &[]), r#"{"by":"one"}"#).is(201);
    assert_eq!(other.get(&result_of(URL, &[])).is(200).json()["by"], "one");
    other.put(&result_of(URL, &[]), r#"{"by":"other"}"#).is(200);
    let past_memory = one.request("GET", &result_of(URL, &[])).header("cache-control", "no-cache").send();
    assert_eq!(past_memory.is(200).json()["by"], "other");
    let etag = other.get(&result_of(URL, &[])).is(200).header("etag").expect("an etag").to_owned();
    one.put(&result_of(URL, &[]), r#"{"by":"one again"}"#).is(200);
    let late = other.request("PUT", &result_of(URL, &[])).header("if-match", &etag);
    late.json(&json!({"by": "a late one"})).send().problem(412, "precondition_failed");

    let session = one.post("/v1/sessions", &json!({"profile": "mcp", "project_id": "p"})).is(201).json();
    let path = format!("/v1/sessions/{}", session["id"].as_str().expect("an id"));
    other.post(&format!("{path}/status"), &json!({"status": "STOPPED"})).is(200);
    assert_eq!(one.get(&path).is(200).json()["status"], "STOPPED");
    let listed = one.get("/v1/sessions?project_id=p").is(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn thirty_megabytes_that_do_not_compress() {
    let Some(local) = dynamodb_local() else { return };
    let prefix = format!("large{}-", std::process::id());
    let server = Server::start(&[
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", &local),
        ("dynamodb.table_prefix", &prefix),
        ("dynamodb.create_tables", "true"),
        ("memory.bytes", "0"),
    ]);
    // Of 42 letters, so that it compresses to about two thirds.
    let document = json!({"markdown": "# Large", "html": noise(7, 30_000_000)}).to_string();
    server.put(&result_of(URL, &[]), document.clone()).is(201);
    let whole = server.get(&result_of(URL, &[])).is(200);
    assert!(whole.decoded() == document.as_bytes(), "it came back changed");
    let part = server.get(&result_of(URL, &[("fields", "markdown")])).is(200);
    assert_eq!(part.json(), json!({"markdown": "# Large"}));
    // The same content again writes no parts.
    let written = |server: &Server| {
        let series = server.metrics();
        let units = |operation: &str| {
            let labels = format!("operation=\"{operation}\",table=\"results\",unit=\"write\"");
            series.units(&format!("dynamodb_capacity_units_total{{{labels}}}"))
        };
        ["put_item", "update_item"].into_iter().map(units).sum::<f64>()
    };
    let before = written(&server);
    assert!(before > 10_000.0, "{before} units for parts");
    server.put(&result_of(URL, &[]), document).is(200);
    assert!(written(&server) - before < 10.0, "{} after {before}", written(&server));
}

/// The attributes of a result's item on DynamoDB Local.
fn item_of(local: &str, prefix: &str, url: &str) -> Value {
    let table = format!("{prefix}crawl4ai-results");
    let wanted = json!({"TableName": table, "Key": {"url": {"S": url}}, "ConsistentRead": true});
    let answer = aws::ask(local, "GetItem", &wanted.to_string());
    let body = answer.find('{').map(|at| &answer[at..]).expect("an object");
    serde_json::from_str::<Value>(body).expect("JSON")["Item"].take()
}

/// Writes an item as another program does.
fn write_item(local: &str, prefix: &str, item: &Value) {
    let put = json!({"TableName": format!("{prefix}crawl4ai-results"), "Item": item});
    let answer = aws::ask(local, "PutItem", &put.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The frame with one bit changed, so that it decodes to something else that is as long.
fn frame_of_another(frame: &[u8]) -> Vec<u8> {
    let text = |frame: &[u8]| zstd::stream::decode_all(frame).ok();
    let whole = text(frame).expect("it decodes");
    let flips = (0..frame.len() * 8).rev().map(|bit| {
        let mut frame = frame.to_vec();
        frame[bit / 8] ^= 1 << (bit % 8);
        frame
    });
    let mut others = flips.filter(|frame| {
        text(frame).is_some_and(|text| {
            text.len() == whole.len() && text != whole && serde_json::from_slice::<Value>(&text).is_ok()
        })
    });
    others.next().expect("a bit that only changes a letter")
}

#[test]
fn a_damaged_body_answers_for_no_page() {
    let Some(local) = dynamodb_local() else { return };
    let prefix = format!("damaged{}-", std::process::id());
    let settings: Vec<_> =
        on_local(&local, &prefix).into_iter().filter(|(name, _)| *name != "memory.bytes").collect();
    let document = json!({"success": true, "html": noise(3, 300)});
    let (same, writer) = ("https://example.com/same", Server::start(&settings));
    writer.put(&result_of(URL, &[]), document.to_string()).is(201);
    let mut item = item_of(&local, &prefix, URL);
    let frame = STANDARD.decode(item["frame"]["B"].as_str().expect("a frame")).expect("base64");
    item["frame"]["B"] = STANDARD.encode(frame_of_another(&frame)).into();
    write_item(&local, &prefix, &item);

    // One that has nothing in memory meets the damage first.
    let server = Server::start(&settings);
    let get = |url: &str, coding: &str| {
        let get = server.request("GET", &result_of(url, &[])).header("cache-control", "no-cache");
        get.header("accept-encoding", coding).send()
    };
    let is_good = |url: &str, what: &str| {
        for coding in ["identity", "zstd", "gzip"] {
            let answer = get(url, coding).is(200);
            assert_eq!(serde_json::from_slice::<Value>(&answer.decoded()).expect("JSON"), document, "{what}");
        }
    };
    for coding in ["identity", "zstd", "gzip"] {
        assert_eq!(get(URL, coding).problem(404, "result_not_found")["reason"], "damaged", "{coding}");
    }
    let view = server.get(&result_of(URL, &[("fields", "html")]));
    assert_eq!(view.problem(404, "result_not_found")["reason"], "damaged");
    server.put(&result_of(same, &[]), document.to_string()).is(201);
    is_good(same, "another page of the same content");
    server.put(&result_of(URL, &[]), document.to_string()).is(200);
    is_good(URL, "the same content stored again");
    is_good(same, "another page, still");
}
