//! The procedures of docs/migrating.md, carried out as they stand there on a service with data and clients.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{drain, is_due, routed};
use crate::proxy::{Proxy, Weather};
use crate::support::{Server, dynamodb_local, result_of};

const PAGE: &str = include_str!("../../../docs/migrating.md");

/// How many results there are before a procedure begins.
const ENTRIES: usize = 200;

/// The commands of a procedure.
fn commands(name: &str) -> Vec<Vec<String>> {
    let (_, after) = PAGE.split_once(&format!("<!-- runbook: {name} -->")).expect("it is on the page");
    let (_, block) = after.split_once("```bash\n").expect("a block follows");
    let (block, _) = block.split_once("```").expect("the block ends");
    let commands: Vec<Vec<String>> = block.lines().map(words).collect();
    assert!(commands.len() > 1, "{name} has commands");
    commands
}

/// A line as a shell takes it apart: double quotes hold words together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, piece) in line.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn run(server: &Server, arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crawlcache"))
        .env_clear()
        .env("CRAWLCACHE_URL", format!("http://{}", server.address()))
        .args(arguments)
        .output()
        .expect("the binary starts")
}

/// Carries a procedure out.
fn carry_out(server: &Server, name: &str) {
    for command in commands(name) {
        assert_eq!(command[0], "crawlcache", "{command:?}");
        let output = run(server, &command[1..]);
        let said = String::from_utf8_lossy(&output.stdout);
        // On a busy machine the gate may find DynamoDB slow, and rightly: then nothing else may keep it shut.
        let is_slow = command[1] == "gate"
            && said.lines().filter(|line| line.starts_with("no ")).all(|line| line.contains("p99"));
        assert!(
            output.status.success() || is_slow,
            "{}: {}\n{}",
            command.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        // Whatever has been done so far, everything is there.
        check(server, &command.join(" "));
    }
}

fn url(number: usize) -> String {
    if number == 0 { "https://example.com/".to_owned() } else { format!("https://example.com/{number}") }
}

fn fill(server: &Server) {
    for number in 0..ENTRIES {
        let url = url(number);
        let put = server.put(&result_of(&url, &[]), json!({"url": url, "number": number}).to_string());
        assert!([200, 201, 202].contains(&put.status), "{put:?}");
    }
    drain(server);
}

fn check(server: &Server, after: &str) {
    let urls: Vec<String> = (0..ENTRIES).map(url).collect();
    let lines = server.post("/v1/results/batch-get", &json!({"keys": urls})).is(200).lines();
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["document"]["number"], number, "after `{after}`: {line}");
    }
}

fn policy(server: &Server) -> Value {
    server.get("/v1/admin/routing").is(200).json()
}

/// A service with data under a policy; `None` where DynamoDB Local is not.
fn street(name: &str, settings: &[(&str, &str)]) -> Option<(Server, Proxy, tempfile::TempDir)> {
    if !is_due() {
        return None;
    }
    let proxy = Proxy::start(&dynamodb_local()?);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let prefix = format!("{name}{}-", std::process::id());
    let server = routed(directory.path(), &proxy, &prefix, settings);
    fill(&server);
    Some((server, proxy, directory))
}

#[test]
fn gradually() {
    let Some((server, _proxy, _directory)) = street("gradual", &[]) else { return };
    carry_out(&server, "gradual");
    assert_eq!(policy(&server)["effective_percent"], 100);
    let log = server.get("/v1/admin/routing/log").is(200).json();
    let reasons: Vec<&str> =
        log["items"].as_array().expect("items").iter().filter_map(|it| it["reason"].as_str()).collect();
    assert_eq!(reasons.first(), Some(&"week 4"), "{reasons:?}");
}

#[test]
fn all_at_once() {
    let Some((server, _proxy, _directory)) = street("full", &[]) else { return };
    carry_out(&server, "full");
    assert_eq!(policy(&server)["policy"]["force"], "dynamodb");
}

#[test]
fn only_to_try_it() {
    let Some((server, _proxy, _directory)) = street("trial", &[]) else { return };
    carry_out(&server, "trial");
    assert_eq!(policy(&server)["effective_percent"], 0);
}

#[test]
fn back_at_once_while_dynamodb_is_away() {
    let settings = [("routing.percent", "50"), ("routing.dual_write", "true")];
    let Some((server, proxy, _directory)) = street("rollback", &settings) else { return };
    proxy.set(Weather::Cut);
    carry_out(&server, "rollback");
    assert_eq!(policy(&server)["effective_percent"], 0);
    for number in 0..ENTRIES {
        let put = server.put(&result_of(&url(number), &[]), json!({"number": number}).to_string());
        assert!([200, 201].contains(&put.status), "SQLite takes it: {put:?}");
    }
    check(&server, "writes");
    proxy.set(Weather::Fair);
    assert_eq!(drain(&server), 0);
}

#[test]
fn back_step_by_step() {
    let Some((server, _proxy, _directory)) = street("back", &[("routing.percent", "100")]) else { return };
    carry_out(&server, "rollback-gradually");
    assert_eq!(policy(&server)["effective_percent"], 0);
}

/// Each procedure begins where another has ended, too: no step of it is in vain.
#[test]
fn one_procedure_after_the_other() {
    let Some((server, _proxy, _directory)) = street("after", &[]) else { return };
    for (name, share) in [
        ("full", 100),
        ("rollback-gradually", 0),
        ("full", 100),
        ("rollback", 0),
        ("forward-again", 25),
        ("rollback", 0),
    ] {
        carry_out(&server, name);
        assert_eq!(policy(&server)["effective_percent"], share, "after {name}");
    }
    // Before the force is lifted no percentage has an effect, and no command pretends that it had.
    let set = ["routing", "set", "--percent", "50", "--json"].map(str::to_owned);
    let refused = run(&server, &set);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said: Value = serde_json::from_slice(&refused.stderr).expect("JSON");
    assert_eq!(said["code"], "routing_forced", "{said}");
    assert_eq!(policy(&server)["policy"]["percent"], 25, "nothing was changed");
}

/// What comes before anything else, on a service that keeps everything in SQLite.
#[test]
fn before_anything_else() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::on(directory.path(), &[("store.backend", "sqlite")]);
    for command in commands("prepare") {
        assert_eq!(command[0], "crawlcache", "{command:?}");
        let output = Command::new(env!("CARGO_BIN_EXE_crawlcache"))
            .env_clear()
            .envs([
                ("DYNAMODB_ENDPOINT", local.as_str()),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("CRAWLCACHE_DYNAMODB__TABLE_PREFIX", &format!("prepare{}-", std::process::id())),
                ("CRAWLCACHE_SERVER__DATA_DIR", &directory.path().display().to_string()),
                ("CRAWLCACHE_SERVER__LISTEN", "127.0.0.1:0"),
            ])
            .args(&command[1..])
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}: {said}\n{}",
            command.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        if command[1] == "doctor" {
            assert!(said.contains("crawl4ai-results"), "it has looked at the tables: {said}");
        }
    }
    drop(server);
}
