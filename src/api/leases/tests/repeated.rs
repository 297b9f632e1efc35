//! Writes under a lease that are repeated, and others that only look so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Answer, Service, URL, held, won};
use crate::store::LeaseStore;

/// `PATCH /v1/result` under a lease.
async fn patch(service: &Service, lease: &str, more: &str, body: &str) -> Answer {
    let path = format!("/v1/result?url={URL}{more}");
    service.ask("PATCH", &path, &[("crawlcache-lease", lease)], body).await
}

#[tokio::test]
async fn another_write_under_the_same_lease_is_not_taken_for_the_first() {
    let service = Service::new();
    let lease = service.lease().await;
    service.put(&lease, "page").await.is(201);
    service.at(5);
    for more in ["&confirmed=true&origin_etag=%22x%22", "&confirmed=true&ttl=3600", "&ttl=3600"] {
        let answer = patch(&service, &lease, more, "{}").await;
        assert_eq!(answer.problem(), (409, "lease_outdated"), "{more}");
    }
    assert_eq!(service.get("").await.is(200).header("crawlcache-origin-etag"), "");
    assert_eq!(service.put(&lease, "page").await.is(200).body["outcome"], "refreshed");
    assert_eq!((service.counted("stored"), service.counted("released")), (1, 0));
}

#[tokio::test]
async fn a_patch_is_repeated_whatever_the_page_counts_as() {
    let service = Service::new();
    service.put(&service.lease().await, "page").await.is(201);
    service.at(100);
    let lease = service.lease().await;
    for seconds in [100, 103] {
        service.at(seconds);
        let answer = patch(&service, &lease, "&ttl=60", r#"{"success":false}"#).await.is(200);
        assert_eq!(answer.body["quality"], "failed");
    }
}

#[tokio::test]
async fn a_write_with_a_condition_is_repeated() {
    let service = Service::new();
    let lease = service.lease().await;
    let put = async |html: &str| {
        let headers = [("crawlcache-lease", lease.as_str()), ("if-none-match", "*")];
        let path = format!("/v1/result?url={URL}&ttl=60");
        service.ask("PUT", &path, &headers, &json!({"html": html}).to_string()).await
    };
    put("page").await.is(201);
    assert_eq!(put("page").await.is(200).body["outcome"], "refreshed");
    assert_eq!(put("another").await.problem(), (412, "precondition_failed"));
}

#[tokio::test]
async fn a_lease_that_can_store_nothing_any_more_ends() {
    let service = Service::new();
    let lease = service.lease().await;
    let path = format!("/v1/result?url={URL}&ttl=60");
    service.ask("PUT", &path, &[], r#"{"html":"by another"}"#).await.is(201);
    assert_eq!(service.put(&lease, "mine").await.problem(), (409, "lease_outdated"));
    let answer = service.get("&lease=30&max_age=0&require=markdown").await;
    assert_eq!(won(&answer).len(), 64, "it is free");
}

#[tokio::test]
async fn what_is_stored_under_a_lease_is_fetched_now() {
    let service = Service::new();
    let lease = service.lease().await;
    let path = format!("/v1/result?url={URL}&updated_at=2026-01-01T00:00:00Z");
    let answer = service.ask("PUT", &path, &[("crawlcache-lease", &lease)], "{}").await;
    assert_eq!((answer.problem(), &answer.body["field"]), ((400, "invalid_parameter"), &json!("updated_at")));
    held(&service.get("&lease=30").await);
}

#[tokio::test]
async fn only_what_was_held_counts_as_released() {
    let service = Service::new();
    let lease = service.lease().await;
    let unknown = format!("{}{}", &lease[..32], "0".repeat(32));
    for (token, count) in [(&unknown, 0), (&lease, 1), (&lease, 1)] {
        service.ask("DELETE", &format!("/v1/leases/{token}"), &[], "").await.is(204);
        assert_eq!(service.counted("released"), count);
    }
}

#[tokio::test]
async fn what_goes_on_without_its_client_keeps_its_place() {
    let service = Service::new();
    let gate = Arc::clone(&service.leases.gate).lock_owned().await;
    let asking = service.waits("&lease=30");
    let in_flight = &service.api.metrics.http_requests_in_flight;
    let until = async |condition: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", in_flight.get());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    until(&|| service.leases.claims.load(Ordering::SeqCst) == 1).await;
    asking.abort();
    assert!(asking.await.is_err());
    assert_eq!(in_flight.get(), 1, "the claim is still under way");
    drop(gate);
    until(&|| in_flight.get() == 0).await;
    service.api.shared().hub.ended().await;
    let held = service.store.held(&[super::key().id()], service.clock.now()).await.expect("memory");
    assert_eq!(held, [None], "it was given back");
}
