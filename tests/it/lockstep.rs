//! One sequence of random operations, sent to every kind of backend, with kills: all answer the same.
//!
//! What may differ is in [`Kind::settles`] and in the last table of docs/consistency.md. `TEST_LOCKSTEP_OPERATIONS` says how
//! many operations there are, `TEST_LOCKSTEP_SEED` which ones.

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::routing::{drain, is_due, set, work};
use crate::support::documents::noise;
use crate::support::server::variable;
use crate::support::{Answer, Server, dynamodb_local, eventually, result_of};

/// Operations where the environment does not say how many.
const OPERATIONS: u64 = 150;

/// Pages that are stored, replaced and deleted, on two hosts.
const PAGES: u64 = 6;

/// A document of this size takes a place beside its item.
const LARGE_BYTES: usize = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Packed,
    PlainWithBucket,
    RoutedDual,
    RoutedOnTheMove,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Sqlite, Self::Packed, Self::PlainWithBucket, Self::RoutedDual, Self::RoutedOnTheMove];

    fn is_routed(self) -> bool {
        matches!(self, Self::RoutedDual | Self::RoutedOnTheMove)
    }

    /// What is compared of an answer: on the move a side that is not asked may hold what a write replaces, so that the
    /// write is one that creates.
    fn settles(self, seen: &Seen) -> Seen {
        let mut seen = seen.clone();
        if self == Self::RoutedOnTheMove {
            if seen.status == 201 {
                seen.status = 200;
            }
            seen.body = without_novelty(seen.body);
        }
        seen
    }
}

/// `created`, `replaced` and `refreshed` as one word, and their counts as one number.
fn without_novelty(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(without_novelty).collect(),
        Value::Object(mut members) => {
            let is_stored = |outcome: &Value| {
                outcome.as_str().is_some_and(|word| ["created", "replaced", "refreshed"].contains(&word))
            };
            if members.get("outcome").is_some_and(is_stored) {
                members.insert("outcome".to_owned(), json!("stored"));
                members.remove("status");
            }
            let counts = ["created", "replaced", "refreshed"].map(|name| members.remove(name));
            if counts.iter().any(Option::is_some) {
                let stored: u64 = counts.iter().flatten().filter_map(Value::as_u64).sum();
                members.insert("stored".to_owned(), json!(stored));
            }
            members.into_iter().map(|(name, value)| (name, without_novelty(value))).collect()
        }
        other => other,
    }
}

/// What a caller is told, without what says when or where.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    status: u16,
    etag: Option<String>,
    body: Value,
}

impl Seen {
    fn of(answer: &Answer) -> Self {
        let body = match answer.header("content-type") {
            _ if answer.body.is_empty() => Value::Null,
            Some("application/x-ndjson") => answer.lines().into(),
            _ => answer.json(),
        };
        let etag = answer.header("etag").map(str::to_owned);
        Self { status: answer.status, etag, body: comparable(body) }
    }

    /// Of a session, whose tag is its version.
    fn of_session(answer: &Answer) -> Self {
        let seen = Self::of(answer);
        Self { etag: seen.etag.map(|_| "a version".to_owned()), ..seen }
    }

    /// Several answers as one.
    fn all(seen: impl IntoIterator<Item = Self>) -> Self {
        let bodies = seen.into_iter().map(|seen| json!([seen.status, seen.etag, seen.body]));
        Self { status: 0, etag: None, body: bodies.collect() }
    }

    /// With its items or lines in an order that time has no part in.
    fn sorted(mut self) -> Self {
        let items = match &mut self.body {
            Value::Object(page) => page.get_mut("items"),
            lines => Some(lines),
        };
        if let Some(Value::Array(items)) = items {
            items.sort_by_key(ToString::to_string);
        }
        self
    }
}

