//! The layers together: precedence, sources, collected mistakes, and that the documentation matches the rules.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use toml::{Table, Value};

use super::environment::variable;
use super::rules::{AT_MOST, KEYS, Key, Rule};
use super::*;
use crate::domain::CanonicalForm;
use crate::domain::routing::Force;

const KEY_HEX: &str = "5ec4e7005ec4e7005ec4e7005ec4e7005ec4e7005ec4e7005ec4e7005ec4e700";

fn with(
    file: Option<&str>,
    environment: &[(&str, &str)],
    overrides: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    let file = file.map(|text| {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    });
    let options = Options {
        file: file.as_ref().map(|file| file.path().to_owned()),
        overrides: overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    load(&options, environment.iter().copied())
}

fn mistakes(
    file: Option<&str>,
    environment: &[(&str, &str)],
    overrides: &[(&str, &str)],
) -> (Vec<Mistake>, String) {
    let error = with(file, environment, overrides).expect_err("mistakes");
    let text = format!("{error}\n{error:?}");
    (error.mistakes, text)
}

fn defaults() -> Table {
    DEFAULT_TOML.parse().expect("default.toml is TOML")
}

/// An allowed value other than the default, as text.
fn another(key: &Key, default: &Value) -> String {
    match key.rule {
        // Half way to the bound, so that no pair of keys is broken.
        Rule::Integer { min, max } => {
            let default = default.as_integer().expect("an integer");
            let smaller = i64::midpoint(min, default);
            if smaller == default { max.to_string() } else { smaller.to_string() }
        }
        Rule::Number { .. } => "0.125".to_owned(),
        Rule::Percent => "12.5".to_owned(),
        Rule::Boolean => (!default.as_bool().expect("a boolean")).to_string(),
        Rule::Choice(choices) => (*choices.last().expect("choices")).to_owned(),
        Rule::Address => "[::1]:9".to_owned(),
        Rule::Path | Rule::OptionalPath => "elsewhere/é".to_owned(),
        Rule::EncryptionKey | Rule::EncryptionKeys => KEY_HEX.to_owned(),
        Rule::Directives => "debug".to_owned(),
        Rule::OptionalUrl => "http://[::1]:8000".to_owned(),
        Rule::Name { .. } => "another-name".to_owned(),
        Rule::Statuses => "[404, \"5xx\"]".to_owned(),
        Rule::Markers => "Access Denied,captcha".to_owned(),
    }
}

#[test]
fn the_defaults_are_what_the_file_says() {
    let config = Config::default();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert!(config.server.is_loopback());
    assert_eq!(config.limits.body_bytes, 32 << 20);
    assert_eq!(config.results.canonical_urls, CanonicalForm::Exact);
    assert_eq!(config.log.format, LogFormat::Auto);
    assert_eq!(config.log.slow_threshold().as_millis(), 1000);
    assert_eq!(config.tokens_path(), PathBuf::from("crawlcache-data/tokens.toml"));
    assert!(!config.sessions.encryption_key.is_set());
}

#[test]
fn rules_and_default_toml_have_the_same_keys_in_the_same_order() {
    let from_rules: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(from_rules.len(), KEYS.len(), "a key twice");
    let from_file: BTreeSet<String> = defaults()
        .iter()
        .flat_map(|(section, keys)| {
            keys.as_table().expect("a section").keys().map(move |name| format!("{section}.{name}"))
        })
        .collect();
    assert_eq!(from_rules, from_file);

    let mut section = String::new();
    let mut listed = Vec::new();
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            listed.push(format!("{section}.{name}"));
        }
    }
    assert_eq!(listed, KEYS.iter().map(|key| key.path.to_owned()).collect::<Vec<_>>());
}

#[test]
fn every_key_has_a_comment_that_states_what_is_allowed() {
    let mut section = "";
    let mut comment: Vec<&str> = Vec::new();
    let mut seen = 0;
    for line in DEFAULT_TOML.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, _)) = line.split_once(" = ") {
            let path = format!("{section}.{name}");
            let key = KEYS.iter().find(|key| key.path == path).expect(&path);
            let comment = comment.join(" ");
            let (what, allowed) = comment.split_once("Allowed: ").expect(&path);
            assert!(what.len() > 20, "{path} says too little");
            assert_eq!(allowed, format!("{}.", key.rule.allowed()), "{path}");
            for (unit, word) in [("_bytes", "bytes"), ("_seconds", "seconds"), (".bytes", "bytes")] {
                assert!(!path.ends_with(unit) || what.contains(word), "{path} does not name its unit");
            }
            seen += 1;
        }
        comment.clear();
    }
    assert_eq!(seen, KEYS.len());
}

