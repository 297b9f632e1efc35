//! `tables sweep`: deletes objects in the bucket that no item names any more.

use indicatif::{HumanBytes, HumanCount};

use super::{connect, refusal};
use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{Output, note};
use crate::cli::progress::Progress;
use crate::cli::{counted, span};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::dynamodb::tables::{Orphans, Sweep, Swept};

/// Which ones, and how fast.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,

    /// Leave younger objects alone; at least 25h, since writers rely on objects for a day
    #[arg(long, value_name = "SPAN", default_value = "2d", value_parser = age)]
    older_than: u64,

    /// How many read units a second the scan of the table may take
    #[arg(long, value_name = "UNITS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    read_units: u32,
}

/// A writer that finds its body in the bucket, less than a day old, names it without writing it again.
const LEAST_AGE_SECONDS: u64 = 25 * 3600;

fn age(text: &str) -> Result<u64, String> {
    let seconds = span::seconds(text)?;
    let refused = || "give at least 25h: writers rely on objects for a day".to_owned();
    (seconds >= LEAST_AGE_SECONDS).then_some(seconds).ok_or_else(refused)
}

/// Sweeps the bucket that the configuration names.
pub(super) async fn run(args: &Args, config: &Config, output: Output) -> Outcome {
    let Some(orphans) = Orphans::new(connect(config).await, &config.dynamodb, &config.s3) else {
        let text = "no bucket is configured (s3.bucket): parts of large bodies are items, which expire by themselves";
        output.answer(&Swept::default(), String::new)?;
        note(text);
        return Ok(Exit::Done);
    };
    let sweep = Sweep {
        now: Clock::system().now(),
        older_than_seconds: args.older_than,
        dry_run: args.dry_run,
        read_units: args.read_units,
    };
    let progress = Progress::items();
    let swept = orphans
        .sweep(&sweep, |swept| {
            progress.say(|| {
                let Swept { objects, items, deleted, .. } = swept;
                format!(
                    "{} objects, {} items, {} deleted",
                    HumanCount(*objects),
                    HumanCount(*items),
                    HumanCount(*deleted)
                )
            });
        })
        .await;
    drop(progress);
    let swept = swept.map_err(|error| refusal(&error))?;
    output.answer(&swept, || text(&swept, args.dry_run))?;
    Ok(if swept.failed > 0 { Exit::Failed } else { Exit::Done })
}

fn text(swept: &Swept, dry_run: bool) -> String {
    let Swept { objects, foreign, items, orphans, deleted, renewed, failed, .. } = *swept;
    let bytes = HumanBytes(swept.orphan_bytes);
    let found = format!(
        "{}, of which no item names {} ({bytes}); {} read for {:.1} read units",
        counted(objects, "object"),
        HumanCount(orphans),
        counted(items, "item"),
        swept.read_units,
    );
    let foreign = match foreign {
        0 => String::new(),
        foreign => format!("\n{} of other names left alone", counted(foreign, "object")),
    };
    let done = if dry_run {
        format!("\nwould delete {}", counted(orphans, "object"))
    } else {
        format!(
            "\n{} deleted, {} written again meanwhile, {} failed",
            HumanCount(deleted),
            HumanCount(renewed),
            HumanCount(failed)
        )
    };
    format!("{found}{foreign}{done}")
}
