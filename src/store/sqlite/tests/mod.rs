//! What only the embedded store promises: space, durability, and what it makes of damaged files.

mod backups;
mod damage;
mod durability;
mod full_disk;
mod leases;
mod ledger;
mod opening;
mod removed;
mod sealing;
mod space;
mod writing;

use base64::Engine as _;
use tempfile::TempDir;

use super::*;
use crate::domain::session::SessionId;
use crate::domain::{Key, Namespace};
use crate::store::conformance::{at, key, options, put, session, text_of};
use crate::store::{GetOptions, Put, PutSession, ResultStore, SessionCondition, SessionStore};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn try_open(directory: &Path) -> std::result::Result<SqliteStore, OpenError> {
    SqliteStore::open(&options(directory), &Clock::manual(at(1000)), &Metrics::new())
}

fn open(directory: &Path) -> SqliteStore {
    try_open(directory).expect("opens")
}

fn url(number: u64) -> Key {
    key(&format!("https://example.com/{number}"))
}

/// A put of about `bytes` bytes that do not compress, different for each number; its time is second 10.
fn noise(number: u64, bytes: usize) -> Put {
    let mut random = vec![0; bytes];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut random);
    put(&url(number), &base64::engine::general_purpose::STANDARD.encode(random), 10)
}

async fn stored(store: &SqliteStore, key: &Key) -> Result<Option<Arc<crate::domain::Entry>>> {
    Ok(ResultStore::get(store, key, GetOptions::default()).await?.map(|hit| hit.entry))
}

async fn said(store: &SqliteStore, key: &Key) -> Option<String> {
    stored(store, key).await.expect("a get").map(|entry| text_of(&entry))
}

async fn put_result(store: &SqliteStore, put: Put) -> crate::store::PutOutcome {
    ResultStore::put(store, put).await.expect("a put")
}

async fn put_session(store: &SqliteStore, name: &str, second: u64) {
    let (namespace, condition) = (Namespace::default(), SessionCondition::Any);
    let put = PutSession { namespace, record: session(name, second), condition };
    SessionStore::put(store, put).await.expect("a put");
}

async fn session_exists(store: &SqliteStore, name: &str) -> bool {
    let id = SessionId::new(name).expect("an id");
    SessionStore::get(store, &Namespace::default(), &id).await.expect("a get").is_some()
}

async fn status(store: &SqliteStore) -> Status {
    ResultStore::status(store).await.expect("a status")
}

/// A connection of the test's own to the database.
fn connection(directory: &Path) -> Connection {
    Connection::open(directory.join(FILE_NAME)).expect("a connection")
}

fn number(connection: &Connection, sql: &str) -> u64 {
    connection
        .query_row(sql, [], |row| rows::unsigned(row, 0))
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Bytes of the pages that hold something.
fn used(connection: &Connection) -> u64 {
    let pages = number(connection, "pragma page_count") - number(connection, "pragma freelist_count");
    pages * number(connection, "pragma page_size")
}

/// Counts the tables anew and holds the kept sums against them.
fn recount(connection: &Connection) {
    for (name, sql) in [
        ("entries", "select count(*) from results"),
        ("stored_bytes", "select coalesce(sum(length(body)), 0) from results"),
        ("raw_bytes", "select coalesce(sum(raw_size), 0) from results"),
        ("sessions", "select count(*) from sessions"),
        ("outbox", "select count(*) from outbox where parked = 0"),
        ("parked", "select count(*) from outbox where parked = 1"),
    ] {
        let kept = number(connection, &format!("select value from totals where name = '{name}'"));
        assert_eq!(kept, number(connection, sql), "{name}");
    }
    let check: String =
        connection.query_row("pragma integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(check, "ok");
}
