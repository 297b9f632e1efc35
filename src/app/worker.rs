//! Who does long work for the API: the runner of jobs, and the router for the evidence.

use async_trait::async_trait;

use crate::api::{NotStarted, Worker};
use crate::domain::gate::Coverage;
use crate::domain::routing::Percent;
use crate::domain::work::{Work, WorkStatus};
use crate::jobs::runner::{self, Runner};
use crate::store::Result;
use crate::store::routed::Routed;

/// How many keys are looked for in DynamoDB before it is said how many of all it has.
const SAMPLE: usize = 2000;

/// The work of a service over both stores.
#[derive(Debug)]
pub(super) struct LongWork {
    pub(super) runner: Runner,
    pub(super) routed: Routed,
}

impl From<runner::NotStarted> for NotStarted {
    fn from(error: runner::NotStarted) -> Self {
        match error {
            runner::NotStarted::Busy { running } => Self::Busy { running },
            runner::NotStarted::Invalid(detail) => Self::Invalid(detail),
            runner::NotStarted::Store(error) => Self::Store(error),
        }
    }
}

#[async_trait]
impl Worker for LongWork {
    async fn start(&self, work: Work) -> std::result::Result<WorkStatus, NotStarted> {
        Ok(self.runner.start(work).await?)
    }

    async fn list(&self) -> Result<Vec<WorkStatus>> {
        Ok(self.runner.list())
    }

    async fn get(&self, id: &str) -> Result<Option<WorkStatus>> {
        Ok(self.runner.get(id))
    }

    async fn cancel(&self, id: &str) -> Result<Option<WorkStatus>> {
        Ok(self.runner.cancel(id).await)
    }

    async fn coverage(&self, from: Percent, to: Percent) -> Result<Coverage> {
        let sampled = self.routed.coverage(from, to, SAMPLE).await?;
        Ok(Coverage { keys: sampled.checked, covered: sampled.present })
    }
}
