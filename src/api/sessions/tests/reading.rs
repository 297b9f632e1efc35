//! GET, HEAD and batch-get: what of a session is shown to whom.

use super::*;

#[tokio::test]
async fn a_session_has_its_headers_and_a_304() {
    let service = Service::new();
    let created = service.create(browser("s")).await;
    let read = service.get("/v1/sessions/s").await;
    assert_eq!((read.status, read.etag()), (200, created.etag()));
    assert_eq!(read.header("last-modified"), "Thu, 15 Jan 2026 10:30:00 GMT");
    assert_eq!(read.header("cache-control"), "private, no-cache");
    let head = service.ask("HEAD", "/v1/sessions/s", &[], "").await;
    assert_eq!((head.status, head.etag(), &head.body), (200, created.etag(), &Value::Null));
    let known = service.ask("GET", "/v1/sessions/s", &[("if-none-match", created.etag())], "").await;
    assert_eq!((known.status, known.etag(), &known.body), (304, created.etag(), &Value::Null));
    let other = service.ask("GET", "/v1/sessions/s", &[("if-none-match", "\"1\"")], "").await;
    assert_eq!(other.status, 200);
    let unreadable = service.ask("GET", "/v1/sessions/s", &[("if-none-match", "1")], "").await;
    assert_eq!(unreadable.problem(), (400, "invalid_header"));
    let plain = service.ask("GET", "/v1/sessions/s", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(plain.header("content-encoding"), "", "its tag stands for these bytes");
}

#[tokio::test]
async fn fields_are_chosen() {
    let service = Service::new();
    service.create(json!({"id": "s", "state": {"n": 1}, "colour": "red"})).await;
    let some = service.get("/v1/sessions/s?fields=state,%20colour,absent").await;
    assert_eq!(some.body, json!({"state": {"n": 1}, "colour": "red"}));
    assert_eq!(service.get("/v1/sessions/s?fields=a,,b").await.problem(), (400, "invalid_parameter"));
}

#[tokio::test]
async fn an_expired_session_says_when() {
    let service = Service::new();
    service.create(browser("s")).await;
    assert_eq!(service.get("/v1/sessions/other").await.problem(), (404, "session_not_found"));
    service.at(3599);
    assert_eq!(service.get("/v1/sessions/s").await.status, 200);
    service.at(3600);
    let gone = service.get("/v1/sessions/s").await;
    assert_eq!(gone.problem(), (404, "session_expired"));
    assert_eq!(gone.body["expired_at"], "2026-01-15T11:30:00.000Z");
    assert_eq!(service.get("/v1/sessions/s?include_expired=true").await.body["id"], "s");
    assert_eq!(service.get("/v1/sessions/s/events").await.problem(), (404, "session_expired"));
    for (method, step, body) in [
        ("PATCH", "", json!({})),
        ("POST", "/touch", json!({})),
        ("POST", "/status", json!({"status": "READY"})),
        ("POST", "/events", json!({"event_type": "A"})),
    ] {
        let expired = service.send(method, &format!("/v1/sessions/s{step}"), body.clone()).await;
        assert_eq!(expired.problem(), (404, "session_expired"), "{method} {step}");
        let absent = service.send(method, &format!("/v1/sessions/x{step}"), body).await;
        assert_eq!(absent.problem(), (404, "session_not_found"), "{method} {step}");
    }
    assert_eq!((service.counted("get", "absent"), service.counted("get", "expired")), (1, 1));
}

#[tokio::test]
async fn secrets_need_the_scope_and_a_question() {
    let (mut service, tokens) = Service::with(Config::default(), &[everything_but_secrets(), Scopes::ALL]);
    for (token, sees) in [(&tokens[0], false), (&tokens[1], true)] {
        service.token = Some(token.clone());
        let created = service.send("PUT", "/v1/sessions/s", with_secrets("s")).await;
        assert!(!shows_secrets(&created), "{created:?}");
        for path in ["/v1/sessions/s", "/v1/sessions/s?fields=model_config", "/v1/sessions?project_id=p"] {
            let answer = service.get(path).await;
            assert!(answer.status == 200 && !shows_secrets(&answer), "{path}: {answer:?}");
        }
        let fields = json!({"ids": ["s"], "fields": ["signing_key", "id"]});
        let batch = service.post("/v1/sessions/batch-get", fields).await;
        assert_eq!(batch.body["items"], json!([{"id": "s"}]));
        let one = service.get("/v1/sessions/s?fields=signing_key").await;
        assert_eq!(one.body, if sees { json!({"signing_key": "K1"}) } else { json!({}) });
        let all = service.get("/v1/sessions/s?include_secrets=true").await;
        assert_eq!(all.body["model_config"]["api_key"] == "K3", sees);
        assert_eq!(all.body["connect_url"].is_string(), sees);
        assert_eq!(all.header("cache-control"), if sees { "no-store" } else { "private, no-cache" });
    }
}

#[tokio::test]
async fn sending_back_what_was_read_erases_no_secret() {
    let (mut service, tokens) = Service::with(Config::default(), &[everything_but_secrets(), Scopes::ALL]);
    service.token = Some(tokens[0].clone());
    service.create(with_secrets("s")).await;
    let mut read = service.get("/v1/sessions/s").await.body;
    read["user_metadata"] = json!({"seen": true});
    assert_eq!(service.send("PUT", "/v1/sessions/s", read.clone()).await.status, 200);
    let stored = service.stored("s").await.expect("stored").session;
    assert_eq!(stored.signing_key.as_deref(), Some("K1"));
    assert_eq!(stored.model_config["api_key"], "K3");
    assert_eq!(stored.user_metadata["seen"], true);
    // Whoever may see them does not see them either unless asked for: only a null says that they shall go.
    service.token = Some(tokens[1].clone());
    assert_eq!(service.send("PUT", "/v1/sessions/s", json!({})).await.status, 200);
    assert_eq!(service.stored("s").await.expect("stored").session.signing_key.as_deref(), Some("K1"));
    assert_eq!(service.send("PUT", "/v1/sessions/s", json!({"signing_key": null})).await.status, 200);
    assert_eq!(service.stored("s").await.expect("stored").session.signing_key, None);
}

#[tokio::test]
async fn batch_get_keeps_the_order_and_names_what_is_missing() {
    let service = Service::new();
    for id in ["a", "b"] {
        service.create(json!({"id": id, "state": id})).await;
    }
    service.create(json!({"id": "brief", "ttl_seconds": 5})).await;
    service.at(5);
    let ids = json!({"ids": ["b", "absent", "brief", "a"], "fields": ["id", "state"]});
    let batch = service.post("/v1/sessions/batch-get", ids).await;
    assert_eq!(
        batch.body,
        json!({"items": [{"id": "b", "state": "b"}, {"id": "a", "state": "a"}], "missing": ["absent", "brief"]})
    );
    let whole = service.post("/v1/sessions/batch-get", json!({"ids": ["a"]})).await;
    assert_eq!(whole.body["items"][0], service.get("/v1/sessions/a").await.body);
    for (body, problem) in [
        (json!({"ids": vec!["a"; 101]}), (400, "invalid_field")),
        (json!({"ids": ["a b"]}), (400, "invalid_session_id")),
        (json!({"ids": "a"}), (400, "invalid_field")),
        (json!({"keys": ["a"]}), (400, "invalid_field")),
    ] {
        assert_eq!(service.post("/v1/sessions/batch-get", body.clone()).await.problem(), problem, "{body}");
    }
    assert_eq!(service.post("/v1/sessions/batch-get", json!({"ids": vec!["a"; 100]})).await.status, 200);
    assert_eq!((service.counted("batch_get", "ok"), service.counted("batch_get", "rejected")), (3, 4));
}