#[test]
fn every_key_is_reachable_by_every_layer() {
    let defaults = defaults();
    let plain = format!("{:?}", Config::default());
    for key in KEYS {
        let (section, name) = key.split();
        let value = another(key, &defaults[section][name]);
        let typed = key.rule.parse(&value).expect(key.path);
        let name_of_variable = variable(key.path);
        let file = format!("[{section}]\n{name} = {typed}\n");
        for (loaded, source) in [
            (with(Some(&file), &[], &[]), "file "),
            (with(None, &[(&name_of_variable, &value)], &[]), "environment CRAWLCACHE_"),
            (with(None, &[], &[(key.path, &value)]), "command line"),
        ] {
            let loaded = loaded.expect(key.path);
            let setting = loaded.effective.get(key.path).expect(key.path);
            assert!(setting.source.to_string().starts_with(source), "{} {}", key.path, setting.source);
            assert_ne!(format!("{:?}", loaded.config), plain, "{} changes nothing", key.path);
            let others = loaded.effective.settings().iter().filter(|other| other.key != key.path);
            assert!(others.clone().all(|other| other.source == Source::Default), "{}", key.path);
            assert_eq!(others.count(), KEYS.len() - 1);
        }
    }
}

#[test]
fn every_field_comes_from_default_toml() {
    let whole: Config = defaults().try_into().expect("complete");
    assert_eq!(whole, Config::default());
    for key in KEYS {
        let (section, name) = key.split();
        let mut without = defaults();
        without[section].as_table_mut().expect("a section").remove(name);
        let error = without.try_into::<Config>().expect_err(key.path);
        assert!(error.to_string().contains(name), "{error}");
    }
    let mut more = defaults();
    more["log"].as_table_mut().expect("a section").insert("colour".into(), Value::Boolean(true));
    assert!(more.try_into::<Config>().is_err(), "a key without a field");
}

/// What `load` relies on when it expects the conversion to succeed.
#[test]
fn every_rule_is_as_strict_as_its_field() {
    for key in KEYS {
        let extremes = match key.rule {
            Rule::Integer { min, max } => vec![Value::Integer(min), Value::Integer(max)],
            Rule::Number { min, max } => vec![Value::Float(min), Value::Float(max)],
            Rule::Percent => vec![Value::Float(0.0), Value::Float(33.33), Value::Float(100.0)],
            Rule::Boolean => vec![Value::Boolean(true), Value::Boolean(false)],
            Rule::Choice(choices) => choices.iter().map(|choice| Value::from(*choice)).collect(),
            Rule::Address => vec!["[::]:0".into(), "255.255.255.255:65535".into(), "[fe80::1%3]:1".into()],
            Rule::Path => vec!["/".into(), "é x".into()],
            Rule::OptionalPath => vec!["".into(), "é x".into()],
            Rule::EncryptionKey => vec!["".into(), KEY_HEX.into()],
            Rule::EncryptionKeys => vec![Value::Array(vec![]), Value::Array(vec![KEY_HEX.into(); 16])],
            Rule::Directives => vec!["off".into()],
            Rule::OptionalUrl => vec!["".into(), "http://localhost:8000".into()],
            Rule::Name { min, max, .. } => vec!["a".repeat(min).into(), "a".repeat(max).into()],
            Rule::Statuses => vec![
                Value::Array(vec![]),
                Value::Array(vec![100.into(), "999".into(), "1xx".into(), "9xx".into()]),
            ],
            Rule::Markers => vec![Value::Array(vec![]), Value::Array(vec!["é".repeat(200).into(); 256])],
        };
        for value in extremes {
            let (section, name) = key.split();
            let mut table = defaults();
            table[section][name] = key.rule.check(value).expect(key.path);
            table.try_into::<Config>().expect(key.path);
        }
    }
}

