//! What happens to a session while it lives: status, touches, events, and their bounds.

use super::*;

#[test]
fn a_life_of_a_browser_is_recorded() {
    let mut record = browser();
    for (status, second) in [
        (Status::Provisioning, 1),
        (Status::Starting, 2),
        (Status::Ready, 3),
        (Status::Active, 4),
        (Status::Ready, 5),
        (Status::Active, 6),
        (Status::Terminating, 7),
        (Status::Stopped, 8),
    ] {
        record = moved(&record, status, second);
        assert_eq!((record.session.status, record.session.updated_at), (status, at(second).now));
        assert_eq!(record.session.version, at(second).version);
    }
    let session = &record.session;
    assert_eq!(secs(session.provisioning_started_at), Some(1));
    assert_eq!(secs(session.ready_at), Some(5));
    assert_eq!(secs(session.last_active_at), Some(6));
    assert_eq!(secs(session.terminated_at), Some(8));
    assert_eq!(secs(Some(session.expires_at)), Some(3600), "a fixed life does not slide");
    assert_eq!((session.event_count, record.events.len()), (8, 8));
    assert_eq!(
        serde_json::to_value(&record.events[0]).expect("JSON"),
        json!({
            "index": 0, "event_type": "StatusChanged", "timestamp": at(1).now,
            "detail": {"previous_status": "CREATING", "new_status": "PROVISIONING"},
        })
    );
}

#[test]
fn a_status_change_keeps_its_reason_and_source() {
    let request = StatusRequest {
        reason: Some("no capacity".to_owned()),
        source: Some("ecs".to_owned()),
        ..StatusRequest::to(Status::Failed)
    };
    let event = set_status(&browser(), request, at(1), &limits()).expect("forward").events.remove(0);
    assert_eq!((event.source.as_deref(), &event.detail["reason"]), (Some("ecs"), &json!("no capacity")));
}

#[test]
fn an_illegal_move_names_the_legal_ones() {
    let record = moved(&browser(), Status::Terminating, 1);
    let allowed = vec![Status::Stopped, Status::Failed, Status::TimedOut];
    let error = SessionError::IllegalTransition { from: Status::Terminating, to: Status::Ready, allowed };
    assert_eq!(set_status(&record, StatusRequest::to(Status::Ready), at(2), &limits()).unwrap_err(), error);
    assert_eq!(patched(&record, json!({"status": "READY"})).unwrap_err(), error);
    assert_eq!(put(&record, json!({"status": "READY"})).unwrap_err(), error);
    let ended = moved(&mcp(), Status::Stopped, 1);
    let (from, to) = (Status::Stopped, Status::Active);
    assert_eq!(
        patched(&ended, json!({"status": "ACTIVE"})).unwrap_err(),
        SessionError::IllegalTransition { from, to, allowed: vec![] }
    );
}

#[test]
fn the_same_status_changes_nothing() {
    for record in [browser(), mcp(), moved(&browser(), Status::Failed, 1)] {
        assert_eq!(moved(&record, record.session.status, 9), record);
    }
}

#[test]
fn an_expected_status_is_a_condition_even_for_no_change() {
    let record = moved(&browser(), Status::Ready, 1);
    let claim = StatusRequest { expected_status: Some(Status::Ready), ..StatusRequest::to(Status::Active) };
    let won = set_status(&record, claim.clone(), at(2), &limits()).expect("first");
    let lost = set_status(&won, claim, at(3), &limits()).unwrap_err();
    assert_eq!(lost, SessionError::StatusMismatch { expected: Status::Ready, current: Status::Active });
}

#[test]
fn a_sliding_life_slides_with_every_change() {
    let record = mcp();
    let event = NewEvent::from_body(json!({"event_type": "Note"})).expect("valid");
    for next in [
        patched(&record, json!({})),
        patched(&record, json!({"state": {"step": 2}})),
        put(&record, json!({"state": 1})),
        set_status(&record, StatusRequest::to(Status::Ready), at(10), &limits()),
        append_event(&record, event, at(10), &limits()),
        touch(&record, TouchRequest::default(), at(10), &limits()),
    ] {
        let session = next.expect("valid").session;
        assert_eq!(secs(Some(session.expires_at)), Some(86_410));
        assert_eq!((session.updated_at, session.version), (at(10).now, at(10).version));
    }
}

#[test]
fn touching_is_a_sign_of_life() {
    let touched = |record: &SessionRecord, ttl_seconds| {
        touch(record, TouchRequest { ttl_seconds }, at(10), &limits()).expect("valid").session
    };
    let fixed = touched(&browser(), None);
    assert_eq!((secs(fixed.last_active_at), secs(Some(fixed.expires_at))), (Some(10), Some(3600)));
    assert_eq!((fixed.status, fixed.version), (Status::Creating, at(10).version));
    let longer = touched(&browser(), Some(7200));
    assert_eq!((secs(Some(longer.expires_at)), longer.ttl.seconds), (Some(7210), 7200));
    assert_eq!(longer.ttl.mode, TtlMode::Fixed);
    assert_eq!(secs(Some(touched(&mcp(), Some(60)).expires_at)), Some(70));
    let zero = touch(&mcp(), TouchRequest { ttl_seconds: Some(0) }, at(10), &limits());
    assert_eq!(invalid_field(zero), "ttl_seconds");
}

