//! Who waits for a page that another fetches, and what wakes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Service, URL, held, key, won};
use crate::api::leases::granted;
use crate::config::Config;
use crate::store::{Ending, LeaseStore};

#[tokio::test]
async fn those_who_wait_get_the_page_as_soon_as_it_is_stored() {
    for shared in [false, true] {
        let service = Service::with(Config::default(), shared);
        let lease = service.lease().await;
        let waiting: Vec<_> = (0..20).map(|_| service.waits("&lease=30&wait=20")).collect();
        service.until_so_many_wait(20).await;
        assert_eq!(service.api.metrics.http_requests_in_flight.get(), 0, "they take no place from others");
        service.put(&lease, "page").await.is(201);
        for answer in waiting {
            assert_eq!(answer.await.expect("answered").is(200).body["html"], "page");
        }
        assert_eq!((service.counted("won"), service.counted("held")), (1, 0));
        assert_eq!(service.api.metrics.lease_wait.get_sample_count(), 20);
        assert_eq!(service.api.metrics.http_requests_in_flight.get(), 0);
    }
}

#[tokio::test]
async fn those_who_wait_for_a_good_page_are_told_that_the_fetch_failed() {
    let service = Service::new();
    let lease = service.lease().await;
    let waiting = [
        service.waits("&lease=30&wait=20&quality=good"),
        service.waits("&lease=30&wait=20&quality=good"),
        service.waits("&lease=30&wait=20"),
    ];
    service.until_so_many_wait(3).await;
    let (path, header) = (format!("/v1/result?url={URL}"), [("crawlcache-lease", lease.as_str())]);
    let body = r#"{"success":false,"status_code":503}"#;
    service.ask("PUT", &path, &header, body).await.is(201);
    let again = service.ask("PUT", &path, &header, body).await.is(200);
    assert_eq!((&again.body["outcome"], &again.body["quality"]), (&json!("refreshed"), &json!("failed")));
    let [first, second, any] = waiting;
    for answer in [first, second] {
        let answer = answer.await.expect("answered");
        assert_eq!(answer.problem(), (404, "result_not_found"), "{answer:?}");
        assert_eq!(answer.body["reason"], "failed");
        assert_eq!(answer.body["lease"], json!({"state": "failed"}));
        assert_eq!(answer.header("crawlcache-lease"), "");
    }
    let answer = any.await.expect("answered").is(200);
    assert_eq!(answer.header("crawlcache-quality"), "failed");
    // Who comes later may try again if it insists, and others have to wait for it.
    let body = json!({"url": URL, "quality": "good", "wait": 20}).to_string();
    let answer = service.ask("POST", "/v1/leases", &[], &body).await.is(201);
    let lease = answer.body["token"].as_str().expect("a token").to_owned();
    let waiting = service.in_background("POST", "/v1/leases", body);
    service.until_so_many_wait(1).await;
    service.put(&lease, "good").await.is(201);
    assert_eq!(waiting.await.expect("answered").is(200).body["state"], "fresh");
}

#[tokio::test]
async fn when_a_lease_is_given_up_one_of_those_who_wait_gets_it() {
    let service = Service::new();
    let mut lease = service.lease().await;
    let mut waiting: Vec<_> = (0..3).map(|_| service.waits("&lease=30&wait=20")).collect();
    for left in [2, 1, 0] {
        service.until_so_many_wait(left + 1).await;
        service.ask("DELETE", &format!("/v1/leases/{lease}"), &[], "").await.is(204);
        service.until_so_many_wait(left).await;
        let (answer, _, others) = futures_util::future::select_all(waiting).await;
        lease = won(&answer.expect("answered"));
        waiting = others;
    }
}

