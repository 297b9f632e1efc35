//! What the load generator can do: each kind of work in a file of its own.

mod batch;
mod client;
mod dice;
mod mixed;
mod paths;
mod puts;
mod sessions;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clap::Subcommand;
use http::Request;
use http_body_util::Full;

pub(crate) use client::{Client, Exchange, Expected};
pub(crate) use dice::Dice;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Requests without end, and what the answers must be.
pub(crate) trait Work: Send + Sync {
    /// What its requests are called where there is more than one sort.
    fn parts(&self) -> &'static [&'static str] {
        &[]
    }

    /// The next request of one client, whose dice these are.
    fn next(&self, dice: &mut Dice) -> Result<Exchange, Failure>;
}

#[derive(Clone, Subcommand)]
pub(crate) enum Kind {
    /// Put documents: under keys that are not there yet, or again under those that are.
    Put(puts::Options),
    /// Ask for one path after the other.
    Get(paths::Options),
    /// Look up many keys at once, all of which are there.
    Lookup(batch::LookupOptions),
    /// Read many results at once, all of which are there.
    Batch(batch::Options),
    /// Get and put by Zipf's law.
    Mixed(mixed::Options),
    /// Create, read and change sessions.
    Sessions(sessions::Options),
}

impl Kind {
    /// Readies the work; what must be known beforehand of the answers is asked for.
    pub(crate) async fn work(&self, client: &mut Client) -> Result<Box<dyn Work>, Failure> {
        Ok(match self {
            Self::Put(options) => Box::new(puts::Puts::new(options)?),
            Self::Get(options) => Box::new(paths::Paths::new(options, client).await?),
            Self::Lookup(options) => Box::new(batch::Bodies::lookup(options, client).await?),
            Self::Batch(options) => Box::new(batch::Bodies::batch(options, client).await?),
            Self::Mixed(options) => Box::new(mixed::Mixed::new(options, client).await?),
            Self::Sessions(options) => Box::new(sessions::Sessions::new(options)),
        })
    }
}

/// Numbers for all clients together, each once.
#[derive(Default)]
struct Turn(AtomicUsize);

impl Turn {
    fn from(first: usize) -> Self {
        Self(AtomicUsize::new(first))
    }

    fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A request with a JSON body.
fn json_request(method: &str, uri: &str, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Full::new(body))
}
