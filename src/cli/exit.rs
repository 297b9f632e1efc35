//! How a command ends: the exit codes, and failures that become one line on standard error.

use std::error::Error;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::config::ConfigError;
pub(super) use crate::store::chain;

/// The exit codes. Scripts rely on them: they are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It was done.
    Done = 0,
    /// It failed, or was done in part only.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// What was asked for is not there: a miss.
    NotFound = 3,
    /// The service cannot be reached, or is not ready.
    Unreachable = 4,
    /// The service refused: the token is missing, wrong, or not allowed to do this (401, 403).
    Refused = 5,
}

impl Exit {
    const ALL: [(Self, &str); 6] = [
        (Self::Done, "done"),
        (Self::Failed, "failed, or done in part only"),
        (Self::Usage, "the arguments or the configuration are wrong"),
        (Self::NotFound, "what was asked for is not there (a miss)"),
        (Self::Unreachable, "the service cannot be reached, or is not ready"),
        (Self::Refused, "the service refused: token missing, wrong, or not allowed to do this"),
    ];

    /// The codes and what they mean, for `--help`.
    pub(super) fn table() -> String {
        let lines = Self::ALL.iter().map(|(exit, meaning)| format!("  {}  {meaning}", *exit as u8));
        format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work: an exit code, a stable word, and a sentence.
#[derive(Debug)]
pub(super) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    exit: Exit,
    code: String,
    detail: String,
    members: Map<String, Value>,
}

/// What a command comes to.
pub(super) type Outcome<T = Exit> = Result<T, Failure>;

impl Failure {
    /// A failure. `code` is for programs, `detail` for people.
    pub(super) fn new(exit: Exit, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner { exit, code: code.into(), detail: detail.into(), members: Map::new() }))
    }

    /// Arguments that make no sense.
    pub(super) fn usage(detail: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", detail)
    }

    /// A failure of this machine: `what` names the attempt.
    pub(super) fn local(what: impl std::fmt::Display, error: &dyn Error) -> Self {
        Self::new(Exit::Failed, "failed", format!("{what}: {}", chain(error)))
    }

    /// The reader of standard output has gone, as `head` does: the end, but nothing to complain about.
    pub(super) fn reader_gone() -> Self {
        Self::new(Exit::Done, "broken_pipe", "")
    }

    /// Adds members to the JSON form; those that it has already stay.
    pub(super) fn with(mut self, members: Map<String, Value>) -> Self {
        self.0.members.extend(members);
        self
    }

    /// The exit code.
    pub(super) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The stable word for programs.
    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// The sentence for people.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What to print: `None` when there is nothing to complain about.
    pub(super) fn text(&self, json: bool) -> Option<String> {
        let Inner { exit, code, detail, members } = &*self.0;
        if *exit == Exit::Done {
            return None;
        }
        if json {
            let mut object = members.clone();
            for (name, value) in
                [("code", json!(code)), ("detail", json!(detail)), ("exit_code", json!(*exit as u8))]
            {
                object.insert(name.to_owned(), value);
            }
            return Some(Value::Object(object).to_string());
        }
        let reason = members.get("reason").and_then(Value::as_str);
        let words = match (code.as_str(), reason) {
            // These say no more than the exit code.
            ("failed" | "usage", _) => String::new(),
            _ if detail.contains('\n') => String::new(),
            (code, None) => format!(" ({code})"),
            (code, Some(reason)) => format!(" ({code}: {reason})"),
        };
        Some(printable(&format!("error: {detail}{words}")))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let mistakes: Vec<String> = error.mistakes.iter().map(ToString::to_string).collect();
        Self::new(Exit::Usage, "invalid_configuration", error.to_string())
            .with(Map::from_iter([("mistakes".to_owned(), json!(mistakes))]))
    }
}

/// Text that cannot drive a terminal: control characters other than tab and line break are replaced.
pub(super) fn printable(text: &str) -> String {
    let harmless =
        |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code_once() {
        let table = Exit::table();
        for (at, (exit, meaning)) in Exit::ALL.iter().enumerate() {
            assert_eq!(*exit as usize, at);
            assert!(table.contains(&format!("  {at}  {meaning}")), "{table}");
        }
    }

    #[test]
    fn failures_name_code_and_reason() {
        let reason =
            Map::from_iter([("reason".to_owned(), json!("absent")), ("code".to_owned(), json!("other"))]);
        let miss = Failure::new(Exit::NotFound, "result_not_found", "nothing\u{1b}[31m there").with(reason);
        let text = miss.text(false).expect("something to say");
        assert_eq!(text, "error: nothing\u{fffd}[31m there (result_not_found: absent)");
        let object: Value = serde_json::from_str(&miss.text(true).expect("something to say")).expect("JSON");
        assert_eq!(
            object,
            json!({"code": "result_not_found", "detail": "nothing\u{1b}[31m there", "exit_code": 3, "reason": "absent"})
        );
        assert_eq!(Failure::reader_gone().text(false), None);
    }
}
