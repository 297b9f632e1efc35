//! Everything out of one server and into another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::documents::{assert_same, fields, full, odd, plain};
use crate::support::{Server, dynamodb_local, eventually, on_sqlite, result_of};

/// What a listing says that must be the same on both sides.
fn listed(server: &Server) -> BTreeMap<(String, String), Value> {
    let page = server.get("/v1/results?expired=true&limit=1000").is(200).json();
    assert_eq!(page.get("next_cursor"), None);
    page["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| {
            let mut kept = item.clone();
            for moving in ["age", "ttl", "stored_bytes"] {
                kept.as_object_mut().expect("an object").remove(moving);
            }
            ((item["url"].to_string(), item["variant"].to_string()), kept)
        })
        .collect()
}

#[test]
fn what_is_exported_and_imported_is_equal_to_the_byte() {
    let from = Server::start(&[]);
    let mut documents: Vec<(String, &str, String)> = vec![
        ("https://example.com/plain".to_owned(), "", plain("https://example.com/plain").to_string()),
        ("https://example.com/full".to_owned(), "", full("https://example.com/full").to_string()),
        ("https://example.com/full".to_owned(), "mobile", full("https://other.example/").to_string()),
    ];
    for (n, (_, text)) in odd().into_iter().enumerate() {
        documents.push((format!("https://odd.example/{n}"), "v", text));
    }
    for (n, (url, variant, text)) in documents.iter().enumerate() {
        let ttl = if n == 0 { "0" } else { "3600" };
        from.put(&result_of(url, &[("variant", variant), ("ttl", ttl)]), text.as_bytes()).is(201);
    }
    let renewed = result_of("https://odd.example/0", &[("variant", "v"), ("origin_etag", "\"newer\"")]);
    from.request("PATCH", &renewed).body("{}").send().is(200);
    eventually("the first one expires", || {
        (from.get("/v1/results").is(200).json()["items"].as_array()?.len() == documents.len() - 1)
            .then_some(())
    });

    let export = from.get("/v1/results/export?expired=true").is(200);
    let text = String::from_utf8(export.decoded()).expect("UTF-8");
    let times: Vec<String> = text.lines().map(|line| fields(line.as_bytes())["updated_at"].clone()).collect();
    assert_eq!(times.len(), documents.len());
    assert!(times.is_sorted(), "oldest first: {times:?}");

    let to = Server::start(&[]);
    for (attempt, member) in ["created", "superseded"].into_iter().enumerate() {
        let report = to.request("POST", "/v1/results/import").ndjson(export.decoded()).send().is(200).json();
        assert_eq!(
            (&report["lines"], &report[member]),
            (&json!(documents.len()), &json!(documents.len())),
            "{attempt}: {report}"
        );
        assert_eq!((&report["failed"], &report["complete"]), (&json!(0), &json!(true)), "{report}");
        assert_eq!(listed(&to), listed(&from), "{attempt}");
    }
    for (n, (url, variant, text)) in documents.iter().enumerate() {
        let stale = if n == 0 { "3600" } else { "0" };
        let answer = to.get(&result_of(url, &[("variant", variant), ("stale", stale)])).is(200);
        assert_same(url, &answer.decoded(), text.replace(['\n', '\r'], " ").as_bytes());
    }
    let both = [&from, &to].map(|server| server.get("/v1/results/export?expired=true").is(200).decoded());
    let sorted = |text: &[u8]| {
        let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort_unstable();
        lines
    };
    assert!(sorted(&both[0]) == sorted(&both[1]), "the two exports differ");
}

#[test]
fn an_export_takes_the_filters_of_a_listing() {
    let server = Server::start(&[]);
    for url in ["https://a.example/1", "https://a.example/2", "https://b.example/1"] {
        server.put(&result_of(url, &[]), "{}").is(201);
    }
    let count = |query: &str| server.get(&format!("/v1/results/export{query}")).is(200).lines().len();
    assert_eq!((count(""), count("?host=a.example"), count("?prefix=https://c")), (3, 2, 0));
}

#[test]
fn an_import_of_many_lines_keeps_them_all() {
    let server = Server::start(&[]);
    let lines: Vec<String> =
        (0..3000).map(|n| format!("{{\"url\":\"https://a/{n}\",\"document\":{{\"n\":{n}}}}}\n")).collect();
    let report = server
        .request("POST", "/v1/results/import")
        .header("content-type", "application/x-ndjson")
        .chunked(lines.concat())
        .send();
    let report = report.is(200).json();
    assert_eq!(
        (&report["lines"], &report["created"], &report["failed"]),
        (&json!(3000), &json!(3000), &json!(0))
    );
    let lines = server.get("/v1/results/export").is(200).lines();
    assert_eq!(lines.len(), 3000, "more than a page is exported");
    let mut numbers: Vec<u64> =
        lines.iter().map(|line| line["document"]["n"].as_u64().expect("a number")).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..3000));
}

