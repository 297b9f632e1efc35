//! PATCH and DELETE: preconditions, races, and what is refused.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::store::{
    Found, PutSession, Result, SessionCondition, SessionDeleteOutcome, SessionPage, SessionPutOutcome,
    SessionQuery, Status,
};

#[tokio::test]
async fn patch_merges() {
    let service = Service::new();
    service.create(json!({"id": "s", "state": {"a": 1, "b": 2}})).await;
    service.at(60);
    for media_type in ["application/merge-patch+json", "application/json; charset=utf-8"] {
        let body = r#"{"state":{"b":null,"c":3}}"#;
        let patched = service.ask("PATCH", "/v1/sessions/s", &[("content-type", media_type)], body).await;
        assert_eq!((patched.status, &patched.body["state"]), (200, &json!({"a": 1, "c": 3})), "{media_type}");
        assert_eq!(patched.body["expires_at"], "2026-01-16T10:31:00.000Z");
    }
    let other =
        service.ask("PATCH", "/v1/sessions/s", &[("content-type", "application/xml+json")], "{}").await;
    assert_eq!(other.problem(), (415, "unsupported_media_type"));
    for (body, problem) in [
        (json!({"id": "t"}), (422, "immutable_field")),
        (json!({"events": []}), (422, "immutable_field")),
        (json!({"user_metadata": 5}), (400, "invalid_field")),
        (json!({"state": "x".repeat(1 << 20)}), (413, "document_too_large")),
    ] {
        assert_eq!(service.send("PATCH", "/v1/sessions/s", body).await.problem(), problem);
    }
    assert_eq!(
        service.send("PATCH", "/v1/sessions/x", json!({})).await.problem(),
        (404, "session_not_found")
    );
}

#[tokio::test]
async fn what_changes_nothing_is_not_written() {
    let service = Service::new();
    let created = service.create(browser("s")).await;
    service.at(60);
    let same = service.send("PATCH", "/v1/sessions/s", json!({"project_id": "p"})).await;
    assert_eq!((same.status, same.etag()), (200, created.etag()));
    let same = service.post("/v1/sessions/s/status", json!({"status": "CREATING"})).await;
    assert_eq!((same.status, same.etag(), &same.body), (200, created.etag(), &created.body));
}

