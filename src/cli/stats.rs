//! `stats`: what a service holds and how it is used.

use std::fmt::Display;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, HumanDuration};
use reqwest::Method;
use serde_json::Value;

use super::Global;
use super::client::{Service, ServiceArgs, json};
use super::exit::{Exit, Outcome};

/// Which service.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Asks for the numbers and prints them.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let stats = json(service.send(service.request(Method::GET, "/v1/stats", &[])).await?).await?;
    global.output().answer(&stats, || table(&stats))?;
    Ok(Exit::Done)
}

fn table(stats: &Value) -> String {
    let number = |name: &str| stats[name].as_u64().unwrap_or(0);
    let text = |name: &str| stats[name].as_str().unwrap_or("?");
    let bytes = |name: &str| HumanBytes(number(name)).to_string();
    let limit = stats["limit_bytes"].as_u64().map(|limit| format!(", at most {}", HumanBytes(limit)));
    let uptime = HumanDuration(Duration::from_secs(number("uptime_seconds")));
    let lookups = stats["lookups"].as_object();
    let counts = lookups.into_iter().flatten().map(|(name, count)| (name, count.as_u64().unwrap_or(0)));
    let total: u64 = counts.clone().map(|(_, count)| count).sum();
    let ratio = stats["hit_ratio"].as_f64().map(|ratio| format!(", {:.1} % answered", ratio * 100.0));

    let documents = match stats["raw_bytes"] {
        Value::Null => "the store does not know".to_owned(),
        _ => format!("{}, stored as {}", bytes("raw_bytes"), bytes("stored_bytes")),
    };

    let mut lines = vec![
        line("version", format!("{}, up {uptime}", text("version"))),
        line("store", text("store")),
        line("results", HumanCount(number("entries"))),
        line("sessions", HumanCount(number("sessions"))),
        line("documents", documents),
        line("on disk", format!("{}{}", bytes("size_bytes"), limit.unwrap_or_default())),
        line("in memory", bytes("memory_bytes")),
        line("look-ups", format!("{}{}", HumanCount(total), ratio.unwrap_or_default())),
    ];
    lines.extend(
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| line(&format!("  {name}"), HumanCount(count))),
    );
    lines.join("\n")
}

fn line(name: &str, value: impl Display) -> String {
    format!("{name:<14}  {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people() {
        let stats = serde_json::json!({
            "version": "0.1.0", "uptime_seconds": 7200, "store": "sqlite x", "entries": 12345, "sessions": 0,
            "stored_bytes": 1024, "raw_bytes": 4096, "size_bytes": 1_048_576, "limit_bytes": 2_097_152, "memory_bytes": 0,
            "lookups": {"hit_memory": 3, "miss_absent": 1, "stale": 0}, "hit_ratio": 0.75
        });
        let expected = "\
version         0.1.0, up 2 hours
store           sqlite x
results         12,345
sessions        0
documents       4.00 KiB, stored as 1.00 KiB
on disk         1.00 MiB, at most 2.00 MiB
in memory       0 B
look-ups        4, 75.0 % answered
  hit_memory    3
  miss_absent   1";
        assert_eq!(table(&stats), expected);
        assert!(table(&serde_json::json!({})).contains("look-ups        0"));
    }
}
