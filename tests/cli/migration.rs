//! `migrate` and `verify`, with a service and without, and killed in the middle.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::aws::{StandIn, ask};
use crate::dynamodb::Local;
use crate::host::{Done, Server, run_with_input, wait_for};

/// Results of the migration that is killed; the full number takes minutes, and is for whoever asks for it.
#[expect(clippy::disallowed_methods, reason = "the number is asked for in the environment")]
fn results() -> usize {
    std::env::var("TEST_MIGRATION_RESULTS").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}

/// So many results in a data directory, by way of a service.
fn fill(data_dir: &Path, results: usize) {
    let mut server = Server::start(data_dir);
    let mut lines = String::new();
    for number in 0..results {
        let url = format!("https://example.com/{number}");
        let document = json!({"url": url, "markdown": format!("# Page {number}"), "success": true});
        writeln!(lines, "{}", json!({"url": url, "document": document})).expect("memory");
    }
    run_with_input(server.command(&["import", "-"]), lines.as_bytes()).expect(0);
    server.signal("TERM");
    assert!(server.ended().success());
}

/// A command without a service on this directory, and the tables behind a stand-in.
fn alone(local: &Local, endpoint: &str, data_dir: &Path, arguments: &[&str]) -> Command {
    let place = ["--offline", "--json", "--data-dir", data_dir.to_str().expect("text")];
    let mut command = local.command(&[arguments, &place[..]].concat());
    command.env("DYNAMODB_ENDPOINT", endpoint);
    command
}

fn ended(mut command: Command) -> Done {
    command.output().expect("started").into()
}

fn count(status: &Value, outcome: &str) -> usize {
    usize::try_from(status["counts"][outcome].as_u64().unwrap_or(0)).expect("a count")
}

#[test]
fn a_migration_that_is_killed_goes_on_and_writes_nothing_twice() {
    let Some(local) = Local::new() else { return };
    let results = results();
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path(), results);
    local.run(&["tables", "create"]).expect(0);
    let upstream = StandIn::start(Some(local.endpoint.clone()), |_| None);
    let migrate = ["migrate", "--concurrency", "4", "--batch-size", "50"];

    let (mut kills, begun) = (Vec::new(), Instant::now());
    for part in 1..=3 {
        let mut child = alone(&local, &upstream.url, directory.path(), &migrate).spawn().expect("started");
        wait_for("its part of the writes", || {
            assert!(child.try_wait().expect("our own child").is_none(), "it ended before it was killed");
            (upstream.written() >= results * part / 5).then_some(())
        });
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        // What was on its way is written all the same.
        std::thread::sleep(Duration::from_millis(500));
        kills.push(upstream.written());
    }
    let done = ended(alone(&local, &upstream.url, directory.path(), &migrate)).expect(0);
    let status = done.json();
    let seconds = begun.elapsed().as_secs_f64();
    let (copied, present) = (count(&status, "copied"), count(&status, "present"));
    eprintln!(
        "{results} results: killed after {kills:?} writes, {} writes in all, {copied} counted as copied, {present} met \
         again, {seconds:.1} s",
        upstream.written()
    );
    assert_eq!(upstream.written(), results, "nothing is written twice: {status}");
    assert_eq!((status["done"].as_u64(), copied + present), (Some(results as u64), results), "{status}");
    assert!(done.stderr.contains("goes on where it was left"), "{}", done.stderr);

    let verified = ended(alone(&local, &local.endpoint, directory.path(), &["verify"])).expect(0).json();
    assert_eq!(count(&verified, "equal"), results, "{verified}");
    let again = ended(alone(&local, &upstream.url, directory.path(), &migrate)).expect(0).json();
    assert_eq!((count(&again, "present"), upstream.written()), (results, results), "{again}");
}

