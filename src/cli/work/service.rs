//! Long work in a running service: begun, watched and cancelled over its admin API.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{Service, json, with_body};
use super::super::exit::{Exit, Failure, Outcome};
use super::super::output::note;
use super::super::progress::Progress;
use super::super::{Global, seconds_since};
use super::{Place, ended, show};
use crate::domain::work::{Work, WorkState, WorkStatus};

const PATH: &str = "/v1/admin/work";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// How long a service may be away, or interrupted, before nobody waits for it any more: a restart takes less.
const AWAY: Duration = Duration::from_mins(1);

/// Asks the service for it, and stays until it has ended. Told to stop, it leaves the work to the service.
pub(super) async fn run(work: Work, place: Place, global: &Global) -> Outcome {
    let begun = Instant::now();
    let service = Service::patient(&place.service)?;
    let status = match &place.watch {
        Some(id) => ask(&service, Method::GET, &format!("{PATH}/{id}")).await?,
        None => start(&service, &work).await?,
    };
    let id = status.id.clone();
    let progress = Progress::counted();
    show(&progress, &status);
    let watching = watch(&service, status, &progress);
    let last = tokio::select! {
        last = watching => last,
        told = tokio::signal::ctrl_c() => {
            drop(progress);
            told.map_err(|error| Failure::local("signals cannot be received", &error))?;
            let kind = work.kind();
            note(format!(
                "{id} goes on in the service: `crawlcache {kind} --watch {id}` watches it, `crawlcache work cancel {id}` \
                 stops it"
            ));
            return Ok(Exit::Done);
        }
    };
    drop(progress);
    ended(&last?, seconds_since(begun), global)
}

async fn start(service: &Service, work: &Work) -> Outcome<WorkStatus> {
    let body = serde_json::to_vec(work).map_err(|error| Failure::local("the request", &error))?;
    let request = service.request(Method::POST, PATH, &[]);
    let request = with_body(request, &[("content-type", "application/json")], Bytes::from(body));
    read(json(service.send(request).await?).await?)
}

async fn ask(service: &Service, method: Method, path: &str) -> Outcome<WorkStatus> {
    read(json(service.send(service.request(method, path, &[])).await?).await?)
}

fn read(value: Value) -> Outcome<WorkStatus> {
    serde_json::from_value(value)
        .map_err(|error| Failure::local("the answer is not that of crawlcache", &error))
}

/// Looks until it has ended. A service that is restarted goes on with a migration by itself.
async fn watch(service: &Service, mut status: WorkStatus, progress: &Progress) -> Outcome<WorkStatus> {
    let path = format!("{PATH}/{}", status.id);
    let mut seen = Instant::now();
    loop {
        match status.state {
            WorkState::Running => seen = Instant::now(),
            WorkState::Interrupted if matches!(status.work, Work::Migrate(_)) && seen.elapsed() < AWAY => {}
            _ => return Ok(status),
        }
        tokio::time::sleep(LOOK).await;
        match ask(service, Method::GET, &path).await {
            Ok(now) => {
                status = now;
                show(progress, &status);
            }
            Err(failure) if is_away(&failure) && seen.elapsed() < AWAY => {
                progress.say(|| "the service does not answer; asking again".to_owned());
                if status.state != WorkState::Running {
                    continue;
                }
                // Not seen meanwhile: whether it is under way shows when the service is back.
                status.state = WorkState::Interrupted;
            }
            Err(failure) => {
                let members = [("work".to_owned(), json!(status.id))];
                return Err(failure.with(members.into_iter().collect()));
            }
        }
    }
}

fn is_away(failure: &Failure) -> bool {
    failure.exit() == Exit::Unreachable || failure.detail().contains("broke off")
}
