//! Standard output and error: the one place that writes to them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::{Failure, Outcome, printable};
use super::indent::Indent;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    /// `json`: as `--json` asks for.
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON is wanted.
    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// A command's answer on standard output: `value` with `--json`, otherwise `text`.
    pub(super) fn answer(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Outcome<()> {
        if self.json { write(&json_line(value, io::stdout().is_terminal())) } else { line(&text()) }
    }

    /// A report on standard error, which leaves standard output to the data: `value` with `--json`, otherwise `text`.
    pub(super) fn report(self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            // Nobody is left to tell when standard error is closed.
            let _ = io::stderr().lock().write_all(&json_line(value, false));
        } else {
            note(text());
        }
    }

    /// Says why a command failed.
    pub(super) fn failure(self, failure: &Failure) {
        if let Some(text) = failure.text(self.json) {
            note(text);
        }
    }
}

/// A line on standard output.
pub(super) fn line(text: &str) -> Outcome<()> {
    let mut text = printable(text);
    text.push('\n');
    write(text.as_bytes())
}

/// A line on standard error. Nobody is left to tell when that is closed.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Bytes on standard output, at once.
pub(super) fn write(bytes: &[u8]) -> Outcome<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| unwritten(&error))
}

/// The failure of a write to standard output.
pub(super) fn unwritten(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::reader_gone()
    } else {
        Failure::local("standard output cannot be written", error)
    }
}

/// JSON and a line break; indented for people.
fn json_line(value: &impl Serialize, indented: bool) -> Vec<u8> {
    let compact = serde_json::to_vec(value).expect("reports have text keys");
    let mut line = Vec::with_capacity(compact.len() * 2);
    if indented {
        let mut indent = Indent::new(&mut line);
        indent.write_all(&compact).and_then(|()| indent.end()).expect("memory can be written");
    } else {
        line.extend_from_slice(&compact);
        line.push(b'\n');
    }
    line
}
