//! The sessions contract over both sides.
//!
//! Sessions change by compare-and-set, and only the owner can judge a condition: what SQLite has and DynamoDB does not
//! is brought there before DynamoDB judges, and the other way round. Writes of one session take turns in this process,
//! so that none is under way at one side while another is judged at the other, as when ownership moves in between.

mod known;
mod read;
mod settle;
#[cfg(test)]
mod tests;
mod turns;
mod write;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::Inner;
use super::remote::Patience;
use crate::domain::Namespace;
use crate::domain::session::{SessionId, SessionRecord};
use crate::store::{
    Error, Found, Health, PutSession, Resealed, Result, SessionCondition, SessionCursor,
    SessionDeleteOutcome, SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Status,
};

pub(super) use known::{admits, beats};
pub(super) use settle::settle;
pub(super) use turns::Turns;

/// The router of sessions. Clones share everything.
#[derive(Clone)]
pub struct RoutedSessions(Arc<Inner>);

impl RoutedSessions {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SessionStore for RoutedSessions {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        let found = self.0.read_sessions(namespace, std::slice::from_ref(id)).await?;
        found.into_iter().next().unwrap_or(Ok(None))
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        self.0.read_sessions(namespace, ids).await
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        self.0.put_session(put).await
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        self.0.delete_session(namespace, id, condition).await
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        self.0.list_sessions(query).await
    }

    async fn reseal(&self, _: Option<&SessionCursor>, _: usize, _: bool) -> Result<Resealed> {
        let detail = "each side seals its own sessions".to_owned();
        Err(Error::Unsupported { backend: "routed", detail })
    }

    /// SQLite's, and degraded while DynamoDB does not answer or is not healthy.
    async fn status(&self) -> Result<Status> {
        let mut status = self.0.local_sessions.status().await?;
        let there = self.0.remote.ask(Patience::Other, self.0.remote.sessions.status()).await;
        if status.health == Health::Healthy {
            status.health = match there.map(|there| there.health) {
                Ok(Health::Healthy) => Health::Healthy,
                Ok(Health::Degraded(reason) | Health::Down(reason)) => {
                    Health::Degraded(format!("DynamoDB: {reason}"))
                }
                Err(error) => Health::Degraded(format!("DynamoDB cannot be reached: {error}")),
            };
        }
        Ok(status)
    }
}

impl fmt::Display for RoutedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Routed({}, {})", self.0.remote.sessions, self.0.local_sessions)
    }
}

impl fmt::Debug for RoutedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
