//! Reading and changing the policy, going back, and the log of it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{ROUTING, Service};
use crate::api::testing::{ask, tokens};
use crate::auth::{Scope, Scopes};
use crate::domain::routing::Force;

const LOG: &str = "/v1/admin/routing/log";

fn whole(percent: f64) -> Value {
    json!({"percent": percent, "force": "none", "dual_write": true, "shadow_read": 0.05, "on_owner_failure": "reject"})
}

#[tokio::test]
async fn a_policy_is_set_whole_by_those_who_have_seen_the_last_one() {
    let service = Service::new().await;
    let first = service.get(ROUTING).await.is(200);
    assert_eq!(first.etag(), "\"0\"");
    assert_eq!(first.body["policy"]["percent"], 0);
    assert_eq!((&first.body["changed_at"], &first.body["pinned_by"]), (&Value::Null, &Value::Null));

    let blind = service.send("PUT", ROUTING, whole(25.0)).await;
    assert_eq!(blind.problem(), (428, "precondition_required"));
    let put = |tag: &'static str, percent: f64| {
        let (service, body) = (&service, whole(percent).to_string());
        async move { service.ask("PUT", ROUTING, &[("if-match", tag)], &body).await }
    };
    let set = put("\"0\"", 12.5).await.is(200);
    assert_eq!((set.etag(), &set.body["generation"]), ("\"1\"", &json!(1)));
    assert_eq!(
        (&set.body["policy"]["percent"], &set.body["effective_percent"]),
        (&json!(12.5), &json!(12.5))
    );
    assert_eq!(set.body["moves"], json!({"to_dynamodb": 1250, "to_sqlite": 0, "buckets": 10_000}));
    assert_eq!(set.body["policy"]["on_owner_failure"], "reject");
    assert_eq!(set.body["changes"].as_array().map(Vec::len), Some(4));

    let late = put("\"0\"", 50.0).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    assert_eq!((late.etag(), &late.body["current"]["policy"]["percent"]), ("\"1\"", &json!(12.5)));
    for none in ["W/\"1\"", "\"other\"", "\"0\", \"2\""] {
        assert_eq!(put(none, 50.0).await.status, 412, "{none}");
    }
    assert_eq!(put("1", 50.0).await.problem(), (400, "invalid_header"));
    assert_eq!(put("\"7\", \"1\"", 50.0).await.is(200).etag(), "\"2\"");
    assert_eq!(put("*", 60.0).await.is(200).etag(), "\"3\"");
    assert_eq!(put("*", 60.0).await.is(200).etag(), "\"3\"", "nothing differs: nothing is changed");
    assert_eq!(service.get(ROUTING).await.body["policy"], {
        let mut policy = whole(60.0);
        policy["percent"] = json!(60);
        policy
    });
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let service = Service::new().await;
    for (patch, field) in [
        (json!({"percent": 100.01}), "percent"),
        (json!({"percent": 1.005}), "percent"),
        (json!({"percent": null}), "percent"),
        (json!({"force": "both"}), "force"),
        (json!({"dual_write": "yes"}), "dual_write"),
        (json!({"shadow_read": -0.1}), "shadow_read"),
        (json!({"on_owner_failure": "drop"}), "on_owner_failure"),
        (json!({"reason": "two\nlines"}), "reason"),
        (json!({"reason": "x".repeat(1001)}), "reason"),
        (json!({"percentage": 5}), "percentage"),
    ] {
        let refused = service.send("PATCH", ROUTING, patch.clone()).await;
        assert_eq!(refused.problem(), (400, "invalid_field"), "{patch}");
        assert_eq!(refused.body["field"], field, "{patch}");
    }
    let missing = service.ask("PUT", ROUTING, &[("if-match", "*")], r#"{"percent": 1}"#).await;
    assert_eq!((missing.problem(), &missing.body["field"]), ((400, "invalid_field"), &json!("force")));
    assert_eq!(service.get(ROUTING).await.etag(), "\"0\"");
}

