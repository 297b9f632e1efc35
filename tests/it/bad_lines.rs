//! Batches: too many, too long, and bad lines among good ones.

use serde_json::{Value, json};

use crate::support::{Server, result_of};

fn line(url: &str, document: &Value) -> String {
    format!("{}\n", json!({"url": url, "document": document}))
}

/// Good lines with a bad one of every kind between them: the text, and the code of each line or "" for a good one.
fn mixed() -> (String, Vec<&'static str>) {
    let good = |n: usize| line(&format!("https://example.com/{n}"), &json!({"n": n}));
    let bad = [
        ("{\"url\":\n", "malformed_json"),
        ("not json\n", "malformed_json"),
        ("[]\n", "invalid_field"),
        ("{\"document\":{}}\n", "invalid_field"),
        ("{\"url\":\"https://a/\"}\n", "invalid_field"),
        ("{\"url\":7,\"document\":{}}\n", "invalid_field"),
        ("{\"url\":\"relative\",\"document\":{}}\n", "invalid_url"),
        ("{\"url\":\"https://a/\",\"variant\":\"a b\",\"document\":{}}\n", "invalid_variant"),
        ("{\"url\":\"https://a/\",\"document\":[]}\n", "not_an_object"),
        ("{\"url\":\"https://a/\",\"document\":{\"a\":1,\"a\":2}}\n", "duplicate_field"),
        ("{\"url\":\"https://a/\",\"ttl\":-1,\"document\":{}}\n", "invalid_field"),
        ("{\"url\":\"https://a/\",\"ttl\":999999999999,\"document\":{}}\n", "invalid_parameter"),
        ("{\"url\":\"https://a/\",\"validators\":{\"etag\":\"\\n\"},\"document\":{}}\n", "invalid_parameter"),
    ];
    let mut text = String::new();
    let mut codes = Vec::new();
    for (n, (line, code)) in bad.iter().enumerate() {
        text.push_str(&good(n));
        text.push_str(line);
        codes.extend(["", code]);
    }
    text.push_str(good(bad.len()).trim_end());
    codes.push("");
    (text, codes)
}

#[test]
fn a_bad_line_of_a_batch_never_fails_the_rest() {
    let server = Server::start(&[]);
    let (text, codes) = mixed();
    let outcomes = server.request("POST", "/v1/results/batch-put").ndjson(text).send().is(200).lines();
    assert_eq!(outcomes.len(), codes.len());
    for (at, (outcome, code)) in outcomes.iter().zip(&codes).enumerate() {
        assert_eq!(outcome["line"], at + 1, "{outcome}");
        if code.is_empty() {
            assert_eq!(
                (&outcome["status"], &outcome["outcome"]),
                (&json!(201), &json!("created")),
                "{outcome}"
            );
        } else {
            assert_eq!(outcome["code"], *code, "{outcome}");
            assert!(
                outcome["status"].as_u64().is_some_and(|status| (400..500).contains(&status)),
                "{outcome}"
            );
            assert!(outcome["detail"].is_string(), "{outcome}");
        }
    }
    let stored = codes.len() / 2 + 1;
    for n in 0..stored {
        let answer = server.get(&result_of(&format!("https://example.com/{n}"), &[])).is(200);
        assert_eq!(answer.json(), json!({"n": n}));
    }
    assert_eq!(server.entries(), u64::try_from(stored).expect("a count"));
}

#[test]
fn a_bad_line_of_an_import_is_counted_and_never_fails_the_rest() {
    let server = Server::start(&[]);
    let (text, codes) = mixed();
    let report = server.request("POST", "/v1/results/import").ndjson(text).send().is(200).json();
    let bad = codes.iter().filter(|code| !code.is_empty()).count();
    let good = codes.len() - bad;
    for (member, value) in
        [("lines", codes.len()), ("created", good), ("replaced", 0), ("refreshed", 0), ("failed", bad)]
    {
        assert_eq!(report[member], value, "{member} of {report}");
    }
    assert_eq!(report["complete"], true);
    let mut errors: Vec<(u64, &str)> = report["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| (error["line"].as_u64().expect("a number"), error["code"].as_str().expect("a code")))
        .collect();
    errors.sort_unstable();
    let expected: Vec<(u64, &str)> = (1..).zip(codes).filter(|(_, code)| !code.is_empty()).collect();
    assert_eq!(errors, expected);
    assert_eq!(server.entries(), u64::try_from(good).expect("a count"));
}

#[test]
fn an_import_names_the_outcome_of_every_line_when_asked() {
    let server = Server::start(&[]);
    let (text, codes) = mixed();
    for good in ["created", "refreshed"] {
        let report = server
            .request("POST", "/v1/results/import?outcomes=true")
            .ndjson(text.clone())
            .send()
            .is(200)
            .json();
        let mut outcomes = report["outcomes"].as_array().expect("a list").clone();
        outcomes.sort_by_key(|outcome| outcome["line"].as_u64());
        assert_eq!(outcomes.len(), codes.len());
        for (at, (outcome, code)) in outcomes.iter().zip(&codes).enumerate() {
            assert_eq!(outcome["line"], at + 1);
            if code.is_empty() {
                assert_eq!(*outcome, json!({"line": at + 1, "outcome": good}));
            } else {
                assert_eq!((&outcome["outcome"], &outcome["code"]), (&json!("failed"), &json!(code)));
                assert!(outcome["detail"].is_string(), "{outcome}");
            }
        }
    }
    let text = line("https://a/", &json!({})).repeat(10_001);
    let report =
        server.request("POST", "/v1/results/import?outcomes=true").ndjson(text).send().is(200).json();
    assert_eq!((&report["lines"], &report["complete"]), (&json!(10_000), &json!(false)));
    assert_eq!(report["outcomes"].as_array().map(Vec::len), Some(10_000));
    assert_eq!(
        (&report["errors"][0]["line"], &report["errors"][0]["code"]),
        (&json!(0), &json!("body_too_large"))
    );
    server.request("POST", "/v1/results/import?ttl=1").ndjson("").send().problem(400, "invalid_parameter");
}

#[test]
fn empty_lines_and_both_line_ends_are_fine() {
    let server = Server::start(&[]);
    let text = format!(
        "\n\r\n{}\r\n  \n{}\n\n",
        line("https://a/1", &json!({})).trim(),
        line("https://a/2", &json!({})).trim()
    );
    let outcomes = server.request("POST", "/v1/results/batch-put").ndjson(text).send().is(200).lines();
    let numbers: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["line"]).collect();
    assert_eq!(numbers, [&json!(3), &json!(5)]);
    assert!(outcomes.iter().all(|outcome| outcome["status"] == 201));
    assert_eq!(
        server.request("POST", "/v1/results/batch-put").ndjson("").send().is(200).lines(),
        [] as [Value; 0]
    );
}

