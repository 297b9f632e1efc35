//! Commands that need no service: help, configuration, completions, tokens.

use serde_json::json;

use crate::host::{command, run};

#[test]
fn help_teaches_and_mistakes_are_usage() {
    let help = run(&["--help"]).expect(0);
    for part in
        ["Examples:", "Exit codes:", "  3  what was asked for is not there", "healthcheck", "CRAWLCACHE_URL"]
    {
        assert!(help.text().contains(part), "no {part} in {}", help.text());
    }
    assert_eq!(run(&["--version"]).expect(0).text(), concat!("crawlcache ", env!("CARGO_PKG_VERSION"), "\n"));
    for name in [
        "serve",
        "config",
        "token",
        "get",
        "put",
        "stats",
        "export",
        "import",
        "backup",
        "tables",
        "doctor",
        "healthcheck",
        "completions",
    ] {
        let help = run(&[name, "--help"]).expect(0);
        assert!(help.text().contains("crawlcache "), "{name}");
    }
    let secret =
        command(&["stats", "--help"]).env("CRAWLCACHE_TOKEN", "cc_5ec4e7").output().expect("started");
    assert!(!String::from_utf8_lossy(&secret.stdout).contains("5ec4e7"));
    for wrong in
        [&[][..], &["fly"], &["get"], &["get", "https://a/", "--max-age", "soon"], &["config", "--set", "x"]]
    {
        let done = run(wrong).expect(2);
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{done:?}");
    }
    let done = run(&["get", "https://a/", "--field", "pdf", "--fields", "head"]).expect(2);
    assert!(done.stderr.contains("--field") && done.stderr.contains("cannot be used with"), "{done:?}");
}

#[test]
fn the_configuration_is_shown_with_its_sources() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("crawlcache.toml");
    std::fs::write(&file, "[sqlite]\nreaders = 7\n[memory]\nbytes = 1\n").expect("written");
    let arguments = ["config", "--set", "log.level=debug", "--set", "memory.bytes=3"];
    let ask = |more: &[&str]| {
        let mut command = command(&arguments);
        command.args(more).env("CRAWLCACHE_CONFIG", &file).env("CRAWLCACHE_MEMORY__BYTES", "2");
        command
            .env("CRAWLCACHE_SQLITE__QUEUE", "9")
            .env("CRAWLCACHE_SESSIONS__ENCRYPTION_KEY", "5e".repeat(32));
        crate::host::Done::from(command.output().expect("started")).expect(0)
    };
    let toml = ask(&[]);
    for line in [
        "listen = \"127.0.0.1:8080\" # default".to_owned(),
        format!("readers = 7 # file {}", file.display()),
        "queue = 9 # environment CRAWLCACHE_SQLITE__QUEUE".to_owned(),
        "bytes = 3 # command line".to_owned(),
        "level = \"debug\" # command line".to_owned(),
        "encryption_key = \"(set)\" # environment CRAWLCACHE_SESSIONS__ENCRYPTION_KEY".to_owned(),
    ] {
        assert!(toml.text().lines().any(|found| found == line), "no {line} in {}", toml.text());
    }
    let settings = ask(&["--json"]).json();
    let readers =
        settings.as_array().expect("a list").iter().find(|setting| setting["key"] == "sqlite.readers");
    let source = format!("file {}", file.display());
    assert_eq!(readers, Some(&json!({"key": "sqlite.readers", "value": 7, "source": source})));
}

#[test]
fn all_mistakes_of_the_configuration_are_told_at_once() {
    let wrong = ["--set", "memory.bites=1", "--set", "sqlite.readers=0"];
    let done = run(&[&["config"], &wrong[..]].concat()).expect(2);
    assert!(
        done.stderr.contains("did you mean `memory.bytes`?") && done.stderr.contains("from 1 to 64"),
        "{done:?}"
    );
    let error = run(&[&["--json", "config"], &wrong[..]].concat()).expect(2).error();
    assert_eq!((&error["code"], &error["exit_code"]), (&json!("invalid_configuration"), &json!(2)));
    assert_eq!(error["mistakes"].as_array().map(Vec::len), Some(2), "{error}");
    // The commands that read it say so too.
    for command in [&["serve"][..], &["backup", "x"], &["token", "list"]] {
        run(&[command, &wrong[..]].concat()).expect(2);
    }
}

#[test]
fn completions_are_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]).expect(0);
        assert!(script.text().contains("healthcheck"), "{shell}");
    }
    run(&["completions", "cmd"]).expect(2);
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data_dir = directory.path().join("data");
    let token = |arguments: &[&str]| {
        let data_dir = data_dir.to_str().expect("text");
        run(&[&["token"], arguments, &["--data-dir", data_dir]].concat())
    };
    let none = token(&["list"]).expect(0);
    assert!(none.stdout.is_empty() && none.stderr.contains("no tokens"), "{none:?}");
    assert_eq!(token(&["list", "--json"]).expect(0).json(), json!([]));

    let made = token(&["create", "--name", "crawler one"]).expect(0);
    let secret = made.text().trim_end();
    let id = secret.split('_').nth(1).expect("cc_id_secret").to_owned();
    assert!(secret.starts_with("cc_") && made.text().lines().count() == 1, "{made:?}");
    assert!(made.stderr.contains(&id) && made.stderr.contains("read,write") && !made.stderr.contains(secret));

    let arguments =
        ["create", "--name", "b", "--scopes", "read", "--namespace", "team-b", "--expires", "90d", "--json"];
    let other = token(&arguments).expect(0);
    assert!(other.stderr.is_empty(), "{other:?}");
    let other = other.json();
    assert_eq!((&other["scopes"], &other["namespace"]), (&json!("read"), &json!("team-b")));
    assert!(other["token"].as_str().expect("text").starts_with("cc_") && other["expires_at"].is_string());

    let list = token(&["list"]).expect(0);
    assert!(
        list.text().starts_with("ID ") && list.text().contains(&id) && list.text().contains("crawler one")
    );
    assert_eq!(list.text().lines().count(), 3);
    let listed = token(&["list", "--json"]).expect(0);
    assert_eq!(listed.json()[0]["id"], json!(id));
    assert!(!listed.text().contains(secret) && !listed.text().contains("hash"));

    assert_eq!(token(&["revoke", &id]).expect(0).text(), format!("revoked {id} `crawler one`\n"));
    let again = token(&["revoke", &id, "--json"]).expect(3).error();
    assert_eq!((&again["code"], &again["exit_code"]), (&json!("token_not_found"), &json!(3)));
    assert_eq!(token(&["list", "--json"]).expect(0).json().as_array().map(Vec::len), Some(1));

    for wrong in [
        &["create"][..],
        &["create", "--name", ""],
        &["create", "--name", "a", "--scopes", "root"],
        &["create", "--name", "a", "--scopes", ""],
        &["create", "--name", "a", "--namespace", "Not Valid"],
        &["create", "--name", "a", "--expires", "0"],
        &["create", "--name", "a", "--expires", "next year"],
    ] {
        token(wrong).expect(2);
    }
}
