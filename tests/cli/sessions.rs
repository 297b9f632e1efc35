//! `sessions rotate-key`: with a service, and on a data directory that none has open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::host::{Done, Server, command};

/// A command that knows these keys: the current one and those before it.
fn with_keys(mut command: Command, current: &str, older: &[&str]) -> Command {
    let older: Vec<String> = older.iter().map(|digits| digits.repeat(32)).collect();
    command.env("CRAWLCACHE_SESSIONS__ENCRYPTION_KEY", current.repeat(32));
    command.env("CRAWLCACHE_SESSIONS__OLDER_ENCRYPTION_KEYS", older.join(","));
    command
}

fn serve(directory: &Path, current: &str, older: &[&str]) -> Server {
    let directory = directory.to_str().expect("text");
    let serve = command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", directory]);
    Server::of(with_keys(serve, current, older))
}

fn create(server: &Server, id: &str) {
    let body = json!({"id": id, "project_id": "p", "signing_key": "hunter2"}).to_string();
    let mut stream = TcpStream::connect(server.address()).expect("connected");
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[test]
fn a_key_is_rotated_with_a_service_and_without() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = serve(directory.path(), "0a", &[]);
    create(&server, "sess_1");
    drop(server);
    let server = serve(directory.path(), "0b", &["0a"]);
    create(&server, "sess_2");
    let rotate = ["sessions", "rotate-key", "--json"];
    let counts = |done: Done| (done.json()["seen"].clone(), done.json()["resealed"].clone());
    let dry = server.run(&[&rotate[..], &["--dry-run"]].concat()).expect(0);
    assert_eq!((dry.json()["dry_run"].clone(), counts(dry)), (json!(true), (json!(2), json!(1))));
    for resealed in [1, 0] {
        assert_eq!(counts(server.run(&rotate).expect(0)), (json!(2), json!(resealed)));
    }
    drop(server);

    // Without a service; what nothing opens is named.
    let data_dir = directory.path().to_str().expect("text");
    let offline = ["sessions", "rotate-key", "--offline", "--data-dir", data_dir];
    let run = |current: &str, older: &[&str], arguments: &[&str]| {
        Done::from(with_keys(command(arguments), current, older).output().expect("started"))
    };
    let closed = run("0c", &[], &offline).expect(1);
    assert!(closed.text().contains("2 cannot be read") && closed.text().contains("sess_1  session_sealed"));
    let done = run("0c", &["0b"], &[&offline[..], &["--json"]].concat()).expect(0);
    assert_eq!(counts(done), (json!(2), json!(2)));
    let server = serve(directory.path(), "0c", &[]);
    assert_eq!(counts(server.run(&rotate).expect(0)), (json!(2), json!(0)));
    drop(server);

    // There is nothing to seal under.
    let keyless = command(&[&offline[..], &["--json"]].concat()).output().expect("started");
    let server = Server::start(directory.path());
    for refused in [Done::from(keyless), server.run(&rotate)] {
        assert_eq!(refused.expect(1).error()["code"], "encryption_key_missing");
    }
}
