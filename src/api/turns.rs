//! The lines of one request are worked on side by side, and those of one key one after the other, in their order.

use std::collections::HashMap;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::domain::KeyId;

/// Keys that are remembered before those that are done with are forgotten.
const MOST: usize = 256;

/// The last line of each key.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<KeyId, oneshot::Receiver<()>>);

impl Turns {
    /// The turn of the next line of a key: after those of the key for which this was called before.
    pub(super) fn next(&mut self, key: KeyId) -> Turn {
        if self.0.len() >= MOST {
            self.0.retain(|_, last| matches!(last.try_recv(), Err(TryRecvError::Empty)));
        }
        let (done, last) = oneshot::channel();
        Turn { before: self.0.insert(key, last), _done: done }
    }
}

/// The turn of one line. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl Turn {
    /// Waits until the line before has been stored, or refused.
    pub(super) async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: the other end is dropped.
            let _ = before.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> KeyId {
        KeyId::from_bytes([number; 16])
    }

    #[tokio::test]
    async fn lines_of_one_key_follow_each_other() {
        let mut turns = Turns::default();
        let (mut first, mut other, mut second) = (turns.next(key(1)), turns.next(key(2)), turns.next(key(1)));
        first.come().await;
        other.come().await;
        let mut waiting = std::pin::pin!(second.come());
        tokio::select! {
            biased;
            () = &mut waiting => panic!("the first is not done"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        waiting.await;
    }

    #[test]
    fn what_is_done_with_is_forgotten() {
        let mut turns = Turns::default();
        let held = turns.next(key(255));
        for round in 0..20 {
            for number in 0..200 {
                drop(turns.next(KeyId::from_bytes([round ^ number; 16])));
            }
        }
        assert!(turns.0.len() <= MOST && turns.0.contains_key(&key(255)));
        drop(held);
    }
}
