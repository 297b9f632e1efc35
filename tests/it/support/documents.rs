//! Documents to store, and the check that they came back value for value.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Letters without a pattern, so that they hardly compress; the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut letter = || {
        state = xorshift(state);
        char::from(b'0' + (state >> 40).to_le_bytes()[0] % 42)
    };
    (0..bytes).map(|_| letter()).collect()
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

/// Text of about `bytes` bytes that looks like a page; the same for the same seed.
pub(crate) fn prose(seed: u64, bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "crawler",
        "cache",
        "<p>",
        "</p>",
        "größer",
        "fresh",
        "\"quoted\"",
        "back\\slash",
        "expires",
        "naïve",
        "Tokyo 東京",
        "header",
        "🦀",
        "link",
        "&amp;",
        "\n",
    ];
    let mut text = String::with_capacity(bytes + 16);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() < bytes {
        state = xorshift(state);
        text.push_str(WORDS[(state >> 59) as usize & 15]);
        text.push(' ');
    }
    text
}

/// A document as the fleet's older table has it.
pub(crate) fn plain(url: &str) -> Value {
    json!({
        "url": url, "success": true, "html": prose(1, 3000), "cleaned_html": prose(2, 2000),
        "markdown": {
            "raw_markdown": prose(3, 1500), "markdown_with_citations": prose(4, 1500),
            "references_markdown": "", "fit_markdown": prose(5, 300), "fit_html": "",
        },
        "extracted_content": "", "media": {}, "links": {}, "metadata": {"title": "A page"},
        "response_headers": {"content-type": "text/html"}, "downloaded_files": [], "screenshot": "",
        "status_code": 200, "error_message": "", "session_id": "",
        "created_at": "2025-01-15T10:30:00Z", "updated_at": "2025-01-15T10:30:00Z", "ttl": 1_706_184_600,
    })
}

/// A result with every field that a crawler's result has, the large ones large.
pub(crate) fn full(url: &str) -> Value {
    let links: Vec<Value> = (0..200)
        .map(|n| json!({"href": format!("https://example.com/{n}"), "text": prose(n, 40), "score": n}))
        .collect();
    json!({
        "url": url, "html": prose(11, 90_000), "fit_html": prose(12, 8000), "success": true,
        "cleaned_html": prose(13, 40_000),
        "media": {"images": [{"src": "https://example.com/a.png", "alt": "", "score": 3}], "videos": [], "audios": []},
        "links": {"internal": links, "external": []}, "downloaded_files": null,
        "js_execution_result": {"success": true, "results": [null, 1.5, "x"]},
        "screenshot": "iVBORw0KGgo=", "pdf": "JVBERi0xLjcK", "mhtml": prose(14, 5000),
        "extracted_content": prose(15, 6000), "metadata": {"title": "A page", "og:image": null},
        "error_message": "", "session_id": "s-1",
        "response_headers": {"ETag": "\"origin-1\"", "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
        "status_code": 200, "ssl_certificate": {"subject": {"CN": "example.com"}, "raw_cert": "TUlJ"},
        "dispatch_result": {"task_id": "t", "memory_usage": 1.25, "peak_memory": 2.0, "start_time": 0.0},
        "redirected_url": url, "redirected_status_code": 200,
        "network_requests": (0..50).map(|n| json!({"url": format!("https://cdn/{n}"), "timestamp": n})).collect::<Vec<_>>(),
        "console_messages": [{"type": "log", "text": prose(16, 2000)}],
        "tables": [{"headers": ["a"], "rows": [["1"], ["2"]]}], "head_fingerprint": "f1e2d3",
        "cached_at": 1_700_000_000.123_456, "cache_status": "miss", "crawl_stats": {"attempts": 1},
        "markdown": {"raw_markdown": prose(17, 20_000), "fit_markdown": null, "fit_html": null},
    })
}

/// JSON text that no serialiser would write twice the same way: it must come back as it is.
pub(crate) fn odd() -> Vec<(&'static str, String)> {
    let mut nested = "[".repeat(200);
    nested.push_str("{\"a\":1.0}");
    nested.push_str(&"]".repeat(200));
    let many: Vec<String> = (0..5000).map(|n| format!("\"field {n}\":{n}.50")).collect();
    vec![
        ("an empty object", "{}".to_owned()),
        ("an object with spaces", " {\n\t\"a\" : 1 ,\r\n \"b\" : [ 1 , 2 ] } ".to_owned()),
        (
            "numbers with many digits",
            r#"{"pi":3.14159265358979323846264338327950288419716939937510,"big":123456789012345678901234567890,"e":1E+400,"zero":-0.0,"tiny":1e-999,"cents":1.50}"#
                .to_owned(),
        ),
        (
            "strings in every script and escape",
            r#"{"k\u00e4se":"\u00fc ü \ud83e\udd80 🦀 \/ \\ \" \u0000 \b\f\n\r\t","日本":"東京","empty name follows":1,"":2,"lone":"\ud800"}"#.to_owned(),
        ),
        ("arrays 200 deep", format!("{{\"deep\":{nested},\"after\":true}}")),
        ("5000 fields", format!("{{{}}}", many.join(","))),
        ("every blank", r#"{"n":null,"s":"","a":[],"o":{},"t":true,"f":false}"#.to_owned()),
        ("a field that is called head", format!("{{\"head\":{},\"x\":1}}", Value::from(prose(9, 5000)))),
        ("the same name further down", r#"{"a":{"b":1,"b":2},"c":[{"b":1,"b":1}]}"#.to_owned()),
    ]
}

/// The raw text of every top-level field.
#[track_caller]
pub(crate) fn fields(json: &[u8]) -> BTreeMap<String, String> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(json)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json[..json.len().min(500)])));
    fields.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

/// Checks that two JSON objects have the same fields with the same text, in whatever order.
#[track_caller]
pub(crate) fn assert_same(name: &str, actual: &[u8], expected: &[u8]) {
    let (actual, expected) = (fields(actual), fields(expected));
    assert!(actual.keys().eq(expected.keys()), "{name}: {:?} are not {:?}", actual.keys(), expected.keys());
    for (field, value) in &expected {
        assert!(actual[field] == *value, "{name}: the field {field:?} is another");
    }
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).expect("in memory")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}
