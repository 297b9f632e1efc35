//! The writer thread itself: what shares a transaction, and what is said when the thread is gone.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;
use crate::domain::Version;
use crate::store::{Condition, DeleteOutcome, Error, PutOutcome};
use writer::{Operation, Totals};

/// Does anything on the writer thread.
struct Doing {
    work: Box<dyn FnMut() + Send>,
    reply: oneshot::Sender<Result<()>>,
}

impl Operation for Doing {
    fn run(&mut self, _connection: &Connection, _totals: &mut Totals) -> rusqlite::Result<()> {
        (self.work)();
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let _ = self.reply.send(committed);
    }
}

async fn on_the_writer(store: &SqliteStore, work: impl FnMut() + Send + 'static) -> Result<()> {
    store.0.writer.run(|reply| Box::new(Doing { work: Box::new(work), reply })).await
}

#[tokio::test]
async fn a_dead_writer_thread_is_down() {
    let directory = directory();
    let store = open(directory.path());
    put_result(&store, put(&url(1), "text", 10)).await;
    assert_eq!(status(&store).await.health, Health::Healthy);
    let died = on_the_writer(&store, || panic!("as the test wants it")).await;
    assert!(matches!(died, Err(Error::Unavailable { .. })), "{died:?}");
    // The answer goes while the thread is still unwinding.
    for _ in 0..500 {
        if status(&store).await.health != Health::Healthy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let health = status(&store).await.health;
    assert!(matches!(&health, Health::Down(reason) if reason.contains("writer thread")), "{health:?}");
    let refused = ResultStore::put(&store, put(&url(2), "text", 10)).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert_eq!(said(&store, &url(1)).await.as_deref(), Some("text"), "reads go on");
}

/// A put that gets the number of the row which its own transaction deleted is a new row all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_in_the_row_of_a_deleted_one_is_not_evicted_by_itself() {
    const MAX_BYTES: u64 = 1 << 20;
    let directory = directory();
    let bounded = Options { max_bytes: MAX_BYTES, ..options(directory.path()) };
    let store = SqliteStore::open(&bounded, &Clock::manual(at(1000)), &Metrics::new()).expect("opens");
    for entry in 0..100 {
        put_result(&store, noise(entry, 20_000)).await;
    }
    // All but the last, whose number must not be hot when the hand comes to it.
    for entry in 0..99 {
        stored(&store, &url(entry)).await.expect("a get");
    }
    let last = || number(&connection(directory.path()), "select max(row) from results");
    let before = last();
    // While the writer waits, the delete and the puts gather behind it.
    let (go, wait) = mpsc::channel();
    let (busy, started) = oneshot::channel();
    let mut busy = Some(busy);
    let mut blocked = JoinSet::new();
    blocked.spawn({
        let store = store.clone();
        async move {
            on_the_writer(&store, move || {
                busy.take().expect("it runs once").send(()).expect("the test waits");
                wait.recv().expect("the test says when");
            })
            .await
        }
    });
    started.await.expect("the writer is busy");
    let gone = url(99);
    let delete = ResultStore::delete(&store, &gone, Version::first_of(at(20)), Condition::Any);
    let put = ResultStore::put(&store, noise(200, 60_000));
    // Queued in this order, as the futures are polled.
    let (deleted, outcome, ()) = tokio::join!(delete, put, async { go.send(()).expect("it waits") });
    blocked.join_next().await.expect("a task").expect("no panic").expect("committed");
    assert_eq!((deleted, outcome), (Ok(DeleteOutcome::Deleted), Ok(PutOutcome::Created)));
    assert_eq!(last(), before, "the number was used again");
    assert!(said(&store, &url(200)).await.is_some(), "it was acknowledged");
    recount(&connection(directory.path()));
}
