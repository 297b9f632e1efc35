//! A load generator for mixed work over a large store, at a fixed rate or as fast as answers come.
//!
//! `--mix get=85,put=10,list=5` says what to do and how often. With `--rate` the requests are due at fixed times,
//! whatever becomes of those before them: one that is sent late for want of a free connection is measured from when
//! it was due. Without, each connection sends its next request when it has the last answer. Every interval prints a
//! line of JSON. Any answer that is not as expected ends the run.

mod intervals;
mod keys;
mod operation;
mod pace;
mod requests;
mod visit;

#[path = "../works/dice.rs"]
mod dice;
#[path = "../measure/mod.rs"]
mod measure;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use tokio::task::JoinSet;

use dice::Dice;
use intervals::Tally;
use measure::connection::Connection;
use operation::{Mix, Share};
use pace::Pace;
use requests::Requests;
use visit::Visit;

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
    /// Seconds from one line of the report to the next; one line at the end when missing.
    #[arg(long)]
    interval: Option<f64>,
    /// Requests a second; as fast as answers come when missing.
    #[arg(long)]
    rate: Option<f64>,
    /// What to do, each with its share: get, plain, miss, new, put, change, short, delete, session, list, lookup,
    /// batch.
    #[arg(long, value_delimiter = ',', required = true)]
    mix: Vec<Share>,
    /// The folder of documents; puts need it.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Keys that are worked on: the entries of the store.
    #[arg(long)]
    entries: usize,
    /// Hosts that the keys are spread over.
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// The number of the first key for results that are new.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// How uneven gets and puts are: the exponent of a Zipf distribution, 0 for none.
    #[arg(long, default_value_t = 0.0)]
    zipf: f64,
    /// Seconds that results of `short` stay fresh.
    #[arg(long, default_value_t = 20)]
    ttl: u64,
    /// Keys in one `lookup` or `batch`.
    #[arg(long, default_value_t = 100)]
    keys: usize,
    /// What `list` asks for.
    #[arg(long, default_value = "/v1/results?limit=50")]
    list: String,
    /// Whether a get may find nothing.
    #[arg(long)]
    may_miss: bool,
    /// Where the choice of keys begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mix = Mix::new(&arguments.mix)?;
    let requests = Requests::new(&arguments, &mix)?;
    let begun = Instant::now();
    let pace = Pace::new(begun, arguments.seconds, arguments.rate);
    let shared = Arc::new(Shared { mix, requests, pace, tally: Tally::default() });
    let mut clients = JoinSet::new();
    for number in (0..).take(arguments.clients) {
        let dice = Dice::new(arguments.seed.wrapping_mul(1 << 20).wrapping_add(number));
        clients.spawn(client(arguments.address, Arc::clone(&shared), dice));
    }
    let tally = async || match arguments.interval {
        Some(seconds) => shared.tally.print_each(begun, seconds).await,
        None => std::future::pending().await,
    };
    let ended = async {
        while let Some(client) = clients.join_next().await {
            client??;
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        ended = ended => ended?,
        never = tally() => match never {},
    }
    shared.tally.print(begun);
    Ok(())
}

/// What the clients have in common.
struct Shared {
    mix: Mix,
    requests: Requests,
    pace: Pace,
    tally: Tally,
}

async fn client(address: SocketAddr, shared: Arc<Shared>, mut dice: Dice) -> Result<(), Failure> {
    let mut connection = Connection::to(address).await?;
    let mut visit = Visit::default();
    while let Some(turn) = shared.pace.turn() {
        let operation = shared.mix.choose(&mut dice);
        let asked = match operation {
            operation::Operation::Session => visit.next()?,
            other => shared.requests.make(other, &mut dice)?,
        };
        let begun = turn.wait().await;
        let answer = connection.send(asked.request).await?;
        if !asked.expected.contains(&answer.status()) {
            let body = String::from_utf8_lossy(answer.body());
            return Err(format!("{operation:?} came to {}: {body}", answer.status()).into());
        }
        shared.tally.note(operation, begun.elapsed(), answer.status());
        if operation == operation::Operation::Session {
            visit.learn(answer.headers());
        }
    }
    Ok(())
}
