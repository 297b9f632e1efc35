//! Reads that come at about the same time share a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::batch::MOST_KEYS;
use super::super::failure::{Failure, Kind};
use super::super::item::Item;
use super::Inner;
use crate::store::Result;

/// The reads that wait for a request to share. The timer counts in milliseconds: a shorter window is one of those.
pub(super) struct Gather {
    window: Duration,
    /// Eventually consistent reads, and consistent ones.
    waiting: [Mutex<Waiting>; 2],
}

#[derive(Default)]
struct Waiting {
    /// Of equal keys, one is asked for.
    readers: HashMap<String, Vec<oneshot::Sender<Result<Option<Item>>>>>,
    /// Which gathering this is: a timer sends only its own.
    round: u64,
}

impl Gather {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, waiting: Default::default() }
    }

    /// The item of a partition key, together with those that others ask for within the window.
    pub(super) async fn get(
        &self,
        inner: &Arc<Inner>,
        partition: &str,
        consistent: bool,
    ) -> Result<Option<Item>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting(consistent);
            let first = waiting.readers.is_empty();
            waiting.readers.entry(partition.to_owned()).or_default().push(answer);
            if waiting.readers.len() >= MOST_KEYS {
                let readers = waiting.take();
                drop(waiting);
                inner.reads.spawn(send(Arc::clone(inner), readers, consistent));
            } else if first {
                let (inner, window, round) = (Arc::clone(inner), self.window, waiting.round);
                drop(waiting);
                inner.reads.clone().spawn(async move {
                    tokio::time::sleep(window).await;
                    let readers = inner.gather.as_ref().and_then(|gather| {
                        let mut waiting = gather.waiting(consistent);
                        (waiting.round == round).then(|| waiting.take())
                    });
                    if let Some(readers) = readers {
                        send(inner, readers, consistent).await;
                    }
                });
            }
        }
        let stopped = |_| Err(Failure::new(Kind::Unavailable, "a shared read was given up").into());
        answered.await.unwrap_or_else(stopped)
    }

    fn waiting(&self, consistent: bool) -> MutexGuard<'_, Waiting> {
        self.waiting[usize::from(consistent)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> HashMap<String, Vec<oneshot::Sender<Result<Option<Item>>>>> {
        self.round += 1;
        std::mem::take(&mut self.readers)
    }
}

/// Sends one request and gives each reader what it asked for. Who has gone meanwhile is not missed.
async fn send(
    inner: Arc<Inner>,
    readers: HashMap<String, Vec<oneshot::Sender<Result<Option<Item>>>>>,
    consistent: bool,
) {
    let wanted = readers.iter().filter(|(_, readers)| readers.iter().any(|reader| !reader.is_closed()));
    let wanted: Vec<String> = wanted.map(|(partition, _)| partition.clone()).collect();
    if wanted.is_empty() {
        return;
    }
    let found = match wanted.as_slice() {
        [alone] => {
            let found = inner.get_item(alone, consistent).await;
            found.map(|item| item.map(|item| (alone.clone(), item)).into_iter().collect())
        }
        _ => inner.items(wanted, &[], consistent).await,
    };
    match found {
        Ok(mut found) => {
            for (partition, readers) in readers {
                let item = found.remove(&partition);
                readers.into_iter().for_each(|reader| drop(reader.send(Ok(item.clone()))));
            }
        }
        Err(error) => {
            let readers = readers.into_values().flatten();
            readers.for_each(|reader| drop(reader.send(Err(error.clone()))));
        }
    }
}