#[test]
fn a_longer_life_outlasts_the_next_patch() {
    let request = TouchRequest { ttl_seconds: Some(7200) };
    let touched = touch(&browser(), request, at(5), &limits()).expect("valid");
    let next = patched(&touched, json!({"public_ip": "10.0.0.1"})).expect("valid");
    assert_eq!(secs(Some(next.session.expires_at)), Some(7205));
}

#[test]
fn reads_a_touch() {
    let read = |body: Value| TouchRequest::from_body(&body);
    for empty in [json!({}), json!(null), json!({"ttl_seconds": null})] {
        assert_eq!(read(empty), Ok(TouchRequest::default()));
    }
    assert_eq!(read(json!({"ttl_seconds": 60})), Ok(TouchRequest { ttl_seconds: Some(60) }));
    assert_eq!(read(json!([])), Err(SessionError::NotAnObject));
    for bad in [json!({"ttl_seconds": 0}), json!({"ttl_seconds": "60"}), json!({"ttlSeconds": 60})] {
        assert!(matches!(read(bad), Err(SessionError::InvalidField { .. })));
    }
}

#[test]
fn events_are_appended_and_capped() {
    let limits = Limits { history: HistoryLimits { events: 2, bytes: 500 }, ..limits() };
    let note = |size: usize| {
        NewEvent::from_body(json!({"event_type": "Note", "detail": {"t": "x".repeat(size)}})).expect("valid")
    };
    let mut record = browser();
    for second in 1..=3 {
        record = append_event(&record, note(10), at(second), &limits).expect("fits");
    }
    let kept: Vec<u64> = record.events.iter().map(|event| event.index).collect();
    assert_eq!((kept, record.session.events_dropped), (vec![1, 2], 1));
    assert_eq!(record.session.version, at(3).version);
    let refused = append_event(&record, note(500), at(4), &limits).unwrap_err();
    assert_eq!(refused, SessionError::TooLarge { limit: 500 });
    let keeping_nothing = Limits { history: HistoryLimits { events: 0, bytes: 500 }, ..limits };
    let counted = append_event(&record, note(10), at(4), &keeping_nothing).expect("only counted");
    assert_eq!((counted.session.event_count, counted.events.len()), (4, 0));
}

#[test]
fn a_record_has_a_size_limit() {
    let record = mcp();
    let bytes = json_bytes(&record);
    let bound = |record_bytes| Limits { record_bytes, ..limits() };
    let body = json!({"state": {"step": 1, "tabs": ["a"]}, "color": "red"});
    assert_eq!(create(id(), body.clone(), at(0), &bound(bytes)), Ok(record.clone()));
    let too_large = SessionError::TooLarge { limit: bytes - 1 };
    assert_eq!(create(id(), body.clone(), at(0), &bound(bytes - 1)).unwrap_err(), too_large);
    assert_eq!(replace(Some(&record), &id(), body, at(1), &bound(bytes - 1)).unwrap_err(), too_large);
    let grown = patch(&record, json!({"color": "reddish"}), at(1), &bound(bytes)).unwrap_err();
    assert_eq!(grown, SessionError::TooLarge { limit: bytes });
}

#[test]
fn a_full_session_can_still_end_and_report() {
    let mut record = browser();
    for second in 1..=5 {
        let event = NewEvent::from_body(json!({"event_type": "Note"})).expect("valid");
        record = append_event(&record, event, at(second), &limits()).expect("fits");
    }
    let full = Limits { record_bytes: json_bytes(&record), ..limits() };
    let ended = set_status(&record, StatusRequest::to(Status::Failed), at(6), &full).expect("always");
    assert!(json_bytes(&ended) <= full.record_bytes);
    assert_eq!(ended.events.last().map(|event| event.index), Some(5));
    assert!(ended.session.events_dropped > 0);
    let event = NewEvent::from_body(json!({"event_type": "Note"})).expect("valid");
    let appended = append_event(&record, event.clone(), at(6), &full).expect("older events make room");
    assert!(json_bytes(&appended) <= full.record_bytes && appended.session.events_dropped > 0);
    let tiny = Limits { record_bytes: 100, ..limits() };
    assert_eq!(
        append_event(&record, event, at(6), &tiny).unwrap_err(),
        SessionError::TooLarge { limit: 100 }
    );
    assert!(set_status(&record, StatusRequest::to(Status::Failed), at(6), &tiny).is_ok());
    assert!(touch(&record, TouchRequest::default(), at(6), &tiny).is_ok());
}
