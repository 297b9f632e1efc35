//! What is put comes back value for value: over every way in, every way out, and in every coding.

use serde_json::{Value, json};

use crate::support::documents::{assert_same, fields, full, gzip, odd, plain, zstd};
use crate::support::{Answer, Server, at, result_of};

const CODINGS: [&str; 3] = ["zstd", "gzip", "identity"];

fn documents() -> Vec<(String, String)> {
    let mut all = vec![
        ("the older table's document".to_owned(), plain("https://example.com/plain").to_string()),
        ("a crawler's full result".to_owned(), full("https://example.com/full").to_string()),
    ];
    all.extend(odd().into_iter().map(|(name, text)| (name.to_owned(), text)));
    all
}

fn get(server: &Server, target: &str, coding: &str) -> Answer {
    server.request("GET", target).header("accept-encoding", coding).send()
}

/// Reads a result in every coding, past the memory tier and through it, and compares it with what was sent.
#[track_caller]
fn assert_stored(server: &Server, name: &str, url: &str, sent: &str) {
    let target = result_of(url, &[]);
    for coding in CODINGS {
        for through in ["no-cache", "max-age=0"] {
            let request = server.request("GET", &target).header("cache-control", through);
            let answer = request.header("accept-encoding", coding).send().is(200);
            assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
            assert_eq!(answer.header("content-encoding").unwrap_or("identity"), coding, "{name}");
            assert_same(&format!("{name} in {coding}"), &answer.decoded(), sent.as_bytes());
        }
    }
}

#[test]
fn a_document_that_is_put_comes_back_value_for_value_in_every_coding() {
    let server = Server::start(&[]);
    for (number, (name, text)) in documents().into_iter().enumerate() {
        for sending in CODINGS {
            let url = format!("https://example.com/{number}/{sending}");
            let body = match sending {
                "zstd" => zstd(text.as_bytes()),
                "gzip" => gzip(text.as_bytes()),
                _ => text.clone().into_bytes(),
            };
            let request = server.request("PUT", &result_of(&url, &[])).header("content-encoding", sending);
            let put = request.body(body).send().is(201).json();
            assert_eq!((&put["outcome"], &put["url"]), (&json!("created"), &json!(url)), "{name}");
            assert_stored(&server, &name, &url, &text);
        }
    }
}

#[test]
fn a_document_that_is_posted_is_stored_under_its_own_url() {
    let server = Server::start(&[]);
    for url in ["https://example.com/plain", "https://example.com/full?a=b&c=d#e"] {
        for document in [plain(url), full(url)] {
            let answer = server.request("POST", "/v1/results").json(&document).send();
            assert!(answer.status == 201 || answer.status == 200, "{}", answer.status);
            assert_eq!(answer.json()["url"], url);
            assert_stored(&server, "posted", url, &document.to_string());
        }
    }
    // `ttl` and the times in the document are part of the document.
    let answer = server.get(&result_of("https://example.com/plain", &[])).is(200);
    assert!(
        answer.header("cache-status").expect("there").contains("ttl=2591999")
            || answer.header("cache-status").expect("there").contains("ttl=2592000")
    );
}

#[test]
fn documents_that_come_in_a_batch_come_back_value_for_value() {
    let server = Server::start(&[]);
    let one_line = |text: &str| text.replace(['\n', '\r', '\t'], " ");
    let documents: Vec<(String, String)> =
        documents().into_iter().map(|(name, text)| (name, one_line(&text))).collect();
    let url = |n: usize| format!("https://example.com/batch/{n}");
    let lines: Vec<String> = documents
        .iter()
        .enumerate()
        .map(|(n, (_, text))| format!("{{\"url\":{},\"document\":{text}}}\n", json!(url(n))))
        .collect();
    let outcomes =
        server.request("POST", "/v1/results/batch-put").ndjson(lines.concat()).send().is(200).lines();
    assert_eq!(outcomes.len(), documents.len());
    for (outcome, (name, _)) in outcomes.iter().zip(&documents) {
        assert_eq!(outcome["status"], 201, "{name}: {outcome}");
    }
    for (n, (name, text)) in documents.iter().enumerate() {
        assert_stored(&server, name, &url(n), text);
    }
    // And out again in a batch: the raw text of the member `document` is what was sent.
    let keys: Vec<String> = (0..documents.len()).map(url).collect();
    let answer = server.post("/v1/results/batch-get", &json!({"keys": keys})).is(200);
    let text = String::from_utf8(answer.decoded()).expect("UTF-8");
    assert_eq!(text.lines().count(), documents.len());
    for (line, (name, sent)) in text.lines().zip(&documents) {
        let members = fields(line.as_bytes());
        assert_eq!(members["status"], "200", "{name}");
        assert_same(name, members["document"].as_bytes(), sent.as_bytes());
    }
}

