//! What PUT and PATCH make of a session.

use super::*;

#[test]
fn put_replaces_content_and_keeps_the_rest() {
    let record = moved(&browser(), Status::Ready, 1);
    let next = put(&record, json!({"model_config": {"a": null}, "note": null})).expect("valid");
    let (old, new) = (&record.session, &next.session);
    assert!(new.user_metadata.is_empty() && new.signing_key.is_none());
    assert_eq!(new.model_config["a"], Value::Null);
    assert_eq!(new.extra["note"], Value::Null);
    assert_eq!((new.created_at, new.expires_at, new.ttl), (old.created_at, old.expires_at, old.ttl));
    assert_eq!((new.profile, new.status, new.ready_at), (old.profile, old.status, old.ready_at));
    assert_eq!(new.project_id, old.project_id);
    assert_eq!(next.events, record.events);
    assert_eq!((new.updated_at, new.version), (at(10).now, at(10).version));
    let emptied = put(&mcp(), json!({})).expect("valid").session;
    assert!(emptied.state.is_none() && emptied.extra.is_empty());
}

#[test]
fn put_creates_what_is_not_there_or_has_expired() {
    let body = json!({"state": 1});
    let fresh = replace(None, &id(), body.clone(), at(10), &limits()).expect("valid");
    assert_eq!(fresh, create(id(), body.clone(), at(10), &limits()).expect("valid"));
    let old = moved(&browser(), Status::Ready, 1);
    let again = replace(Some(&old), &id(), body.clone(), at(3600), &limits()).expect("valid");
    assert_eq!(again, create(id(), body, at(3600), &limits()).expect("valid"));
    let early = replace(Some(&old), &id(), json!({"state": 1}), at(3599), &limits()).expect("valid");
    assert_eq!(early.session.created_at, old.session.created_at);
}

#[test]
fn sending_back_what_was_read_changes_nothing() {
    let record = moved(&moved(&browser(), Status::Ready, 1), Status::Active, 2);
    let read = serde_json::to_value(&record.session).expect("JSON");
    assert_eq!(put(&record, read.clone()), Ok(record.clone()));
    assert_eq!(patched(&record, read), Ok(record));
    let record = mcp();
    let mut read = serde_json::to_value(&record.session).expect("JSON");
    read["version"] = json!(record.session.version.to_string());
    let next = put(&record, read).expect("an echo");
    let mut wanted = record;
    wanted.session.expires_at = at(86_410).now;
    (wanted.session.updated_at, wanted.session.version) = (at(10).now, at(10).version);
    assert_eq!(next, wanted);
}

#[test]
fn sending_back_what_has_changed_meanwhile_is_refused() {
    let record = browser();
    let read = serde_json::to_value(&record.session).expect("JSON");
    let newer = patched(&record, json!({"public_ip": "10.0.0.1"})).expect("valid");
    assert!(matches!(put(&newer, read).unwrap_err(), SessionError::Immutable { .. }));
}

#[test]
fn patch_merges_at_every_depth() {
    let next = patched(
        &browser(),
        json!({
            "user_metadata": {"user": {"plan": null, "name": "n"}}, "signing_key": null, "connect_url": "ws://x",
            "extra": {"a": {"b": null}},
        }),
    )
    .expect("valid")
    .session;
    assert_eq!(next.user_metadata["user"], json!({"id": 1, "name": "n"}));
    assert_eq!((next.signing_key.as_deref(), next.connect_url.as_deref()), (None, Some("ws://x")));
    assert_eq!(next.extra["extra"], json!({"a": {}}));
    let next = patched(&mcp(), json!({"state": {"step": null, "tabs": []}, "color": null})).expect("valid");
    assert_eq!(next.session.state, Some(json!({"tabs": []})));
    assert!(next.session.extra.is_empty());
    let next = patched(&mcp(), json!({"state": null, "user_metadata": null})).expect("valid").session;
    assert_eq!((next.state, next.user_metadata.len()), (None, 0));
    assert_eq!(patched(&mcp(), json!({"state": [1]})).expect("valid").session.state, Some(json!([1])));
}

#[test]
fn patch_moves_the_status_with_all_that_goes_with_it() {
    let next = patched(&browser(), json!({"status": "READY", "public_ip": "10.0.0.1"})).expect("forward");
    assert_eq!((next.session.status, secs(next.session.ready_at)), (Status::Ready, Some(10)));
    assert_eq!(next.events.len(), 1);
    assert_eq!(next.events[0].detail["new_status"], json!("READY"));
}

#[test]
fn patch_cannot_change_identity_or_what_the_service_sets() {
    for (field, value) in [
        ("id", json!("other")),
        ("id", json!(null)),
        ("profile", json!("mcp")),
        ("created_at", json!(T0 + 1)),
        ("created_at", json!(null)),
        ("updated_at", json!("2030-01-01T00:00:00Z")),
        ("expires_at", json!("2030-01-01T00:00:00Z")),
        ("expires_at", json!("soon")),
        ("ready_at", json!(T0)),
        ("ready_at", json!("never")),
        ("project_id", json!("other")),
        ("project_id", json!(null)),
        ("version", json!(1)),
        ("version", json!(null)),
        ("event_count", json!(1)),
        ("events_dropped", json!("0")),
        ("events", json!([])),
    ] {
        let refused = patched(&browser(), json!({field: value})).unwrap_err();
        assert_eq!(refused, SessionError::Immutable { field: field.to_owned() }, "{field}");
    }
    for field in ["status", "ttl"] {
        assert_eq!(invalid_field(patched(&browser(), json!({field: null}))), field);
    }
    let same =
        json!({"id": id(), "created_at": T0, "project_id": "jobseek", "ready_at": null, "event_count": 0});
    assert_eq!(patched(&browser(), same), Ok(browser()));
}

#[test]
fn a_project_can_be_given_once() {
    let next = patched(&mcp(), json!({"project_id": "p"})).expect("unset before");
    assert_eq!(next.session.project_id.as_deref(), Some("p"));
    let again = patched(&next, json!({"project_id": "q"})).unwrap_err();
    assert_eq!(again, SessionError::Immutable { field: "project_id".to_owned() });
    assert_eq!(patched(&mcp(), json!({"project_id": null})).expect("still unset").session.project_id, None);
}

#[test]
fn a_new_ttl_moves_the_expiry() {
    let expiry = |record: &SessionRecord, body: Value| {
        secs(Some(patched(record, body).expect("valid").session.expires_at))
    };
    assert_eq!(expiry(&browser(), json!({"ttl": {"seconds": 60}})), Some(60));
    assert_eq!(expiry(&browser(), json!({"ttl_seconds": 60})), Some(60));
    assert_eq!(expiry(&browser(), json!({"ttl": {"mode": "sliding"}})), Some(3610));
    assert_eq!(expiry(&browser(), json!({"user_metadata": {}})), Some(3600));
    assert_eq!(expiry(&mcp(), json!({"ttl": {"mode": "fixed", "seconds": 100}})), Some(100));
    assert_eq!(expiry(&mcp(), json!({"ttl_seconds": 100})), Some(110));
}
