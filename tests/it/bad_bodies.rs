//! Bodies that no client should send: each is refused with its own code, and nothing of them is stored.

use crate::support::documents::{gzip, zstd};
use crate::support::{Answer, Server, result_of};

const URL: &str = "https://example.com/page";

fn put(server: &Server, body: impl Into<Vec<u8>>, coding: Option<&str>) -> Answer {
    let request = server.request("PUT", &result_of(URL, &[])).header("content-type", "application/json");
    match coding {
        Some(coding) => request.header("content-encoding", coding).body(body).send(),
        None => request.body(body).send(),
    }
}

fn assert_nothing_stored(server: &Server) {
    let answer = server.get(&result_of(URL, &[]));
    assert_eq!(answer.problem(404, "result_not_found")["reason"], "absent");
    assert_eq!(server.entries(), 0);
}

#[test]
fn what_is_not_json_is_malformed() {
    let server = Server::start(&[]);
    for body in [
        &b""[..],
        b"{",
        b"{\"a\":1",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"{\"a\":01}",
        b"{\"a\":NaN}",
        b"{} {}",
        b"{\"a\":\"\x01\"}",
        b"{\"a\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        b"<html>",
    ] {
        put(&server, body, None).problem(400, "malformed_json");
    }
    server.request("PUT", &result_of(URL, &[])).send().problem(400, "malformed_json");
    assert_nothing_stored(&server);
}

#[test]
fn json_that_is_no_object_is_refused() {
    let server = Server::start(&[]);
    for body in ["[]", "[{\"url\":\"https://a/\"}]", "1", "\"{}\"", "null", " true "] {
        put(&server, body, None).problem(400, "not_an_object");
        let posted = server.request("POST", "/v1/results").body(body).send();
        posted.problem(400, "not_an_object");
    }
    assert_nothing_stored(&server);
}

#[test]
fn a_field_that_appears_twice_is_refused_and_named() {
    let server = Server::start(&[]);
    for body in [r#"{"html":"a","x":1,"html":"b"}"#, r#"{"html":"a","\u0068tml":"a"}"#] {
        put(&server, body, None).problem_with(400, "duplicate_field", "html");
        put(&server, zstd(body.as_bytes()), Some("zstd")).problem_with(400, "duplicate_field", "html");
    }
    assert_nothing_stored(&server);
    put(&server, "{}", None).is(201);
    let patched = server.request("PATCH", &result_of(URL, &[])).body(r#"{"a":1,"a":2}"#).send();
    patched.problem_with(400, "duplicate_field", "a");
}

#[test]
fn more_fields_than_anything_can_index_are_refused() {
    let server = Server::start(&[]);
    let fields: Vec<String> = (0..=16_384).map(|n| format!("\"{n}\":0")).collect();
    put(&server, format!("{{{}}}", fields.join(",")), None).problem(400, "too_many_fields");
    let long = format!("{{\"{}\":0}}", "n".repeat(8 << 20));
    put(&server, long.clone(), None).problem(400, "too_many_fields");
    put(&server, zstd(format!("{long}{}", " ".repeat(1 << 20)).as_bytes()), Some("zstd"))
        .problem(400, "too_many_fields");
    assert_nothing_stored(&server);
}

#[test]
fn a_foreign_content_type_is_415_on_every_route_that_takes_a_body() {
    let server = Server::start(&[]);
    let result = result_of(URL, &[]);
    for (method, target, foreign) in [
        ("PUT", result.as_str(), "text/html"),
        ("PUT", &result, "application/x-www-form-urlencoded"),
        ("PUT", &result, "application/x-ndjson"),
        ("PUT", &result, "json"),
        ("PATCH", &result, "application/json-patch+json"),
        ("POST", "/v1/results", "text/plain"),
        ("POST", "/v1/results/lookup", "text/plain"),
        ("POST", "/v1/results/batch-get", "application/x-ndjson"),
        ("POST", "/v1/results/batch-put", "application/json"),
        ("POST", "/v1/results/import", "application/json"),
        ("POST", "/v1/results/purge", "text/plain"),
    ] {
        let answer = server.request(method, target).header("content-type", foreign).body("{}").send();
        let problem = answer.problem(415, "unsupported_media_type");
        assert!(problem["accepted"].is_string(), "{method} {target}: {problem}");
    }
    assert_nothing_stored(&server);
    for fine in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.crawler+json"] {
        let answer = server.request("PUT", &result).header("content-type", fine).body("{}").send();
        assert!(answer.status < 300, "{fine}");
    }
}

#[test]
fn an_unknown_content_coding_is_415_and_names_those_that_are_known() {
    let server = Server::start(&[]);
    for coding in ["br", "deflate", "zstd, gzip", "compress"] {
        let answer = put(&server, "{}", Some(coding));
        answer.problem(415, "unsupported_encoding");
        assert_eq!(answer.header("accept-encoding"), Some("zstd, gzip, identity"), "{coding}");
    }
    for route in ["batch-put", "import"] {
        let lines = zstd(b"{\"url\":\"https://a/\",\"document\":{}}\n");
        let request = server.request("POST", &format!("/v1/results/{route}"));
        let answer = request.header("content-encoding", "zstd").ndjson(lines).send();
        answer.problem(415, "unsupported_encoding");
    }
    assert_nothing_stored(&server);
}

#[test]
fn a_broken_coding_is_refused_wherever_it_breaks() {
    let server = Server::start(&[]);
    let json = format!("{{\"html\":\"{}\"}}", "<p>text</p>".repeat(5000));
    for (coding, whole) in [("zstd", zstd(json.as_bytes())), ("gzip", gzip(json.as_bytes()))] {
        for cut in [1, whole.len() / 2, whole.len() - 1] {
            put(&server, &whole[..cut], Some(coding)).problem(400, "malformed_encoding");
        }
        let mut flipped = whole.clone();
        flipped[0] ^= 0xff;
        put(&server, flipped, Some(coding)).problem(400, "malformed_encoding");
        put(&server, [&whole[..], b"trailing"].concat(), Some(coding)).problem(400, "malformed_encoding");
        put(&server, json.as_bytes(), Some(coding)).problem(400, "malformed_encoding");
        assert_nothing_stored(&server);
    }
    // A window that would take 128 MiB of memory: RFC 9659 lets nobody ask for more than 8 MiB.
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(27).expect("a window");
    std::io::Write::write_all(&mut encoder, json.as_bytes()).expect("in memory");
    let wide = encoder.finish().expect("in memory");
    put(&server, wide, Some("zstd")).problem(400, "malformed_encoding");
    assert_nothing_stored(&server);
}

#[test]
fn a_posted_document_needs_a_url() {
    let server = Server::start(&[]);
    for body in ["{}", r#"{"url":null}"#, r#"{"url":["https://a/"]}"#, r#"{"URL":"https://a/"}"#] {
        let answer = server.request("POST", "/v1/results").body(body).send();
        answer.problem_with(400, "invalid_field", "url");
    }
    let answer = server.request("POST", "/v1/results").body(r#"{"url":"/relative"}"#).send();
    answer.problem_with(400, "invalid_url", "url");
}

#[test]
fn a_patch_that_is_no_merge_patch_changes_nothing() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let patch = |body: &str| server.request("PATCH", &target).body(body).send();
    assert_eq!(patch("{}").problem(404, "result_not_found")["reason"], "absent");
    put(&server, r#"{"a":1}"#, None).is(201);
    patch("[]").problem(400, "not_an_object");
    patch("{").problem(400, "malformed_json");
    patch("").problem(400, "malformed_json");
    assert_eq!(server.get(&target).is(200).body, br#"{"a":1}"#);
}
