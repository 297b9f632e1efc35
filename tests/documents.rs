//! What the README says of configuration and metrics is what the code says, the OpenAPI document is that of the routes, and
//! promises name tests that exist.
//!
//! `UPDATE_DOCUMENTS=1 cargo test --test documents` writes the tables and the document anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository has failed")]
#![expect(clippy::disallowed_methods, reason = "a test takes its switch from the environment")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crawlcache::config::{DEFAULT_TOML, Options, load};
use crawlcache::metrics::Metrics;

/// Compares the text between two markers of the README with what it must be.
fn check(name: &str, expected: &str) {
    static README: Mutex<()> = Mutex::new(());
    // Both tests may write the file.
    let _one_at_a_time = README.lock();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let from = readme.find(&begin).unwrap_or_else(|| panic!("README.md lacks {begin}")) + begin.len();
    let to = from + readme[from..].find(&end).unwrap_or_else(|| panic!("README.md lacks {end}"));
    if readme[from..to] == *expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, format!("{}{expected}{}", &readme[..from], &readme[to..])).unwrap();
        return;
    }
    panic!("the table `{name}` in README.md is out of date; it must be\n{expected}");
}

/// The comment above each key of default.toml.
fn comment_of(key: &str) -> String {
    let (section, name) = key.split_once('.').unwrap();
    let (mut current, mut comment) = (String::new(), Vec::new());
    for line in DEFAULT_TOML.lines() {
        if let Some(title) = line.strip_prefix('[') {
            title.trim_end_matches(']').clone_into(&mut current);
            comment.clear();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim().to_owned());
        } else if line.trim().is_empty() {
            comment.clear();
        } else if current == section && line.split('=').next().unwrap().trim() == name {
            return comment.join(" ");
        } else {
            comment.clear();
        }
    }
    panic!("{key} has no comment in default.toml")
}

#[test]
fn the_table_of_settings() {
    let loaded = load(&Options::default(), Vec::<(String, String)>::new()).unwrap();
    let mut table = "| key | default | meaning |\n|---|---|---|\n".to_owned();
    for setting in loaded.effective.settings() {
        let meaning = comment_of(setting.key).replace('|', "\\|");
        writeln!(table, "| `{}` | `{}` | {meaning} |", setting.key, setting.value).unwrap();
    }
    check("configuration", &table);
}

#[test]
fn the_table_of_metrics() {
    let metrics = Metrics::new();
    metrics.add_backend("sqlite", &["full"]);
    metrics.http_request_duration.with_label_values(&["GET", "/livez", "200"]);
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in metrics.families() {
        if family.name.starts_with("process_") {
            continue;
        }
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        writeln!(table, "| `{}` | {} | {labels} | {} |", family.name, family.kind, family.help).unwrap();
    }
    check("metrics", &table);
}

#[test]
fn the_openapi_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let mut expected = serde_json::to_string_pretty(&crawlcache::api::openapi_document()).unwrap();
    expected.push('\n');
    let committed = fs::read_to_string(&path).unwrap();
    if committed == expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    let (number, (is, should)) = committed
        .lines()
        .zip(expected.lines())
        .enumerate()
        .find(|(_, (is, should))| is != should)
        .unwrap_or_default();
    panic!(
        "docs/openapi.json is not what the routes say, first in line {}: `{is}` should be `{should}`; \
         UPDATE_DOCUMENTS=1 cargo test --test documents writes it anew",
        number + 1,
    );
}

/// All sources that may hold a test, as one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "py") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in ["src", "tests", "clients/python/tests"] {
        sources(&root.join(folder), &mut text);
    }
    let page = fs::read_to_string(root.join("docs/consistency.md")).unwrap();
    let (mut rows, mut missing) = (0, Vec::new());
    for line in page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.last() == Some(&"tests") {
            continue;
        }
        assert_eq!(cells.len(), 5, "a row has five cells: {line}");
        let names: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a row names no test: {line}");
        for name in names {
            if !text.contains(&format!("fn {name}(")) && !text.contains(&format!("def {name}(")) {
                missing.push(name);
            }
        }
        rows += 1;
    }
    assert!(rows > 40, "only {rows} rows were found");
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");
}
