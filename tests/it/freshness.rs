//! Ages, times to live, and the reasons why there is no answer.

use serde_json::json;

use crate::support::documents::noise;
use crate::support::{Server, backend, eventually, on_sqlite, result_of};

const URL: &str = "https://example.com/";

/// The members of a `Cache-Status` header after the cache's name.
fn cache_status(answer: &crate::support::Answer) -> Vec<String> {
    let text = answer.header("cache-status").expect("a cache status");
    let mut parts = text.split("; ").map(str::to_owned);
    assert_eq!(parts.next().as_deref(), Some("crawlcache"), "{text}");
    parts.collect()
}

#[test]
fn an_answer_says_how_old_it_is_and_where_it_came_from() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[("ttl", "100")]);
    server.put(&target, "{}").is(201);
    let target = result_of(URL, &[]);
    for detail in [backend(), "memory"] {
        let answer = eventually("the tier answers", || {
            let answer = server.get(&target).is(200);
            cache_status(&answer).contains(&format!("detail={detail}")).then_some(answer)
        });
        let age: u64 = answer.header("age").expect("an age").parse().expect("a number");
        assert!(age <= 20, "{age}");
        let status = cache_status(&answer);
        assert_eq!(status[0], "hit");
        let ttl: u64 = status[1].strip_prefix("ttl=").expect("a ttl").parse().expect("a number");
        assert!((80..=100).contains(&ttl) && ttl + age >= 99, "{status:?} {age}");
        let modified = answer.header("last-modified").expect("a time");
        httpdate::parse_http_date(modified).expect(modified);
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        if detail == backend() {
            // What follows asks through memory.
            continue;
        }
        let fresh = server.request("GET", &target).header("cache-control", "no-cache").send().is(200);
        assert!(
            cache_status(&fresh).contains(&format!("detail={}", backend())),
            "no-cache reads past memory"
        );
    }
}

#[test]
fn without_a_memory_tier_every_hit_is_from_the_store() {
    let server = Server::start(&[("memory.bytes", "0"), ("memory.decoded_bytes", "0")]);
    server.put(&result_of(URL, &[]), "{}").is(201);
    for _ in 0..3 {
        let answer = server.get(&result_of(URL, &[])).is(200);
        assert!(cache_status(&answer).contains(&format!("detail={}", backend())));
    }
}