#[tokio::test]
async fn a_dry_run_says_what_would_change() {
    let service = Service::new().await;
    service.set(json!({"percent": 50, "dual_write": true})).await;
    let path = format!("{ROUTING}?dry_run=true");
    let would = service.send("PATCH", &path, json!({"percent": 20})).await.is(200);
    assert_eq!((would.etag(), &would.body["dry_run"]), ("\"1\"", &json!(true)));
    assert_eq!(would.body["changes"], json!([{"member": "percent", "before": 50, "after": 20}]));
    assert_eq!(would.body["moves"], json!({"to_dynamodb": 0, "to_sqlite": 3000, "buckets": 10_000}));
    assert_eq!(would.body["warnings"].as_array().map(Vec::len), Some(1), "{would:?}");
    assert_eq!(service.get(ROUTING).await.body["policy"]["percent"], 50);
    assert_eq!(service.get(LOG).await.body["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_a_variable_holds_is_not_changed_here() {
    let service = Service::pinned(Force::Sqlite).await;
    let state = service.get(ROUTING).await.is(200).body;
    assert_eq!((&state["pinned_by"], &state["effective_percent"]), (&json!("FORCE_SQLITE"), &json!(0)));
    for path in [ROUTING.to_owned(), format!("{ROUTING}?dry_run=true")] {
        let refused = service.send("PATCH", &path, json!({"force": "none"})).await;
        assert_eq!(refused.problem(), (409, "routing_pinned"));
        assert_eq!(refused.body["pinned_by"], "FORCE_SQLITE");
    }
    let share = service.set(json!({"percent": 10})).await;
    assert_eq!((&share["policy"]["percent"], &share["effective_percent"]), (&json!(10), &json!(0)));
    assert!(share["warnings"].to_string().contains("`force` is set"), "{share}");
    service.send("POST", "/v1/admin/rollback", json!({})).await.is(200);
}

#[tokio::test]
async fn sixteen_changes_at_once_are_all_made_and_each_is_logged_once() {
    let service = Service::new().await;
    let patches = (1..=16).map(|n| {
        let (service, body) = (&service, json!({"percent": n, "reason": format!("step {n}")}));
        async move { service.send("PATCH", ROUTING, body).await.is(200).body["generation"].as_u64() }
    });
    let generations: BTreeSet<Option<u64>> = join_all(patches).await.into_iter().collect();
    assert_eq!(generations, (1..=16).map(Some).collect());

    let mut items = Vec::new();
    let mut path = format!("{LOG}?limit=5");
    loop {
        let page = service.get(&path).await.is(200).body;
        items.extend(page["items"].as_array().expect("items").clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{LOG}?limit=5&cursor={cursor}");
    }
    let generations: Vec<Option<u64>> = items.iter().map(|item| item["generation"].as_u64()).collect();
    assert_eq!(generations, (1..=16).rev().map(Some).collect::<Vec<_>>(), "newest first, none twice");
    let reasons: BTreeSet<&str> = items.iter().filter_map(|item| item["reason"].as_str()).collect();
    assert_eq!(reasons.len(), 16);
    for pair in items.windows(2) {
        assert_eq!(pair[0]["before"], pair[1]["after"], "each begins where the last one ended");
    }
    assert_eq!(items[0]["who"], "anonymous (no tokens configured)");

    let racing = (1..=16).map(|n| {
        let (service, body) = (&service, json!({"shadow_read": 1.0 / f64::from(n)}).to_string());
        async move { service.ask("PATCH", ROUTING, &[("if-match", "\"16\"")], &body).await.status }
    });
    let mut statuses = join_all(racing).await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[412; 15][..]), "one has seen the last");
}

#[tokio::test]
async fn the_way_back_is_one_call() {
    let service = Service::new().await;
    service.set(json!({"percent": 50})).await;
    let part =
        service.send("POST", "/v1/admin/rollback", json!({"to": 10, "reason": "latency"})).await.is(200);
    assert_eq!(
        (&part.body["policy"]["percent"], &part.body["policy"]["force"]),
        (&json!(10), &json!("none"))
    );
    assert_eq!(part.body["moves"]["to_sqlite"], 4000);
    let no_way = service.send("POST", "/v1/admin/rollback", json!({"to": 10})).await;
    assert_eq!((no_way.problem(), &no_way.body["field"]), ((400, "invalid_field"), &json!("to")));
    let all = service.ask("POST", "/v1/admin/rollback", &[], "").await.is(200);
    assert_eq!(
        (&all.body["policy"]["force"], &all.body["policy"]["percent"]),
        (&json!("sqlite"), &json!(10))
    );
    assert_eq!(all.body["effective_percent"], 0);
    assert!(all.body["warnings"].to_string().contains("stays readable"), "{all:?}");
    let log = service.get(LOG).await.body;
    assert_eq!((&log["items"][1]["reason"], &log["items"][0]["reason"]), (&json!("latency"), &json!("")));
}

#[tokio::test]
async fn it_is_for_operators_who_are_named_in_the_log() {
    let scopes = [Scopes::ALL, Scopes::NONE.with(Scope::Read).with(Scope::Write)];
    let (service, texts) = Service::with(None, &scopes).await;
    service.set(json!({"percent": 5})).await;
    assert_eq!(service.get(LOG).await.body["items"][0]["who"], "token 0");
    for (method, path) in ADMIN {
        let refused = ask(&service.router, Some(&texts[1]), (method, path), &[], "{}").await;
        assert_eq!(refused.problem(), (403, "forbidden"), "{method} {path}");
        let unknown = ask(&service.router, None, (method, path), &[], "{}").await;
        assert_eq!(unknown.problem(), (401, "unauthorized"), "{method} {path}");
    }
}

/// Every route of operators.
const ADMIN: [(&str, &str); 14] = [
    ("GET", ROUTING),
    ("PUT", ROUTING),
    ("PATCH", ROUTING),
    ("GET", LOG),
    ("POST", "/v1/admin/rollback"),
    ("GET", "/v1/admin/status"),
    ("GET", "/v1/admin/gate?to=50"),
    ("GET", "/v1/admin/outbox"),
    ("POST", "/v1/admin/outbox/retry"),
    ("DELETE", "/v1/admin/outbox/1"),
    ("GET", "/v1/admin/work"),
    ("POST", "/v1/admin/work"),
    ("GET", "/v1/admin/work/migrate-1"),
    ("DELETE", "/v1/admin/work/migrate-1"),
];

#[tokio::test]
async fn a_service_with_one_store_says_how_to_get_two() {
    let router = crate::api::router(crate::api::Api::new(crate::api::Parts {
        config: crate::config::Config::default(),
        clock: crate::clock::Clock::system(),
        clock_guard: None,
        metrics: crate::metrics::Metrics::new(),
        results: std::sync::Arc::new(crate::store::memory::MemoryStore::new()),
        sessions: std::sync::Arc::new(crate::store::memory::MemoryStore::new()),
        leases: std::sync::Arc::new(crate::store::memory::MemoryStore::new()),
        hosts: std::sync::Arc::new(crate::store::memory::MemoryStore::new()),
        memory: None,
        tokens: tokens(&[]).0,
        backends: Vec::new(),
        bucket: None,
        routed: None,
        recent: None,
        worker: None,
    }));
    for (method, path) in ADMIN {
        let refused = ask(&router, None, (method, path), &[], "{}").await;
        assert_eq!(refused.problem(), (409, "not_routed"), "{method} {path}");
        assert!(refused.body["detail"].to_string().contains("DYNAMODB_MIGRATION_PCT"), "{refused:?}");
    }
}
