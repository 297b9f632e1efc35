//! Every shape that a row may have, and what it comes to.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::fixture::{Cache, FOLDERS, document, hash, read};
use crate::domain::Timestamp;
use crate::store::crawl4ai::{Filter, Loss, Skip};

const HTML: &str = "<html>\u{e9} \"quoted\"\n\t\u{1}</html>";

#[test]
fn the_oldest_rows_hold_their_contents() {
    let cache = Cache::old();
    cache.insert(
        "https://a/",
        &[
            ("html", HTML),
            ("cleaned_html", "<p>"),
            ("markdown", "# A"),
            ("extracted_content", "[1]"),
            ("links", r#"{"internal":[{"n":1.10}]}"#),
        ],
    );
    // A content that has the form of a name, in a row that names no file.
    cache.insert("https://b/", &[("html", HTML), ("markdown", "00000000deadbeef")]);
    let rows = cache.read();
    assert_eq!(
        document(&rows["https://a/"]),
        json!({"url": "https://a/", "success": true, "html": HTML, "cleaned_html": "<p>",
            "markdown": {"raw_markdown": "# A"}, "extracted_content": "[1]", "media": {},
            "links": {"internal": [{"n": 1.10}]}, "metadata": {}})
    );
    assert_eq!((rows["https://a/"].hops, rows["https://a/"].losses.len()), (0, 0));
    assert_eq!(document(&rows["https://b/"])["markdown"], json!({"raw_markdown": "00000000deadbeef"}));
}

#[test]
fn every_column_becomes_a_field_and_an_empty_one_none() {
    let cache = Cache::new();
    let contents = [
        ("html", HTML),
        ("cleaned_html", "<p>clean"),
        ("markdown", "# Title"),
        ("extracted_content", "{\"a\":1}"),
        ("screenshot", "iVBORw0KGgo="),
    ];
    let files: Vec<(&str, String)> =
        contents.iter().map(|(column, text)| (*column, cache.file(column, text))).collect();
    let mut columns: Vec<(&str, &str)> =
        files.iter().map(|(column, name)| (*column, name.as_str())).collect();
    columns.extend([
        ("media", r#"{"images":[{"src":"a.png","score":1.50}]}"#),
        ("links", "{\"internal\":[],\n\"external\":[]}"),
        ("metadata", r#"{"title":"T"}"#),
        ("response_headers", r#"{"content-type":"text/html"}"#),
        ("downloaded_files", r#"["/tmp/a.pdf"]"#),
        ("etag", "\"e\""),
        ("last_modified", "Thu, 15 Jan 2026 10:30:00 GMT"),
        ("head_fingerprint", "0123"),
        ("cached_at", "1768473000.25"),
    ]);
    cache.insert("https://a/", &columns);
    cache.insert(
        "https://b/",
        &[("html", &hash(HTML)), ("markdown", ""), ("media", ""), ("metadata", "null")],
    );
    let rows = cache.read();
    let row = &rows["https://a/"];
    assert_eq!(
        document(row),
        json!({"url": "https://a/", "success": true, "html": HTML, "cleaned_html": "<p>clean",
            "markdown": {"raw_markdown": "# Title"}, "extracted_content": "{\"a\":1}", "screenshot": "iVBORw0KGgo=",
            "media": {"images": [{"src": "a.png", "score": 1.50}]}, "links": {"internal": [], "external": []},
            "metadata": {"title": "T"}, "response_headers": {"content-type": "text/html"},
            "downloaded_files": ["/tmp/a.pdf"]})
    );
    let page = row.page.as_ref().expect("a page");
    assert!(String::from_utf8_lossy(&page.document).contains("1.50"), "digits survive");
    assert_eq!(page.updated_at, Timestamp::from_millis(1_768_473_000_250));
    assert_eq!(page.validators.etag.as_deref(), Some("\"e\""));
    assert_eq!(page.validators.last_modified.as_deref(), Some("Thu, 15 Jan 2026 10:30:00 GMT"));
    assert_eq!(page.validators.head_fingerprint.as_deref(), Some("0123"));
    assert_eq!(row.hops, 1);

    let bare = &rows["https://b/"];
    assert_eq!(
        document(bare),
        json!({"url": "https://b/", "success": true, "html": HTML, "links": {}, "response_headers": {}})
    );
    assert!(bare.page.as_ref().expect("a page").validators.is_empty() && bare.losses.is_empty());
}

#[test]
fn markdown_is_what_it_was_whatever_it_looks_like() {
    let cache = Cache::middle();
    let variants = r##"{"raw_markdown":"# A","markdown_with_citations":"","references_markdown":"","fit_markdown":null,"fit_html":"<p>"}"##;
    let plain = [
        r#"{"a":1}"#,
        "[1,2]",
        "12345",
        "true",
        "null",
        "\"text\"",
        r#"{"raw_markdown":"a","other":"b"}"#,
        r#"{"raw_markdown":1}"#,
        r#"{"raw_markdown":null}"#,
        r#"{"fit_markdown":"a"}"#,
        "{",
        "# Title\r\n",
        // The form of a name, as the page's own text.
        "00000000deadbeef",
    ];
    for (n, text) in plain.iter().enumerate() {
        cache.page(&format!("https://a/{n}"), &[("html", HTML), ("markdown", text)]);
    }
    cache.page("https://b/", &[("html", HTML), ("markdown", variants)]);
    let rows = cache.read();
    for (n, text) in plain.iter().enumerate() {
        let row = &rows[&format!("https://a/{n}")];
        assert_eq!(document(row)["markdown"], json!({"raw_markdown": text}), "{text}");
        assert_eq!(row.losses, [], "{text}");
    }
    assert_eq!(
        document(&rows["https://b/"])["markdown"],
        serde_json::from_str::<Value>(variants).expect("JSON")
    );
}

#[test]
fn hashes_of_hashes_are_followed_to_the_content() {
    let contents = [
        ("html", HTML),
        ("cleaned_html", "<p>"),
        ("markdown", "# A"),
        ("extracted_content", "[]"),
        ("screenshot", "eA=="),
    ];
    let expected = json!({"url": "https://a/", "success": true, "html": HTML, "cleaned_html": "<p>",
        "markdown": {"raw_markdown": "# A"}, "extracted_content": "[]", "screenshot": "eA==",
        "media": {}, "links": {}, "metadata": {}, "response_headers": {}});
    let cache = Cache::new();
    cache.page("https://a/", &contents);
    for hops in 1..=6 {
        let rows = cache.read();
        assert_eq!((document(&rows["https://a/"]), rows["https://a/"].hops), (expected.clone(), hops));
        cache.upgrade();
    }
    // Rows of before and after an upgrade lie side by side.
    cache.page("https://b/", &contents);
    let rows = cache.read();
    assert_eq!((rows["https://a/"].hops, rows["https://b/"].hops), (7, 1));

    // The end of one chain is gone.
    fs::remove_file(cache.file_path("cleaned_html", &hash("<p>"))).expect("removed");
    let rows = cache.read();
    assert_eq!(rows["https://a/"].losses, [("cleaned_html", Loss::ChainBroken)]);
    assert_eq!(rows["https://b/"].losses, [("cleaned_html", Loss::Missing)]);
    assert_eq!(document(&rows["https://a/"])["cleaned_html"], Value::Null);
    fs::remove_file(cache.file_path("html", &hash(HTML))).expect("removed");
    let rows = cache.read();
    assert_eq!(rows["https://a/"].page.as_ref().unwrap_err(), &Skip::Html(Loss::ChainBroken));
    assert_eq!(rows["https://b/"].page.as_ref().unwrap_err(), &Skip::Html(Loss::Missing));
}

#[test]
fn a_page_that_looks_like_the_name_of_a_file_is_a_page() {
    const DIGITS: &str = "0123456789abcdef";
    let html = |cache: &Cache, url: &str| document(&cache.read()[url])["html"].clone();
    let cache = Cache::new();
    cache.page("https://a/", &[("html", DIGITS), ("cleaned_html", "<p>"), ("markdown", DIGITS)]);
    cache.page("https://b/", &[("html", DIGITS)]);
    for _ in 0..3 {
        assert_eq!([html(&cache, "https://a/"), html(&cache, "https://b/")], [DIGITS, DIGITS]);
        cache.upgrade();
    }
    // Its own file is gone: the other column says how many there should be.
    fs::remove_file(cache.file_path("html", &hash(DIGITS))).expect("removed");
    assert_eq!(cache.read()["https://a/"].page.as_ref().unwrap_err(), &Skip::Html(Loss::ChainBroken));

    let old = Cache::old();
    old.insert("https://a/", &[("html", DIGITS), ("markdown", "# A")]);
    old.insert("https://b/", &[("html", DIGITS)]);
    assert_eq!(html(&old, "https://a/"), DIGITS);
    let alone = old.read().remove("https://b/").expect("read");
    assert_eq!(alone.page.unwrap_err(), Skip::Html(Loss::Missing), "nothing tells it from a name");
}

#[test]
fn rows_with_text_are_upgraded_once_and_more() {
    let cache = Cache::old();
    cache.insert("https://a/", &[("html", HTML), ("markdown", "# A"), ("screenshot", "")]);
    for hops in 0..3 {
        let rows = cache.read();
        assert_eq!(document(&rows["https://a/"])["markdown"]["raw_markdown"], "# A");
        assert_eq!((&document(&rows["https://a/"])["html"], rows["https://a/"].hops), (&json!(HTML), hops));
        cache.upgrade();
    }
}

#[test]
fn files_that_name_each_other_end() {
    let cache = Cache::new();
    let (one, two) = ("1111111111111111", "2222222222222222");
    for (name, text) in [(one, two), (two, one)] {
        fs::write(cache.file_path("html", name), text).expect("written");
    }
    cache.insert("https://a/", &[("html", one)]);
    assert_eq!(cache.read()["https://a/"].page.as_ref().unwrap_err(), &Skip::Html(Loss::HashMismatch));
}

#[test]
fn files_that_are_not_what_was_written_are_found_out() {
    let cache = Cache::new();
    for (column, _) in FOLDERS {
        let text = format!("<p>{column}\n</p>\r\n");
        let name = cache.file(column, &text);
        for (url, bytes) in [
            ("cut", text.as_bytes()[..9].to_vec()),
            ("windows", text.replace('\n', "\r\n").into_bytes()),
            ("empty", Vec::new()),
            ("latin", b"\xe9".to_vec()),
        ] {
            // Each in a cache of its own: the files have one name.
            let damaged = Cache::new();
            let html = damaged.file("html", HTML);
            fs::write(damaged.file_path(column, &name), &bytes).expect("written");
            damaged.insert(url, &[("html", if column == "html" { &name } else { &html })]);
            if column != "html" {
                let sql = format!("update crawled_data set {column} = ?1");
                damaged.connect().execute(&sql, [&name]).expect("updated");
            }
            let row = damaged.read().remove(url).expect("read");
            if url == "windows" {
                let read = document(&row)[column].clone();
                let read = if column == "markdown" { read["raw_markdown"].clone() } else { read };
                assert_eq!(read, json!(text), "{column}");
            } else if column == "html" {
                assert_eq!(row.page.unwrap_err(), Skip::Html(Loss::HashMismatch), "{url}");
            } else {
                assert_eq!(row.losses, [(column, Loss::HashMismatch)], "{url}");
                assert_eq!(document(&row)[column], Value::Null);
            }
        }
    }
}

#[test]
fn rows_that_are_no_pages_say_why() {
    let cache = Cache::new();
    cache.page("https://good/", &[("html", HTML)]);
    cache.insert("https://failed/", &[("html", &hash(HTML)), ("success", "0")]);
    cache.insert("https://unknown/", &[("html", &hash(HTML))]);
    cache
        .connect()
        .execute("update crawled_data set success = null where url = 'https://unknown/'", [])
        .expect("set");
    cache.insert("https://empty/", &[("html", "")]);
    cache.insert("https://gone/", &[("html", "0123456789abcdef")]);
    cache.insert("file:///etc/hosts", &[("html", &hash(HTML))]);
    let rows = cache.read();
    let reason = |url: &str| rows[url].page.as_ref().map_or_else(|skip| skip.as_str(), |_| "");
    assert_eq!(reason("https://good/"), "");
    assert_eq!(reason("https://failed/"), "failed_page");
    assert_eq!(reason("https://unknown/"), "failed_page");
    assert_eq!(reason("https://empty/"), "no_html");
    assert_eq!(reason("https://gone/"), "html_missing");
    assert_eq!(reason("file:///etc/hosts"), "local_file");

    let rows =
        read(cache.path(), Filter { local_files: true, prefix: Some("file:".to_owned()), since: None });
    assert_eq!(rows.len(), 1);
    assert!(rows["file:///etc/hosts"].page.is_ok());
}

#[test]
fn json_that_is_none_costs_its_field_only() {
    let cache = Cache::new();
    let html = cache.file("html", HTML);
    for (n, (text, loss)) in [
        ("{\"a\":NaN}", Loss::BadJson),
        ("{\"a\":", Loss::BadJson),
        ("{} x", Loss::BadJson),
        ("[1]", Loss::WrongKind),
        ("12", Loss::WrongKind),
        ("\"text\"", Loss::WrongKind),
    ]
    .into_iter()
    .enumerate()
    {
        for column in ["media", "links", "metadata", "response_headers"] {
            let url = format!("https://a/{n}/{column}");
            cache.insert(&url, &[("html", &html), (column, text)]);
            let row = cache.read().remove(&url).expect("read");
            assert_eq!(row.losses, [(column, loss)], "{text}");
            assert_eq!(document(&row)[column], Value::Null, "{text}");
        }
    }
    cache.insert("https://b/", &[("html", &html), ("downloaded_files", "{\"a\":1}"), ("etag", "two\nlines")]);
    let row = cache.read().remove("https://b/").expect("read");
    assert_eq!(row.losses, [("downloaded_files", Loss::WrongKind), ("etag", Loss::NotAHeader)]);
    assert_eq!(row.page.expect("a page").validators.etag, None);
}

#[test]
fn pages_without_a_time_have_that_of_their_content() {
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let stamp = |path: &std::path::Path| {
        fs::File::options().write(true).open(path).expect("opened").set_modified(written).expect("set");
    };
    let cache = Cache::new();
    cache.page("https://a/", &[("html", HTML)]);
    stamp(&cache.file_path("html", &hash(HTML)));
    cache.upgrade();
    let old = Cache::old();
    old.insert("https://a/", &[("html", HTML)]);
    stamp(&old.database());
    for cache in [cache, old] {
        let row = cache.read().remove("https://a/").expect("read");
        assert_eq!(row.page.expect("a page").updated_at, Timestamp::from_secs(1_700_000_000));
        for (since, count) in [(1_699_999_999, 1), (1_700_000_001, 0)] {
            let filter = Filter { since: Some(Timestamp::from_secs(since)), ..Filter::default() };
            let rows = read(cache.path(), filter);
            assert_eq!(rows.values().filter(|row| row.page.is_ok()).count(), count);
        }
    }
}

#[test]
fn only_urls_that_begin_so_are_read() {
    let cache = Cache::new();
    for url in ["https://a/1", "https://a/2", "https://a_/", "https://b/"] {
        cache.page(url, &[("html", HTML)]);
    }
    let filter = Filter { prefix: Some("https://a/".to_owned()), ..Filter::default() };
    let urls: Vec<String> = read(cache.path(), filter).into_keys().collect();
    assert_eq!(urls, ["https://a/1", "https://a/2"]);
}
