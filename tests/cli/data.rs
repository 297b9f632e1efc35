//! Documents in and out: put, get, stats, export, import.

use std::fs;
use std::io::{BufRead, BufReader};

use serde_json::json;

use crate::host::{Server, run_with_input, wait_for};

/// A document whose order and digits would not survive being parsed into floats or sorted maps.
const DOCUMENT: &str = "{\"url\":\"https://a/\",\"success\":true,\"status_code\":200,\"n\":1.10,\
    \"markdown\":\"# Title\\n\\u001b[31m\",\"html\":\"<h1>é</h1>\",\"screenshot\":\"iVBORw0KGgo=\",\"blank\":\"\"}";

#[test]
fn documents_come_back_as_they_were_put() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&directory.path().join("data"));
    let file = directory.path().join("page.json");
    fs::write(&file, DOCUMENT).expect("written");
    let file = file.to_str().expect("text");

    let put = server.run(&["put", "https://a/", file, "--ttl", "1d"]).expect(0);
    assert!(put.text().starts_with("created https://a/ (") && put.text().contains("fresh until"), "{put:?}");
    let again = server.run(&["put", "https://a/", file, "--json"]).expect(0).json();
    assert_eq!((&again["outcome"], &again["url"]), (&json!("refreshed"), &json!("https://a/")));
    server.run(&["put", "https://a/", file, "--variant", "v2"]).expect(0);

    let mut got = server.run(&["get", "https://a/"]).expect(0).json();
    assert_eq!(got, serde_json::from_str::<serde_json::Value>(DOCUMENT).expect("JSON"));
    let text = server.run(&["get", "https://a/", "--variant", "v2"]).expect(0);
    assert!(text.text().contains("1.10"), "digits survive: {text:?}");
    got = server.run(&["get", "https://a/", "--fields", "markdown"]).expect(0).json();
    assert_eq!(got.as_object().expect("an object").len(), 1);

    let field = |name: &str| server.run(&["get", "https://a/", "--field", name]);
    assert_eq!(field("markdown").expect(0).text(), "# Title\n\u{1b}[31m", "raw where no terminal is");
    assert_eq!(field("html").expect(0).text(), "<h1>é</h1>");
    assert_eq!(field("screenshot").expect(0).stdout, b"\x89PNG\r\n\x1a\n");
    let missing = field("pdf").expect(3);
    assert!(missing.stderr.contains("field_not_found"), "{missing:?}");

    let out = directory.path().join("shot.png");
    let done = server
        .run(&["get", "https://a/", "--field", "screenshot", "-o", out.to_str().expect("text")])
        .expect(0);
    assert!(done.stdout.is_empty());
    assert_eq!(fs::read(&out).expect("written"), b"\x89PNG\r\n\x1a\n");
}

#[test]
fn misses_say_why() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    run_with_input(server.command(&["put", "https://a/", "--variant", "v"]), DOCUMENT.as_bytes()).expect(0);
    run_with_input(server.command(&["put", "https://b/", "-", "--ttl", "0"]), DOCUMENT.as_bytes()).expect(0);
    server.put("https://c/", DOCUMENT);
    let missing = |arguments: &[&str]| server.run(&[&["get"], arguments].concat()).code == 3;
    wait_for("expiry and age", || {
        (missing(&["https://b/"]) && missing(&["https://c/", "--max-age", "0"])).then_some(())
    });
    for (arguments, reason) in [
        (&["https://nothing/"][..], "absent"),
        (&["https://a/"], "variant"),
        (&["https://b/"], "expired"),
        (&["https://c/", "--max-age", "0"], "too_old"),
        (&["https://c/", "--require", "html,blank"], "field_missing"),
        (&["https://c/", "--field", "pdf"], "field_missing"),
    ] {
        let arguments = [&["get"], arguments].concat();
        let text = server.run(&arguments).expect(3);
        assert!(text.stdout.is_empty() && text.stderr.starts_with("error: "), "{text:?}");
        assert!(text.stderr.contains(reason) && text.stderr.lines().count() == 1, "{text:?}");
        let error = server.run(&[&arguments[..], &["--json"]].concat()).expect(3).error();
        assert_eq!((&error["reason"], &error["exit_code"]), (&json!(reason), &json!(3)));
    }
    server.run(&["get", "https://b/", "--stale", "1h"]).expect(0);
    server.run(&["get", "https://c/", "--max-age", "1h", "--require", "html"]).expect(0);
}

