//! The commands of operators, on a service over both stores whose DynamoDB is a closed port.

use serde_json::{Value, json};

use crate::host::{Done, Server, command, run_with_input};

/// A service over both stores. Nothing listens where DynamoDB should be.
fn start(directory: &std::path::Path, more: &[&str]) -> Server {
    let routed = [
        "--set",
        "store.backend=routed",
        "--set",
        "dynamodb.endpoint=http://127.0.0.1:9",
        "--set",
        "dynamodb.max_retries=0",
    ];
    Server::start_with(directory, &[&routed[..], more].concat())
}

fn json_of(server: &Server, arguments: &[&str]) -> Value {
    server.run(&[arguments, &["--json"]].concat()).expect(0).json()
}

fn put(server: &Server, url: &str) -> Done {
    run_with_input(server.command(&["put", url]), b"{}")
}

#[test]
fn the_policy_is_shown_changed_and_kept() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = start(directory.path(), &["--set", "routing.percent=5"]);
    let shown = server.run(&["routing"]).expect(0);
    assert!(shown.text().starts_with("policy 0, as configured: 5 % of the keys in DynamoDB"), "{shown:?}");

    let would = server.run(&["routing", "set", "--percent", "12.5", "--dry-run"]).expect(0);
    assert!(would.text().starts_with("would change percent from 5 to 12.5\n7.5 % of the keys, 750 buckets"));
    assert!(would.stderr.contains("mind: without `dual_write`"), "{would:?}");
    let set = ["routing", "set", "--percent", "12.5", "--dual-write", "true", "--reason", "step two"];
    let change = json_of(&server, &set);
    assert_eq!((&change["generation"], &change["policy"]["percent"]), (&json!(1), &json!(12.5)));
    let late = server.run(&[
        "routing",
        "set",
        "--force",
        "none",
        "--percent",
        "1",
        "--if-generation",
        "0",
        "--json",
    ]);
    assert_eq!(late.expect(1).error()["code"], "precondition_failed");
    server.run(&["routing", "set", "--shadow-read", "0.5", "--if-generation", "1"]).expect(0);

    for wrong in [
        &["--percent", "101"][..],
        &["--percent", "1.234"],
        &["--force", "both"],
        &["--shadow-read", "2"],
        &[],
    ] {
        server.run(&[&["routing", "set"], wrong].concat()).expect(2);
    }
    let log = server.run(&["routing", "log"]).expect(0);
    assert!(log.text().contains("shadow_read from 0.0 to 0.5"), "{log:?}");
    assert!(log.text().lines().nth(1).is_some_and(|line| line.ends_with("(step two)")), "{log:?}");
    assert_eq!(json_of(&server, &["routing", "log", "--limit", "1"]).as_array().map(Vec::len), Some(1));

    drop(server);
    let again = start(directory.path(), &["--set", "routing.percent=5"]);
    assert_eq!(json_of(&again, &["routing"])["policy"]["percent"], 12.5, "what was set while it ran counts");
    let back = again.run(&["rollback", "--to", "3"]).expect(0);
    assert!(back.text().contains("9.5 % of the keys, 950 buckets, go to SQLite"), "{back:?}");
    let back = again.run(&["rollback", "--reason", "enough"]).expect(0);
    assert!(back.text().contains("(force = sqlite; percent = 3)"), "{back:?}");
    assert!(back.stderr.contains("stays readable"), "{back:?}");
}

#[test]
fn a_percentage_without_effect_is_no_success() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = start(directory.path(), &["--set", "routing.percent=5", "--set", "routing.force=sqlite"]);
    for more in [&[][..], &["--dual-write", "true"], &["--dry-run"]] {
        let refused = server.run(&[&["routing", "set", "--percent", "50", "--json"], more].concat());
        let said = refused.expect(1).error();
        assert_eq!(said["code"], "routing_forced", "{more:?}");
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("--force none")), "{said}");
    }
    assert_eq!(json_of(&server, &["routing"])["generation"], 0, "nothing was changed");
    let later = server.run(&["routing", "set", "--percent", "50", "--while-forced"]).expect(0);
    assert!(later.stderr.contains("mind: `force` is set"), "{later:?}");
    let now = json_of(&server, &["routing", "set", "--percent", "25", "--force", "none"]);
    assert_eq!(now["effective_percent"], 25);
    server.run(&["routing", "set", "--while-forced"]).expect(2);
}

