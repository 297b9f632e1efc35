//! `clock`: whether a service believes its clock where it removes what has expired.

use reqwest::Method;
use serde_json::Value;

use super::Global;
use super::client::{Service, ServiceArgs, call};
use super::exit::{Exit, Outcome};

/// What to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Believe the clock as it is: what has expired by it is removed
    Confirm,
}

/// Asks, or confirms.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let clock = match args.command {
        None => call(&service, Method::GET, "/v1/admin/clock", &[], None).await?,
        Some(Command::Confirm) => call(&service, Method::POST, "/v1/admin/clock/confirm", &[], None).await?,
    };
    global.output().answer(&clock, || text(&clock))?;
    Ok(Exit::Done)
}

fn text(clock: &Value) -> String {
    let time = |name: &str| clock[name].as_str().unwrap_or("?").to_owned();
    match clock["believed_in_seconds"].as_u64() {
        None => format!("{}: believed", time("now")),
        Some(seconds) => format!(
            "{}: not believed for another {seconds} s; until then only what expires by {} is removed\n\
             If the clock is right: crawlcache clock confirm",
            time("now"),
            time("removes_by"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_doubt_is_told_with_what_to_do() {
        let doubted = serde_json::json!({"believed": false, "now": "2030-01-01T00:00:00Z",
            "removes_by": "2026-01-15T10:00:00Z", "believed_in_seconds": 7200});
        let expected = "\
2030-01-01T00:00:00Z: not believed for another 7200 s; until then only what expires by 2026-01-15T10:00:00Z is removed
If the clock is right: crawlcache clock confirm";
        assert_eq!(text(&doubted), expected);
        let believed = serde_json::json!({"believed": true, "now": "2026-01-15T10:00:00Z"});
        assert_eq!(text(&believed), "2026-01-15T10:00:00Z: believed");
    }
}
