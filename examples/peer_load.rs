//! A load generator for Redis and memcached in their own protocols: gets of one value.
//!
//! Each client has one connection and asks again when it has the last answer. Its first answer is compared byte for
//! byte, every other one by its length and by its first and last bytes; another answer ends the run.

mod measure;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use measure::{Latencies, report};

/// How many bytes at the beginning and at the end of each answer are compared: the head, and some of the value.
const COMPARED: usize = 128;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    /// What to speak.
    #[arg(value_enum)]
    protocol: Protocol,
    /// The key to get.
    #[arg(long)]
    key: String,
    /// The file with the value that the key has.
    #[arg(long)]
    value: PathBuf,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// How long to go on.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// RESP: GET with a bulk string as the answer.
    Redis,
    /// The text protocol: get with one value without flags.
    Memcached,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
async fn run(arguments: Arguments) -> Result<(), Failure> {
    let value = std::fs::read(&arguments.value)?;
    let exchange = Arc::new(Exchange::new(arguments.protocol, &arguments.key, &value));
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.clients {
        clients.spawn(client(arguments.address, Arc::clone(&exchange), end));
    }
    let mut latencies = Vec::with_capacity(arguments.clients);
    while let Some(client) = clients.join_next().await {
        latencies.push(client??);
    }
    println!("{}", report(latencies, begun.elapsed()));
    Ok(())
}

async fn client(address: SocketAddr, exchange: Arc<Exchange>, end: Instant) -> Result<Latencies, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; exchange.answer.len()];
    exchange.run(&mut stream, &mut answer).await?;
    if answer != exchange.answer {
        return Err("the value is another one".into());
    }
    let mut latencies = Latencies::default();
    while Instant::now() < end {
        let begun = Instant::now();
        exchange.run(&mut stream, &mut answer).await?;
        latencies.note(begun);
    }
    Ok(latencies)
}

/// A request, and the whole answer that it must get.
struct Exchange {
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Exchange {
    fn new(protocol: Protocol, key: &str, value: &[u8]) -> Self {
        let (request, head, tail) = match protocol {
            Protocol::Redis => (
                format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
                format!("${}\r\n", value.len()),
                "\r\n",
            ),
            Protocol::Memcached => {
                (format!("get {key}\r\n"), format!("VALUE {key} 0 {}\r\n", value.len()), "\r\nEND\r\n")
            }
        };
        let answer = [head.as_bytes(), value, tail.as_bytes()].concat();
        Self { request: request.into_bytes(), answer }
    }

    /// Asks once, and reads as many bytes as the answer must have into `answer`, which is as long.
    async fn run(&self, stream: &mut TcpStream, answer: &mut [u8]) -> Result<(), Failure> {
        stream.write_all(&self.request).await?;
        let mut filled = 0;
        while filled < answer.len() {
            let read = stream.read(&mut answer[filled..]).await?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            filled += read;
            // Looked at with every piece: a shorter answer, such as that of an absent key, would be waited for otherwise.
            let begin = filled.min(COMPARED);
            if answer[..begin] != self.answer[..begin] {
                return Err(format!("not the answer: {}", answer[..begin].escape_ascii()).into());
            }
        }
        let last = answer.len().saturating_sub(COMPARED);
        if answer[last..] != self.answer[last..] {
            return Err("the answer does not end as it should".into());
        }
        Ok(())
    }
}
