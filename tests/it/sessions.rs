//! Sessions over real sockets: no update is lost, expiry, transitions, and SIGKILL in the middle of writes.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Connection, Request, Server, eventually, on_sqlite};

const ROUNDS: usize = 20;
const WRITERS: usize = 64;

/// Writes that must be acknowledged in a round before the server is killed.
const WRITES: usize = 250;

/// What a writer knows of its session: the last count that was acknowledged, and the last that was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: Option<u64>,
    sent: u64,
}

/// Creates the writer's session once, then counts in it until the connection breaks.
fn count(address: SocketAddr, writer: usize, known: &Mutex<Known>, done: &AtomicUsize) {
    let Ok(mut connection) = Connection::try_open(address) else { return };
    let target = format!("/v1/sessions/writer-{writer}");
    loop {
        let next = known.lock().expect("not poisoned").sent + 1;
        known.lock().expect("not poisoned").sent = next;
        // The state and the history change together: each write has both.
        let (method, target, body) = match next % 3 {
            _ if known.lock().expect("not poisoned").acknowledged.is_none() => {
                ("PUT", target.clone(), json!({"profile": "mcp", "state": {"count": next}}))
            }
            0 => (
                "POST",
                format!("{target}/events"),
                json!({"event_type": "Counted", "detail": {"count": next}}),
            ),
            _ => ("PATCH", target.clone(), json!({"state": {"count": next}})),
        };
        match Request::new(address, method, &target).body(body.to_string()).send_on(&mut connection) {
            Ok(answer) => assert!([200, 201].contains(&answer.status), "{method} {target}: {answer:?}"),
            Err(_) => return,
        }
        known.lock().expect("not poisoned").acknowledged = Some(next);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The greatest count that a session shows, in its state or in its history.
fn counted(server: &Server, writer: usize) -> Option<u64> {
    let answer = server.get(&format!("/v1/sessions/writer-{writer}"));
    if answer.status == 404 {
        return None;
    }
    let session = answer.is(200).json();
    let events = server.get(&format!("/v1/sessions/writer-{writer}/events?limit=1000")).is(200).json();
    let last = events["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|event| event["detail"]["count"].as_u64());
    session["state"]["count"].as_u64().into_iter().chain(last).max()
}

#[test]
fn no_acknowledged_session_write_is_lost_when_the_server_is_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let known: Vec<Mutex<Known>> = (0..WRITERS).map(|_| Mutex::default()).collect();
    for round in 0..ROUNDS {
        let mut server = Server::on(directory.path(), &[]);
        let address = server.address();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (writer, known) in known.iter().enumerate() {
                let done = &done;
                scope.spawn(move || count(address, writer, known, done));
            }
            let wanted = WRITES + round * 13;
            eventually("enough is acknowledged", || (done.load(Ordering::Relaxed) >= wanted).then_some(()));
            server.kill();
        });
        let server = Server::on(directory.path(), &[]);
        for (writer, known) in known.iter().enumerate() {
            let known = *known.lock().expect("not poisoned");
            let stored = counted(&server, writer);
            let least = known.acknowledged;
            assert!(stored >= least, "round {round}: writer {writer} has {stored:?}, not {known:?}");
            assert!(
                stored.is_none_or(|stored| stored <= known.sent),
                "round {round}: {stored:?} was never sent"
            );
        }
    }
}

#[test]
fn clients_that_change_one_session_under_if_match_lose_no_update() {
    const EACH: usize = 25;
    let server = Server::start(&[]);
    server.post("/v1/sessions", &json!({"id": "shared", "state": {"count": 0}})).is(201);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut counted = 0;
                while counted < EACH {
                    let read = server.get("/v1/sessions/shared").is(200);
                    let etag = read.header("etag").expect("an etag").to_owned();
                    let next = read.json()["state"]["count"].as_u64().expect("a count") + 1;
                    let patch = json!({"state": {"count": next}}).to_string();
                    let request =
                        server.request("PATCH", "/v1/sessions/shared").header("if-match", &etag).body(patch);
                    let answer = request.send();
                    assert!([200, 412].contains(&answer.status), "{answer:?}");
                    counted += usize::from(answer.status == 200);
                }
            });
        }
    });
    assert_eq!(server.get("/v1/sessions/shared").is(200).json()["state"]["count"], 16 * EACH);
}

#[test]
fn transitions_are_enforced_and_leave_a_history() {
    let server = Server::start(&[]);
    server.post("/v1/sessions", &json!({"id": "s", "project_id": "p"})).is(201);
    let go = |status: &str| server.post("/v1/sessions/s/status", &json!({"status": status}));
    assert!(go("READY").is(200).json()["ready_at"].is_string());
    let answer = go("CREATING");
    answer.problem(409, "illegal_transition");
    let problem = answer.json();
    assert_eq!((&problem["current"], &problem["requested"]), (&json!("READY"), &json!("CREATING")));
    assert!(problem["allowed"].as_array().expect("allowed").contains(&json!("ACTIVE")));
    go("ACTIVE").is(200);
    go("STOPPED").is(200);
    let events = server.get("/v1/sessions/s/events").is(200).json();
    let to: Vec<&Value> =
        events["items"].as_array().expect("items").iter().map(|it| &it["detail"]["new_status"]).collect();
    assert_eq!(to, ["READY", "ACTIVE", "STOPPED"]);
    let listed = server.get("/v1/sessions?project_id=p").is(200).json();
    assert_eq!(listed["items"][0]["status"], "STOPPED");
    assert_eq!(server.get("/v1/sessions?status=STOPPED").is(200).json()["items"][0]["id"], "s");
    server.get("/v1/sessions").problem(400, "invalid_parameter");
}

