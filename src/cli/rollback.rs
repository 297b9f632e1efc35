//! `rollback`: back to SQLite, or to fewer keys in DynamoDB, in one call.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Global;
use super::client::{Service, ServiceArgs, call};
use super::exit::{Exit, Outcome};
use super::routing::{changed, warn};
use crate::domain::routing::Percent;

/// How far back, and why.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    /// The share of keys that DynamoDB keeps; without it SQLite owns everything from now on
    #[arg(long, value_name = "PERCENT", value_parser = Percent::parse)]
    to: Option<Percent>,

    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Goes back.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let mut body = Map::new();
    if let Some(to) = args.to {
        body.insert("to".to_owned(), json!(to));
    }
    if let Some(reason) = args.reason {
        body.insert("reason".to_owned(), json!(reason));
    }
    let body = Value::Object(body);
    let change = call(&service, Method::POST, "/v1/admin/rollback", &[], Some(&body)).await?;
    global.output().answer(&change, || changed(&change))?;
    warn(&change, global);
    Ok(Exit::Done)
}
