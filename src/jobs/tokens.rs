//! Reads the tokens again when their file has changed: a revoked token is refused within a second.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::{Reload, Watched};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the file once.
pub fn run_once(tokens: &Watched) {
    match tokens.reload_if_changed() {
        Ok(Reload::Reloaded { tokens }) => tracing::info!(tokens, "the tokens were read again"),
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "the tokens cannot be read; the ones before stay valid"),
    }
}

/// Repeats [`run_once`] until `stop` is cancelled.
pub async fn run(tokens: Arc<Watched>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        run_once(&tokens);
    }
}