#[test]
fn a_projection_holds_the_fields_that_were_asked_for_and_no_other() {
    let server = Server::start(&[]);
    let url = "https://example.com/full";
    let sent = full(url).to_string();
    server.put(&result_of(url, &[]), sent.clone()).is(201);
    let all = fields(sent.as_bytes());
    let small = |name: &str| all[name].len() <= 1024;
    for asked in [
        "head",
        "head,markdown",
        "markdown,head",
        "head,markdown,extracted_content",
        "head,markdown,extracted_content,cleaned_html,html",
        "html",
        "markdown",
        "url",
        "url,html,screenshot",
        "links,status_code",
        "tables,html,nothing",
        "nothing",
        "cached_at,cached_at",
    ] {
        let names: Vec<&str> = asked.split(',').collect();
        let expected: Vec<&str> = all
            .keys()
            .map(String::as_str)
            .filter(|name| names.contains(name) || (names.contains(&"head") && small(name)))
            .collect();
        for coding in CODINGS {
            for _ in 0..2 {
                let answer = get(&server, &result_of(url, &[("fields", asked)]), coding).is(200);
                let actual = fields(&answer.decoded());
                assert!(actual.keys().eq(expected.iter()), "{asked} in {coding}: {:?}", actual.keys());
                assert!(actual.iter().all(|(name, value)| all[name] == *value), "{asked} in {coding}");
            }
        }
    }
    // The first fields in zstd are a slice of what is stored: much smaller than the whole.
    let whole = get(&server, &result_of(url, &[]), "zstd").body.len();
    let head = get(&server, &result_of(url, &[("fields", "head")]), "zstd").body.len();
    assert!(head * 5 < whole, "{head} of {whole}");
}

#[test]
fn head_says_what_get_says_without_a_body() {
    let server = Server::start(&[]);
    let url = "https://example.com/full";
    server.put(&result_of(url, &[]), full(url).to_string()).is(201);
    for target in [
        result_of(url, &[]),
        result_of(url, &[("fields", "head")]),
        result_of(url, &[("fields", "html,url")]),
        at("/v1/result/html", &[("url", url)]),
        at("/v1/result/screenshot", &[("url", url)]),
        result_of("https://example.com/absent", &[]),
        "/v1/results".to_owned(),
        "/livez".to_owned(),
        "/nowhere".to_owned(),
    ] {
        // A view is compressed as it is sent, which a HEAD does not do (RFC 9110 section 9.3.2 leaves that open).
        let codings = if target.starts_with("/v1/result/") { &CODINGS[2..] } else { &CODINGS[..] };
        for coding in codings {
            let mut connection = server.connect();
            let ask = |method: &str| server.request(method, &target).header("accept-encoding", coding);
            let get = ask("GET").send_on(&mut connection).expect("an answer");
            let head = ask("HEAD").send_on(&mut connection).expect("an answer");
            assert!(head.body.is_empty());
            // The connection still stands at the start of an answer: no byte of a body was sent.
            server.request("GET", "/livez").send_on(&mut connection).expect("an answer").is(200);
            let stable = |answer: &Answer| -> Vec<(String, String)> {
                let moving = ["date", "x-request-id", "age", "cache-status"];
                let headers = answer.headers.iter().filter(|(name, _)| !moving.contains(&name.as_str()));
                headers.cloned().collect()
            };
            assert_eq!((head.status, stable(&head)), (get.status, stable(&get)), "{target} in {coding}");
        }
    }
}

