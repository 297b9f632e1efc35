//! The reader threads: they share one queue, and a thread answers a few requests to one read transaction.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{BACKEND, closed};
use crate::store::{Error, Result};

/// Requests that may wait. HTTP admits far fewer at once.
const QUEUE: usize = 64 << 10;

/// At most so many requests to a read transaction. More would gain little and let one thread hoard work.
const MAX_BATCH: usize = 8;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reader threads.
pub(super) struct Readers {
    queue: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Readers {
    pub(super) fn start(connections: Vec<Connection>) -> std::io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::bounded::<Job>(QUEUE);
        let mut threads = Vec::with_capacity(connections.len());
        for (number, connection) in connections.into_iter().enumerate() {
            let receiver = receiver.clone();
            let builder = thread::Builder::new().name(format!("sqlite-reader-{number}"));
            threads.push(builder.spawn(move || work(&connection, &receiver))?);
        }
        Ok(Self { queue: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Runs `work` on a reader thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more when the client has hung up: then the work is not worth doing.
            if !reply.is_closed() {
                let _ = reply.send(work(connection));
            }
        });
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.as_ref().ok_or_else(closed)?.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => {
                    Error::Overloaded { backend: BACKEND, detail: "its read queue is full".into() }
                }
                TrySendError::Disconnected(_) => closed(),
            })?;
        }
        answer.await.map_err(|_| closed())?
    }

    /// Lets the threads finish what is queued and end.
    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("an SQLite reader thread ended in a panic");
            }
        }
    }
}

impl Drop for Readers {
    /// Ends the threads before the directory's lock goes, for a store that nobody closed.
    fn drop(&mut self) {
        self.close();
    }
}

fn work(connection: &Connection, queue: &Receiver<Job>) {
    let mut batch: Vec<Job> = Vec::with_capacity(MAX_BATCH);
    while let Ok(first) = queue.recv() {
        batch.push(first);
        batch.extend(queue.try_iter().take(MAX_BATCH - 1));
        // The transaction begins after the requests were taken: each sees every write acknowledged before it.
        let begun = connection.prepare_cached("begin").and_then(|mut begin| begin.execute([]));
        for job in batch.drain(..) {
            job(connection);
        }
        if begun.is_ok() {
            let ended = connection.prepare_cached("commit").and_then(|mut commit| commit.execute([]));
            if let Err(error) = ended {
                tracing::warn!(error = %error, "a read transaction could not be ended");
            }
        }
    }
}
