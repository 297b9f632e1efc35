//! `healthcheck`: whether the service is ready, for container images.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::client::{Service, ServiceArgs};
use super::exit::{Exit, Failure, Outcome};

/// How long the service may take to say so.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which service.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Asks `/readyz`. Every failure has the same exit code: container runtimes know no other.
pub(super) async fn run(args: &Args) -> Outcome {
    let failed = |detail: String| Failure::new(Exit::Failed, "not_ready", detail);
    let service = Service::new(&args.service, None)?;
    let answer = service.execute(service.request(Method::GET, "/readyz", &[]));
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => Ok(Exit::Done),
        Ok(Ok(response)) => Err(failed(format!("the service answered {}", response.status()))),
        Ok(Err(failure)) => Err(failed(failure.detail().to_owned())),
        Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
