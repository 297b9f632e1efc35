//! The one layer around every route: request id, in-flight bound, deadline, panics, metrics, access log.
//!
//! One layer, because each costs, and a log line a request costs most. So a request is timed out only once it has
//! to wait, and logged only when it failed, was slow, or is in the sample.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use http_body::{Frame, SizeHint};
use tower::{Layer, Service};

use super::problem::{Problem, in_our_words};
use super::request_id::REQUEST_ID;
use super::state::Api;

/// Routes whose bodies may take as long as they take.
const UNBOUNDED: [&str; 1] = ["/v1/results/import"];

/// What metrics call a path that no route matches.
const UNMATCHED: &str = "unmatched";

/// Puts [`Observed`] around a service.
#[derive(Clone, Debug)]
pub(super) struct Observe(pub(super) Api);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;
    fn layer(&self, inner: S) -> Observed<S> {
        Observed { api: self.0.clone(), inner }
    }
}

/// A service that is observed.
#[derive(Clone, Debug)]
pub(super) struct Observed<S> {
    api: Api,
    inner: S,
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let begun = Instant::now();
        let api = self.api.clone();
        let in_flight = InFlight::enter(&api);
        let method = request.method().clone();
        let id = api.shared().request_ids.id_for(request.headers());
        let path = request.extensions().get::<MatchedPath>().cloned();
        let answer = in_flight.is_some().then(|| self.inner.call(request));
        Box::pin(async move {
            let route = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
            let mut response = match answer {
                Some(answer) => {
                    let limit = (!UNBOUNDED.contains(&route)).then(|| api.config.limits.request_timeout());
                    in_our_words(answer_in_time(answer, limit).await)
                }
                None => shed(&api),
            };
            finish(&api, &method, route, &id, begun, &response);
            response.headers_mut().insert(REQUEST_ID, id);
            // A body that is ready costs nothing more; one that is still to be read is work until it is sent.
            if response.body().size_hint().exact().is_none() {
                response = response.map(|body| Body::new(InFlightBody { body, in_flight }));
            }
            Ok(response)
        })
    }
}

/// Runs the handler; starts the clock only when it does not answer at once.
async fn answer_in_time(
    answer: impl Future<Output = Result<Response, Infallible>>,
    limit: Option<Duration>,
) -> Response {
    let mut answer = pin!(AssertUnwindSafe(answer).catch_unwind());
    let first = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
    let outcome = match (first, limit) {
        (Poll::Ready(outcome), _) => outcome,
        (Poll::Pending, None) => answer.await,
        (Poll::Pending, Some(limit)) => match tokio::time::timeout(limit, answer).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let detail = format!("no answer within {} s", limit.as_secs());
                return Problem::new("timeout", detail).into_response();
            }
        },
    };
    match outcome {
        Ok(Ok(response)) => response,
        // The panic itself was logged by the panic hook.
        Err(_) => {
            Problem::new("internal_error", "the log has the details under this request's id").into_response()
        }
    }
}

fn shed(api: &Api) -> Response {
    api.metrics.http_shed.with_label_values(&["concurrency"]).inc();
    let limit = api.config.limits.concurrency;
    Problem::new("overloaded", format!("{limit} requests are being served, which is the limit"))
        .into_response()
}

fn finish(api: &Api, method: &Method, route: &str, id: &HeaderValue, begun: Instant, response: &Response) {
    // Who waits for somebody else's page is not slow.
    let waited = response.extensions().get::<Waited>().map_or(Duration::ZERO, |waited| waited.0);
    let elapsed = begun.elapsed().saturating_sub(waited);
    let status = response.status();
    api.metrics
        .http_request_duration
        .with_label_values(&[method_label(method), route, status.as_str()])
        .observe(elapsed.as_secs_f64());
    let log = &api.config.log;
    let failed = status.is_server_error();
    let slow = elapsed >= log.slow_threshold();
    if !failed && !slow && (log.sample <= 0.0 || !sampled(id, log.sample)) {
        return;
    }
    let id = id.to_str().unwrap_or_default();
    let milliseconds = elapsed.as_secs_f64() * 1000.0;
    let status = status.as_u16();
    if failed {
        tracing::warn!(%method, route, status, milliseconds, request_id = id, "request failed");
    } else {
        tracing::info!(%method, route, status, milliseconds, request_id = id, slow, "request");
    }
}

/// The same request is in the sample on every instance.
fn sampled(id: &HeaderValue, share: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more precision")]
    let position = xxhash_rust::xxh3::xxh3_64(id.as_bytes()) as f64 / u64::MAX as f64;
    position < share
}

/// Methods are labels: one that nobody knows must not make a series.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// One request being served; counted until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Api);

impl InFlight {
    fn enter(api: &Api) -> Option<Self> {
        let limit = api.config.limits.concurrency as u64;
        let (guard, before) = (Self(api.clone()), api.shared().in_flight.fetch_add(1, Ordering::Relaxed));
        api.metrics.http_requests_in_flight.inc();
        (before < limit).then_some(guard)
    }

    /// One more, whatever the limit.
    fn more(api: &Api) -> Self {
        api.shared().in_flight.fetch_add(1, Ordering::Relaxed);
        api.metrics.http_requests_in_flight.inc();
        Self(api.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.shared().in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.http_requests_in_flight.dec();
    }
}

/// How long an answer has waited for what other requests bring about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited(pub(super) Duration);

/// A request that waits for what other requests bring about takes no place from them, until it goes on.
#[derive(Debug)]
pub(super) struct Aside(Lent);

impl Aside {
    /// For a request that is being served.
    pub(super) fn step(api: &Api) -> Self {
        api.metrics.lease_waiters.inc();
        Self(Lent::of(api))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.0.metrics.lease_waiters.dec();
    }
}

/// A place that a request has lent to others, until it is dropped.
#[derive(Debug)]
pub(super) struct Lent(Api);

impl Lent {
    fn of(api: &Api) -> Self {
        api.shared().in_flight.fetch_sub(1, Ordering::Relaxed);
        api.metrics.http_requests_in_flight.dec();
        Self(api.clone())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.shared().in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.http_requests_in_flight.inc();
    }
}

/// Hands the place of a request over to work of its own that goes on when the client leaves. The request keeps the second
/// half for as long as it waits for that work.
pub(super) fn hand_over(api: &Api) -> (InFlight, Lent) {
    let place = InFlight::more(api);
    (place, Lent::of(api))
}

/// A body whose request is being served until it has been sent or given up.
struct InFlightBody {
    body: Body,
    in_flight: Option<InFlight>,
}

impl HttpBody for InFlightBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.in_flight = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
