//! A server process: started in a directory of its own, killed by its id when the test ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::metrics::Series;
use super::{Connection, PATIENCE, POLL, Request, eventually};

/// What a setting is: its key as `section.name`, and its value. A key without a dot is a variable of the environment,
/// such as `AWS_ACCESS_KEY_ID`.
pub(crate) type Setting<'a> = (&'a str, &'a str);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    data_dir: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
    token: Option<String>,
    /// The directory, where it is this server's own.
    own: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts a server in a new directory and waits until it listens.
    pub(crate) fn start(settings: &[Setting<'_>]) -> Self {
        let own = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self::on(own.path(), settings);
        server.own = Some(own);
        server
    }

    /// Starts a server on a data directory and waits until it listens.
    pub(crate) fn on(data_dir: &Path, settings: &[Setting<'_>]) -> Self {
        Self::within(data_dir, settings, &[])
    }

    /// The same in an environment that has more than settings.
    pub(crate) fn within(data_dir: &Path, settings: &[Setting<'_>], environment: &[(&str, String)]) -> Self {
        let mut child = spawn(data_dir, settings, environment);
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = mpsc::channel();
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once(" listens on http://") {
                    let _ = sender.send(address.trim().parse::<SocketAddr>());
                }
                lines.lock().expect("not poisoned").push(line);
            }
        });
        let listening = receiver.recv_timeout(PATIENCE);
        let Ok(Ok(address)) = listening else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server did not start: {:#?}", log.lock().expect("not poisoned"));
        };
        Self { child, address, data_dir: data_dir.to_owned(), log, token: None, own: None }
    }

    /// Starts a server that must refuse to, and returns how it ended and what it wrote.
    pub(crate) fn refused(data_dir: &Path, settings: &[Setting<'_>]) -> (ExitStatus, String) {
        let mut child = spawn(data_dir, settings, &[]);
        // It writes a few lines: they fit in the pipe, so nobody has to read them meanwhile.
        let begun = Instant::now();
        let ended = loop {
            match child.try_wait().expect("our own child") {
                None if begun.elapsed() < PATIENCE => thread::sleep(POLL),
                ended => break ended,
            }
        };
        let _ = child.kill();
        let output = child.wait_with_output().expect("our own child");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = ended.unwrap_or_else(|| panic!("it started although it must not: {text}"));
        (status, text)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Sends this token with every request from now on.
    pub(crate) fn set_token(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    pub(crate) fn request(&self, method: &str, target: &str) -> Request {
        let request = Request::new(self.address, method, target);
        match &self.token {
            Some(token) => request.header("authorization", &format!("Bearer {token}")),
            None => request,
        }
    }

    pub(crate) fn get(&self, target: &str) -> super::Answer {
        self.request("GET", target).send()
    }

    pub(crate) fn put(&self, target: &str, body: impl Into<Vec<u8>>) -> super::Answer {
        self.request("PUT", target).header("content-type", "application/json").body(body).send()
    }

    pub(crate) fn post(&self, target: &str, body: &Value) -> super::Answer {
        self.request("POST", target).json(body).send()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Begins a PUT whose body takes `length` bytes, and waits until the server asks for the body: from then on
    /// the request is being worked on.
    pub(crate) fn begin_put(&self, target: &str, length: usize) -> Connection {
        self.begin(target, &format!("content-length: {length}"))
    }

    /// As [`Server::begin_put`], with a header that says how the body ends.
    pub(crate) fn begin(&self, target: &str, framing: &str) -> Connection {
        let mut connection = self.connect();
        let head =
            format!("PUT {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\n{framing}\r\n\r\n");
        connection.write(head.as_bytes()).expect("sent");
        connection.answer_head().expect("an interim answer").is(100);
        connection
    }

    /// What `/metrics` says.
    pub(crate) fn metrics(&self) -> Series {
        let answer = self.get("/metrics").is(200);
        Series::parse(&String::from_utf8(answer.decoded()).expect("text"))
    }

    /// How many results of the default namespace it holds.
    pub(crate) fn entries(&self) -> u64 {
        if on_sqlite() {
            return self.metrics().of(r#"store_entries{backend="sqlite"}"#);
        }
        // DynamoDB's own count is an estimate.
        let (mut entries, mut cursor) = (0, None::<String>);
        loop {
            let more = cursor.map(|cursor| format!("&cursor={}", super::encode(&cursor))).unwrap_or_default();
            let page = self.get(&format!("/v1/results?limit=1000&expired=true{more}")).is(200).json();
            entries += page["items"].as_array().map_or(0, |items| items.len() as u64);
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return entries;
            }
        }
    }

    /// The lines that it has written to standard error.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits for a line of the log that is JSON and fits.
    pub(crate) fn wait_for_event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.log().iter().filter_map(|line| serde_json::from_str(line).ok()).find(&fits))
    }

    /// A number in KiB from `/proc/PID/status`, in bytes.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect(field);
        kib << 10
    }

    /// Forgets the peak of resident memory: `VmHWM` counts from now on.
    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("our own child");
    }

    /// Ends it as a crash would (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(done.expect("`kill` is there").success());
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the server ends", || self.child.try_wait().expect("our own child"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            show(&self.log.lock().expect("not poisoned").join("\n"));
        }
    }
}

