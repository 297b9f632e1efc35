//! `export`: streams results out of a service, a line each.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::HumanBytes;
use reqwest::Method;
use serde_json::json;

use super::client::{Service, ServiceArgs, broken_off};
use super::exit::{Exit, Outcome};
use super::files::{Sink, coding_of};
use super::progress::Progress;
use super::{Global, counted, seconds_since};
use crate::domain::Timestamp;
use crate::domain::document::Coding;

/// Which results, and where they go.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this file instead of standard output; `.zst` and `.gz` at the end of its name compress
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Only results of this host
    #[arg(long, conflicts_with = "prefix")]
    host: Option<String>,

    /// Only results whose url begins so
    #[arg(long)]
    prefix: Option<String>,

    /// Only results stored or confirmed at or after this time: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,

    /// Only results stored or confirmed before this time
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    until: Option<Timestamp>,

    /// Only results with this HTTP status code
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,

    /// Expired results too, as long as they are kept
    #[arg(long)]
    expired: bool,

    #[command(flatten)]
    service: ServiceArgs,
}

/// Copies the stream of results. A file is there only once the stream has come to its end.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let begun = Instant::now();
    let service = Service::patient(&args.service)?;
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let query = [
        ("host", args.host),
        ("prefix", args.prefix),
        ("since", time(args.since)),
        ("until", time(args.until)),
        ("status", args.status.map(|status| status.to_string())),
        ("expired", args.expired.then(|| "true".to_owned())),
    ];
    let mut response = service.send(service.request(Method::GET, "/v1/results/export", &query)).await?;
    // Opened only now: a service that refuses leaves no trace.
    let path = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let mut sink = Sink::open(path, path.map_or(Coding::Identity, coding_of))?;
    // On one terminal, lines and a spinner would write over each other.
    let progress = Progress::bytes(None, path.is_some() || !std::io::stdout().is_terminal());
    let mut results = 0;
    while let Some(chunk) = response.chunk().await.map_err(broken_off)? {
        results += memchr::memchr_iter(b'\n', &chunk).count() as u64;
        sink.write(&chunk)?;
        progress.set(sink.bytes());
        progress.say(|| format!("in {}", counted(results, "result")));
    }
    let bytes = sink.bytes();
    let written = sink.finish()?;
    drop(progress);
    let seconds = seconds_since(begun);
    let report = json!({
        "results": results, "bytes": bytes, "written_bytes": written, "seconds": seconds, "file": path,
    });
    global.output().report(&report, || {
        let to =
            path.map(|path| format!(" to {} ({})", path.display(), HumanBytes(written))).unwrap_or_default();
        format!("exported {}, {} in {seconds} s{to}", counted(results, "result"), HumanBytes(bytes))
    });
    Ok(Exit::Done)
}
