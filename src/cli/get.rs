//! `get`: prints what is cached for a page.

use std::io::IsTerminal;
use std::path::PathBuf;

use reqwest::{Method, Response};

use super::client::{Service, ServiceArgs, broken_off};
use super::exit::{Exit, Failure, Outcome};
use super::files::Sink;
use super::{Global, output, span};
use crate::domain::document::Coding;

/// Which result, and what counts as an answer.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The absolute url of the page
    #[arg(value_name = "URL")]
    page: String,

    /// The variant under which it was stored
    #[arg(long)]
    variant: Option<String>,

    /// Only these fields, with commas between; `head` stands for every small field
    #[arg(long, value_name = "NAMES")]
    fields: Option<String>,

    /// The greatest age that is acceptable, in seconds or such as 12h
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    max_age: Option<u64>,

    /// How long past its expiry a result is still acceptable, in seconds or such as 12h
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    stale: Option<u64>,

    /// Fields that must be there and not blank, with commas between
    #[arg(long, value_name = "NAMES")]
    require: Option<String>,

    /// Good results only, failed ones only, or the good one if it will do, else the failed one (the default)
    #[arg(long, value_parser = ["best", "good", "failed"])]
    quality: Option<String>,

    /// One field by itself, as what it is: text or a binary file instead of JSON
    #[arg(long, value_enum, conflicts_with_all = ["fields", "require"])]
    field: Option<Field>,

    /// Write to this file instead of standard output; it is there only once it is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    service: ServiceArgs,
}

/// The fields that can be had by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Field {
    Markdown,
    Html,
    Screenshot,
    Pdf,
}

impl Field {
    const fn is_binary(self) -> bool {
        matches!(self, Self::Screenshot | Self::Pdf)
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Markdown => "/v1/result/markdown",
            Self::Html => "/v1/result/html",
            Self::Screenshot => "/v1/result/screenshot",
            Self::Pdf => "/v1/result/pdf",
        }
    }
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    /// Byte for byte.
    Raw,
    /// Indented JSON.
    Indented,
    /// Text that cannot drive a terminal.
    Printable,
}

impl Args {
    fn show(&self, terminal: bool) -> Outcome<Show> {
        if !terminal || self.output.is_some() {
            return Ok(Show::Raw);
        }
        match self.field {
            None => Ok(Show::Indented),
            Some(field) if field.is_binary() => {
                Err(Failure::usage("this is a binary file and no text: name a file with -o FILE"))
            }
            Some(_) => Ok(Show::Printable),
        }
    }
}

/// Asks for a result and prints it.
pub(super) async fn run(args: Args, _global: &Global) -> Outcome {
    let show = args.show(std::io::stdout().is_terminal())?;
    let service = Service::patient(&args.service)?;
    let path = args.field.map_or("/v1/result", Field::path);
    let seconds = |span: Option<u64>| span.map(|seconds| seconds.to_string());
    let query = [
        ("url", Some(args.page)),
        ("variant", args.variant),
        ("fields", args.fields),
        ("max_age", seconds(args.max_age)),
        ("stale", seconds(args.stale)),
        ("require", args.require),
        ("quality", args.quality),
    ];
    let response = service.send_again(service.request(Method::GET, path, &query)).await?;
    match show {
        Show::Printable => {
            let bytes = response.bytes().await.map_err(broken_off)?;
            output::line(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))?;
        }
        Show::Indented => copy(response, Sink::indented()).await?,
        Show::Raw => copy(response, Sink::open(args.output.as_deref(), Coding::Identity)?).await?,
    }
    Ok(Exit::Done)
}

async fn copy(mut response: Response, mut to: Sink) -> Outcome<()> {
    while let Some(chunk) = response.chunk().await.map_err(broken_off)? {
        to.write(&chunk)?;
    }
    to.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Just {
        #[command(flatten)]
        args: Args,
    }

    fn show(arguments: &[&str], terminal: bool) -> Outcome<Show> {
        let arguments = ["get", "https://a/"].iter().chain(arguments);
        Just::try_parse_from(arguments).expect("valid").args.show(terminal)
    }

    #[test]
    fn only_a_terminal_changes_what_is_shown() {
        for arguments in [&[][..], &["--field", "html"], &["--field", "pdf"], &["-o", "x"]] {
            assert_eq!(show(arguments, false).expect("raw"), Show::Raw);
        }
        assert_eq!(show(&[], true).expect("indented"), Show::Indented);
        assert_eq!(show(&["--field", "markdown"], true).expect("text"), Show::Printable);
        assert_eq!(show(&["--field", "screenshot", "-o", "x"], true).expect("a file"), Show::Raw);
        assert_eq!(show(&["--field", "screenshot"], true).expect_err("binary").exit(), Exit::Usage);
    }
}
