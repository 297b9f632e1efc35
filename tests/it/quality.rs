//! Good and failed results: a block page or an error never takes the place of what was good.

use serde_json::{Value, json};

use crate::proxy::Proxy;
use crate::routing::{is_due, routed, set};
use crate::support::{Answer, Server, at, backend, dynamodb_local, eventually, on_sqlite, result_of};

const URL: &str = "https://example.com/";

const GOOD: &str = r#"{"url":"https://example.com/","success":true,"status_code":200,"html":"<p>good</p>","markdown":"good"}"#;

const ERROR: &str = r#"{"url":"https://example.com/","success":true,"status_code":503,"html":"<p>busy</p>"}"#;

fn with(quality: &str) -> String {
    result_of(URL, &[("quality", quality)])
}

/// What an answer is: the document's status code, and the header of failed results.
fn seen(answer: &Answer) -> (u64, Option<&str>) {
    (answer.json()["status_code"].as_u64().expect("a status code"), answer.header("crawlcache-quality"))
}

#[test]
fn a_failed_result_never_replaces_a_good_one() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let put = server.put(&target, GOOD).is(201).json();
    assert_eq!((&put["quality"], put.get("why")), (&json!("good"), None));
    for (document, why, outcome) in [
        (ERROR.to_owned(), "status", 201),
        (json!({"success": false, "status_code": 200}).to_string(), "success", 200),
        (json!({"success": true, "status_code": 404}).to_string(), "status", 200),
    ] {
        let put = server.put(&target, document).is(outcome).json();
        assert_eq!(
            (&put["quality"], &put["why"], &put["variant"]),
            (&json!("failed"), &json!(why), &json!(""))
        );
    }
    for target in [target.clone(), with("best"), with("good")] {
        let answer = server.get(&target).is(200);
        assert_eq!(seen(&answer), (200, None), "{target}");
        let answer = server.request("GET", &target).header("cache-control", "no-cache").send().is(200);
        assert_eq!(seen(&answer), (200, None), "{target}");
    }
    let failed = server.get(&with("failed")).is(200);
    assert_eq!(seen(&failed), (404, Some("failed")));
    let etag = failed.header("etag").expect("an etag");
    let same = server.request("GET", &with("failed")).header("if-none-match", etag).send().is(304);
    assert_eq!(same.header("crawlcache-quality"), Some("failed"));
    let head = server.request("HEAD", &with("failed")).send().is(200);
    assert_eq!(head.header("crawlcache-quality"), Some("failed"));
    // The next good one is stored over the good one.
    server.put(&target, GOOD.replace("good", "better")).is(200);
    assert_eq!(server.get(&target).is(200).json()["markdown"], "better");
    server.get(&with("worst")).problem_with(400, "invalid_parameter", "quality");
}

/// A page whose redirects ended in an error, which Crawl4AI takes for a success.
const LIMITED: &str = r#"{"url":"https://example.com/","success":true,"status_code":302,"redirected_url":"https://example.com/limit","redirected_status_code":429,"html":"<p>slow down</p>","markdown":"slow down"}"#;