#[test]
fn later_layers_win() {
    let file =
        "[results]\nttl_seconds = 60\ncompression_level = 5\ncanonical_urls = \"v1\"\n[log]\nsample = 1\n";
    let environment =
        [("CRAWLCACHE_RESULTS__TTL_SECONDS", "1_20"), ("CRAWLCACHE_RESULTS__COMPRESSION_LEVEL", "6")];
    let loaded =
        with(Some(file), &environment, &[("results.ttl_seconds", "7"), ("results.ttl_seconds", "8")])
            .expect("valid");
    let results = &loaded.config.results;
    assert_eq!(
        (results.ttl_seconds, results.compression_level, results.canonical_urls),
        (8, 6, CanonicalForm::V1)
    );
    assert!((loaded.config.log.sample - 1.0).abs() < f64::EPSILON);
    let source = |key| loaded.effective.get(key).expect(key).source.clone();
    assert_eq!(source("results.ttl_seconds"), Source::CommandLine);
    let variable = "CRAWLCACHE_RESULTS__COMPRESSION_LEVEL".to_owned();
    assert_eq!(source("results.compression_level"), Source::Environment(variable));
    assert!(matches!(source("log.sample"), Source::File(_)));
    assert_eq!(source("log.level"), Source::Default);
}

#[test]
fn the_way_back_overrules_all_but_the_command_line() {
    let backend = |environment: &[(&str, &str)], overrides: &[(&str, &str)]| {
        with(Some("[store]\nbackend = \"dynamodb\"\n"), environment, overrides)
            .expect("valid")
            .config
            .store
            .backend
    };
    let own = ("CRAWLCACHE_STORE__BACKEND", "dynamodb");
    assert_eq!(backend(&[own, ("FORCE_DYNAMODB", "true")], &[]), Backend::Dynamodb);
    assert_eq!(backend(&[own, ("FORCE_DYNAMODB", "true"), ("FORCE_SQLITE", "true")], &[]), Backend::Sqlite);
    assert_eq!(backend(&[("FORCE_SQLITE", "true")], &[("store.backend", "dynamodb")]), Backend::Dynamodb);
    assert_eq!(backend(&[own, ("FORCE_SQLITE", "false")], &[]), Backend::Dynamodb);
}

#[test]
fn a_share_of_the_keys_means_both_stores() {
    for (share, percent) in [("0", "0"), ("12.5", "12.5"), ("33.33", "33.33"), ("100", "100")] {
        let config = with(None, &[("DYNAMODB_MIGRATION_PCT", share)], &[]).expect(share).config;
        assert_eq!(
            (config.store.backend, config.routing.policy().percent.to_string().as_str()),
            (Backend::Routed, percent)
        );
        assert_eq!(config.routing.pinned(), None);
    }
    for share in ["-1", "100.01", "12.345", "ten"] {
        let (found, text) = mistakes(None, &[("DYNAMODB_MIGRATION_PCT", share)], &[]);
        assert_eq!(found.len(), 1, "{text}");
        assert!(
            text.contains("DYNAMODB_MIGRATION_PCT")
                && text.contains("from 0 to 100 with at most two decimals"),
            "{text}"
        );
    }
}

