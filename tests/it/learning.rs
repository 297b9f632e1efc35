//! Learned freshness: how long a page stays fresh when the request does not say, from how often its host's pages change.

use serde_json::{Value, json};

use crate::support::{Server, result_of};

const URL: &str = "https://news.example/";

const DAY: u64 = 86_400;

const ON: (&str, &str) = ("results.learn_ttl", "true");

/// A day of this century: visits are stored as what was fetched then.
const FIRST: u64 = 1_700_000_000;

/// Stores what was fetched on the given day, and says what the answer says.
fn fetch(server: &Server, url: &str, day: u64, markdown: &str) -> Value {
    let at = (FIRST + day * DAY).to_string();
    let document = json!({"success": true, "markdown": markdown, "fetched_on": day});
    let answer = server.put(&result_of(url, &[("updated_at", &at)]), document.to_string());
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    answer.json()
}

fn host(server: &Server) -> Value {
    server.get("/v1/hosts/News.Example").is(200).json()
}

#[test]
fn a_host_whose_pages_change_is_asked_more_often() {
    let server = Server::start(&[ON]);
    assert_eq!(host(&server), json!({"host": "news.example", "learning": true, "visits": 0, "changes": 0}));
    // Ten visits after the first, of which every other finds a change.
    for day in 0..=10 {
        let stored = fetch(&server, URL, day, &format!("as of {}", day / 2));
        let source = if day < 5 { "default" } else { "learned" };
        assert_eq!(stored["ttl_source"], source, "{day}");
    }
    let known = host(&server);
    assert_eq!((&known["visits"], &known["changes"]), (&json!(10), &json!(5)), "{known}");
    assert_eq!(known["mean_interval"].as_f64(), Some(86_400.0));
    // -ln(0.8) over -ln(5.5 / 10.5) of a day.
    let learned = known["learned_ttl"].as_u64().expect("a time to live");
    assert!((29_800..29_830).contains(&learned), "{learned}");
    let status =
        server.get(&result_of(URL, &[])).is(200).header("cache-status").expect("a status").to_owned();
    let ttl: u64 = status
        .split("ttl=")
        .nth(1)
        .and_then(|rest| rest.split(';').next())
        .expect("a ttl")
        .parse()
        .expect("a number");
    assert!(ttl <= learned && ttl > learned - 60, "{status}");

    // Every page of the host, by whatever way it is stored; what the request says counts.
    let other = "https://news.example/other";
    let line = format!("{}\n", json!({"url": other, "document": {"markdown": "x"}}));
    let batch = server.request("POST", "/v1/results/batch-put").ndjson(line).send().is(200).lines();
    assert_eq!(batch[0]["ttl_source"], "learned", "{batch:?}");
    let post = server.post("/v1/results", &json!({"url": other, "markdown": "x"})).is(200).json();
    assert_eq!(post["ttl_source"], "learned");
    let asked = server.put(&result_of(URL, &[("ttl", "77")]), r#"{"markdown":"x"}"#).is(200).json();
    assert_eq!(asked["ttl_source"], "request");
    let elsewhere = server.put(&result_of("https://other.example/", &[]), "{}").is(201).json();
    assert_eq!(elsewhere["ttl_source"], "default");
    server.get("/v1/hosts/a%20b").problem_with(400, "invalid_parameter", "host");
}

#[test]
fn only_a_fetch_that_can_be_compared_is_a_visit() {
    let server = Server::start(&[ON]);
    let visits = || {
        let known = host(&server);
        (known["visits"].as_u64().expect("a number"), known["changes"].as_u64().expect("a number"))
    };
    fetch(&server, URL, 0, "a");
    assert_eq!(visits(), (0, 0), "nothing was there");
    fetch(&server, URL, 1, "a");
    assert_eq!(visits(), (1, 0), "only its date has changed");
    fetch(&server, URL, 2, "b");
    assert_eq!(visits(), (2, 1));
    // Older than what is there.
    assert_eq!(fetch(&server, URL, 1, "c")["outcome"], "superseded");
    assert_eq!(visits(), (2, 1));
    let failed = server.put(&result_of(URL, &[]), r#"{"success":false,"markdown":"sorry"}"#).is(201).json();
    assert_eq!(failed["quality"], "failed");
    assert_eq!(visits(), (2, 1), "a failed fetch says nothing of the page");
    let patch = |query: &[(&str, &str)], body: &str| {
        server.request("PATCH", &result_of(URL, query)).body(body).send().is(200).json()
    };
    assert_eq!(patch(&[], r#"{"screenshot":"x"}"#).get("ttl_source"), None);
    assert_eq!(visits(), (2, 1));
    assert_eq!(patch(&[("confirmed", "true"), ("ttl", "9")], "{}")["ttl_source"], "request");
    assert_eq!(visits(), (3, 1), "the origin said that nothing has changed");
    let export = server.get("/v1/results/export").is(200).decoded();
    server.request("POST", "/v1/results/import").ndjson(export).send().is(200);
    assert_eq!(visits(), (3, 1));
    // A page without text in common with what was there.
    server.put(&result_of(URL, &[]), r#"{"html":"x"}"#).is(200);
    assert_eq!(visits(), (3, 1));
}

#[test]
fn what_was_learned_outlives_a_restart_and_is_not_used_where_learning_is_off() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::on(directory.path(), &[ON]);
    (0..8).for_each(|day| drop(fetch(&server, URL, day, "the same")));
    drop(server);
    let server = Server::on(directory.path(), &[]);
    let stored = fetch(&server, URL, 8, "another");
    assert_eq!(stored["ttl_source"], "default");
    let known = host(&server);
    assert_eq!((&known["visits"], &known["learning"]), (&json!(7), &json!(false)));
    assert_eq!(known.get("learned_ttl"), None);
    drop(server);
    let server = Server::on(directory.path(), &[ON, ("results.learn_max_seconds", "3600")]);
    assert_eq!(host(&server)["learned_ttl"], 3600);
}
