//! Preconditions and validators: `ETag`, `If-None-Match`, `If-Match`, in every coding.

use serde_json::json;

use crate::support::{Server, result_of};

const URL: &str = "https://example.com/";

#[test]
fn an_etag_is_distinct_for_each_coding_and_each_one_gives_304_in_every_coding() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&target, json!({"html": "x".repeat(3000)}).to_string()).is(201);
    let codings = ["identity", "zstd", "gzip"];
    let etags: Vec<String> = codings
        .iter()
        .map(|coding| {
            let answer = server.request("GET", &target).header("accept-encoding", coding).send().is(200);
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            answer.header("etag").expect("an etag").to_owned()
        })
        .collect();
    assert!(etags[0] != etags[1] && etags[1] != etags[2] && etags[0] != etags[2], "{etags:?}");
    for (coding, own) in codings.iter().zip(&etags) {
        let ask = |condition: &str| {
            let request = server.request("GET", &target).header("accept-encoding", coding);
            request.header("if-none-match", condition).send()
        };
        for known in &etags {
            for condition in [known.clone(), format!("W/{known}"), format!("\"other\", {known}")] {
                let answer = ask(&condition).is(304);
                assert!(answer.body.is_empty());
                assert_eq!(answer.header("etag"), Some(own.as_str()), "{coding} {condition}");
                for name in ["age", "last-modified", "cache-status", "vary", "cache-control"] {
                    assert!(answer.header(name).is_some(), "304 lacks {name}");
                }
                assert_eq!(answer.header("content-encoding"), None);
            }
        }
        ask("*").is(304);
        ask("\"0123456789abcdef0123456789abcdef\"").is(200);
    }
    server.request("HEAD", &target).header("if-none-match", &etags[0]).send().is(304);
    server.put(&target, "{}").is(200);
    server.request("GET", &target).header("if-none-match", &etags[0]).send().is(200);
}

#[test]
fn a_write_under_a_precondition_that_does_not_hold_is_412_and_changes_nothing() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let send = |method: &str, name: &str, value: &str, body: &str| {
        server.request(method, &target).header(name, value).body(body).send()
    };
    for method in ["PUT", "DELETE"] {
        send(method, "if-match", "*", "{}").problem(412, "precondition_failed");
        send(method, "if-match", "\"0123456789abcdef0123456789abcdef\"", "{}")
            .problem(412, "precondition_failed");
    }
    server.get(&target).problem(404, "result_not_found");
    let first =
        send("PUT", "if-none-match", "*", r#"{"n":1}"#).is(201).header("etag").expect("an etag").to_owned();
    send("PUT", "if-none-match", "*", r#"{"n":2}"#).problem(412, "precondition_failed");
    for method in ["PUT", "PATCH", "DELETE"] {
        send(method, "if-match", "\"0123456789abcdef0123456789abcdef\"", r#"{"n":3}"#)
            .problem(412, "precondition_failed");
        send(method, "if-match", "\"not ours\"", r#"{"n":3}"#).problem(412, "precondition_failed");
    }
    assert_eq!(server.get(&target).is(200).json(), json!({"n": 1}));
    let second =
        send("PUT", "if-match", &first, r#"{"n":2}"#).is(200).header("etag").expect("an etag").to_owned();
    let problem = send("PATCH", "if-match", &first, r#"{"n":4}"#).problem(412, "precondition_failed");
    assert_eq!(problem["etag"], second.trim_matches('"'), "a patch says what is there");
    // The tag of any coding names the content.
    let zstd = format!("{}-zstd\"", second.trim_end_matches('"'));
    let third =
        send("PATCH", "if-match", &zstd, r#"{"m":1}"#).is(200).header("etag").expect("an etag").to_owned();
    assert_eq!(server.get(&target).is(200).json(), json!({"n": 2, "m": 1}));
    send("DELETE", "if-match", &second, "").problem(412, "precondition_failed");
    send("DELETE", "if-match", &format!("\"x\", {third}"), "").is(204);
    server.get(&target).problem(404, "result_not_found");
}

#[test]
fn what_has_expired_counts_as_absent_for_if_none_match() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&result_of(URL, &[("ttl", "0")]), r#"{"n":1}"#).is(201);
    crate::support::eventually("it expires", || {
        let put = server.request("PUT", &target).header("if-none-match", "*").body(r#"{"n":2}"#).send();
        (put.status != 412).then_some(put)
    })
    .is(200);
    assert_eq!(server.get(&target).is(200).json(), json!({"n": 2}));
}

#[test]
fn of_many_who_create_at_once_exactly_one_does() {
    let server = Server::start(&[]);
    for round in 0..5 {
        let target = result_of(&format!("https://example.com/{round}"), &[]);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let put = |n: usize| {
                let request = server.request("PUT", &target).header("if-none-match", "*");
                request.body(json!({"n": n}).to_string()).send().status
            };
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || put(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [201, 412].contains(status)), "{statuses:?}");
    }
}

#[test]
fn patches_at_once_are_all_kept() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&target, "{}").is(201);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let patch = json!({format!("field {n}"): n}).to_string();
            let request = server.request("PATCH", &target).body(patch);
            scope.spawn(move || request.send().is(200));
        }
    });
    let document = server.get(&target).is(200).json();
    assert_eq!(document.as_object().expect("an object").len(), 8, "{document}");
}

#[test]
fn a_delete_is_idempotent() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.request("DELETE", &target).send().is(204);
    server.put(&target, "{}").is(201);
    for _ in 0..2 {
        let answer = server.request("DELETE", &target).send().is(204);
        assert!(answer.header("x-request-id").is_some() && answer.body.is_empty());
        assert_eq!(server.get(&target).problem(404, "result_not_found")["reason"], "absent");
    }
    assert_eq!(server.put(&target, "{}").is(201).json()["outcome"], "created");
}

#[test]
fn patches_at_the_same_time_lose_nothing_of_what_is_known() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    server.put(&target, json!({"html": "x"}).to_string()).is(201);
    for round in 0..20 {
        let etag = format!("e{round}");
        let print = format!("f{round}");
        std::thread::scope(|scope| {
            for (name, value) in [("origin_etag", &etag), ("head_fingerprint", &print)] {
                let (server, target) = (&server, result_of(URL, &[(name, value)]));
                scope.spawn(move || server.request("PATCH", &target).body("{}").send().is(200));
            }
        });
        let answer = server.get(&target).is(200);
        assert_eq!(answer.header("crawlcache-origin-etag"), Some(etag.as_str()));
        assert_eq!(answer.header("crawlcache-head-fingerprint"), Some(print.as_str()));
    }
}

#[test]
fn a_weak_tag_is_no_precondition_for_a_write() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let etag = server.put(&target, "{}").is(201).header("etag").expect("an etag").to_owned();
    let weak =
        server.request("PUT", &target).header("if-match", &format!("W/{etag}")).body("{\"x\":1}").send();
    weak.problem(412, "precondition_failed");
    server.request("PUT", &target).header("if-match", &etag).body("{\"x\":1}").send().is(200);
}
