//! One field as its own media type, sandboxed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{Answer, Server, at, result_of};

const URL: &str = "https://example.com/";

fn view(server: &Server, field: &str, more: &[(&str, &str)]) -> Answer {
    server.get(&at(&format!("/v1/result/{field}"), &[&[("url", URL)], more].concat()))
}

fn store(server: &Server, document: &serde_json::Value) {
    let status = server.put(&result_of(URL, &[]), document.to_string()).status;
    assert!(status < 300, "{status}");
}

#[test]
fn a_field_comes_as_its_own_media_type_and_cannot_run() {
    let server = Server::start(&[]);
    let html = "<script>alert(1)</script><p>ü \u{1f980}</p>".repeat(300);
    let (png, jpeg, webp) = (b"\x89PNG\r\n\x1a\nrest", b"\xff\xd8\xff\xe0rest", b"RIFF\0\0\0\0WEBPrest");
    let (other, pdf) = (b"GIF89a", b"%PDF-1.7 \xff\xfe");
    let documents = [
        ("html", json!({"html": html}), "text/html; charset=utf-8", html.as_bytes().to_vec()),
        ("markdown", json!({"markdown": "# Ü"}), "text/markdown; charset=utf-8", "# Ü".as_bytes().to_vec()),
        (
            "markdown",
            json!({"markdown": {"raw_markdown": "# raw", "fit_markdown": "fit"}}),
            "text/markdown; charset=utf-8",
            b"# raw".to_vec(),
        ),
        ("screenshot", json!({"screenshot": STANDARD.encode(png)}), "image/png", png.to_vec()),
        ("screenshot", json!({"screenshot": STANDARD.encode(jpeg)}), "image/jpeg", jpeg.to_vec()),
        ("screenshot", json!({"screenshot": STANDARD.encode(webp)}), "image/webp", webp.to_vec()),
        (
            "screenshot",
            json!({"screenshot": STANDARD.encode(other)}),
            "application/octet-stream",
            other.to_vec(),
        ),
        (
            "screenshot",
            json!({"screenshot": format!("data:image/png;base64,{}", STANDARD.encode(png))}),
            "image/png",
            png.to_vec(),
        ),
        ("pdf", json!({"pdf": STANDARD.encode(pdf)}), "application/pdf", pdf.to_vec()),
    ];
    for (field, document, media_type, bytes) in documents {
        store(&server, &document);
        let answer = view(&server, field, &[]).is(200);
        assert_eq!(answer.header("content-type"), Some(media_type), "{field}");
        assert!(answer.body == bytes, "{field}: {:?}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{field}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"), "{policy}");
        assert!(!policy.contains("allow-scripts"), "{policy}");
        for name in ["etag", "age", "last-modified", "cache-status", "x-request-id"] {
            assert!(answer.header(name).is_some(), "{field} lacks {name}");
        }
        let etag = answer.header("etag").expect("there").to_owned();
        let target = at(&format!("/v1/result/{field}"), &[("url", URL)]);
        let again = server.request("GET", &target).header("if-none-match", &etag).send().is(304);
        assert_eq!(again.header("etag"), Some(etag.as_str()));
    }
}

#[test]
fn a_form_of_the_markdown_can_be_named() {
    let server = Server::start(&[]);
    store(
        &server,
        &json!({"markdown": {"raw_markdown": "raw", "fit_markdown": "fit", "references_markdown": null}}),
    );
    assert_eq!(view(&server, "markdown", &[("form", "fit_markdown")]).is(200).body, b"fit");
    for form in ["references_markdown", "nothing", ""] {
        view(&server, "markdown", &[("form", form)]).problem(404, "field_not_found");
    }
}

#[test]
fn a_field_that_is_not_there_or_cannot_be_shown_is_404() {
    let server = Server::start(&[]);
    let nothing = view(&server, "html", &[]).problem(404, "result_not_found");
    assert_eq!(nothing["reason"], "absent");
    for document in [
        json!({}),
        json!({"html": null, "markdown": null, "screenshot": null, "pdf": null}),
        json!({"html": "", "markdown": {}, "screenshot": "", "pdf": ""}),
        json!({"html": 1, "markdown": [1], "screenshot": {"a": 1}, "pdf": true}),
        json!({"html": ["x"], "markdown": {"raw_markdown": 1}, "screenshot": "not base64!", "pdf": "%%%"}),
    ] {
        store(&server, &document);
        for field in ["html", "markdown", "screenshot", "pdf"] {
            view(&server, field, &[]).problem(404, "field_not_found");
        }
    }
}

#[test]
fn a_view_is_compressed_for_those_who_accept_it() {
    let server = Server::start(&[]);
    let html = "<p>again</p>".repeat(1000);
    store(&server, &json!({"html": html}));
    for coding in ["zstd", "gzip"] {
        let request = server.request("GET", &at("/v1/result/html", &[("url", URL)]));
        let answer = request.header("accept-encoding", coding).send().is(200);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.decoded(), html.as_bytes());
        assert!(answer.header("vary").is_some_and(|vary| vary.eq_ignore_ascii_case("accept-encoding")));
    }
}

#[test]
fn a_view_keeps_to_the_age_that_is_accepted() {
    let server = Server::start(&[]);
    server.put(&result_of(URL, &[("ttl", "0")]), json!({"html": "x"}).to_string()).is(201);
    let expired = crate::support::eventually("it expires", || {
        Some(view(&server, "html", &[])).filter(|answer| answer.status == 404)
    });
    assert_eq!(expired.problem(404, "result_not_found")["reason"], "expired");
    assert_eq!(view(&server, "html", &[("stale", "60")]).is(200).body, b"x");
}

#[test]
fn a_view_of_a_field_that_is_missing_is_a_miss() {
    let server = Server::start(&[]);
    store(&server, &json!({"html": "x", "markdown": ""}));
    for field in ["markdown", "pdf"] {
        let problem = view(&server, field, &[]).problem(404, "field_not_found");
        assert_eq!((&problem["reason"], &problem["field"]), (&json!("field_missing"), &json!(field)));
    }
    view(&server, "html", &[]).is(200);
    let lookups = server.metrics().counted("lookups_total");
    let of_views: Vec<_> = lookups.iter().filter(|(labels, _)| labels.contains("op=\"field\"")).collect();
    let count = |result: &str| -> u64 {
        let is = format!("result=\"{result}");
        of_views.iter().filter(|(labels, _)| labels.contains(&is)).map(|(_, count)| count).sum()
    };
    assert_eq!((count("miss_field"), count("hit_")), (2, 1), "{of_views:?}");
}
