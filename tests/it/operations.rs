//! What operators look at: health, metrics, logs, the contract.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::metrics::Series;
use crate::support::{Server, backend, eventually, on_sqlite, result_of};

#[test]
fn health_routes_have_their_shapes() {
    let server = Server::start(&[]);
    for (path, body) in [("/livez", "ok\n"), ("/readyz", "ok\n")] {
        let answer = server.get(path).is(200);
        assert_eq!(answer.body, body.as_bytes());
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    }
    let health = server.get("/health").is(200).json();
    assert_eq!(
        (&health["status"], &health["version"]),
        (&json!("healthy"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(health["uptime_seconds"].is_u64() && health["timestamp"].is_string(), "{health}");
    let state = &health["backends"][backend()];
    assert_eq!(state["status"], "healthy");
    assert!(state["response_time_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{health}");
    assert!(state["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{health}");
    assert_eq!(state.get("error"), None);
}

#[test]
fn stats_add_up() {
    let server = Server::start(&[]);
    let empty = server.get("/v1/stats").is(200).json();
    assert_eq!((&empty["entries"], empty.get("hit_ratio")), (&json!(0), None));
    server.put(&result_of("https://a/", &[]), r#"{"a":1}"#).is(201);
    server.get(&result_of("https://a/", &[])).is(200);
    server.get(&result_of("https://b/", &[])).problem(404, "result_not_found");
    let stats = server.get("/v1/stats").is(200).json();
    assert_eq!(stats["hit_ratio"], json!(0.5));
    if on_sqlite() {
        assert_eq!((&stats["entries"], &stats["raw_bytes"]), (&json!(1), &json!(7)));
    }
    assert_eq!(stats["lookups"]["miss_absent"], 1);
    assert!(!on_sqlite() || stats["size_bytes"].as_u64() > Some(0), "{stats}");
    assert!(!on_sqlite() || stats["stored_bytes"].as_u64() > Some(0), "{stats}");
}

/// Every label set of a counter: the product of its labels' values.
fn product(name: &str, labels: &[(&str, &[&str])]) -> Vec<String> {
    let mut sets = vec![String::new()];
    for (label, values) in labels {
        sets = sets
            .iter()
            .flat_map(|set| {
                let comma = if set.is_empty() { "" } else { "," };
                values.iter().map(move |value| format!("{set}{comma}{label}=\"{value}\""))
            })
            .collect();
    }
    sets.into_iter().map(|set| format!("{name}{{{set}}}")).collect()
}

/// What the errors of a backend can be.
const REASONS: [&str; 18] = [
    "overloaded",
    "unavailable",
    "full",
    "read_only",
    "corrupt",
    "sealed",
    "throttled",
    "timeout",
    "access_denied",
    "credentials",
    "clock_skew",
    "missing_table",
    "missing_bucket",
    "wrong_schema",
    "too_large",
    "unsupported",
    "cursor",
    "backend",
];

/// What backends are timed at.
const BACKEND_OPERATIONS: [&str; 16] = [
    "get",
    "get_metas",
    "put",
    "delete",
    "list",
    "status",
    "session_get",
    "session_get_many",
    "session_put",
    "session_delete",
    "session_list",
    "lease_acquire",
    "lease_renew",
    "lease_fence",
    "lease_end",
    "lease_held",
];

#[test]
fn every_series_is_there_at_zero_from_the_start() {
    let server = Server::start(&[]);
    let document = server.get("/openapi.json").is(200).json();
    let series = server.metrics();
    let lookups = [
        "hit_memory",
        "hit_sqlite",
        "hit_dynamodb",
        "hit_failed",
        "stale",
        "miss_absent",
        "miss_expired",
        "miss_too_old",
        "miss_field",
        "miss_variant",
        "miss_failed",
        "error",
    ];
    let writes = ["created", "replaced", "refreshed", "superseded", "deleted", "absent", "conflict", "error"];
    let mut zero = Vec::new();
    zero.extend(product(
        "lookups_total",
        &[("op", &["get", "field", "batch_get", "lookup"]), ("result", &lookups)],
    ));
    for (ops, results) in [
        (&["put", "patch", "batch_put", "import"][..], &writes[..4]),
        (&["put", "patch", "batch_put", "import"], &writes[7..]),
        (&["put", "patch"], &["conflict"]),
        (&["delete", "purge"], &writes[4..]),
    ] {
        zero.extend(product("writes_total", &[("op", ops), ("result", results)]));
    }
    zero.extend(product("backend_errors_total", &[("backend", &[backend()]), ("reason", &REASONS)]));
    let leases = ["won", "held", "fresh", "failed", "renewed", "lost", "released", "stored", "outdated"];
    zero.extend(product("leases_total", &[("result", &leases)]));
    zero.extend(["lease_waiters".to_owned(), "lease_wait_seconds_count".to_owned()]);
    zero.extend(product("http_shed_total", &[("reason", &["concurrency", "connections", "body_memory"])]));
    zero.extend(product("failed_results_total", &[("why", &["success", "status", "blocked"])]));
    zero.extend(product("auth_failures_total", &[("reason", &["missing", "invalid", "scope"])]));
    zero.extend(product("removed_entries_total", &[("reason", &["expired", "size"])]));
    zero.extend(product("removed_sessions_total", &[("reason", &["expired"])]));
    zero.extend(product("served_age_seconds_count", &[("op", &["get", "field", "batch_get"])]));
    zero.extend(product("memory_bytes", &[("kind", &["results", "answers"])]));
    zero.extend(product("memory_entries", &[("kind", &["results", "answers"])]));
    for gauge in ["store_entries", "store_sessions", "store_limit_bytes"] {
        zero.extend(product(gauge, &[("backend", &[backend()])]));
    }
    zero.extend(product("store_bytes", &[("backend", &[backend()]), ("state", &["stored", "decoded"])]));
    for name in &zero {
        assert_eq!(series.of(name), 0, "{name}");
    }
    let store = backend();
    for operation in BACKEND_OPERATIONS {
        for outcome in ["ok", "error"] {
            let labels = format!("backend=\"{store}\",operation=\"{operation}\",outcome=\"{outcome}\"");
            let count = series.of(&format!("backend_operation_duration_seconds_count{{{labels}}}"));
            assert!(count == 0 || (operation, outcome) == ("status", "ok"), "{labels}: {count}");
        }
    }
    // Every good answer of every documented route has its histogram, and so have faults; mistakes get theirs when they
    // happen.
    let mut documented = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Some(answers) = operation["responses"].as_object() else { continue };
            let at_once = |status: &&String| {
                status.starts_with(['2', '3']) || ["500", "503"].contains(&status.as_str())
            };
            for status in answers.keys().filter(at_once) {
                let method = method.to_ascii_uppercase();
                let labels = format!("method=\"{method}\",route=\"{path}\",status=\"{status}\"");
                let count = series.of(&format!("http_request_duration_seconds_count{{{labels}}}"));
                assert_eq!(count, 0, "{labels}");
                documented += 1;
            }
        }
    }
    assert!(documented > 100, "{documented}");
    let mistakes = |series: &Series| {
        let counts =
            series.names().filter(|name| name.starts_with("crawlcache_http_request_duration_seconds_count"));
        counts.filter(|name| name.contains("status=\"404\"")).count()
    };
    assert_eq!(mistakes(&series), 0, "most of them never happen, and every scrape would carry them");
    server.get(&result_of("https://a/", &[])).problem(404, "result_not_found");
    assert_eq!(mistakes(&server.metrics()), 1);
    assert_eq!(series.of(&format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1);
    assert_eq!(series.of("http_requests_in_flight"), 1, "the scrape itself");
    assert!(series.names().any(|name| name == "process_resident_memory_bytes"), "the process is described");
}

#[test]
fn the_counters_say_exactly_what_was_done() {
    let server = Server::start(&[]);
    let target = |url: &str, more: &[(&str, &str)]| result_of(url, more);
    let page = target("https://a/", &[]);
    server.put(&page, r#"{"html":"x"}"#).is(201);
    server.put(&page, r#"{"html":"x"}"#).is(200);
    server.put(&page, r#"{"html":"y"}"#).is(200);
    server.put(&page, "[]").problem(400, "not_an_object");
    server
        .request("PUT", &page)
        .header("if-none-match", "*")
        .body("{}")
        .send()
        .problem(412, "precondition_failed");
    server.request("PATCH", &page).body(r#"{"b":1}"#).send().is(200);
    server.put(&target("https://a/", &[("variant", "v")]), "{}").is(201);
    server.put(&target("https://old/", &[("ttl", "0")]), "{}").is(201);

    let fresh = |path: &str| server.request("GET", path).header("cache-control", "no-cache").send();
    (0..3).for_each(|_| drop(fresh(&page).is(200)));
    server.get(&target("https://b/", &[])).problem(404, "result_not_found");
    server.get(&target("https://a/", &[("variant", "w")])).problem(404, "result_not_found");
    server.get(&target("https://a/", &[("require", "pdf")])).problem(404, "result_not_found");
    server.get(&format!("/v1/result/html?{}", &page["/v1/result?".len()..])).is(200);
    let mut expired = 0;
    eventually("it expires", || {
        let answer = server.post("/v1/results/batch-get", &json!({"keys": ["https://old/"]})).is(200);
        expired += 1;
        (answer.lines()[0]["status"] == 404).then_some(())
    });
    server.get(&target("https://old/", &[("stale", "1000")])).is(200);
    server.post("/v1/results/lookup", &json!({"keys": ["https://a/", "https://b/", "nonsense"]})).is(200);
    let lines = "{\"url\":\"https://c/\",\"document\":{}}\n{\"url\":\"https://d/\",\"document\":[]}\n";
    server.request("POST", "/v1/results/batch-put").ndjson(lines).send().is(200);
    server.request("POST", "/v1/results/import").ndjson(lines).send().is(200);
    server.request("DELETE", &target("https://c/", &[])).send().is(204);
    server.request("DELETE", &target("https://c/", &[])).send().is(204);
    server.post("/v1/results/purge", &json!({"url": "https://a/"})).is(200);
    server.get("/v1/nowhere").problem(404, "not_found");

    let series = server.metrics();
    let count = |op: &str, result: &str| (format!("{{op=\"{op}\",result=\"{result}\"}}"), 1);
    let many = |op: &str, result: &str, count: u64| (format!("{{op=\"{op}\",result=\"{result}\"}}"), count);
    let sorted = |mut counts: Vec<(String, u64)>| {
        counts.sort_by(|a, b| a.0.cmp(&b.0));
        counts
    };
    assert_eq!(
        sorted(series.counted("writes_total")),
        sorted(vec![
            many("put", "created", 3),
            count("put", "refreshed"),
            count("put", "replaced"),
            count("put", "conflict"),
            count("patch", "replaced"),
            count("batch_put", "created"),
            count("import", "refreshed"),
            count("delete", "deleted"),
            count("delete", "absent"),
            many("purge", "deleted", 2),
        ])
    );
    let mut lookups = series.counted("lookups_total");
    // How often the expiring one was asked, and from where, depends on the clock.
    lookups.retain(|(labels, _)| !labels.contains("batch_get") && !labels.contains("hit_"));
    let mut expected =
        vec![count("get", "miss_field"), count("get", "stale"), count("lookup", "miss_absent")];
    // DynamoDB does not look for other variants on a miss.
    expected.extend(if on_sqlite() {
        vec![count("get", "miss_absent"), count("get", "miss_variant")]
    } else {
        vec![many("get", "miss_absent", 2)]
    });
    assert_eq!(sorted(lookups), sorted(expected));
    let of = |op: &str, result: &str| series.of(&format!("lookups_total{{op=\"{op}\",result=\"{result}\"}}"));
    let hit = format!("hit_{}", backend());
    assert_eq!(of("get", &hit), 3, "no-cache reads past memory each time");
    assert_eq!(of("get", "hit_memory"), 0);
    assert_eq!(of("field", "hit_memory") + of("field", &hit), 1);
    assert_eq!(of("batch_get", "miss_expired"), 1);
    assert_eq!(of("batch_get", "hit_memory") + of("batch_get", &hit), expired - 1);
    assert_eq!(of("lookup", "hit_memory") + of("lookup", &hit), 1);
    assert_eq!(series.of("served_age_seconds_count{op=\"get\"}"), 4);
    assert_eq!(server.entries(), 1);
    for (method, route, status, count) in [
        ("PUT", "/v1/result", 201, 3),
        ("PUT", "/v1/result", 200, 2),
        ("PUT", "/v1/result", 400, 1),
        ("PUT", "/v1/result", 412, 1),
        ("PATCH", "/v1/result", 200, 1),
        ("DELETE", "/v1/result", 204, 2),
        ("GET", "/v1/result", 200, 4),
        ("GET", "/v1/result", 404, 3),
        ("GET", "/v1/result/html", 200, 1),
        ("GET", "unmatched", 404, 1),
    ] {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        assert_eq!(series.of(&format!("http_request_duration_seconds_count{{{labels}}}")), count, "{labels}");
    }
    let puts = format!("backend=\"{}\",operation=\"put\",outcome=\"ok\"", backend());
    assert_eq!(series.of(&format!("backend_operation_duration_seconds_count{{{puts}}}")), 9);
}

#[test]
fn a_series_is_not_made_by_what_a_client_sends() {
    let server = Server::start(&[]);
    let names = || server.metrics().names().map(str::to_owned).collect::<BTreeSet<_>>();
    server.get("/nowhere/at/all");
    server.request("BREW", "/livez").send();
    // A route gets the series of a client's mistake when it is first made.
    server.get(&result_of("https://a.test/", &[]));
    let before = names();
    for n in 0..20 {
        server.get(&format!("/nowhere/{n}"));
        server.request(&format!("BREW{n}"), "/livez").send();
        server.get(&result_of(&format!("https://{n}.example/"), &[]));
        server.put(&result_of(&format!("https://{n}.example/"), &[]), "{}").is(201);
    }
    let after = names();
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.iter().all(|name| !name.contains("example")), "no host is a label");
}

#[test]
fn a_request_id_is_echoed_and_made_where_there_is_none() {
    let server = Server::start(&[]);
    server.put(&result_of("https://a/", &[]), "{}").is(201);
    let mut made = BTreeSet::new();
    for (method, path, status) in [
        ("GET", "/livez", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/livez", 405),
        ("GET", "/v1/result?url=https://a/", 200),
        ("GET", "/v1/result?url=https://b/", 404),
        ("GET", "/v1/result", 400),
        ("DELETE", "/v1/result?url=https://c/", 204),
    ] {
        let given = server.request(method, path).header("x-request-id", "trace-1/2").send().is(status);
        assert_eq!(given.header("x-request-id"), Some("trace-1/2"), "{method} {path}");
        for unfit in ["two words", "", &"x".repeat(129)] {
            let answer = server.request(method, path).header("x-request-id", unfit).send().is(status);
            let id = answer.header("x-request-id").expect("an id");
            assert!(!id.is_empty() && id != unfit, "{method} {path}");
            assert!(made.insert(id.to_owned()), "{id} came twice");
        }
    }
}

#[test]
fn a_failure_is_one_line_of_json_that_names_the_route_and_the_request_only() {
    let server = Server::start(&[("limits.concurrency", "1")]);
    let mut held = server.begin_put(&result_of("https://held.example/", &[]), 2);
    let request = server.request("GET", &result_of("https://shed.example/", &[]));
    let request = request.header("authorization", "Bearer very-secret-token");
    let shed = request.header("x-request-id", "shed-1").send();
    shed.problem(503, "overloaded");
    let event = server.wait_for_event("the failure is logged", |event| event["request_id"] == "shed-1");
    assert_eq!(
        (&event["route"], &event["status"], &event["method"]),
        (&json!("/v1/result"), &json!(503), &json!("GET"))
    );
    assert_eq!(event["level"], "WARN");
    assert!(event["milliseconds"].is_number() && event["timestamp"].is_string(), "{event}");
    held.write(b"{}").expect("sent");
    held.answer("PUT").expect("an answer").is(201);
    server.get("/livez").is(200);
    let log = server.log();
    let events: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(events.iter().all(|event| event["route"] != "/livez"), "a success is not logged");
    let text = log.join("\n");
    for word in ["shed.example", "held.example", "very-secret-token"] {
        assert!(!text.contains(word), "the log shows {word}");
    }
}

#[test]
fn every_request_is_logged_where_the_sample_is_everything() {
    let server = Server::start(&[("log.sample", "1")]);
    server.request("GET", "/livez").header("x-request-id", "sampled-1").send().is(200);
    let event = server.wait_for_event("it is logged", |event| event["request_id"] == "sampled-1");
    assert_eq!(
        (&event["route"], &event["status"], &event["level"]),
        (&json!("/livez"), &json!(200), &json!("INFO"))
    );
}

#[test]
fn the_contract_is_served_with_a_page_that_needs_no_network() {
    let server = Server::start(&[]);
    let document = server.get("/openapi.json").is(200).json();
    assert!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    for (path, methods) in [
        ("/v1/result", &["get", "put", "patch", "delete"][..]),
        ("/v1/results", &["get", "post"]),
        ("/v1/results/lookup", &["post"]),
        ("/v1/results/batch-get", &["post"]),
        ("/v1/results/batch-put", &["post"]),
        ("/v1/results/purge", &["post"]),
        ("/v1/results/import", &["post"]),
        ("/v1/results/export", &["get"]),
        ("/metrics", &["get"]),
    ] {
        for method in methods {
            let answers = &document["paths"][path][method]["responses"];
            assert!(answers.is_object(), "{method} {path}");
        }
    }
    let mut page = server.get("/docs");
    for _ in 0..3 {
        if let Some(location) = page.header("location").map(str::to_owned) {
            page =
                server.get(&if location.starts_with('/') { location } else { format!("/docs/{location}") });
        }
    }
    let html = String::from_utf8(page.is(200).decoded()).expect("text");
    assert!(!html.contains("src=\"http") && !html.contains("href=\"http"), "{html}");
}
