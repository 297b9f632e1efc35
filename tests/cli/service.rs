//! The service as a process: how it starts, refuses to start, follows its tokens, and stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Server, run, wait_for};

#[test]
fn says_where_it_is_and_stops_when_told() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data_dir = directory.path().join("data");
        let mut server = Server::start(&data_dir);
        server.put("https://a/", "{\"x\":1}");
        let summary = wait_for("the summary", || server.log().contains("docs").then(|| server.log()));
        assert!(summary.contains(&format!("listens on {}", server.url)), "{summary}");
        assert!(summary.contains(data_dir.to_str().expect("text")), "{summary}");

        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
        wait_for("the last word", || server.log().contains("\"message\":\"stopped\"").then_some(()));
        // At rest: the log of the database has been moved into it.
        let log = std::fs::metadata(data_dir.join("crawlcache.db-wal")).map_or(0, |log| log.len());
        assert_eq!(log, 0);
        let again = Server::start(&data_dir);
        assert_eq!(again.run(&["get", "https://a/"]).expect(0).text(), "{\"x\":1}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(directory.path());
    let mut request = TcpStream::connect(server.address()).expect("connected");
    let head = "PUT /v1/result?url=https://a/ HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{";
    request.write_all(head.as_bytes()).expect("sent");
    wait_for("the request", || {
        let mut ask = TcpStream::connect(server.address()).expect("connected");
        ask.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            .expect("sent");
        let mut metrics = String::new();
        ask.read_to_string(&mut metrics).expect("an answer");
        // That one, and the one that asks.
        metrics.contains("\ncrawlcache_http_requests_in_flight 2\n").then_some(())
    });
    server.signal("TERM");
    wait_for("the first signal", || server.log().contains("stopping").then_some(()));
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(1), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(10), "not the 30 s that requests may take");
    wait_for("its reason", || server.log().contains("a second signal").then_some(()));
}

#[test]
fn the_summary_can_be_json() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments =
        ["--listen", "127.0.0.1:0", "--data-dir", directory.path().to_str().expect("text"), "--json"];
    let mut child = crate::host::command(&[&["serve"], &arguments[..]].concat()).spawn().expect("started");
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    while !line.contains("\"url\"") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut line).expect("read"), 0, "it ended");
    }
    child.kill().expect("killed");
    child.wait().expect("waited");
    let summary: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert!(summary["url"].as_str().expect("text").starts_with("http://127.0.0.1:"), "{summary}");
    assert_eq!(summary["tokens"], json!(0));
}

#[test]
fn refuses_to_start_and_says_why() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir);
    let (data_dir, other) = (data_dir.to_str().expect("text"), directory.path().join("other"));
    let other = other.to_str().expect("text");

    let locked = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir]).expect(1);
    assert!(locked.stderr.contains("belongs to the running process"), "{locked:?}");
    let taken =
        run(&["serve", "--listen", server.address(), "--data-dir", other, "--json"]).expect(1).error();
    assert_eq!(taken["code"], json!("start_failed"));
    assert!(taken["detail"].as_str().expect("text").contains("cannot listen on"), "{taken}");
    let open = run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", other]).expect(2);
    assert!(
        open.stderr.contains("crawlcache token create") && open.stderr.contains("--insecure"),
        "{open:?}"
    );
    drop(Server::start_with(directory.path(), &["--insecure", "--set", "server.listen=0.0.0.0:0"]));
}

