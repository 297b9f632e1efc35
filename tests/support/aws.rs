//! A stand-in for AWS: says the errors that DynamoDB Local, or an S3-compatible server, never says, and passes everything
//! else on.

#![expect(dead_code, reason = "each test program uses its own part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// An error as DynamoDB, or S3, says it.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// Such as `AccessDeniedException`.
    pub(crate) code: &'static str,
    /// What follows it.
    pub(crate) message: String,
    /// How many seconds the service's clock is ahead of this one.
    pub(crate) clock_ahead_seconds: i64,
    /// The status, such as 400.
    pub(crate) status: u16,
    /// How long it is kept back.
    pub(crate) after: Duration,
    /// Whether the request is passed on instead, and its answer lost.
    pub(crate) lost: bool,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, clock_ahead_seconds: 0, status: 400, after: Duration::ZERO, lost: false }
    }

    /// No answer, although what was asked is done.
    pub(crate) fn of_the_answer() -> Self {
        Self { lost: true, ..Self::new("Lost", "") }
    }

    fn text(&self, to: &Request) -> String {
        let message = self.message.replace('"', "'");
        let (kind, mut body) = if to.is_of_s3 {
            let body = format!("<Error><Code>{}</Code><Message>{message}</Message></Error>", self.code);
            ("application/xml", body)
        } else {
            let body = format!(
                "{{\"__type\":\"com.amazon.coral.service#{}\",\"message\":\"{message}\"}}",
                self.code
            );
            ("application/x-amz-json-1.0", body)
        };
        let length = body.len();
        if to.operation == "HEAD" {
            body.clear();
        }
        format!(
            "HTTP/1.1 {} Refused\r\nconnection: close\r\ndate: {}\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\n\r\n{body}",
            self.status,
            date(self.clock_ahead_seconds),
        )
    }
}

#[expect(clippy::disallowed_methods, reason = "a date as a service would send it")]
fn date(ahead_seconds: i64) -> String {
    let by = Duration::from_secs(ahead_seconds.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if ahead_seconds < 0 { now - by } else { now + by })
}

/// The stand-in. It ends with the test's process.
pub(crate) struct StandIn {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
    written: Arc<AtomicUsize>,
}

impl StandIn {
    /// One that asks `refuse` about every operation, such as `GetItem`, or the method of a request to S3. What is not refused is passed on to the
    /// service at `upstream`, which must then be there.
    pub(crate) fn start(
        upstream: Option<String>,
        refuse: impl Fn(&str) -> Option<Refusal> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::new(AtomicUsize::new(0));
        let (log, refuse, count) = (Arc::clone(&asked), Arc::new(refuse), Arc::clone(&written));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, refuse, upstream) = (Arc::clone(&log), Arc::clone(&refuse), upstream.clone());
                let count = Arc::clone(&count);
                // Clients keep several connections at once.
                std::thread::spawn(move || {
                    let Some(request) = Request::read(&stream) else { return };
                    log.lock().expect("not poisoned").push(request.operation.clone());
                    let answer = match (refuse(&request.operation), upstream) {
                        (Some(Refusal { lost: true, .. }), Some(upstream)) => {
                            request.pass_on(&upstream);
                            return;
                        }
                        (Some(refusal), _) => {
                            std::thread::sleep(refusal.after);
                            refusal.text(&request).into_bytes()
                        }
                        (None, Some(upstream)) => {
                            let answer = request.pass_on(&upstream);
                            count.fetch_add(request.written(&answer), Ordering::Relaxed);
                            answer
                        }
                        (None, None) => panic!("{} is neither refused nor passed on", request.operation),
                    };
                    // The client may have given up.
                    let _ = (&stream).write_all(&answer);
                });
            }
        });
        Self { url, asked, written }
    }

    /// One that answers everything with the same error.
    pub(crate) fn refusing(refusal: Refusal) -> Self {
        Self::start(None, move |_| Some(refusal.clone()))
    }

    /// How many items were written through it, whatever became of the answers.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// The operations that it was asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// Sends one request to DynamoDB Local, which looks at no signature: `operation` such as `CreateTable`, and its JSON.
pub(crate) fn ask(endpoint: &str, operation: &str, json: &str) -> String {
    let head = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: DynamoDB_20120810.{operation}\r\n\
         content-type: application/x-amz-json-1.0\r\nx-amz-date: 20260101T000000Z\r\nauthorization: AWS4-HMAC-SHA256 \
         Credential=dummy/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0\r\n",
    );
    let (operation, body) = (operation.to_owned(), json.as_bytes().to_vec());
    let request = Request { operation, is_of_s3: false, head, body };
    String::from_utf8(request.pass_on(endpoint)).expect("text")
}

struct Request {
    operation: String,
    is_of_s3: bool,
    /// Without what is said about connection and length, and without the blank line.
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let (mut head, mut length, mut operation) = (String::new(), 0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let text = line.trim_end().to_owned();
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(": ").unwrap_or((&text, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "connection" => {}
                "x-amz-target" => {
                    value.rsplit('.').next().unwrap_or_default().clone_into(&mut operation);
                    head.push_str(&line);
                }
                _ => head.push_str(&line),
            }
        }
        let is_of_s3 = operation.is_empty();
        if is_of_s3 {
            head.split(' ').next().unwrap_or_default().clone_into(&mut operation);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { operation, is_of_s3, head, body })
    }

    /// How many items it has written, by its answer.
    fn written(&self, answer: &[u8]) -> usize {
        let count = |text: &[u8], word: &str| String::from_utf8_lossy(text).matches(word).count();
        let is_done = answer.starts_with(b"HTTP/1.1 200");
        match self.operation.as_str() {
            "PutItem" | "UpdateItem" | "DeleteItem" if is_done => 1,
            "BatchExecuteStatement" if is_done => {
                count(&self.body, "INSERT INTO").saturating_sub(count(answer, "\"Error\":"))
            }
            _ => 0,
        }
    }

    fn pass_on(&self, upstream: &str) -> Vec<u8> {
        let address = upstream.strip_prefix("http://").expect("a plain address");
        let mut stream = TcpStream::connect(address).expect("the service behind is there");
        let Self { head, body, .. } = self;
        let head = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        answer
    }
}