#[test]
fn documents_that_are_none_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    let put = |url: &str, body: &str| run_with_input(server.command(&["put", url]), body.as_bytes());
    assert!(put("https://a/", "{").expect(1).stderr.contains("(malformed_json)"));
    assert!(put("https://a/", "[]").expect(1).stderr.contains("(not_an_object)"));
    assert!(put("not a url", "{}").expect(2).stderr.contains("(invalid_url)"));
    assert!(server.run(&["put", "https://a/", "no-such-file"]).expect(1).stderr.contains("no-such-file"));
    assert!(server.run(&["put", "https://a/", "."]).expect(1).stderr.contains("cannot be read"));
    assert!(server.run(&["get", "relative"]).expect(2).stderr.contains("(invalid_url)"));
}

#[test]
fn large_documents_fit_since_they_travel_compressed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start_with(&directory.path().join("data"), &["--set", "limits.body_bytes=1048576"]);
    let large = format!("{{\"html\":\"{}\"}}", "<p>a paragraph</p>".repeat(200_000));
    server.put("https://a/", &large);
    assert_eq!(server.run(&["get", "https://a/"]).expect(0).text(), large);
    let compressed = zstd::encode_all(DOCUMENT.as_bytes(), 3).expect("compressed");
    run_with_input(server.command(&["put", "https://b/", "-"]), &compressed).expect(0);
    assert_eq!(server.run(&["get", "https://b/", "--field", "html"]).expect(0).text(), "<h1>é</h1>");
}

#[test]
fn numbers_are_for_people_and_programs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    server.put("https://a/", DOCUMENT);
    server.run(&["get", "https://a/"]).expect(0);
    server.run(&["get", "https://b/"]).expect(3);
    let table = server.run(&["stats"]).expect(0);
    assert!(
        table.text().contains("results         1\n") && table.text().contains("50.0 % answered"),
        "{table:?}"
    );
    let stats = server.run(&["stats", "--json"]).expect(0).json();
    assert_eq!((&stats["entries"], &stats["hit_ratio"]), (&json!(1), &json!(0.5)));
}

