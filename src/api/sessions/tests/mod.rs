//! The routes of sessions, asked through the router: no network, a clock that stands still.

mod changing;
mod creating;
mod listing;
mod living;
mod reading;

use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};

use crate::api::testing::{Answer, T0, ask, tokens};
use crate::api::{Api, Parts, router};
use crate::auth::{Scope, Scopes};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Namespace, Timestamp};
use crate::metrics::Metrics;
use crate::store::SessionStore;
use crate::store::memory::MemoryStore;

/// A service of its own, with everything that a test may want to look at.
struct Service {
    router: Router,
    clock: Clock,
    metrics: Metrics,
    store: MemoryStore,
    /// What each request carries besides its own headers.
    token: Option<String>,
}

impl Service {
    fn new() -> Self {
        Self::with(Config::default(), &[]).0
    }

    /// With tokens of these scopes; the texts are in the same order.
    fn with(config: Config, scopes: &[Scopes]) -> (Self, Vec<String>) {
        let store = MemoryStore::new();
        let (service, texts) = Self::over(Arc::new(store.clone()), config, scopes);
        (Self { store, ..service }, texts)
    }

    /// With its sessions in another store than memory.
    fn over(sessions: Arc<dyn SessionStore>, config: Config, scopes: &[Scopes]) -> (Self, Vec<String>) {
        let clock = Clock::manual(Timestamp::from_secs(T0));
        let (tokens, texts) = tokens(scopes);
        let (store, metrics) = (MemoryStore::new(), Metrics::new());
        let parts = Parts {
            config,
            clock: clock.clone(),
            clock_guard: None,
            metrics: metrics.clone(),
            results: Arc::new(store.clone()),
            sessions,
            leases: Arc::new(store.clone()),
            hosts: Arc::new(store.clone()),
            memory: None,
            tokens,
            backends: Vec::new(),
            bucket: None,
            routed: None,
            recent: None,
            worker: None,
        };
        let router = router(Api::new(parts));
        (Self { router, clock, metrics, store, token: None }, texts)
    }

    fn at(&self, second: u64) {
        self.clock.set(Timestamp::from_secs(T0 + second));
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(&self.router, self.token.as_deref(), (method, path), headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path, &[], &body.to_string()).await
    }

    async fn send_if(&self, method: &str, path: &str, header: (&str, &str), body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, path, &[header], &body).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body).await
    }

    /// Creates a session, which must work.
    async fn create(&self, body: Value) -> Answer {
        let answer = self.post("/v1/sessions", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer
    }

    async fn stored(&self, id: &str) -> Option<SessionRecord> {
        let id = SessionId::new(id).expect("an id");
        SessionStore::get(&self.store, &Namespace::default(), &id).await.expect("memory")
    }

    fn counted(&self, op: &str, result: &str) -> u64 {
        self.metrics.session_operations.with_label_values(&[op, result]).get()
    }
}

fn browser(id: &str) -> Value {
    json!({"id": id, "project_id": "p"})
}

/// A session with one credential of each kind.
fn with_secrets(id: &str) -> Value {
    json!({
        "id": id, "project_id": "p", "signing_key": "K1", "connect_url": "ws://a?signingKey=K2",
        "model_config": {"model": "m", "api_key": "K3"},
    })
}

fn shows_secrets(answer: &Answer) -> bool {
    let text = answer.body.to_string();
    ["K1", "K2", "K3"].iter().any(|secret| text.contains(secret))
}

fn everything_but_secrets() -> Scopes {
    Scopes::NONE.with(Scope::Read).with(Scope::Write)
}

#[tokio::test]
async fn every_route_is_described() {
    let service = Service::new();
    let document = service.get("/openapi.json").await.body;
    for (path, methods) in [
        ("/v1/sessions", ["get", "post"].as_slice()),
        ("/v1/sessions/{id}", &["get", "put", "patch", "delete"]),
        ("/v1/sessions/{id}/status", &["post"]),
        ("/v1/sessions/{id}/touch", &["post"]),
        ("/v1/sessions/{id}/events", &["get", "post"]),
        ("/v1/sessions/batch-get", &["post"]),
    ] {
        for method in methods {
            let operation = &document["paths"][path][method];
            assert_eq!(operation["tags"], json!(["sessions"]), "{method} {path}");
            assert!(operation["responses"]["400"].is_object(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn scopes_are_asked_for() {
    let read_only = Scopes::NONE.with(Scope::Read);
    let (mut service, tokens) = Service::with(Config::default(), &[read_only]);
    assert_eq!(service.get("/v1/sessions/x").await.problem(), (401, "unauthorized"));
    service.token = Some(tokens[0].clone());
    assert_eq!(service.get("/v1/sessions/x").await.problem(), (404, "session_not_found"));
    assert_eq!(service.post("/v1/sessions/batch-get", json!({"ids": []})).await.status, 200);
    for (method, path) in [
        ("POST", "/v1/sessions"),
        ("PUT", "/v1/sessions/x"),
        ("PATCH", "/v1/sessions/x"),
        ("DELETE", "/v1/sessions/x"),
        ("POST", "/v1/sessions/x/status"),
        ("POST", "/v1/sessions/x/touch"),
        ("POST", "/v1/sessions/x/events"),
    ] {
        let refused = service.send(method, path, json!({})).await;
        assert_eq!(refused.problem(), (403, "forbidden"), "{method} {path}");
    }
}

#[tokio::test]
async fn mistakes_in_requests_are_named() {
    let service = Service::new();
    service.create(browser("s")).await;
    for (method, path) in [
        ("POST", "/v1/sessions"),
        ("PUT", "/v1/sessions/s"),
        ("PATCH", "/v1/sessions/s"),
        ("POST", "/v1/sessions/s/status"),
        ("POST", "/v1/sessions/s/touch"),
        ("POST", "/v1/sessions/s/events"),
        ("POST", "/v1/sessions/batch-get"),
    ] {
        let broken = service.ask(method, path, &[], "{").await;
        assert_eq!(broken.problem(), (400, "malformed_json"), "{method} {path}");
        let text = service.ask(method, path, &[("content-type", "text/plain")], "{}").await;
        assert_eq!(text.problem(), (415, "unsupported_media_type"), "{method} {path}");
        let unknown = service.send(method, &format!("{path}?colour=red"), json!({})).await;
        assert_eq!(unknown.problem(), (400, "invalid_parameter"), "{method} {path}");
        assert_eq!(unknown.body["field"], "colour");
        if path != "/v1/sessions/batch-get" {
            let array = service.send(method, path, json!([])).await;
            assert_eq!(array.problem(), (400, "not_an_object"), "{method} {path}");
        }
    }
    for path in ["/v1/sessions/s?colour=red", "/v1/sessions?colour=red", "/v1/sessions/s/events?colour=red"] {
        assert_eq!(service.get(path).await.problem(), (400, "invalid_parameter"), "{path}");
    }
    for path in ["/v1/sessions/a%20b", "/v1/sessions/%ff", "/v1/sessions/a%2fb"] {
        assert_eq!(service.get(path).await.problem(), (400, "invalid_session_id"), "{path}");
    }
    assert_eq!(service.get("/v1/sessions/batch-get").await.problem(), (405, "method_not_allowed"));
    let unused = service.ask("DELETE", "/v1/sessions/s?colour=red", &[], "").await;
    assert_eq!(unused.problem(), (400, "invalid_parameter"));
}
