//! `gate`: whether more keys may go to DynamoDB, with the evidence.

use reqwest::Method;
use serde_json::Value;

use super::Global;
use super::client::{Service, ServiceArgs, call};
use super::exit::{Exit, Outcome};
use crate::domain::routing::Percent;

/// How far.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    /// The share of keys that DynamoDB would own
    #[arg(long, value_name = "PERCENT", value_parser = Percent::parse)]
    to: Percent,
}

/// Asks, and says no with exit code 1.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let query = [("to", Some(args.to.to_string()))];
    let report = call(&service, Method::GET, "/v1/admin/gate", &query, None).await?;
    global.output().answer(&report, || text(&report))?;
    Ok(if report["pass"] == true { Exit::Done } else { Exit::Failed })
}

fn text(report: &Value) -> String {
    let checks = report["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |check: &Value| {
        let word = |name: &str| check[name].as_str().unwrap_or("?").to_owned();
        let verdict = if check["pass"] == true { "yes" } else { "no" };
        format!("{verdict:<3}  {:<13}  {}", word("name"), word("detail"))
    };
    let mut lines: Vec<String> = checks.iter().map(line).collect();
    let verdict = if report["pass"] == true { "yes" } else { "no" };
    lines.push(format!("from {} % to {} %: {verdict}", report["from"], report["to"]));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_last_word() {
        let report = serde_json::json!({"from": 0, "to": 12.5, "pass": false, "checks": [
            {"name": "circuit", "pass": true, "detail": "the circuit of DynamoDB is closed"},
            {"name": "outbox_parked", "pass": false, "detail": "DynamoDB refused 2 writes"},
        ]});
        let expected = "\
yes  circuit        the circuit of DynamoDB is closed
no   outbox_parked  DynamoDB refused 2 writes
from 0 % to 12.5 %: no";
        assert_eq!(text(&report), expected);
    }
}