#[test]
fn what_is_exported_can_be_imported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&directory.path().join("data"));
    for n in 0..20 {
        server
            .put(&format!("https://a.example/{n}"), &format!("{{\"n\":{n},\"status_code\":200,\"x\":1.10}}"));
    }
    server.put("https://b.example/", "{\"status_code\":404}");
    run_with_input(server.command(&["put", "https://b.example/old", "--ttl", "0"]), b"{}").expect(0);
    wait_for("expiry", || (server.run(&["get", "https://b.example/old"]).code == 3).then_some(()));

    let lines = |arguments: &[&str]| {
        let done = server.run(&[&["export"], arguments].concat()).expect(0);
        done.text().lines().count()
    };
    assert_eq!(lines(&[]), 21);
    assert_eq!(lines(&["--expired"]), 22);
    assert_eq!(lines(&["--host", "b.example"]), 1);
    assert_eq!(lines(&["--prefix", "https://a.example/1"]), 11);
    assert_eq!(lines(&["--status", "404"]), 1);
    assert_eq!(lines(&["--since", "2026-01-15T10:30:00Z", "--until", "1768473001"]), 0);
    server.run(&["export", "--since", "yesterday"]).expect(2);
    server.run(&["export", "--host", "a", "--prefix", "b"]).expect(2);

    let mut first = None;
    for name in ["all.ndjson", "all.ndjson.zst", "all.gz"] {
        let file = directory.path().join(name);
        let file = file.to_str().expect("text");
        let done = server.run(&["export", "-o", file, "--json"]).expect(0);
        assert!(done.stdout.is_empty());
        let report = done.error();
        assert_eq!((&report["results"], &report["file"]), (&json!(21), &json!(file)));
        assert_eq!(report["written_bytes"].as_u64(), Some(fs::metadata(file).expect("there").len()));
        let plain = server.run(&["export"]).expect(0).stdout;
        assert_eq!(report["bytes"], json!(plain.len()));
        assert_eq!(fs::read(file).expect("read") == plain, name == "all.ndjson", "{name}");

        let copy = Server::start(&directory.path().join(format!("copy of {name}")));
        let report = copy.run(&["import", file, "--json"]).expect(0).json();
        assert_eq!(
            (&report["created"], &report["failed"], &report["complete"]),
            (&json!(21), &json!(0), &json!(true))
        );
        assert_eq!(copy.run(&["export"]).expect(0).stdout, plain, "times and digits survive");
        // From one to the other without a file, and nothing happens twice.
        let again = run_with_input(copy.command(&["import", "-"]), &fs::read(file).expect("read")).expect(0);
        assert!(
            again.text().contains("21 lines: 0 created, 0 replaced, 0 refreshed, 21 superseded, 0 failed"),
            "{again:?}"
        );
        assert_eq!(first.get_or_insert_with(|| plain.clone()), &plain);
    }
    let mut left: Vec<_> =
        fs::read_dir(directory.path()).expect("listed").map(|entry| entry.expect("entry").path()).collect();
    left.retain(|path| path.extension().is_some_and(|extension| extension == "partial"));
    assert!(left.is_empty(), "{left:?}");
    let report = server.run(&["export"]).expect(0).stderr;
    assert!(report.starts_with("exported 21 results, "), "{report}");
}

#[test]
fn bad_lines_are_counted_and_fail_the_command_only() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&directory.path().join("data"));
    let lines = "{\"url\":\"https://a/\",\"document\":{}}\nnonsense\n\n{\"url\":\"x\",\"document\":{}}\n";
    let done = run_with_input(server.command(&["import", "-"]), lines.as_bytes()).expect(1);
    assert!(
        done.text()
            .starts_with("imported 3 lines: 1 created, 0 replaced, 0 refreshed, 0 superseded, 2 failed\n"),
        "{done:?}"
    );
    assert!(done.text().contains("  line 2: ") && done.text().contains("(malformed_json)"), "{done:?}");
    let report =
        run_with_input(server.command(&["import", "-", "--json"]), lines.as_bytes()).expect(1).json();
    assert_eq!((&report["failed"], &report["refreshed"]), (&json!(2), &json!(1)));
    server.run(&["import", "no-such-file"]).expect(1);

    // A file that was cut off must not pass for a whole one.
    let whole = zstd::encode_all(lines.repeat(1000).as_bytes(), 3).expect("compressed");
    let cut = directory.path().join("cut.zst");
    fs::write(&cut, &whole[..whole.len() - 9]).expect("written");
    let done = server.run(&["import", cut.to_str().expect("text"), "--json"]).expect(1);
    assert!(done.error()["detail"].as_str().expect("text").contains("cut.zst cannot be read"), "{done:?}");
}

#[test]
fn a_reader_that_leaves_ends_an_export_quietly() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    let text = "word ".repeat(100_000);
    for n in 0..4 {
        server.put(&format!("https://a/{n}"), &format!("{{\"html\":\"{text}\"}}"));
    }
    let mut child = server.command(&["export"]).spawn().expect("started");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("a line");
    assert!(line.starts_with("{\"") && line.contains("https://a/0"));
    drop(stdout);
    let output = child.wait_with_output().expect("waited");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