#[test]
fn a_line_over_the_limit_is_refused_and_the_rest_is_stored() {
    let server = Server::start(&[("limits.body_bytes", "4096")]);
    for (name, length) in [("just over", 4100), ("far over", 100_000)] {
        let text = [
            line(&format!("https://a/{length}/before"), &json!({})),
            line(&format!("https://a/{length}/long"), &json!({"html": "x".repeat(length)})),
            line(&format!("https://a/{length}/after"), &json!({})),
        ]
        .concat();
        let put = server.request("POST", "/v1/results/batch-put").ndjson(text.clone()).send().is(200).lines();
        let seen: Vec<(&Value, &Value, &Value)> =
            put.iter().map(|outcome| (&outcome["line"], &outcome["status"], &outcome["code"])).collect();
        let (created, refused) = (json!(201), json!(413));
        assert_eq!(
            seen,
            [
                (&json!(1), &created, &Value::Null),
                (&json!(2), &refused, &json!("body_too_large")),
                (&json!(3), &created, &Value::Null)
            ],
            "{name}"
        );
        let report = server.request("POST", "/v1/results/import").ndjson(text).send().is(200).json();
        assert_eq!(
            (&report["refreshed"], &report["failed"], &report["complete"]),
            (&json!(2), &json!(1), &json!(true))
        );
        assert_eq!(
            (&report["errors"][0]["line"], &report["errors"][0]["code"]),
            (&json!(2), &json!("body_too_large"))
        );
    }
    // The last line may end without a line break, and an endless first one stores nothing.
    let endless = format!("{{\"url\":\"https://a/\",\"document\":{{\"html\":\"{}", "x".repeat(300_000));
    let outcomes = server.request("POST", "/v1/results/batch-put").ndjson(endless).send().is(200).lines();
    assert_eq!((outcomes.len(), &outcomes[0]["code"]), (1, &json!("body_too_large")));
    assert_eq!(server.entries(), 4);
}

#[test]
fn a_batch_has_at_most_a_thousand_lines() {
    let server = Server::start(&[]);
    let text: String = (0..1002).map(|n| line(&format!("https://a/{n}"), &json!({"n": n}))).collect();
    let outcomes = server.request("POST", "/v1/results/batch-put").ndjson(text).send().is(200).lines();
    assert_eq!(outcomes.len(), 1001);
    assert!(outcomes[..1000].iter().all(|outcome| outcome["status"] == 201));
    let last = &outcomes[1000];
    assert_eq!(
        (&last["line"], &last["status"], &last["code"]),
        (&json!(1001), &json!(413), &json!("body_too_large"))
    );
    assert_eq!(server.entries(), 1000);

    let keys: Vec<String> = (0..1001).map(|n| format!("https://a/{n}")).collect();
    let problem = server.post("/v1/results/batch-get", &json!({"keys": keys})).problem(413, "body_too_large");
    assert_eq!(problem["limit_keys"], 1000);
    let lines = server.post("/v1/results/batch-get", &json!({"keys": keys[..1000]})).is(200).lines();
    assert_eq!(lines.len(), 1000);
    for (at, line) in lines.iter().enumerate() {
        assert_eq!((&line["index"], &line["document"]["n"]), (&json!(at), &json!(at)));
    }
}

#[test]
fn a_lookup_has_at_most_ten_thousand_keys() {
    let server = Server::start(&[]);
    let keys: Vec<String> = (0..10_001).map(|n| format!("https://a/{n}")).collect();
    let problem = server.post("/v1/results/lookup", &json!({"keys": keys})).problem(413, "body_too_large");
    assert_eq!(problem["limit_keys"], 10_000);
    let answer = server.post("/v1/results/lookup", &json!({"keys": keys[1..]})).is(200).json();
    assert_eq!(
        answer["counts"],
        json!({"fresh": 0, "stale": 0, "absent": 10_000, "leased": 0, "invalid": 0, "unknown": 0})
    );
}
