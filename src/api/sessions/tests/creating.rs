//! POST and PUT: how sessions come into being.

use super::*;
use crate::domain::Version;
use crate::store::conformance;
use crate::store::routed::testing::{Street, policy};
use crate::store::{PutSession, SessionCondition, SessionPutOutcome};

#[tokio::test]
async fn post_draws_an_id_and_says_where_it_is() {
    let service = Service::new();
    let created =
        service.create(json!({"project_id": "p", "user_metadata": {"a": 1}, "colour": "red"})).await;
    let id = created.body["id"].as_str().expect("an id");
    let digits = id.strip_prefix("sess_").expect("the prefix");
    assert!(digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(created.header("location"), format!("/v1/sessions/{id}"));
    let version = created.body["version"].as_str().expect("text");
    assert_eq!(created.etag(), format!("\"{version}\""));
    assert_eq!(created.body["status"], "CREATING");
    assert_eq!(created.body["expires_at"], "2026-01-15T11:30:00.000Z");
    assert_eq!(created.body["colour"], "red");
    assert_eq!(service.get(created.header("location")).await.body, created.body);
    assert_eq!(service.counted("create", "ok"), 1);
    let other = service.create(json!({})).await;
    assert_ne!(other.body["id"], created.body["id"]);
    assert_eq!(other.body["profile"], "mcp");
}

#[tokio::test]
async fn an_id_is_taken_once_until_it_expires() {
    let service = Service::new();
    let first = service.create(browser("mine")).await;
    assert_eq!(first.header("location"), "/v1/sessions/mine");
    let taken = service.post("/v1/sessions", browser("mine")).await;
    assert_eq!(taken.problem(), (409, "session_exists"));
    assert_eq!(service.counted("create", "conflict"), 1);
    service.at(3600);
    let again = service.create(browser("mine")).await;
    assert_eq!(again.body["created_at"], "2026-01-15T11:30:00.000Z");
}

#[tokio::test]
async fn bad_sessions_are_refused_and_nothing_is_stored() {
    let service = Service::new();
    for (body, problem) in [
        (json!({"id": "a b"}), (400, "invalid_session_id")),
        (json!({"id": 5}), (400, "invalid_session_id")),
        (json!({"id": "batch-get"}), (400, "invalid_session_id")),
        (json!({"id": "x", "profile": "browser"}), (400, "invalid_field")),
        (json!({"id": "x", "status": "RUNNING"}), (400, "invalid_field")),
        (json!({"id": "x", "ttl_seconds": 0}), (400, "invalid_field")),
        (json!({"id": "x", "created_at": 5}), (422, "immutable_field")),
    ] {
        assert_eq!(service.post("/v1/sessions", body.clone()).await.problem(), problem, "{body}");
    }
    assert_eq!(service.ask("POST", "/v1/sessions", &[], "").await.problem(), (400, "malformed_json"));
    assert!(service.stored("x").await.is_none());
    assert_eq!(service.counted("create", "rejected"), 8);
}

#[tokio::test]
async fn the_configuration_sets_size_and_life() {
    let mut config = Config::default();
    config.sessions.max_bytes = 2048;
    config.sessions.browser_ttl_seconds = 7;
    config.sessions.mcp_ttl_seconds = 9;
    let service = Service::with(config, &[]).0;
    assert_eq!(service.create(browser("b")).await.body["ttl"], json!({"mode": "fixed", "seconds": 7}));
    assert_eq!(
        service.create(json!({"id": "m"})).await.body["ttl"],
        json!({"mode": "sliding", "seconds": 9})
    );
    // One that parses but is too large a session, and one that is not even parsed.
    for size in [2048, 10_000] {
        let large = service.post("/v1/sessions", json!({"state": "x".repeat(size)})).await;
        assert_eq!(large.problem(), (413, "document_too_large"));
        assert_eq!(large.body["limit_bytes"], 2048);
    }
    let spaced = format!("{}{{}}", " ".repeat(4000));
    assert_eq!(service.ask("POST", "/v1/sessions", &[], &spaced).await.status, 201);
}

#[tokio::test]
async fn put_creates_and_replaces() {
    let service = Service::new();
    let created = service.send("PUT", "/v1/sessions/s", json!({"state": 1, "colour": "red"})).await;
    assert_eq!((created.status, &created.body["id"]), (201, &json!("s")));
    service.at(10);
    let replaced = service.send("PUT", "/v1/sessions/s", json!({"state": 2})).await;
    assert_eq!((replaced.status, &replaced.body["state"]), (200, &json!(2)));
    assert_eq!(replaced.body["created_at"], created.body["created_at"]);
    assert_eq!(replaced.body["colour"], Value::Null);
    assert_eq!(replaced.body["expires_at"], "2026-01-16T10:30:10.000Z", "a sliding life goes on from now");
    assert_ne!(replaced.etag(), created.etag());
    // What was read can be sent back as it is; at the same instant that changes nothing.
    let echoed = service.send("PUT", "/v1/sessions/s", replaced.body.clone()).await;
    assert_eq!((echoed.status, &echoed.body), (200, &replaced.body));
    let renamed = service.send("PUT", "/v1/sessions/s", json!({"id": "t"})).await;
    assert_eq!(renamed.problem(), (422, "immutable_field"));
    let reserved = service.send("PUT", "/v1/sessions/batch-get", json!({})).await;
    assert_eq!(reserved.problem(), (405, "method_not_allowed"));
    service.at(200_000);
    let reborn = service.send("PUT", "/v1/sessions/s", json!({})).await;
    assert_eq!((reborn.status, &reborn.body["state"]), (201, &Value::Null));
}

#[tokio::test]
async fn put_observes_preconditions() {
    let service = Service::new();
    let put = |header| service.send_if("PUT", "/v1/sessions/s", header, json!({"state": 2}));
    assert_eq!(put(("if-match", "*")).await.problem(), (412, "precondition_failed"));
    assert_eq!(put(("if-match", "\"1\"")).await.problem(), (412, "precondition_failed"));
    let created = put(("if-none-match", "*")).await;
    assert_eq!(created.status, 201);
    let refused = put(("if-none-match", "*")).await;
    assert_eq!(refused.problem(), (412, "precondition_failed"));
    assert_eq!(refused.body["version"], created.body["version"]);
    service.at(1);
    let replaced = put(("if-match", created.etag())).await;
    assert_eq!(replaced.status, 200);
    assert_eq!(put(("if-match", created.etag())).await.problem(), (412, "precondition_failed"));
    for header in [("if-match", "abc"), ("if-match", "\"xyz\""), ("if-none-match", "\"1\"")] {
        assert_eq!(put(header).await.problem(), (400, "invalid_header"), "{header:?}");
    }
    service.at(200_000);
    assert_eq!(put(("if-none-match", "*")).await.status, 201, "an expired session is none");
}

/// As after a crash of a process whose clock was far ahead: the deletion is later than all that this clock gives.
#[tokio::test]
async fn what_was_deleted_far_ahead_is_created_again() {
    // Wherever SQLite remembers the deletion.
    for (percent, dual_write) in [(0, false), (0, true), (100, true)] {
        let street = Street::new(policy(percent, dual_write)).await;
        let sessions = street.routed.sessions();
        let (service, _) = Service::over(Arc::new(sessions.clone()), Config::default(), &[]);
        for name in ["posted", "put"] {
            let mut record = conformance::session(name, T0);
            record.session.version = Version::first_of(Timestamp::from_secs(T0 + 1_000_000));
            let far = record.session.version;
            let condition = SessionCondition::Any;
            let put = PutSession { namespace: Namespace::default(), record, condition };
            assert_eq!(sessions.put(put).await, Ok(SessionPutOutcome::Created));
            let path = format!("/v1/sessions/{name}");
            assert_eq!(service.ask("DELETE", &path, &[], "").await.status, 204);
            assert_eq!(service.get(&path).await.status, 404);
            let created = match name {
                "posted" => service.create(browser(name)).await,
                _ => service.send("PUT", &path, browser(name)).await.is(201),
            };
            let version = u64::from_str_radix(created.body["version"].as_str().expect("text"), 16);
            assert!(version.expect("hexadecimal") > far.as_u64(), "{percent}: {created:?}");
            let read = service.get(&path).await.is(200);
            assert_eq!((read.etag(), &read.body), (created.etag(), &created.body), "{percent}");
            assert_eq!(service.post("/v1/sessions", browser(name)).await.problem(), (409, "session_exists"));
        }
    }
}
