//! `import-crawl4ai`: takes over the cache that Crawl4AI keeps on a disk.

mod pack;
mod send;
mod tally;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::client::{Service, ServiceArgs};
use super::exit::{Exit, Failure, Outcome};
use super::files::{Sink, coding_of};
use super::progress::Progress;
use super::{Global, seconds_since, span};
use crate::domain::Timestamp;
use crate::domain::document::Coding;
use crate::store::crawl4ai::{Filter, Rows, Source};
use pack::{Pack, Terms};
use tally::Tally;

/// Requests that are under way at once: while the service stores one, the next is on its way.
const AT_ONCE: usize = 2;

/// What to import, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory `.crawl4ai`, the one above it, or the file `crawl4ai.db`
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Read everything and say what would come of it, without asking a service
    #[arg(long)]
    dry_run: bool,

    /// Write what comes of each row to this file, as NDJSON; `-` is standard output, and `.zst` and `.gz` at the end
    /// of a name compress
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Only pages that were crawled at or after this time: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,

    /// Only pages whose url begins so
    #[arg(long)]
    prefix: Option<String>,

    /// Files of the host that crawled them (`file://` urls) too
    #[arg(long)]
    local_files: bool,

    /// The variant to store them under
    #[arg(long)]
    variant: Option<String>,

    /// How long they stay fresh from now on, in seconds or such as 30d; the service decides when missing
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    ttl: Option<u64>,

    #[command(flatten)]
    service: ServiceArgs,
}

/// Reads the cache, stores its pages, and says what came of them.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let begun = Instant::now();
    let source = Source::find(&args.directory)
        .map_err(|error| Failure::new(Exit::Failed, "failed", error.to_string()))?;
    // No bound on pauses: an answer comes when everything that was sent is stored.
    let service = if args.dry_run { None } else { Some(Service::new(&args.service, None)?) };
    if let Some(service) = &service {
        // A service that refuses says so before anything is read.
        service.send(send::lines(service, Bytes::new())).await?;
    }
    let filter = Filter { since: args.since, prefix: args.prefix, local_files: args.local_files };
    let rows =
        source.read(filter).map_err(|error| Failure::new(Exit::Failed, "failed", error.to_string()))?;
    let mut report = match &args.report {
        None => None,
        Some(path) => Some(Sink::open(Some(path), coding_of_report(path))?),
    };
    let progress = Progress::rows(rows.total());
    let mut tally = Tally::default();
    let terms = Terms { variant: args.variant, ttl: args.ttl, dry_run: args.dry_run };
    let (packs, reading) = packs_of(rows, terms)?;
    let stored = packs.map(|pack| send::store(service.as_ref(), pack)).buffer_unordered(AT_ONCE);
    let mut stored = std::pin::pin!(stored);
    while let Some(settled) = stored.next().await {
        for row in settled? {
            tally.note(&row);
            if let Some(report) = &mut report {
                report.write(&row.line())?;
            }
        }
        progress.set(tally.rows());
    }
    let broken =
        reading.join().map_err(|_| Failure::new(Exit::Failed, "failed", "the reading thread ended early"))?;
    drop(progress);
    if let Some(report) = report {
        report.finish()?;
    }
    let on_stdout = args.report.as_deref() == Some(Path::new("-"));
    let summary = tally.summary(source.database(), args.dry_run, seconds_since(begun), broken.is_none());
    if on_stdout {
        global.output().report(&summary, || tally.sentence(&summary));
    } else {
        global.output().answer(&summary, || tally.sentence(&summary))?;
    }
    if let Some(error) = broken {
        return Err(Failure::new(
            Exit::Failed,
            "failed",
            format!("{error}; the rows before that are settled as reported"),
        ));
    }
    Ok(if tally.failed() > 0 { Exit::Failed } else { Exit::Done })
}

fn coding_of_report(path: &Path) -> Coding {
    if path == Path::new("-") { Coding::Identity } else { coding_of(path) }
}

type Reading = std::thread::JoinHandle<Option<crate::store::crawl4ai::Error>>;

/// The rows, packed on a thread of their own; it returns why they could not be read to the end.
fn packs_of(rows: Rows, terms: Terms) -> Outcome<(impl stream::Stream<Item = Pack>, Reading)> {
    let (send, receive) = mpsc::channel(AT_ONCE);
    let packing = move || {
        let mut packer = pack::Packer::new(terms);
        for row in rows {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    let _ = send.blocking_send(packer.finish());
                    return Some(error);
                }
            };
            for pack in packer.add(row) {
                // Nobody takes them any more: the command has failed.
                if send.blocking_send(pack).is_err() {
                    return None;
                }
            }
        }
        let _ = send.blocking_send(packer.finish());
        None
    };
    let thread = std::thread::Builder::new().name("import-crawl4ai".to_owned()).spawn(packing);
    let thread = thread.map_err(|error| Failure::local("the cache cannot be read", &error))?;
    let packs =
        stream::unfold(
            receive,
            |mut receive| async move { receive.recv().await.map(|pack| (pack, receive)) },
        );
    Ok((packs, thread))
}
