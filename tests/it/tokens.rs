//! Tokens: who may do what, in whose namespace, and that no secret shows.

use std::path::Path;

use crawlcache::auth::{NewToken, Scope, Scopes, TokensFile};
use crawlcache::domain::{Namespace, Timestamp};
use serde_json::json;

use crate::support::{Request, Server, eventually, result_of};

/// Adds a token to the tokens file of a data directory: its id and its text.
pub(crate) fn token(
    data_dir: &Path,
    scopes: impl Into<Scopes>,
    namespace: &str,
    expires_at: Option<Timestamp>,
) -> (String, String) {
    let mut new = NewToken::new("a crawler", scopes.into());
    new.namespace = Namespace::new(namespace).expect("valid");
    new.expires_at = expires_at;
    let made =
        TokensFile::edit(&data_dir.join("tokens.toml"), |file| file.create(new, Timestamp::from_secs(1)));
    let (record, text) = made.expect("written");
    (record.id, text.expose().to_owned())
}

pub(crate) fn with(request: Request, token: &str) -> Request {
    request.header("authorization", &format!("Bearer {token}"))
}

#[test]
fn who_has_no_valid_token_is_401_on_every_route_of_the_api() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_, expired) = token(directory.path(), Scope::Admin, "default", Some(Timestamp::from_secs(2)));
    let (_, good) = token(directory.path(), Scope::Write, "default", None);
    let server = Server::on(directory.path(), &[]);
    for (method, path) in [
        ("GET", "/v1/result?url=https://a/"),
        ("PUT", "/v1/result?url=https://a/"),
        ("PATCH", "/v1/result?url=https://a/"),
        ("DELETE", "/v1/result?url=https://a/"),
        ("GET", "/v1/result/html?url=https://a/"),
        ("GET", "/v1/results"),
        ("POST", "/v1/results"),
        ("POST", "/v1/results/lookup"),
        ("POST", "/v1/results/batch-get"),
        ("POST", "/v1/results/batch-put"),
        ("POST", "/v1/results/purge"),
        ("GET", "/v1/results/export"),
        ("POST", "/v1/results/import"),
        ("POST", "/v1/leases"),
        ("PUT", "/v1/leases/x"),
        ("DELETE", "/v1/leases/x"),
        ("GET", "/v1/stats"),
        // What is wrong with a request is told to those only who may send it.
        ("GET", "/v1/result?nonsense=1"),
    ] {
        let request = || server.request(method, path).body("{}");
        let mut wrong = good.clone().into_bytes();
        let last = wrong.last_mut().expect("not empty");
        *last = if *last == b'x' { b'y' } else { b'x' };
        let wrong = String::from_utf8(wrong).expect("ASCII");
        for refused in [
            request(),
            with(request(), ""),
            with(request(), "nonsense"),
            with(request(), &expired),
            with(request(), &wrong),
            request().header("authorization", &format!("Basic {good}")),
            request().header("authorization", &good),
        ] {
            let answer = refused.send();
            let problem = answer.problem(401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            assert!(!problem.to_string().contains(&good[..12]), "{problem}");
        }
    }
    for open in ["/livez", "/readyz", "/health", "/metrics", "/openapi.json"] {
        server.get(open).is(200);
    }
    let lower = server.request("GET", "/v1/results").header("authorization", &format!("bearer {good}"));
    assert_ne!(lower.send().status, 401, "the scheme is known in any case");
    let series = server.metrics();
    assert!(series.of(r#"auth_failures_total{reason="missing"}"#) >= 15);
    assert!(series.of(r#"auth_failures_total{reason="invalid"}"#) >= 60);
}

#[test]
fn a_token_does_what_its_scope_says_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let scopes = [Scope::Read, Scope::Write, Scope::Admin];
    let texts = scopes.map(|scope| token(directory.path(), scope, "default", None).1);
    let server = Server::on(directory.path(), &[]);
    let target = result_of("https://a/", &[]);
    let [reader, writer, admin] = texts;
    with(server.request("PUT", &target), &writer).body("{}").send().is(201);
    with(server.request("PUT", &target), &admin).body(r#"{"n":1}"#).send().is(200);
    with(server.request("GET", &target), &reader).send().is(200);
    with(server.request("GET", &target), &admin).send().is(200);
    for (method, path, text) in [
        ("PUT", target.as_str(), &reader),
        ("PATCH", &target, &reader),
        ("DELETE", &target, &reader),
        ("POST", "/v1/results", &reader),
        ("POST", "/v1/results/batch-put", &reader),
        ("POST", "/v1/results/import", &reader),
        ("POST", "/v1/results/purge", &reader),
        ("GET", &target, &writer),
        ("GET", "/v1/results", &writer),
        ("GET", "/v1/results/export", &writer),
        ("POST", "/v1/results/lookup", &writer),
    ] {
        with(server.request(method, path), text).body("{}").send().problem(403, "forbidden");
    }
    assert!(server.metrics().of(r#"auth_failures_total{reason="scope"}"#) >= 11);
}

#[test]
fn namespaces_do_not_see_each_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tenants = ["tenant-a", "tenant-b"].map(|name| token(directory.path(), Scope::Admin, name, None).1);
    let server = Server::on(directory.path(), &[]);
    let [a, b] = &tenants;
    let target = result_of("https://shared.example/", &[]);
    let own = result_of("https://only-a.example/", &[("variant", "v")]);
    let as_tenant = |text: &str, method: &str, path: &str| with(server.request(method, path), text);
    as_tenant(a, "PUT", &target).body(r#"{"of":"a"}"#).send().is(201);
    as_tenant(a, "PUT", &own).body(r#"{"of":"a"}"#).send().is(201);
    as_tenant(b, "PUT", &target).body(r#"{"of":"b"}"#).send().is(201);
    for _ in 0..2 {
        assert_eq!(as_tenant(a, "GET", &target).send().is(200).json(), json!({"of": "a"}));
        assert_eq!(as_tenant(b, "GET", &target).send().is(200).json(), json!({"of": "b"}));
    }
    let absent = as_tenant(b, "GET", &own).send().problem(404, "result_not_found");
    assert_eq!(absent["reason"], "absent");
    let other_variant = result_of("https://only-a.example/", &[]);
    let absent = as_tenant(b, "GET", &other_variant).send().problem(404, "result_not_found");
    assert_eq!(absent["reason"], "absent", "not even that there is another variant");
    let count = |text: &str, path: &str| {
        let page = as_tenant(text, "GET", path).send().is(200).json();
        page["items"].as_array().expect("items").len()
    };
    assert_eq!((count(a, "/v1/results"), count(b, "/v1/results")), (2, 1));
    assert_eq!(count(b, "/v1/results?url=https://only-a.example/"), 0);
    assert_eq!(count(b, "/v1/results?host=only-a.example"), 0);
    assert_eq!(as_tenant(b, "GET", "/v1/results/export").send().is(200).lines().len(), 1);
    let keys =
        json!({"keys": ["https://shared.example/", {"url": "https://only-a.example/", "variant": "v"}]});
    let states = as_tenant(b, "POST", "/v1/results/lookup").json(&keys).send().is(200).json();
    assert_eq!(
        states["counts"],
        json!({"fresh": 1, "stale": 0, "absent": 1, "leased": 0, "invalid": 0, "unknown": 0})
    );
    let purged =
        as_tenant(b, "POST", "/v1/results/purge").json(&json!({"older_than": 0})).send().is(200).json();
    assert_eq!(purged["deleted"], 1);
    as_tenant(b, "DELETE", &own).send().is(204);
    assert_eq!(count(a, "/v1/results"), 2);
    let cursor = as_tenant(a, "GET", "/v1/results?limit=1").send().is(200).json()["next_cursor"].clone();
    let path = format!("/v1/results?limit=1&cursor={}", cursor.as_str().expect("there is more"));
    as_tenant(b, "GET", &path).send().problem_with(400, "invalid_cursor", "cursor");
}

#[test]
fn a_token_that_is_revoked_is_refused_soon_after() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (id, text) = token(directory.path(), Scope::Read, "default", None);
    let (_, other) = token(directory.path(), Scope::Read, "default", None);
    let server = Server::on(directory.path(), &[]);
    let ask = |text: &str| with(server.request("GET", "/v1/results"), text).send().status;
    assert_eq!((ask(&text), ask(&other)), (200, 200));
    TokensFile::edit(&directory.path().join("tokens.toml"), |file| file.revoke(&id)).expect("revoked");
    eventually("it is refused", || (ask(&text) == 401).then_some(()));
    assert_eq!(ask(&other), 200);
    let (_, new) = token(directory.path(), Scope::Read, "default", None);
    eventually("a new one is known", || (ask(&new) == 200).then_some(()));
}

#[test]
fn with_a_token_the_server_may_listen_to_everyone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_, text) = token(directory.path(), Scope::Read, "default", None);
    let server = Server::on(directory.path(), &[("server.listen", "0.0.0.0:0")]);
    server.get("/v1/results").problem(401, "unauthorized");
    with(server.request("GET", "/v1/results"), &text).send().is(200);
}

#[test]
fn a_broken_tokens_file_is_refused_at_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("tokens.toml"), "[[token]]\nid = \"x\"\nsecret = \"hunter2\"\n")
        .expect("written");
    let (status, text) = Server::refused(directory.path(), &[]);
    assert!(!status.success());
    assert!(
        text.contains("tokens.toml") && !text.contains("hunter2") && !text.contains("panicked"),
        "{text}"
    );
}

#[test]
fn no_log_metric_or_answer_shows_a_token_or_a_url() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_, text) = token(directory.path(), Scope::Admin, "default", None);
    // What stands before is the id, which is public.
    let secret = &text[text.len() - 43..];
    let settings = [("log.level", "trace"), ("log.sample", "1"), ("log.slow_seconds", "0")];
    let mut server = Server::on(directory.path(), &settings);
    server.set_token(&text);
    let hidden = "https://hidden.example/private-page";
    server.put(&result_of(hidden, &[]), r#"{"cookie":"tasty-cookie"}"#).is(201);
    server.get(&result_of(hidden, &[])).is(200);
    server.get(&result_of(hidden, &[("variant", "no")])).problem(404, "result_not_found");
    server.put(&result_of(hidden, &[]), r#"{"cookie":"tasty-cookie"#).problem(400, "malformed_json");
    server.post("/v1/results/lookup", &json!({"keys": [hidden]})).is(200);
    let wrong = with(server.request("GET", "/v1/results"), &format!("{text}x"));
    let answer = wrong.send();
    assert!(!String::from_utf8_lossy(&answer.body).contains(secret));
    server.wait_for_event("the last request is logged", |event| event["route"] == "/v1/results");
    let metrics = String::from_utf8(server.get("/metrics").is(200).decoded()).expect("text");
    let log = server.log().join("\n");
    assert!(log.contains("request_id"), "requests are logged");
    for (place, text) in [("the log", &log), ("the metrics", &metrics)] {
        for word in [secret, "hidden.example", "private-page", "tasty-cookie"] {
            assert!(!text.contains(word), "{place} shows {word}");
        }
    }
    let tokens = std::fs::read_to_string(directory.path().join("tokens.toml")).expect("text");
    assert!(!tokens.contains(secret), "the file holds hashes only");
}

#[test]
fn without_tokens_pages_of_other_sites_are_refused() {
    let server = Server::start(&[]);
    let purge = || server.request("POST", "/v1/results/purge").body("{\"older_than\":0}");
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("origin", "null")]
    {
        purge().header(name, value).send().problem(403, "forbidden");
    }
    purge().header("origin", "http://localhost:3000").send().is(200);
}