#[expect(clippy::print_stderr, reason = "what the server said explains why a test failed")]
fn show(log: &str) {
    eprintln!("--- the server's standard error ---\n{log}\n---");
}

fn spawn(data_dir: &Path, settings: &[Setting<'_>], environment: &[(&str, String)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crawlcache"));
    // Nothing of the environment of whoever runs the tests may configure the server.
    command.arg("serve").env_clear().current_dir(std::env::temp_dir());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let base = [("server.listen", "127.0.0.1:0"), ("server.data_dir", data_dir.to_str().expect("a path"))];
    let shared = dynamodb_endpoint().map(|endpoint| dynamodb_settings(endpoint, data_dir));
    let shared = shared.iter().flatten().map(|(key, value)| (*key, value.as_str()));
    for (key, value) in base.into_iter().chain(shared).chain(settings.iter().copied()) {
        if key.contains('.') {
            command.env(format!("CRAWLCACHE_{}", key.replace('.', "__").to_ascii_uppercase()), value);
        } else {
            command.env(key, value);
        }
    }
    command.spawn().expect("the binary starts")
}

/// A variable of the test script.
pub(crate) fn variable(name: &str) -> Option<String> {
    let found = crawlcache::config::process_environment().find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_string().expect("text"))
}

/// Where DynamoDB is, when these tests are run on it: `TEST_STORE=dynamodb`.
fn dynamodb_endpoint() -> Option<String> {
    match variable("TEST_STORE").as_deref() {
        Some("dynamodb") => Some(variable("TEST_DYNAMODB_ENDPOINT").expect("TEST_DYNAMODB_ENDPOINT is set")),
        Some(other) => panic!("TEST_STORE is {other}, not dynamodb"),
        None => None,
    }
}

/// Where DynamoDB Local is; `None`, and a word about it, where it is not.
pub(crate) fn dynamodb_local() -> Option<String> {
    let endpoint = variable("TEST_DYNAMODB_ENDPOINT");
    assert!(
        endpoint.is_some() || variable("TEST_REQUIRE_DYNAMODB").is_none(),
        "DynamoDB Local is not running"
    );
    required("DynamoDB Local (scripts/test-services)", endpoint)
}

/// Settings of a bucket on the S3-compatible server of the tests; `None`, and a word about it, where that is not.
pub(crate) fn bucket() -> Option<Vec<(&'static str, String)>> {
    let endpoint = variable("TEST_S3_ENDPOINT");
    assert!(
        endpoint.is_some() || variable("TEST_REQUIRE_DYNAMODB").is_none(),
        "the S3-compatible server is not running"
    );
    let endpoint = required("a bucket (scripts/test-services)", endpoint)?;
    let known = |name: &str| variable(name).expect("scripts/test-services sets all of them");
    Some(vec![
        ("s3.endpoint", endpoint),
        ("s3.bucket", known("TEST_S3_BUCKET")),
        ("s3.region", known("TEST_S3_REGION")),
        ("s3.path_style", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", known("TEST_S3_ACCESS_KEY")),
        ("AWS_SECRET_ACCESS_KEY", known("TEST_S3_SECRET_KEY")),
    ])
}

/// Tables of its own for each data directory: a second server on the same directory finds what the first has left.
fn dynamodb_settings(endpoint: String, data_dir: &Path) -> Vec<(&'static str, String)> {
    let name = data_dir.to_str().expect("a path").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    vec![
        ("store.backend", "dynamodb".to_owned()),
        ("dynamodb.endpoint", endpoint),
        ("dynamodb.table_prefix", format!("it{}{name}-", std::process::id())),
        ("dynamodb.create_tables", "true".to_owned()),
    ]
}

/// The store that these tests are run on, as answers and metrics name it.
pub(crate) fn backend() -> &'static str {
    if dynamodb_endpoint().is_some() { "dynamodb" } else { "sqlite" }
}

/// For tests of what only the embedded store has: says whether to go on.
pub(crate) fn on_sqlite() -> bool {
    backend() == "sqlite"
}

/// For tests that need what a machine may lack: skips loudly, or fails where everything is required.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn required<T>(what: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        assert!(
            variable("TEST_REQUIRE_ALL").is_none(),
            "{what} is not possible here, and TEST_REQUIRE_ALL is set"
        );
        eprintln!("SKIPPED: {what} is not possible here");
    }
    found
}
