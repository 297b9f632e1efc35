//! Query strings, headers, routes and methods that are wrong: each refusal says what is.

use serde_json::json;

use crate::support::{Server, at, result_of};

#[test]
fn a_url_that_cannot_name_a_page_is_refused() {
    let server = Server::start(&[]);
    let long = format!("https://example.com/{}", "x".repeat(9 << 10));
    for url in [
        "",
        "/path",
        "example.com/page",
        "//example.com/",
        "https://",
        "http:///page",
        "https://example.com/a b",
        " https://example.com/",
        "https://example.com/\u{1}",
        "https://example.com/\n",
        "https://example.com/\u{0}",
        "https://example.com/\u{7f}",
        "https://example.com/\u{a0}",
        &long,
    ] {
        let target = result_of(url, &[]);
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let answer = server.request(method, &target).body("{}").send();
            answer.problem_with(400, "invalid_url", "url");
        }
        server.get(&at("/v1/result/markdown", &[("url", url)])).problem_with(400, "invalid_url", "url");
    }
}

#[test]
fn a_missing_url_is_named() {
    let server = Server::start(&[]);
    for (method, target) in [
        ("GET", "/v1/result"),
        ("GET", "/v1/result?variant=v"),
        ("PUT", "/v1/result"),
        ("PATCH", "/v1/result"),
        ("DELETE", "/v1/result?URL=https://a/"),
        ("GET", "/v1/result/html"),
    ] {
        let answer = server.request(method, target).body("{}").send();
        let problem = answer.problem(400, "invalid_parameter");
        let field = if target.contains("URL") { "URL" } else { "url" };
        assert_eq!(problem["field"], field, "{method} {target}: {problem}");
    }
}

#[test]
fn percent_encoding_that_is_not_utf8_is_refused_and_named() {
    let server = Server::start(&[]);
    for (query, field) in [
        ("url=https://a/%ff", "url"),
        ("url=https://a/%C3", "url"),
        ("url=https://a/&variant=%80", "variant"),
        ("url=https://a/&%ff=1", "%ff"),
    ] {
        server.get(&format!("/v1/result?{query}")).problem_with(400, "invalid_parameter", field);
    }
}

#[test]
fn a_variant_is_bounded_in_characters() {
    let server = Server::start(&[]);
    let put = |variant: &str| server.put(&result_of("https://a/", &[("variant", variant)]), "{}");
    put(&"é".repeat(256)).is(201);
    for variant in [&"v".repeat(257)[..], "two words", "line\nbreak", "\u{0}"] {
        put(variant).problem_with(400, "invalid_variant", "variant");
    }
}

#[test]
fn an_unknown_parameter_is_refused_and_named_on_every_route() {
    let server = Server::start(&[]);
    for (method, path) in [
        ("GET", "/v1/result?url=https://a/&"),
        ("PUT", "/v1/result?url=https://a/&"),
        ("PATCH", "/v1/result?url=https://a/&"),
        ("DELETE", "/v1/result?url=https://a/&"),
        ("GET", "/v1/result/markdown?url=https://a/&"),
        ("GET", "/v1/result/html?url=https://a/&"),
        ("GET", "/v1/result/screenshot?url=https://a/&"),
        ("GET", "/v1/result/pdf?url=https://a/&"),
        ("GET", "/v1/results?"),
        ("POST", "/v1/results?"),
        ("GET", "/v1/results/export?"),
        ("POST", "/v1/results/lookup?"),
        ("POST", "/v1/results/batch-get?"),
        ("POST", "/v1/results/batch-put?"),
        ("POST", "/v1/results/import?"),
        ("POST", "/v1/results/purge?"),
        ("GET", "/v1/stats?"),
    ] {
        for parameter in ["nonsense=1", "maxage=5", "Url=x"] {
            let answer = server.request(method, &format!("{path}{parameter}")).body("{}").send();
            let field = parameter.split('=').next().expect("a name");
            answer.problem_with(400, "invalid_parameter", field);
        }
    }
    // What asks for health or scrapes may add what it likes.
    for path in ["/livez?x=1", "/readyz?verbose", "/health?x=1", "/metrics?x=1", "/openapi.json?x=1"] {
        server.get(path).is(200);
    }
}

