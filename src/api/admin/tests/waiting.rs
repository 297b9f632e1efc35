//! The outbox, and the page that shows everything.

use serde_json::{Value, json};

use super::Service;
use crate::domain::{Key, Namespace};
use crate::store::sqlite::ledger::outbox::Tried;

/// A service with three writes that wait.
async fn with_three() -> Service {
    let service = Service::new().await;
    service.set(json!({"percent": 100})).await;
    service.remote.die(true);
    for n in 0..3 {
        service
            .send("PUT", &format!("/v1/result?url=https://example.com/{n}"), json!({"n": n}))
            .await
            .is(202);
    }
    service
}

async fn park(service: &Service, n: usize) {
    let key = Key::new(&Namespace::default(), &format!("https://example.com/{n}"), "").expect("a key");
    let parked = Tried::Park { error: "too large for anything".to_owned() };
    service.routed.parts().database.outbox_tried(vec![(key.id(), parked)]).await.expect("written");
}

#[tokio::test]
async fn rows_are_listed_tried_again_and_given_up() {
    let service = with_three().await;
    let page = service.get("/v1/admin/outbox?limit=2").await.is(200).body;
    let first = &page["items"][0];
    assert_eq!((&first["kind"], &first["url"]), (&json!("result"), &json!("https://example.com/0")));
    assert_eq!((&first["session_id"], &first["namespace"]), (&Value::Null, &json!("default")));
    let cursor = page["next_cursor"].as_str().expect("more");
    let rest = service.get(&format!("/v1/admin/outbox?limit=2&cursor={cursor}")).await.is(200).body;
    assert_eq!((rest["items"].as_array().map(Vec::len), rest.get("next_cursor")), (Some(1), None));
    let foreign = service.get(&format!("/v1/admin/outbox?parked=true&cursor={cursor}")).await;
    assert_eq!(foreign.problem(), (400, "invalid_cursor"));

    park(&service, 1).await;
    park(&service, 2).await;
    let parked = service.get("/v1/admin/outbox?parked=true").await.is(200).body;
    let seqs: Vec<i64> =
        parked["items"].as_array().expect("items").iter().filter_map(|row| row["seq"].as_i64()).collect();
    assert_eq!(seqs.len(), 2, "{parked}");
    assert_eq!(parked["items"][0]["error"], "too large for anything");

    let gone = service.ask("DELETE", &format!("/v1/admin/outbox/{}", seqs[0]), &[], "").await;
    assert_eq!(gone.status, 204);
    for path in [seqs[0].to_string(), (seqs[0] - 1).to_string()] {
        let absent = service.ask("DELETE", &format!("/v1/admin/outbox/{path}"), &[], "").await;
        assert_eq!(absent.problem(), (404, "outbox_row_not_found"), "{path}");
    }
    let wrong = service.ask("DELETE", "/v1/admin/outbox/first", &[], "").await;
    assert_eq!((wrong.problem(), &wrong.body["field"]), ((400, "invalid_parameter"), &json!("seq")));

    let retry = |body: Value| service.send("POST", "/v1/admin/outbox/retry", body);
    assert_eq!(retry(json!({"seq": seqs[0]})).await.problem(), (404, "outbox_row_not_found"));
    assert_eq!(retry(json!({"seq": seqs[1]})).await.is(200).body, json!({"retried": 1}));
    assert_eq!(retry(json!({})).await.is(200).body, json!({"retried": 0}));
}

#[tokio::test]
async fn one_page_shows_everything() {
    let service = with_three().await;
    park(&service, 0).await;
    service.at(7);
    let page = service.get("/v1/admin/status").await.is(200).body;
    assert_eq!((&page["status"], &page["routing"]["effective_percent"]), (&json!("degraded"), &json!(100)));
    assert_eq!(page["backends"]["sqlite"]["holds"]["entries"], 3);
    assert_eq!(page["backends"]["dynamodb"]["holds"], Value::Null);
    assert!(
        page["circuit"]["error"].as_str().is_some_and(|text| text.contains("the plug is pulled")),
        "{page}"
    );
    assert_eq!(page["outbox"], json!({"queued": 2, "parked": 1, "oldest_seconds": 7.0, "limit": 1_000_000}));
    assert!(page["recent"]["errors"].as_u64() > Some(0), "{page}");
    let put = page["traffic"].as_array().expect("a list").iter().find(|one| one["operation"] == "put");
    let put = put.expect("something was put");
    assert_eq!((&put["backend"], &put["reason"]), (&json!("sqlite"), &json!("queued")), "{page}");
    assert_eq!((&put["count"], &put["share"]), (&json!(3), &json!(1.0)));
    assert_eq!(page["work"], json!([]));
}