#[test]
fn differences_are_found_and_mended_without_a_service() {
    let Some(local) = Local::new() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path(), 20);
    local.run(&["tables", "create"]).expect(0);
    let work = |arguments: &[&str]| ended(alone(&local, &local.endpoint, directory.path(), arguments));

    let dry = work(&["migrate", "--dry-run"]).expect(0).json();
    assert_eq!(count(&dry, "would_copy"), 20, "{dry}");
    assert!(dry["write_units"].as_f64().is_some_and(|units| units >= 20.0), "{dry}");
    let verified = work(&["verify"]).expect(1).json();
    assert_eq!(count(&verified, "missing_dynamodb"), 20, "{verified}");
    let some = "https://example.com/1*";
    let copied = work(&["migrate", "--urls", some]).expect(0).json();
    assert_eq!((count(&copied, "copied"), count(&copied, "skipped")), (11, 9), "{copied}");
    work(&["migrate"]).expect(0);
    work(&["verify", "--content"]).expect(0);

    let gone = format!(
        "{{\"TableName\":\"{}\",\"Key\":{{\"url\":{{\"S\":\"https://example.com/7\"}}}}}}",
        local.results()
    );
    assert!(ask(&local.endpoint, "DeleteItem", &gone).starts_with("HTTP/1.1 200"));
    let verified = work(&["verify"]).expect(1).json();
    assert_eq!((count(&verified, "missing_dynamodb"), count(&verified, "equal")), (1, 19), "{verified}");
    assert_eq!(verified["findings"][0]["name"], "https://example.com/7");
    let repaired = work(&["verify", "--repair"]).expect(0).json();
    assert_eq!(count(&repaired, "repaired"), 1, "{repaired}");
    work(&["verify", "--sample", "0.5"]).expect(0);

    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let back =
        ended(alone(&local, &local.endpoint, elsewhere.path(), &["migrate", "--to", "sqlite"])).expect(0);
    assert_eq!(count(&back.json(), "copied"), 20);
    let server = Server::start(elsewhere.path());
    let page: Value = server.run(&["get", "https://example.com/7"]).expect(0).json();
    assert_eq!(page["markdown"], "# Page 7");
}

#[test]
fn a_directory_that_a_service_has_is_left_to_it() {
    let Some(local) = Local::new() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _server = Server::start(directory.path());
    let refused = ended(alone(&local, &local.endpoint, directory.path(), &["migrate"])).expect(1);
    let error = refused.error();
    assert_eq!(error["code"], "data_dir_in_use", "{error}");
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("leave out --offline")), "{error}");
}

/// A service over both stores.
fn routed(local: &Local, data_dir: &Path) -> Server {
    let data_dir = data_dir.to_str().expect("text");
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir, "--set", "store.backend=routed"];
    Server::of(local.command(&arguments))
}

#[test]
fn a_service_does_it_and_goes_on_with_it_after_it_was_killed() {
    let Some(local) = Local::new() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path(), 600);
    local.run(&["tables", "create"]).expect(0);
    let mut server = routed(&local, directory.path());
    let slow = ["migrate", "--units-per-second", "150", "--concurrency", "2", "--batch-size", "10", "--json"];
    let mut asking = server.command(&slow).spawn().expect("started");
    let last = |server: &Server| server.run(&["work", "--json"]).expect(0).json()["items"][0].clone();
    wait_for("the beginning", || last(&server)["done"].as_u64().filter(|done| *done >= 50));
    let busy = server.run(&["verify", "--json"]).expect(1);
    assert_eq!(busy.error()["code"], "work_running", "{busy:?}");
    server.signal("KILL");
    server.ended();
    asking.kill().expect("our own child");
    asking.wait().expect("our own child");

    let server = routed(&local, directory.path());
    let resumed = wait_for("the end", || Some(last(&server)).filter(|status| status["state"] == "done"));
    assert_eq!(resumed["id"], "migrate-1");
    assert_eq!((resumed["done"].as_u64(), count(&resumed, "failed")), (Some(600), 0), "{resumed}");
    assert_eq!(count(&resumed, "copied") + count(&resumed, "present"), 600, "{resumed}");
    let watched = server.run(&["migrate", "--watch", "migrate-1", "--json"]).expect(0).json();
    assert_eq!(watched["id"], "migrate-1");
    let verified = server.run(&["verify", "--content", "--json"]).expect(0).json();
    assert_eq!(count(&verified, "equal"), 600, "{verified}");
    let sampled = server.run(&["verify", "--sample", "0.1"]).expect(0);
    assert!(sampled.text().contains("equal"), "a report for people: {sampled:?}");
}
