//! Leases: one crawler fetches a page, the others wait for it or move on, and whoever comes too late stores nothing.

use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crawlcache::auth::{Scope, Scopes};
use serde_json::{Value, json};

use crate::support::server::Setting;
use crate::support::{Answer, Request, Server, at, dynamodb_local, eventually, on_sqlite, result_of};
use crate::tokens::{token, with};

const URL: &str = "https://example.com/";

/// What a crawler asks for.
fn asks(url: &str, more: &[(&str, &str)]) -> String {
    result_of(url, &[&[("lease", "30")], more].concat())
}

/// The lease that an answer grants.
#[track_caller]
fn won(answer: &Answer) -> String {
    let problem = answer.problem(404, "result_not_found");
    assert_eq!(problem["lease"]["state"], "won", "{problem}");
    let header = answer.header("crawlcache-lease").expect("a lease");
    assert_eq!(problem["lease"]["token"], header, "{problem}");
    assert_eq!(problem["lease"]["expires_at"], answer.header("crawlcache-lease-expires").expect("an end"));
    header.to_owned()
}

/// Checks that another has the lease.
#[track_caller]
fn held(answer: &Answer) {
    let problem = answer.problem(404, "result_not_found");
    assert_eq!(problem["lease"]["state"], "held", "{problem}");
    assert!(problem["lease"]["expires_at"].is_string(), "{problem}");
    let seconds: u64 = answer.header("retry-after").expect("when to come back").parse().expect("seconds");
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("crawlcache-lease"), None);
}

/// A write under a lease.
fn put(server: &Server, target: &str, lease: &str, html: &str) -> Answer {
    server.request("PUT", target).header("crawlcache-lease", lease).json(&json!({"html": html})).send()
}

fn release(server: &Server, lease: &str) -> Answer {
    server.request("DELETE", &format!("/v1/leases/{lease}")).send()
}

/// Waits until so many requests wait.
fn until_so_many_wait(server: &Server, count: u64) {
    eventually("so many wait", || (server.metrics().of("lease_waiters") == count).then_some(()));
}

/// Sends a request in the background.
fn in_background(request: Request) -> thread::JoinHandle<Answer> {
    thread::spawn(move || request.send())
}

#[test]
fn one_wins_another_is_told_and_both_get_the_page() {
    let server = Server::start(&[]);
    let lease = won(&server.get(&asks(URL, &[])));
    held(&server.get(&asks(URL, &[])));
    let states = server.post("/v1/results/lookup", &json!({"keys": [URL]})).is(200).json();
    assert_eq!((&states["results"][0]["state"], &states["counts"]["leased"]), (&json!("leased"), &json!(1)));
    put(&server, &result_of(URL, &[]), &lease, "page").is(201);
    for more in [&[][..], &[("wait", "5")]] {
        let answer = server.get(&asks(URL, more)).is(200);
        assert_eq!((&answer.json()["html"], answer.header("crawlcache-lease")), (&json!("page"), None));
    }
    let answer = server.post("/v1/leases", &json!({"url": URL})).is(200).json();
    assert_eq!(answer["state"], "fresh", "{answer}");
    let series = server.metrics();
    for (result, count) in
        [("won", 1), ("held", 1), ("fresh", 3), ("stored", 1), ("outdated", 0), ("lost", 0)]
    {
        assert_eq!(series.of(&format!("leases_total{{result=\"{result}\"}}")), count, "{result}");
    }
}

#[test]
fn who_waits_gets_the_page_when_it_is_stored() {
    let server = Server::start(&[]);
    let lease = won(&server.get(&asks(URL, &[])));
    let waiting: Vec<_> =
        (0..10).map(|_| in_background(server.request("GET", &asks(URL, &[("wait", "15")])))).collect();
    until_so_many_wait(&server, 10);
    assert_eq!(server.metrics().of("http_requests_in_flight"), 1, "the one that asks for metrics");
    put(&server, &result_of(URL, &[]), &lease, "page").is(201);
    for answer in waiting {
        assert_eq!(answer.join().expect("answered").is(200).json()["html"], "page");
    }
    assert_eq!(server.metrics().of(r"lease_wait_seconds_count"), 10);
}

#[test]
fn when_a_lease_is_given_up_the_next_one_gets_it() {
    let server = Server::start(&[]);
    let first = won(&server.get(&asks(URL, &[])));
    let waiting: Vec<_> =
        (0..2).map(|_| in_background(server.request("GET", &asks(URL, &[("wait", "15")])))).collect();
    until_so_many_wait(&server, 2);
    release(&server, &first).is(204);
    until_so_many_wait(&server, 1);
    let is_answered = thread::JoinHandle::is_finished;
    eventually("one has won", || waiting.iter().any(is_answered).then_some(()));
    let (done, waits): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_answered);
    let mut answers: Vec<Answer> = done.into_iter().map(|one| one.join().expect("answered")).collect();
    assert_eq!((answers.len(), waits.len()), (1, 1));
    let second = won(&answers.remove(0));
    put(&server, &result_of(URL, &[]), &first, "given up").problem(409, "lease_outdated");
    put(&server, &result_of(URL, &[]), &second, "page").is(201);
    for answer in waits {
        assert_eq!(answer.join().expect("answered").is(200).json()["html"], "page");
    }
}

