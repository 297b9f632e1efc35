//! Gets and puts over one working set, a few keys often and most of them seldom.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode};
use http_body_util::Full;

use super::dice::Zipf;
use super::{Client, Dice, Exchange, Expected, Failure, Work, json_request};
use crate::measure::{read_corpus, url_of};

/// Coprime to any number of keys below it: neighbours in rank are strangers in the store.
const STRIDE: usize = 15_485_863;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The folder of documents.
    #[arg(long)]
    corpus: PathBuf,
    /// Keys, all of which are there.
    #[arg(long)]
    keys: usize,
    /// The share of puts.
    #[arg(long, default_value_t = 0.1)]
    puts: f64,
    /// How much more often the first keys are asked for than the last.
    #[arg(long, default_value_t = 1.0)]
    exponent: f64,
}

pub(super) struct Mixed {
    documents: Vec<Bytes>,
    /// How long the documents are as answers.
    lengths: Expected,
    keys: usize,
    puts: f64,
    zipf: Zipf,
}

impl Mixed {
    pub(super) async fn new(options: &Options, client: &mut Client) -> Result<Self, Failure> {
        let Options { corpus, keys, puts, exponent } = options;
        let documents = read_corpus(corpus)?;
        let mut lengths = Vec::with_capacity(documents.len());
        for (number, document) in documents.iter().enumerate() {
            // Under a key of its own: what the others hold changes.
            let uri = format!("/v1/result?url=https://lengths.example/{number}");
            let put = json_request("PUT", &uri, document.clone())?;
            // The first run finds nothing there.
            if client.ask(put, StatusCode::CREATED).await.is_err() {
                client.ask(json_request("PUT", &uri, document.clone())?, StatusCode::OK).await?;
            }
            lengths.push(client.ask(get(&uri)?, StatusCode::OK).await?.len());
        }
        lengths.sort_unstable();
        let lengths = Expected::OneOf(lengths.into());
        Ok(Self { documents, lengths, keys: *keys, puts: *puts, zipf: Zipf::new(*keys, *exponent) })
    }
}

impl Work for Mixed {
    fn parts(&self) -> &'static [&'static str] {
        &["get", "put"]
    }

    fn next(&self, dice: &mut Dice) -> Result<Exchange, Failure> {
        let key = self.zipf.rank(dice) * STRIDE % self.keys;
        let uri = format!("/v1/result?url={}", url_of(key));
        let status = StatusCode::OK;
        if dice.share() >= self.puts {
            return Ok(Exchange { request: get(&uri)?, status, expected: self.lengths.clone(), part: 0 });
        }
        #[expect(clippy::cast_precision_loss, reason = "a few documents")]
        let count = self.documents.len() as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below the number of documents"
        )]
        let document = (dice.share() * count) as usize;
        let request = json_request("PUT", &uri, self.documents[document].clone())?;
        // Replaced; or refreshed where chance picks the document that is there; or superseded by a put beside it.
        Ok(Exchange { request, status, expected: Expected::Begins("{\"outcome\":\""), part: 1 })
    }
}

fn get(uri: &str) -> http::Result<Request<Full<Bytes>>> {
    Request::get(uri).header("host", "127.0.0.1").header("accept-encoding", "zstd").body(Full::default())
}
