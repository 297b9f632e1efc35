//! Services that are away, busy, broken, or somebody else's.

use std::fs;
use std::net::TcpListener;

use serde_json::json;

use crate::host::{Canned, Done, Server, answer, command, run};

fn problem(code: &str) -> String {
    json!({"code": code, "detail": "the reason", "status": 503}).to_string()
}

#[test]
fn a_service_that_is_away_is_unreachable() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}", listener.local_addr().expect("bound"))
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (file, target) = (directory.path().join("a.json"), directory.path().join("out.zst"));
    fs::write(&file, "{}").expect("written");
    let (file, target) = (file.to_str().expect("text"), target.to_str().expect("text"));
    for arguments in [
        &["get", "https://a/"][..],
        &["get", "https://a/", "-o", target],
        &["put", "https://a/", file],
        &["stats"],
        &["export", "-o", target],
        &["import", file],
    ] {
        let done: Done = command(arguments).env("CRAWLCACHE_URL", &url).output().expect("started").into();
        let done = done.expect(4);
        assert!(done.stderr.contains(&url) && done.stderr.contains("(unreachable)"), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    }
    assert!(!fs::exists(target).expect("known"), "nothing is left");
    let error = run(&["stats", "--json", "--url", &url]).expect(4).error();
    assert_eq!((&error["code"], &error["exit_code"]), (&json!("unreachable"), &json!(4)));
    run(&["healthcheck", "--url", &url]).expect(1);
    run(&["stats", "--url", "localhost:8080"]).expect(2);
    // The argument goes before the variable.
    let done: Done = command(&["stats", "--url", &url])
        .env("CRAWLCACHE_URL", "nonsense")
        .output()
        .expect("started")
        .into();
    done.expect(4);
}

#[test]
fn a_busy_service_is_asked_again() {
    let busy = answer("503 Service Unavailable", "retry-after: 0\r\n", &problem("overloaded"));
    let canned = Canned::new(&[&busy, &busy, &busy, &answer("200 OK", "", "{\"a\":1}")]);
    assert_eq!(run(&["get", "https://a/", "--url", &canned.url]).expect(0).text(), "{\"a\":1}");
    assert_eq!(canned.asked(), 4);

    let canned = Canned::new(&[&busy]);
    let done = run(&["get", "https://a/", "--url", &canned.url]).expect(4);
    assert_eq!(done.stderr, "error: the reason (overloaded)\n");
    assert_eq!(canned.asked(), 4, "three times more");
    // Only what is cheap to repeat, and only when told when.
    let canned = Canned::new(&[&busy]);
    run(&["stats", "--url", &canned.url]).expect(4);
    assert_eq!(canned.asked(), 1);
    let canned = Canned::new(&[&answer("503 Service Unavailable", "", &problem("unavailable"))]);
    run(&["get", "https://a/", "--url", &canned.url]).expect(4);
    assert_eq!(canned.asked(), 1);
}

#[test]
fn an_answer_that_breaks_off_leaves_no_file() {
    let chunked =
        "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"url\":1}\r\n";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = directory.path().join("all.ndjson");
    fs::write(&target, "the one before").expect("written");
    for arguments in [["export", "-o"], ["get", "https://a/"]] {
        let canned = Canned::new(&[chunked]);
        let mut command = command(&arguments);
        if arguments[0] == "get" {
            command.arg("-o");
        }
        let done: Done =
            command.arg(&target).args(["--json", "--url", &canned.url]).output().expect("started").into();
        assert_eq!(done.expect(1).error()["code"], json!("broken_off"));
        assert_eq!(fs::read_to_string(&target).expect("there"), "the one before");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }
}

#[test]
fn other_peoples_servers_are_recognised() {
    for (status, code) in
        [("404 Not Found", 1), ("302 Found", 1), ("502 Bad Gateway", 4), ("403 Forbidden", 5)]
    {
        let canned = Canned::new(&[&answer(status, "location: http://127.0.0.1:1/\r\n", "<html>")]);
        let done = run(&["get", "https://a/", "--url", &canned.url]).expect(code);
        assert!(done.stderr.contains("is the address right?"), "{done:?}");
    }
    let canned = Canned::new(&[&answer("200 OK", "", "<html>")]);
    let done = run(&["stats", "--url", &canned.url]).expect(1);
    assert!(done.stderr.contains("not that of crawlcache"), "{done:?}");
}

#[test]
fn health_is_an_exit_code() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    let healthy = server.run(&["healthcheck"]).expect(0);
    assert!(healthy.stdout.is_empty() && healthy.stderr.is_empty(), "{healthy:?}");
    let canned =
        Canned::new(&[&answer("503 Service Unavailable", "retry-after: 1\r\n", &problem("unavailable"))]);
    let done = run(&["healthcheck", "--url", &canned.url]).expect(1);
    assert!(done.stderr.contains("503") && canned.asked() == 1, "{done:?}");

    // It listens, but never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let done = run(&["healthcheck", "--url", &url]).expect(1);
    assert!(done.stderr.contains("within 2 s"), "{done:?}");
}
