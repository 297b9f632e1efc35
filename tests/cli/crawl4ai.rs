//! The cache of Crawl4AI, taken over: outcomes row by row, dry runs, large pages, services that refuse.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use crate::host::{Server, command, run};

/// A cache of two whole pages, one that an upgrade has broken, a failed one, and one whose file is gone.
fn cache(directory: &Path) -> Connection {
    fs::create_dir_all(directory.join("html_content")).expect("made");
    fs::create_dir_all(directory.join("cleaned_html")).expect("made");
    let connection = Connection::open(directory.join("crawl4ai.db")).expect("opened");
    let columns = "url TEXT PRIMARY KEY, html TEXT, cleaned_html TEXT, markdown TEXT, extracted_content TEXT, \
        success BOOLEAN, media TEXT, links TEXT, metadata TEXT, screenshot TEXT, etag TEXT, cached_at REAL";
    connection.execute(&format!("create table crawled_data ({columns})"), []).expect("made");
    let html = file(directory, "html_content", "<html>");
    for (url, html, cleaned, success, media) in [
        ("https://a/1", html.as_str(), "", 1, "{}"),
        ("https://a/2", &html, "0123456789abcdef", 1, "{"),
        ("https://a/3", &file(directory, "html_content", &html), "", 1, ""),
        ("https://a/failed", &html, "", 0, ""),
        ("https://a/gone", "0123456789abcdef", "", 1, ""),
    ] {
        insert(&connection, url, html, cleaned, success, media);
    }
    connection
}

fn file(directory: &Path, folder: &str, text: &str) -> String {
    let name = format!("{:016x}", xxh64(text.as_bytes(), 0));
    fs::write(directory.join(folder).join(&name), text).expect("written");
    name
}

fn insert(connection: &Connection, url: &str, html: &str, cleaned: &str, success: i64, media: &str) {
    let sql = "insert into crawled_data (url, html, cleaned_html, success, media, etag, cached_at) \
        values (?, ?, ?, ?, ?, '\"v1\"', 1768473000.5)";
    connection.execute(sql, rusqlite::params![url, html, cleaned, success, media]).expect("inserted");
}

fn rows(text: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    rows.sort_by_key(|row| row["url"].to_string());
    rows
}

#[test]
fn what_comes_of_each_row_is_reported() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join(".crawl4ai");
    drop(cache(&source));
    let path = source.to_str().expect("text");
    let server = Server::start(&directory.path().join("data"));

    // Nothing is asked of a service, nor stored.
    let dry = command(&["import-crawl4ai", path, "--dry-run", "--url", "http://127.0.0.1:1"]);
    let dry = crate::host::run_with_input(dry, b"").expect(0);
    assert!(dry.text().starts_with("read 5 rows, 3 readable, 2 skipped; "), "{dry:?}");
    assert!(dry.text().contains("\n  1 page recovered from hashes of hashes\n  1 failed_page\n"), "{dry:?}");

    let file = directory.path().join("rows.ndjson.zst");
    let file = file.to_str().expect("text");
    let done = server.run(&["import-crawl4ai", path, "--report", file, "--json"]).expect(0).json();
    for (name, count) in
        [("rows", 5), ("created", 3), ("skipped", 2), ("failed", 0), ("recovered", 1), ("damaged", 1)]
    {
        assert_eq!(done[name], count, "{name} of {done}");
    }
    assert_eq!(done["reasons"], json!({"failed_page": 1, "html_missing": 1}));
    assert_eq!(done["lost"], json!({"cleaned_html_missing": 1, "media_bad_json": 1}));
    let report = zstd::decode_all(fs::File::open(file).expect("there")).expect("zstd");
    let reported = rows(std::str::from_utf8(&report).expect("text"));
    let time = "2026-01-15T10:30:00.500Z";
    assert_eq!(
        (&reported[0]["outcome"], &reported[0]["updated_at"], &reported[0]["url"]),
        (&json!("created"), &json!(time), &json!("https://a/1"))
    );
    assert_eq!(reported[1]["lost"], json!({"cleaned_html": "missing", "media": "bad_json"}));
    assert_eq!(reported[2]["recovered_through"], 2);
    assert_eq!(
        reported[3],
        json!({"url": "https://a/failed", "outcome": "skipped", "reason": "failed_page"})
    );
    assert_eq!(reported[4], json!({"url": "https://a/gone", "outcome": "skipped", "reason": "html_missing"}));

    let got = server.run(&["get", "https://a/3"]).expect(0).json();
    assert_eq!(got, json!({"url": "https://a/3", "success": true, "html": "<html>"}));
    let exported = rows(server.run(&["export"]).expect(0).text());
    assert_eq!(exported.len(), 3);
    assert_eq!(
        (&exported[0]["updated_at"], &exported[0]["created_at"], &exported[0]["validators"]["etag"]),
        (&json!(time), &json!(time), &json!("\"v1\""))
    );

    // Rows on standard output leave the summary to standard error.
    let again = server.run(&["import-crawl4ai", path, "--report", "-", "--prefix", "https://a/1"]).expect(0);
    assert_eq!(rows(again.text())[0]["outcome"], "superseded");
    assert!(
        again.stderr.starts_with("read 1 row, 0 created, 0 replaced, 0 refreshed, 1 superseded"),
        "{again:?}"
    );
}

