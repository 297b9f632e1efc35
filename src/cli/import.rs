//! `import`: streams results into a service, a line each.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use indicatif::HumanCount;
use reqwest::{Body, Method};
use serde_json::Value;
use tokio::sync::mpsc;

use super::client::{Service, ServiceArgs, json, with_body};
use super::exit::{Exit, Failure, Outcome};
use super::files::{inflated, open_source};
use super::progress::Progress;
use super::{Global, counted, output};

/// How much is read and sent at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that may wait to be sent.
const CHUNKS_AHEAD: usize = 4;

/// How many failed lines are named.
const NAMED_ERRORS: usize = 10;

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// What to import.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An export, as it is or compressed with zstd or gzip; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Store again what was deleted since the export; what is stored now is never replaced
    #[arg(long)]
    restore: bool,

    #[command(flatten)]
    service: ServiceArgs,
}

/// Sends a file's lines and says what came of them.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    // No bound on pauses: the answer comes when the last line has been stored.
    let service = Service::new(&args.service, None)?;
    if args.file == Path::new("-") && std::io::stdin().is_terminal() {
        output::note("reading results from the terminal, a line each; Ctrl-D ends them");
    }
    let (source, size) = open_source(&args.file)?;
    let restore = args.restore.then(|| "true".to_owned());
    let request = || service.request(Method::POST, "/v1/results/import", &[("restore", restore.clone())]);
    // Nothing at first: an answer that refuses would be lost in a connection that breaks while much is being sent.
    service.send(with_body(request(), &[NDJSON], Bytes::new())).await?;

    let progress = Progress::bytes(size, true);
    let source = progress.reader(source);
    let broken = Broken::default();
    let mut whole = with_body(request(), &[NDJSON], Bytes::new());
    *whole.body_mut() = Some(body_of(source, &args.file, &broken)?);
    let answer = service.send(whole).await;
    drop(progress);
    if let Some(error) = broken.take() {
        let what = format!("{} cannot be read; the lines before that are stored", args.file.display());
        return Err(Failure::local(what, &error));
    }
    let report = json(answer?).await?;
    global.output().answer(&report, || sentence(&report))?;
    Ok(if is_whole(&report) { Exit::Done } else { Exit::Failed })
}

/// Why the source could not be read to its end.
#[derive(Clone, Debug, Default)]
struct Broken(Arc<Mutex<Option<std::io::Error>>>);

impl Broken {
    fn set(&self, error: std::io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<std::io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that a thread reads and inflates while it is sent.
fn body_of(source: impl Read + Send + 'static, path: &Path, broken: &Broken) -> Outcome<Body> {
    let (send, receive) = mpsc::channel::<std::io::Result<Bytes>>(CHUNKS_AHEAD);
    let broken = broken.clone();
    let reading = move || {
        let pump = |send: &mpsc::Sender<std::io::Result<Bytes>>| -> std::io::Result<()> {
            let mut reader = inflated(source)?;
            loop {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
                // An error to send means that the request has ended: its answer says why.
                if chunk.is_empty() || send.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = pump(&send) {
            let kind = error.kind();
            broken.set(error);
            // The service must not take what came so far for all.
            let _ = send.blocking_send(Err(kind.into()));
        }
    };
    let thread = std::thread::Builder::new().name("import".to_owned()).spawn(reading);
    thread.map_err(|error| Failure::local(format!("{} cannot be read", path.display()), &error))?;
    let chunks =
        stream::unfold(
            receive,
            |mut receive| async move { receive.recv().await.map(|chunk| (chunk, receive)) },
        );
    Ok(Body::wrap_stream(chunks))
}

/// Whether every line is stored, or something newer. A result that stays deleted is neither.
fn is_whole(report: &Value) -> bool {
    let none = |name: &str| report[name].as_u64().unwrap_or(0) == 0;
    none("failed") && none("deleted") && report["complete"].as_bool() == Some(true)
}

/// The report for people.
fn sentence(report: &Value) -> String {
    let count = |name: &str| HumanCount(report[name].as_u64().unwrap_or(0));
    let mut text = format!(
        "imported {}: {} created, {} replaced, {} refreshed, {} superseded, {} failed",
        counted(report["lines"].as_u64().unwrap_or(0), "line"),
        count("created"),
        count("replaced"),
        count("refreshed"),
        count("superseded"),
        count("failed")
    );
    if let Some(queued @ 1..) = report["queued"].as_u64() {
        let _ = write!(text, "; {} for a store that cannot be reached", HumanCount(queued));
    }
    if let Some(deleted @ 1..) = report["deleted"].as_u64() {
        let _ = write!(text, "; {} deleted since, which --restore stores again", HumanCount(deleted));
    }
    if report["complete"].as_bool() != Some(true) {
        text.push_str("; it was not read to its end");
    }
    let errors = report["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    for error in errors.iter().take(NAMED_ERRORS) {
        let word = |name: &str| error[name].as_str().unwrap_or("?");
        let place = match error["line"].as_u64() {
            // What went wrong with the body as a whole.
            None | Some(0) => String::new(),
            Some(line) => format!("line {line}: "),
        };
        let line = format!("\n  {place}{} ({})", word("detail"), word("code"));
        text.push_str(&line);
    }
    if errors.len() > NAMED_ERRORS {
        text.push_str("\n  and more; --json names up to a hundred");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_deleted_is_said_and_is_no_success() {
        let report = |deleted: u64| {
            serde_json::json!({"lines": 3, "created": 1, "superseded": 2 - deleted, "deleted": deleted,
                "failed": 0, "errors": [], "complete": true})
        };
        assert!(is_whole(&report(0)) && !is_whole(&report(2)));
        let text = sentence(&report(2));
        assert!(text.ends_with("0 failed; 2 deleted since, which --restore stores again"), "{text}");
    }

    #[test]
    fn names_the_first_failed_lines() {
        let errors: Vec<Value> = (0..=10)
            .map(|line| serde_json::json!({"line": line, "code": "malformed_json", "detail": "why"}))
            .collect();
        let report = serde_json::json!({
            "lines": 1200, "created": 1188, "replaced": 1, "refreshed": 0, "superseded": 0, "failed": 11, "errors": errors, "complete": false
        });
        let text = sentence(&report);
        assert!(
            text.starts_with(
                "imported 1,200 lines: 1,188 created, 1 replaced, 0 refreshed, 0 superseded, 11 failed; it was not read to its end\n  \
                 why (malformed_json)\n  line 1: why (malformed_json)\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("line 9: why (malformed_json)\n  and more; --json names up to a hundred"),
            "{text}"
        );
    }
}
