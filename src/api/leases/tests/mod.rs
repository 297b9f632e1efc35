//! Leases, asked for through the router: no network, and a clock that is set by hand.

mod failing;
mod repeated;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::api::testing::{Answer, T0, ask, tokens};
use crate::api::{Api, Parts, router};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::document::encode;
use crate::domain::lease::{Claim, Lease};
use crate::domain::{Key, KeyId, Meta, Namespace, Timestamp, Version};
use crate::metrics::Metrics;
use crate::store::memory::MemoryStore;
use crate::store::{
    Claimed, Condition, Ending, Error, Holder, LeaseStore, Put, Renewed, Result, ResultStore,
};

const URL: &str = "https://example.com/";

/// A memory of leases, perhaps one that others grant from, too. It can be made slow or broken.
#[derive(Clone, Debug)]
struct Leases {
    store: MemoryStore,
    shared: bool,
    /// What claims come to instead.
    error: Arc<Mutex<Option<Error>>>,
    /// Claims wait while this is locked.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// Claims that have come so far, those that wait among them.
    claims: Arc<AtomicUsize>,
    ends: Arc<AtomicUsize>,
}

impl fmt::Display for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("leases")
    }
}

#[async_trait]
impl LeaseStore for Leases {
    async fn acquire(&self, claim: &Claim) -> Result<Claimed> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().await);
        let error = self.error.lock().expect("no panic").clone();
        error.map_or(Ok(()), Err)?;
        self.store.acquire(claim).await
    }
    async fn renew(&self, holder: &Holder, until: Timestamp) -> Result<Renewed> {
        self.store.renew(holder, until).await
    }
    async fn fence(&self, holder: &Holder) -> Result<Option<Version>> {
        self.store.fence(holder).await
    }
    async fn end(&self, holder: &Holder, ending: Ending) -> Result<bool> {
        self.ends.fetch_add(1, Ordering::Relaxed);
        self.store.end(holder, ending).await
    }
    async fn revoke(&self, key: KeyId) -> Result<bool> {
        self.store.revoke(key).await
    }
    async fn held(&self, keys: &[KeyId], now: Timestamp) -> Result<Vec<Option<Lease>>> {
        self.store.held(keys, now).await
    }
    fn is_shared(&self) -> bool {
        self.shared
    }
}

struct Service {
    api: Api,
    router: Router,
    clock: Clock,
    store: MemoryStore,
    leases: Leases,
}

impl Service {
    fn new() -> Self {
        Self::with(Config::default(), false)
    }

    fn with(config: Config, shared: bool) -> Self {
        let clock = Clock::manual(Timestamp::from_secs(T0));
        let store = MemoryStore::new();
        let leases = Leases {
            store: store.clone(),
            shared,
            error: Arc::default(),
            gate: Arc::default(),
            claims: Arc::default(),
            ends: Arc::default(),
        };
        let api = Api::new(Parts {
            config,
            clock: clock.clone(),
            clock_guard: None,
            metrics: Metrics::new(),
            results: Arc::new(store.clone()),
            sessions: Arc::new(store.clone()),
            leases: Arc::new(leases.clone()),
            hosts: Arc::new(store.clone()),
            memory: None,
            tokens: tokens(&[]).0,
            backends: Vec::new(),
            bucket: None,
            routed: None,
            recent: None,
            worker: None,
        });
        Self { router: router(api.clone()), api, clock, store, leases }
    }

    fn at(&self, second: u64) {
        self.clock.set(Timestamp::from_secs(T0 + second));
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(&self.router, None, (method, path), headers, body).await
    }

    /// `GET /v1/result` with more parameters.
    async fn get(&self, more: &str) -> Answer {
        self.ask("GET", &format!("/v1/result?url={URL}{more}"), &[], "").await
    }

    /// The same in the background.
    fn waits(&self, more: &str) -> JoinHandle<Answer> {
        self.in_background("GET", &format!("/v1/result?url={URL}{more}"), String::new())
    }

    #[expect(clippy::disallowed_methods, reason = "each test waits for the answer")]
    fn in_background(&self, method: &'static str, path: &str, body: String) -> JoinHandle<Answer> {
        let (router, path) = (self.router.clone(), path.to_owned());
        tokio::spawn(async move { ask(&router, None, (method, &path), &[], &body).await })
    }

    /// `PUT /v1/result` under a lease.
    async fn put(&self, lease: &str, html: &str) -> Answer {
        let body = json!({"html": html}).to_string();
        self.ask("PUT", &format!("/v1/result?url={URL}&ttl=60"), &[("crawlcache-lease", lease)], &body).await
    }

    /// `PUT /v1/result` of a failed result, perhaps under a lease.
    async fn put_failed(&self, headers: &[(&str, &str)]) -> Answer {
        let body = r#"{"success":false,"html":"no"}"#;
        self.ask("PUT", &format!("/v1/result?url={URL}&ttl=60"), headers, body).await
    }

