//! A fleet of crawlers that knows what it was promised: every client owns its keys and remembers each answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::documents::prose;
use crate::support::{Connection, Request, Server, result_of};

/// How many clients there are.
pub(crate) const CLIENTS: usize = 64;

/// How many keys they have together.
pub(crate) const KEYS: usize = 10_000;

/// What may be stored for a key: a number, or nothing.
type State = Option<u64>;

/// What is known of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    /// What was acknowledged last.
    kept: State,
    /// What was asked for since, without an answer: each of them may have happened.
    maybe: Vec<State>,
}

impl Promise {
    /// Whether a reader may see this.
    fn allows(&self, state: State) -> bool {
        self.kept == state || self.maybe.contains(&state)
    }

    fn acknowledged(&mut self, state: State) {
        *self = Self { kept: state, maybe: Vec::new() };
    }
}

/// What came of it all.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) puts: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) broken: AtomicU64,
    /// Reads that found nothing, and said that DynamoDB was not asked.
    pub(crate) hidden: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it in one line.
    pub(crate) fn line(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} puts, {} deletes and {} reads answered ({} writes queued, {} reads hidden by an outage); {} refused, \
             {} without an answer",
            of(&self.puts),
            of(&self.deletes),
            of(&self.reads),
            of(&self.queued),
            of(&self.hidden),
            of(&self.refused),
            of(&self.broken)
        )
    }
}

/// One client, its keys, and what it was promised of them.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    keys: Vec<Promise>,
    next: u64,
    random: u64,
}

impl Client {
    /// All of them.
    pub(crate) fn fleet(seed: u64) -> Vec<Self> {
        (0..CLIENTS)
            .map(|number| {
                let keys = KEYS / CLIENTS + usize::from(number < KEYS % CLIENTS);
                let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (number as u64 + 1);
                Self { number, keys: vec![Promise::default(); keys], next: 1, random }
            })
            .collect()
    }

    fn random(&mut self) -> u64 {
        // xorshift64*: any spread will do, and the same one each time.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn url(&self, key: usize) -> String {
        format!("https://host{}.example/{}/{key}", key % 7, self.number)
    }

    /// Writes, deletes and reads until it is told to stop or the server is gone.
    pub(crate) fn work(&mut self, address: SocketAddr, stop: &AtomicBool, counts: &Counts) {
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            if connection.is_none() {
                match Connection::try_open(address) {
                    Ok(open) => connection = Some(open),
                    Err(_) => return,
                }
            }
            let Some(open) = &mut connection else { return };
            // Most of the work is on few keys, so that writes of one key follow each other closely.
            let spread =
                if self.random().is_multiple_of(4) { self.keys.len() } else { 24.min(self.keys.len()) };
            let key = usize::try_from(self.random()).unwrap_or(0) % spread;
            let answered = match self.random() % 10 {
                0..4 => self.put(address, open, key, counts),
                4 => self.delete(address, open, key, counts),
                _ => self.read(address, open, key, counts),
            };
            if !answered {
                Counts::add(&counts.broken);
                connection = None;
            }
        }
    }

    fn put(&mut self, address: SocketAddr, open: &mut Connection, key: usize, counts: &Counts) -> bool {
        let number = self.next;
        self.next += 1;
        let url = self.url(key);
        let body = document(&url, number).to_string();
        self.keys[key].maybe.push(Some(number));
        let answer = Request::new(address, "PUT", &result_of(&url, &[])).body(body).send_on(open);
        let Ok(answer) = answer else { return false };
        match answer.status {
            200..=202 => {
                self.keys[key].acknowledged(Some(number));
                Counts::add(&counts.puts);
                if answer.status == 202 {
                    Counts::add(&counts.queued);
                }
            }
            503 => Counts::add(&counts.refused),
            _ => panic!("{answer:?}"),
        }
        true
    }

    fn delete(&mut self, address: SocketAddr, open: &mut Connection, key: usize, counts: &Counts) -> bool {
        let url = self.url(key);
        self.keys[key].maybe.push(None);
        let Ok(answer) = Request::new(address, "DELETE", &result_of(&url, &[])).send_on(open) else {
            return false;
        };
        match answer.status {
            202 | 204 => {
                self.keys[key].acknowledged(None);
                Counts::add(&counts.deletes);
                if answer.status == 202 {
                    Counts::add(&counts.queued);
                }
            }
            503 => Counts::add(&counts.refused),
            _ => panic!("{answer:?}"),
        }
        true
    }

    fn read(&mut self, address: SocketAddr, open: &mut Connection, key: usize, counts: &Counts) -> bool {
        let url = self.url(key);
        let request = Request::new(address, "GET", &result_of(&url, &[]));
        let Ok(answer) = request.send_on(open) else { return false };
        let state = match answer.status {
            200 => Some(answer.json()),
            404 if answer.json()["reason"] == "unknown" => {
                // A key that SQLite owns, and of which only DynamoDB may know: the answer says that it was not asked.
                Counts::add(&counts.hidden);
                return true;
            }
            404 => None,
            503 => {
                Counts::add(&counts.refused);
                return true;
            }
            _ => panic!("{answer:?}"),
        };
        Counts::add(&counts.reads);
        self.check(&url, key, state.as_ref());
        true
    }

    /// Holds what was read against what was promised. What has been seen of the unanswered ones stays possible.
    fn check(&self, url: &str, key: usize, stored: Option<&Value>) {
        let state = stored.map(|stored| stored["number"].as_u64().expect("a number"));
        let promise = &self.keys[key];
        assert!(promise.allows(state), "{url} is {state:?}, which {promise:?} does not allow");
        if let (Some(number), Some(stored)) = (state, stored) {
            assert!(*stored == document(url, number), "{url} is not what was sent as {number}");
        }
    }

    /// Reads all keys, past every copy, and says how many there are.
    pub(crate) fn check_all(&self, server: &Server) -> usize {
        let mut there = 0;
        let all: Vec<usize> = (0..self.keys.len()).collect();
        for some in all.chunks(500) {
            let urls: Vec<String> = some.iter().map(|key| self.url(*key)).collect();
            let lines = server.post("/v1/results/batch-get", &json!({"keys": urls})).is(200).lines();
            assert_eq!(lines.len(), some.len());
            for (line, (key, url)) in lines.iter().zip(some.iter().zip(&urls)) {
                let stored = (line["status"] == 200).then_some(&line["document"]);
                assert!(stored.is_some() || line["reason"] == "absent", "{line}");
                self.check(url, *key, stored);
                there += usize::from(stored.is_some());
            }
        }
        there
    }
}

fn document(url: &str, number: u64) -> Value {
    let size = 200 + usize::try_from(number).unwrap_or(0) * 7919 % 3000;
    json!({"url": url, "number": number, "html": prose(number, size), "success": true})
}
