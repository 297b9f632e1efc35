//! Asks each backend how it is, and says what that means for the service.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::state::{Api, Backend};
use crate::domain::Timestamp;
use crate::domain::routing::Side;
use crate::store::circuit::CircuitState;
use crate::store::{Error, Health, Result, Status};

/// A backend that has not answered by then is down.
const PATIENCE: Duration = Duration::from_secs(2);

/// DynamoDB beside SQLite is waited for no longer than this: the service can do without.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// What a backend says about itself, or why it says nothing.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) backend: &'static str,
    /// When it was asked.
    pub(super) asked_at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    pub(super) answer: Result<Status>,
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
        match self.answer.as_ref().map(|status| &status.health) {
            Ok(Health::Healthy) => Verdict::Healthy,
            Ok(Health::Degraded(_)) => Verdict::Degraded,
            Ok(Health::Down(_)) | Err(_) => Verdict::Unhealthy,
        }
    }

    /// What is wrong, in words that are for the log and for operators: they may name paths.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.answer {
            Ok(Status { health: Health::Healthy, .. }) => None,
            Ok(Status { health: Health::Degraded(reason) | Health::Down(reason), .. }) => {
                Some(reason.clone())
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Asks every backend, all at once.
pub(super) async fn backends(api: &Api) -> Vec<Inspected> {
    let inspected = join_all(api.backends.iter().map(|backend| inspect(api, backend))).await;
    for backend in &inspected {
        if let Some(error) = backend.trouble() {
            let (status, backend) = (backend.verdict().as_str(), backend.backend);
            tracing::warn!(backend, status, error, "a backend is not healthy");
        }
    }
    inspected
}

/// How the service is. Without its only backend it can do nothing; without DynamoDB, SQLite serves and queues.
pub(super) fn overall(inspected: &[Inspected]) -> Verdict {
    let verdict = |backend: &Inspected| {
        let is_needed = inspected.len() == 1 || backend.backend == Side::Sqlite.as_str();
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
    let answer = ask(api, backend).await;
    Inspected { backend: backend.name, asked_at, took: begun.elapsed(), answer }
}

async fn ask(api: &Api, backend: &Backend) -> Result<Status> {
    let beside = api.routed.as_ref().filter(|_| backend.name == Side::Dynamodb.as_str());
    let Some(routed) = beside else {
        return tokio::time::timeout(PATIENCE, status(backend)).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {} s", PATIENCE.as_secs());
            Err(Error::Timeout { backend: backend.name, detail })
        });
    };
    let circuit = &routed.parts().remote.circuit;
    let state = circuit.status();
    if state.state != CircuitState::Closed {
        // Somebody else finds out when it is back.
        return Err(Error::Unavailable { backend: backend.name, detail: state.error });
    }
    // Not through the circuit: that a look at it succeeds says nothing of the calls that fail.
    tokio::time::timeout(SHORT_PATIENCE, status(backend)).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} ms", SHORT_PATIENCE.as_millis());
        Err(Error::Timeout { backend: backend.name, detail })
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
        let status = |health| Status {
            backend,
            health,
            entries: 0,
            stored_bytes: None,
            raw_bytes: None,
            sessions: 0,
            size_bytes: 0,
            limit_bytes: None,
        };
        let gone = || Error::Unavailable { backend, detail: "gone".to_owned() };
        let answer = health.map(status).ok_or_else(gone);
        Inspected { backend, asked_at: Timestamp::from_secs(1), took: Duration::ZERO, answer }
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
    }
}