#[tokio::test]
async fn when_the_time_is_up_the_lease_is_held() {
    let service = Service::new();
    service.lease().await;
    let begun = Instant::now();
    held(&service.get("&lease=30&wait=1").await);
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_others_do_in_a_shared_store_is_noticed() {
    let service = Service::with(Config::default(), true);
    let claim = granted::claim(&service.api, &key(), 30, None).await.expect("memory").expect("free");
    let lease = claim.tell();
    let waiting: Vec<_> = (0..5).map(|_| service.waits("&lease=30&wait=20")).collect();
    service.until_so_many_wait(5).await;
    // Past this instance: nobody is woken.
    service.stored_elsewhere(lease.fence, 60).await;
    for answer in waiting {
        assert_eq!(answer.await.expect("answered").is(200).body["html"], "elsewhere");
    }
    service.at(100);
    let lease =
        granted::claim(&service.api, &key(), 30, None).await.expect("memory").expect("it has ended").tell();
    let waiting = service.waits("&lease=30&wait=20");
    service.until_so_many_wait(1).await;
    service.store.end(&granted::holder(&lease), Ending::Released).await.expect("memory");
    won(&waiting.await.expect("answered"));
}

#[tokio::test]
async fn who_goes_is_granted_nothing() {
    let service = Service::new();
    let lease = service.lease().await;
    let waiting = service.waits("&lease=30&wait=20");
    service.until_so_many_wait(1).await;
    waiting.abort();
    service.until_so_many_wait(0).await;
    service.ask("DELETE", &format!("/v1/leases/{lease}"), &[], "").await.is(204);
    assert_eq!(service.counted("won"), 1);
    // A grant that nobody was told of is given back.
    drop(granted::claim(&service.api, &key(), 30, None).await.expect("memory").expect("free"));
    while service.store.held(&[key().id()], service.clock.now()).await.expect("memory")[0].is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    service.lease().await;
}

#[tokio::test]
async fn no_more_than_so_many_wait_and_nobody_once_the_service_stops() {
    let mut config = Config::default();
    config.leases.max_waiters = 2;
    config.limits.concurrency = 2;
    let service = Service::with(config, false);
    let lease = service.lease().await;
    let waiting = [service.waits("&lease=30&wait=20"), service.waits("&lease=30&wait=20")];
    service.until_so_many_wait(2).await;
    held(&service.get("&lease=30&wait=20").await);
    // As many as may be served at once wait: others are served all the same.
    service.ask("PUT", &format!("/v1/leases/{lease}"), &[], "").await.is(200);
    service.api.shared().hub.close();
    for answer in waiting {
        held(&answer.await.expect("answered"));
    }
    held(&service.get("&lease=30&wait=20").await);
}

#[tokio::test]
async fn who_stands_in_line_for_a_slow_store_takes_no_place_from_others() {
    let mut config = Config::default();
    config.limits.concurrency = 2;
    let service = Service::with(config, false);
    let gate = Arc::clone(&service.leases.gate).lock_owned().await;
    let waiting: Vec<_> = (0..10).map(|_| service.waits("&lease=30&wait=1")).collect();
    service.until_so_many_wait(9).await;
    assert_eq!(service.api.metrics.http_requests_in_flight.get(), 1, "one of them asks");
    service.get("").await.is(404);
    // The time of those who stand in line is up before the one in front knows.
    let mut answers = futures_util::future::select_all(waiting);
    for _ in 0..9 {
        let (answer, _, others) = answers.await;
        assert_eq!(answer.expect("answered").problem(), (503, "unavailable"));
        answers = futures_util::future::select_all(others);
    }
    drop(gate);
    won(&answers.await.0.expect("answered"));
}

#[tokio::test]
async fn who_waits_hears_of_a_renewal_that_ends_sooner() {
    let service = Service::new();
    let lease = won(&service.get("&lease=600").await);
    let waiting = service.waits("&lease=30&wait=20");
    service.until_so_many_wait(1).await;
    service.ask("PUT", &format!("/v1/leases/{lease}?seconds=1"), &[], "").await.is(200);
    service.at(2);
    won(&waiting.await.expect("answered"));
}
