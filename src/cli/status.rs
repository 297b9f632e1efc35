//! `status`: everything that an operator of both stores wants to see at once.

use std::fmt::{Display, Write as _};
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, HumanDuration};
use reqwest::Method;
use serde_json::Value;

use super::client::{Service, ServiceArgs, call};
use super::exit::{Exit, Failure, Outcome};
use super::{Global, output, routing, work};

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// Which service, and how often.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    /// Look again every two seconds, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Asks and prints, once or again and again.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    show(&ask(&service).await?, global, args.watch)?;
    if !args.watch {
        return Ok(Exit::Done);
    }
    loop {
        tokio::time::sleep(INTERVAL).await;
        match ask(&service).await {
            Ok(status) => show(&status, global, true)?,
            // A restart is no reason to look away.
            Err(failure) if failure.exit() == Exit::Unreachable => global.output().failure(&failure),
            Err(failure) => return Err(failure),
        }
    }
}

async fn ask(service: &Service) -> Outcome<Value> {
    call(service, Method::GET, "/v1/admin/status", &[], None).await
}

fn show(status: &Value, global: &Global, again: bool) -> Result<(), Failure> {
    if again && !global.json && std::io::stdout().is_terminal() {
        // To the upper left corner, and nothing below it.
        output::write(b"\x1b[H\x1b[J")?;
    }
    global.output().answer(status, || page(status))
}