#[test]
fn what_is_newer_stays_and_what_was_crawled_since_replaces() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join(".crawl4ai");
    let connection = cache(&source);
    let path = source.to_str().expect("text");
    let server = Server::start(&directory.path().join("data"));
    server.put("https://a/1", "{\"html\":\"newer\"}");
    let import = || server.run(&["import-crawl4ai", path, "--json"]).expect(0).json();
    assert_eq!((&import()["created"], &import()["superseded"]), (&json!(2), &json!(3)));
    let newer = file(&source, "html_content", "<p>crawled since");
    connection
        .execute(
            "update crawled_data set html = ?1, cached_at = 1768473001 where url = 'https://a/2'",
            [newer],
        )
        .expect("updated");
    assert_eq!(import()["replaced"], 1);
    let html = |url: &str| server.run(&["get", url, "--field", "html"]).expect(0).text().to_owned();
    assert_eq!(
        (html("https://a/1"), html("https://a/2")),
        ("newer".to_owned(), "<p>crawled since".to_owned())
    );
    let since = server.run(&["import-crawl4ai", path, "--since", "1768473001", "--json"]).expect(0).json();
    assert_eq!((&since["superseded"], &since["reasons"]["too_old"]), (&json!(1), &json!(3)));
}

#[test]
fn a_page_beyond_the_limit_on_lines_travels_compressed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join(".crawl4ai");
    let connection = cache(&source);
    let media = format!("{{\"images\":[{}0]}}", "{\"desc\":\"again and again\"},".repeat(1_500_000));
    let html = file(&source, "html_content", "<p>large");
    insert(&connection, "https://large/", &html, "", 1, &media);
    // What the service does not take costs its row only.
    insert(&connection, "not a url", &html, "", 1, "");
    let server = Server::start(&directory.path().join("data"));
    let import = |arguments: &[&str]| {
        server.run(&[&["import-crawl4ai", source.to_str().expect("text"), "--json"], arguments].concat())
    };
    let done = import(&["--ttl", "1h"]).expect(1).json();
    assert_eq!((&done["created"], &done["failed"]), (&json!(4), &json!(1)), "{done}");
    assert_eq!(done["reasons"]["invalid_url"], 1);
    assert_eq!(import(&["--prefix", "https://large/"]).expect(0).json()["superseded"], 1);
    let exported = server.run(&["export", "--host", "large"]).expect(0);
    assert!(exported.text().contains("\"updated_at\":\"2026-01-15T10:30:00.500Z\""));
    assert!(exported.text().contains(&media[media.len() - 100..]));
}

#[test]
fn what_cannot_be_imported_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let nothing = directory.path().to_str().expect("text");
    let done = run(&["import-crawl4ai", nothing, "--dry-run"]).expect(1);
    assert!(done.stderr.contains("there is no crawl4ai.db in"), "{done:?}");
    drop(cache(directory.path()));
    run(&["import-crawl4ai", nothing, "--url", "http://127.0.0.1:1"]).expect(4);
    run(&["import-crawl4ai", nothing, "--since", "yesterday"]).expect(2);
    fs::write(directory.path().join("crawl4ai.db"), "no database, but there is something in it")
        .expect("written");
    let done = run(&["import-crawl4ai", nothing, "--dry-run"]).expect(1);
    assert!(done.stderr.contains("cannot be read: file is not a database"), "{done:?}");
}