    async fn lease(&self) -> String {
        won(&self.get("&lease=30").await)
    }

    fn counted(&self, result: &str) -> u64 {
        self.api.metrics.leases.with_label_values(&[result]).get()
    }

    async fn until_so_many_wait(&self, count: i64) {
        let begun = Instant::now();
        while self.api.metrics.lease_waiters.get() != count {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{} wait",
                self.api.metrics.lease_waiters.get()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Stores a page past the API, as another instance would.
    async fn stored_elsewhere(&self, version: Version, ttl: u64) {
        let encoded = encode(br#"{"html":"elsewhere"}"#, 1).expect("a document");
        let now = self.clock.now();
        let meta = Meta {
            key: key(),
            version,
            etag: encoded.etag,
            created_at: now,
            updated_at: now,
            expires_at: now.plus_secs(ttl),
            status_code: None,
            success: None,
            validators: encoded.facts.validators,
            layout: encoded.layout,
        };
        let put = Put { meta, frame: Some(encoded.frame), condition: Condition::Any };
        ResultStore::put(&self.store, put).await.expect("memory");
    }
}

fn key() -> Key {
    Key::new(&Namespace::default(), URL, "").expect("a key")
}

#[track_caller]
fn won(answer: &Answer) -> String {
    assert_eq!(answer.problem(), (404, "result_not_found"), "{answer:?}");
    let lease = &answer.body["lease"];
    assert_eq!(
        (&lease["state"], &lease["expires_at"]),
        (&json!("won"), &json!(answer.header("crawlcache-lease-expires")))
    );
    assert_eq!(lease["token"], answer.header("crawlcache-lease"));
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.header("crawlcache-lease").to_owned()
}

#[track_caller]
fn held(answer: &Answer) {
    assert_eq!(answer.problem(), (404, "result_not_found"), "{answer:?}");
    assert_eq!(answer.body["lease"]["state"], "held", "{answer:?}");
    assert!(answer.header("retry-after").parse::<u64>().expect("seconds") >= 1);
    assert_eq!(answer.header("crawlcache-lease"), "");
}

#[tokio::test]
async fn one_wins_the_others_move_on_and_find_the_page() {
    let service = Service::new();
    let answer = service.get("&lease=30").await;
    assert_eq!(answer.body["reason"], "absent");
    assert_eq!(answer.body["lease"]["seconds"], 30);
    let lease = won(&answer);
    service.at(10);
    let answer = service.get("&lease=30").await;
    held(&answer);
    assert_eq!(answer.header("retry-after"), "20");
    let lookup = json!({"keys": [URL, "https://example.com/other"]}).to_string();
    let states = service.ask("POST", "/v1/results/lookup", &[], &lookup).await.body;
    assert_eq!(
        (&states["results"][0]["state"], &states["results"][0]["reason"]),
        (&json!("leased"), &json!("absent"))
    );
    assert_eq!(states["results"][1]["state"], "absent");
    assert_eq!((&states["counts"]["leased"], &states["counts"]["absent"]), (&json!(1), &json!(1)));

    service.put(&lease, "page").await.is(201);
    let answer = service.get("&lease=30").await.is(200);
    assert_eq!((answer.header("crawlcache-lease"), &answer.body["html"]), ("", &json!("page")));
    let states = service.ask("POST", "/v1/results/lookup", &[], &lookup).await.body;
    assert_eq!(states["results"][0]["state"], "fresh");
    for (result, count) in [("won", 1), ("held", 1), ("fresh", 1), ("stored", 1), ("outdated", 0)] {
        assert_eq!(service.counted(result), count, "{result}");
    }
}

#[tokio::test]
async fn a_stale_answer_comes_at_once_and_one_gets_the_lease() {
    let service = Service::new();
    let lease = service.lease().await;
    service.put(&lease, "old").await.is(201);
    service.at(100);
    held_nowhere(&service.get("&stale=600").await.is(200));
    let first = service.get("&stale=600&lease=30&wait=10").await.is(200);
    assert!(first.header("cache-status").ends_with("detail=stale"), "{first:?}");
    assert_eq!(first.header("cache-control"), "no-store");
    let lease = first.header("crawlcache-lease").to_owned();
    assert_eq!(lease.len(), 64);
    held_nowhere(&service.get("&stale=600&lease=30&wait=10").await.is(200));
    assert_eq!(
        service.api.metrics.lease_wait.get_sample_count(),
        0,
        "a caller that has an answer does not wait"
    );
    // The same for a client that has the stale page.
    service.ask("DELETE", &format!("/v1/leases/{lease}"), &[], "").await.is(204);
    let (path, tag) = (format!("/v1/result?url={URL}&stale=600&lease=30"), [("if-none-match", first.etag())]);
    let answer = service.ask("GET", &path, &tag, "").await.is(304);
    service.put(answer.header("crawlcache-lease"), "new").await.is(200);
    assert_eq!(service.get("&lease=30").await.is(200).body["html"], "new");
}

#[track_caller]
fn held_nowhere(answer: &Answer) {
    assert_eq!(answer.header("crawlcache-lease"), "", "{answer:?}");
}

#[tokio::test]
async fn who_comes_too_late_stores_nothing() {
    let service = Service::new();
    let first = service.lease().await;
    service.at(30);
    let second = service.lease().await;
    assert_eq!(service.put(&first, "late").await.problem(), (409, "lease_outdated"));
    service.put(&second, "in time").await.is(201);
    assert_eq!(service.put(&first, "late").await.problem(), (409, "lease_outdated"));
    assert_eq!(service.get("").await.is(200).body["html"], "in time");
    // Its answer may have been lost: the same write is accepted again, another one is not.
    let again = service.put(&second, "in time").await.is(200);
    assert_eq!(again.body["outcome"], "refreshed");
    assert_eq!(service.put(&second, "something else").await.problem(), (409, "lease_outdated"));
    // Nor is one whose lease was given up, or is of another page, or none at all.
    service.at(200);
    let third = service.lease().await;
    service.ask("DELETE", &format!("/v1/leases/{third}"), &[], "").await.is(204);
    assert_eq!(service.put(&third, "given up").await.problem(), (409, "lease_outdated"));
    let fourth = service.lease().await;
    let (other, header) = ("/v1/result?url=https://other.example/", [("crawlcache-lease", fourth.as_str())]);
    assert_eq!(service.ask("PUT", other, &header, "{}").await.problem(), (409, "lease_outdated"));
    assert_eq!(service.put("no token", "x").await.problem(), (400, "invalid_lease"));
    // A write that fails leaves the lease.
    let path = format!("/v1/result?url={URL}");
    let header = [("crawlcache-lease", fourth.as_str())];
    assert_eq!(service.ask("PUT", &path, &header, "[]").await.problem(), (400, "not_an_object"));
    held(&service.get("&lease=30").await);
    service.put(&fourth, "at last").await.is(200);
}

#[tokio::test]
async fn what_is_stored_meanwhile_is_newer() {
    let service = Service::new();
    let lease = service.lease().await;
    service.ask("PUT", &format!("/v1/result?url={URL}"), &[], r#"{"html":"by another"}"#).await.is(201);
    assert_eq!(service.put(&lease, "mine").await.problem(), (409, "lease_outdated"));
    assert_eq!(service.get("").await.is(200).body["html"], "by another");
}

#[tokio::test]
async fn every_write_knows_leases() {
    let service = Service::new();
    let lease = service.lease().await;
    let header = [("crawlcache-lease", lease.as_str())];
    let body = json!({"url": URL, "html": "posted"}).to_string();
    service.ask("POST", "/v1/results?ttl=60", &header, &body).await.is(201);
    // A page that its origin has confirmed.
    service.at(100);
    let lease = service.lease().await;
    let header = [("crawlcache-lease", lease.as_str())];
    let path = format!("/v1/result?url={URL}&confirmed=true");
    for _ in 0..2 {
        let answer = service.ask("PATCH", &path, &header, "{}").await.is(200);
        assert_eq!(answer.body["outcome"], "refreshed");
    }
    assert_eq!(service.get("&lease=30").await.is(200).header("age"), "0");
    assert_eq!(service.counted("stored"), 2, "a repeat ends nothing");
    // A batch.
    service.at(200);
    let lease = service.lease().await;
    let line = |lease: &str, n: u64| {
        format!("{}\n", json!({"url": URL, "lease": lease, "ttl": 60, "document": {"n": n}}))
    };
    let body = format!("{}{}{}", line(&lease, 1), line(&"0".repeat(64), 2), line("x", 3));
    let answer = service.ask("POST", "/v1/results/batch-put", &[], &body).await.is(200);
    let outcomes: Vec<Value> = answer
        .body
        .as_str()
        .expect("lines")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let codes: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["code"]).collect();
    assert_eq!(outcomes[0]["outcome"], "replaced", "{outcomes:?}");
    assert_eq!(codes[1..], [&json!("lease_outdated"), &json!("invalid_lease")]);
    assert_eq!(service.get("").await.is(200).body["n"], 1);
}

#[tokio::test]
async fn leases_are_asked_for_kept_and_given_up() {
    let service = Service::new();
    let post = async |body: Value| service.ask("POST", "/v1/leases", &[], &body.to_string()).await;
    let answer = post(json!({"url": URL, "variant": "v", "seconds": 40})).await.is(201);
    assert_eq!(
        (&answer.body["state"], &answer.body["variant"], &answer.body["seconds"]),
        (&json!("won"), &json!("v"), &json!(40))
    );
    let path = format!("/v1/leases/{}", answer.body["token"].as_str().expect("a token"));
    let answer = post(json!({"url": URL, "variant": "v"})).await;
    assert_eq!((answer.problem(), answer.header("retry-after")), ((409, "lease_held"), "40"));
    service.at(35);
    let answer = service.ask("PUT", &format!("{path}?seconds=60"), &[], "").await.is(200);
    assert_eq!((&answer.body["state"], &answer.body["seconds"]), (&json!("renewed"), &json!(60)));
    service.at(90);
    let answer = post(json!({"url": URL, "variant": "v"})).await;
    assert_eq!((answer.problem(), answer.header("retry-after")), ((409, "lease_held"), "5"));
    for _ in 0..2 {
        service.ask("DELETE", &path, &[], "").await.is(204);
    }
    assert_eq!(service.ask("PUT", &path, &[], "").await.problem(), (409, "lease_lost"));
    let answer = post(json!({"url": URL, "variant": "v"})).await.is(201);
    assert_eq!(answer.body["seconds"], 30, "the default");
    assert_eq!(service.ask("PUT", "/v1/leases/x", &[], "").await.problem(), (400, "invalid_lease"));

    service.put(&service.lease().await, "page").await.is(201);
    let answer = post(json!({"url": URL, "max_age": 10})).await.is(200);
    assert_eq!((&answer.body["state"], &answer.body["ttl"]), (&json!("fresh"), &json!(60)));
    service.at(110);
    post(json!({"url": URL, "max_age": 10})).await.is(201);
    // Stale is no answer here, but nobody waits who has one.
    service.at(200);
    post(json!({"url": URL, "stale": 600})).await.is(201);
    assert_eq!(post(json!({"url": URL, "stale": 600, "wait": 20})).await.problem(), (409, "lease_held"));
}

#[tokio::test]
async fn parameters_are_checked() {
    let service = Service::new();
    for (more, field) in [
        ("&wait=1", "wait"),
        ("&lease=0", "lease"),
        ("&lease=601", "lease"),
        ("&lease=1&wait=31", "wait"),
        ("&lease=x", "lease"),
    ] {
        let answer = service.get(more).await;
        assert_eq!(answer.problem(), (400, "invalid_parameter"), "{more}");
        assert_eq!(answer.body["field"], field, "{more}");
    }
    for (body, field) in
        [(json!({"url": URL, "seconds": 0}), "seconds"), (json!({"url": URL, "wait": 31}), "wait")]
    {
        let answer = service.ask("POST", "/v1/leases", &[], &body.to_string()).await;
        assert_eq!((answer.problem(), &answer.body["field"]), ((400, "invalid_parameter"), &json!(field)));
    }
    assert_eq!(service.counted("won"), 0);
}

#[tokio::test]
async fn a_deletion_ends_the_lease_of_the_page() {
    let service = Service::new();
    let page = format!("/v1/result?url={URL}");
    // Before anything was stored, and after it was: nor is that write repeated.
    for stores in [false, true] {
        let lease = service.lease().await;
        if stores {
            assert_eq!(service.put(&lease, "first").await.status, 201);
        }
        assert_eq!(service.ask("DELETE", &page, &[("if-match", "\"x\"")], "").await.status, 412);
        assert_eq!(service.ask("DELETE", &page, &[], "").await.status, 204);
        assert_eq!(service.put(&lease, "first").await.problem(), (409, "lease_outdated"));
        assert_eq!(service.get("").await.problem(), (404, "result_not_found"));
        let next = service.lease().await;
        assert_eq!(service.put(&next, "second").await.status, 201);
        let purge = r#"{"prefix":"https://"}"#;
        assert_eq!(service.ask("POST", "/v1/results/purge", &[], purge).await.status, 200);
        assert_eq!(service.put(&next, "second").await.problem(), (409, "lease_outdated"));
    }
    // A deletion that was refused changes nothing.
    let lease = service.lease().await;
    assert_eq!(service.ask("DELETE", &page, &[("if-match", "*")], "").await.status, 412);
    assert_eq!(service.put(&lease, "third").await.status, 201);
}

#[tokio::test]
async fn a_fence_is_later_than_what_is_stored() {
    let service = Service::new();
    // By an instance whose clock is an hour ahead; it has expired.
    service.stored_elsewhere(Version::first_of(Timestamp::from_secs(T0 + 3600)), 5).await;
    service.at(10);
    let lease = service.lease().await;
    service.put(&lease, "page").await.is(200);
    assert_eq!(service.get("").await.is(200).body["html"], "page");
}
