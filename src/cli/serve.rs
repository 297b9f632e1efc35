//! `serve`: runs the service until it is told to stop.

use std::net::SocketAddr;

use serde_json::json;

use super::exit::{Exit, Failure, Outcome, chain};
use super::output::note;
use super::{DataDir, Global};
use crate::app::{App, StartError, Summary};
use crate::clock::Clock;
use crate::config::{Config, Loaded};
use crate::telemetry::{self, TelemetryError};

/// What to run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address and port to listen on; port 0 takes a free one, which the first lines on standard error name
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    data_dir: DataDir,

    /// Listen on an address that others can reach although no token is configured: everyone may read and delete
    #[arg(long)]
    insecure: bool,
}

impl Args {
    fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = self.data_dir.overrides();
        if let Some(listen) = self.listen {
            overrides.push(("server.listen".to_owned(), listen.to_string()));
        }
        if self.insecure {
            overrides.push(("server.insecure".to_owned(), "true".to_owned()));
        }
        overrides
    }
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: &Args, global: &Global) -> Outcome {
    let Loaded { config, .. } = global.load(args.overrides())?;
    telemetry::init(&config.log).map_err(|error| {
        let exit = if matches!(error, TelemetryError::Level { .. }) { Exit::Usage } else { Exit::Failed };
        Failure::new(exit, "start_failed", error.to_string())
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::local("no thread can be started", &error))?;
    runtime.block_on(serve(config, global))
}

async fn serve(config: Config, global: &Global) -> Outcome {
    // Before anything is opened: told to stop while it starts, it stops in order.
    let mut signals = Signals::new().map_err(|error| Failure::local("signals cannot be received", &error))?;
    let app = Box::pin(App::build(config, Clock::system())).await.map_err(|error| refusal(&error))?;
    let summary = app.summary();
    global.output().report(&as_json(&summary), || summary.to_string());
    let (stop, told) = tokio::sync::oneshot::channel();
    let mut serving = std::pin::pin!(app.run(async {
        // An error means that nobody can tell any more, and that is a reason to stop as well.
        let _ = told.await;
    }));
    tokio::select! {
        () = &mut serving => return Ok(Exit::Done),
        () = signals.next() => {}
    }
    tracing::info!("stopping: requests under way may finish; a second signal ends at once");
    // It fails only once nobody listens any more, and then it has stopped.
    let _ = stop.send(());
    tokio::select! {
        () = &mut serving => Ok(Exit::Done),
        () = signals.next() => {
            note("a second signal: ended at once");
            // What was acknowledged is on the disk; the next start finds it.
            std::process::exit(Exit::Failed as i32)
        }
    }
}

fn refusal(error: &StartError) -> Failure {
    let exit = if matches!(error, StartError::Open(_)) { Exit::Usage } else { Exit::Failed };
    Failure::new(exit, "start_failed", chain(error))
}

fn as_json(summary: &Summary) -> serde_json::Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "url": format!("http://{}", summary.address),
        "data_dir": summary.data_dir,
        "store": summary.store,
        "tokens": summary.tokens,
    })
}

/// The signals that end a service.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        // Without the signal there is no order to stop; the process can still be ended.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
