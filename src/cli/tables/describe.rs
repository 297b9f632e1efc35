//! `tables describe`: everything that the service tells about the tables.

use std::fmt::Display;

use indicatif::{HumanBytes, HumanCount};

use super::refusal;
use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::Output;
use crate::store::dynamodb::Tables;
use crate::store::dynamodb::tables::{Billing, Found, IndexDescription, TableDescription, Told};

/// Prints both tables.
pub(super) async fn run(tables: &Tables, output: Output) -> Outcome {
    let all = tables.describe().await.map_err(|error| refusal(&error))?;
    output.answer(&all, || all.iter().map(text).collect::<Vec<_>>().join("\n\n"))?;
    Ok(if all.iter().all(|table| table.found.is_some()) { Exit::Done } else { Exit::NotFound })
}

fn text(table: &TableDescription) -> String {
    let title = format!("{} ({})", table.name, table.table.as_str());
    match &table.found {
        None => format!("{title}\n  missing: make it with `crawlcache tables create`"),
        Some(found) => format!("{title}\n{}", lines(found).join("\n")),
    }
}

fn lines(found: &Found) -> Vec<String> {
    let line = |name: &str, value: &dyn Display| format!("  {name:<12}  {value}");
    let size = |items, bytes| format!("{} items, {}", HumanCount(items), HumanBytes(bytes));
    let adopted = if found.is_adopted { " (made by Wallcrawler, used as it is)" } else { "" };
    let on_off = |on: &bool| if *on { "on" } else { "off" }.to_owned();
    let mut lines = vec![
        line("status", &found.status),
        line("key", &format!("{}{adopted}", found.keys)),
        line("holds", &size(found.items, found.size_bytes)),
        line(
            "billing",
            &match found.billing {
                Billing::OnDemand => "on demand".to_owned(),
                Billing::Provisioned { read_units, write_units } => {
                    format!("provisioned, {read_units} read and {write_units} write units a second")
                }
            },
        ),
    ];
    let index = |index: &IndexDescription| {
        let IndexDescription { name, status, keys, projection, items, size_bytes } = index;
        let size = size(*items, *size_bytes);
        line("index", &format!("{name}: {keys}, {projection}, {status}, {size}"))
    };
    lines.extend(found.indexes.iter().map(index));
    lines.push(line(
        "expiry",
        &told(&found.time_to_live, |ttl| match (&ttl.attribute, ttl.enabled) {
            (Some(attribute), true) => format!("by `{attribute}`"),
            _ => "off".to_owned(),
        }),
    ));
    lines.push(line("recovery", &told(&found.point_in_time_recovery, on_off)));
    lines.push(line("encryption", &found.encryption));
    lines.push(line("protection", &on_off(&found.deletion_protection)));
    let tags = told(&found.tags, |tags| {
        let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if tags.is_empty() { "none".to_owned() } else { tags.join(", ") }
    });
    lines.push(line("tags", &tags));
    lines.extend(found.arn.iter().map(|arn| line("arn", arn)));
    lines
}

fn told<T>(told: &Told<T>, text: impl Fn(&T) -> String) -> String {
    match told {
        Told::Known(value) => text(value),
        Told::Unknown(reason) => format!("unknown: {reason}"),
        Told::Unsupported => "not supported by this endpoint".to_owned(),
    }
}