#[test]
fn a_parameter_given_twice_is_refused_and_named() {
    let server = Server::start(&[]);
    for (query, field) in
        [("url=https://a/&url=https://b/", "url"), ("url=https://a/&stale=1&stale=1", "stale")]
    {
        server.get(&format!("/v1/result?{query}")).problem_with(400, "invalid_parameter", field);
    }
    server.get("/v1/results?host=a&host=b").problem_with(400, "invalid_parameter", "host");
}

#[test]
fn a_number_that_is_none_or_out_of_range_is_refused_and_named() {
    let server = Server::start(&[]);
    for (method, path, name, values) in [
        (
            "PUT",
            "/v1/result",
            "ttl",
            &["-1", "x", "1.5", "", "1e3", "0x10", "315360001", "18446744073709551616"][..],
        ),
        ("PATCH", "/v1/result", "ttl", &["-1", "315360001"]),
        ("PATCH", "/v1/result", "confirmed", &["yes", "1", ""]),
        ("GET", "/v1/result", "max_age", &["-1", "x", "1.5", "", "18446744073709551616"]),
        ("GET", "/v1/result", "stale", &["-1", "never", ""]),
        ("GET", "/v1/result/html", "max_age", &["-1"]),
    ] {
        for value in values {
            let target = at(path, &[("url", "https://a/"), (name, value)]);
            let answer = server.request(method, &target).body("{}").send();
            answer.problem_with(400, "invalid_parameter", name);
        }
    }
    for (name, values) in [
        ("limit", &["0", "1001", "-1", "ten", ""][..]),
        ("status", &["-1", "65536", "OK"]),
        ("since", &["yesterday", "2026-13-01T00:00:00Z", ""]),
        ("until", &["x"]),
        ("expired", &["maybe"]),
        ("host", &[""]),
        ("prefix", &[""]),
    ] {
        for value in values {
            let answer = server.get(&at("/v1/results", &[(name, value)]));
            answer.problem_with(400, "invalid_parameter", name);
        }
    }
    server.get("/v1/results?host=a&prefix=https://a/").problem(400, "invalid_parameter");
    assert_eq!(server.entries(), 0);
}

#[test]
fn a_list_of_names_with_an_empty_one_is_refused() {
    let server = Server::start(&[]);
    for name in ["fields", "require"] {
        for value in ["", "html,", ",", "a,,b"] {
            let target = result_of("https://a/", &[(name, value)]);
            server.get(&target).problem_with(400, "invalid_parameter", name);
        }
    }
}

#[test]
fn a_cursor_belongs_to_its_query() {
    let server = Server::start(&[]);
    for n in 0..3 {
        server.put(&result_of(&format!("https://a.example/{n}"), &[]), "{}").is(201);
    }
    let page = server.get("/v1/results?host=a.example&limit=1").is(200).json();
    let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
    let with = |query: &str, cursor: &str| server.get(&format!("/v1/results?{query}cursor={cursor}"));
    with("host=a.example&limit=2&", &cursor).is(200);
    let mut flipped = cursor.clone().into_bytes();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("ASCII");
    for (query, cursor) in [
        ("", cursor.as_str()),
        ("host=b.example&", &cursor),
        ("host=a.example&status=200&", &cursor),
        ("host=a.example&", "garbage"),
        ("host=a.example&", "!!!"),
        ("host=a.example&", ""),
        ("host=a.example&", "AAAA"),
        ("host=a.example&", &cursor[..cursor.len() - 4]),
        ("host=a.example&", &flipped),
    ] {
        with(query, cursor).problem_with(400, "invalid_cursor", "cursor");
    }
    let other = server.get(&format!("/v1/results/export?host=a.example&cursor={cursor}"));
    other.problem_with(400, "invalid_cursor", "cursor");
}

#[test]
fn an_unknown_route_is_404() {
    let server = Server::start(&[]);
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/result/",
        "/v1/results/",
        "/v1/result/css",
        "/V1/result",
        "/v2/result",
        "//",
    ] {
        server.get(path).problem(404, "not_found");
    }
}

