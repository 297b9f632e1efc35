//! The least that an HTTP answer costs here: hyper with one fixed answer, for comparison.
//!
//! `bare_hyper STATUS FILE [NAME:VALUE]...` listens on a free port of the loopback interface and prints its address.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let status = arguments.next().ok_or("give a status, a file and headers")?.parse::<StatusCode>()?;
    let body = Bytes::from(std::fs::read(arguments.next().ok_or("give a file")?)?);
    let mut headers = HeaderMap::new();
    for header in arguments {
        let (name, value) = header.split_once(':').ok_or("headers are NAME:VALUE")?;
        headers.append(HeaderName::try_from(name.trim())?, HeaderValue::try_from(value.trim())?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(status, headers, body))
}

#[expect(clippy::print_stdout, reason = "whoever starts it needs the address")]
async fn serve(status: StatusCode, headers: HeaderMap, body: Bytes) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        let service = service_fn(move |_| {
            let mut response = Response::new(Full::new(body.clone()));
            *response.status_mut() = status;
            *response.headers_mut() = headers.clone();
            async move { Ok::<_, Infallible>(response) }
        });
        connections.spawn(async move {
            // A client that hangs up is no error here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}