fn page(status: &Value) -> String {
    let word = |name: &str| status[name].as_str().unwrap_or("?");
    let uptime = HumanDuration(Duration::from_secs(status["uptime_seconds"].as_u64().unwrap_or(0)));
    let mut lines = vec![
        line("status", format!("{}, version {}, up {uptime}", word("status"), word("version"))),
        line(
            "policy",
            format!("{}: {}", status["routing"]["generation"], routing::policy(&status["routing"])),
        ),
    ];
    lines.extend(routing::overruled(&status["routing"]).into_iter().map(|text| line("overruled", text)));
    let backends = status["backends"].as_object().into_iter().flatten();
    lines.extend(backends.map(|(name, state)| line(name, backend(state))));
    lines.push(line("circuit", circuit(&status["circuit"])));
    lines.push(line("recently", recent(&status["recent"])));
    lines.push(line("outbox", outbox(&status["outbox"])));
    let works = status["work"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(works.iter().map(|one| line("work", work::line(one))));
    lines.extend(traffic(status["traffic"].as_array().map(Vec::as_slice).unwrap_or_default()));
    lines.join("\n")
}

fn line(name: &str, value: impl Display) -> String {
    format!("{name:<14}  {value}")
}

fn backend(state: &Value) -> String {
    let took = state["response_time_ms"].as_f64().unwrap_or(0.0);
    let mut text = format!("{}, {took:.1} ms", state["status"].as_str().unwrap_or("?"));
    let holds = &state["holds"];
    if holds.is_object() {
        let number = |name: &str| holds[name].as_u64().unwrap_or(0);
        let (results, sessions) = (HumanCount(number("entries")), HumanCount(number("sessions")));
        let _ =
            write!(text, ": {results} results, {sessions} sessions, {}", HumanBytes(number("size_bytes")));
    }
    if let Some(error) = state["error"].as_str() {
        let _ = write!(text, ": {error}");
    }
    text
}

fn circuit(circuit: &Value) -> String {
    let state = circuit["state"].as_str().unwrap_or("?");
    match circuit["error"].as_str() {
        Some(error) if circuit["failures"] == 0 => format!("{state}: {error}"),
        Some(error) => format!("{state} after {} failures in a row: {error}", circuit["failures"]),
        None => state.to_owned(),
    }
}

fn recent(recent: &Value) -> String {
    let (operations, seconds) = (recent["operations"].as_u64().unwrap_or(0), &recent["seconds"]);
    let seconds = seconds.as_f64().unwrap_or(0.0);
    let mut text = format!("DynamoDB did {} operations in {seconds:.0} s", HumanCount(operations));
    if let Some(rate) = recent["error_rate"].as_f64() {
        let _ = write!(text, ", {:.3} % failed", rate * 100.0);
    }
    if let Some(p99) = recent["p99_seconds"].as_f64() {
        let _ = write!(text, ", 99 of 100 within {:.1} ms", p99 * 1000.0);
    }
    if let Some(differences @ 1..) = recent["differences"].as_u64() {
        let _ = write!(text, ", {} of {} compared reads differ", HumanCount(differences), recent["compared"]);
    }
    text
}

fn outbox(outbox: &Value) -> String {
    let number = |name: &str| outbox[name].as_u64().unwrap_or(0);
    let mut text = match number("queued") {
        0 => "nothing waits".to_owned(),
        queued => {
            let oldest = outbox["oldest_seconds"].as_f64().unwrap_or(0.0);
            format!("{} wait, the oldest for {oldest:.1} s", HumanCount(queued))
        }
    };
    if let parked @ 1.. = number("parked") {
        let _ = write!(text, ", {} parked: see `crawlcache outbox list --parked`", HumanCount(parked));
    }
    text
}

/// A line an operation: who answered it, and why it was them.
fn traffic(all: &[Value]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for one in all {
        let word = |name: &str| one[name].as_str().unwrap_or("?");
        let share = one["share"].as_f64().unwrap_or(0.0) * 100.0;
        let text = format!("{share:.1} % {} ({})", word("backend"), word("reason"));
        match lines.last_mut() {
            Some((operation, shares)) if operation == word("operation") => shares.push(text),
            _ => lines.push((word("operation").to_owned(), vec![text])),
        }
    }
    lines.into_iter().map(|(operation, shares)| line(&operation, shares.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_people() {
        let status = serde_json::json!({
            "status": "degraded", "version": "0.1.0", "uptime_seconds": 7200,
            "routing": {"generation": 3, "effective_percent": 25, "pinned_by": null, "policy": {"percent": 25,
                "force": "none", "dual_write": true, "shadow_read": 0, "on_owner_failure": "queue"},
                "overruled": [{"member": "percent", "configured": 50, "in_force": 25,
                    "said_by": "environment DYNAMODB_MIGRATION_PCT"}]},
            "backends": {
                "dynamodb": {"status": "unhealthy", "response_time_ms": 0.04, "holds": null, "error": "gone"},
                "sqlite": {"status": "healthy", "response_time_ms": 0.41, "error": null,
                    "holds": {"entries": 12345, "sessions": 2, "size_bytes": 1_048_576}},
            },
            "circuit": {"state": "open", "failures": 5, "error": "gone"},
            "recent": {"seconds": 600.4, "operations": 2000, "error_rate": 0.0025, "p99_seconds": 0.012,
                "compared": 40, "differences": 1},
            "outbox": {"queued": 1200, "parked": 1, "oldest_seconds": 7.25, "limit": null},
            "work": [{"id": "migrate-1", "state": "running", "done": 5, "total": 10, "rate": 0, "eta_seconds": null}],
            "traffic": [
                {"operation": "get", "backend": "sqlite", "reason": "owner", "count": 3, "share": 0.75},
                {"operation": "get", "backend": "dynamodb", "reason": "owner", "count": 1, "share": 0.25},
                {"operation": "put", "backend": "sqlite", "reason": "queued", "count": 1, "share": 1.0},
            ],
        });
        let expected = "\
status          degraded, version 0.1.0, up 2 hours
policy          3: 25 % of the keys in DynamoDB, dual writes, queue when DynamoDB fails
overruled       percent = 50 (environment DYNAMODB_MIGRATION_PCT): 25 was set while it ran, and counts
dynamodb        unhealthy, 0.0 ms: gone
sqlite          healthy, 0.4 ms: 12,345 results, 2 sessions, 1.00 MiB
circuit         open after 5 failures in a row: gone
recently        DynamoDB did 2,000 operations in 600 s, 0.250 % failed, 99 of 100 within 12.0 ms, 1 of 40 compared reads differ
outbox          1,200 wait, the oldest for 7.2 s, 1 parked: see `crawlcache outbox list --parked`
work            migrate-1 running, 5 of about 10
get             75.0 % sqlite (owner), 25.0 % dynamodb (owner)
put             100.0 % sqlite (queued)";
        assert_eq!(page(&status), expected);
        assert!(page(&serde_json::json!({})).contains("nothing waits"));
    }
}
