//! Asks each backend how it is, and says what that means for the service.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::state::{Api, Backend};
use crate::domain::Timestamp;
use crate::domain::routing::Side;
use crate::store::circuit::CircuitState;
use crate::store::dynamodb::{self, Bucket};
use crate::store::{Error, Health, Result, Status};

/// A backend that has not answered by then is down.
const PATIENCE: Duration = Duration::from_secs(2);

/// DynamoDB beside SQLite, and a bucket, are waited for no longer than this: the service can do without.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// What a backend says about itself, or why it says nothing.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) backend: &'static str,
    /// When it was asked.
    pub(super) asked_at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    /// How it says that it is.
    pub(super) health: Result<Health>,
    /// What it holds; `None` where it does not answer, or does not count.
    pub(super) holds: Option<Status>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Verdict {
    /// The word that answers use.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Inspected {
    pub(super) fn verdict(&self) -> Verdict {
        match &self.health {
            Ok(Health::Healthy) => Verdict::Healthy,
            Ok(Health::Degraded(_)) => Verdict::Degraded,
            Ok(Health::Down(_)) | Err(_) => Verdict::Unhealthy,
        }
    }

    /// What is wrong, in words that are for the log and for operators: they may name paths.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.health {
            Ok(Health::Healthy) => None,
            Ok(Health::Degraded(reason) | Health::Down(reason)) => Some(reason.clone()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Asks every backend, all at once.
pub(super) async fn backends(api: &Api) -> Vec<Inspected> {
    let stores = join_all(api.backends.iter().map(|backend| inspect(api, backend)));
    let beside = async {
        match &api.bucket {
            Some(bucket) => Some(inspect_bucket(api, bucket).await),
            None => None,
        }
    };
    let (mut inspected, beside) = futures_util::join!(stores, beside);
    inspected.extend(beside);
    for backend in &inspected {
        if let Some(error) = backend.trouble() {
            let (status, backend) = (backend.verdict().as_str(), backend.backend);
            tracing::warn!(backend, status, error, "a backend is not healthy");
        }
    }
    inspected
}

/// How the service is. Without its only store it can do nothing; without DynamoDB, SQLite serves and queues; without the
/// bucket all but large bodies is served.
pub(super) fn overall(inspected: &[Inspected]) -> Verdict {
    let is_store = |backend: &&Inspected| backend.backend != dynamodb::S3;
    let is_alone = inspected.iter().filter(is_store).count() == 1;
    let verdict = |backend: &Inspected| {
        let is_needed = is_store(&backend) && (is_alone || backend.backend == Side::Sqlite.as_str());
        match backend.verdict() {
            Verdict::Unhealthy if !is_needed => Verdict::Degraded,
            verdict => verdict,
        }
    };
    let verdicts: Vec<Verdict> = inspected.iter().map(verdict).collect();
    let is_any = |wanted| verdicts.contains(&wanted);
    match () {
        () if is_any(Verdict::Unhealthy) => Verdict::Unhealthy,
        () if is_any(Verdict::Degraded) => Verdict::Degraded,
        () => Verdict::Healthy,
    }
}

async fn inspect(api: &Api, backend: &Backend) -> Inspected {
    let (begun, asked_at) = (Instant::now(), api.clock.now());
    let (health, holds) = match ask(api, backend).await {
        Ok(status) => (Ok(status.health.clone()), Some(status)),
        Err(error) => (Err(error), None),
    };
    Inspected { backend: backend.name, asked_at, took: begun.elapsed(), health, holds }
}

async fn inspect_bucket(api: &Api, bucket: &Bucket) -> Inspected {
    let (begun, asked_at, backend) = (Instant::now(), api.clock.now(), dynamodb::S3);
    let health = within(SHORT_PATIENCE, backend, bucket.health()).await;
    Inspected { backend, asked_at, took: begun.elapsed(), health, holds: None }
}

async fn ask(api: &Api, backend: &Backend) -> Result<Status> {
    let beside = api.routed.as_ref().filter(|_| backend.name == Side::Dynamodb.as_str());
    let Some(routed) = beside else {
        return within(PATIENCE, backend.name, status(backend)).await;
    };
    let circuit = &routed.parts().remote.circuit;
    let state = circuit.status();
    if state.state != CircuitState::Closed {
        // Somebody else finds out when it is back.
        return Err(Error::Unavailable { backend: backend.name, detail: state.error });
    }
    // Not through the circuit: that a look at it succeeds says nothing of the calls that fail.
    within(SHORT_PATIENCE, backend.name, status(backend)).await
}

async fn within<T>(
    patience: Duration,
    backend: &'static str,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} ms", patience.as_millis());
        Err(Error::Timeout { backend, detail })
    })
}

/// How the stores of results and of sessions are, as one: the worse of the two.
async fn status(backend: &Backend) -> Result<Status> {
    let (results, sessions) = futures_util::try_join!(backend.results.status(), backend.sessions.status())?;
    let health = match (results.health, sessions.health) {
        (Health::Down(reason), _) | (_, Health::Down(reason)) => Health::Down(reason),
        (Health::Degraded(reason), _) | (_, Health::Degraded(reason)) => Health::Degraded(reason),
        (Health::Healthy, Health::Healthy) => Health::Healthy,
    };
    Ok(Status { health, sessions: sessions.sessions, ..results })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(backend: &'static str, health: Option<Health>) -> Inspected {
        let gone = || Error::Unavailable { backend, detail: "gone".to_owned() };
        let (asked_at, health) = (Timestamp::from_secs(1), health.ok_or_else(gone));
        Inspected { backend, asked_at, took: Duration::ZERO, health, holds: None }
    }

    #[test]
    fn two_backends_can_do_without_dynamodb_and_one_cannot_do_without_itself() {
        use Verdict::{Degraded, Healthy, Unhealthy};
        let well = || Some(Health::Healthy);
        let ailing = || Some(Health::Degraded("slow".to_owned()));
        let down = || Some(Health::Down("full".to_owned()));
        for backend in ["sqlite", "dynamodb", "memory"] {
            for (health, verdict) in
                [(well(), Healthy), (ailing(), Degraded), (down(), Unhealthy), (None, Unhealthy)]
            {
                assert_eq!(overall(&[inspected(backend, health)]), verdict, "{backend} alone");
            }
        }
        for (sqlite, dynamodb, verdict) in [
            (well(), well(), Healthy),
            (well(), ailing(), Degraded),
            (well(), down(), Degraded),
            (well(), None, Degraded),
            (ailing(), well(), Degraded),
            (down(), well(), Unhealthy),
            (None, None, Unhealthy),
        ] {
            let both = [inspected("sqlite", sqlite), inspected("dynamodb", dynamodb)];
            assert_eq!(overall(&both), verdict, "{both:?}");
        }
        for bucket in [well, down, || None] {
            let verdict = if bucket() == well() { Healthy } else { Degraded };
            let all = [inspected("dynamodb", well()), inspected("s3", bucket())];
            assert_eq!(overall(&all), verdict, "{all:?}");
            let all = [inspected("dynamodb", None), inspected("s3", bucket())];
            assert_eq!(overall(&all), Unhealthy, "a bucket is no store: {all:?}");
        }
    }
}