#[tokio::test]
async fn patch_and_delete_observe_preconditions() {
    let service = Service::new();
    let created = service.create(json!({"id": "s"})).await;
    let first = ("if-match", created.etag());
    service.at(1);
    let patched = service.send_if("PATCH", "/v1/sessions/s", first, json!({"state": 1})).await;
    assert_eq!(patched.status, 200);
    let late = service.send_if("PATCH", "/v1/sessions/s", first, json!({"state": 2})).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    assert_eq!(late.body["version"], patched.body["version"]);
    let list = format!("\"1\", {}", patched.etag());
    let listed = service.send_if("PATCH", "/v1/sessions/s", ("if-match", &list), json!({"state": 3})).await;
    assert_eq!(listed.body["state"], 3);
    assert_eq!(service.counted("patch", "conflict"), 1);
    let unreadable = service.send_if("PATCH", "/v1/sessions/s", ("if-match", "1"), json!({})).await;
    assert_eq!(unreadable.problem(), (400, "invalid_header"));

    let late = service.send_if("DELETE", "/v1/sessions/s", first, Value::Null).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    let deleted = service.send_if("DELETE", "/v1/sessions/s", ("if-match", listed.etag()), Value::Null).await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    assert!(service.stored("s").await.is_none());
    let absent = service.send_if("DELETE", "/v1/sessions/s", ("if-match", "*"), Value::Null).await;
    assert_eq!(absent.problem(), (412, "precondition_failed"));
    assert_eq!(service.ask("DELETE", "/v1/sessions/s", &[], "").await.status, 204, "also when absent");
    service.create(json!({"id": "s"})).await;
    assert_eq!(service.ask("DELETE", "/v1/sessions/s", &[], "").await.status, 204);
    assert!(service.stored("s").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_at_the_same_time_are_all_kept() {
    let service = Arc::new(contested().0);
    service.create(json!({"id": "s", "state": {}})).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let service = Arc::clone(&service);
        tasks.spawn(async move {
            for count in 1..=8 {
                let patch = json!({"state": {format!("counter_{task}"): count}});
                let answer = service.send("PATCH", "/v1/sessions/s", patch).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let event = json!({"event_type": "Counted"});
                assert_eq!(service.post("/v1/sessions/s/events", event).await.status, 201);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task fails");
    }
    let read = service.get("/v1/sessions/s").await.body;
    let counters = read["state"].as_object().expect("an object");
    assert!(counters.len() == 64 && counters.values().all(|count| *count == 8), "{counters:?}");
    assert_eq!(read["event_count"], 64 * 8);
}

/// A store that takes its time, and in which somebody else is always faster while it is busy.
#[derive(Debug)]
struct Contested {
    inner: MemoryStore,
    clock: Clock,
    busy: Arc<AtomicBool>,
}

impl std::fmt::Display for Contested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("contested")
    }
}

#[async_trait]
impl SessionStore for Contested {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        let found = SessionStore::get(&self.inner, namespace, id).await?;
        // Whoever else waits reads the same version now, as it is on a store with a medium.
        tokio::task::yield_now().await;
        if let (Some(found), true) = (&found, self.busy.load(Ordering::Relaxed)) {
            let mut record = found.clone();
            record.session.version = self.clock.next_version();
            let namespace = namespace.clone();
            let put = PutSession { namespace, record, condition: SessionCondition::Any };
            SessionStore::put(&self.inner, put).await?;
        }
        Ok(found)
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        self.inner.get_many(namespace, ids).await
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        SessionStore::put(&self.inner, put).await
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        SessionStore::delete(&self.inner, namespace, id, condition).await
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        SessionStore::list(&self.inner, query).await
    }

    async fn status(&self) -> Result<Status> {
        SessionStore::status(&self.inner).await
    }
}

/// A service on a [`Contested`] store, and what makes that busy.
fn contested() -> (Service, Arc<AtomicBool>) {
    let busy = Arc::new(AtomicBool::new(false));
    let clock = Clock::manual(Timestamp::from_secs(T0));
    let (inner, metrics) = (MemoryStore::new(), Metrics::new());
    let contested = Contested { inner: inner.clone(), clock: clock.clone(), busy: Arc::clone(&busy) };
    let parts = Parts {
        config: Config::default(),
        clock: clock.clone(),
        clock_guard: None,
        metrics: metrics.clone(),
        results: Arc::new(inner.clone()),
        sessions: Arc::new(contested),
        leases: Arc::new(inner.clone()),
        hosts: Arc::new(inner.clone()),
        memory: None,
        tokens: tokens(&[]).0,
        backends: Vec::new(),
        bucket: None,
        routed: None,
        recent: None,
        worker: None,
    };
    (Service { router: router(Api::new(parts)), clock, metrics, store: inner, token: None }, busy)
}

#[tokio::test]
async fn a_change_that_never_gets_through_gives_up() {
    let (service, busy) = contested();
    service.create(json!({"id": "s", "state": 1})).await;
    busy.store(true, Ordering::Relaxed);
    let lost = service.send("PATCH", "/v1/sessions/s", json!({"state": 2})).await;
    assert_eq!(lost.problem(), (409, "write_conflict"));
    let lost = service.send("PUT", "/v1/sessions/s", json!({"state": 2})).await;
    assert_eq!(lost.problem(), (409, "write_conflict"));
    let current = format!("\"{}\"", service.stored("s").await.expect("stored").session.version);
    let late = service.send_if("PATCH", "/v1/sessions/s", ("if-match", &current), json!({"state": 2})).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    let current = format!("\"{}\"", service.stored("s").await.expect("stored").session.version);
    let late = service.send_if("DELETE", "/v1/sessions/s", ("if-match", &current), Value::Null).await;
    assert_eq!(late.problem(), (412, "precondition_failed"));
    assert_eq!(service.stored("s").await.expect("stored").session.state, Some(json!(1)));
    busy.store(false, Ordering::Relaxed);
    assert_eq!(service.send("PATCH", "/v1/sessions/s", json!({"state": 2})).await.status, 200);
}
