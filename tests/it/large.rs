//! A document of about 97 MB that compresses several hundred times: in, and out again, in bounded memory.

use std::io::{Read, Write};

use crate::support::documents::fields;
use crate::support::{Server, result_of};

const URL: &str = "https://example.com/endless";

/// What the server's peak may be above its idle memory.
const MARGIN: u64 = 64 << 20;

/// A document as crawlers make them from a page with an endless table, in an order that is not the stored one.
fn document() -> Vec<u8> {
    let mut json = Vec::with_capacity(100 << 20);
    json.extend_from_slice(br#"{"html":""#);
    let row = |json: &mut Vec<u8>, n: usize| {
        let _ = write!(
            json,
            "<tr class=\\\"row even\\\"><td>{}</td><td>always the same text, again and again</td></tr>\\n",
            n / 5000
        );
    };
    (0..550_000).for_each(|n| row(&mut json, n));
    json.extend_from_slice(br#"","url":"https://example.com/endless","links":["#);
    for n in 0..240_000_usize {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(
            json,
            r#"{comma}{{"href":"https://example.com/{}","text":"next","score":{}.50}}"#,
            n / 3000,
            n / 9000
        );
    }
    json.extend_from_slice(br#"],"success":true,"status_code":200,"cleaned_html":""#);
    (0..450_000).for_each(|n| row(&mut json, n));
    json.extend_from_slice(br#"","markdown":{"raw_markdown":"short"},"number":1.5000000000000000000001}"#);
    json
}

#[test]
fn a_document_of_97_mb_comes_and_goes_in_bounded_memory() {
    let raw = document();
    assert!((92 << 20..106 << 20).contains(&raw.len()), "{} bytes", raw.len());
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("an encoder");
    encoder.write_all(&raw).expect("in memory");
    let sent = encoder.finish().expect("in memory");
    let ratio = raw.len() / sent.len();
    assert!(ratio >= 300, "compresses only {ratio} times");
    let expected = fields(&raw);
    drop(raw);

    let server = Server::start(&[]);
    server.put(&result_of("https://example.com/warm-up", &[]), "{}").is(201);
    let idle = server.memory("VmRSS");
    let bounded = |what: &str| {
        let peak = server.memory("VmHWM");
        assert!(peak < idle + MARGIN, "{what}: a peak of {} MiB over {} MiB", peak >> 20, idle >> 20);
        server.forget_peak();
    };

    server.forget_peak();
    let target = result_of(URL, &[]);
    let put =
        server.request("PUT", &target).header("content-encoding", "zstd").body(sent).send().is(201).json();
    bounded("writing");
    assert!(put["stored_bytes"].as_u64().is_some_and(|bytes| bytes < 1 << 20), "{put}");

    let accepting = |coding: &str| server.request("GET", &target).header("accept-encoding", coding);
    let stored = accepting("zstd").send().is(200);
    bounded("reading in zstd");
    assert_eq!(stored.header("content-encoding"), Some("zstd"));
    assert!(fields(&stored.decoded()) == expected, "another document came back in zstd");
    assert_eq!(stored.body.len() as u64, put["stored_bytes"].as_u64().expect("a number"));

    let mut connection = server.connect();
    connection.write(&accepting("identity").head()).expect("sent");
    let head = connection.answer_head().expect("an answer").is(200);
    assert_eq!(head.header("content-encoding"), None);
    let length = head.header("content-length").expect("a length").parse().expect("a number");
    assert_eq!(length, put["raw_bytes"].as_u64().expect("a number"));
    let mut plain = Vec::new();
    connection.read_in_pieces(length, |piece| plain.extend_from_slice(piece)).expect("the whole body");
    bounded("reading plainly");
    assert!(fields(&plain) == expected, "another document came back plainly");
    drop(plain);

    let zipped = accepting("gzip").send().is(200);
    bounded("reading in gzip");
    let mut length = 0;
    let mut reader = flate2::read::GzDecoder::new(&zipped.body[..]);
    let mut piece = vec![0; 1 << 20];
    loop {
        match reader.read(&mut piece).expect("a gzip member") {
            0 => break,
            read => length += read as u64,
        }
    }
    assert_eq!(length, put["raw_bytes"].as_u64().expect("a number"));

    // What stands before the large fields does not cost what the large ones do.
    let hot = server.get(&result_of(URL, &[("fields", "head,markdown")])).is(200);
    assert_eq!(hot.json()["markdown"]["raw_markdown"], "short");
    let view = server.get(&crate::support::at("/v1/result/markdown", &[("url", URL)])).is(200);
    assert_eq!(view.body, b"short");
    bounded("reading the first fields");
}

#[test]
fn the_limit_on_the_decoded_size_is_configuration_and_not_a_ratio() {
    let server = Server::start(&[("limits.decoded_bytes", "90000000")]);
    let sent = crate::support::documents::zstd(&document());
    let request = server.request("PUT", &result_of(URL, &[])).header("content-encoding", "zstd");
    let problem = request.body(sent).send().problem(413, "document_too_large");
    assert_eq!(problem["limit_bytes"], 90_000_000);
}

/// Six at once need one after another what two need at once.
#[test]
fn fields_of_a_large_document_are_read_a_few_at_a_time() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let sent = crate::support::documents::zstd(&document());
    server.request("PUT", &target).header("content-encoding", "zstd").body(sent).send().is(201);
    let html = crate::support::at("/v1/result/html", &[("url", URL)]);
    let one = result_of(URL, &[("fields", "html")]);
    let size = server.get(&one).is(200).body.len();
    assert!(size > 40 << 20, "{size} bytes");
    server.forget_peak();
    let idle = server.memory("VmRSS");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (server, target) = (&server, if n % 2 == 0 { &one } else { &html });
            scope.spawn(move || {
                let mut connection = server.connect();
                connection.write(&server.request("GET", target).head()).expect("sent");
                let head = connection.answer_head().expect("an answer").is(200);
                let length = head.header("content-length").expect("a length").parse().expect("a number");
                assert!(length > 30 << 20, "{length} bytes");
                connection.read_in_pieces(length, |_| {}).expect("the whole body");
            });
        }
    });
    // Two of them, each with the document up to its html, the field, and the field as text.
    let peak = server.memory("VmHWM");
    assert!(peak < idle + (400 << 20), "a peak of {} MiB over {} MiB", peak >> 20, idle >> 20);

    // A client that goes away gives its turn back.
    for _ in 0..3 {
        let mut connection = server.connect();
        connection.write(&server.request("GET", &one).head()).expect("sent");
        connection.answer_head().expect("an answer").is(200);
    }
    server.get(&result_of(URL, &[("fields", "head")])).is(200);
}
