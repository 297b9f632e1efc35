//! Writes crawl results into a folder, one file each, for the load programs: of about one size, or a page each.

#[path = "../benches/corpus/mod.rs"]
mod corpus;

use std::path::PathBuf;

use clap::Parser;
use crawlcache::domain::document::encode;

#[derive(Parser)]
struct Arguments {
    /// Where to put the files.
    folder: PathBuf,
    /// How many.
    #[arg(long, default_value_t = 64)]
    count: usize,
    /// Their size in bytes.
    #[arg(long, default_value_t = 150_000)]
    bytes: usize,
    /// Whether the size is the stored one instead of the JSON's.
    #[arg(long)]
    stored: bool,
    /// One whole page a result instead: sizes are spread as those of the pages, which are taken at even distances.
    #[arg(long, conflicts_with_all = ["bytes", "stored"])]
    whole: bool,
}

fn main() -> std::io::Result<()> {
    let Arguments { folder, count, bytes, stored, whole } = Arguments::parse();
    let measure = |json: &[u8]| {
        if stored { encode(json, 3).expect("a JSON object").frame.len() } else { json.len() }
    };
    let corpus = corpus::Corpus::load();
    std::fs::create_dir_all(&folder)?;
    for number in 0..count {
        let document =
            if whole { corpus.page(number, count) } else { corpus.document(number, bytes, measure) };
        std::fs::write(folder.join(format!("{number:04}.json")), document)?;
    }
    Ok(())
}