#[test]
fn an_error_at_the_end_of_redirects_is_a_failed_result_however_it_comes() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&target, GOOD).is(201);
    let line = |document: &str| {
        let document: Value = serde_json::from_str(document).expect("JSON");
        format!("{}\n", json!({"url": URL, "document": document}))
    };
    let ndjson = |path: &str| server.request("POST", path).ndjson(line(LIMITED)).send().is(200);
    let put = server.put(&target, LIMITED).is(201).json();
    assert_eq!((&put["quality"], &put["why"]), (&json!("failed"), &json!("status")));
    let posted = server.post("/v1/results", &serde_json::from_str(LIMITED).expect("JSON")).is(200).json();
    assert_eq!((&posted["quality"], &posted["why"]), (&json!("failed"), &json!("status")));
    let batch = ndjson("/v1/results/batch-put").lines();
    assert_eq!((&batch[0]["quality"], &batch[0]["why"]), (&json!("failed"), &json!("status")));
    ndjson("/v1/results/import");
    // One that is too large to be held decoded is judged by the same rule.
    let large = LIMITED.replace("slow down", &"slow down ".repeat(1 << 20));
    assert_eq!(server.put(&target, large).is(200).json()["quality"], "failed");
    assert_eq!(server.metrics().of("failed_results_total{why=\"status\"}"), 5);
    for target in [target.clone(), with("good")] {
        assert_eq!(
            server.get(&target).is(200).json()["markdown"],
            "good",
            "the good page is still the answer"
        );
    }
    assert_eq!(seen(&server.get(&with("failed")).is(200)), (302, Some("failed")));

    // A patch changes the good one, which does not become this one by it: nothing beside the body would tell.
    let patch = |body: &str| server.request("PATCH", &target).body(body).send();
    let error = r#"{"status_code":302,"redirected_status_code":429}"#;
    patch(error).problem_with(422, "immutable_field", "redirected_status_code");
    assert_eq!(seen(&server.get(&with("good")).is(200)), (200, None), "as it was");
    assert_eq!(patch(r#"{"redirected_status_code":304}"#).is(200).json()["quality"], "good");
    assert_eq!(seen(&server.get(&target).is(200)), (200, None));
    // What is kept beside the body may fail it: then the answer says so, and so does a read.
    let failed = patch(r#"{"status_code":503,"redirected_status_code":503}"#).is(200).json();
    assert_eq!((&failed["quality"], &failed["why"]), (&json!("failed"), &json!("status")));
    server.get(&with("good")).problem(404, "result_not_found");
    patch(r#"{"status_code":200}"#).problem_with(422, "immutable_field", "redirected_status_code");
    server.put(&target, GOOD).is(200);
    // Neither a redirect that ends well nor a confirmation by 304 is a failure.
    for end in ["200", "null", "304"] {
        let moved = LIMITED.replace("429", end);
        assert_eq!(server.put(&target, moved).is(200).json()["quality"], "good", "{end}");
    }

    let other = "https://example.com/other";
    server.put(&result_of(other, &[]), LIMITED).is(201);
    let missed = server.get(&result_of(other, &[("quality", "good")])).problem(404, "result_not_found");
    assert_eq!(
        (&missed["reason"], &missed["failed"]["why"]),
        (&json!("failed"), &json!("status")),
        "{missed}"
    );
}

#[test]
fn a_patch_says_of_an_older_error_at_the_end_of_redirects_what_a_read_does() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::on(directory.path(), &[("results.guard", "false")]);
    let target = result_of(URL, &[]);
    server.put(&target, LIMITED).is(201);
    server.request("PATCH", &target).body(r#"{"redirected_status_code":503}"#).send().is(200);
    drop(server);
    let server = Server::on(directory.path(), &[]);
    for patch in ["{}", r#"{"more":1}"#, r#"{"redirected_status_code":429}"#] {
        let patched = server.request("PATCH", &target).body(patch).send().is(200).json();
        let read = server.get(&target).is(200);
        assert_eq!((patched["quality"].as_str(), read.header("crawlcache-quality")), (Some("good"), None));
    }
}

#[test]
fn a_failed_result_is_what_there_is_until_there_is_a_good_one() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&target, ERROR).is(201);
    assert_eq!(seen(&server.get(&target).is(200)), (503, Some("failed")));
    let missed = server.get(&with("good"));
    let problem = missed.problem(404, "result_not_found");
    assert_eq!(problem["reason"], "failed");
    let status = missed.header("cache-status").expect("a cache status");
    assert!(status.ends_with("detail=failed"), "{status}");
    let failed = &problem["failed"];
    assert_eq!((&failed["why"], &failed["status_code"]), (&json!("status"), &json!(503)));
    let left = failed["ttl"].as_u64().expect("seconds");
    assert!(failed["age"].is_u64() && (200..=300).contains(&left), "{failed}");
    // What is required counts for failed ones, too.
    let missing = server.get(&result_of(URL, &[("require", "markdown")])).problem(404, "result_not_found");
    assert_eq!(missing["reason"], "field_missing");
    let html = at("/v1/result/html", &[("url", URL)]);
    assert_eq!(server.get(&html).is(200).header("crawlcache-quality"), Some("failed"));
    server.get(&format!("{html}&quality=good")).problem(404, "result_not_found");
    // Other variants are other results: a failed one of this variant is none of them.
    let other = server.get(&result_of(URL, &[("variant", "m"), ("quality", "good")]));
    let missed = if on_sqlite() { "variant" } else { "absent" };
    assert_eq!(other.problem(404, "result_not_found")["reason"], missed);

    server.put(&target, GOOD).is(201);
    assert_eq!(seen(&server.get(&target).is(200)), (200, None));
    let series = server.metrics();
    let lookups =
        |op: &str, result: &str| series.of(&format!("lookups_total{{op=\"{op}\",result=\"{result}\"}}"));
    assert_eq!((lookups("get", "hit_failed"), lookups("get", "miss_failed")), (1, 1));
    assert_eq!((lookups("field", "hit_failed"), lookups("field", "miss_failed")), (1, 1));
    assert_eq!(series.of("failed_results_total{why=\"status\"}"), 1);
}

#[test]
fn a_failed_result_lives_for_a_short_time_and_the_last_good_one_is_there_for_who_accepts_it() {
    let server = Server::start(&[("results.failed_ttl_seconds", "1")]);
    let target = result_of(URL, &[]);
    server.put(&result_of(URL, &[("ttl", "0")]), GOOD).is(201);
    eventually("the good one expires", || (server.get(&target).status == 404).then_some(()));
    server.put(&target, ERROR).is(201);
    let stale = server.get(&result_of(URL, &[("stale", "3600")])).is(200);
    assert_eq!(seen(&stale), (200, None), "the last good one goes before a failed one");
    assert!(stale.header("cache-status").expect("a cache status").ends_with("detail=stale"));
    eventually("the failed one expires", || (server.get(&target).status == 404).then_some(()));
    assert_eq!(server.get(&target).problem(404, "result_not_found")["reason"], "expired", "the good one has");
    // A failed result is never served stale.
    let failed = result_of(URL, &[("quality", "failed"), ("stale", "3600")]);
    assert_eq!(server.get(&failed).problem(404, "result_not_found")["reason"], "absent");

    // A smaller time to live counts, a greater one does not.
    server.put(&result_of(URL, &[("ttl", "1000")]), ERROR);
    let status = server.get(&with("failed")).is(200).header("cache-status").expect("a status").to_owned();
    assert!(status.contains("; ttl=1;") || status.contains("; ttl=0;"), "{status}");
    let server = Server::start(&[("results.failed_ttl_seconds", "86400")]);
    server.put(&result_of(URL, &[("ttl", "0")]), ERROR).is(201);
    eventually("it expires", || (server.get(&target).status == 404).then_some(()));
}

#[test]
fn a_failure_before_the_last_good_result_is_no_news() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&target, ERROR).is(201);
    server.put(&result_of(URL, &[("ttl", "0")]), GOOD).is(201);
    eventually("the good one expires", || (server.get(&target).status == 404).then_some(()));
    assert_eq!(server.get(&target).problem(404, "result_not_found")["reason"], "expired");
    assert_eq!(server.get(&with("good")).problem(404, "result_not_found")["reason"], "expired");
    let states = server.post("/v1/results/lookup", &json!({"keys": [URL]})).is(200).json();
    assert_eq!(states["results"][0]["reason"], "expired", "{states}");
    assert_eq!(seen(&server.get(&with("failed")).is(200)), (503, Some("failed")), "who asks for it gets it");
    // And what is good says nothing of what failed.
    server.request("DELETE", &target).send().is(204);
    server.put(&target, GOOD).is(201);
    let none = server.get(&result_of(URL, &[("quality", "failed"), ("max_age", "0")]));
    assert_eq!(none.problem(404, "result_not_found")["reason"], "absent");
}

