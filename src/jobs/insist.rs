//! Asking again: a side that does not answer for a while does not end hours of work.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Error, Result};

/// Before the first new try.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Before any new try at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why work ends before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// Somebody said so.
    Stopped,
    /// It could not go on.
    Failed(String),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Asks again while a side is out of order.
#[derive(Clone, Debug)]
pub(super) struct Insist {
    /// Ends the work.
    pub(super) stop: CancellationToken,
    /// How long one call is tried.
    pub(super) patience: Duration,
}

impl Insist {
    /// What `call` says in the end. Its error is one that concerns this call alone: another may well succeed.
    pub(super) async fn on<T, F>(&self, mut call: impl FnMut() -> F) -> std::result::Result<Result<T>, Halt>
    where
        F: Future<Output = Result<T>>,
    {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let answer = self.stop.run_until_cancelled(call()).await.ok_or(Halt::Stopped)?;
            match answer {
                Err(error) if error.is_transient() && begun.elapsed() + pause < self.patience => {
                    tracing::debug!(%error, "asking again");
                    self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.ok_or(Halt::Stopped)?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) if !error.is_of_the_request() => return Err(error.into()),
                answer => return Ok(answer),
            }
        }
    }

    /// As [`Insist::on`], for a call without which the work cannot go on.
    pub(super) async fn must<T, F>(&self, call: impl FnMut() -> F) -> std::result::Result<T, Halt>
    where
        F: Future<Output = Result<T>>,
    {
        Ok(self.on(call).await??)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const BACKEND: &str = "dynamodb";

    fn insist() -> Insist {
        Insist { stop: CancellationToken::new(), patience: Duration::from_millis(800) }
    }

    fn unavailable() -> Error {
        Error::Unavailable { backend: BACKEND, detail: "gone".to_owned() }
    }

    #[tokio::test]
    async fn asks_again_until_it_answers() {
        let asked = AtomicUsize::new(0);
        let call =
            || async { if asked.fetch_add(1, Ordering::Relaxed) < 2 { Err(unavailable()) } else { Ok(7) } };
        assert!(matches!(insist().on(call).await, Ok(Ok(7))));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn gives_up_after_a_while() {
        let begun = Instant::now();
        let said = insist().on(|| async { Err::<(), _>(unavailable()) }).await;
        assert!(matches!(said, Err(Halt::Failed(_))), "{said:?}");
        // After 100, 200 and 400 ms the next pause would be too long.
        assert!(begun.elapsed() >= Duration::from_millis(690), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_time_does_not_mend_is_not_waited_for() {
        let missing =
            || async { Err::<(), _>(Error::MissingTable { backend: BACKEND, detail: String::new() }) };
        assert!(matches!(insist().on(missing).await, Err(Halt::Failed(_))));
        let large = || async { Err::<(), _>(Error::TooLarge { backend: BACKEND, detail: String::new() }) };
        assert!(matches!(insist().on(large).await, Ok(Err(Error::TooLarge { .. }))));
    }

    #[tokio::test]
    async fn stops_at_once() {
        let insist = insist();
        insist.stop.cancel();
        assert!(matches!(insist.on(|| async { Err::<(), _>(unavailable()) }).await, Err(Halt::Stopped)));
    }
}
