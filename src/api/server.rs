//! Accepts connections: with a deadline for request heads, a bound on their number, and a clean end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::{Api, router};

/// After an error such as "too many open files": connections that end free what is missing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is cancelled, then lets the requests under way finish for as long as the configuration says.
///
/// Returns whether all of them did.
pub async fn serve(api: Api, listener: TcpListener, stop: CancellationToken) -> bool {
    let limits = &api.config.limits;
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut http = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper's deadline for the head is never checked.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout())
        .max_buf_size(limits.header_bytes.max(8192));
    let service = TowerToHyperService::new(
        router(api.clone())
            .map_request(|request: http::Request<Incoming>| request.map(axum::body::Body::new)),
    );
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_about_the_peer(&error) {
                    tracing::error!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            // No answer: reading the request first would cost what the bound is there to save.
            api.metrics.http_shed.with_label_values(&["connections"]).inc();
            continue;
        };
        set_options(&stream);
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        let open = api.metrics.http_connections.clone();
        connections.spawn(async move {
            open.inc();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
            open.dec();
            drop(slot);
        });
    }
    drop(listener);
    // Nobody may hold up the end.
    api.shared().hub.close();
    let deadline = tokio::time::Instant::now() + api.config.server.shutdown_timeout();
    let done = tokio::time::timeout_at(deadline, graceful.shutdown()).await.is_ok();
    done && tokio::time::timeout_at(deadline, api.shared().hub.ended()).await.is_ok()
}

fn set_options(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
}

/// Errors of one connection, not of the listener.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