/// Without times, versions, tokens and stored sizes, and without sentences.
fn comparable(value: Value) -> Value {
    const APART: [&str; 10] = [
        "age",
        "ttl",
        "stored_bytes",
        "version",
        "token",
        "detail",
        "next_cursor",
        "seconds",
        "events_dropped",
        "request_id",
    ];
    match value {
        Value::Array(values) => values.into_iter().map(comparable).collect(),
        Value::Object(members) => {
            let told = |name: &str| !APART.contains(&name) && !name.ends_with("_at");
            let kept = members.into_iter().filter(|(name, _)| told(name));
            Value::Object(kept.map(|(name, value)| (name, comparable(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// One service under test.
struct Member {
    kind: Kind,
    settings: Vec<(&'static str, String)>,
    directory: TempDir,
    server: Option<Server>,
    export: Vec<u8>,
}

impl Member {
    fn new(kind: Kind, local: &str) -> Option<Self> {
        let prefix = format!("lockstep{}-{kind:?}-", std::process::id()).to_lowercase();
        let mut settings = vec![
            ("dynamodb.endpoint", local.to_owned()),
            ("dynamodb.table_prefix", prefix.clone()),
            ("dynamodb.create_tables", "true".to_owned()),
            ("dynamodb.max_item_bytes", "16384".to_owned()),
            // A busy machine is no outage.
            ("dynamodb.attempt_millis", "10000".to_owned()),
            ("dynamodb.operation_millis", "20000".to_owned()),
        ];
        let of = |name: &'static str, value: &str| (name, value.to_owned());
        match kind {
            Kind::Sqlite => settings.clear(),
            Kind::Packed => settings.push(of("store.backend", "dynamodb")),
            Kind::PlainWithBucket => {
                settings.extend([
                    of("store.backend", "dynamodb"),
                    of("dynamodb.results_layout", "plain"),
                    of("s3.bucket", &variable("TEST_S3_BUCKET")?),
                    of("s3.prefix", &format!("{prefix}/")),
                    of("s3.endpoint", &variable("TEST_S3_ENDPOINT")?),
                    of("s3.region", &variable("TEST_S3_REGION")?),
                    of("s3.path_style", "true"),
                    of("AWS_ACCESS_KEY_ID", &variable("TEST_S3_ACCESS_KEY")?),
                    of("AWS_SECRET_ACCESS_KEY", &variable("TEST_S3_SECRET_KEY")?),
                ]);
            }
            Kind::RoutedDual | Kind::RoutedOnTheMove => {
                settings.extend([
                    of("store.backend", "routed"),
                    of("routing.owner_millis", "20000"),
                    of("routing.other_millis", "20000"),
                ]);
            }
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut member = Self { kind, settings, directory, server: None, export: Vec::new() };
        eventually("its tables are there", || {
            // Without an answer in time it starts without them.
            member.start();
            let began_without = |line: &String| line.contains("starting without");
            (!member.server().log().iter().any(began_without)).then_some(())
        });
        if kind == Kind::RoutedDual {
            set(member.server(), &json!({"percent": 50, "dual_write": true}));
        }
        Some(member)
    }

    fn start(&mut self) {
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.server = Some(Server::on(self.directory.path(), &settings));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("started")
    }

    fn kill(&mut self) {
        self.server.take().expect("started").kill();
        self.start();
    }

    /// A request with a precondition, and a body where there is one.
    fn send(&self, method: &str, target: &str, header: Option<(&str, &str)>, body: Option<&Value>) -> Answer {
        let mut request = self.server().request(method, target);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        match body {
            Some(body) => request.json(body).send(),
            None => request.send(),
        }
    }

    fn tag(&self, target: &str, is_right: bool) -> String {
        let found = self.server().get(target);
        let tag = found.header("etag").filter(|_| is_right).map(str::to_owned);
        tag.unwrap_or_else(|| format!("\"{}\"", "0".repeat(32)))
    }

    #[expect(clippy::too_many_lines, reason = "one arm an operation")]
    fn act(&mut self, operation: Operation) -> Seen {
        match operation {
            Operation::Put { page, number, large } => {
                Seen::of(&self.send("PUT", &target(page), None, Some(&document(page, number, large))))
            }
            Operation::PutFailed { page, number } => {
                let body = json!({"number": number, "status_code": 500, "success": false, "url": url(page)});
                Seen::of(&self.send("PUT", &target(page), None, Some(&body)))
            }
            Operation::PutEarlier { minute, number } => {
                let at = format!("2026-01-15T10:{minute:02}:00Z");
                let target = result_of("https://earlier.example/", &[("updated_at", &at), ("ttl", "36000")]);
                Seen::of(&self.send("PUT", &target, None, Some(&json!({"number": number}))))
            }
            Operation::PutIfMatch { page, number, right } => {
                let tag = self.tag(&target(page), right);
                let body = document(page, number, false);
                Seen::of(&self.send("PUT", &target(page), Some(("if-match", &tag)), Some(&body)))
            }
            Operation::PutIfAbsent { page, number } => {
                let body = document(page, number, false);
                Seen::of(&self.send("PUT", &target(page), Some(("if-none-match", "*")), Some(&body)))
            }
            Operation::Patch { page, number } => Seen::of(&self.send(
                "PATCH",
                &target(page),
                None,
                Some(&json!({"number": number, "zone": "added"})),
            )),
            Operation::PatchIfMatch { page, number, right } => {
                let tag = self.tag(&target(page), right);
                let body = json!({"number": number});
                Seen::of(&self.send("PATCH", &target(page), Some(("if-match", &tag)), Some(&body)))
            }
            Operation::Get { page } => Seen::of(&self.server().get(&target(page))),
            Operation::GetIfChanged { page } => {
                let tag = self.tag(&target(page), true);
                Seen::of(&self.send("GET", &target(page), Some(("if-none-match", &tag)), None))
            }
            Operation::Delete { page } => Seen::of(&self.send("DELETE", &target(page), None, None)),
            Operation::DeleteIfMatch { page, right } => {
                let tag = self.tag(&target(page), right);
                Seen::of(&self.send("DELETE", &target(page), Some(("if-match", &tag)), None))
            }
            Operation::BatchPut { page, number } => {
                let line = |page, number| {
                    json!({"url": url(page), "document": document(page, number, false)}).to_string() + "\n"
                };
                let lines = [(page, number), (page + 1, number), (page, number + 1), (page, number + 1)];
                let lines: String =
                    lines.into_iter().map(|(page, number)| line(page % PAGES, number)).collect();
                Seen::of(&self.server().request("POST", "/v1/results/batch-put").ndjson(lines).send())
            }
            Operation::BatchGet => {
                let keys: Vec<String> = (0..PAGES).map(url).collect();
                Seen::of(&self.server().post("/v1/results/batch-get", &json!({"keys": keys})))
            }
            Operation::Lookup => {
                let keys: Vec<String> = (0..=PAGES).map(url).collect();
                Seen::of(&self.server().post("/v1/results/lookup", &json!({"keys": keys})))
            }
            Operation::List { host } => {
                let target = match host {
                    Some(host) => format!("/v1/results?host=host{host}.example"),
                    None => "/v1/results?limit=1000".to_owned(),
                };
                Seen::of(&self.server().get(&target)).sorted()
            }
            Operation::Purge { host } => {
                let body = json!({"host": format!("host{host}.example")});
                Seen::of(&self.server().post("/v1/results/purge", &body))
            }
            Operation::Export => {
                let answer = self.server().get("/v1/results/export");
                self.export = answer.decoded();
                Seen::of(&answer).sorted()
            }
            Operation::Restore => {
                let target = "/v1/results/import?restore=true";
                Seen::of(&self.server().request("POST", target).ndjson(self.export.clone()).send())
            }
            Operation::Lease { page, number } => {
                let asked = self.server().get(&result_of(&url(page), &[("lease", "30")]));
                let Some(lease) = asked.header("crawlcache-lease") else { return Seen::of(&asked) };
                let body = document(page, number, false);
                let stored = self.send("PUT", &target(page), Some(("crawlcache-lease", lease)), Some(&body));
                Seen::all([Seen::of(&asked), Seen::of(&stored)])
            }
            Operation::SessionPut { id, number } => {
                let body = json!({"profile": "mcp", "project_id": "p", "state": {"count": number}});
                Seen::of_session(&self.send("PUT", &session(id), None, Some(&body)))
            }
            Operation::SessionPatch { id, number, right } => {
                let tag = self.tag(&session(id), right);
                let body = json!({"state": {"count": number}});
                Seen::of_session(&self.send("PATCH", &session(id), Some(("if-match", &tag)), Some(&body)))
            }
            Operation::SessionStatus { id, status } => {
                let status = ["READY", "ACTIVE", "STOPPED"][status];
                let target = format!("{}/status", session(id));
                Seen::of_session(&self.server().post(&target, &json!({"status": status})))
            }
            Operation::SessionGet { id } => Seen::of_session(&self.server().get(&session(id))),
            Operation::SessionDelete { id } => Seen::of(&self.send("DELETE", &session(id), None, None)),
            Operation::SessionList => {
                Seen::of(&self.server().get("/v1/sessions?project_id=p&limit=100")).sorted()
            }
            Operation::Kill(kind) => {
                if self.kind == kind {
                    self.kill();
                }
                Seen::all([])
            }
            Operation::Move { percent, dual_write } => {
                if self.kind == Kind::RoutedOnTheMove {
                    set(self.server(), &json!({"percent": percent, "dual_write": dual_write}));
                }
                Seen::all([])
            }
        }
    }
}

fn url(page: u64) -> String {
    format!("https://host{}.example/{page}", page % 2)
}

fn target(page: u64) -> String {
    result_of(&url(page), &[])
}

fn session(id: u64) -> String {
    format!("/v1/sessions/session-{id}")
}

/// Names in their order: the plain layout keeps no other, and an `ETag` is of the text.
fn document(page: u64, number: u64, large: bool) -> Value {
    let html = if large { noise(number, LARGE_BYTES) } else { format!("<p>{number}</p>") };
    json!({"html": html, "number": number, "status_code": 200, "success": true, "url": url(page)})
}

/// What is done, with all that decides about it.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Put {
        page: u64,
        number: u64,
        large: bool,
    },
    PutFailed {
        page: u64,
        number: u64,
    },
    /// A result of an earlier fetch, of a page that is never deleted.
    PutEarlier {
        minute: u64,
        number: u64,
    },
    PutIfMatch {
        page: u64,
        number: u64,
        right: bool,
    },
    PutIfAbsent {
        page: u64,
        number: u64,
    },
    Patch {
        page: u64,
        number: u64,
    },
    PatchIfMatch {
        page: u64,
        number: u64,
        right: bool,
    },
    Get {
        page: u64,
    },
    GetIfChanged {
        page: u64,
    },
    Delete {
        page: u64,
    },
    DeleteIfMatch {
        page: u64,
        right: bool,
    },
    /// Two lines for each of two pages, and one more.
    BatchPut {
        page: u64,
        number: u64,
    },
    BatchGet,
    Lookup,
    List {
        host: Option<u64>,
    },
    Purge {
        host: u64,
    },
    Export,
    Restore,
    /// Asks for a lease, and stores the page where it is granted.
    Lease {
        page: u64,
        number: u64,
    },
    SessionPut {
        id: u64,
        number: u64,
    },
    SessionPatch {
        id: u64,
        number: u64,
        right: bool,
    },
    SessionStatus {
        id: u64,
        status: usize,
    },
    SessionGet {
        id: u64,
    },
    SessionDelete {
        id: u64,
    },
    SessionList,
    Kill(Kind),
    Move {
        percent: u64,
        dual_write: bool,
    },
}

impl Operation {
    /// The operation at a place of the sequence.
    fn at(number: u64, random: &mut Random) -> Self {
        let (page, right, id) = (random.below(PAGES), random.below(3) > 0, random.below(3));
        match random.below(60) {
            0..10 => Self::Put { page, number, large: random.below(4) == 0 },
            // The same content again.
            10..12 => Self::Put { page, number: 1, large: false },
            12 => Self::PutFailed { page, number },
            13..15 => Self::PutEarlier { minute: random.below(6), number },
            15..18 => Self::PutIfMatch { page, number, right },
            18..20 => Self::PutIfAbsent { page, number },
            20..22 => Self::Patch { page, number },
            22..24 => Self::PatchIfMatch { page, number, right },
            24..28 => Self::Get { page },
            28 => Self::GetIfChanged { page },
            29..33 => Self::Delete { page },
            33 => Self::DeleteIfMatch { page, right },
            34..36 => Self::BatchPut { page, number },
            36 => Self::BatchGet,
            37 => Self::Lookup,
            38 => Self::List { host: (random.below(2) > 0).then(|| random.below(2)) },
            39 => Self::Purge { host: random.below(2) },
            40 => Self::Export,
            41 => Self::Restore,
            42..44 => Self::Lease { page, number },
            44..46 => Self::SessionPut { id, number },
            46..48 => Self::SessionPatch { id, number, right },
            48 => Self::SessionStatus { id, status: usize::try_from(random.below(3)).unwrap_or(0) },
            49 => Self::SessionGet { id },
            50 => Self::SessionDelete { id },
            51 => Self::SessionList,
            52..54 => Self::Kill(Kind::ALL[usize::try_from(random.below(5)).unwrap_or(0)]),
            _ => Self::Move {
                percent: [0, 30, 70, 100][usize::try_from(random.below(4)).unwrap_or(0)],
                dual_write: right,
            },
        }
    }
}

/// xorshift64*: any spread will do, and the same one each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % bound
    }
}

/// Has every member do it, and holds each answer against that of the first.
#[track_caller]
fn step(members: &mut [Member], operation: Operation, place: &str) {
    let seen: Vec<(Kind, Seen)> =
        members.iter_mut().map(|member| (member.kind, member.act(operation))).collect();
    let (_, reference) = &seen[0];
    for (kind, other) in &seen[1..] {
        let (expected, came) = (kind.settles(reference), kind.settles(other));
        assert!(
            came == expected,
            "{place}: {operation:?} on {kind:?}:\n{came:#?}\nand on SQLite\n{expected:#?}"
        );
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    variable(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn every_backend_answers_as_the_contract_says() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let Some(mut members) =
        Kind::ALL.into_iter().map(|kind| Member::new(kind, &local)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let (operations, seed) =
        (number("TEST_LOCKSTEP_OPERATIONS", OPERATIONS), number("TEST_LOCKSTEP_SEED", 1));
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for place in 0..operations {
        let operation = Operation::at(place + 2, &mut random);
        step(&mut members, operation, &format!("operation {place} of seed {seed}"));
    }
    for member in members.iter().filter(|member| member.kind.is_routed()) {
        assert_eq!(drain(member.server()), 0, "nothing is refused for its own sake");
        // On the move, what was written without `dual_write` is newer on one side: the answers below hold for both.
        if member.kind == Kind::RoutedDual {
            let verified = work(member.server(), "verify", &json!({"content": true}));
            let counts = ["different", "deleted", "unreadable"].map(|outcome| &verified["counts"][outcome]);
            assert!(counts.iter().all(|count| count.is_null() || **count == 0), "{verified}");
        }
    }
    // Wherever a key is, it is the same.
    for percent in [0, 100, 0] {
        step(&mut members, Operation::Move { percent, dual_write: true }, "the end");
        for operation in
            [Operation::BatchGet, Operation::Lookup, Operation::List { host: None }, Operation::SessionList]
        {
            step(&mut members, operation, &format!("the end of seed {seed} at {percent} %"));
        }
    }
}