#[test]
fn an_import_does_not_turn_back_the_clock() {
    let server = Server::start(&[]);
    let line = json!({
        "url": "https://a/", "document": {"n": 1}, "created_at": "2020-01-01T00:00:00Z",
        "updated_at": "2099-01-01T00:00:00Z", "expires_at": "9999-01-01T00:00:00Z",
    });
    server.request("POST", "/v1/results/import").ndjson(line.to_string()).send().is(200);
    let item = server.get("/v1/results").is(200).json()["items"][0].clone();
    assert!(item["age"].as_u64().is_some_and(|age| age < 60), "nothing is from the future: {item}");
    assert!(
        item["ttl"].as_i64().is_some_and(|ttl| ttl <= 315_360_000),
        "the longest time to live holds: {item}"
    );
    assert!(item["created_at"].as_str().expect("a time").starts_with("2020-01-01T00:00:00"), "{item}");
}

#[test]
fn an_import_never_replaces_what_is_newer() {
    let server = Server::start(&[]);
    let target = result_of("https://a.example/", &[]);
    server.put(&target, "{\"is\":\"new\"}").is(201);
    let line = "{\"url\":\"https://a.example/\",\"updated_at\":\"2020-01-01T00:00:00Z\",\"document\":{\"is\":\"old\"}}\n";
    let report = server.request("POST", "/v1/results/import").ndjson(line).send().is(200).json();
    assert_eq!((&report["superseded"], &report["failed"]), (&json!(1), &json!(0)));
    assert_eq!(server.get(&target).is(200).json(), json!({"is": "new"}));
}

#[test]
fn equal_keys_in_one_batch_are_stored_in_their_order() {
    let server = Server::start(&[]);
    let line = |n: usize| json!({"url": "https://a.example/", "document": {"n": n}}).to_string() + "\n";
    for target in ["/v1/results/batch-put", "/v1/results/import?outcomes=true"] {
        let lines: String = (0..200).map(line).collect();
        let answer = server.request("POST", target).ndjson(lines).send().is(200);
        let outcomes = if target.contains("import") {
            answer.json()["outcomes"].as_array().expect("outcomes").clone()
        } else {
            answer.lines()
        };
        let words: Vec<&str> =
            outcomes.iter().map(|outcome| outcome["outcome"].as_str().expect("a word")).collect();
        assert!(words[1..].iter().all(|word| *word == "replaced"), "{target}: {words:?}");
        assert_eq!(server.get(&result_of("https://a.example/", &[])).is(200).json(), json!({"n": 199}));
    }
}

#[test]
fn the_outcomes_of_an_import_are_in_the_order_of_its_lines() {
    let server = Server::start(&[]);
    let lines: String = (0..300)
        .map(|n| match n % 3 {
            0 => "{}\n".to_owned(),
            _ => json!({"url": format!("https://a.example/{n}"), "document": {"n": n}}).to_string() + "\n",
        })
        .collect();
    let report =
        server.request("POST", "/v1/results/import?outcomes=true").ndjson(lines).send().is(200).json();
    let outcomes = report["outcomes"].as_array().expect("outcomes");
    let numbers: Vec<u64> =
        outcomes.iter().map(|outcome| outcome["line"].as_u64().expect("a line")).collect();
    assert_eq!(numbers, (1..=300).collect::<Vec<u64>>());
    for outcome in outcomes {
        let failed = outcome["line"].as_u64().is_some_and(|line| line % 3 == 1);
        assert_eq!(outcome["outcome"], if failed { "failed" } else { "created" }, "{outcome}");
    }
}

