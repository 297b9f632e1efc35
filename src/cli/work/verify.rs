//! The arguments of `verify`.

use super::Place;
use crate::domain::Timestamp;
use crate::domain::work::VerifyOptions;

/// What to compare, and what to do about it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The share of keys to compare, more than 0 to 1; which ones is the same each time
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    sample: f64,

    /// Compare bodies byte for byte, and not only their hashes, versions and times
    #[arg(long)]
    content: bool,

    /// Mend what differs: the newer one goes to the other side, with its own version and times
    #[arg(long)]
    repair: bool,

    /// Only what was stored or confirmed at or after this time: RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,

    /// Results that are compared at a time, 1 to 1000
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch_size: u16,

    #[command(flatten)]
    place: Place,
}

fn share(text: &str) -> Result<f64, String> {
    let refused = || "give a share of more than 0, up to 1, such as 0.1".to_owned();
    text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(refused)
}

impl Args {
    /// What they come to.
    pub(super) fn work(self) -> (VerifyOptions, Place) {
        let Self { sample, content, repair, since, batch_size, place } = self;
        (VerifyOptions { sample, content, repair, since, batch_size: batch_size.into() }, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert!(share("1").is_ok() && share("0.001").is_ok());
        for text in ["0", "1.1", "-1", "NaN", "10%", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
