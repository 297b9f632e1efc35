//! Logs: the process-wide tracing subscriber on standard error, and panics as log events.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Log, LogFormat};

/// Libraries whose finer levels show what is stored, and the headers that requests are signed with.
const SILENCED: [&str; 8] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_dynamodb",
    "aws_sdk_s3",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
];

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is not a list of filter directives.
    #[error("log.level `{level}` cannot be read: {detail}")]
    Level {
        /// The directives.
        level: String,
        /// What is wrong.
        detail: String,
    },
    /// Logs were set up before, here or by someone else in this process; they stay as they are.
    #[error("logs are set up already")]
    AlreadySet,
}

/// Sets up logs for the whole process: events that `log.level` lets through go to standard error, as text or as
/// one JSON object a line, and panics become events. Call once.
///
/// # Errors
/// [`TelemetryError`]; nothing is changed then.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let terminal = std::io::stderr().is_terminal();
    let subscriber = subscriber(log, terminal, std::io::stderr)?;
    subscriber.try_init().map_err(|_| TelemetryError::AlreadySet)?;
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if tracing::enabled!(Level::ERROR) {
            log_panic(info);
        } else {
            // Logs are off: a panic is still worth a word on standard error.
            previous(info);
        }
    }));
    Ok(())
}

fn subscriber<W>(
    log: &Log,
    terminal: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(&log.level)
        .map_err(|error| TelemetryError::Level { level: log.level.clone(), detail: error.to_string() })?;
    let filter = SILENCED.iter().fold(filter, |filter, library| {
        let directive = format!("{library}=info").parse().expect("a name and a level");
        filter.add_directive(directive)
    });
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
        lines.json().flatten_event(true).with_span_list(false).boxed()
    } else if terminal {
        // Coloured, unless NO_COLOR is set, which the layer itself looks at.
        lines.boxed()
    } else {
        lines.with_ansi(false).boxed()
    };
    Ok(tracing_subscriber::registry().with(layer.with_filter(filter)))
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("(a panic without a message)");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // Captured when RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(location, thread, backtrace, "panic: {message}");
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Config;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, terminal: bool) -> String {
        let buffer = Buffer::default();
        let log = Log { format, level: level.to_owned(), ..Config::default().log };
        let writer = buffer.clone();
        let subscriber = subscriber(&log, terminal, move || writer.clone()).expect("valid");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(bytes = 3, "stored");
            tracing::debug!("detail");
            tracing::info!(target: "other", "noise");
        });
        let bytes = buffer.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn writes_one_json_object_a_line() {
        let text = logged(LogFormat::Json, "info,other=warn", true);
        let event: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(
            (&event["message"], &event["bytes"], &event["level"]),
            (&"stored".into(), &3.into(), &"INFO".into())
        );
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn auto_is_text_on_a_terminal_and_json_elsewhere() {
        for (format, terminal, json) in [
            (LogFormat::Auto, true, false),
            (LogFormat::Auto, false, true),
            (LogFormat::Text, false, false),
            (LogFormat::Json, true, true),
        ] {
            let text = logged(format, "info,other=off", terminal);
            assert_eq!(text.starts_with('{'), json, "{text}");
            assert!(text.contains("stored"), "{text}");
            assert!(terminal || !text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn the_level_filters() {
        assert_eq!(logged(LogFormat::Text, "off", false), "");
        assert_eq!(logged(LogFormat::Text, "debug", false).lines().count(), 3);
        assert_eq!(logged(LogFormat::Text, "error,other=info", false).lines().count(), 1);
        let log = Log { level: "other=loud".to_owned(), ..Config::default().log };
        assert!(matches!(subscriber(&log, false, io::sink), Err(TelemetryError::Level { .. })));
    }

    /// In a process of its own: a process has one subscriber and one panic hook.
    fn child(name: &str) -> String {
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", &format!("telemetry::tests::{name}"), "--ignored", "--nocapture"])
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("started");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.success(), "{text}");
        text
    }

    fn panic_under(level: &str) {
        if !std::env::args().any(|argument| argument == "--exact") {
            return; // `--include-ignored` runs both children in one process, where only one could be first.
        }
        let log = Log { format: LogFormat::Json, level: level.to_owned(), ..Config::default().log };
        let broken = Log { level: "other=loud".to_owned(), ..log.clone() };
        assert!(matches!(init(&broken), Err(TelemetryError::Level { .. })));
        init(&log).expect("the first in this process");
        assert!(matches!(init(&log), Err(TelemetryError::AlreadySet)));
        let thread = std::thread::Builder::new().name("worker".to_owned());
        let thread = thread.spawn(|| panic!("lost {}", "it")).expect("started");
        thread.join().expect_err("panicked");
    }

    #[test]
    fn panics_are_logged_once() {
        let text = child("child_that_logs");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("lost it")).collect();
        let [line] = lines[..] else { panic!("{text}") };
        let event: serde_json::Value = serde_json::from_str(line).expect("one JSON object");
        assert_eq!((&event["message"], &event["thread"]), (&"panic: lost it".into(), &"worker".into()));
        assert!(
            event["location"].as_str().is_some_and(|location| location.contains("telemetry.rs:")),
            "{line}"
        );
    }

    #[test]
    fn panics_are_shown_although_logs_are_off() {
        let text = child("child_that_is_silent");
        assert!(text.contains("thread 'worker'") && text.contains("lost it"), "{text}");
    }

    #[test]
    #[ignore = "run by panics_are_logged_once, in a process of its own"]
    fn child_that_logs() {
        panic_under("info");
    }

    #[test]
    #[ignore = "run by panics_are_shown_although_logs_are_off, in a process of its own"]
    fn child_that_is_silent() {
        panic_under("off");
    }
}
