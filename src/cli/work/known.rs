//! `work`: the migrations and verifications that a service does beside requests.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration};
use reqwest::Method;
use serde_json::Value;

use crate::cli::client::{Service, ServiceArgs, call};
use crate::cli::columns::columns;
use crate::cli::exit::{Exit, Outcome};
use crate::cli::{Global, output};

const PATH: &str = "/v1/admin/work";

/// What to do with it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all that is known, the latest first (the default)
    List,

    /// Show how far a piece of work is, and what it found
    Show {
        /// Its id, as `work list` shows it
        id: String,
    },

    /// Stop a piece of work; it can go on later
    Cancel {
        /// Its id, as `work list` shows it
        id: String,
    },
}

/// Asks the service.
pub(in crate::cli) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let output = global.output();
    let one = |method: Method, id: String| {
        let service = &service;
        // The id is one segment of the path, whatever is in it.
        let path = format!(
            "{PATH}/{}",
            percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC)
        );
        async move { call(service, method, &path, &[], None).await }
    };
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let list = call(&service, Method::GET, PATH, &[], None).await?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            if items.is_empty() && !output.is_json() {
                output::note("no migration or verification is known");
                return Ok(Exit::Done);
            }
            output.answer(&list, || table(&items))?;
        }
        Action::Show { id } => {
            let work = one(Method::GET, id).await?;
            output.answer(&work, || details(&work))?;
        }
        Action::Cancel { id } => {
            let work = one(Method::DELETE, id).await?;
            output.answer(&work, || line(&work))?;
        }
    }
    Ok(Exit::Done)
}

fn table(items: &[Value]) -> String {
    let row = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap_or("?").to_owned();
        [text("id"), text("state"), text("started_at"), progress(item), counts(item)]
    };
    columns(["ID", "STATE", "STARTED", "DONE", "OUTCOMES"], items.iter().map(row))
}

/// One piece of work on one line.
pub(in crate::cli) fn line(item: &Value) -> String {
    let word = |name: &str| item[name].as_str().unwrap_or("?");
    let mut text = format!("{} {}, {}", word("id"), word("state"), progress(item));
    let rate = item["rate"].as_f64().unwrap_or(0.0);
    if item["state"] == "running" && rate > 0.0 {
        let _ = write!(text, ", {rate:.0} a second");
    }
    if let Some(seconds) = item["eta_seconds"].as_u64() {
        let _ = write!(text, ", {} left", HumanDuration(Duration::from_secs(seconds)));
    }
    text
}

fn progress(item: &Value) -> String {
    let number = |name: &str| item[name].as_u64().unwrap_or(0);
    format!("{} of about {}", HumanCount(number("done")), HumanCount(number("total")))
}

fn counts(item: &Value) -> String {
    let counts = item["counts"].as_object().into_iter().flatten();
    let counts = counts.map(|(name, count)| format!("{} {name}", HumanCount(count.as_u64().unwrap_or(0))));
    counts.collect::<Vec<_>>().join(", ")
}

fn details(work: &Value) -> String {
    let mut lines = vec![line(work), counts(work)];
    lines.extend(work["error"].as_str().map(|error| format!("failed: {error}")));
    let findings = work["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(findings.iter().map(|finding| {
        let text = |name: &str| finding[name].as_str().unwrap_or("");
        let variant =
            if text("variant").is_empty() { String::new() } else { format!(" {}", text("variant")) };
        let detail = if text("detail").is_empty() { String::new() } else { format!(": {}", text("detail")) };
        format!("  {} {} {}{variant}{detail}", text("outcome"), text("kind"), text("name"))
    }));
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_told_in_a_line_and_in_full() {
        let work = serde_json::json!({
            "id": "verify-3", "kind": "verify", "state": "running", "started_at": "2026-01-15T10:30:00Z", "done": 1200,
            "total": 4000, "rate": 350.4, "eta_seconds": 8, "counts": {"equal": 1199, "different": 1}, "error": null,
            "findings": [{"kind": "result", "namespace": "default", "name": "https://a/", "variant": "m",
                "outcome": "different", "detail": "html"}],
        });
        let expected = "\
verify-3 running, 1,200 of about 4,000, 350 a second, 8 seconds left
1,199 equal, 1 different
  different result https://a/ m: html";
        assert_eq!(details(&work), expected);
        let listed = table(&[work]);
        assert!(listed.ends_with("1,200 of about 4,000  1,199 equal, 1 different"), "{listed}");
    }
}
