//! SIGKILL while 64 clients write, again and again on one data directory: nothing acknowledged is lost, nothing
//! half there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::documents::prose;
use crate::support::{Connection, Request, Server, eventually, result_of};

const ROUNDS: usize = 20;
const WRITERS: usize = 64;

/// Writes that must be acknowledged in a round before the server is killed; it grows from round to round, so
/// that the kill meets different moments.
const WRITES: usize = 300;

/// What is known of a key: the last number that was acknowledged, and the last that was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: Option<usize>,
    sent: usize,
}

type Ledger = BTreeMap<String, Known>;

/// The one document that may be stored for a key under a number.
fn document(url: &str, number: usize) -> Value {
    let size = 200 + (number * 7919) % 6000;
    json!({"url": url, "number": number, "html": prose(number as u64, size), "success": true})
}

/// The key that a writer writes next: three that are overwritten again and again, and new ones.
fn url_of(writer: usize, number: usize) -> String {
    match number % 4 {
        3 => format!("https://example.com/{writer}/new/{number}"),
        fixed => format!("https://example.com/{writer}/{fixed}"),
    }
}

/// Writes until the connection breaks.
fn write(address: SocketAddr, writer: usize, number: &mut usize, ledger: &Mutex<Ledger>, done: &AtomicUsize) {
    let Ok(mut connection) = Connection::try_open(address) else { return };
    loop {
        let url = url_of(writer, *number);
        let body = document(&url, *number).to_string();
        ledger.lock().expect("not poisoned").entry(url.clone()).or_default().sent = *number;
        let answer = Request::new(address, "PUT", &result_of(&url, &[])).body(body).send_on(&mut connection);
        // What was not acknowledged may be there or not; its number is never used again.
        let sent = *number;
        *number += 1;
        match answer {
            Ok(answer) => assert!([200, 201].contains(&answer.status), "{answer:?}"),
            Err(_) => return,
        }
        ledger.lock().expect("not poisoned").entry(url).or_default().acknowledged = Some(sent);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Checks what is stored for the keys of a ledger.
fn verify(server: &Server, round: usize, keys: &[(String, Known)]) {
    for some in keys.chunks(1000) {
        let urls: Vec<&str> = some.iter().map(|(url, _)| url.as_str()).collect();
        let lines = server.post("/v1/results/batch-get", &json!({"keys": urls})).is(200).lines();
        assert_eq!(lines.len(), some.len());
        for (line, (url, known)) in lines.iter().zip(some) {
            check(round, url, *known, (line["status"] == 200).then_some(&line["document"]), line);
        }
    }
}

fn check(round: usize, url: &str, known: Known, stored: Option<&Value>, line: &Value) {
    let Some(stored) = stored else {
        assert_eq!(line["reason"], "absent", "round {round}: {line}");
        assert_eq!(known.acknowledged, None, "round {round}: {url} was acknowledged and is gone");
        return;
    };
    let number = stored["number"].as_u64().and_then(|number| usize::try_from(number).ok()).expect("a number");
    let oldest = known.acknowledged.unwrap_or(0);
    assert!((oldest..=known.sent).contains(&number), "round {round}: {url} has {number}, not {known:?}");
    assert!(*stored == document(url, number), "round {round}: {url} is not what was sent");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_in_the_middle_of_writes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ledger = Mutex::new(Ledger::new());
    let mut numbers = vec![0; WRITERS];
    for round in 0..ROUNDS {
        let mut server = Server::on(directory.path(), &[]);
        let address = server.address();
        let before = ledger.lock().expect("not poisoned").clone();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (writer, number) in numbers.iter_mut().enumerate() {
                let (ledger, done) = (&ledger, &done);
                scope.spawn(move || write(address, writer, number, ledger, done));
            }
            let wanted = WRITES + round * 17;
            eventually("enough is acknowledged", || (done.load(Ordering::Relaxed) >= wanted).then_some(()));
            server.kill();
        });
        let server = Server::on(directory.path(), &[]);
        let touched: Vec<(String, Known)> = {
            let ledger = ledger.lock().expect("not poisoned");
            let touched =
                ledger.iter().filter(|(url, known)| before.get(*url).map(|it| it.sent) != Some(known.sent));
            touched.map(|(url, known)| (url.clone(), *known)).collect()
        };
        assert!(touched.len() >= WRITERS, "every writer wrote: {}", touched.len());
        verify(&server, round, &touched);
    }

    // All of it once more at the end: what survived one kill survives the next ones.
    let server = Server::on(directory.path(), &[]);
    let ledger = ledger.into_inner().expect("not poisoned");
    let lines = server.get("/v1/results/export").is(200).lines();
    let entries = server.entries();
    assert_eq!(usize::try_from(entries), Ok(lines.len()), "the totals agree");
    let mut missing = ledger.clone();
    for line in &lines {
        let url = line["url"].as_str().expect("a url");
        let known = missing.remove(url).unwrap_or_else(|| panic!("{url} came twice or was never sent"));
        check(ROUNDS, url, known, Some(&line["document"]), line);
    }
    missing.retain(|_, known| known.acknowledged.is_some());
    assert!(missing.is_empty(), "acknowledged and gone: {:?}", missing.keys());
}
