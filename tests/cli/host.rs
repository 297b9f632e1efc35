//! Runs the binary: commands to their end, services until they are dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(5);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn error(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test unless the command ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// The binary, in an empty environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crawlcache"));
    command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Done {
    command(arguments).output().expect("started").into()
}

/// Runs a command that reads `input`.
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Done {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    // It may end without reading everything.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("waited").into()
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running service. Dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
    pub(crate) url: String,
}

impl Server {
    /// Starts a service over a data directory.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    pub(crate) fn start_with(data_dir: &Path, arguments: &[&str]) -> Self {
        let data_dir = data_dir.to_str().expect("text");
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir];
        all.extend(arguments);
        Self::of(command(&all))
    }

    /// Starts the service that a command is.
    pub(crate) fn of(mut serve: Command) -> Self {
        let mut child = serve.spawn().expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let mut url = None;
        for line in lines.by_ref() {
            let line = line.expect("text");
            note(&log, &line);
            url = line.split_once(" listens on ").map(|(_, url)| url.to_owned());
            if url.is_some() {
                break;
            }
        }
        let Some(url) = url else { panic!("it did not start: {}", log.lock().expect("not poisoned")) };
        let rest = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                note(&rest, &line);
            }
        });
        Self { child, log, url }
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// A client command that asks this service.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.args(["--url", &self.url]);
        command
    }

    /// Runs a client command that asks this service.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().expect("started").into()
    }

    /// Stores a document that is given as text.
    #[track_caller]
    pub(crate) fn put(&self, url: &str, document: &str) {
        run_with_input(self.command(&["put", url]), document.as_bytes()).expect(0);
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("started").success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the end of the service", || self.child.try_wait().expect("waited"))
    }

    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("a url")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn note(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().expect("not poisoned");
    log.push_str(line);
    log.push('\n');
}

/// A server that answers every connection with the next of `answers`, and the last one from then on.
pub(crate) struct Canned {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Canned {
    pub(crate) fn new(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepted");
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("read") == 1 {
                    head.push(byte[0]);
                }
                let at = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                stream.write_all(answers[at].as_bytes()).expect("written");
            }
        });
        Self { url, asked }
    }

    /// How many requests it has answered.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An answer that ends its connection.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}
