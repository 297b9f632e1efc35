//! `outbox`: the writes that DynamoDB has yet to get, and those that it refuses.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Service, ServiceArgs, call};
use super::columns::columns;
use super::exit::{Exit, Outcome};
use super::{Global, counted, output};

const PATH: &str = "/v1/admin/outbox";

/// What to do with them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the writes that wait, oldest first (the default)
    List {
        /// Only those that DynamoDB refused for their own sake
        #[arg(long)]
        parked: bool,

        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },

    /// Try parked writes again: all, or one
    Retry {
        /// The place of the one, as `outbox list --parked` shows it
        seq: Option<i64>,
    },

    /// Give up a parked write: DynamoDB will not be told of it
    Discard {
        /// Its place, as `outbox list --parked` shows it
        seq: i64,
    },
}

/// Asks the service.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let output = global.output();
    match args.action.unwrap_or(Action::List { parked: false, limit: 100 }) {
        Action::List { parked, limit } => {
            let query = [("parked", parked.then(|| "true".to_owned())), ("limit", Some(limit.to_string()))];
            let page = call(&service, Method::GET, PATH, &query, None).await?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            if items.is_empty() && !output.is_json() {
                output::note(if parked { "nothing is parked" } else { "nothing waits for DynamoDB" });
                return Ok(Exit::Done);
            }
            output.answer(&page, || table(&items))?;
            if page["next_cursor"].is_string() && !output.is_json() {
                output::note(format!("there are more than these {}", items.len()));
            }
        }
        Action::Retry { seq } => {
            let body = seq.map_or_else(|| json!({}), |seq| json!({ "seq": seq }));
            let report = call(&service, Method::POST, "/v1/admin/outbox/retry", &[], Some(&body)).await?;
            output.answer(&report, || {
                format!("{} to be tried again", counted(report["retried"].as_u64().unwrap_or(0), "write"))
            })?;
        }
        Action::Discard { seq } => {
            service.send(service.request(Method::DELETE, &format!("{PATH}/{seq}"), &[])).await?;
            output.answer(&json!({ "discarded": seq }), || format!("write {seq} was given up"))?;
        }
    }
    Ok(Exit::Done)
}

fn table(items: &[Value]) -> String {
    let row = |item: &Value| {
        let text = |name: &str| match &item[name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let name = if item["kind"] == "session" { text("session_id") } else { text("url") };
        let (age, kind) = (format!("{} s", item["age_seconds"]), text("kind"));
        [text("seq"), kind, text("namespace"), name, text("variant"), age, text("attempts"), text("error")]
    };
    columns(
        ["SEQ", "KIND", "NAMESPACE", "NAME", "VARIANT", "AGE", "ATTEMPTS", "ERROR"],
        items.iter().map(row),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_results_and_sessions() {
        let items = json!([
            {"seq": 1, "kind": "result", "namespace": "default", "url": "https://a/", "variant": "", "session_id": null,
             "age_seconds": 5, "attempts": 2, "error": "too large"},
            {"seq": 12, "kind": "session", "namespace": "default", "url": null, "variant": null, "session_id": "s-1",
             "age_seconds": 0, "attempts": 0, "error": null},
        ]);
        let expected = "\
SEQ  KIND     NAMESPACE  NAME        VARIANT  AGE  ATTEMPTS  ERROR
1    result   default    https://a/           5 s  2         too large
12   session  default    s-1                  0 s  0";
        assert_eq!(table(items.as_array().expect("a list")), expected);
    }
}
