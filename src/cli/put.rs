//! `put`: stores a document for a page.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indicatif::HumanBytes;
use reqwest::Method;
use serde_json::Value;

use super::client::{Service, ServiceArgs, json, with_body};
use super::exit::{Exit, Failure, Outcome};
use super::files::open_source;
use super::{Global, output, span};

/// Documents beyond this size travel compressed: the service bounds what it receives.
const COMPRESS_ABOVE_BYTES: usize = 1 << 20;

/// The zstd level of those: the service compresses anew.
const ZSTD_LEVEL: i32 = 1;

/// What to store, and for how long.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The absolute url of the page
    #[arg(value_name = "URL")]
    page: String,

    /// The document, a JSON object, as it is or compressed with zstd or gzip; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,

    /// The variant to store it under
    #[arg(long)]
    variant: Option<String>,

    /// How long it stays fresh, in seconds or such as 30d; the service decides when missing
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    ttl: Option<u64>,

    #[command(flatten)]
    service: ServiceArgs,
}

/// Stores a document and says what came of it.
pub(super) async fn run(args: Args, global: &Global) -> Outcome {
    let service = Service::patient(&args.service)?;
    let (body, coding) = compressed(read(&args.file)?)?;
    let query =
        [("url", Some(args.page)), ("variant", args.variant), ("ttl", args.ttl.map(|ttl| ttl.to_string()))];
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(coding.map(|coding| ("content-encoding", coding)));
    let request = with_body(service.request(Method::PUT, "/v1/result", &query), &headers, body);
    let stored = json(service.send_again(request).await?).await?;
    global.output().answer(&stored, || sentence(&stored))?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> Outcome<Bytes> {
    if path == Path::new("-") && std::io::stdin().is_terminal() {
        output::note("reading the document from the terminal; Ctrl-D ends it");
    }
    let (mut source, size) = open_source(path)?;
    let mut bytes = Vec::with_capacity(size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0));
    source
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local(format!("{} cannot be read", path.display()), &error))?;
    Ok(bytes.into())
}

/// The body as it is sent, and its content coding.
fn compressed(bytes: Bytes) -> Outcome<(Bytes, Option<&'static str>)> {
    match bytes[..] {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok((bytes, Some("zstd"))),
        [0x1f, 0x8b, ..] => Ok((bytes, Some("gzip"))),
        _ if bytes.len() > COMPRESS_ABOVE_BYTES => {
            let smaller = zstd::bulk::compress(&bytes, ZSTD_LEVEL)
                .map_err(|error| Failure::local("the document cannot be compressed", &error))?;
            Ok((smaller.into(), Some("zstd")))
        }
        _ => Ok((bytes, None)),
    }
}

/// `created https://a/ (12.00 KiB, stored as 3.00 KiB), fresh until 2026-01-15T10:30:00.000Z`.
fn sentence(stored: &Value) -> String {
    let text = |name: &str| stored[name].as_str().unwrap_or("?");
    let size = |name: &str| HumanBytes(stored[name].as_u64().unwrap_or(0));
    let variant = match text("variant") {
        "" => String::new(),
        variant => format!(" variant {variant}"),
    };
    format!(
        "{} {}{variant} ({}, stored as {}), fresh until {}",
        text("outcome"),
        text("url"),
        size("raw_bytes"),
        size("stored_bytes"),
        text("expires_at")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_documents_travel_compressed() {
        let coding = |bytes: Vec<u8>| compressed(bytes.into()).expect("compressible").1;
        assert_eq!(coding(b"{}".to_vec()), None);
        assert_eq!(coding(Vec::new()), None);
        assert_eq!(coding(vec![b' '; COMPRESS_ABOVE_BYTES]), None);
        assert_eq!(coding(vec![b' '; COMPRESS_ABOVE_BYTES + 1]), Some("zstd"));
        assert_eq!(coding(zstd::bulk::compress(b"{}", 3).expect("compressed")), Some("zstd"));
        assert_eq!(coding(vec![0x1f, 0x8b, 8]), Some("gzip"));
        let (body, _) = compressed(vec![b' '; 3 << 20].into()).expect("compressible");
        assert_eq!(zstd::bulk::decompress(&body, 4 << 20).expect("zstd"), vec![b' '; 3 << 20]);
    }

    #[test]
    fn says_what_was_stored() {
        let stored = serde_json::json!({
            "outcome": "created", "url": "https://a/", "variant": "v", "raw_bytes": 2048, "stored_bytes": 100,
            "expires_at": "2026-01-15T10:30:00.000Z"
        });
        assert_eq!(
            sentence(&stored),
            "created https://a/ variant v (2.00 KiB, stored as 100 B), fresh until 2026-01-15T10:30:00.000Z"
        );
    }
}