#[test]
fn every_miss_says_why() {
    let server = Server::start(&[]);
    let reason = |more: &[(&str, &str)]| {
        let answer = server.get(&result_of(URL, more));
        let problem = answer.problem(404, "result_not_found");
        let reason = problem["reason"].as_str().expect("a reason").to_owned();
        assert!(cache_status(&answer).contains(&format!("detail={reason}")), "{reason}");
        assert_eq!(problem["url"], URL);
        (reason, problem)
    };
    assert_eq!(reason(&[]).0, "absent");
    server.put(&result_of(URL, &[("variant", "mobile")]), "{}").is(201);
    // DynamoDB does not look for other variants on a miss.
    let missed = if on_sqlite() { "variant" } else { "absent" };
    assert_eq!(reason(&[]).0, missed);
    assert_eq!(reason(&[("variant", "desktop")]).0, missed);
    server.put(&result_of(URL, &[]), r#"{"html":"x","markdown":"","links":null,"media":{}}"#).is(201);
    for blank in ["markdown", "links", "media", "nothing", "html,markdown"] {
        assert_eq!(reason(&[("require", blank)]).0, "field_missing", "{blank}");
    }
    server.get(&result_of(URL, &[("require", "html")])).is(200);
    server.get(&result_of(URL, &[("max_age", "1000")])).is(200);
    let too_old = eventually("it is a second old", || {
        let answer = server.get(&result_of(URL, &[("max_age", "0")]));
        (answer.status == 404).then(|| answer.problem(404, "result_not_found"))
    });
    assert_eq!(too_old["reason"], "too_old");
    assert!(too_old["age"].as_u64() >= Some(1) && too_old["ttl"].is_i64(), "{too_old}");
}

#[test]
fn an_expired_result_answers_only_those_who_accept_it() {
    let server = Server::start(&[]);
    server.put(&result_of(URL, &[("ttl", "0")]), r#"{"n":1}"#).is(201);
    let expired = eventually("it expires", || {
        let answer = server.get(&result_of(URL, &[]));
        (answer.status == 404).then_some(answer)
    });
    let problem = expired.problem(404, "result_not_found");
    assert_eq!(problem["reason"], "expired");
    assert!(problem["ttl"].as_i64().is_some_and(|ttl| ttl < 0), "{problem}");
    let answer = server.get(&result_of(URL, &[("stale", "3600")])).is(200);
    assert_eq!(answer.json(), json!({"n": 1}));
    let status = cache_status(&answer);
    assert!(status.contains(&"detail=stale".to_owned()), "{status:?}");
    assert!(status[1].starts_with("ttl=-"), "{status:?}");
    let state = server.post("/v1/results/lookup", &json!({"keys": [URL], "stale": 3600})).is(200).json();
    assert_eq!(state["results"][0]["state"], "stale");
    let state = server.post("/v1/results/lookup", &json!({"keys": [URL]})).is(200).json();
    assert_eq!(
        (&state["results"][0]["state"], &state["results"][0]["reason"]),
        (&json!("absent"), &json!("expired"))
    );
}

#[test]
fn what_has_expired_is_swept_when_nobody_may_have_it_any_more() {
    // DynamoDB sweeps for itself.
    if !on_sqlite() {
        return;
    }
    let server = Server::start(&[("results.keep_stale_seconds", "0"), ("sqlite.sweep_seconds", "1")]);
    server.put(&result_of(URL, &[("ttl", "0")]), "{}").is(201);
    // Brings it into memory, unless the sweep was faster.
    server.get(&result_of(URL, &[("stale", "3600")]));
    server.put(&result_of("https://example.com/kept", &[]), "{}").is(201);
    eventually("it is swept", || {
        let series = server.metrics();
        (series.of(r#"removed_entries_total{reason="expired"}"#) == 1).then_some(())
    });
    assert_eq!(server.entries(), 1);
    server.get(&result_of("https://example.com/kept", &[])).is(200);
    // Memory does not serve it either.
    let gone = server.get(&result_of(URL, &[("stale", "3600")]));
    assert_eq!(gone.problem(404, "result_not_found")["reason"], "absent");
}

#[test]
fn a_confirmation_makes_a_result_young_again_without_its_body() {
    let server = Server::start(&[]);
    let document = json!({"n": 1, "response_headers": {"ETag": "\"one\"", "last-modified": "Mon"}, "head_fingerprint": "f1"});
    server.put(&result_of(URL, &[("ttl", "1000")]), document.to_string()).is(201);
    let target = result_of(URL, &[]);
    let get = || server.get(&target).is(200);
    let origin = |answer: &crate::support::Answer| {
        ["etag", "last-modified"]
            .map(|name| answer.header(&format!("crawlcache-origin-{name}")).map(str::to_owned))
    };
    let first = get();
    assert_eq!(origin(&first), [Some("\"one\"".to_owned()), Some("Mon".to_owned())]);
    assert_eq!(first.header("crawlcache-head-fingerprint"), Some("f1"));
    let age = |answer: &crate::support::Answer| {
        answer.header("age").expect("an age").parse::<u64>().expect("a number")
    };
    eventually("it has an age", || (age(&get()) >= 1).then_some(()));
    let patch = |more: &[(&str, &str)]| {
        server.request("PATCH", &result_of(URL, more)).body("{}").send().is(200).json()
    };
    // Validators alone do not make it younger.
    let stored = patch(&[("origin_etag", "\"two\""), ("head_fingerprint", "f2")]);
    assert_eq!(stored["outcome"], "refreshed");
    let second = get();
    assert_eq!(origin(&second), [Some("\"two\"".to_owned()), Some("Mon".to_owned())]);
    assert_eq!(second.header("crawlcache-head-fingerprint"), Some("f2"));
    assert!(age(&second) >= 1);
    patch(&[("confirmed", "true")]);
    let third = get();
    assert_eq!(age(&third), 0);
    assert_eq!(third.json(), document, "the document is as it was");
    assert_eq!(third.header("etag"), first.header("etag"));
    assert_eq!(origin(&third), origin(&second), "a confirmation keeps what is known");
    patch(&[("ttl", "5")]);
    let ttl =
        cache_status(&get())[1].strip_prefix("ttl=").and_then(|ttl| ttl.parse::<u64>().ok()).expect("a ttl");
    assert!(ttl <= 5, "{ttl}");
    for (name, bad) in [("origin_etag", ""), ("origin_etag", "line\nbreak"), ("head_fingerprint", "ü")] {
        let answer = server.request("PATCH", &result_of(URL, &[(name, bad)])).body("{}").send();
        answer.problem_with(400, "invalid_parameter", name);
    }
}

#[test]
fn a_replacement_is_seen_at_once_in_memory_and_out_of_it() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    for n in 0..50 {
        server.put(&target, json!({"n": n}).to_string());
        for coding in ["identity", "zstd", "gzip"] {
            let answer = server.request("GET", &target).header("accept-encoding", coding).send().is(200);
            assert_eq!(answer.json(), json!({"n": n}));
        }
    }
    server.request("DELETE", &target).send().is(204);
    server.get(&target).problem(404, "result_not_found");
}

#[test]
fn a_bound_on_the_store_evicts_instead_of_refusing() {
    if !on_sqlite() {
        return;
    }
    let server = Server::start(&[("sqlite.max_bytes", "4000000")]);
    for n in 0..400 {
        server
            .put(
                &result_of(&format!("https://example.com/{n}"), &[]),
                json!({"html": noise(n, 20_000)}).to_string(),
            )
            .is(201);
    }
    let series = server.metrics();
    let entries = series.of(r#"store_entries{backend="sqlite"}"#);
    let removed = series.of(r#"removed_entries_total{reason="size"}"#);
    assert!(removed > 0 && entries > 0, "{entries} {removed}");
    assert_eq!(entries + removed, 400);
    assert!(series.of(r#"store_bytes{backend="sqlite",state="stored"}"#) <= 4_000_000);
    assert_eq!(series.of(r#"store_limit_bytes{backend="sqlite"}"#), 4_000_000);
    // The last one put is there: what is evicted is cold.
    server.get(&result_of("https://example.com/399", &[])).is(200);
}
