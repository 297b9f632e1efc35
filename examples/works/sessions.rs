//! Sessions: made, read, changed and kept alive.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::StatusCode;

use super::{Dice, Exchange, Expected, Failure, Turn, Work, json_request};

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// What to do with them.
    #[arg(value_enum)]
    action: Action,
    /// How many there are, from 0: what is not a creation takes them in turn.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// The number of the first request, which is that of the session where one is created.
    #[arg(long, default_value_t = 0)]
    first: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    Create,
    Get,
    Patch,
    Touch,
}

pub(super) struct Sessions {
    action: Action,
    sessions: usize,
    turn: Turn,
}

impl Sessions {
    pub(super) fn new(options: &Options) -> Self {
        Self { action: options.action, sessions: options.sessions, turn: Turn::from(options.first) }
    }
}

impl Work for Sessions {
    fn next(&self, _: &mut Dice) -> Result<Exchange, Failure> {
        let number = self.turn.next();
        let path = format!("/v1/sessions/bench-{}", number % self.sessions);
        let (method, path, body, status) = match self.action {
            Action::Create => ("POST", "/v1/sessions".to_owned(), created(number), StatusCode::CREATED),
            Action::Get => ("GET", path, Bytes::new(), StatusCode::OK),
            Action::Patch => {
                let change = serde_json::json!({"user_metadata": {"step": number}});
                ("PATCH", path, change.to_string().into(), StatusCode::OK)
            }
            Action::Touch => ("POST", format!("{path}/touch"), Bytes::new(), StatusCode::OK),
        };
        let request = json_request(method, &path, body)?;
        Ok(Exchange { request, status, expected: Expected::Begins("{\"id\":\"bench-"), part: 0 })
    }
}

/// A session as a crawler of a fleet makes it.
fn created(number: usize) -> Bytes {
    serde_json::json!({
        "id": format!("bench-{number}"), "project_id": "bench", "ttl_seconds": 3600,
        "user_metadata": {"job": number, "seed": "https://bench.example/", "depth": 3},
    })
    .to_string()
    .into()
}
