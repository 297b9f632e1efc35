//! What has just failed is not tried again at once, and a lease that cannot be had costs nobody the page it has.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Answer, Service, URL, held_nowhere, won};
use crate::config::Config;
use crate::store::Error;

/// Asserts that the page has just been tried, and when to come back.
#[track_caller]
fn failed(answer: &Answer, retry_after: &str) {
    assert_eq!(answer.problem(), (404, "result_not_found"), "{answer:?}");
    assert_eq!(answer.body["lease"], json!({"state": "failed"}));
    assert_eq!(answer.header("retry-after"), retry_after, "{answer:?}");
    held_nowhere(answer);
}

#[tokio::test]
async fn who_has_a_stale_page_does_not_try_again_what_has_just_failed() {
    let service = Service::new();
    let lease = service.lease().await;
    service.put(&lease, "old").await.is(201);
    service.at(100);
    let lease = service.get("&stale=900&lease=30").await.is(200).header("crawlcache-lease").to_owned();
    service.put_failed(&[("crawlcache-lease", &lease)]).await.is(201);
    let answer = service.get("&stale=900&lease=30&quality=good").await.is(200);
    assert_eq!(answer.body["html"], "old");
    held_nowhere(&answer);
    assert_eq!(service.counted("failed"), 1);
    // Nor is it told that the page is fresh, whoever only asks for the lease.
    let body = json!({"url": URL, "stale": 900}).to_string();
    let answer = service.ask("POST", "/v1/leases", &[], &body).await;
    failed(&answer, "60");
    assert_eq!((&answer.body["reason"], &answer.body["ttl"]), (&json!("expired"), &json!(-40)));
    service.at(161);
    let answer = service.get("&stale=900&lease=30&quality=good").await.is(200);
    assert_eq!(answer.header("crawlcache-lease").len(), 64, "the failure has had its time");
}

#[tokio::test]
async fn who_wants_a_good_page_does_not_try_again_what_has_just_failed() {
    let service = Service::new();
    service.put_failed(&[]).await.is(201);
    service.at(20);
    for more in ["&lease=30&quality=good", "&lease=30&quality=good&wait=10", "&lease=30&require=markdown"] {
        failed(&service.get(more).await, "40");
    }
    assert_eq!(service.get("&quality=good").await.body["reason"], "failed");
    // Older than what the caller accepts, or none of its business.
    let lease = won(&service.get("&lease=30&quality=good&max_age=10").await);
    service.ask("DELETE", &format!("/v1/leases/{lease}"), &[], "").await.is(204);
    // Who insists gets the lease.
    let body = json!({"url": URL, "quality": "good"}).to_string();
    let answer = service.ask("POST", "/v1/leases", &[], &body).await.is(201);
    let path = format!("/v1/leases/{}", answer.body["token"].as_str().expect("a token"));
    service.ask("DELETE", &path, &[], "").await.is(204);
    service.at(61);
    won(&service.get("&lease=30&quality=good").await);
}

#[tokio::test]
async fn what_failed_before_the_page_was_there_is_no_news() {
    let service = Service::new();
    let path = format!("/v1/result?url={URL}");
    service.ask("PUT", &format!("{path}&ttl=250"), &[], r#"{"success":false}"#).await.is(201);
    service.at(10);
    service.ask("PUT", &format!("{path}&ttl=60"), &[], r#"{"html":"good"}"#).await.is(201);
    service.at(100);
    assert_eq!(service.get("&quality=failed").await.is(200).header("crawlcache-quality"), "failed");
    let answer = service.get("&stale=900&lease=30").await.is(200);
    assert_eq!(answer.header("crawlcache-lease").len(), 64, "{answer:?}");
}

fn errors() -> [Error; 2] {
    let (backend, detail) = ("memory", String::new());
    [Error::Unavailable { backend, detail: detail.clone() }, Error::Overloaded { backend, detail }]
}

#[tokio::test]
async fn a_stale_page_is_answered_whatever_becomes_of_its_lease() {
    let service = Service::new();
    service.put(&service.lease().await, "old").await.is(201);
    service.at(100);
    for error in errors() {
        *service.leases.error.lock().expect("no panic") = Some(error);
        let answer = service.get("&stale=900&lease=30").await.is(200);
        assert_eq!(answer.body["html"], "old");
        held_nowhere(&answer);
        // Who has nothing is told, and so is who only wants the lease.
        service.get("&lease=30").await.is(503);
        let body = json!({"url": URL, "stale": 900}).to_string();
        service.ask("POST", "/v1/leases", &[], &body).await.is(503);
    }
}

#[tokio::test]
async fn only_a_claim_that_may_have_been_granted_is_given_back() {
    for (error, ends) in errors().into_iter().zip([1, 0]) {
        let service = Service::new();
        *service.leases.error.lock().expect("no panic") = Some(error);
        service.get("&lease=30").await.is(503);
        service.api.shared().hub.ended().await;
        assert_eq!(service.leases.ends.load(Ordering::Relaxed), ends);
        assert_eq!(service.counted("released"), 0, "nobody was told of it");
    }
}

#[tokio::test]
async fn those_who_wait_do_not_fetch_one_after_the_other_what_is_no_answer_to_them() {
    for (more, path, body) in [
        ("&require=markdown", "&ttl=60", r#"{"html":"without"}"#),
        ("", "&ttl=0", r#"{"html":"at once out of date"}"#),
        ("&require=markdown", "&ttl=60", r#"{"success":false}"#),
        ("", "&ttl=0", r#"{"success":false}"#),
    ] {
        for shared in [false, true] {
            let service = Service::with(Config::default(), shared);
            let lease = service.lease().await;
            let waiting: Vec<_> =
                (0..3).map(|_| service.waits(&format!("&lease=30&wait=20{more}"))).collect();
            service.until_so_many_wait(3).await;
            // With a time to live of nothing it is fresh for the rest of that millisecond.
            let (path, header) =
                (format!("/v1/result?url={URL}{path}"), [("crawlcache-lease", lease.as_str())]);
            let clock = service.clock.clone();
            let putting = service.ask("PUT", &path, &header, body);
            putting.await.is(201);
            clock.set(clock.now().plus_secs(1));
            for answer in waiting {
                let answer = answer.await.expect("answered");
                if answer.status != 200 {
                    failed(&answer, "");
                }
            }
            assert_eq!(service.counted("won"), 1, "{body}");
        }
    }
}

#[tokio::test]
async fn an_import_of_what_failed_wakes_those_who_wait() {
    let service = Service::new();
    service.lease().await;
    let waiting = service.waits("&lease=30&wait=20&quality=good");
    service.until_so_many_wait(1).await;
    let line = json!({"url": URL, "quality": "failed", "document": {"html": "no"}}).to_string();
    service.ask("POST", "/v1/results/import", &[], &line).await.is(200);
    let answer = waiting.await.expect("answered");
    assert_eq!(answer.body["reason"], "failed");
    failed(&answer, "300");
}