#[test]
fn a_forced_store_is_a_pin_where_there_are_two() {
    let loaded = |environment: &[(&str, &str)], overrides: &[(&str, &str)]| {
        with(Some("[store]\nbackend = \"routed\"\n[routing]\npercent = 25\n"), environment, overrides)
            .expect("valid")
    };
    let back = ("FORCE_SQLITE", "true");
    let forth = ("FORCE_DYNAMODB", "true");
    let own = ("CRAWLCACHE_ROUTING__FORCE", "none");
    for (environment, overrides, force, pinned_by) in [
        (&[][..], &[][..], Force::None, None),
        (&[back], &[], Force::Sqlite, Some("FORCE_SQLITE")),
        (&[forth], &[], Force::Dynamodb, Some("FORCE_DYNAMODB")),
        (&[forth, back], &[], Force::Sqlite, Some("FORCE_SQLITE")),
        (&[own, forth], &[], Force::None, None),
        (&[own, forth, back], &[], Force::Sqlite, Some("FORCE_SQLITE")),
        (&[forth, back], &[("routing.force", "dynamodb")], Force::Dynamodb, None),
    ] {
        let Loaded { config, effective } = loaded(environment, overrides);
        assert_eq!(config.store.backend, Backend::Routed, "{environment:?}");
        assert_eq!(config.routing.force, force, "{environment:?}");
        assert_eq!(config.routing.pinned(), pinned_by.map(|by| (force, by.to_owned())), "{environment:?}");
        assert_eq!(
            config.routing.policy().percent.to_string(),
            "25",
            "what is forced does not forget the share"
        );
        let shown = effective.to_toml();
        let is_shown = |by: &str| shown.contains(&format!("# environment {by}, a pin\n"));
        assert_eq!(
            ["FORCE_SQLITE", "FORCE_DYNAMODB"].into_iter().find(|by| is_shown(by)),
            pinned_by,
            "{shown}"
        );
    }
    let by_share = with(None, &[("DYNAMODB_MIGRATION_PCT", "10"), back], &[]).expect("valid").config;
    assert_eq!((by_share.store.backend, by_share.routing.force), (Backend::Routed, Force::Sqlite));
    let elsewhere = loaded(&[back], &[("store.backend", "dynamodb")]).config;
    assert_eq!((elsewhere.store.backend, elsewhere.routing.pinned()), (Backend::Dynamodb, None));
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (first, second) = (directory.path().join("first.toml"), directory.path().join("second.toml"));
    std::fs::write(&first, "[sqlite]\nreaders = 7\n").expect("written");
    std::fs::write(&second, "[sqlite]\nreaders = 9\n").expect("written");
    let readers = |options: &Options, named: &std::path::Path| {
        load(options, [("CRAWLCACHE_CONFIG", named)]).expect("valid").config.sqlite.readers
    };
    assert_eq!(readers(&Options::default(), &first), 7);
    assert_eq!(readers(&Options { file: Some(second), ..Options::default() }, &first), 9, "--config wins");
    assert_eq!(readers(&Options::default(), std::path::Path::new("")), 4, "empty is unset");
    let missing = directory.path().join("missing.toml");
    let error =
        load(&Options { file: Some(missing.clone()), ..Options::default() }, [("X", "y")]).unwrap_err();
    assert!(matches!(&error.mistakes[..], [Mistake::Unreadable { path, .. }] if *path == missing), "{error}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let file = "listen = \"0.0.0.0:1\"\nlog = 3\n[limit]\nbody_bytes = 5\n[sqlite]\nreaders = 65\nreader = 1\n\
                [memory]\nbytes = \"1\"\n";
    let environment = [
        ("CRAWLCACHE_SERVER__LISTEN", "localhost:80"),
        ("CRAWLCACHE_LIMITS_BODY_BYTES", "1"),
        ("CRAWLCACHE_TOKEN", "cc_x"),
        ("CRAWLCACHE_URL", "http://x"),
        ("UNRELATED", "1"),
    ];
    let (mistakes, text) =
        mistakes(Some(file), &environment, &[("log.levle", "info"), ("log.format", "xml")]);
    for part in [
        "10 mistakes",
        "unknown key `listen` (file ",
        "did you mean `server.listen`?",
        "`log` (file ",
        "must be a section",
        "unknown key `limit.body_bytes`",
        "did you mean `limits.body_bytes`?",
        "is 65; allowed: a whole number from 1 to 64",
        "did you mean `sqlite.readers`?",
        "is \"1\"; allowed: a whole number from 0 to",
        "`server.listen` (environment CRAWLCACHE_SERVER__LISTEN) is \"localhost:80\"; allowed: an IP address",
        "unknown key `CRAWLCACHE_LIMITS_BODY_BYTES`",
        "did you mean `CRAWLCACHE_LIMITS__BODY_BYTES`?",
        "unknown key `log.levle` (command line); did you mean `log.level`?",
        "`log.format` (command line) is \"xml\"; allowed: \"auto\", \"text\" or \"json\"",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert_eq!(mistakes.len(), 10, "{text}");
}

#[test]
fn a_malformed_file_does_not_hide_the_other_layers() {
    let (found, text) = mistakes(Some("[log]\nlevel = \n"), &[("CRAWLCACHE_LOG__SAMPLE", "2")], &[]);
    assert_eq!(found.len(), 2, "{text}");
    assert!(text.contains("not valid TOML: line 2: "), "{text}");
    assert!(text.contains("allowed: a number from 0 to 1"), "{text}");
}

#[test]
fn values_that_do_not_go_together_are_a_mistake() {
    for (key, other) in AT_MOST {
        let bound = KEYS.iter().find(|candidate| candidate.path == other).expect(other);
        let Rule::Integer { min, .. } = bound.rule else { panic!("{other} is no integer") };
        let (found, text) = mistakes(None, &[], &[(other, &min.to_string())]);
        assert!(matches!(&found[..], [Mistake::TooGreat { .. }]), "{text}");
        assert!(text.contains(&format!("`{key}` is ")) && text.contains("(default)"), "{text}");
        with(None, &[], &[(other, &min.to_string()), (key, &min.to_string())]).expect("equal is fine");
        // A key that is wrong by itself is reported once.
        let (found, text) = mistakes(None, &[], &[(other, &min.to_string()), (key, "x")]);
        assert_eq!(found.len(), 1, "{text}");
    }
}

#[test]
fn listings_name_sources_and_can_be_read_back() {
    let environment = [("CRAWLCACHE_SERVER__DATA_DIR", "a \"b\" # c")];
    let loaded = with(Some("[sqlite]\nreaders = 7\n"), &environment, &[]).expect("valid");
    let listing = loaded.effective.to_toml();
    assert!(listing.starts_with("[server]\nlisten = \"127.0.0.1:8080\" # default\n"), "{listing}");
    assert!(listing.contains("# environment CRAWLCACHE_SERVER__DATA_DIR\n"), "{listing}");
    assert!(listing.contains("\n\n[sqlite]\nreaders = 7 # file "), "{listing}");
    let mut read = with(Some(&listing), &[], &[]).expect("valid").config;
    // As a file it says everything on purpose.
    assert!(read.routing.said.contains_key("percent") && loaded.config.routing.said.is_empty());
    read.routing.said.clear();
    assert_eq!(read, loaded.config);

    let json = loaded.effective.to_json();
    assert_eq!(json.as_array().map(Vec::len), Some(KEYS.len()));
    assert_eq!(
        json[0],
        serde_json::json!({"key": "server.listen", "value": "127.0.0.1:8080", "source": "default"})
    );
}

#[cfg(unix)]
#[test]
fn variables_need_not_be_unicode() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let odd = || OsString::from_vec(vec![b'a', 0xff]);
    load(&Options::default(), [(OsString::from("OTHER"), odd()), (odd(), odd())]).expect("not ours");
    let error =
        load(&Options::default(), [(OsString::from("CRAWLCACHE_SERVER__DATA_DIR"), odd())]).unwrap_err();
    assert!(error.to_string().contains("not Unicode"), "{error}");
}

#[test]
fn secrets_are_never_shown() {
    let name = "CRAWLCACHE_SESSIONS__ENCRYPTION_KEY";
    let file = format!("[sessions]\nencryption_key = \"{KEY_HEX}\"\n");
    for loaded in [
        with(Some(&file), &[], &[]),
        with(None, &[(name, KEY_HEX)], &[]),
        with(None, &[], &[("sessions.encryption_key", KEY_HEX)]),
    ] {
        let loaded = loaded.expect("valid");
        assert!(loaded.config.sessions.encryption_key.expose().is_some());
        let shown = format!("{loaded:?}{}{}", loaded.effective.to_toml(), loaded.effective.to_json());
        assert!(!shown.to_lowercase().contains("5ec4e7"), "{shown}");
        assert!(shown.contains("encryption_key = \"(set)\""), "{shown}");
    }
    assert!(Config::default().sessions.encryption_key.expose().is_none());

    let options = Options { file: None, overrides: vec![("sessions.encryption_key".into(), KEY_HEX.into())] };
    assert!(!format!("{options:?}").contains("5ec4e7"));
    for (file, environment, overrides) in [
        (
            "[sessions]\nencryption_key = \"5ec4e7\"\n",
            [(name, "5ec4e7")],
            [("sessions.encryption_key", "5ec4e7")],
        ),
        (
            "[sessions]\nencryption_kei = \"5ec4e7\"\n",
            [("CRAWLCACHE_ENCRYPTION_KEY", "5ec4e7")],
            [("key", "5ec4e7")],
        ),
        ("sessions = \"5ec4e7\"\n", [("CRAWLCACHE_SESSIONS", "5ec4e7")], [("sessions", "5ec4e7")]),
        (
            "[sessions]\nencryption_key = 5ec4e7\n",
            [(name, "5ec4e7 ")],
            [("sessions.encryption_key.x", "5ec4e7")],
        ),
        (
            "[sessions.encryption_key]\nx = \"5ec4e7\"\n",
            [(name, "5ec4e7")],
            [("sessions.encryption_key", "5ec4e7")],
        ),
    ] {
        let (found, text) = mistakes(Some(file), &environment, &overrides);
        assert_eq!(found.len(), 3, "{text}");
        assert!(!text.contains("5ec4e7"), "{text}");
    }
}