#[test]
fn tokens_take_effect_while_it_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    server.put("https://a/", "{}");
    let token = |arguments: &[&str]| {
        run(&[&["token"], arguments, &["--data-dir", directory.path().to_str().expect("text")]].concat())
            .expect(0)
    };
    let reader = token(&["create", "--name", "reader", "--scopes", "read"]).text().trim().to_owned();
    wait_for("closing", || (server.run(&["get", "https://a/"]).code == 5).then_some(()));

    let with = |token: &str, arguments: &[&str]| -> crate::host::Done {
        server.command(arguments).env("CRAWLCACHE_TOKEN", token).output().expect("started").into()
    };
    with(&reader, &["get", "https://a/"]).expect(0);
    // The sums are over all namespaces.
    with(&reader, &["stats"]).expect(5);
    server.run(&["get", "https://a/", "--token", &reader]).expect(0);
    let file = directory.path().join("document.json");
    std::fs::write(&file, "{\"new\":1}").expect("written");
    let file = file.to_str().expect("text");
    let refused = with(&reader, &["put", "https://a/", file, "--json"]).expect(5).error();
    assert_eq!((&refused["code"], &refused["exit_code"]), (&json!("forbidden"), &json!(5)));
    with(&reader, &["import", file]).expect(5);
    let wrong = with("cc_0000000000_wrong", &["export"]).expect(5);
    assert!(wrong.stderr.contains("unauthorized") && !wrong.stderr.contains("cc_"), "{wrong:?}");

    let writer = token(&["create", "--name", "writer"]).text().trim().to_owned();
    wait_for("the second token", || (with(&writer, &["put", "https://a/", file]).code == 0).then_some(()));
    let id = writer.split('_').nth(1).expect("an id");
    token(&["revoke", id]);
    wait_for("the revocation", || (with(&writer, &["get", "https://a/"]).code == 5).then_some(()));
    with(&reader, &["get", "https://a/"]).expect(0);
    token(&["revoke", reader.split('_').nth(1).expect("an id")]);
    wait_for("the last revocation", || (with(&reader, &["get", "https://a/"]).code == 5).then_some(()));
    server.run(&["get", "https://a/"]).expect(5);
    // Health is for everybody.
    server.run(&["healthcheck"]).expect(0);
}

#[test]
fn a_backup_is_made_while_it_runs_and_opens_as_a_data_directory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir);
    let line = |n: usize| {
        let text = "word ".repeat(n);
        format!("{{\"url\":\"https://a/{n}\",\"document\":{{\"n\":{n},\"text\":\"{text}\"}}}}")
    };
    let lines = (0..500).map(line).collect::<Vec<_>>().join("\n");
    crate::host::run_with_input(server.command(&["import", "-"]), lines.as_bytes()).expect(0);

    let new = directory.path().join("new");
    std::fs::create_dir(&new).expect("made");
    let target = new.join("crawlcache.db");
    let backup = |target: &str, more: &[&str]| {
        let data_dir = data_dir.to_str().expect("text");
        run(&[&["backup", target, "--data-dir", data_dir], more].concat())
    };
    let writing = std::sync::atomic::AtomicBool::new(true);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while writing.load(std::sync::atomic::Ordering::Relaxed) {
                server.put("https://a/later", "{\"later\":true}");
            }
        });
        let report = backup(target.to_str().expect("text"), &["--json"]);
        writing.store(false, std::sync::atomic::Ordering::Relaxed);
        report
    });
    let report = report.expect(0).json();
    assert_eq!(report["bytes"].as_u64(), Some(std::fs::metadata(&target).expect("there").len()));
    assert_eq!(report["path"], json!(target));
    assert!(report["seconds"].is_f64());

    let copy = Server::start(&new);
    assert!(copy.run(&["stats", "--json"]).expect(0).json()["entries"].as_u64().expect("a number") >= 500);
    let document = copy.run(&["get", "https://a/499", "--fields", "n"]).expect(0);
    assert_eq!(document.json()["n"], json!(499));
    copy.put("https://b/", "{}");

    let text = backup(directory.path().join("second.db").to_str().expect("text"), &[]).expect(0);
    assert!(text.text().starts_with("backed up to ") && text.text().contains("second.db: "), "{text:?}");
    let exists = backup(target.to_str().expect("text"), &[]).expect(1);
    assert!(exists.stderr.contains("never overwrites"), "{exists:?}");
    let nowhere = directory.path().join("nowhere");
    let missing =
        run(&["backup", "x.db", "--data-dir", nowhere.to_str().expect("text"), "--json"]).expect(1).error();
    assert_eq!(missing["code"], json!("backup_failed"));
    assert!(!nowhere.exists());
}
