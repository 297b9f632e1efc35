//! Puts a server at a distance: a TCP proxy that hands on what it receives so many microseconds later, each way.
//!
//! What comes meanwhile is handed on as much later: it limits no throughput. Threads sleep to within some 60 µs, where the
//! timers of an async runtime would round up to the next millisecond, and hide what they are to show. It prints the
//! address that it listens on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

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
    #[arg(long, default_value_t = 2000)]
    micros: u64,
}

#[expect(clippy::print_stdout, reason = "whoever starts it needs the address")]
fn main() -> std::io::Result<()> {
    let Arguments { upstream, micros } = Arguments::parse();
    let delay = Duration::from_micros(micros);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept()?;
        connect(&client, upstream, delay)?;
    }
}

/// Four threads: one that receives and one that sends, each way. They end when somebody hangs up.
fn connect(client: &TcpStream, upstream: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    for (from, to) in [(client, &server), (&server, client)] {
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (pieces, late) = sync_channel(PIECES);
        thread::spawn(move || receive(from, &pieces, delay));
        thread::spawn(move || send(&late, to));
    }
    Ok(())
}

fn receive(mut from: TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if pieces.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
            break;
        }
    }
}

/// Sends each piece when its time has come, and says at the end that there is no more.
fn send(late: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (at, piece) in late {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // Who has hung up already needs not be told.
    drop(to.shutdown(Shutdown::Both));
}
