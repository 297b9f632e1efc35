//! Counts and times what a store does.

mod leases;

pub use leases::MeteredLeases;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use prometheus::{Histogram, IntCounterVec};

use super::{
    Condition, DeleteOutcome, Error, Found, GetOptions, Hit, ListQuery, Look, Page, Placed, Put, PutOutcome,
    PutSession, Resealed, Result, ResultStore, Seen, SessionCondition, SessionCursor, SessionDeleteOutcome,
    SessionPage, SessionPutOutcome, SessionQuery, SessionStore, Status,
};
use crate::domain::session::{SessionId, SessionRecord};
use crate::domain::{Key, Meta, Namespace, Version};
use crate::metrics::Metrics;

/// A store whose operations are counted and timed under a backend's name.
#[derive(Clone)]
pub struct Metered<S: ?Sized> {
    meter: Arc<Meter>,
    inner: Arc<S>,
}

struct Meter {
    account: Account,
    get: Timing,
    get_metas: Timing,
    put: Timing,
    delete: Timing,
    list: Timing,
    status: Timing,
}

/// The errors of one backend.
struct Account {
    backend: &'static str,
    errors: IntCounterVec,
}

/// The histograms of one operation, by what it came to.
struct Timing {
    ok: Histogram,
    error: Histogram,
    /// Nobody waited for its end.
    abandoned: Histogram,
}

impl Timing {
    fn new(metrics: &Metrics, backend: &str, operation: &str) -> Self {
        let histogram =
            |outcome| metrics.backend_operation_duration.with_label_values(&[backend, operation, outcome]);
        Self { ok: histogram("ok"), error: histogram("error"), abandoned: histogram("abandoned") }
    }
}

/// Times an operation, even one that is dropped before its end.
struct Watch<'t> {
    timing: &'t Timing,
    begun: Instant,
    has_ended: bool,
}

impl Watch<'_> {
    fn end(mut self, histogram: &Histogram) {
        self.has_ended = true;
        histogram.observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.timing.abandoned.observe(self.begun.elapsed().as_secs_f64());
        }
    }
}

impl Meter {
    fn new(metrics: &Metrics, backend: &'static str, prefix: &str, many: &str) -> Self {
        let timing = |operation: &str| Timing::new(metrics, backend, &format!("{prefix}{operation}"));
        Self {
            account: Account::new(metrics, backend),
            get: timing("get"),
            get_metas: timing(many),
            put: timing("put"),
            delete: timing("delete"),
            list: timing("list"),
            status: Timing::new(metrics, backend, "status"),
        }
    }
}

impl Account {
    fn new(metrics: &Metrics, backend: &'static str) -> Self {
        metrics.add_backend(backend, &Error::REASONS);
        Self { backend, errors: metrics.backend_errors.clone() }
    }

    async fn time<T>(&self, timing: &Timing, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let watch = Watch { timing, begun: Instant::now(), has_ended: false };
        let result = operation.await;
        match &result {
            Ok(_) => watch.end(&timing.ok),
            Err(error) => {
                watch.end(&timing.error);
                self.count(error);
            }
        }
        result
    }

    /// Counts an error: that of an operation, or of one thing among many that it was about.
    fn count(&self, error: &Error) {
        // Behind one store there may be another backend: a bucket behind a table.
        let backend = error.backend().unwrap_or(self.backend);
        self.errors.with_label_values(&[backend, error.reason()]).inc();
    }
}

impl Metered<dyn ResultStore> {
    /// Meters a store of results.
    pub fn results(inner: Arc<dyn ResultStore>, metrics: &Metrics, backend: &'static str) -> Self {
        Self { meter: Arc::new(Meter::new(metrics, backend, "", "get_metas")), inner }
    }
}

impl Metered<dyn SessionStore> {
    /// Meters a store of sessions.
    pub fn sessions(inner: Arc<dyn SessionStore>, metrics: &Metrics, backend: &'static str) -> Self {
        Self { meter: Arc::new(Meter::new(metrics, backend, "session_", "get_many")), inner }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ResultStore for Metered<dyn ResultStore> {
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>> {
        self.meter.account.time(&self.meter.get, self.inner.get(key, options)).await
    }

    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>> {
        self.meter.account.time(&self.meter.get_metas, self.inner.get_metas(keys)).await
    }

    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        self.meter.account.time(&self.meter.get, self.inner.look(key, options)).await
    }

    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        self.meter.account.time(&self.meter.get_metas, self.inner.look_metas(keys)).await
    }

    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        self.meter.account.time(&self.meter.get_metas, self.inner.survey(keys)).await
    }

    async fn put(&self, put: Put) -> Result<PutOutcome> {
        self.meter.account.time(&self.meter.put, self.inner.put(put)).await
    }

    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>> {
        self.meter.account.time(&self.meter.put, self.inner.put_newest(put)).await
    }

    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome> {
        self.meter.account.time(&self.meter.delete, self.inner.delete(key, version, condition)).await
    }

    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>> {
        self.meter.account.time(&self.meter.delete, self.inner.delete_newest(key, version, condition)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.meter.account.time(&self.meter.list, self.inner.list(query)).await
    }

    async fn status(&self) -> Result<Status> {
        self.meter.account.time(&self.meter.status, self.inner.status()).await
    }

    fn finds_variants(&self) -> bool {
        self.inner.finds_variants()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SessionStore for Metered<dyn SessionStore> {
    async fn get(&self, namespace: &Namespace, id: &SessionId) -> Result<Option<SessionRecord>> {
        self.meter.account.time(&self.meter.get, self.inner.get(namespace, id)).await
    }

    async fn get_many(&self, namespace: &Namespace, ids: &[SessionId]) -> Result<Vec<Found>> {
        let found =
            self.meter.account.time(&self.meter.get_metas, self.inner.get_many(namespace, ids)).await?;
        found
            .iter()
            .filter_map(|found| found.as_ref().err())
            .for_each(|error| self.meter.account.count(error));
        Ok(found)
    }

    async fn put(&self, put: PutSession) -> Result<SessionPutOutcome> {
        self.meter.account.time(&self.meter.put, self.inner.put(put)).await
    }

    async fn delete(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        condition: SessionCondition,
    ) -> Result<SessionDeleteOutcome> {
        self.meter.account.time(&self.meter.delete, self.inner.delete(namespace, id, condition)).await
    }

    async fn list(&self, query: &SessionQuery) -> Result<SessionPage> {
        let page = self.meter.account.time(&self.meter.list, self.inner.list(query)).await?;
        page.unreadable.iter().for_each(|unreadable| self.meter.account.count(&unreadable.error));
        Ok(page)
    }

    async fn reseal(&self, after: Option<&SessionCursor>, limit: usize, dry_run: bool) -> Result<Resealed> {
        self.meter.account.time(&self.meter.list, self.inner.reseal(after, limit, dry_run)).await
    }

    async fn status(&self) -> Result<Status> {
        self.meter.account.time(&self.meter.status, self.inner.status()).await
    }
}

impl<S: ?Sized + fmt::Display> fmt::Display for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metered({})", &*self.inner)
    }
}

impl<S: ?Sized + fmt::Display> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
