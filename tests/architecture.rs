//! Who imports whom: layers only point down, and each foreign crate stays in its layer.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `main -> cli -> app -> { api, jobs } -> store -> domain`; the rest may be used by all but `domain`.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("domain", &[]),
    ("clock", &["domain"]),
    ("config", &["domain"]),
    ("auth", &["domain", "config"]),
    ("telemetry", &["config"]),
    ("metrics", &[]),
    ("store", &["domain", "clock", "config", "metrics"]),
    ("jobs", &["domain", "clock", "config", "metrics", "auth", "store"]),
    ("api", &["domain", "clock", "config", "metrics", "auth", "store"]),
    ("app", &["domain", "clock", "config", "metrics", "auth", "telemetry", "store", "jobs", "api"]),
    ("cli", &["domain", "clock", "config", "metrics", "auth", "telemetry", "store", "jobs", "api", "app"]),
];

/// Crates that only these layers may name.
const KEPT_TO: [(&str, &[&str]); 16] = [
    ("axum", &["api"]),
    ("tower", &["api"]),
    ("tower_http", &["api"]),
    ("hyper", &["api"]),
    ("utoipa", &["api"]),
    ("rusqlite", &["store"]),
    ("refinery", &["store"]),
    ("aws_config", &["store"]),
    ("aws_credential_types", &["store"]),
    ("aws_sdk_dynamodb", &["store"]),
    ("aws_sdk_s3", &["store"]),
    ("aws_smithy_runtime_api", &["store"]),
    ("aws_smithy_types", &["store"]),
    ("backon", &["store"]),
    ("clap", &["cli"]),
    ("reqwest", &["cli"]),
];

/// Crates that do I/O or speak a protocol: `domain` is pure.
const NOT_IN_DOMAIN: [&str; 7] = ["tokio", "axum", "http", "rusqlite", "tracing", "prometheus", "reqwest"];

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).unwrap();
                let layer =
                    below.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
                let text = fs::read_to_string(&path).unwrap();
                found.push((layer, path, text));
            }
        }
    }
    found
}

/// Code without comments; documentation may name what it likes.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn layers_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let layers: Vec<&str> = allowed.keys().copied().collect();
    let mut wrong = Vec::new();
    for (layer, path, text) in sources() {
        let Some(may_use) = allowed.get(layer.as_str()) else {
            assert!(["main", "lib"].contains(&layer.as_str()), "{layer} has no place in the table");
            continue;
        };
        for other in &layers {
            let names = code(&text).contains(&format!("crate::{other}"));
            if *other != layer && names && !may_use.contains(other) {
                wrong.push(format!("{} uses {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_layers() {
    let mut wrong = Vec::new();
    for (layer, path, text) in sources() {
        let code = code(&text);
        let names = |name: &str| {
            code.match_indices(&format!("{name}::"))
                .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
        };
        for (name, layers) in KEPT_TO {
            if names(name) && !layers.contains(&layer.as_str()) {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
        if layer == "domain" {
            for name in NOT_IN_DOMAIN {
                if names(name) {
                    wrong.push(format!("{} names {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_a_sentence() {
    for (_, path, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not say what it is", path.display());
    }
}