#[test]
fn a_lease_whose_holder_says_nothing_runs_out() {
    let server = Server::start(&[]);
    let first = won(&server.get(&result_of(URL, &[("lease", "1")])));
    let second = won(&server.get(&asks(URL, &[("wait", "15")])));
    // The first one is only slow: it must not put its page in the place of a later one.
    let target = result_of(URL, &[]);
    put(&server, &target, &first, "late").problem(409, "lease_outdated");
    put(&server, &target, &second, "in time").is(201);
    put(&server, &target, &first, "late").problem(409, "lease_outdated");
    assert_eq!(server.get(&target).is(200).json()["html"], "in time");
    // The answer may have been lost: the same write again is no mistake.
    assert_eq!(put(&server, &target, &second, "in time").is(200).json()["outcome"], "refreshed");
    server.request("PUT", &format!("/v1/leases/{first}")).send().problem(409, "lease_lost");
    assert_eq!(server.metrics().of(r#"leases_total{result="outdated"}"#), 2);
}

#[test]
fn when_the_time_is_up_who_waits_is_told_so() {
    let server = Server::start(&[]);
    won(&server.get(&asks(URL, &[])));
    let begun = Instant::now();
    held(&server.get(&asks(URL, &[("wait", "1")])));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let answer = server.post("/v1/leases", &json!({"url": URL, "wait": 1}));
    let problem = answer.problem(409, "lease_held");
    assert!(problem["expires_at"].is_string() && answer.header("retry-after").is_some(), "{problem}");
}

#[test]
fn everybody_gets_what_is_stale_and_one_the_lease() {
    let server = Server::start(&[]);
    let target = result_of(URL, &[("ttl", "1")]);
    server.put(&target, r#"{"html":"old"}"#).is(201);
    eventually("it expires", || (server.get(&result_of(URL, &[])).status == 404).then_some(()));
    let leases: Vec<String> = (0..5)
        .filter_map(|_| {
            let answer = server.get(&asks(URL, &[("stale", "600"), ("wait", "10")])).is(200);
            assert_eq!(answer.json()["html"], "old");
            assert!(answer.header("cache-status").expect("there").ends_with("detail=stale"));
            answer.header("crawlcache-lease").map(str::to_owned)
        })
        .collect();
    assert_eq!(leases.len(), 1);
    put(&server, &result_of(URL, &[]), &leases[0], "new").is(200);
    let answer = server.get(&asks(URL, &[("stale", "600")])).is(200);
    assert_eq!((&answer.json()["html"], answer.header("crawlcache-lease")), (&json!("new"), None));
}

#[test]
fn a_page_that_its_origin_confirms_ends_the_lease() {
    let server = Server::start(&[]);
    server.put(&result_of(URL, &[("ttl", "1")]), r#"{"html":"same"}"#).is(201);
    eventually("it expires", || (server.get(&result_of(URL, &[])).status == 404).then_some(()));
    let lease = won(&server.get(&asks(URL, &[])));
    let confirmed = result_of(URL, &[("confirmed", "true"), ("ttl", "60")]);
    server.request("PATCH", &confirmed).header("crawlcache-lease", &lease).json(&json!({})).send().is(200);
    assert_eq!(server.get(&asks(URL, &[])).is(200).json()["html"], "same");
    assert_eq!(server.metrics().of(r#"leases_total{result="stored"}"#), 1);
}

#[test]
fn renewals_keep_a_slow_fetch_alive() {
    let server = Server::start(&[]);
    let lease = won(&server.get(&result_of(URL, &[("lease", "2")])));
    let waiting = in_background(server.request("GET", &asks(URL, &[("wait", "15")])));
    until_so_many_wait(&server, 1);
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(600));
        let answer = server.request("PUT", &format!("/v1/leases/{lease}?seconds=2")).send().is(200).json();
        assert_eq!((&answer["state"], &answer["seconds"]), (&json!("renewed"), &json!(2)));
    }
    put(&server, &result_of(URL, &[]), &lease, "slow").is(201);
    assert_eq!(waiting.join().expect("answered").is(200).json()["html"], "slow");
}

#[test]
fn a_line_of_a_batch_may_be_written_under_a_lease() {
    let server = Server::start(&[]);
    let lease = won(&server.get(&asks(URL, &[])));
    let line = |lease: &str| format!("{}\n", json!({"url": URL, "lease": lease, "document": {}}));
    let lines = [line(&lease), line(&"ab".repeat(32)), line("x")].concat();
    let outcomes = server.request("POST", "/v1/results/batch-put").ndjson(lines).send().is(200).lines();
    let told: Vec<&Value> =
        outcomes.iter().map(|outcome| outcome.get("code").unwrap_or(&outcome["outcome"])).collect();
    assert_eq!(told, ["created", "lease_outdated", "invalid_lease"]);
    let posted = won(&server.get(&asks("https://b/", &[])));
    let document = json!({"url": "https://b/"});
    server.request("POST", "/v1/results").header("crawlcache-lease", &posted).json(&document).send().is(201);
    assert_eq!(server.metrics().of(r#"leases_total{result="stored"}"#), 2);
}

#[test]
fn readers_get_no_lease_and_namespaces_share_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let both = Scopes::from(Scope::Read).with(Scope::Write);
    let [reader, here, there] = [(Scopes::from(Scope::Read), "a"), (both, "a"), (both, "b")]
        .map(|(scopes, namespace)| token(directory.path(), scopes, namespace, None).1);
    let server = Server::on(directory.path(), &[]);
    let get = |target: &str, who: &str| with(server.request("GET", target), who).send();
    get(&asks(URL, &[]), &reader).problem(403, "forbidden");
    get(&result_of(URL, &[]), &reader).problem(404, "result_not_found");
    with(server.request("POST", "/v1/leases"), &reader)
        .json(&json!({"url": URL}))
        .send()
        .problem(403, "forbidden");
    let lease = won(&get(&asks(URL, &[]), &here));
    let other = won(&get(&asks(URL, &[]), &there));
    let path = format!("/v1/leases/{lease}");
    for method in ["PUT", "DELETE"] {
        with(server.request(method, &path), &reader).send().problem(403, "forbidden");
    }
    // A token of another namespace keeps nothing, ends nothing, and writes nothing.
    with(server.request("PUT", &path), &there).send().problem(409, "lease_lost");
    with(server.request("DELETE", &path), &there).send().is(204);
    let write = |who: &str, lease: &str| {
        let request = with(server.request("PUT", &result_of(URL, &[])), who);
        request.header("crawlcache-lease", lease).json(&json!({})).send()
    };
    write(&there, &lease).problem(409, "lease_outdated");
    held(&get(&asks(URL, &[]), &here));
    write(&here, &lease).is(201);
    write(&there, &other).is(201);
}

#[test]
fn what_is_wrong_is_named() {
    let server = Server::start(&[]);
    for (more, field) in [
        (&[("wait", "1")][..], "wait"),
        (&[("lease", "0")], "lease"),
        (&[("lease", "601")], "lease"),
        (&[("lease", "-1")], "lease"),
        (&[("lease", "")], "lease"),
        (&[("lease", "5"), ("wait", "31")], "wait"),
    ] {
        server.get(&result_of(URL, more)).problem_with(400, "invalid_parameter", field);
    }
    server.get(&at("/v1/result/html", &[("url", URL), ("lease", "5")])).problem_with(
        400,
        "invalid_parameter",
        "lease",
    );
    for (body, code) in [
        (json!({"url": URL, "seconds": 601}), "invalid_parameter"),
        (json!({"url": URL, "wait": 31}), "invalid_parameter"),
        (json!({"url": URL, "seconds": "x"}), "invalid_field"),
        (json!({"url": URL, "lease": 5}), "invalid_field"),
        (json!({"seconds": 5}), "invalid_field"),
        (json!({"url": "x"}), "invalid_url"),
    ] {
        server.post("/v1/leases", &body).problem(400, code);
    }
    for token in ["x", "%ff", &"g".repeat(64), &"a".repeat(63)] {
        for method in ["PUT", "DELETE"] {
            server.request(method, &format!("/v1/leases/{token}")).send().problem(400, "invalid_lease");
        }
        put(&server, &result_of(URL, &[]), token, "x").problem(400, "invalid_lease");
    }
    let unknown = "a".repeat(64);
    server.request("PUT", &format!("/v1/leases/{unknown}?seconds=0")).send().problem_with(
        400,
        "invalid_parameter",
        "seconds",
    );
    server.request("PUT", &format!("/v1/leases/{unknown}")).send().problem(409, "lease_lost");
    release(&server, &unknown).is(204);
    won(&server.get(&asks(URL, &[])));
}

#[test]
fn a_lease_outlives_the_service() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::on(directory.path(), &[]);
    let lease = won(&server.get(&asks(URL, &[])));
    server.kill();
    drop(server);
    let server = Server::on(directory.path(), &[]);
    held(&server.get(&asks(URL, &[])));
    put(&server, &result_of(URL, &[]), &lease, "page").is(201);
    assert_eq!(server.get(&asks(URL, &[])).is(200).json()["html"], "page");
}

#[test]
fn who_hangs_up_while_it_waits_is_granted_nothing() {
    let server = Server::start(&[]);
    let lease = won(&server.get(&asks(URL, &[])));
    let request = server.request("GET", &asks(URL, &[("wait", "15")]));
    let mut connection = server.connect();
    connection.write(&request.head()).expect("sent");
    until_so_many_wait(&server, 1);
    connection.close(Shutdown::Both);
    until_so_many_wait(&server, 0);
    release(&server, &lease).is(204);
    // Nobody got it since.
    won(&server.get(&asks(URL, &[])));
    assert_eq!(server.metrics().of(r#"leases_total{result="won"}"#), 2);
}

#[test]
fn who_waits_is_let_go_when_the_service_stops() {
    let mut server = Server::start(&[]);
    won(&server.get(&asks(URL, &[])));
    let waiting = in_background(server.request("GET", &asks(URL, &[("wait", "15")])));
    until_so_many_wait(&server, 1);
    server.terminate();
    held(&waiting.join().expect("answered"));
    assert!(server.wait().success());
}

/// As many crawlers as a fleet has, over some services: each wants two of the pages and asks until it has them.
/// Returns how often pages were fetched.
fn crawl(servers: &[&Server]) -> usize {
    const CRAWLERS: usize = 200;
    const PAGES: usize = 20;
    let fetches = AtomicUsize::new(0);
    thread::scope(|scope| {
        for crawler in 0..CRAWLERS {
            let (server, fetches) = (servers[crawler % servers.len()], &fetches);
            scope.spawn(move || {
                for step in 0..2 {
                    let url = format!("https://example.com/{}", (crawler + step * PAGES / 2) % PAGES);
                    let page = format!("the page {url}");
                    loop {
                        let answer =
                            patiently(|| server.get(&result_of(&url, &[("lease", "120"), ("wait", "10")])));
                        if answer.status == 200 {
                            assert_eq!(answer.json()["html"], page);
                            break;
                        }
                        if answer.header("crawlcache-lease").is_none() {
                            let problem = answer.problem(404, "result_not_found");
                            assert_eq!(problem["lease"]["state"], "held", "{problem}");
                            continue;
                        }
                        let lease = won(&answer);
                        fetches.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(100));
                        // 200 where it was stored at once, and the store's answer was lost.
                        let stored = patiently(|| put(server, &result_of(&url, &[]), &lease, &page));
                        assert!([200, 201].contains(&stored.status), "{stored:?}");
                        break;
                    }
                }
            });
        }
    });
    let won: u64 = servers.iter().map(|server| server.metrics().of(r#"leases_total{result="won"}"#)).sum();
    assert_eq!(won, PAGES as u64);
    fetches.into_inner()
}

/// Asks again where too many ask at once.
fn patiently(mut ask: impl FnMut() -> Answer) -> Answer {
    eventually("there is room", || Some(ask()).filter(|answer| answer.status != 503))
}

#[test]
fn of_200_crawlers_each_page_is_fetched_by_one() {
    // Far fewer requests at once than crawlers: those who wait must not keep others from storing what they wait for.
    let server = Server::start(&[("limits.concurrency", "20")]);
    assert_eq!(crawl(&[&server]), 20);
    assert_eq!(server.metrics().of("lease_waiters"), 0);
}

#[test]
fn of_200_crawlers_on_two_instances_each_page_is_fetched_by_one() {
    let Some(local) = dynamodb_local() else { return };
    if !on_sqlite() {
        // The suite on DynamoDB gives every server tables of its own.
        return;
    }
    let prefix = format!("leases{}-", std::process::id());
    let settings: Vec<Setting<'_>> = vec![
        ("store.backend", "dynamodb"),
        ("dynamodb.endpoint", &local),
        ("dynamodb.table_prefix", &prefix),
        ("dynamodb.create_tables", "true"),
    ];
    let (first, second) = (Server::start(&settings), Server::start(&settings));
    assert_eq!(crawl(&[&first, &second]), 20);
    // A late writer is told apart whichever instance it asks.
    let lease = won(&first.get(&result_of(URL, &[("lease", "1")])));
    let later = won(&second.get(&asks(URL, &[("wait", "15")])));
    put(&second, &result_of(URL, &[]), &lease, "late").problem(409, "lease_outdated");
    let waiting = in_background(first.request("GET", &asks(URL, &[("wait", "15")])));
    until_so_many_wait(&first, 1);
    put(&second, &result_of(URL, &[]), &later, "in time").is(201);
    assert_eq!(waiting.join().expect("answered").is(200).json()["html"], "in time");
}
