//! A load generator for what `wrk` cannot do: puts, many keys at once, a mixture, pages of a listing, sessions.
//!
//! Each client has one connection and sends its next request when it has the last answer. Any answer that is not
//! as expected, in status, length or beginning, ends the run.

#[path = "measure/cpu.rs"]
mod cpu;
mod measure;
mod works;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::task::JoinSet;

use cpu::cpu_ticks;
use measure::{Latencies, report};
use works::{Client, Dice, Failure, Kind, Work};

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
    /// Decides what chance decides.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A process on this machine whose CPU time is reported: without what is asked for before the load.
    #[arg(long)]
    pid: Option<u32>,
    /// What to do.
    #[command(subcommand)]
    work: Kind,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

#[expect(clippy::print_stdout, reason = "the report is what it is run for")]
async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut first = Client::connect(arguments.address).await?;
    let work: Arc<dyn Work> = arguments.work.work(&mut first).await?.into();
    drop(first);
    let mut clients = JoinSet::new();
    let spent = arguments.pid.map(cpu_ticks).transpose()?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(arguments.seconds);
    for number in 0..arguments.clients {
        let dice = Dice::new(arguments.seed << 32 | number as u64);
        clients.spawn(client(arguments.address, Arc::clone(&work), dice, end));
    }
    let mut latencies = vec![Vec::with_capacity(arguments.clients); work.parts().len().max(1)];
    while let Some(client) = clients.join_next().await {
        for (all, part) in latencies.iter_mut().zip(client??) {
            all.push(part);
        }
    }
    let elapsed = begun.elapsed();
    let mut whole = report(latencies.iter().flatten().cloned().collect(), elapsed);
    if let (Some(pid), Some(spent)) = (arguments.pid, spent) {
        whole["cpu_ticks"] = (cpu_ticks(pid)? - spent).into();
    }
    for (name, part) in work.parts().iter().zip(latencies) {
        whole["parts"][*name] = report(part, elapsed);
    }
    println!("{whole}");
    Ok(())
}

/// Works on one connection until the end, and returns the latencies of each part.
async fn client(
    address: SocketAddr,
    work: Arc<dyn Work>,
    mut dice: Dice,
    end: Instant,
) -> Result<Vec<Latencies>, Failure> {
    let mut client = Client::connect(address).await?;
    let mut latencies = vec![Latencies::default(); work.parts().len().max(1)];
    while Instant::now() < end {
        let exchange = work.next(&mut dice)?;
        let part = exchange.part;
        let begun = Instant::now();
        client.exchange(exchange).await?;
        latencies[part].note(begun);
    }
    Ok(latencies)
}
