//! What goes wrong around the server: another process, damaged files, disks that are full or read-only.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::documents::noise;
use crate::support::{Server, eventually, on_sqlite, required, result_of};

/// Every file in a directory with its content.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (entry.file_name().into_string().expect("a name"), fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_second_process_on_a_data_directory_is_refused_and_the_first_goes_on() {
    if !on_sqlite() {
        return;
    }
    let first = Server::start(&[]);
    first.put(&result_of("https://a/", &[]), r#"{"n":1}"#).is(201);
    let (status, text) = Server::refused(first.data_dir(), &[]);
    assert!(!status.success());
    assert!(text.contains("belongs to the running process"), "{text}");
    assert!(text.contains(first.data_dir().to_str().expect("a path")), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(first.get(&result_of("https://a/", &[])).is(200).body, br#"{"n":1}"#);
    first.put(&result_of("https://b/", &[]), "{}").is(201);
}

#[test]
fn a_killed_process_leaves_its_directory_to_the_next() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut first = Server::on(directory.path(), &[]);
    first.put(&result_of("https://a/", &[]), r#"{"n":1}"#).is(201);
    first.kill();
    let second = Server::on(directory.path(), &[]);
    assert_eq!(second.get(&result_of("https://a/", &[])).is(200).body, br#"{"n":1}"#);
}

#[test]
fn a_damaged_database_is_refused_at_start_and_left_as_it_is() {
    if !on_sqlite() {
        return;
    }
    let whole = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::on(whole.path(), &[]);
    for n in 0..20 {
        server
            .put(&result_of(&format!("https://a/{n}"), &[]), json!({"html": noise(n, 5000)}).to_string())
            .is(201);
    }
    server.kill();
    // Opened once by something else, so that everything is in one file.
    let database = whole.path().join("crawlcache.db");
    let connection = rusqlite::Connection::open(&database).expect("a database");
    connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).expect("moved");
    drop(connection);
    let sound = fs::read(&database).expect("a file");

    let garbage = b"this is not a database at all\n".repeat(1000);
    let mut no_schema = sound.clone();
    no_schema[100..4000].fill(0xa5);
    let mut no_header = sound.clone();
    no_header[..16].fill(0);
    for (name, damaged) in [("garbage", garbage), ("its schema", no_schema), ("its header", no_header)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("crawlcache.db"), &damaged).expect("written");
        let (status, text) = Server::refused(directory.path(), &[]);
        assert!(!status.success(), "{name}");
        assert!(
            text.contains("crawlcache.db") && text.contains("is not a usable database"),
            "{name}: {text}"
        );
        assert!(text.contains("it was left as it is"), "{name}: {text}");
        assert!(!text.contains("panicked"), "{name}: {text}");
        let after = files(directory.path());
        let (_, content) = after.iter().find(|(name, _)| name == "crawlcache.db").expect("still there");
        assert!(*content == damaged, "{name}: the file was changed");
    }
}

/// Has `change` done to a row of the database by another program.
fn damage(directory: &Path, change: &str, url: &str) {
    let connection = rusqlite::Connection::open(directory.join("crawlcache.db")).expect("a database");
    let changed = connection.execute(&format!("update results set {change} where url = ?1"), [url]);
    assert_eq!(changed, Ok(1), "{change}");
}

/// What can be wrong with a row.
const DAMAGES: [&str; 5] = [
    "body = zeroblob(length(body))",
    "body = substr(body, 1, length(body) / 2)",
    "body = x''",
    "layout = x'00'",
    "etag = x'00'",
];

#[test]
fn a_damaged_entry_is_a_miss_of_that_result_only_and_whoever_fetches_it_heals_it() {
    if !on_sqlite() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::on(directory.path(), &[]);
    let document = |name: &str| json!({"n": name, "html": noise(1, 5000)}).to_string();
    let damaged: Vec<String> = (0..DAMAGES.len()).map(|n| format!("https://a/{n}")).collect();
    let sound = "https://a/sound".to_owned();
    for url in damaged.iter().chain([&sound]) {
        server.put(&result_of(url, &[]), document(url)).is(201);
    }
    server.kill();
    for (change, url) in DAMAGES.into_iter().zip(&damaged) {
        damage(directory.path(), change, url);
    }
    let server = Server::on(directory.path(), &[]);
    for (change, url) in DAMAGES.into_iter().zip(&damaged) {
        let target = result_of(url, &[]);
        for coding in ["identity", "zstd"] {
            let missed = server.request("GET", &target).header("accept-encoding", coding).send();
            assert_eq!(missed.problem(404, "result_not_found")["reason"], "damaged", "{change}");
        }
        server.get(&result_of(&sound, &[])).is(200);
        let patch = server.request("PATCH", &target).header("content-type", "application/merge-patch+json");
        patch.body("{}").send().problem(404, "result_not_found");
        server.get(&format!("/v1/result/html?url={url}")).problem(404, "result_not_found");
    }
    let mut keys = damaged.clone();
    keys.push(sound.clone());
    let lines = server.post("/v1/results/batch-get", &json!({"keys": keys})).is(200).lines();
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap_or_default()).collect();
    assert_eq!(statuses, [404, 404, 404, 404, 404, 200]);
    let looked = server.post("/v1/results/lookup", &json!({"keys": keys})).is(200).json();
    assert_eq!((&looked["counts"]["absent"], &looked["counts"]["fresh"]), (&json!(5), &json!(1)));
    assert_eq!(looked["results"][0]["reason"], "damaged");
    assert_eq!(looked["results"][3]["reason"], "damaged", "even the metadata cannot be read");
    assert_eq!(server.get("/v1/results/export").is(200).lines().len(), 1);
    server.get("/v1/results?host=a").is(200);

    // The holder of a lease fetches the page again, and so heals it.
    for url in &damaged[..2] {
        let missed = server.get(&result_of(url, &[("lease", "30")])).problem(404, "result_not_found");
        assert_eq!((&missed["reason"], &missed["lease"]["state"]), (&json!("damaged"), &json!("won")));
        let token = missed["lease"]["token"].as_str().expect("a token");
        let put = server.request("PUT", &result_of(url, &[])).header("crawlcache-lease", token);
        put.body(r#"{"n":2}"#).send().is(200);
        assert_eq!(server.get(&result_of(url, &[])).is(200).json(), json!({"n": 2}));
    }
    server.post("/v1/leases", &json!({"url": damaged[2]})).is(201);
    let looked = server.post("/v1/results/lookup", &json!({"keys": damaged[..3]})).is(200).json();
    let states = ["fresh", "fresh", "leased"];
    assert!(states.iter().enumerate().all(|(n, state)| looked["results"][n]["state"] == *state), "{looked}");
    server.request("DELETE", &result_of(&damaged[2], &[])).send().is(204);
    let missed = server.get(&result_of(&damaged[2], &[])).problem(404, "result_not_found");
    assert_eq!(missed["reason"], "absent");
}

#[test]
fn the_same_content_heals_a_damaged_entry_whichever_way_it_comes() {
    if !on_sqlite() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::on(directory.path(), &[]);
    let document = json!({"html": noise(1, 5000)});
    let url = |way: &str, number: usize| format!("https://a/{way}/{number}");
    let ways = ["put", "batch", "import", "absent"];
    let urls = || ways.iter().flat_map(move |way| (0..DAMAGES.len()).map(move |number| url(way, number)));
    for url in urls() {
        server.put(&result_of(&url, &[]), document.to_string()).is(201);
    }
    let backup = server.get("/v1/results/export").is(200).lines();
    server.kill();
    for (place, url) in urls().enumerate() {
        damage(directory.path(), DAMAGES[place % DAMAGES.len()], &url);
    }
    let server = Server::on(directory.path(), &[]);
    let lines = |target: &str, lines: &[serde_json::Value]| {
        let body: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
        let request = server.request("POST", target).header("content-type", "application/x-ndjson");
        request.body(body.concat()).send().is(200)
    };
    for number in 0..DAMAGES.len() {
        server.put(&result_of(&url("put", number), &[]), document.to_string()).is(200);
        let put = server.request("PUT", &result_of(&url("absent", number), &[])).header("if-none-match", "*");
        put.body(document.to_string()).send().is(200);
        let line = json!({"url": url("batch", number), "document": document});
        lines("/v1/results/batch-put", &[line]);
    }
    let report = lines("/v1/results/import", &backup).json();
    assert_eq!((&report["failed"], &report["created"]), (&json!(0), &json!(0)), "{report}");
    for url in urls() {
        assert_eq!(server.get(&result_of(&url, &[])).is(200).json(), document, "{url}");
    }
    let again = lines("/v1/results/import", &backup).json();
    assert_eq!(again["superseded"], json!(backup.len()), "a sound entry is left alone: {again}");
}

#[test]
fn a_directory_that_cannot_be_made_is_refused_with_its_name() {
    if !on_sqlite() {
        return;
    }
    for directory in ["/proc/crawlcache-data", "/dev/null/data"] {
        let (status, text) = Server::refused(Path::new(directory), &[]);
        assert!(!status.success());
        assert!(text.contains(directory) && text.contains("cannot be used"), "{text}");
        assert!(text.contains("server.data_dir") && !text.contains("panicked"), "{text}");
    }
}

/// A file system in memory, as large as it is told to be.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "crawlcache-test"]).arg(directory.path());
        let mounted = command.output().is_ok_and(|output| output.status.success());
        required("mounting a tmpfs", mounted.then_some(Self(directory)))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_read_only_directory_is_refused_at_start() {
    if !on_sqlite() {
        return;
    }
    let Some(disk) = Tmpfs::mount("size=1m,ro") else { return };
    for directory in [disk.path().to_owned(), disk.path().join("below")] {
        let (status, text) = Server::refused(&directory, &[]);
        assert!(!status.success());
        assert!(text.contains("cannot be used") && text.contains("ead-only"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(files(disk.path()).is_empty());
}

#[test]
fn a_full_disk_refuses_writes_with_507_and_goes_on_reading_until_there_is_space() {
    if !on_sqlite() {
        return;
    }
    let Some(disk) = Tmpfs::mount("size=24m") else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).expect("written");
    let server =
        Server::on(&disk.path().join("data"), &[("memory.bytes", "0"), ("memory.decoded_bytes", "0")]);
    let target = |n: u64| result_of(&format!("https://a/{n}"), &[]);
    let document = |n: u64| json!({"n": n, "html": noise(n, 200_000)}).to_string();
    let mut stored = 0;
    let refused = loop {
        let answer = server.put(&target(stored), document(stored));
        if answer.status != 201 {
            break answer;
        }
        stored += 1;
        assert!(stored < 1000, "the disk does not fill up");
    };
    let problem = refused.problem(507, "storage_full");
    assert!(!problem.to_string().contains(disk.path().to_str().expect("a path")), "{problem}");
    assert!(stored >= 5, "{stored}");

    // Reads go on, nothing half-written is seen, and the service stays ready.
    for n in 0..stored {
        assert_eq!(server.get(&target(n)).is(200).json()["n"], n);
    }
    server.get(&target(stored)).problem(404, "result_not_found");
    let ready = server.get("/readyz").is(200);
    assert_eq!(ready.body, b"degraded\n");
    let health = server.get("/health").is(200).json();
    assert_eq!(
        (&health["status"], &health["backends"]["sqlite"]["status"]),
        (&json!("degraded"), &json!("degraded"))
    );
    let series = server.metrics();
    assert!(series.of(r#"backend_errors_total{backend="sqlite",reason="full"}"#) >= 1);
    assert_eq!(series.of(r#"writes_total{op="put",result="error"}"#), 1);
    assert_eq!(series.of(r#"backend_up{backend="sqlite"}"#), 0);
    let line = json!({"url": "https://a/batch", "document": {"html": noise(7, 200_000)}});
    let outcomes =
        server.request("POST", "/v1/results/batch-put").ndjson(line.to_string()).send().is(200).lines();
    assert_eq!((&outcomes[0]["status"], &outcomes[0]["code"]), (&json!(507), &json!("storage_full")));

    fs::remove_file(&ballast).expect("removed");
    server.put(&target(stored), document(stored)).is(201);
    assert_eq!(server.get(&target(stored)).is(200).json()["n"], stored);
    assert_eq!(server.get("/readyz").is(200).body, b"ok\n");
    assert_eq!(server.get("/health").is(200).json()["status"], "healthy");
    assert_eq!(server.metrics().of(r#"backend_up{backend="sqlite"}"#), 1);
}

#[test]
fn an_address_that_others_reach_needs_a_token_or_an_explicit_word() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (status, text) = Server::refused(directory.path(), &[("server.listen", address)]);
        assert!(!status.success());
        assert!(text.contains("no token is configured") && text.contains("--insecure"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    let open = Server::on(directory.path(), &[("server.listen", "0.0.0.0:0"), ("server.insecure", "true")]);
    open.get("/livez").is(200);
}

#[test]
fn an_address_in_use_is_refused_with_its_name() {
    let first = Server::start(&[]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = first.address().to_string();
    let (status, text) = Server::refused(directory.path(), &[("server.listen", &address)]);
    assert!(!status.success());
    assert!(
        text.contains("cannot listen on") && text.contains(&address) && !text.contains("panicked"),
        "{text}"
    );
}

#[test]
fn every_mistake_in_the_configuration_is_reported_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings =
        [("limits.body_bytes", "lots"), ("results.compression_level", "99"), ("server.lisen", "x")];
    let (status, text) = Server::refused(directory.path(), &settings);
    assert!(!status.success());
    for part in ["limits.body_bytes", "results.compression_level", "1 to 19", "SERVER__LISEN"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert!(files(directory.path()).is_empty(), "nothing was begun");
}

/// SIGTERM: a request under way is answered, new connections are refused, and the files are at rest.
#[test]
fn a_clean_stop_answers_what_is_under_way_and_leaves_one_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::on(directory.path(), &[]);
    server.put(&result_of("https://a/", &[]), "{}").is(201);
    let target = result_of("https://b/", &[]);
    let mut connection = server.begin_put(&target, 7);
    server.terminate();
    eventually("it accepts no more", || server.request("GET", "/livez").try_send().is_err().then_some(()));
    connection.write(br#"{"n":1}"#).expect("sent");
    connection.answer("PUT").expect("an answer").is(201);
    let status = server.wait();
    assert!(status.success(), "{status}");
    let log = fs::metadata(directory.path().join("crawlcache.db-wal")).map_or(0, |file| file.len());
    assert_eq!(log, 0, "everything is in the database file");
    let next = Server::on(directory.path(), &[]);
    assert_eq!(next.get(&target).is(200).body, br#"{"n":1}"#);
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::on(directory.path(), &[("server.shutdown_seconds", "1")]);
    let _under_way = server.begin_put(&result_of("https://a/", &[]), 7);
    server.terminate();
    server.wait();
    let next = Server::on(directory.path(), &[]);
    next.get(&result_of("https://a/", &[])).problem(404, "result_not_found");
}
