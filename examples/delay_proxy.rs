//! Puts a server at a distance: a TCP proxy that hands on what it receives so many milliseconds later, each way.
//!
//! What comes meanwhile is handed on as much later: it limits no throughput. It prints the address that it listens on.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Pieces on their way at once, each way of a connection.
const PIECES: usize = 1024;

/// The largest piece, in bytes.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Parser)]
struct Arguments {
    /// The server.
    #[arg(long)]
    upstream: SocketAddr,
    /// How much later, each way.
    #[arg(long, default_value_t = 4)]
    millis: u64,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "whoever starts it needs the address")]
async fn run(Arguments { upstream, millis }: Arguments) -> std::io::Result<()> {
    let delay = Duration::from_millis(millis);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        // Who hangs up, here or there, ends a connection and nothing else.
        connections.spawn(async move { connect(client, upstream, delay).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, upstream: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(hand_on(from_client, to_server, delay), hand_on(from_server, to_client, delay))?;
    Ok(())
}

/// Hands on one way of a connection until its end.
async fn hand_on(mut from: OwnedReadHalf, to: OwnedWriteHalf, delay: Duration) -> std::io::Result<()> {
    let (pieces, late) = mpsc::channel(PIECES);
    let receive = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            if pieces.send((Instant::now() + delay, buffer.split().freeze())).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::try_join!(receive, send(late, to))?;
    Ok(())
}

/// Sends each piece when its time has come, and says at the end that there is no more.
async fn send(mut late: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    while let Some((at, piece)) = late.recv().await {
        sleep_until(at).await;
        to.write_all(&piece).await?;
    }
    to.shutdown().await
}
