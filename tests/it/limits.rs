//! Limits on size, time and number: who exceeds one is told so, and the server goes on.

use std::io;

use crate::support::documents::{gzip, zstd};
use crate::support::{Connection, Server, eventually, result_of};

const URL: &str = "https://example.com/page";

fn document(bytes: usize) -> String {
    format!("{{\"html\":\"{}\"}}", "x".repeat(bytes - 11))
}

#[test]
fn a_body_over_the_limit_is_413_announced_or_not() {
    let server = Server::start(&[("limits.body_bytes", "65536")]);
    let target = result_of(URL, &[]);
    server.put(&target, document(65_536)).is(201);
    server.request("PUT", &target).chunked(document(65_536)).send().is(200);
    for over in [65_537, 80_000, 3_000_000] {
        for request in [
            server.request("PUT", &target).body(document(over)),
            server.request("PUT", &target).chunked(document(over)),
            server.request("POST", "/v1/results/lookup").body(document(over)),
            server.request("PATCH", &target).chunked(document(over)),
        ] {
            let problem = request.send().problem(413, "body_too_large");
            assert_eq!(problem["limit_bytes"], 65_536);
        }
    }
    assert_eq!(server.get(&target).is(200).body.len(), 65_536, "what was stored is as it was");
}

#[test]
fn an_announced_body_over_the_limit_is_refused_before_it_is_sent() {
    let server = Server::start(&[("limits.body_bytes", "65536")]);
    let mut connection = server.connect();
    let head =
        format!("PUT {} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 65537\r\n\r\n", result_of(URL, &[]));
    connection.write(head.as_bytes()).expect("sent");
    connection.answer("PUT").expect("an answer").problem(413, "body_too_large");
    let mut waiting = server.connect();
    waiting.write(head.replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n").as_bytes()).expect("sent");
    waiting.answer("PUT").expect("an answer").problem(413, "body_too_large");
}

#[test]
fn a_body_that_decodes_to_more_than_the_limit_is_413() {
    let server = Server::start(&[("limits.decoded_bytes", "1048576")]);
    let target = result_of(URL, &[]);
    let largest = document(1 << 20);
    for (coding, fits, bomb) in [
        ("zstd", zstd(largest.as_bytes()), zstd(document(64 << 20).as_bytes())),
        ("gzip", gzip(largest.as_bytes()), gzip(document(64 << 20).as_bytes())),
    ] {
        let send = |method: &str, body: &[u8]| {
            server.request(method, &target).header("content-encoding", coding).body(body).send()
        };
        let status = send("PUT", &fits).status;
        assert!(status < 300, "{coding}: the limit itself is allowed, not {status}");
        for method in ["PUT", "PATCH"] {
            let problem = send(method, &bomb).problem(413, "document_too_large");
            assert_eq!(problem["limit_bytes"], 1 << 20);
        }
        server
            .request("POST", "/v1/results/lookup")
            .header("content-encoding", coding)
            .body(bomb)
            .send()
            .problem(413, "document_too_large");
    }
    assert_eq!(server.get(&target).is(200).body, largest.as_bytes());
}

#[test]
fn a_request_that_inflates_into_millions_of_keys_takes_no_memory_for_them() {
    let server = Server::start(&[]);
    let list =
        |item: &str, bytes: usize| format!("[{}{item}]", format!("{item},").repeat(bytes / (item.len() + 1)));
    let send = |path: &str, body: String| {
        let request = server.request("POST", &format!("/v1/results/{path}"));
        request.header("content-encoding", "zstd").body(zstd(body.as_bytes())).send()
    };
    let keys = |list: String| format!("{{\"keys\":{list}}}");
    server.forget_peak();
    let idle = server.memory("VmRSS");
    for (path, bytes, most) in [("lookup", 31 << 20, 10_000), ("batch-get", 15 << 20, 1000)] {
        let problem = send(path, keys(list("\"\"", bytes))).problem(413, "body_too_large");
        assert_eq!(problem["limit_keys"], most);
        let problem = send(path, format!("{{\"keys\":[],\"require\":{}}}", list("\"a\"", bytes)))
            .problem(413, "body_too_large");
        assert_eq!(problem["limit_names"], 16_384);
        // One key that is millions of values.
        let nested = send(path, keys(format!("[{}]", list("0", bytes))));
        assert!(nested.status == 400 || nested.lines()[0]["code"] == "invalid_field", "{}", nested.status);
        let problem = send(path, keys(list("\"\"", bytes + (2 << 20)))).problem(413, "document_too_large");
        assert_eq!(problem["limit_bytes"], (bytes + (1 << 20)) as u64);
    }
    let peak = server.memory("VmHWM");
    assert!(peak < idle + (150 << 20), "a peak of {} MiB over {} MiB", peak >> 20, idle >> 20);
}

#[test]
fn a_head_that_does_not_end_in_time_closes_the_connection() {
    let server = Server::start(&[("limits.header_seconds", "1")]);
    for start in ["", "GET /livez HTTP/1.1\r\nhost:"] {
        let mut connection = server.connect();
        connection.write(start.as_bytes()).expect("sent");
        assert!(is_ended(&mut connection), "{start:?}");
    }
    server.get("/livez").is(200);
}

/// Whether the server ends the connection, with or without an answer of 408.
fn is_ended(connection: &mut Connection) -> bool {
    match connection.answer("GET") {
        Ok(answer) => answer.status == 408 && connection.is_closed_by_the_server(),
        Err(error) => matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let server = Server::start(&[("limits.header_bytes", "8192")]);
    let answer = server.request("GET", "/livez").header("x-long", &"x".repeat(9000)).send();
    assert_eq!(answer.status, 431);
    server.get("/livez").is(200);
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_408() {
    let server = Server::start(&[("limits.request_seconds", "1"), ("leases.max_wait_seconds", "1")]);
    let head =
        |target: &str| format!("PUT {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{{");
    let mut connection = server.connect();
    connection.write(head(&result_of(URL, &[])).as_bytes()).expect("sent");
    connection.answer("PUT").expect("an answer").problem(408, "body_timeout");
    assert!(connection.is_closed_by_the_server(), "what would follow is not a request");
    server.get(&result_of(URL, &[])).problem(404, "result_not_found");
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_an_upload_stores_nothing() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[]);
    let whole = document(200_000);
    for framing in ["content-length: 200000", "transfer-encoding: chunked"] {
        let mut connection = server.begin(&target, framing);
        let half = &whole[..100_000];
        if framing.contains("chunked") {
            connection.write(format!("{:x}\r\n{half}\r\n", half.len()).as_bytes()).expect("sent");
        } else {
            connection.write(half.as_bytes()).expect("sent");
        }
        drop(connection);
        eventually("the server has noticed", || {
            (server.metrics().of("http_requests_in_flight") == 1).then_some(())
        });
    }
    server.get(&target).problem(404, "result_not_found");
    assert_eq!(server.entries(), 0);
    server.put(&target, whole).is(201);
}

#[test]
fn requests_beyond_the_limit_are_turned_away_with_503_and_when_to_retry() {
    let server = Server::start(&[("limits.concurrency", "2")]);
    let target = result_of(URL, &[]);
    let mut first = server.begin_put(&target, 2);
    let _second = server.begin_put(&target, 2);
    let answer = server.get("/livez");
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    first.write(b"{}").expect("sent");
    first.answer("PUT").expect("an answer").is(201);
    // The slot is free when the answer has been read: nobody has to wait for it.
    server.get("/livez").is(200);
    assert!(server.metrics().of(r#"http_shed_total{reason="concurrency"}"#) >= 1);
}

#[test]
fn an_answer_that_is_still_being_sent_counts_as_being_served() {
    let server = Server::start(&[("limits.concurrency", "2")]);
    let target = result_of(URL, &[]);
    let sent = zstd(document(64 << 20).as_bytes());
    server.request("PUT", &target).header("content-encoding", "zstd").body(sent).send().is(201);
    let batch = serde_json::json!({"keys": [URL]});
    let slow = [
        (server.request("GET", &target), String::new()),
        (server.request("POST", "/v1/results/batch-get").json(&batch), batch.to_string()),
        (server.request("GET", "/v1/results/export"), String::new()),
        (server.request("GET", &result_of(URL, &[("fields", "html")])), String::new()),
    ];
    for pair in slow.chunks(2) {
        let mut open: Vec<Connection> = pair
            .iter()
            .map(|(request, body)| {
                let mut connection = server.connect();
                connection.write(&request.head()).expect("sent");
                connection.write(body.as_bytes()).expect("sent");
                connection.answer_head().expect("an answer").is(200);
                connection
            })
            .collect();
        server.get("/livez").problem(503, "overloaded");
        drop(open.pop());
        eventually("its slot is free again", || (server.get("/livez").status == 200).then_some(()));
        drop(open);
    }
    // Read to its end, it is over: nobody has to wait for the slot.
    eventually("both slots are free again", || {
        (server.metrics().of("http_requests_in_flight") == 1).then_some(())
    });
    for _ in 0..3 {
        server.get("/v1/results/export").is(200);
    }
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let server = Server::start(&[("limits.connections", "2")]);
    let mut first = server.connect();
    let mut second = server.connect();
    let live = server.request("GET", "/livez");
    live.send_on(&mut first).expect("an answer").is(200);
    live.send_on(&mut second).expect("an answer").is(200);
    for _ in 0..3 {
        let mut third = server.connect();
        assert!(third.is_closed_by_the_server());
    }
    live.send_on(&mut first).expect("an answer").is(200);
    drop(first);
    eventually("a slot is free again", || live.try_send().ok()).is(200);
    let metrics = server.request("GET", "/metrics").send_on(&mut second).expect("an answer");
    let text = String::from_utf8(metrics.decoded()).expect("text");
    let shed = crate::support::metrics::Series::parse(&text).of(r#"http_shed_total{reason="connections"}"#);
    assert!(shed >= 3, "{shed}");
}

#[test]
fn bodies_beyond_the_memory_for_all_of_them_are_turned_away() {
    let server = Server::start(&[("limits.body_bytes", "1048576"), ("limits.body_memory_bytes", "1048576")]);
    let whole = document(900_000);
    let (most, rest) = whole.split_at(700_000);
    let mut both =
        ["https://a/", "https://b/"].map(|url| server.begin_put(&result_of(url, &[]), whole.len()));
    for connection in &mut both {
        // Whoever is turned away may not be able to send everything.
        let _ = connection.write(most.as_bytes());
    }
    let shed = || server.metrics().of(r#"http_shed_total{reason="body_memory"}"#);
    eventually("one is turned away", || (shed() >= 1).then_some(()));
    let mut turned_away = 0;
    for connection in &mut both {
        let _ = connection.write(rest.as_bytes());
        let answer = connection.answer("PUT").expect("an answer");
        if answer.status != 201 {
            answer.problem(503, "overloaded");
            assert_eq!(answer.header("retry-after"), Some("1"));
            turned_away += 1;
        }
    }
    assert_eq!(turned_away, shed());
    assert_eq!(server.entries(), 2 - turned_away);
    // All the memory is there again.
    server.put(&result_of("https://c/", &[]), document(1_000_000)).is(201);
}

#[test]
fn a_body_takes_as_much_memory_as_it_is_long_in_whatever_pieces_it_comes() {
    let server = Server::start(&[("limits.body_bytes", "65536"), ("limits.body_memory_bytes", "65536")]);
    let (put, target) = (document(2000), result_of(URL, &[]));
    let line = format!("{{\"url\":\"{URL}\",\"document\":{put}}}\n");
    for (method, target, kind, body) in [
        ("PUT", target.as_str(), "application/json", &put),
        ("POST", "/v1/results/batch-put", "application/x-ndjson", &line),
    ] {
        let mut connection = server.connect();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n");
        connection.write(head.as_bytes()).expect("sent");
        let chunks = body
            .chars()
            .map(|byte| ["1\r\n", &byte.to_string(), "\r\n"].concat())
            .collect::<Vec<_>>()
            .concat();
        connection
            .write(format!("transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").as_bytes())
            .expect("sent");
        let answer = connection.answer(method).expect("an answer");
        assert!(answer.status < 300, "{target}: {}", answer.status);
        assert!(!String::from_utf8_lossy(&answer.body).contains("overloaded"), "{target}");
    }
}
