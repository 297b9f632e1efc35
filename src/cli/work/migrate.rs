//! The arguments of `migrate`.

use super::Place;
use crate::cli::exit::{Failure, Outcome};
use crate::domain::Timestamp;
use crate::domain::routing::Side;
use crate::domain::work::MigrateOptions;

/// What to copy where, and how fast.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Where to; from the other side
    #[arg(long, default_value = "dynamodb", value_parser = ["dynamodb", "sqlite"])]
    to: String,

    /// Results that are read and compared at a time, 1 to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch_size: u16,

    /// Requests that are under way at once, 1 to 256
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// Say what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,

    /// Only these urls, or those that begin with one that ends in `*`; separated by commas, or given several times
    #[arg(long, value_name = "URLS")]
    urls: Vec<String>,

    /// Only what was stored or confirmed at or after this time: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,

    /// Capacity units of DynamoDB, read and write, that it may take in a second
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..))]
    units_per_second: Option<u32>,

    /// Begin anew, and not where a migration like this one was left
    #[arg(long)]
    restart: bool,

    /// Nobody else writes to DynamoDB meanwhile, with --offline: faster, since what it lacks goes there without
    /// conditions. What another service writes there at the same time could be lost
    #[arg(long, requires = "offline")]
    exclusive: bool,

    #[command(flatten)]
    place: Place,
}

impl Args {
    /// What they come to.
    pub(super) fn work(self) -> Outcome<(MigrateOptions, Place)> {
        let urls: Vec<String> = self.urls.iter().flat_map(|urls| split(urls)).collect();
        if urls.iter().any(String::is_empty) {
            return Err(Failure::usage("--urls names an empty url"));
        }
        let options = MigrateOptions {
            to: if self.to == Side::Sqlite.as_str() { Side::Sqlite } else { Side::Dynamodb },
            batch_size: self.batch_size.into(),
            concurrency: self.concurrency.into(),
            dry_run: self.dry_run,
            urls,
            since: self.since,
            units_per_second: self.units_per_second,
            restart: self.restart,
            exclusive: self.exclusive,
        };
        Ok((options, self.place))
    }
}

/// Urls between commas. A comma within a url is one that no scheme follows.
fn split(urls: &str) -> Vec<String> {
    let mut split: Vec<String> = Vec::new();
    for part in urls.split(',') {
        match split.last_mut() {
            Some(last) if !begins_with_scheme(part) => {
                last.push(',');
                last.push_str(part);
            }
            _ => split.push(part.trim_start().to_owned()),
        }
    }
    split
}

fn begins_with_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.trim_start().split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_separated_by_commas_that_a_scheme_follows() {
        for (urls, expected) in [
            ("https://a/", &["https://a/"][..]),
            ("https://a/*,https://b/, http://c/", &["https://a/*", "https://b/", "http://c/"]),
            ("https://a/1,2,3,https://b/?x=1,y", &["https://a/1,2,3", "https://b/?x=1,y"]),
        ] {
            assert_eq!(split(urls), expected, "{urls}");
        }
    }
}
