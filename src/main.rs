//! The `crawlcache` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    crawlcache::cli::main()
}