#[test]
fn an_expired_session_is_gone_and_a_sliding_one_lives_on() {
    let server = Server::start(&[]);
    let fixed = json!({"id": "fixed", "profile": "mcp", "ttl": {"mode": "fixed", "seconds": 1}});
    let sliding = json!({"id": "sliding", "profile": "mcp", "ttl": {"mode": "sliding", "seconds": 1}});
    server.post("/v1/sessions", &fixed).is(201);
    server.post("/v1/sessions", &sliding).is(201);
    eventually("the fixed one has expired", || {
        server.post("/v1/sessions/sliding/touch", &json!({})).is(200);
        (server.get("/v1/sessions/fixed").status == 404).then_some(())
    });
    server.get("/v1/sessions/sliding").is(200);
    let gone = server.get("/v1/sessions/fixed").json();
    assert!(
        ["session_expired", "session_not_found"].contains(&gone["code"].as_str().expect("a code")),
        "{gone}"
    );
    server.post("/v1/sessions/fixed/touch", &json!({})).is(404);
    server.post("/v1/sessions", &fixed).is(201);
}

#[test]
fn one_session_of_another_key_hides_no_other_and_is_named() {
    if !on_sqlite() {
        return;
    }
    let (first, second) = ("0a".repeat(32), "0b".repeat(32));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let create = |server: &Server, id: &str| {
        let body = json!({"id": id, "project_id": "p", "signing_key": "hunter2"});
        server.post("/v1/sessions", &body).is(201);
    };
    let mut server = Server::on(directory.path(), &[("sessions.encryption_key", first.as_str())]);
    create(&server, "sess_old");
    server.kill();
    let mut server = Server::on(directory.path(), &[("sessions.encryption_key", second.as_str())]);
    for id in ["sess_new", "sess_damaged"] {
        create(&server, id);
    }
    let database = rusqlite::Connection::open(directory.path().join("crawlcache.db")).expect("a database");
    let damaged = database.execute("update sessions set body = x'00' where id = 'sess_damaged'", []);
    assert_eq!(damaged, Ok(1));
    server.get("/v1/sessions/sess_old").problem(500, "session_sealed");
    server.request("PUT", "/v1/sessions/sess_old").json(&json!({})).send().problem(500, "session_sealed");
    let names = |of: &Value, member: &str, name: &str| {
        let mut names: Vec<String> = of[member]
            .as_array()
            .map(|items| items.iter().map(|item| item[name].as_str().unwrap_or("?").to_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    let listed = server.get("/v1/sessions?project_id=p").is(200).json();
    assert_eq!(names(&listed, "items", "id"), ["sess_new"]);
    assert_eq!(names(&listed, "unreadable", "id"), ["sess_damaged", "sess_old"]);
    assert_eq!(names(&listed, "unreadable", "code"), ["entry_corrupt", "session_sealed"]);
    let asked = json!({"ids": ["sess_new", "sess_old", "sess_damaged", "sess_none"]});
    let batch = server.post("/v1/sessions/batch-get", &asked).is(200).json();
    assert_eq!(
        (names(&batch, "items", "id"), &batch["missing"]),
        (vec!["sess_new".to_owned()], &json!(["sess_none"]))
    );
    assert_eq!(names(&batch, "unreadable", "id"), ["sess_damaged", "sess_old"]);

    // What is damaged is replaced by being stored again; it cannot be changed in part.
    let patch = server.request("PATCH", "/v1/sessions/sess_damaged");
    let patch = patch.header("content-type", "application/merge-patch+json").body(r#"{"state":{"n":1}}"#);
    patch.send().problem(500, "entry_corrupt");
    let again = json!({"project_id": "p", "signing_key": "hunter2"});
    server.request("PUT", "/v1/sessions/sess_damaged").json(&again).send().is(201);
    server.kill();

    // Both keys, and the older one can go once everything is sealed under the newer.
    let settings =
        [("sessions.encryption_key", second.as_str()), ("sessions.older_encryption_keys", first.as_str())];
    let mut server = Server::on(directory.path(), &settings);
    server.get("/v1/sessions/sess_old").is(200);
    let rotate = |dry_run: bool| {
        let report =
            server.post("/v1/admin/sessions/rotate-key", &json!({ "dry_run": dry_run })).is(200).json();
        (report["seen"].clone(), report["resealed"].clone(), report["unreadable"].clone())
    };
    for (dry_run, resealed) in [(true, 1), (false, 1), (false, 0)] {
        assert_eq!(rotate(dry_run), (json!(3), json!(resealed), json!([])), "dry run: {dry_run}");
    }
    server.kill();
    let server = Server::on(directory.path(), &[("sessions.encryption_key", second.as_str())]);
    let listed = server.get("/v1/sessions?project_id=p").is(200).json();
    assert_eq!(names(&listed, "items", "id").len(), 3);
    assert_eq!(listed["unreadable"], Value::Null);
}
