//! A load generator for what `wrk` cannot do: puts of fresh keys, and look-ups of many keys.
//!
//! Each client has one connection and sends its next request when it has the last answer. Any answer that is not
//! as expected ends the run.

mod measure;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use measure::{Latencies, read_corpus, report, url_of};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    /// Where the service listens.
    #[arg(long)]
    address: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long to go on.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// What to do.
    #[command(subcommand)]
    work: Work,
}

#[derive(Clone, Subcommand)]
enum Work {
    /// Put documents under keys that are not there yet.
    Put {
        /// The folder of documents.
        #[arg(long)]
        corpus: PathBuf,
        /// The number of the first key.
        #[arg(long, default_value_t = 0)]
        first: usize,
    },
    /// Look up many keys at once, all of which are there.
    Lookup {
        /// Keys in one request.
        #[arg(long, default_value_t = 10_000)]
        keys: usize,
        /// Entries in the store.
        #[arg(long)]
        entries: usize,
        /// From one key to the next: 1 asks for neighbours, a large prime for keys all over the store.
        #[arg(long, default_value_t = 15_485_863)]
        stride: usize,
    },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
async fn run(arguments: Arguments) -> Result<(), Failure> {
    let requests = Arc::new(Requests::new(&arguments.work)?);
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.clients {
        clients.spawn(client(arguments.address, Arc::clone(&requests), end));
    }
    let mut latencies = Vec::with_capacity(arguments.clients);
    while let Some(client) = clients.join_next().await {
        latencies.push(client??);
    }
    println!("{}", report(latencies, begun.elapsed()));
    Ok(())
}

async fn client(address: SocketAddr, requests: Arc<Requests>, end: Instant) -> Result<Latencies, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let mut background = JoinSet::new();
    background.spawn(connection);
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let (request, expected) = requests.next()?;
        let begun = Instant::now();
        send(&mut sender, request, expected).await?;
        latencies.note(begun);
    }
    Ok(latencies)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    expected: StatusCode,
) -> Result<(), Failure> {
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != expected {
        return Err(format!("{status} instead of {expected}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(())
}

/// The requests to send, and what the answers must be.
enum Requests {
    Put { documents: Vec<Bytes>, next: AtomicUsize },
    Lookup { bodies: Vec<Bytes>, next: AtomicUsize },
}

impl Requests {
    fn new(work: &Work) -> Result<Self, Failure> {
        Ok(match work {
            Work::Put { corpus, first } => {
                Self::Put { documents: read_corpus(corpus)?, next: AtomicUsize::new(*first) }
            }
            Work::Lookup { keys, entries, stride } => {
                let first = |round| round * keys;
                let bodies =
                    (0..32).map(|round| lookup_body(first(round), *keys, *entries, *stride)).collect();
                Self::Lookup { bodies, next: AtomicUsize::new(0) }
            }
        })
    }

    fn next(&self) -> http::Result<(Request<Full<Bytes>>, StatusCode)> {
        match self {
            Self::Put { documents, next } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let body = documents[number % documents.len()].clone();
                let uri = format!("/v1/result?url={}", url_of(number));
                Ok((json_request("PUT", &uri, body)?, StatusCode::CREATED))
            }
            Self::Lookup { bodies, next } => {
                let body = bodies[next.fetch_add(1, Ordering::Relaxed) % bodies.len()].clone();
                Ok((json_request("POST", "/v1/results/lookup", body)?, StatusCode::OK))
            }
        }
    }
}

fn json_request(method: &str, uri: &str, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Full::new(body))
}

/// The urls of so many entries, a stride apart.
fn lookup_body(first: usize, keys: usize, entries: usize, stride: usize) -> Bytes {
    let urls: Vec<String> =
        (first..first + keys).map(|place| url_of(place.wrapping_mul(stride) % entries)).collect();
    serde_json::json!({ "keys": urls }).to_string().into()
}
