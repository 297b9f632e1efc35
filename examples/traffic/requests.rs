//! The requests of each operation, and the answers that they may get.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;

use crate::dice::Dice;
use crate::keys::{Spread, below};
use crate::measure::{read_corpus, url_among};
use crate::operation::{Mix, Operation};
use crate::{Arguments, Failure};

/// Bodies of look-ups and of batches that are made beforehand, so that the generator does not spend the cores on them.
const READY_MADE: usize = 32;

/// Where the keys of `short` begin: above all that has a number otherwise.
const SHORT: usize = 1 << 40;

/// A request, and what may be answered.
pub(crate) struct Asked {
    pub(crate) request: Request<Full<Bytes>>,
    pub(crate) expected: &'static [StatusCode],
}

/// Makes requests.
pub(crate) struct Requests {
    documents: Vec<Bytes>,
    spread: Spread,
    entries: usize,
    hosts: usize,
    next: AtomicUsize,
    ttl: u64,
    list: String,
    many: Vec<Bytes>,
    found: &'static [StatusCode],
}

impl Requests {
    pub(crate) fn new(arguments: &Arguments, mix: &Mix) -> Result<Self, Failure> {
        let documents = arguments.corpus.as_deref().map(read_corpus).transpose()?.unwrap_or_default();
        let puts = [Operation::New, Operation::Put, Operation::Change, Operation::Short];
        if documents.len() < 2 && puts.into_iter().any(|put| mix.has(put)) {
            return Err("puts need a corpus of at least two documents".into());
        }
        let Arguments { entries, hosts, keys, .. } = *arguments;
        let mut dice = Dice::new(arguments.seed);
        let mut many = Vec::new();
        if mix.has(Operation::Lookup) || mix.has(Operation::Batch) {
            many.resize_with(READY_MADE, || many_keys(entries, hosts, keys, &mut dice));
        }
        Ok(Self {
            documents,
            spread: Spread::new(entries, arguments.zipf),
            entries,
            hosts,
            next: AtomicUsize::new(arguments.first),
            ttl: arguments.ttl,
            list: arguments.list.clone(),
            many,
            found: if arguments.may_miss {
                &[StatusCode::OK, StatusCode::NOT_FOUND]
            } else {
                &[StatusCode::OK]
            },
        })
    }

    /// The next request of an operation; sessions are elsewhere.
    pub(crate) fn make(&self, operation: Operation, dice: &mut Dice) -> Result<Asked, Failure> {
        const EITHER: &[StatusCode] = &[StatusCode::OK, StatusCode::CREATED];
        let any = |dice: &mut Dice| below(self.entries, dice);
        Ok(match operation {
            Operation::Get => ask(get(&self.result(self.spread.choose(dice)), true)?, self.found),
            Operation::Plain => ask(get(&self.result(self.spread.choose(dice)), false)?, self.found),
            Operation::Miss => {
                let path = format!("/v1/result?url=https://absent.example/{}", any(dice));
                ask(get(&path, true)?, &[StatusCode::NOT_FOUND])
            }
            Operation::New => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                ask(json("PUT", &self.result(number), self.document(number))?, &[StatusCode::CREATED])
            }
            Operation::Put => {
                let number = self.spread.choose(dice);
                ask(json("PUT", &self.result(number), self.document(number))?, EITHER)
            }
            Operation::Change => {
                let number = self.spread.choose(dice);
                let other = number + 1 + below(self.documents.len() - 1, dice);
                ask(json("PUT", &self.result(number), self.document(other))?, EITHER)
            }
            Operation::Short => {
                let number = any(dice);
                let path = format!("{}&ttl={}", self.result(SHORT + number), self.ttl);
                ask(json("PUT", &path, self.document(number))?, EITHER)
            }
            Operation::Delete => {
                ask(json("DELETE", &self.result(any(dice)), Bytes::new())?, &[StatusCode::NO_CONTENT])
            }
            Operation::List => ask(get(&self.list, false)?, &[StatusCode::OK]),
            Operation::Lookup => ask(self.of_many("/v1/results/lookup", dice)?, &[StatusCode::OK]),
            Operation::Batch => ask(self.of_many("/v1/results/batch-get", dice)?, &[StatusCode::OK]),
            Operation::Session => return Err("a session is not made here".into()),
        })
    }

    fn result(&self, number: usize) -> String {
        format!("/v1/result?url={}", url_among(number, self.hosts))
    }

    fn document(&self, number: usize) -> Bytes {
        self.documents[number % self.documents.len()].clone()
    }

    fn of_many(&self, path: &str, dice: &mut Dice) -> http::Result<Request<Full<Bytes>>> {
        json("POST", path, self.many[below(self.many.len(), dice)].clone())
    }
}

/// A request with what it may come to.
fn ask(request: Request<Full<Bytes>>, expected: &'static [StatusCode]) -> Asked {
    Asked { request, expected }
}

fn get(path: &str, zstd: bool) -> http::Result<Request<Full<Bytes>>> {
    let request = Request::builder().uri(path).header("host", "127.0.0.1");
    let request = if zstd { request.header("accept-encoding", "zstd") } else { request };
    request.body(Full::default())
}

/// A request with a JSON body.
pub(crate) fn json(method: &str, path: &str, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    request.header("content-type", "application/json").body(Full::new(body))
}

fn many_keys(entries: usize, hosts: usize, keys: usize, dice: &mut Dice) -> Bytes {
    let urls: Vec<String> = (0..keys).map(|_| url_among(below(entries, dice), hosts)).collect();
    serde_json::json!({ "keys": urls }).to_string().into()
}