#[test]
fn the_answer_to_a_write_says_what_was_stored() {
    let server = Server::start(&[]);
    let target = result_of("https://example.com/", &[("variant", "mobile"), ("ttl", "60")]);
    let put = |text: &str| server.put(&target, text);
    let created = put(r#"{"a":1}"#).is(201);
    let stored = created.json();
    assert_eq!(
        (&stored["outcome"], &stored["variant"], &stored["raw_bytes"]),
        (&json!("created"), &json!("mobile"), &json!(7))
    );
    let etag = stored["etag"].as_str().expect("a string").to_owned();
    assert_eq!(created.header("etag"), Some(format!("\"{etag}\"").as_str()));
    assert_eq!(etag.len(), 32);
    let refreshed = put(r#"{"a":1}"#).is(200).json();
    assert_eq!((&refreshed["outcome"], &refreshed["etag"]), (&json!("refreshed"), &json!(etag)));
    let replaced = put(r#"{"a":2}"#).is(200).json();
    assert_eq!(replaced["outcome"], "replaced");
    assert_ne!(replaced["etag"], json!(etag));
}

#[test]
fn urls_and_variants_that_differ_are_different_results() {
    let server = Server::start(&[]);
    let keys = [
        ("https://example.com/a", ""),
        ("https://example.com/a/", ""),
        ("https://example.com/A", ""),
        ("https://EXAMPLE.com/a", ""),
        ("http://example.com/a", ""),
        ("https://example.com:443/a", ""),
        ("https://example.com/a#part", ""),
        ("https://example.com/a?utm_source=x", ""),
        ("https://example.com/%61", ""),
        ("https://example.com/a%2Fb+c&d=ü", ""),
        ("https://例え.jp/パス", ""),
        ("file:///tmp/page.html", ""),
        ("https://example.com/a", "mobile"),
        ("https://example.com/a", "MOBILE"),
        ("https://example.com/a", "sha256:00ff+/="),
    ];
    let target = |url: &str, variant: &str| result_of(url, &[("variant", variant)]);
    for (n, (url, variant)) in keys.iter().enumerate() {
        server.put(&target(url, variant), json!({"n": n}).to_string()).is(201);
    }
    for (n, (url, variant)) in keys.iter().enumerate() {
        assert_eq!(server.get(&target(url, variant)).is(200).json(), json!({"n": n}), "{url} {variant}");
    }
}

#[test]
fn canonical_urls_are_one_result_where_configured() {
    let server = Server::start(&[("results.canonical_urls", "v1")]);
    server.put(&result_of("https://Example.com:443/a?utm_source=x#part", &[]), r#"{"n":1}"#).is(201);
    for url in ["https://example.com/a", "https://EXAMPLE.com/a#other"] {
        assert_eq!(server.get(&result_of(url, &[])).is(200).json(), json!({"n": 1}), "{url}");
    }
    server.get(&result_of("https://example.com/a/", &[])).problem(404, "result_not_found");
}

#[test]
fn a_patch_adds_changes_and_removes_fields_and_leaves_the_rest_to_the_byte() {
    let server = Server::start(&[]);
    let url = "https://example.com/";
    let target = result_of(url, &[]);
    server.put(&target, r#"{"n":1.500,"o":{"x":1e2,"y":2},"gone":"soon","html":"h"}"#).is(201);
    let patch = json!({"o": {"y": 3, "z": null}, "gone": null, "screenshot": "iVBORw0KGgo="});
    for (name, value) in [("content-type", "application/merge-patch+json"), ("x-other", "none")] {
        let answer =
            server.request("PATCH", &target).header(name, value).body(patch.to_string()).send().is(200);
        let stored = answer.json();
        assert!(stored["outcome"] == "replaced" || stored["outcome"] == "refreshed", "{stored}");
        let expected = r#"{"n":1.500,"o":{"x":1e2,"y":3},"html":"h","screenshot":"iVBORw0KGgo="}"#;
        assert_stored(&server, "patched", url, expected);
    }
    let large = full(url).to_string();
    server.put(&target, large.clone()).is(200);
    server.request("PATCH", &target).body(r#"{"extra":1.0}"#).send().is(200);
    let expected = format!("{},\"extra\":1.0}}", large.strip_suffix('}').expect("an object"));
    assert_stored(&server, "a large one", url, &expected);
}

#[test]
fn a_stock_http_client_understands_it_all() {
    let server = Server::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let base = format!("http://{}", server.address());
        let url = "https://example.com/ü?a=b c".replace(' ', "%20");
        let document = plain(&url);
        let put = client.put(format!("{base}{}", result_of(&url, &[]))).json(&document).send().await;
        assert_eq!(put.expect("an answer").status(), 201);
        let got = client.get(format!("{base}{}", result_of(&url, &[]))).send().await.expect("an answer");
        assert_eq!(got.json::<Value>().await.expect("JSON"), document);
        let pieces = document.to_string().into_bytes();
        let pieces: Vec<std::io::Result<Vec<u8>>> =
            pieces.chunks(1000).map(|piece| Ok(piece.to_vec())).collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let posted = client.post(format!("{base}/v1/results")).body(body).send().await.expect("an answer");
        assert_eq!(posted.status(), 200);
        assert_eq!(posted.json::<Value>().await.expect("JSON")["outcome"], "refreshed");
    });
}
