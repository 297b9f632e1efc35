//! Requests about many keys at once: look-ups, and reads of whole results.

use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Client, Dice, Exchange, Expected, Failure, Turn, Work, json_request};
use crate::measure::url_of;

/// Different requests, so that not one answer is warm.
const ROUNDS: usize = 32;

/// How many digits the ages of a key may gain in a run.
const AGE_DIGITS: usize = 8;

#[derive(Args, Clone)]
pub(crate) struct LookupOptions {
    /// Keys in one request.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Entries in the store.
    #[arg(long)]
    entries: usize,
    /// From one key to the next: 1 asks for neighbours, a large prime for keys all over the store.
    #[arg(long, default_value_t = 15_485_863)]
    stride: usize,
}

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Keys in one request.
    #[arg(long, default_value_t = 100)]
    keys: usize,
    /// Entries in the store.
    #[arg(long)]
    entries: usize,
    /// From one key to the next.
    #[arg(long, default_value_t = 7919)]
    stride: usize,
    /// The fields to ask for; all when missing.
    #[arg(long)]
    field: Vec<String>,
}

/// A few bodies, sent in turn to one path.
pub(super) struct Bodies {
    path: &'static str,
    bodies: Vec<Bytes>,
    expected: Vec<Expected>,
    turn: Turn,
}

impl Bodies {
    pub(super) async fn lookup(options: &LookupOptions, client: &mut Client) -> Result<Self, Failure> {
        let &LookupOptions { keys, entries, stride } = options;
        Self::new(
            "/v1/results/lookup",
            keys,
            |round| json!({ "keys": urls(round, keys, entries, stride) }),
            client,
        )
        .await
    }

    pub(super) async fn batch(options: &Options, client: &mut Client) -> Result<Self, Failure> {
        let Options { keys, entries, stride, field } = options;
        let body = |round| {
            let mut body = json!({ "keys": urls(round, *keys, *entries, *stride) });
            if !field.is_empty() {
                body["fields"] = json!(field);
            }
            body
        };
        Self::new("/v1/results/batch-get", *keys, body, client).await
    }

    async fn new(
        path: &'static str,
        keys: usize,
        body: impl Fn(usize) -> Value,
        client: &mut Client,
    ) -> Result<Self, Failure> {
        let bodies: Vec<Bytes> = (0..ROUNDS).map(|round| body(round).to_string().into()).collect();
        let mut expected = Vec::with_capacity(ROUNDS);
        for body in &bodies {
            let answer = client.ask(json_request("POST", path, body.clone())?, StatusCode::OK).await?;
            for missing in ["\"state\":\"absent\"", "\"status\":404"] {
                if answer.windows(missing.len()).any(|text| text == missing.as_bytes()) {
                    return Err(format!("{path} answers that a key is missing").into());
                }
            }
            expected.push(Expected::Length { bytes: answer.len(), slack: keys * AGE_DIGITS });
        }
        Ok(Self { path, bodies, expected, turn: Turn::default() })
    }
}

impl Work for Bodies {
    fn next(&self, _: &mut Dice) -> Result<Exchange, Failure> {
        let place = self.turn.next() % self.bodies.len();
        let request = json_request("POST", self.path, self.bodies[place].clone())?;
        let expected = self.expected[place].clone();
        Ok(Exchange { request, status: StatusCode::OK, expected, part: 0 })
    }
}

/// The urls of so many entries, a stride apart.
fn urls(round: usize, keys: usize, entries: usize, stride: usize) -> Vec<String> {
    let first = round * keys;
    (first..first + keys).map(|place| url_of(place.wrapping_mul(stride) % entries)).collect()
}
