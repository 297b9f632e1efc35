//! What the ledger promises: tombstones, the outbox, the policy's fence, walks and long work.

mod fence;
mod model;
mod outbox;
mod previous;
mod router;
mod sessions;
mod tombstones;
mod tries;
mod walks;

use super::*;
use crate::domain::{Timestamp, Version};
use crate::store::PutOutcome;
use crate::store::sqlite::ledger::outbox::{OutboxStatus, Queued, Row, Tried};
use crate::store::sqlite::ledger::{Beside, Fenced, Known, Tombstone};
use crate::store::{Condition, DeleteOutcome, Error, Look};

/// How long tombstones are kept in these tests, in seconds.
const KEPT: u64 = 500;

/// The time of the clock in these tests.
const NOW: u64 = 1000;

/// A row for the outbox that is due.
const QUEUE: Beside = Beside::Queue { due_at: Timestamp::from_secs(NOW) };

fn remembering(directory: &Path) -> SqliteStore {
    bounded(directory, 0)
}

/// A store with so many rows in its outbox at most.
fn bounded(directory: &Path, outbox_rows: u64) -> SqliteStore {
    let options = Options { tombstone_seconds: KEPT, outbox_rows, ..options(directory) };
    SqliteStore::open(&options, &Clock::manual(at(NOW)), &Metrics::new()).expect("opens")
}

fn version(second: u64) -> Version {
    Version::first_of(at(second))
}

#[expect(clippy::unnecessary_wraps, reason = "as it stands in what is known")]
fn tombstone(second: u64, deleted: bool) -> Option<Tombstone> {
    Some(Tombstone { version: version(second), deleted })
}

/// Puts a text under key 1 at `second`.
async fn put_at(store: &SqliteStore, second: u64, beside: Beside) -> PutOutcome {
    put_key(store, 1, second, beside).await
}

async fn put_key(store: &SqliteStore, number: u64, second: u64, beside: Beside) -> PutOutcome {
    let put = put(&url(number), &format!("at {second}"), second);
    store.put_beside(put, None, beside).await.expect("a put").unbound()
}

/// Deletes key 1 at `second`.
async fn delete_at(store: &SqliteStore, second: u64, beside: Beside) -> DeleteOutcome {
    let deleted = store.delete_beside(&url(1), version(second), Condition::Any, None, beside).await;
    deleted.expect("a delete").unbound()
}

/// What is known of key 1.
async fn known(store: &SqliteStore) -> Known {
    known_of(store, 1).await
}

async fn known_of(store: &SqliteStore, number: u64) -> Known {
    store.known(&[url(number).id()]).await.expect("a read")[0]
}

async fn look(store: &SqliteStore, number: u64) -> Look<String> {
    match ResultStore::look(store, &url(number), GetOptions::default()).await.expect("a look") {
        Look::Entry(hit) => Look::Entry(text_of(&hit.entry)),
        Look::Deleted(version) => Look::Deleted(version),
        Look::Absent => Look::Absent,
    }
}

/// The only row of the outbox.
async fn the_row(store: &SqliteStore) -> Row {
    let rows = store.outbox_rows(false, 0, 10).await.expect("a read");
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

async fn outbox(store: &SqliteStore) -> OutboxStatus {
    store.outbox_status().await.expect("a status")
}