/// Exports, purges and imports on one service; `remembers` says whether it remembers what was deleted.
fn restore(server: &Server, remembers: bool) {
    let url = |n: u32| format!("https://restored.example/{n}");
    for n in 0..10 {
        server.put(&result_of(&url(n), &[]), json!({"n": n}).to_string()).is(201);
    }
    let export = server.get("/v1/results/export?host=restored.example").is(200).decoded();
    server.post("/v1/results/purge", &json!({"host": "restored.example"})).is(200);
    server.put(&result_of(&url(0), &[]), r#"{"is":"newer"}"#).is(201);
    let import = |target: &str| {
        let report = server.request("POST", target).ndjson(export.clone()).send().is(200).json();
        let of = |name: &str| report[name].as_u64().expect("a count");
        (of("created"), of("superseded"), of("deleted"), of("failed"))
    };
    if remembers {
        assert_eq!(import("/v1/results/import"), (0, 1, 9, 0), "what was deleted stays deleted");
        server.get(&result_of(&url(1), &[])).problem(404, "result_not_found");
    }
    assert_eq!(import("/v1/results/import?restore=true"), (9, 1, 0, 0));
    assert_eq!(import("/v1/results/import?restore=true"), (0, 10, 0, 0), "to repeat it changes nothing");
    assert_eq!(server.get(&result_of(&url(0), &[])).is(200).json(), json!({"is": "newer"}));
    for n in 1..10 {
        assert_eq!(server.get(&result_of(&url(n), &[])).is(200).json(), json!({"n": n}));
    }
    let again = server.get("/v1/results/export?host=restored.example").is(200).decoded();
    let line = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).expect("UTF-8");
        let line = text.lines().find(|line| line.contains(&url(5))).expect("it is there").to_owned();
        serde_json::from_str::<Value>(&line).expect("JSON")
    };
    assert_eq!(line(&again), line(&export), "with the times that it had");
}

#[test]
fn what_was_deleted_after_an_export_comes_back_only_on_purpose() {
    restore(&Server::start(&[]), !on_sqlite());
    if !on_sqlite() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    for (backend, percent) in [("dynamodb", 100), ("routed", 0), ("routed", 100)] {
        let prefix = format!("restore{}-{backend}{percent}-", std::process::id());
        let server = Server::start(&[
            ("store.backend", backend),
            ("dynamodb.endpoint", local.as_str()),
            ("dynamodb.table_prefix", prefix.as_str()),
            ("dynamodb.create_tables", "true"),
            // A busy machine is no outage: a write that was tried twice cannot tell whether it created.
            ("dynamodb.attempt_millis", "10000"),
            ("dynamodb.operation_millis", "20000"),
            ("routing.owner_millis", "20000"),
            ("routing.other_millis", "20000"),
        ]);
        if backend == "routed" {
            crate::routing::set(&server, &json!({"percent": percent, "dual_write": true}));
        }
        restore(&server, true);
    }
}

#[test]
fn an_export_leaves_the_memory_tier_as_it_is() {
    let server = Server::start(&[]);
    for n in 0..20 {
        server.put(&result_of(&format!("https://a.example/{n}"), &[]), "{}").is(201);
    }
    server.get("/v1/results/export").is(200);
    let metrics = server.get("/metrics").is(200);
    let text = String::from_utf8(metrics.decoded()).expect("UTF-8");
    assert!(text.contains("crawlcache_memory_entries{kind=\"results\"} 0"), "{text}");
}

#[test]
fn a_result_from_another_cache_keeps_its_time_and_never_replaces_a_newer_one() {
    let server = Server::start(&[]);
    let put = |at: &str, n: u32| {
        let target = result_of("https://a/", &[("updated_at", at), ("ttl", "60")]);
        server.put(&target, format!("{{\"n\":{n}}}")).json()["outcome"].clone()
    };
    assert_eq!(put("2026-01-15T10:30:00Z", 1), "created");
    let item = &server.get("/v1/results").is(200).json()["items"][0];
    assert_eq!(item["updated_at"], "2026-01-15T10:30:00.000Z");
    assert_eq!(item["created_at"], "2026-01-15T10:30:00.000Z");
    assert!(
        item["ttl"].as_u64().is_some_and(|ttl| (50..=60).contains(&ttl)),
        "its time to live counts from now"
    );
    assert_eq!(put("2026-01-15T10:29:59Z", 2), "superseded");
    assert_eq!(put("2026-01-15T10:30:01Z", 3), "replaced");
    assert_eq!(put("9000000000", 4), "replaced", "the future is now");
    assert_eq!(put("2026-01-15T10:30:02Z", 5), "superseded");
    assert_eq!(server.get(&result_of("https://a/", &[])).is(200).json(), json!({"n": 4}));
    let target = result_of("https://a/", &[("updated_at", "yesterday")]);
    assert_eq!(server.put(&target, "{}").problem(400, "invalid_parameter")["field"], "updated_at");
}
