//! Long work, and the gate that asks what came of it.

use serde_json::{Value, json};

use super::Service;

const WORK: &str = "/v1/admin/work";

#[tokio::test]
async fn work_is_begun_watched_and_cancelled() {
    let service = Service::new().await;
    assert_eq!(service.get(WORK).await.is(200).body, json!({"items": []}));
    let migrate = json!({"kind": "migrate", "options": {"to": "sqlite", "urls": ["https://a/*"]}});
    let begun = service.send("POST", WORK, migrate.clone()).await.is(202);
    assert_eq!(begun.header("location"), "/v1/admin/work/migrate-1");
    assert_eq!((&begun.body["kind"], &begun.body["state"]), (&json!("migrate"), &json!("running")));
    assert_eq!(
        (&begun.body["options"]["to"], &begun.body["options"]["batch_size"]),
        (&json!("sqlite"), &json!(100))
    );
    let busy = service.send("POST", WORK, migrate).await;
    assert_eq!((busy.problem(), &busy.body["running"]), ((409, "work_running"), &json!("migrate-1")));
    let status = service.get("/v1/admin/status").await.is(200).body;
    assert_eq!(status["work"][0]["id"], "migrate-1");
    let cancelled = service.ask("DELETE", begun.header("location"), &[], "").await.is(200);
    assert_eq!(cancelled.body["state"], "cancelled");
    assert_eq!(
        service.get("/v1/admin/status").await.body["work"],
        json!([]),
        "what has ended is not under way"
    );
    service.send("POST", WORK, json!({"kind": "verify"})).await.is(202);
    let all = service.get(WORK).await.is(200).body;
    assert_eq!((&all["items"][0]["id"], &all["items"][1]["id"]), (&json!("verify-2"), &json!("migrate-1")));
    for method in ["GET", "DELETE"] {
        let absent = service.ask(method, "/v1/admin/work/migrate-9", &[], "").await;
        assert_eq!(absent.problem(), (404, "work_not_found"));
    }
    let wrong = service.send("POST", WORK, json!({"kind": "verify", "options": {"sample": 2}})).await;
    assert_eq!((wrong.problem(), &wrong.body["field"]), ((400, "invalid_field"), &json!("sample")));
}

fn failing(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().filter(|check| check["pass"] == false).filter_map(|check| check["name"].as_str()).collect()
}

#[tokio::test]
async fn the_gate_opens_when_everything_is_shown() {
    let service = Service::new().await;
    let gate = "/v1/admin/gate?to=50";
    let closed = service.get(gate).await.is(200).body;
    assert_eq!((&closed["pass"], &closed["to"], &closed["from"]), (&json!(false), &json!(50), &json!(0)));
    assert_eq!(failing(&closed), ["verification", "error_rate", "p99"], "{closed}");

    service.send("POST", WORK, json!({"kind": "verify"})).await.is(202);
    assert_eq!(failing(&service.get(gate).await.body)[0], "verification", "it has not come to its end");
    service.hand.finish(&[("equal", 100), ("different", 1)]);
    assert_eq!(failing(&service.get(gate).await.body)[0], "verification", "something differs");
    service.hand.finish(&[("equal", 101)]);
    // A miss asks the other side.
    service.get("/v1/result?url=https://example.com/").await;
    let open = service.get(gate).await.is(200).body;
    assert_eq!((&open["pass"], failing(&open)), (&json!(true), vec![]), "{open}");
    assert_eq!(open["checks"].as_array().map(Vec::len), Some(8));

    service.remote.die(true);
    service.get("/v1/result?url=https://example.com/").await;
    assert_eq!(failing(&service.get(gate).await.body), ["error_rate"]);
    for to in ["101", "1.234", "NaN", "much", ""] {
        let wrong = service.get(&format!("/v1/admin/gate?to={to}")).await;
        assert_eq!(
            (wrong.problem(), &wrong.body["field"]),
            ((400, "invalid_parameter"), &json!("to")),
            "{to}"
        );
    }
}
