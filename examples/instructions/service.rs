//! The whole service without a network: requests go to its router, one after the other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use crawlcache::api;
use crawlcache::app::App;
use crawlcache::clock::Clock;
use crawlcache::config::Config;
use crawlcache::domain::Timestamp;
use crawlcache::domain::document::encode;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::corpus::Corpus;
use crate::documents::DOCUMENT_BYTES;
use crate::{Ready, Work};

/// When it is: the clock stands still.
const NOW: u64 = 1_768_473_000;

/// The size of the documents that clients with zstd read, as stored.
const STORED_BYTES: usize = 25_000;

/// Keys of one look-up; every other is there.
const LOOKUP_KEYS: usize = 1000;

type Answer = Response<Bytes>;

/// A service in a directory that goes with it.
pub(crate) struct Service {
    runtime: Rc<Runtime>,
    router: Router,
    app: App,
    _directory: tempfile::TempDir,
}

impl Service {
    /// Starts one, with a memory tier or without.
    pub(crate) fn start(memory: bool) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut config = Config::default();
        config.server.data_dir = directory.path().join("data");
        config.server.listen.set_port(0);
        // Nothing happens of itself, and threads do not take turns.
        config.sqlite.sweep_seconds = 86_400;
        config.sqlite.readers = 1;
        config.limits.request_seconds = 86_400;
        // No request is slow: under callgrind all of them would be.
        config.log.slow_seconds = 86_400.0;
        if !memory {
            config.memory.bytes = 0;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let app = runtime.block_on(App::build(config, Clock::manual(Timestamp::from_secs(NOW))))?;
        let router = api::router(app.api().clone());
        Ok(Self { runtime: Rc::new(runtime), router, app, _directory: directory })
    }

    /// What does not read documents from the disk.
    pub(crate) fn works(&self, corpus: &Corpus) -> Result<Vec<Work>> {
        let stored = |json: &[u8]| encode(json, 3).expect("a JSON object").frame.len();
        let small = corpus.document(1, STORED_BYTES, stored);
        let large = corpus.document(2, DOCUMENT_BYTES, <[u8]>::len);
        let etag = self.put("small", &small)?;
        self.put("large", &large)?;
        let bytes = encode(&small, 3)?.frame.len();
        let identity = encode(&large, 3)?.layout.raw_size();
        let held = "crawlcache; hit; ttl=2592000; detail=memory";
        let lookup = self.look_up(corpus)?;
        self.once(
            Request::put("/v1/sessions/session"),
            json!({"profile": "mcp", "state": {"step": 0}}).to_string(),
        )?;
        Ok(vec![
            self.work(
                "hit_zstd",
                100,
                |_| get("small", &[(ACCEPT_ENCODING, "gzip, deflate, br, zstd")]),
                move |answer| (cache_status(answer), answer.body().len()) == (held, bytes),
            ),
            self.work(
                "hit_identity",
                100,
                |_| get("large", &[]),
                move |answer| (cache_status(answer), answer.body().len() as u64) == (held, identity),
            ),
            self.work(
                "not_modified",
                100,
                move |_| get("small", &[(ACCEPT_ENCODING, "zstd"), (IF_NONE_MATCH, &etag)]),
                move |answer| answer.status() == 304 && cache_status(answer) == held,
            ),
            self.work(
                "miss",
                50,
                |number| get(&format!("missing-{number}"), &[]),
                |answer| answer.status() == 404,
            ),
            self.work(
                "put_new",
                8,
                {
                    let large = Bytes::from(large.clone());
                    move |number| put(&format!("new-{number}"), large.clone())
                },
                |answer| answer.status() == 201,
            ),
            self.work(
                "put_unchanged",
                8,
                move |_| put("large", large.clone()),
                |answer| {
                    answer.status() == 200 && answer.body().windows(9).any(|bytes| bytes == b"refreshed")
                },
            ),
            lookup,
            self.work(
                "session_patch",
                20,
                |number| {
                    json_body(
                        Request::patch("/v1/sessions/session"),
                        json!({"state": {"step": number}}).to_string(),
                    )
                },
                |answer| answer.status() == 200,
            ),
        ])
    }

    /// What reads documents from the disk: there is no memory tier.
    pub(crate) fn disk_works(&self, corpus: &Corpus) -> Result<Vec<Work>> {
        let stored = |json: &[u8]| encode(json, 3).expect("a JSON object").frame.len();
        let small = corpus.document(1, STORED_BYTES, stored);
        self.put("small", &small)?;
        let bytes = encode(&small, 3)?.frame.len();
        let found = "crawlcache; hit; ttl=2592000; detail=sqlite";
        Ok(vec![self.work(
            "hit_sqlite",
            50,
            |_| get("small", &[(ACCEPT_ENCODING, "zstd")]),
            move |answer| (cache_status(answer), answer.body().len()) == (found, bytes),
        )])
    }

