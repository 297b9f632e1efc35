//! Puts: of new keys, of what is stored already, and of other content under the same keys.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use http::StatusCode;

use super::{Dice, Exchange, Expected, Failure, Turn, Work, json_request};
use crate::measure::{document_of, read_corpus, url_of};

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The folder of documents.
    #[arg(long)]
    corpus: PathBuf,
    /// The number of the first key.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Keys that are there, from 0; none of them is new then.
    #[arg(long)]
    keys: Option<usize>,
    /// Put another document under each of these keys, instead of the same again.
    #[arg(long, requires = "keys")]
    changed: bool,
}

pub(super) struct Puts {
    documents: Vec<Bytes>,
    keys: Option<usize>,
    changed: bool,
    turn: Turn,
}

impl Puts {
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        let documents = read_corpus(&options.corpus)?;
        Ok(Self { documents, keys: options.keys, changed: options.changed, turn: Turn::from(options.first) })
    }
}

impl Work for Puts {
    fn next(&self, _: &mut Dice) -> Result<Exchange, Failure> {
        let (key, document) = document_of(self.turn.next(), self.keys, self.changed);
        let body = self.documents[document % self.documents.len()].clone();
        let request = json_request("PUT", &format!("/v1/result?url={}", url_of(key)), body)?;
        let (status, outcome) = match (self.keys, self.changed) {
            (None, _) => (StatusCode::CREATED, "{\"outcome\":\"created\""),
            (Some(_), false) => (StatusCode::OK, "{\"outcome\":\"refreshed\""),
            (Some(_), true) => (StatusCode::OK, "{\"outcome\":\"replaced\""),
        };
        Ok(Exchange { request, status, expected: Expected::Begins(outcome), part: 0 })
    }
}
