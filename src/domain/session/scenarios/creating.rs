//! What a new session is, and which bodies make none.

use super::*;

#[test]
fn a_browser_session_begins_in_creating_with_an_hour() {
    let SessionRecord { session, events } = browser();
    assert_eq!((session.profile, session.status), (Profile::Browser, Status::Creating));
    assert_eq!(session.ttl, Ttl { mode: TtlMode::Fixed, seconds: 3600 });
    assert_eq!(secs(Some(session.expires_at)), Some(3600));
    assert_eq!(
        (session.created_at, session.updated_at, session.version),
        (at(0).now, at(0).now, at(0).version)
    );
    assert!(events.is_empty() && session.event_count == 0);
}

#[test]
fn an_mcp_session_begins_active_with_a_day() {
    let session = made(json!({})).session;
    assert_eq!((session.profile, session.status), (Profile::Mcp, Status::Active));
    assert_eq!(session.ttl, Ttl { mode: TtlMode::Sliding, seconds: 86_400 });
    assert_eq!(secs(Some(session.expires_at)), Some(86_400));
    assert_eq!(secs(session.last_active_at), Some(0));
}

#[test]
fn a_profile_can_be_named_and_needs_what_it_needs() {
    let session = made(json!({"profile": "mcp", "project_id": "p"})).session;
    assert_eq!((session.profile, session.project_id.as_deref()), (Profile::Mcp, Some("p")));
    for body in [json!({"profile": "browser"}), json!({"profile": "browser", "project_id": null})] {
        let refused = create(id(), body, at(0), &limits()).unwrap_err();
        assert_eq!(refused, SessionError::MissingField { field: "project_id" });
    }
    for profile in [json!("other"), json!(1)] {
        assert_eq!(invalid_field(create(id(), json!({"profile": profile}), at(0), &limits())), "profile");
    }
}

#[test]
fn creating_in_a_later_status_records_the_entry() {
    let session = made(json!({"project_id": "p", "status": "READY"})).session;
    assert_eq!((session.status, secs(session.ready_at), session.event_count), (Status::Ready, Some(0), 0));
    assert_eq!(session.last_active_at, None);
}

#[test]
fn a_life_can_be_chosen() {
    for (body, mode, seconds) in [
        (json!({"ttl_seconds": 60}), TtlMode::Sliding, 60),
        (json!({"ttl": {"mode": "fixed"}}), TtlMode::Fixed, 86_400),
        (json!({"ttl": {"mode": "fixed", "seconds": 5}}), TtlMode::Fixed, 5),
        (json!({"ttl": {"seconds": 5}, "ttl_seconds": 60}), TtlMode::Sliding, 60),
        (json!({"ttl_seconds": 60, "ttl": {"seconds": 5}}), TtlMode::Sliding, 60),
        (json!({"ttl": null, "ttl_seconds": null}), TtlMode::Sliding, 86_400),
    ] {
        let session = made(body.clone()).session;
        assert_eq!(session.ttl, Ttl { mode, seconds }, "{body}");
        assert_eq!(secs(Some(session.expires_at)), Some(seconds), "{body}");
        assert!(!session.extra.contains_key("ttl_seconds"));
    }
    for (body, field) in [
        (json!({"ttl_seconds": 0}), "ttl_seconds"),
        (json!({"ttl_seconds": 31_536_001}), "ttl_seconds"),
        (json!({"ttl": {"seconds": "60"}}), "ttl.seconds"),
        (json!({"ttl": 60}), "ttl"),
    ] {
        assert_eq!(invalid_field(create(id(), body, at(0), &limits())), field);
    }
}

#[test]
fn the_limits_say_how_long_a_session_lives_that_does_not() {
    let limits = Limits { browser_ttl_seconds: 7, mcp_ttl_seconds: 9, ..limits() };
    for (body, mode, seconds) in [
        (json!({"project_id": "p"}), TtlMode::Fixed, 7),
        (json!({}), TtlMode::Sliding, 9),
        (json!({"ttl": {"mode": "fixed"}}), TtlMode::Fixed, 9),
        (json!({"project_id": "p", "ttl_seconds": 60}), TtlMode::Fixed, 60),
    ] {
        let session = create(id(), body.clone(), at(0), &limits).expect("valid").session;
        assert_eq!(session.ttl, Ttl { mode, seconds }, "{body}");
        assert_eq!(secs(Some(session.expires_at)), Some(seconds), "{body}");
    }
}

#[test]
fn a_create_body_cannot_set_what_the_service_sets() {
    for field in [
        "created_at",
        "updated_at",
        "expires_at",
        "ready_at",
        "terminated_at",
        "last_active_at",
        "provisioning_started_at",
        "version",
        "event_count",
        "events_dropped",
        "events",
        "id",
    ] {
        let refused = create(id(), json!({field: 99}), at(0), &limits()).unwrap_err();
        assert_eq!(refused, SessionError::Immutable { field: field.to_owned() });
    }
    assert_eq!(made(json!({"id": id(), "created_at": null, "ready_at": null})).session.id, id());
}

#[test]
fn only_objects_are_bodies() {
    for body in [json!([]), json!("x"), json!(null), json!(5)] {
        assert_eq!(create(id(), body.clone(), at(0), &limits()).unwrap_err(), SessionError::NotAnObject);
        assert_eq!(put(&mcp(), body.clone()).unwrap_err(), SessionError::NotAnObject);
        assert_eq!(patched(&mcp(), body).unwrap_err(), SessionError::NotAnObject);
    }
}

#[test]
fn wrong_types_are_named() {
    for (body, field) in [
        (json!({"project_id": 5}), "project_id"),
        (json!({"project_id": ""}), "project_id"),
        (json!({"project_id": "p".repeat(257)}), "project_id"),
        (json!({"project_id": "a\nb"}), "project_id"),
        (json!({"status": "RUNNING"}), "status"),
        (json!({"status": 1}), "status"),
        (json!({"user_metadata": []}), "user_metadata"),
        (json!({"model_config": "gpt"}), "model_config"),
        (json!({"resource_limits": 1}), "resource_limits"),
        (json!({"billing_info": true}), "billing_info"),
        (json!({"connect_url": {}}), "connect_url"),
        (json!({"public_ip": 10}), "public_ip"),
        (json!({"signing_key": []}), "signing_key"),
        (json!({"ecs_task_arn": false}), "ecs_task_arn"),
    ] {
        assert_eq!(invalid_field(create(id(), body.clone(), at(0), &limits())), field);
        assert_eq!(invalid_field(patched(&mcp(), body.clone())), field);
        assert_eq!(invalid_field(put(&mcp(), body)), field);
    }
}
