//! Status, events and touch: the steps of a session's life.

use super::*;

#[tokio::test]
async fn a_status_moves_with_its_time_and_its_event() {
    let service = Service::new();
    service.create(browser("s")).await;
    service.at(5);
    let request =
        json!({"status": "READY", "reason": "up", "source": "controller", "expected_status": "CREATING"});
    let ready = service.post("/v1/sessions/s/status", request).await;
    assert_eq!((ready.status, &ready.body["status"]), (200, &json!("READY")));
    assert_eq!(ready.body["ready_at"], "2026-01-15T10:30:05.000Z");
    let history = service.get("/v1/sessions/s/events").await;
    assert_eq!(history.body["items"][0]["detail"]["new_status"], "READY");
    assert_eq!(history.body["items"][0]["source"], "controller");

    let refused = service.post("/v1/sessions/s/status", json!({"status": "STARTING"})).await;
    assert_eq!(refused.problem(), (409, "illegal_transition"));
    assert_eq!(refused.body["allowed"], json!(["ACTIVE", "TERMINATING", "STOPPED", "FAILED", "TIMED_OUT"]));
    let request = json!({"status": "ACTIVE", "expected_status": "STARTING"});
    let refused = service.post("/v1/sessions/s/status", request).await;
    assert_eq!(refused.problem(), (409, "status_mismatch"));
    assert_eq!(refused.body["current"], "READY");
    assert_eq!(service.counted("status", "conflict"), 2);
    for (body, field) in [
        (json!({}), "status"),
        (json!({"status": "UP"}), "status"),
        (json!({"status": "READY", "expected": "ACTIVE"}), "expected"),
    ] {
        let refused = service.post("/v1/sessions/s/status", body).await;
        assert_eq!((refused.problem(), &refused.body["field"]), ((400, "invalid_field"), &json!(field)));
    }
    let late =
        service.send_if("POST", "/v1/sessions/s/status", ("if-match", "\"1\""), json!({"status": "ACTIVE"}));
    assert_eq!(late.await.problem(), (412, "precondition_failed"));
    let absent = service.post("/v1/sessions/x/status", json!({"status": "READY"})).await;
    assert_eq!(absent.problem(), (404, "session_not_found"));
}

#[tokio::test]
async fn events_are_appended_and_paged() {
    let mut config = Config::default();
    config.sessions.max_events = 4;
    config.sessions.max_event_bytes = 2000;
    let service = Service::with(config, &[]).0;
    let created = service.create(browser("s")).await;
    service.at(1);
    for index in 0..6 {
        let event = json!({"event_type": "Noted", "detail": {"n": index}, "trace": "t"});
        let appended = service.post("/v1/sessions/s/events", event).await;
        assert_eq!((appended.status, &appended.body["index"]), (201, &json!(index)));
        assert_eq!(appended.body["trace"], "t");
        assert_ne!(appended.etag(), created.etag());
        assert_eq!(appended.etag(), service.get("/v1/sessions/s").await.etag());
    }
    let indices = |answer: &Answer| -> Vec<u64> {
        let items = answer.body["items"].as_array().expect("items");
        items.iter().map(|event| event["index"].as_u64().expect("a number")).collect()
    };
    let all = service.get("/v1/sessions/s/events").await;
    assert_eq!(indices(&all), [2, 3, 4, 5]);
    assert_eq!((&all.body["event_count"], &all.body["events_dropped"]), (&json!(6), &json!(2)));
    assert_eq!(all.body["next_after"], Value::Null);
    let page = service.get("/v1/sessions/s/events?limit=2").await;
    assert_eq!((indices(&page), &page.body["next_after"]), (vec![2, 3], &json!(3)));
    let page = service.get("/v1/sessions/s/events?limit=2&after=3").await;
    assert_eq!((indices(&page), &page.body["next_after"]), (vec![4, 5], &Value::Null));
    assert_eq!(service.get("/v1/sessions/s/events?after=5").await.body["items"], json!([]));

    for (body, problem) in [
        (json!({}), (400, "invalid_field")),
        (json!({"event_type": "A", "index": 1}), (422, "immutable_field")),
        (json!({"event_type": "A", "detail": {"text": "x".repeat(3000)}}), (413, "document_too_large")),
    ] {
        assert_eq!(service.post("/v1/sessions/s/events", body).await.problem(), problem);
    }
    for query in ["limit=0", "limit=1001", "after=-1"] {
        let refused = service.get(&format!("/v1/sessions/s/events?{query}")).await;
        assert_eq!(refused.problem(), (400, "invalid_parameter"), "{query}");
    }
    assert_eq!(service.get("/v1/sessions/x/events").await.problem(), (404, "session_not_found"));
    let late = json!({"event_type": "A"});
    let late = service.send_if("POST", "/v1/sessions/s/events", ("if-match", "\"1\""), late).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    assert_eq!(indices(&service.get("/v1/sessions/s/events").await), [2, 3, 4, 5]);
}

#[tokio::test]
async fn touching_keeps_a_session_alive() {
    let service = Service::new();
    service.create(json!({"id": "s", "ttl_seconds": 60})).await;
    for second in [50, 100, 150] {
        service.at(second);
        let touched = service.ask("POST", "/v1/sessions/s/touch", &[], "").await;
        assert_eq!(touched.status, 200);
        assert_eq!(service.stored("s").await.expect("stored").session.expires_at.as_secs(), T0 + second + 60);
    }
    let longer = service.post("/v1/sessions/s/touch", json!({"ttl_seconds": 600})).await;
    assert_eq!(longer.body["ttl"]["seconds"], 600);
    for body in [json!({"ttl": 5}), json!({"ttl_seconds": 0})] {
        assert_eq!(service.post("/v1/sessions/s/touch", body).await.problem(), (400, "invalid_field"));
    }
    service.create(browser("fixed")).await;
    service.at(160);
    let fixed = service.ask("POST", "/v1/sessions/fixed/touch", &[], "").await;
    assert_eq!(fixed.body["last_active_at"], "2026-01-15T10:32:40.000Z");
    assert_eq!(fixed.body["expires_at"], "2026-01-15T11:32:30.000Z", "a fixed life ends when it ends");
    let late = service.send_if("POST", "/v1/sessions/fixed/touch", ("if-match", "\"1\""), Value::Null).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    service.at(151 + 600);
    let late = service.ask("POST", "/v1/sessions/s/touch", &[], "").await;
    assert_eq!(late.problem(), (404, "session_expired"));
}
