//! What callers and probes see of two backends, one of which may be dead.

use serde_json::json;

use super::Service;

const URL: &str = "/v1/result?url=https://example.com/";

#[tokio::test]
async fn without_dynamodb_it_is_degraded_and_ready() {
    let service = Service::new().await;
    assert_eq!(service.get("/readyz").await.is(200).body, "ok\n");
    let health = service.get("/health").await.is(200).body;
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["backends"].as_object().map(serde_json::Map::len), Some(2));

    service.remote.die(true);
    assert_eq!(service.get("/readyz").await.is(200).body, "degraded\n");
    let health = service.get("/health").await.is(200).body;
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["backends"]["sqlite"]["status"], "healthy");
    assert_eq!(
        (&health["backends"]["dynamodb"]["status"], &health["backends"]["dynamodb"]["error"]),
        (&json!("unhealthy"), &json!("see the log"))
    );
    let text = service.get("/metrics").await.is(200).body.as_str().expect("text").to_owned();
    for line in [
        r#"crawlcache_backend_up{backend="sqlite"} 1"#,
        r#"crawlcache_backend_up{backend="dynamodb"} 0"#,
        "crawlcache_outbox_limit_rows 1000000",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let stats = service.get("/v1/stats").await.is(200).body;
    assert!(stats["backends"]["dynamodb"]["error"].is_string(), "{stats}");
    assert_eq!(stats["backends"]["sqlite"]["entries"], 0);

    while service.routed.parts().remote.circuit.status().failures < 5 {
        // A look at how it is says nothing to the circuit; a key that SQLite does not have does.
        service.get(URL).await.is(404);
    }
    let errors = || service.metrics.backend_errors.with_label_values(&["dynamodb", "unavailable"]).get();
    let before = errors();
    assert_eq!(service.get("/readyz").await.is(200).body, "degraded\n");
    assert_eq!(errors(), before, "an open circuit is not asked");
}

#[tokio::test]
async fn a_write_that_waits_says_so() {
    let service = Service::new().await;
    service.set(json!({"percent": 100})).await;
    service.remote.die(true);
    let queued = service.send("PUT", URL, json!({"n": 1})).await.is(202);
    assert_eq!(queued.body["outcome"], "queued");
    assert_eq!(queued.header("cache-status"), "crawlcache; stored; detail=queued");
    assert!(!queued.etag().is_empty());
    let read = service.get(URL).await.is(200);
    assert!(read.header("cache-status").ends_with("detail=queued"), "{read:?}");
    let lines = "{\"url\":\"https://example.com/b\",\"document\":{}}\n";
    let batch = service.ask("POST", "/v1/results/batch-put", &[], lines).await.is(200);
    assert_eq!((&batch.body["status"], &batch.body["outcome"]), (&json!(202), &json!("queued")));
    let gone = service.ask("DELETE", URL, &[], "").await.is(202);
    assert_eq!(gone.header("cache-status"), "crawlcache; detail=queued");
    assert_eq!(service.get(URL).await.problem(), (404, "result_not_found"));

    let text = service.get("/metrics").await.is(200).body.as_str().expect("text").to_owned();
    let rows = r#"crawlcache_outbox_rows{state="queued"} 3"#;
    assert!(
        text.contains(rows),
        "a row a key, and one for the failed result that the owner may have of the deleted one"
    );
    service.at(5);
    let text = service.get("/metrics").await.is(200).body.as_str().expect("text").to_owned();
    assert!(text.contains("crawlcache_outbox_oldest_seconds 5"), "{text}");
}

#[tokio::test]
async fn what_is_old_is_no_answer_while_the_owner_may_have_a_newer_one() {
    let service = Service::new().await;
    service.send("PUT", &format!("{URL}&ttl=10"), json!({"n": 1})).await.is(201);
    service.set(json!({"force": "dynamodb"})).await;
    service.remote.die(true);
    let fresh = service.get(URL).await.is(200);
    assert!(fresh.header("cache-status").ends_with("detail=fallback"), "{fresh:?}");
    for (query, reason) in [("&require=html", "field_missing"), ("&max_age=0", "too_old"), ("", "expired")] {
        service.at(if reason == "expired" { 20 } else { 5 });
        let unknown = service.get(&format!("{URL}{query}")).await;
        assert_eq!((unknown.problem(), &unknown.body["reason"]), ((503, "unavailable"), &json!(reason)));
    }
    let stale = service.get(&format!("{URL}&stale=60")).await.is(200);
    assert!(stale.header("cache-status").ends_with("detail=stale"), "{stale:?}");
    assert_eq!(service.metrics.lookups.with_label_values(&["get", "error"]).get(), 3);
}
