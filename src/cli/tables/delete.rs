//! `tables delete`: deletes tables, once it is told that this is meant.

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use super::refusal;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{Output, note};
use crate::store::dynamodb::tables::TableDescription;
use crate::store::dynamodb::{Table, Tables};

/// Which ones.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Delete only this table
    #[arg(long, value_name = "results|sessions", value_parser = table)]
    only: Option<Table>,

    /// Yes, delete them with everything in them
    #[arg(long)]
    yes: bool,
}

fn table(text: &str) -> Result<Table, String> {
    let found = Table::ALL.into_iter().find(|table| table.as_str() == text);
    found.ok_or_else(|| "give results or sessions".to_owned())
}

/// Deletes what is there. Nothing is deleted while one of them is protected.
pub(super) async fn run(args: &Args, tables: &Tables, output: Output) -> Outcome {
    let mut all = tables.describe().await.map_err(|error| refusal(&error))?;
    all.retain(|table| args.only.is_none_or(|only| only == table.table));
    if !args.yes {
        return Err(unconfirmed(&all));
    }
    let is_protected =
        |table: &&TableDescription| table.found.as_ref().is_some_and(|found| found.deletion_protection);
    if let Some(table) = all.iter().find(is_protected) {
        let name = &table.name;
        let detail = format!(
            "{name} is protected from deletion; lift that first with `aws dynamodb update-table --table-name {name} \
             --no-deletion-protection-enabled`"
        );
        return Err(Failure::new(Exit::Failed, "protected", detail));
    }
    let (mut report, mut failed) = (Vec::new(), false);
    for table in &all {
        let (word, error) = match tables.delete(table.table).await {
            Ok(true) => ("deleted", None),
            Ok(false) => ("absent", None),
            Err(error) => ("failed", Some(error.to_string())),
        };
        failed |= error.is_some();
        if let Some(error) = error.as_ref().filter(|_| !output.is_json()) {
            note(error);
        }
        report.push(json!({ "table": table.name, "outcome": word, "error": error }));
    }
    output.answer(&report, || {
        let line = |entry: &serde_json::Value| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{:<7}  {}", text("outcome"), text("table"))
        };
        report.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn unconfirmed(all: &[TableDescription]) -> Failure {
    let text = |table: &TableDescription| {
        let found = table.found.as_ref()?;
        let (items, bytes) = (HumanCount(found.items), HumanBytes(found.size_bytes));
        Some(format!("{} (about {items} items, {bytes})", table.name))
    };
    let there: Vec<String> = all.iter().filter_map(text).collect();
    if there.is_empty() {
        return Failure::usage("there is no such table; --yes would delete nothing");
    }
    Failure::usage(format!("with --yes this deletes for ever: {}", there.join(", ")))
}
