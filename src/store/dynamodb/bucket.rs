//! The bucket for large bodies, as a backend of its own: a circuit that is not the table's, and how it is.

use std::sync::Arc;
use std::time::Duration;

use super::failure::{Failure, Kind};
use super::{Aws, S3};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::circuit::{Circuit, CircuitState, CircuitStatus};
use crate::store::{Error, Health, Result};

/// What is asked for to see how the bucket is: nothing is named so.
const PROBE: &str = "status-probe";

/// The bucket. Clones share it.
#[derive(Clone, Debug)]
pub struct Bucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    aws: Aws,
    name: String,
    prefix: String,
    circuit: Circuit,
    /// How long what is asked of it may take: two requests, each with all its tries.
    patience: Duration,
}

impl Bucket {
    /// The bucket of a configuration, where the connection has one.
    pub(super) fn of(aws: &Aws, config: &Config, metrics: &Metrics) -> Option<Self> {
        aws.s3()?;
        let (routing, s3) = (&config.routing, &config.s3);
        metrics.backend_up.with_label_values(&[S3]);
        for reason in Error::REASONS {
            metrics.backend_errors.with_label_values(&[S3, reason]);
        }
        Some(Self(Arc::new(Inner {
            aws: aws.clone(),
            name: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            circuit: Circuit::new(S3, routing.circuit_failures, routing.circuit_pause(), metrics),
            patience: s3.operation_timeout() * 2,
        })))
    }

    /// Asks it something, unless it is left alone.
    pub(super) async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.0.circuit.run(self.0.patience, call).await
    }

    /// A failure of a request to it, with its name.
    pub(super) fn error(&self, mut failure: Failure) -> Error {
        if failure.kind == Kind::MissingBucket {
            failure.detail = format!("{} of s3.bucket is not there ({})", self.0.name, failure.detail);
        }
        failure.into()
    }

    /// Its circuit, as it is now.
    pub fn circuit(&self) -> CircuitStatus {
        self.0.circuit.status()
    }

    /// How it is. As long as all is well this asks nothing of it, and costs nothing.
    ///
    /// # Errors
    /// Why it serves nothing.
    pub async fn health(&self) -> Result<Health> {
        let CircuitStatus { state, failures, error } = self.circuit();
        match state {
            CircuitState::Closed if failures == 0 => {}
            // Not through the circuit: that it can be looked at says nothing of the calls that fail.
            CircuitState::Closed => self.look().await?,
            _ if self.0.circuit.is_open() => return Err(Error::Unavailable { backend: S3, detail: error }),
            // There may be no other traffic that would find out.
            _ => self.ask(self.look()).await?,
        }
        Ok(Health::Healthy)
    }

    /// Asks for an object that is not there: only the answer to a `GET` tells a missing object from a missing bucket.
    async fn look(&self) -> Result<()> {
        let Some(client) = self.0.aws.s3() else { return Ok(()) };
        let key = format!("{}{PROBE}", self.0.prefix);
        let request = client.get_object().bucket(&self.0.name).key(key);
        match self.0.aws.call_s3(Box::pin(request.send())).await {
            Err(failure) if failure.kind != Kind::MissingObject => Err(self.error(failure)),
            _ => Ok(()),
        }
    }
}