    fn look_up(&self, corpus: &Corpus) -> Result<Work> {
        let document = Bytes::from(corpus.document(3, 2000, <[u8]>::len));
        for number in (0..LOOKUP_KEYS).step_by(2) {
            self.once(Request::put(target(&format!("found-{number}"))), document.clone())?;
        }
        let keys: Vec<String> = (0..LOOKUP_KEYS).map(|number| url(&format!("found-{number}"))).collect();
        let body = json!({ "keys": keys }).to_string();
        let request = move |_| json_body(Request::post("/v1/results/lookup"), body.clone());
        Ok(self.work("lookup_1000", 2, request, |answer| {
            serde_json::from_slice::<Value>(answer.body()).is_ok_and(|answer| {
                answer["counts"]["fresh"] == LOOKUP_KEYS / 2 && answer["counts"]["absent"] == LOOKUP_KEYS / 2
            })
        }))
    }

    /// Sends requests that are made before anything is counted, and then looks at the answers. Each request has a number
    /// of its own.
    fn work(
        &self,
        name: &'static str,
        operations: usize,
        request: impl Fn(usize) -> Request<Body> + 'static,
        is_right: impl Fn(&Answer) -> bool + Copy + 'static,
    ) -> Work {
        let (runtime, router, next) = (Rc::clone(&self.runtime), self.router.clone(), Cell::new(0));
        Work::new(name, operations, move |count| {
            let first = next.replace(next.get() + count);
            let mut requests: Vec<_> = (first..first + count).rev().map(&request).collect();
            let answers = Rc::new(RefCell::new(Vec::with_capacity(count)));
            let (runtime, router, taken) = (Rc::clone(&runtime), router.clone(), Rc::clone(&answers));
            let run = move || {
                runtime.block_on(async {
                    while let Some(request) = requests.pop() {
                        let answer = ask(&router, request).await;
                        answers.borrow_mut().push(answer);
                    }
                });
            };
            let check = move || {
                let answers = taken.borrow();
                ensure!(answers.len() == count, "{name}: {} answers to {count} requests", answers.len());
                let wrong = answers.iter().find(|answer| !is_right(answer));
                ensure!(wrong.is_none(), "{name}: {wrong:?}");
                Ok(())
            };
            Ready { run: Box::new(run), check: Box::new(check) }
        })
    }

    /// Stores a document, and returns its etag as a client with zstd is told it.
    fn put(&self, name: &str, document: &[u8]) -> Result<String> {
        self.once(Request::put(target(name)), document.to_vec())?;
        let answer = self.runtime.block_on(ask(&self.router, get(name, &[(ACCEPT_ENCODING, "zstd")])));
        Ok(answer.headers()[ETAG].to_str()?.to_owned())
    }

    fn once(&self, request: http::request::Builder, body: impl Into<Body>) -> Result<()> {
        let answer = self.runtime.block_on(ask(&self.router, json_body(request, body)));
        ensure!(answer.status().is_success(), "{answer:?}");
        Ok(())
    }

    /// Ends it with everything on the disk.
    pub(crate) fn stop(self) {
        self.runtime.block_on(self.app.run(std::future::ready(())));
    }
}

async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.expect("a body that does not break off").to_bytes())
}

fn cache_status(answer: &Answer) -> &str {
    answer.headers().get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn url(name: &str) -> String {
    format!("https://bench.example/section/page-{name}.html")
}

fn target(name: &str) -> String {
    format!("/v1/result?url=https%3A%2F%2Fbench.example%2Fsection%2Fpage-{name}.html")
}

fn get(name: &str, headers: &[(HeaderName, &str)]) -> Request<Body> {
    let request = Request::get(target(name)).header("host", "127.0.0.1:8080").header("accept", "*/*");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
    as_received(request.header("user-agent", "instructions").body(Body::empty()).expect("a request"))
}

fn put(name: &str, document: impl Into<Body>) -> Request<Body> {
    json_body(Request::put(target(name)), document)
}

fn json_body(request: http::request::Builder, body: impl Into<Body>) -> Request<Body> {
    let request = request.header("host", "127.0.0.1:8080").header(CONTENT_TYPE, "application/json");
    as_received(request.body(body.into()).expect("a request"))
}

/// As it comes from a connection, where the values of headers share what was read: bytes that nobody else has yet would
/// be moved when they are first cloned.
fn as_received(request: Request<Body>) -> Request<Body> {
    drop::<HeaderMap>(request.headers().clone());
    request
}