#[test]
fn a_wrong_method_is_405_with_those_that_are_right() {
    let server = Server::start(&[]);
    for (method, path, allowed) in [
        ("POST", "/v1/result", &["GET", "HEAD", "PUT", "PATCH", "DELETE"][..]),
        ("DELETE", "/v1/results", &["GET", "HEAD", "POST"]),
        ("GET", "/v1/results/lookup", &["POST"]),
        ("PUT", "/v1/results/import", &["POST"]),
        ("POST", "/v1/results/export", &["GET", "HEAD"]),
        ("POST", "/livez", &["GET", "HEAD"]),
        ("BREW", "/metrics", &["GET", "HEAD"]),
        ("OPTIONS", "/v1/stats", &["GET", "HEAD"]),
    ] {
        let answer = server.request(method, path).send();
        answer.problem(405, "method_not_allowed");
        let mut allow: Vec<&str> =
            answer.header("allow").expect("an Allow header").split(',').map(str::trim).collect();
        let mut allowed = allowed.to_vec();
        allow.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(allow, allowed, "{method} {path}");
    }
}

#[test]
fn a_precondition_that_cannot_be_read_is_refused_and_named() {
    let server = Server::start(&[]);
    let target = result_of("https://a/", &[]);
    server.put(&target, "{}").is(201);
    for (name, value) in [
        ("if-match", "abc"),
        ("if-match", "\"abc"),
        ("if-match", "W/abc"),
        ("if-match", "\"a\" \"b\""),
        ("if-match", ""),
        ("if-none-match", "\"a\""),
        ("if-none-match", "abc"),
    ] {
        for method in ["PUT", "PATCH", "DELETE"] {
            let answer = server.request(method, &target).header(name, value).body("{\"x\":1}").send();
            answer.problem_with(400, "invalid_header", name);
        }
    }
    let both = server.request("PUT", &target).header("if-match", "*").header("if-none-match", "*");
    both.body("{\"x\":1}").send().problem(400, "invalid_header");
    let get = server.request("GET", &target).header("if-none-match", "abc").send();
    get.problem_with(400, "invalid_header", "if-none-match");
    assert_eq!(server.get(&target).is(200).body, b"{}");
}

#[test]
fn an_accept_encoding_that_leaves_nothing_is_406() {
    let server = Server::start(&[]);
    let target = result_of("https://a/", &[]);
    server.put(&target, "{}").is(201);
    for accept in ["identity;q=0", "*;q=0", "br, identity;q=0"] {
        let answer = server.request("GET", &target).header("accept-encoding", accept).send();
        answer.problem(406, "not_acceptable");
    }
}

#[test]
fn small_json_bodies_are_checked_like_parameters() {
    let server = Server::start(&[]);
    for (path, body, code, field) in [
        ("lookup", json!({}), "invalid_field", Some("keys")),
        ("lookup", json!({"keys": "https://a/"}), "invalid_field", Some("keys")),
        ("lookup", json!({"keys": [], "maxage": 1}), "invalid_field", Some("maxage")),
        ("lookup", json!({"keys": [], "max_age": -1}), "invalid_field", Some("max_age")),
        ("lookup", json!([]), "invalid_field", None),
        ("batch-get", json!({"keys": {}}), "invalid_field", Some("keys")),
        ("batch-get", json!({"keys": [], "fields": "html"}), "invalid_field", Some("fields")),
        ("purge", json!({}), "invalid_field", None),
        ("purge", json!({"dry_run": true}), "invalid_field", None),
        ("purge", json!({"older_than": "1d"}), "invalid_field", Some("older_than")),
        ("purge", json!({"host": ""}), "invalid_parameter", Some("host")),
        ("purge", json!({"hosts": "a"}), "invalid_field", Some("hosts")),
    ] {
        let problem = server.post(&format!("/v1/results/{path}"), &body).problem(400, code);
        assert_eq!(problem.get("field").and_then(|field| field.as_str()), field, "{path} {body}: {problem}");
    }
    for path in ["lookup", "batch-get", "purge"] {
        let answer = server.request("POST", &format!("/v1/results/{path}")).body("{\"").send();
        answer.problem(400, "malformed_json");
    }
}

#[test]
fn a_request_that_is_not_http_gets_400_and_its_connection_is_closed() {
    let server = Server::start(&[]);
    for head in
        ["GET /livez HTTP/1.1\r\nno colon\r\n\r\n", "nonsense\r\n\r\n", "GET / HTTP/1.1\r\nx: \x01\r\n\r\n"]
    {
        let mut connection = server.connect();
        connection.write(head.as_bytes()).expect("sent");
        let answer = connection.answer("GET").expect("an answer");
        assert_eq!(answer.status, 400, "{head:?}");
        assert!(connection.is_closed_by_the_server(), "{head:?}");
    }
    server.get("/livez").is(200);
}
