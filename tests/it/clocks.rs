//! Members of a fleet whose clocks differ, one write after the other through any of them, some of them killed meanwhile:
//! each acknowledged write is there for whoever asks any member next.
//!
//! `TEST_CLOCKS_OPERATIONS` says how many operations each fleet does, `TEST_CLOCKS_SEED` which.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::server::Setting;
use crate::support::{Answer, Request, Server, dynamodb_local, on_sqlite, required, result_of, variable};

/// Operations of one fleet, unless the environment says how many.
const OPERATIONS: usize = 40;

/// Pages and sessions that are written again and again.
const PAGES: usize = 5;
const SESSIONS: usize = 3;

/// One in so many operations kills a member before it, and one in so many while it does it.
const KILLS: usize = 15;

/// Which store, and what the router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Dynamodb,
    Routed { dual_write: bool },
}

/// A library that gives a program the clock that `FAKETIME` says.
fn library() -> Option<String> {
    required(
        "another clock (scripts/fetch-faketime)",
        variable("TEST_FAKETIME").filter(|path| !path.is_empty()),
    )
}

fn number(name: &str, default: usize) -> usize {
    variable(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A member: what it is started with, and its process.
struct Member {
    directory: tempfile::TempDir,
    clock: &'static str,
    server: Option<Server>,
}

struct Fleet {
    store: Store,
    endpoint: String,
    library: String,
    prefix: String,
    members: Vec<Member>,
    random: blake3::OutputReader,
}

impl Fleet {
    fn start(name: &str, store: Store, clocks: &[&'static str]) -> Option<Self> {
        let (endpoint, library) = (dynamodb_local()?, library()?);
        let members = clocks.iter().map(|clock| Member {
            directory: tempfile::tempdir().expect("a directory"),
            clock,
            server: None,
        });
        let seed = number("TEST_CLOCKS_SEED", 1);
        let mut fleet = Self {
            store,
            endpoint,
            library,
            prefix: format!("clocks{}{name}-", std::process::id()),
            members: members.collect(),
            random: blake3::Hasher::new().update(format!("{name} {seed}").as_bytes()).finalize_xof(),
        };
        (0..clocks.len()).for_each(|member| fleet.revive(member));
        Some(fleet)
    }

    fn revive(&mut self, number: usize) {
        let dual_write = (self.store == Store::Routed { dual_write: true }).to_string();
        let settings: [Setting<'_>; 8] = [
            ("store.backend", if self.store == Store::Dynamodb { "dynamodb" } else { "routed" }),
            ("dynamodb.endpoint", &self.endpoint),
            ("dynamodb.table_prefix", &self.prefix),
            ("dynamodb.create_tables", "true"),
            ("routing.percent", "100"),
            ("routing.dual_write", &dual_write),
            // A busy machine is no outage.
            ("routing.owner_millis", "20000"),
            ("dynamodb.attempt_millis", "10000"),
        ];
        let member = &mut self.members[number];
        let environment = [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME", member.clock.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        member.server = Some(Server::within(member.directory.path(), &settings, &environment));
    }

    fn kill(&mut self, number: usize) {
        if let Some(mut server) = self.members[number].server.take() {
            server.kill();
        }
    }

    fn server(&self, member: usize) -> &Server {
        self.members[member].server.as_ref().expect("it runs")
    }

    /// A number below `below`.
    fn random(&mut self, below: usize) -> usize {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        usize::try_from(u32::from_le_bytes(bytes)).expect("a number") % below
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.random(chances) == 0
    }

    fn any_member(&mut self) -> usize {
        self.random(self.members.len())
    }

    /// A member that is not `than`.
    fn another_member(&mut self, than: usize) -> usize {
        (than + 1 + self.random(self.members.len() - 1)) % self.members.len()
    }
}

/// What a page shows: the number of the write that stored it, and that of the patch on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    stored: u64,
    patched: Option<u64>,
}

/// What is known of the lease of a page.
#[derive(Clone, Debug)]
struct Lease {
    token: String,
    /// Whether the page was stored since without it.
    is_passed: bool,
    /// Whether the page was deleted since.
    has_ended: bool,
}

/// What is known of a page.
#[derive(Clone, Debug, Default)]
struct Page {
    url: String,
    good: Option<Shown>,
    failed: Option<u64>,
    etag: String,
    lease: Option<Lease>,
}

/// What is known of a session.
#[derive(Clone, Debug, Default)]
struct Session {
    id: String,
    count: Option<u64>,
    etag: String,
}

/// A run: the fleet, what is known, and what went wrong.
struct Run {
    fleet: Fleet,
    kills: bool,
    pages: Vec<Page>,
    sessions: Vec<Session>,
    /// Numbers writes, pages and sessions.
    next: u64,
    done: BTreeMap<&'static str, usize>,
    killed: usize,
    wrong: Vec<String>,
}

/// What an operation came to.
enum Came {
    /// It was answered.
    Said(Answer),
    /// The member was killed meanwhile.
    Nothing,
}

impl Run {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn new_page(&mut self) -> Page {
        let number = self.next();
        Page { url: format!("https://example.com/{}{number}", self.fleet.prefix), ..Page::default() }
    }

    fn new_session(&mut self) -> Session {
        Session { id: format!("s{}", self.next()), ..Session::default() }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    /// Sends a request to a member, which may be killed meanwhile.
    fn send(&mut self, member: usize, make: impl Fn(&Server) -> Request) -> Came {
        let request = make(self.fleet.server(member));
        if !(self.kills && self.fleet.one_in(KILLS)) {
            return Came::Said(request.send());
        }
        let turns = self.fleet.random(3000);
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(move || request.try_send());
            (0..turns).for_each(|_| std::thread::yield_now());
            self.fleet.kill(member);
            asking.join().expect("no panic")
        });
        self.killed += 1;
        self.fleet.revive(member);
        answer.map_or(Came::Nothing, Came::Said)
    }

    fn step(&mut self) {
        if self.kills && self.fleet.one_in(KILLS) {
            let member = self.fleet.any_member();
            self.fleet.kill(member);
            self.killed += 1;
            self.fleet.revive(member);
        }
        if self.fleet.one_in(4) {
            let number = self.fleet.random(SESSIONS);
            self.session_step(number);
        } else {
            let number = self.fleet.random(PAGES);
            self.page_step(number);
        }
    }

    /// What a put is answered with. A member of a router may still have a copy of what another has deleted, and replaces
    /// that.
    fn statuses_of_put(&self, is_there: bool) -> Vec<u16> {
        match (is_there, self.fleet.store) {
            (true, _) => vec![200],
            (false, Store::Dynamodb) => vec![201],
            (false, Store::Routed { .. }) => vec![201, 200],
        }
    }

    fn count(&mut self, name: &'static str) {
        *self.done.entry(name).or_default() += 1;
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each operation")]
    fn page_step(&mut self, number: usize) {
        let (before, member, write) = (self.pages[number].clone(), self.fleet.any_member(), self.next());
        let mut after = before.clone();
        let target = result_of(&before.url, &[]);
        let is_there = before.good.is_some();
        let body = json!({"url": before.url, "success": true, "status_code": 200, "n": write});
        let stored = Some(Shown { stored: write, patched: None });
        let put = |server: &Server| server.request("PUT", &target).json(&body);
        let store = |after: &mut Page| {
            after.good = stored;
            if let Some(lease) = &mut after.lease {
                lease.is_passed = true;
            }
        };
        let delete = |after: &mut Page| {
            (after.good, after.failed) = (None, None);
            if let Some(lease) = &mut after.lease {
                lease.has_ended = true;
            }
        };
        let created = self.statuses_of_put(is_there);
        let quoted = format!("\"{}\"", if before.etag.is_empty() { "0" } else { &before.etag });
        let mut statuses = created;
        let (name, came) = match self.fleet.random(20) {
            0..=3 => {
                store(&mut after);
                ("put", self.send(member, put))
            }
            4 if is_there => {
                store(&mut after);
                ("put if it matches", self.send(member, |it| put(it).header("if-match", &quoted)))
            }
            4 => {
                statuses = vec![412];
                ("put if it matches", self.send(member, |it| put(it).header("if-match", &quoted)))
            }
            5 => {
                if is_there {
                    statuses = vec![412];
                } else {
                    store(&mut after);
                }
                ("put if absent", self.send(member, |it| put(it).header("if-none-match", "*")))
            }
            6 | 7 => {
                statuses = vec![if is_there { 200 } else { 404 }];
                after.good = before.good.map(|good| Shown { patched: Some(write), ..good });
                if let (Some(lease), true) = (&mut after.lease, is_there) {
                    lease.is_passed = true;
                }
                let patch = json!({"m": write}).to_string();
                let patch = |it: &Server| {
                    let request = it.request("PATCH", &target).body(patch.clone());
                    request.header("content-type", "application/merge-patch+json")
                };
                ("patch", self.send(member, patch))
            }
            8 => {
                store(&mut after);
                ("post", self.send(member, |it| it.request("POST", "/v1/results").json(&body)))
            }
            9 => {
                store(&mut after);
                statuses = vec![200];
                let line = json!({"url": before.url, "document": body}).to_string() + "\n";
                let batch = |it: &Server| it.request("POST", "/v1/results/batch-put").ndjson(line.clone());
                ("batch-put", self.send(member, batch))
            }
            10..=12 => {
                delete(&mut after);
                statuses = vec![204];
                ("delete", self.send(member, |it| it.request("DELETE", &target)))
            }
            13 => {
                if is_there {
                    delete(&mut after);
                }
                statuses = vec![if is_there { 204 } else { 412 }];
                let delete = |it: &Server| it.request("DELETE", &target).header("if-match", &quoted);
                ("delete if it matches", self.send(member, delete))
            }
            14 => {
                delete(&mut after);
                statuses = vec![200];
                let what = json!({"url": before.url});
                // What has no good result to delete ends no lease.
                if before.good.is_none() {
                    after.lease.clone_from(&before.lease);
                }
                ("purge", self.send(member, |it| it.request("POST", "/v1/results/purge").json(&what)))
            }
            15 => {
                after.failed = Some(write);
                statuses = self.statuses_of_put(before.failed.is_some());
                let body = json!({"url": before.url, "success": false, "status_code": 503, "n": write});
                ("put of a failed one", self.send(member, |it| it.request("PUT", &target).json(&body)))
            }
            16 => {
                // What was fetched an hour ago stores nothing over what is there, nor over a deletion of since.
                if is_there {
                    let old = self.fleet.server(member).get("/readyz").header("date").map(hour_before);
                    let target = result_of(&before.url, &[("updated_at", &old.expect("a date"))]);
                    statuses = vec![200];
                    ("old put", self.send(member, |it| it.request("PUT", &target).json(&body)))
                } else {
                    statuses = vec![404];
                    (
                        "get",
                        self.send(member, |it| {
                            let target = result_of(&before.url, &[("quality", "good")]);
                            it.request("GET", &target).header("cache-control", "no-cache")
                        }),
                    )
                }
            }
            _ => {
                self.lease_step(number, member, write, &body);
                return;
            }
        };
        self.count(name);
        self.settle_page(number, name, came, &statuses, &before, after, member);
    }

    /// Compares what an operation said, and what is there after it, with what was to be expected.
    #[expect(clippy::too_many_arguments, reason = "what was before, what was done, what came of it")]
    fn settle_page(
        &mut self,
        number: usize,
        name: &str,
        came: Came,
        statuses: &[u16],
        before: &Page,
        mut after: Page,
        member: usize,
    ) {
        let said = match came {
            Came::Said(said) => said,
            Came::Nothing => {
                let seen = self.look(&before.url, member);
                let either =
                    [before, &after].iter().any(|page| (page.good, page.failed) == (seen.good, seen.failed));
                // A deletion is of two: the good one and the failed one.
                let half = name.starts_with("delete") && seen.good.is_none() && seen.failed == before.failed;
                let partly = name == "purge";
                self.expect(either || half || partly, || {
                    format!("{name} without an answer: {before:?}, then {seen:?}")
                });
                // What it was may still happen: the page is left to itself.
                self.pages[number] = self.new_page();
                return;
            }
        };
        let body = String::from_utf8_lossy(&said.body).into_owned();
        let text =
            format!("{name} through {member} ({}): {} {body}", self.fleet.members[member].clock, said.status);
        if !statuses.contains(&said.status)
            || (said.status < 300 && name != "old put" && body.contains("superseded"))
        {
            self.expect(false, || format!("{text}; expected {statuses:?} of {before:?}"));
        }
        if said.status == 412 || said.status == 409 || said.status == 404 {
            (after.good, after.failed) = (before.good, before.failed);
        }
        let asked = self.fleet.another_member(member);
        let seen = self.look(&before.url, asked);
        let is_right = (seen.good, seen.failed) == (after.good, after.failed);
        self.expect(is_right, || {
            format!("{text}\n  then through {asked}: {seen:?}\n  expected {after:?}\n  of {before:?}")
        });
        (after.good, after.failed, after.etag) = (seen.good, seen.failed, seen.etag);
        self.pages[number] = after;
    }

    /// What a member shows of a page.
    fn look(&mut self, url: &str, member: usize) -> Page {
        let read = |quality: &str| {
            let target = result_of(url, &[("quality", quality)]);
            let answer =
                self.fleet.server(member).request("GET", &target).header("cache-control", "no-cache").send();
            match answer.status {
                200 => {
                    let document = answer.json();
                    let shown = Shown {
                        stored: document["n"].as_u64().expect("a number"),
                        patched: document["m"].as_u64(),
                    };
                    let etag = answer.header("etag").expect("an etag").trim_matches('"').to_owned();
                    (Some(shown), etag)
                }
                404 => (None, String::new()),
                _ => panic!("{answer:?}"),
            }
        };
        let ((good, etag), (failed, _)) = (read("good"), read("failed"));
        // A good result is no failed one.
        Page { url: url.to_owned(), good, etag, failed: failed.map(|failed| failed.stored), lease: None }
    }

    fn lease_step(&mut self, number: usize, member: usize, write: u64, body: &Value) {
        let before = self.pages[number].clone();
        let Some(lease) = before.lease.clone() else {
            let asked = json!({"url": before.url, "seconds": 600, "quality": "good"});
            self.count("lease");
            let ask = |it: &Server| {
                it.request("POST", "/v1/leases").header("cache-control", "no-cache").json(&asked)
            };
            let Came::Said(said) = self.send(member, ask) else {
                // Another may hold it now until it runs out.
                self.pages[number] = self.new_page();
                return;
            };
            let text = String::from_utf8_lossy(&said.body).into_owned();
            if before.good.is_some() {
                self.expect(said.status == 200, || {
                    format!("a lease of what is fresh: {} {text}", said.status)
                });
                return;
            }
            // What has just failed is tried all the same: who asks for a lease insists.
            self.expect(said.status == 201, || format!("a lease of {before:?}: {} {text}", said.status));
            if said.status == 201 {
                let token = said.json()["token"].as_str().expect("a token").to_owned();
                self.pages[number].lease = Some(Lease { token, is_passed: false, has_ended: false });
            }
            return;
        };
        let named = format!("/v1/leases/{}", lease.token);
        match self.fleet.random(4) {
            0 => {
                self.count("renewal");
                let Came::Said(said) = self.send(member, |it| it.request("PUT", &named)) else { return };
                let expected = if lease.has_ended { 409 } else { 200 };
                self.expect(said.status == expected, || format!("a renewal of {before:?}: {said:?}"));
            }
            1 => {
                self.count("release");
                let Came::Said(said) = self.send(member, |it| it.request("DELETE", &named)) else {
                    self.pages[number] = self.new_page();
                    return;
                };
                self.expect(said.status == 204, || format!("a release of {before:?}: {said:?}"));
                self.pages[number].lease = None;
            }
            _ => {
                self.count("put under a lease");
                let target = result_of(&before.url, &[]);
                let came = self.send(member, |it| {
                    it.request("PUT", &target).header("crawlcache-lease", &lease.token).json(body)
                });
                let mut statuses = self.statuses_of_put(before.good.is_some());
                match &lease {
                    Lease { has_ended: true, .. } => statuses = vec![409],
                    // What was stored since without the lease may be newer than its fence.
                    Lease { is_passed: true, .. } => statuses.push(409),
                    Lease { .. } => {}
                }
                let after = Page {
                    good: Some(Shown { stored: write, patched: None }),
                    lease: None,
                    ..before.clone()
                };
                self.settle_page(number, "put under a lease", came, &statuses, &before, after, member);
            }
        }
    }

    fn session_step(&mut self, number: usize) {
        let (before, member, write) = (self.sessions[number].clone(), self.fleet.any_member(), self.next());
        let (mut after, is_there) =
            (Session { count: Some(write), ..before.clone() }, before.count.is_some());
        let named = format!("/v1/sessions/{}", before.id);
        let state = json!({"state": {"count": write}});
        let quoted = before.etag.clone();
        let (name, came, expected) = match self.fleet.random(8) {
            0 => {
                if is_there {
                    after = before.clone();
                }
                let body = json!({"id": before.id, "state": {"count": write}});
                let create = |it: &Server| it.request("POST", "/v1/sessions").json(&body);
                ("create", self.send(member, create), if is_there { 409 } else { 201 })
            }
            1 | 2 => {
                let put = |it: &Server| it.request("PUT", &named).json(&state);
                ("put of a session", self.send(member, put), if is_there { 200 } else { 201 })
            }
            3 => {
                let patch = |it: &Server| it.request("PATCH", &named).json(&state);
                ("patch of a session", self.send(member, patch), if is_there { 200 } else { 404 })
            }
            4 if is_there => {
                let patch =
                    |it: &Server| it.request("PATCH", &named).header("if-match", &quoted).json(&state);
                ("patch if it matches", self.send(member, patch), 200)
            }
            5 => {
                after.count = before.count;
                let event = json!({"event_type": "Counted", "detail": {"count": write}});
                let append = |it: &Server| it.request("POST", &format!("{named}/events")).json(&event);
                ("event", self.send(member, append), if is_there { 201 } else { 404 })
            }
            6 => {
                after.count = before.count;
                let touch = |it: &Server| it.request("POST", &format!("{named}/touch")).json(&json!({}));
                ("touch", self.send(member, touch), if is_there { 200 } else { 404 })
            }
            _ => {
                after.count = None;
                ("delete of a session", self.send(member, |it| it.request("DELETE", &named)), 204)
            }
        };
        self.count(name);
        let Came::Said(said) = came else {
            let seen = self.look_session(&before.id, member).count;
            self.expect([before.count, after.count].contains(&seen), || {
                format!("{name} without an answer: {before:?}, then {seen:?}")
            });
            self.sessions[number] = self.new_session();
            return;
        };
        if said.status >= 400 {
            after.count = before.count;
        }
        let body = String::from_utf8_lossy(&said.body).into_owned();
        let text =
            format!("{name} through {member} ({}): {} {body}", self.fleet.members[member].clock, said.status);
        self.expect(said.status == expected, || format!("{text}; expected {expected} of {before:?}"));
        // Only the member that has deleted a session remembers that: docs/migrating.md.
        let is_gone = name == "delete of a session" && self.fleet.store != Store::Dynamodb;
        let asked = if is_gone { member } else { self.fleet.another_member(member) };
        let seen = self.look_session(&before.id, asked);
        self.expect(seen.count == after.count, || {
            format!("{text}\n  then through {asked}: {seen:?}\n  expected {after:?}\n  of {before:?}")
        });
        self.sessions[number] = if is_gone { self.new_session() } else { seen };
    }

    fn look_session(&mut self, id: &str, member: usize) -> Session {
        let answer = self.fleet.server(member).get(&format!("/v1/sessions/{id}"));
        match answer.status {
            200 => Session {
                id: id.to_owned(),
                count: answer.json()["state"]["count"].as_u64(),
                etag: answer.header("etag").expect("an etag").to_owned(),
            },
            404 => Session { id: id.to_owned(), ..Session::default() },
            _ => panic!("{answer:?}"),
        }
    }
}

/// The Unix time an hour before a date of HTTP.
fn hour_before(date: &str) -> String {
    let date = httpdate::parse_http_date(date).expect("a date");
    let seconds = date.duration_since(std::time::UNIX_EPOCH).expect("of this century").as_secs();
    (seconds - 3600).to_string()
}

/// Has a fleet do its operations, and fails with what was wrong.
#[expect(clippy::print_stderr, reason = "what a run did is its result")]
fn run(name: &str, store: Store, clocks: &[&'static str], kills: bool) {
    // It brings its own store: once is enough.
    if !on_sqlite() {
        return;
    }
    let Some(fleet) = Fleet::start(name, store, clocks) else { return };
    let mut run = Run {
        fleet,
        kills,
        pages: Vec::new(),
        sessions: Vec::new(),
        next: 0,
        done: BTreeMap::new(),
        killed: 0,
        wrong: Vec::new(),
    };
    run.pages = (0..PAGES).map(|_| run.new_page()).collect();
    run.sessions = (0..SESSIONS).map(|_| run.new_session()).collect();
    let operations = number("TEST_CLOCKS_OPERATIONS", OPERATIONS);
    (0..operations).for_each(|_| run.step());
    let mut told = format!("{name} {store:?} at {clocks:?}: {operations} operations, {} kills", run.killed);
    let _ = write!(told, ", {} wrong; {:?}", run.wrong.len(), run.done);
    eprintln!("{told}");
    assert!(run.wrong.is_empty(), "{told}\n{}", run.wrong[..run.wrong.len().min(10)].join("\n"));
}

const DUAL: Store = Store::Routed { dual_write: true };
const ALONE: Store = Store::Routed { dual_write: false };

macro_rules! fleets {
    ($($name:ident: $store:expr, $clocks:expr, $kills:expr;)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $store, &$clocks, $kills);
        })*
    };
}

fleets! {
    dynamodb_in_step: Store::Dynamodb, ["+0", "+0"], false;
    dynamodb_5_ms_apart: Store::Dynamodb, ["+0", "+0.005"], false;
    dynamodb_100_ms_apart: Store::Dynamodb, ["+0", "+0.1", "+0.005"], true;
    dynamodb_7_s_ahead: Store::Dynamodb, ["+0", "+7"], true;
    dynamodb_7_s_behind: Store::Dynamodb, ["+0", "-7", "+0.1"], false;
    dual_5_ms_apart: DUAL, ["+0", "+0.005"], false;
    dual_100_ms_apart: DUAL, ["+0", "+0.1", "+0.005"], true;
    dual_7_s_ahead: DUAL, ["+0", "+7"], false;
    dual_7_s_behind: DUAL, ["+0", "-7", "+0.1"], true;
    routed_5_ms_apart: ALONE, ["+0", "+0.005"], false;
    routed_100_ms_apart: ALONE, ["+0", "+0.1", "+0.005"], true;
    routed_7_s_ahead: ALONE, ["+0", "+7"], true;
    routed_7_s_behind: ALONE, ["+0", "-7", "+0.1"], false;
}
