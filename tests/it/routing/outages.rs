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

/// Sets what a document looks like that was stored before.
fn page(n: u64) -> String {
    json!({"n": n, "html": "<p>text</p>", "markdown": "text", "success": true}).to_string()
}

#[test]
fn what_could_not_be_asked_for_is_not_called_absent() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("unknown{}-", std::process::id());
    let server = routed(directory.path(), &proxy, &prefix, &[("routing.percent", "100")]);
    let (here, there) = split(50);
    let (hidden, deleted, new) = (here[0].as_str(), here[1].as_str(), here[2].as_str());
    for url in [hidden, deleted] {
        server.put(&result_of(url, &[]), page(1)).is(201);
    }
    set(&server, &json!({"percent": 50}));
    proxy.set(Weather::Cut);
    let conditional = |method: &str, url: &str, name: &str, value: &str| {
        server.request(method, &result_of(url, &[])).header(name, value).json(&json!({"n": 2})).send()
    };
    assert!([202, 204].contains(&server.request("DELETE", &result_of(deleted, &[])).send().status));

    // Keys that SQLite owns: one that only DynamoDB has, one that never was, one that is known to be deleted.
    for url in [hidden, new] {
        let miss = server.get(&result_of(url, &[]));
        assert_eq!(miss.problem(404, "result_not_found")["reason"], "unknown");
        assert!(
            miss.header("cache-status").is_some_and(|status| status.contains("detail=unknown")),
            "{miss:?}"
        );
        for (name, value) in [("if-none-match", "*"), ("if-match", "*")] {
            conditional("PUT", url, name, value).problem(503, "unavailable");
        }
        conditional("DELETE", url, "if-match", "*").problem(503, "unavailable");
        let patch = server.request("PATCH", &result_of(url, &[]));
        let patch = patch.header("content-type", "application/merge-patch+json").body("{}").send();
        patch.problem(503, "unavailable");
    }
    assert_eq!(server.get(&result_of(deleted, &[])).problem(404, "result_not_found")["reason"], "absent");
    conditional("PUT", deleted, "if-match", "*").problem(412, "precondition_failed");
    conditional("PUT", deleted, "if-none-match", "*").is(201);

    // A frontier: what cannot be asked for must not be fetched again.
    let stored = here[3].as_str();
    server.put(&result_of(stored, &[]), page(1)).is(201);
    let gone = here[4].as_str();
    // The failed result of the key is one of its own, and may be DynamoDB's.
    assert!([202, 204].contains(&server.request("DELETE", &result_of(gone, &[])).send().status));
    let keys = [stored, hidden, new, gone, &there[0], "nonsense"];
    let looked = server.post("/v1/results/lookup", &json!({"keys": keys})).is(200).json();
    let states: Vec<&str> =
        looked["results"].as_array().expect("states").iter().filter_map(|it| it["state"].as_str()).collect();
    assert_eq!(states, ["fresh", "unknown", "unknown", "absent", "unknown", "invalid"], "{looked}");
    assert_eq!(looked["results"][1]["reason"], "result");
    let counts = json!({"fresh": 1, "stale": 0, "absent": 1, "leased": 0, "unknown": 3, "invalid": 1});
    assert_eq!(looked["counts"], counts);
    let lines = server.post("/v1/results/batch-get", &json!({"keys": [hidden, stored]})).is(200).lines();
    assert_eq!((&lines[0]["reason"], &lines[1]["status"]), (&json!("unknown"), &json!(200)));
    let counted = server.metrics();
    for (op, count) in [("get", 2), ("batch_get", 1), ("lookup", 3)] {
        let series = format!("lookups_total{{op=\"{op}\",result=\"miss_unknown\"}}");
        assert_eq!(counted.of(&series), count, "{op}");
    }

    // Sessions.
    server.get("/v1/sessions/of-before").problem(503, "unavailable");
    server.post("/v1/sessions", &json!({"id": "of-before"})).problem(503, "unavailable");
    server.request("PUT", "/v1/sessions/of-before").json(&json!({})).send().problem(503, "unavailable");
    set(&server, &json!({"force": "sqlite"}));
    let drawn = server.post("/v1/sessions", &json!({})).is(201).json();
    let id = drawn["id"].as_str().expect("an id");
    assert_eq!(id.len(), "sess_".len() + 32, "a name that nobody can have: {id}");
    let batch = server.post("/v1/sessions/batch-get", &json!({"ids": [id, "of-before"]})).is(200).json();
    assert_eq!(batch["items"].as_array().map(Vec::len), Some(1), "{batch}");
    assert_eq!((&batch["missing"], &batch["unknown"]), (&json!([]), &json!(["of-before"])));

    proxy.set(Weather::Fair);
    let read = eventually("it can be asked again", || {
        let answer = server.get(&result_of(hidden, &[]));
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(read["n"], 1, "what was refused was not stored");
    assert_eq!(server.get(&result_of(new, &[])).problem(404, "result_not_found")["reason"], "absent");
    conditional("PUT", hidden, "if-none-match", "*").problem(412, "precondition_failed");
    conditional("PUT", new, "if-none-match", "*").is(201);
    server.get("/v1/sessions/of-before").problem(404, "session_not_found");
}

#[test]
fn memory_is_the_last_to_go() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    for (backend, weather) in [
        ("dynamodb", Weather::Cut),
        ("dynamodb", Weather::Silent),
        ("routed", Weather::Cut),
        ("routed", Weather::Silent),
    ] {
        let place = format!("{backend}, {weather:?}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let proxy = Proxy::start(&local);
        let prefix = format!("memory{}-{backend}-", std::process::id());
        let settings = [
            ("store.backend", backend),
            ("routing.percent", "100"),
            // A busy machine is no outage.
            ("dynamodb.attempt_millis", "3000"),
            ("dynamodb.operation_millis", "5000"),
            ("routing.owner_millis", "4000"),
            ("routing.circuit_failures", "2"),
        ];
        let server = routed(directory.path(), &proxy, &prefix, &settings);
        let (fresh, old, never) =
            ("https://example.com/fresh", "https://example.com/old", "https://example.com/never");
        for (url, more) in [(fresh, &[][..]), (old, &[("ttl", "0")][..])] {
            let put = server.put(&result_of(url, more), page(1));
            assert!([200, 201].contains(&put.status), "{place}: {put:?}");
        }
        for url in [fresh, old] {
            server.get(&result_of(url, &[("stale", "600")])).is(200);
        }
        proxy.set(weather);
        let is_outage = |answer: &crate::support::Answer| {
            answer.header("cache-status").is_some_and(|status| status.contains("detail=outage"))
        };
        let read = server.get(&result_of(fresh, &[])).is(200);
        assert!(is_outage(&read), "{place}: {read:?}");
        assert_eq!(read.json()["n"], 1);
        let stale = server.get(&result_of(old, &[("stale", "600")])).is(200);
        assert!(is_outage(&stale), "{place}: {stale:?}");
        assert_eq!(
            server.get(&result_of(old, &[])).problem(503, "unavailable")["reason"],
            "expired",
            "{place}"
        );
        for view in ["html", "markdown"] {
            let view =
                server.get(&crate::support::at(&format!("/v1/result/{view}"), &[("url", fresh)])).is(200);
            assert!(is_outage(&view), "{place}: {view:?}");
        }
        let lines = server.post("/v1/results/batch-get", &json!({"keys": [fresh]})).is(200).lines();
        assert_eq!(lines[0]["status"], 200, "{place}: {lines:?}");
        let looked = server.post("/v1/results/lookup", &json!({"keys": [fresh, old, never]})).is(200).json();
        let states: Vec<&str> = looked["results"]
            .as_array()
            .expect("states")
            .iter()
            .filter_map(|it| it["state"].as_str())
            .collect();
        assert_eq!(states, ["fresh", "unknown", "unknown"], "{place}: {looked}");
        let etag = read.header("etag").expect("an etag").to_owned();

        // Never to who asks past it, and it decides about no precondition.
        let past = server.request("GET", &result_of(fresh, &[])).header("cache-control", "no-cache").send();
        assert_eq!(past.status, 503, "{place}: {past:?}");
        let conditional = server.request("PUT", &result_of(fresh, &[])).header("if-match", &etag);
        assert_eq!(conditional.json(&json!({"n": 2})).send().status, 503, "{place}");
        assert!(is_outage(&server.get(&result_of(fresh, &[])).is(200)), "{place}: a refused write leaves it");
        // Nor about a lease: with a router SQLite grants one, and the copy is there to go on with; otherwise only that.
        let leased = server.get(&result_of(fresh, &[("lease", "30")])).is(200);
        assert!(is_outage(&leased), "{place}: {leased:?}");
        assert_eq!(leased.header("crawlcache-lease").is_some(), backend == "routed", "{place}: {leased:?}");
        let asked = server.post("/v1/leases", &json!({"url": never}));
        assert_eq!(asked.status, if backend == "routed" { 201 } else { 503 }, "{place}: {asked:?}");
        let hits = server.metrics().of(r#"lookups_total{op="get",result="hit_outage"}"#);
        assert!(hits >= 4, "{place}: {hits}");

        proxy.set(Weather::Fair);
        eventually("it is trusted again", || {
            let read = server.get(&result_of(fresh, &[])).is(200);
            (!is_outage(&read)).then_some(())
        });
    }
}

#[test]
fn a_lease_for_a_new_page_is_granted_without_dynamodb() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    for weather in [Weather::Cut, Weather::Silent] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let proxy = Proxy::start(&local);
        let prefix = format!("newlease{}-", std::process::id());
        let settings = [
            ("routing.percent", "100"),
            ("routing.owner_millis", "500"),
            ("dynamodb.operation_millis", "1000"),
            ("dynamodb.attempt_millis", "500"),
        ];
        let server = routed(directory.path(), &proxy, &prefix, &settings);
        proxy.set(weather);
        let url = "https://example.com/new";
        let won = server.get(&result_of(url, &[("lease", "30")]));
        let told = won.problem(404, "result_not_found");
        assert_eq!((&told["reason"], &told["lease"]["state"]), (&json!("unknown"), &json!("won")), "{told}");
        let other = server.get(&result_of(url, &[("lease", "30")]));
        assert_eq!(other.problem(404, "result_not_found")["lease"]["state"], "held", "{weather:?}");
        let token = won.header("crawlcache-lease").expect("a lease").to_owned();
        let put = server
            .request("PUT", &result_of(url, &[]))
            .header("crawlcache-lease", &token)
            .json(&json!({"n": 1}));
        put.send().is(202);
        assert_eq!(server.get(&result_of(url, &[("lease", "30")])).is(200).json()["n"], 1);
        let another =
            server.post("/v1/leases", &json!({"url": "https://example.com/another"})).is(201).json();
        assert_eq!(another["state"], "won");
        proxy.set(Weather::Fair);
        assert_eq!(drain(&server), 0);
        assert_eq!(server.get(&result_of(url, &[])).is(200).json()["n"], 1);
    }
}
