//! Work that goes on beside requests: each job does its work in one function and repeats it in another.

mod insist;
mod migrate;
mod purse;
pub mod relay;
pub mod runner;
pub mod sample;
mod sides;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod tokens;
mod track;
mod verify;
mod window;

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use sides::Sides;

/// Starts background tasks and ends them together.
#[derive(Debug, Default)]
pub struct Supervisor {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Supervisor {
    /// Without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the tasks shall end.
    pub fn stop_signal(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a named task.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            tracing::debug!(task = name, "started");
            task.await;
            tracing::debug!(task = name, "ended");
        });
    }

    /// Tells all tasks to end and waits for them.
    pub async fn shut_down(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