#[test]
fn block_pages_are_told_by_their_markers() {
    let server = Server::start(&[(
        "results.block_markers",
        r#"["Access Denied", "Zugriff verweigert für", "</block>"]"#,
    )]);
    for (number, html) in [
        r"<h1>access denied</h1>",
        r"\u0041CCESS denied",
        r"Zugriff verweigert f\u00fcr Sie",
        r"Zugriff verweigert für Sie",
        r"\u003c\/BLOCK\u003e",
    ]
    .into_iter()
    .enumerate()
    {
        let target = result_of(&format!("https://example.com/{number}"), &[]);
        server.put(&target, r#"{"status_code":200,"html":"fine"}"#).is(201);
        let put =
            server.put(&target, format!(r#"{{"status_code":200,"success":true,"html":"{html}"}}"#)).is(201);
        assert_eq!(
            (&put.json()["quality"], &put.json()["why"]),
            (&json!("failed"), &json!("blocked")),
            "{html}"
        );
        assert_eq!(server.get(&target).is(200).json()["html"], "fine");
        let failed = format!("{target}&quality=failed");
        assert_eq!(seen(&server.get(&failed).is(200)), (200, Some("failed")));
    }
    let target = result_of("https://example.com/large", &[]);
    let large = json!({"html": format!("{}Access Denied", " ".repeat(1 << 20))});
    assert_eq!(
        server.put(&target, large.to_string()).is(201).json()["quality"],
        "good",
        "a block page is small"
    );
    assert_eq!(server.metrics().of("failed_results_total{why=\"blocked\"}"), 5);
}

#[test]
fn the_settings_say_what_fails_and_whether_it_matters() {
    let server = Server::start(&[("results.failed_statuses", "404,5xx")]);
    let target = result_of(URL, &[]);
    for (status, quality) in [(403, "good"), (404, "failed"), (500, "failed"), (599, "failed")] {
        let put = server.put(&target, json!({"status_code": status}).to_string()).json();
        assert_eq!(put["quality"], quality, "{status}");
    }
    let server = Server::start(&[("results.guard", "false"), ("results.block_markers", "busy")]);
    server.put(&target, GOOD).is(201);
    assert_eq!(server.put(&target, ERROR).is(200).json()["quality"], "good");
    assert_eq!(seen(&server.get(&target).is(200)), (503, None));
    server.get(&with("good")).is(200);
}

#[test]
fn an_error_page_from_before_there_was_a_guard_goes_where_it_was_and_hides_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::on(directory.path(), &[("results.guard", "false")]);
    server.put(&result_of(URL, &[("ttl", "1000000")]), ERROR).is(201);
    drop(server);
    let server = Server::on(directory.path(), &[]);
    let export = server.get("/v1/results/export").is(200).decoded();
    let to = Server::start(&[]);
    to.request("POST", "/v1/results/import").ndjson(export.clone()).send().is(200);
    assert_eq!(to.get("/v1/results/export").is(200).decoded(), export, "in its place, with its times");
    // What failed since is newer.
    server.put(&result_of(URL, &[]), ERROR.replace("503", "404")).is(201);
    assert_eq!(seen(&server.get(&with("best")).is(200)), (404, Some("failed")));
}

#[test]
fn what_was_stored_before_there_was_a_guard_is_known_for_what_it_is() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::on(directory.path(), &[("results.guard", "false")]);
    server.put(&result_of(URL, &[]), ERROR).is(201);
    drop(server);
    let server = Server::on(directory.path(), &[]);
    assert_eq!(seen(&server.get(&with("best")).is(200)), (503, Some("failed")));
    assert_eq!(seen(&server.get(&with("failed")).is(200)), (503, Some("failed")));
    assert_eq!(server.get(&with("good")).problem(404, "result_not_found")["reason"], "failed");
    server.put(&result_of(URL, &[]), GOOD).is(200);
    assert_eq!(seen(&server.get(&with("good")).is(200)), (200, None));
    server.get(&with("failed")).problem(404, "result_not_found");
}

#[test]
fn conditions_are_about_the_result_that_is_written() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let good = server.put(&target, GOOD).is(201).header("etag").expect("an etag").to_owned();
    let send = |method: &str, name: &str, value: &str, body: &str| {
        server.request(method, &target).header(name, value).body(body).send()
    };
    send("PUT", "if-match", &good, ERROR).problem(412, "precondition_failed");
    let failed = send("PUT", "if-none-match", "*", ERROR).is(201).header("etag").expect("an etag").to_owned();
    send("PUT", "if-match", &failed, &ERROR.replace("503", "502")).is(200);
    // A patch is about the good one.
    send("PATCH", "if-match", &failed, r#"{"more":1}"#).problem(412, "precondition_failed");
    send("PATCH", "if-match", &good, r#"{"more":1}"#).is(200);
    assert_eq!(server.get(&target).is(200).json()["more"], 1);
    assert_eq!(server.get(&with("failed")).is(200).json().get("more"), None);
    // So is a delete, which takes the failed one along.
    send("DELETE", "if-match", &failed, "").problem(412, "precondition_failed");
    server.get(&with("failed")).is(200);
    server.request("DELETE", &target).send().is(204);
    for quality in ["best", "good", "failed"] {
        server.get(&with(quality)).problem(404, "result_not_found");
    }
    server.put(&target, ERROR).is(201);
    server.request("PATCH", &target).body("{}").send().problem(404, "result_not_found");
    server.request("DELETE", &target).send().is(204);
    server.get(&target).problem(404, "result_not_found");
}

#[test]
fn nobody_can_name_a_failed_result_by_its_variant() {
    let server = Server::start(&[]);
    server.put(&result_of(URL, &[("variant", "m")]), ERROR).is(201);
    for variant in [" failed", "m failed", "m%20failed "] {
        server.get(&result_of(URL, &[("variant", variant)])).problem_with(400, "invalid_variant", "variant");
        server.put(&result_of(URL, &[("variant", variant)]), "{}").problem_with(
            400,
            "invalid_variant",
            "variant",
        );
    }
    let state =
        server.post("/v1/results/lookup", &json!({"keys": [{"url": URL, "variant": "m failed"}]})).is(200);
    assert_eq!(state.json()["results"][0]["state"], "invalid");
    let longest = "é".repeat(256);
    server.put(&result_of(URL, &[("variant", &longest)]), ERROR).is(201);
    let answer = server.get(&result_of(URL, &[("variant", &longest), ("quality", "failed")])).is(200);
    assert_eq!(seen(&answer), (503, Some("failed")));
}

/// The items of a listing as `url variant quality`, in order.
fn listed(server: &Server) -> Vec<String> {
    let page = server.get("/v1/results?limit=1000").is(200).json();
    let items = page["items"].as_array().expect("items");
    let word = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut lines: Vec<String> = items
        .iter()
        .map(|item| ["url", "variant", "quality"].map(|name| word(item, name)).join(" "))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn batches_listings_exports_and_imports_know_both() {
    let server = Server::start(&[]);
    let line = |url: &str, variant: &str, document: &str| {
        format!(
            "{}\n",
            json!({"url": url, "variant": variant, "document": serde_json::from_str::<Value>(document).expect("JSON")})
        )
    };
    let lines = [
        line("https://a/", "", GOOD),
        line("https://a/", "", ERROR),
        line("https://b/", "m", ERROR),
        line("https://c/", "", GOOD),
    ];
    let outcomes =
        server.request("POST", "/v1/results/batch-put").ndjson(lines.concat()).send().is(200).lines();
    let words: Vec<_> =
        outcomes.iter().map(|line| (line["quality"].as_str(), line["variant"].as_str())).collect();
    let expected = [("good", ""), ("failed", ""), ("failed", "m"), ("good", "")];
    assert_eq!(words, expected.map(|(quality, variant)| (Some(quality), Some(variant))));
    assert_eq!(outcomes[1]["why"], "status");

    let keys = json!(["https://a/", {"url": "https://b/", "variant": "m"}, "https://c/", "https://d/"]);
    let ask =
        |path: &str, quality: &str| server.post(path, &json!({"keys": keys, "quality": quality})).is(200);
    for (quality, expected) in [
        ("best", [(200, 200, "-"), (200, 503, "failed"), (200, 200, "-"), (404, 0, "absent")]),
        ("good", [(200, 200, "-"), (404, 0, "failed"), (200, 200, "-"), (404, 0, "absent")]),
        ("failed", [(200, 503, "failed"), (200, 503, "failed"), (404, 0, "absent"), (404, 0, "absent")]),
    ] {
        let lines = ask("/v1/results/batch-get", quality).lines();
        let states = ask("/v1/results/lookup", quality).json();
        for (number, (status, code, word)) in expected.into_iter().enumerate() {
            let (line, state) = (&lines[number], &states["results"][number]);
            assert_eq!(line["status"], status, "{quality} {line}");
            let document = line["document"]["status_code"].as_u64().unwrap_or(0);
            let of_line = line.get("quality").or(line.get("reason")).and_then(Value::as_str);
            assert_eq!((document, of_line.unwrap_or("-")), (code, word), "{quality} {line}");
            let of_state = state.get("quality").or(state.get("reason")).and_then(Value::as_str);
            let name = if status == 200 { "fresh" } else { "absent" };
            assert_eq!((&state["state"], of_state.unwrap_or("-")), (&json!(name), word), "{quality} {state}");
        }
    }
    server.post("/v1/results/lookup", &json!({"keys": [], "quality": "bad"})).problem_with(
        400,
        "invalid_field",
        "quality",
    );
    let series = server.metrics();
    let lookups = |result: &str| series.of(&format!("lookups_total{{op=\"lookup\",result=\"{result}\"}}"));
    assert_eq!((lookups("hit_failed"), lookups("miss_failed"), lookups("miss_absent")), (3, 1, 4));
    assert_eq!(lookups(&format!("hit_{}", backend())), 4);

    let all = ["https://a/  -", "https://a/  failed", "https://b/ m failed", "https://c/  -"];
    assert_eq!(listed(&server), all);
    // Without their guard, another service keeps them apart all the same.
    for settings in [&[][..], &[("results.guard", "false")]] {
        let to = Server::start(settings);
        let export = server.get("/v1/results/export").is(200).decoded();
        let report = to.request("POST", "/v1/results/import").ndjson(export.clone()).send().is(200).json();
        assert_eq!((&report["created"], &report["failed"]), (&json!(4), &json!(0)), "{report}");
        assert_eq!(listed(&to), all);
        let again = to.get("/v1/results/export").is(200).decoded();
        let sorted = |text: &[u8]| {
            let mut lines: Vec<String> = String::from_utf8_lossy(text).lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted(&again), sorted(&export), "times included");
    }
    let purged = server.post("/v1/results/purge", &json!({"url": "https://a/"})).is(200).json();
    assert_eq!(purged["deleted"], 2);
    assert_eq!(listed(&server), all[2..]);
}

#[test]
fn a_store_over_two_keeps_both_wherever_they_belong() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("quality{}-", std::process::id());
    let server = routed(directory.path(), &proxy, &prefix, &[]);
    let target = |number: usize| result_of(&format!("https://example.com/{number}"), &[]);
    for percent in [50, 100, 0] {
        set(&server, &json!({"percent": percent}));
        for number in 0..8 {
            server.put(&target(number), GOOD);
            assert_eq!(server.put(&target(number), ERROR).json()["quality"], "failed");
        }
        // What was stored is found from wherever the next policy says.
        for percent in [percent, 50] {
            set(&server, &json!({"percent": percent}));
            for number in 0..8 {
                assert_eq!(seen(&server.get(&target(number)).is(200)), (200, None), "{percent} {number}");
                let failed = format!("{}&quality=failed", target(number));
                assert_eq!(seen(&server.get(&failed).is(200)), (503, Some("failed")), "{percent} {number}");
            }
        }
    }
    for number in 0..8 {
        server.request("DELETE", &target(number)).send().is(204);
        for quality in ["good", "failed"] {
            let gone = format!("{}&quality={quality}", target(number));
            assert_eq!(server.get(&gone).problem(404, "result_not_found")["reason"], "absent");
        }
    }
}