#[test]
fn a_policy_that_overrules_the_environment_is_told() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let serve = |percent: &str| {
        let mut serve = command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        serve.arg(directory.path()).envs([
            ("DYNAMODB_MIGRATION_PCT", percent),
            ("DYNAMODB_ENDPOINT", "http://127.0.0.1:9"),
            ("DYNAMODB_MAX_RETRIES", "0"),
        ]);
        Server::of(serve)
    };
    let server = serve("50");
    assert_eq!(json_of(&server, &["routing"])["overruled"], json!([]), "nothing was set yet");
    server.run(&["routing", "set", "--percent", "25", "--dual-write", "true"]).expect(0);
    drop(server);

    let server = serve("50");
    let expected = json!([{
        "member": "percent", "configured": 50, "in_force": 25, "said_by": "environment DYNAMODB_MIGRATION_PCT",
    }]);
    assert_eq!(json_of(&server, &["routing"])["overruled"], expected, "a default overrules nothing");
    assert_eq!(json_of(&server, &["status"])["routing"]["overruled"], expected);
    let told = server.run(&["status"]).expect(0);
    let line = "overruled       percent = 50 (environment DYNAMODB_MIGRATION_PCT): 25 was set while it ran, and counts";
    assert!(told.text().lines().any(|told| told == line), "{told:?}");
    server.run(&["routing", "set", "--percent", "50"]).expect(0);
    assert_eq!(json_of(&server, &["routing"])["overruled"], json!([]), "they agree");
    drop(server);
    assert_eq!(json_of(&serve("50"), &["routing"])["overruled"], json!([]));
}

#[test]
fn what_a_variable_holds_is_told() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
    serve.arg(directory.path()).envs([
        ("DYNAMODB_MIGRATION_PCT", "25"),
        ("FORCE_SQLITE", "true"),
        ("DYNAMODB_ENDPOINT", "http://127.0.0.1:9"),
        ("DYNAMODB_MAX_RETRIES", "0"),
    ]);
    let server = Server::of(serve);
    let routing = json_of(&server, &["routing"]);
    assert_eq!((&routing["pinned_by"], &routing["effective_percent"]), (&json!("FORCE_SQLITE"), &json!(0)));
    assert_eq!(routing["policy"]["percent"], 25);
    let refused = server.run(&["routing", "set", "--force", "none", "--json"]).expect(1).error();
    assert_eq!((&refused["code"], &refused["pinned_by"]), (&json!("routing_pinned"), &json!("FORCE_SQLITE")));
    put(&server, "https://example.com/").expect(0);
    server.run(&["get", "https://example.com/"]).expect(0);
}

#[test]
fn a_service_without_dynamodb_shows_what_waits() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = start(directory.path(), &["--set", "routing.percent=100"]);
    server.run(&["healthcheck"]).expect(0);
    assert!(server.run(&["outbox"]).expect(0).stderr.contains("nothing waits"));
    put(&server, "https://example.com/").expect(0);
    server.run(&["get", "https://example.com/"]).expect(0);

    let listed = server.run(&["outbox", "list"]).expect(0);
    assert!(listed.text().contains("https://example.com/"), "{listed:?}");
    let row = json_of(&server, &["outbox", "list"])["items"][0].clone();
    let seq = row["seq"].to_string();
    assert_eq!(
        server.run(&["outbox", "discard", &seq, "--json"]).expect(3).error()["code"],
        "outbox_row_not_found"
    );
    assert_eq!(json_of(&server, &["outbox", "retry"]), json!({"retried": 0}));

    let page = server.run(&["status"]).expect(0);
    for part in
        ["status          degraded", "100 % of the keys in DynamoDB", "1 wait, the oldest for", "(queued)"]
    {
        assert!(page.text().contains(part), "{part} is missing: {page:?}");
    }
    let status = json_of(&server, &["status"]);
    assert_eq!(status["backends"]["sqlite"]["status"], "healthy");
    assert_ne!(status["backends"]["dynamodb"]["status"], "healthy");
    assert_eq!(status["outbox"]["queued"], 1);

    let gate = server.run(&["gate", "--to", "100", "--json"]).expect(1).json();
    assert_eq!(gate["pass"], false);
    assert!(server.run(&["gate", "--to", "100"]).expect(1).text().ends_with("from 100 % to 100 %: no\n"));
    server.run(&["gate", "--to", "much"]).expect(2);
    assert!(server.run(&["work"]).expect(0).stderr.contains("no migration"));
    server.run(&["work", "show", "migrate-1"]).expect(3);
}

#[test]
fn a_service_with_one_store_says_how_to_get_two() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(directory.path());
    for arguments in
        [&["routing"][..], &["status"], &["rollback"], &["gate", "--to", "1"], &["outbox"], &["work"]]
    {
        let refused = server.run(&[arguments, &["--json"]].concat()).expect(1).error();
        assert_eq!(refused["code"], "not_routed", "{arguments:?}");
    }
}

#[test]
fn doctor_looks_at_both_stores() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut doctor = command(&["doctor", "--json", "--set", "server.listen=127.0.0.1:0", "--data-dir"]);
    doctor.arg(directory.path()).envs([
        ("DYNAMODB_MIGRATION_PCT", "25"),
        ("FORCE_SQLITE", "true"),
        ("DYNAMODB_ENDPOINT", "http://127.0.0.1:9"),
        ("DYNAMODB_MAX_RETRIES", "0"),
    ]);
    let report = Done::from(doctor.output().expect("started")).expect(1).json();
    let checks = report["checks"].as_array().expect("checks");
    let find = |name: &str| {
        checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
    };
    let routing = find("routing");
    assert_eq!(routing["status"], "warning");
    let detail = routing["detail"].as_str().expect("text");
    assert!(detail.contains("percent = 25") && detail.contains("FORCE_SQLITE, a pin"), "{detail}");
    find("database");
    find("dynamodb");
}
