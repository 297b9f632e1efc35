//! The command line: what there is to say, and who carries it out.
//!
//! `serve`, `config`, `token`, `backup`, `tables` and `doctor` work on the configuration and what it names; the other
//! commands ask a running service over HTTP. Data goes to standard output, everything else to standard error.

mod backup;
mod client;
mod clock;
mod columns;
mod doctor;
mod exit;
mod export;
mod files;
mod gate;
mod get;
mod healthcheck;
mod import;
mod import_crawl4ai;
mod indent;
mod outbox;
mod output;
mod progress;
mod put;
mod rollback;
mod routing;
mod serve;
mod sessions;
mod span;
mod stats;
mod status;
mod tables;
mod token;
mod work;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Loaded, Options, process_environment};
use exit::{Exit, Failure, Outcome};
use output::Output;

/// A standalone HTTP cache for web crawlers
///
/// A fleet of crawlers asks it for a page before fetching, and stores what it fetched. `crawlcache serve` needs no
/// configuration: it listens on 127.0.0.1:8080 and keeps everything in ./crawlcache-data.
#[derive(Debug, Parser)]
#[command(
    name = "crawlcache",
    version,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = exit::Exit::table(),
    after_long_help = format!("\
Examples:
  crawlcache serve                                          run the service
  crawlcache put https://example.com/ page.json --ttl 30d   store a document
  crawlcache get https://example.com/ --field markdown      read a part of it
  crawlcache export -o all.ndjson.zst                       take everything out
  crawlcache backup /backups/today.db                       copy the database while it is in use

Configuration: defaults, then the file that --config or CRAWLCACHE_CONFIG names, then variables
CRAWLCACHE_SECTION__KEY, then --set and the flags of `serve`. `crawlcache config` shows the outcome.
Commands that ask a running service read CRAWLCACHE_URL and CRAWLCACHE_TOKEN.

{}", exit::Exit::table()),
)]
struct Cli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help = "The configuration file, for all but the commands that ask a service [variable: CRAWLCACHE_CONFIG]"
    )]
    config: Option<PathBuf>,

    /// Set a key of the configuration, such as --set memory.bytes=0; may be repeated
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<Hidden>,

    /// Print results, reports and errors as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT; a second signal ends it at once
    #[command(after_help = "Examples:
  crawlcache serve
  crawlcache serve --listen 127.0.0.1:9000 --data-dir /var/lib/crawlcache
  crawlcache serve --config /etc/crawlcache.toml --set log.level=debug

It listens on a loopback address unless there are tokens (`crawlcache token create`) or --insecure says otherwise.
The address and the data directory are on standard error once it is ready; logs follow there.")]
    Serve(serve::Args),

    /// Print the configuration that applies, and where each value comes from
    #[command(after_help = "Examples:
  crawlcache config                          the keys of config/default.toml, each with its source
  crawlcache config --json | jq -r '.[] | select(.source != \"default\") | .key'

What it prints is itself a configuration file; secrets show as (set). All mistakes are reported at once, with exit
code 2, which makes it a check of a configuration before it is rolled out.")]
    Config,

    /// Make, list and revoke access tokens
    #[command(after_help = "Examples:
  crawlcache token create --name crawlers --scopes read,write --expires 90d
  crawlcache token list
  crawlcache token revoke 7m3k9qxw2v

Tokens are kept as hashes in tokens.toml in the data directory, or in the file that auth.tokens_file names. A
running service follows that file: changes take effect within two seconds. The first token closes a service that
was open to its host; once a service has had a token, it stays closed.")]
    Token(token::Args),

    /// Print what is cached for a page
    #[command(after_help = "Examples:
  crawlcache get https://example.com/                            the whole document, as it was stored
  crawlcache get https://example.com/ --fields head,markdown     only these fields
  crawlcache get https://example.com/ --field screenshot -o page.png
  crawlcache get https://example.com/ --max-age 1d || fetch-it   exit code 3 is a miss

A miss says why: absent, expired, too_old, field_missing, damaged, or variant (stored under other variants only), or
failed: only a block page or an error is there, and --quality good was asked for. On a terminal JSON is indented;
elsewhere the document comes byte for byte.")]
    Get(get::Args),

    /// Store a document for a page
    #[command(after_help = "Examples:
  crawlcache put https://example.com/ page.json
  jq -n '{markdown: \"# Example\", success: true}' | crawlcache put https://example.com/ --ttl 1d

The document is any JSON object and comes back value for value.")]
    Put(put::Args),

    /// Show what a service holds and how it is used
    #[command(after_help = "Examples:
  crawlcache stats
  crawlcache stats --json | jq .hit_ratio")]
    Stats(stats::Args),

    /// Show or change how keys are spread over SQLite and DynamoDB
    #[command(after_help = "Examples:
  crawlcache routing                             the policy in force
  crawlcache routing set --percent 10 --dual-write true --shadow-read 0.05 --reason 'the first step'
  crawlcache routing set --percent 50 --dry-run  how many keys would move
  crawlcache routing log                         who changed it, when and why

For a service with `store.backend = \"routed\"`, or DYNAMODB_MIGRATION_PCT. A change counts from the next operation on,
and after a restart. It needs a token with the scope admin, where there are tokens.")]
    Routing(routing::Args),

    /// Show how a service over both stores is: policy, backends, outbox, work, traffic
    #[command(after_help = "Examples:
  crawlcache status
  crawlcache status --watch
  crawlcache status --json | jq .outbox.queued")]
    Status(status::Args),

    /// Ask whether DynamoDB is fit to own more keys
    #[command(after_help = "Examples:
  crawlcache gate --to 50
  crawlcache gate --to 50 && crawlcache routing set --percent 50
  crawlcache gate --to 50 --json | jq '.checks[] | select(.pass | not)'

The exit code is 0 if every check passes and 1 if one does not.")]
    Gate(gate::Args),

    /// Go back to SQLite, or to fewer keys in DynamoDB, at once
    #[command(after_help = "Examples:
  crawlcache rollback --reason 'latency'         SQLite owns everything from now on
  crawlcache rollback --to 10                    DynamoDB keeps 10 % of the keys

Nothing is restarted, and nothing is lost: what only DynamoDB has stays readable for as long as DynamoDB answers.")]
    Rollback(rollback::Args),

    /// List, retry and discard the writes that DynamoDB has yet to get
    #[command(after_help = "Examples:
  crawlcache outbox                              what waits, oldest first
  crawlcache outbox list --parked                what DynamoDB refused for its own sake
  crawlcache outbox retry                        once the reason is put right
  crawlcache outbox discard 42")]
    Outbox(outbox::Args),

    /// Seal the credentials of sessions under another key
    #[command(after_help = "Examples:
  crawlcache sessions rotate-key --dry-run       how many are sealed under older keys
  crawlcache sessions rotate-key                 while the service runs
  crawlcache sessions rotate-key --offline       on the data directory and the tables themselves")]
    Sessions(sessions::Args),

    /// List, show and cancel the migrations and verifications of a service
    #[command(after_help = "Examples:
  crawlcache work
  crawlcache work show verify-3
  crawlcache work cancel migrate-2")]
    Work(work::WorkArgs),

    /// Stream results out of a service, a line each
    #[command(after_help = "Examples:
  crawlcache export -o all.ndjson.zst
  crawlcache export --host example.com --since 2026-01-15T00:00:00Z | jq -r .url
  crawlcache export --url http://old:8080 | crawlcache import - --url http://new:8080

A file is written under its name with .partial appended and gets its name at the end: an export that breaks off
fails and leaves none. The report goes to standard error.")]
    Export(export::Args),

    /// Stream results into a service, a line each
    #[command(after_help = "Examples:
  crawlcache import all.ndjson.zst
  zcat old.ndjson.gz | crawlcache import -

Results keep their times and never replace newer ones. A bad line never fails the rest; the exit code is 1 if there
was one, and the report names the first of them.")]
    Import(import::Args),

    /// Take over the cache of Crawl4AI: its database and content files
    #[command(after_help = "Examples:
  crawlcache import-crawl4ai ~/.crawl4ai --dry-run --report rows.ndjson
  crawlcache import-crawl4ai ~/.crawl4ai --ttl 90d
  crawlcache import-crawl4ai ~/.crawl4ai --since 2026-01-15T00:00:00Z --report - | jq -r .outcome | sort | uniq -c

It reads what every version of Crawl4AI has written, follows the hashes that its upgrades have put in place of
contents, and changes nothing there; Crawl4AI may go on writing. Pages keep the time of their crawl and never
replace newer ones: to run it again brings what is new. The exit code is 1 if a page could not be stored; rows that
hold no readable page are counted, and named in the report.")]
    ImportCrawl4ai(import_crawl4ai::Args),

    /// Copy the database while the service runs
    #[command(after_help = "Examples:
  crawlcache backup /backups/crawlcache-$(date +%F).db
  crawlcache backup /backups/today.db --data-dir /var/lib/crawlcache

It reads the data directory itself and needs no running service. To restore, put the copy as crawlcache.db into a
new data directory.")]
    Backup(backup::Args),

    /// Show or confirm a clock that has jumped ahead
    #[command(after_help = "Examples:
  crawlcache clock
  crawlcache clock confirm
  crawlcache clock --json | jq .believed

Where the clock jumps ahead by more than a day, or is that far ahead of when the data directory was last in use, a
service removes nothing that has expired by the jump alone until the jump has lasted a day or is confirmed. It needs
a token with the scope admin, where there are tokens.")]
    Clock(clock::Args),

    /// Make, describe, check and delete the tables in DynamoDB
    #[command(after_help = "Examples:
  crawlcache tables create --dry-run             what would be made
  crawlcache tables create
  crawlcache tables check                        what is wrong, and what to do
  crawlcache tables create --help                billing, encryption, tags, protection

It works on the tables that `dynamodb.results_table` and `dynamodb.sessions_table` name, whatever store.backend is.")]
    Tables(tables::Args),

    /// Copy everything from SQLite to DynamoDB, or back, while the service runs
    #[command(after_help = "Examples:
  crawlcache migrate --dry-run                   how much it would be, and what it would cost
  crawlcache migrate --units-per-second 500
  crawlcache migrate --to sqlite --since 2026-01-15T00:00:00Z
  crawlcache migrate --urls 'https://example.com/*,https://example.org/'
  crawlcache migrate --offline                   without a service, on the data directory itself

The service does it, and goes on with it after a restart; --offline does it here. Copies keep their versions and
times and never replace anything newer. A migration that ended early goes on where it was when the same is asked for
again. The exit code is 1 if anything could not be copied.")]
    Migrate(work::MigrateArgs),

    /// Compare SQLite with DynamoDB, and mend what differs
    #[command(after_help = "Examples:
  crawlcache verify --sample 0.1                 one key in ten, the same ones each time
  crawlcache verify --content                    bodies too, byte for byte
  crawlcache verify --repair
  crawlcache verify --json | jq '.findings[]'

What is written meanwhile, or waits in the outbox, is no difference. The exit code is 1 if the sides differ and that
was not mended.")]
    Verify(work::VerifyArgs),

    /// Check everything that the service needs, and say what to do
    #[command(after_help = "Examples:
  crawlcache doctor
  crawlcache doctor --dynamodb --read-only       DynamoDB too, without writing anything
  crawlcache doctor --json | jq '.checks[] | select(.status == \"failed\")'

It looks at the configuration, the data directory, the disk, tokens, the address and the database; and with
DynamoDB at endpoint, credentials, clock, permissions, tables and bucket. What it writes to try permissions it
removes. The exit code is 1 if a check failed; warnings alone leave it at 0.")]
    Doctor(doctor::Args),

    /// Exit with 0 if the service is ready, otherwise with 1, within two seconds
    #[command(after_help = "In a container image:
  HEALTHCHECK --interval=10s --timeout=3s CMD [\"crawlcache\", \"healthcheck\"]

It prints nothing when the service is ready. A degraded service is ready.")]
    Healthcheck(healthcheck::Args),

    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  crawlcache completions bash > /etc/bash_completion.d/crawlcache
  crawlcache completions zsh > \"${fpath[1]}/_crawlcache\"
  crawlcache completions fish > ~/.config/fish/completions/crawlcache.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// An argument that nothing shows: it may be, or hold, a secret.
#[derive(Clone)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// The data directory, for the commands that work on it.
#[derive(Debug, clap::Args)]
struct DataDir {
    /// The directory of the database and the tokens
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
}

impl DataDir {
    fn overrides(&self) -> Vec<(String, String)> {
        self.data_dir.iter().map(|path| ("server.data_dir".to_owned(), path.clone())).collect()
    }
}

impl Global {
    /// Reads the configuration; `flags` are those of the command and go before `--set`.
    fn load(&self, flags: Vec<(String, String)>) -> Outcome<Loaded> {
        let mut overrides = Vec::with_capacity(self.overrides.len() + flags.len());
        for given in &self.overrides {
            let Some((key, value)) = given.0.split_once('=') else {
                return Err(Failure::usage("--set takes a key and its value: --set section.key=value"));
            };
            overrides.push((key.trim().to_owned(), value.to_owned()));
        }
        overrides.extend(flags);
        let options = Options { file: self.config.clone(), overrides };
        Ok(config::load(&options, process_environment())?)
    }

    const fn output(&self) -> Output {
        Output::new(self.json)
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // It prints help, versions and mistakes itself, and ends the process with 0 or 2.
    let Cli { global, command } = Cli::parse();
    match run(command, &global) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            global.output().failure(&failure);
            failure.exit().into()
        }
    }
}

fn run(command: Command, global: &Global) -> Outcome {
    match command {
        Command::Serve(args) => serve::run(&args, global),
        Command::Config => print_config(global),
        Command::Token(args) => token::run(args, global),
        Command::Get(args) => wait_for(get::run(args, global)),
        Command::Put(args) => wait_for(put::run(args, global)),
        Command::Stats(args) => wait_for(stats::run(args, global)),
        Command::Routing(args) => wait_for(routing::run(args, global)),
        Command::Status(args) => wait_for(status::run(args, global)),
        Command::Gate(args) => wait_for(gate::run(args, global)),
        Command::Rollback(args) => wait_for(rollback::run(args, global)),
        Command::Outbox(args) => wait_for(outbox::run(args, global)),
        Command::Sessions(args) => wait_for(sessions::run(args, global)),
        Command::Work(args) => wait_for(work::known(args, global)),
        Command::Export(args) => wait_for(export::run(args, global)),
        Command::Import(args) => wait_for(import::run(args, global)),
        Command::ImportCrawl4ai(args) => wait_for(import_crawl4ai::run(args, global)),
        Command::Clock(args) => wait_for(clock::run(args, global)),
        Command::Backup(args) => backup::run(&args, global),
        Command::Tables(args) => tables::run(args, global),
        Command::Migrate(args) => work::migrate(args, global),
        Command::Verify(args) => work::verify(args, global),
        Command::Doctor(args) => doctor::run(&args, global),
        Command::Healthcheck(args) => wait_for(healthcheck::run(&args)),
        Command::Completions { shell } => print_completions(shell),
    }
}

/// Runs a client's work on this thread.
fn wait_for(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::local("no request can be made", &error))?.block_on(work)
}

fn print_config(global: &Global) -> Outcome {
    let effective = global.load(Vec::new())?.effective;
    global.output().answer(&effective, || effective.to_toml().trim_end().to_owned())?;
    Ok(Exit::Done)
}

fn print_completions(shell: clap_complete::Shell) -> Outcome {
    // By way of memory: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "crawlcache", &mut script);
    output::write(&script)?;
    Ok(Exit::Done)
}

/// `1 result`, `1,234 results`.
fn counted(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {word}{plural}", indicatif::HumanCount(count))
}

/// Seconds to the millisecond.
fn seconds_since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_explained_by_examples() {
        let mut cli = Cli::command();
        for code in 0..=5 {
            assert!(cli.render_long_help().to_string().contains(&format!("\n  {code}  ")), "{code}");
            assert!(cli.render_help().to_string().contains(&format!("\n  {code}  ")), "{code}");
        }
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            let name = command.get_name().to_owned();
            assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{name}");
            assert!(
                command.get_after_help().is_some_and(|help| help.to_string().contains("crawlcache")),
                "{name}"
            );
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        }
    }

    #[test]
    fn global_options_may_come_before_and_after_the_command() {
        for arguments in [
            ["crawlcache", "--json", "--set", "memory.bytes=0", "config"],
            ["crawlcache", "config", "--json", "--set", "memory.bytes=0"],
        ] {
            let cli = Cli::try_parse_from(arguments).expect("valid");
            assert!(cli.global.json);
            let loaded = cli.global.load(Vec::new()).expect("valid");
            assert_eq!(loaded.config.memory.bytes, 0);
        }
    }

    #[test]
    fn counts_agree_with_their_word() {
        let texts = [0, 1, 1234].map(|count| counted(count, "line"));
        assert_eq!(texts, ["0 lines", "1 line", "1,234 lines"]);
    }

    #[test]
    fn flags_go_before_set() {
        let cli = Cli::try_parse_from([
            "crawlcache",
            "serve",
            "--data-dir",
            "flag",
            "--set",
            "server.data_dir=set",
            "--set=log.level=off",
        ]);
        let Ok(Cli { global, command: Command::Serve(_) }) = cli else { panic!("{cli:?}") };
        let directory = DataDir { data_dir: Some("flag".to_owned()) };
        let config = global.load(directory.overrides()).expect("valid").config;
        assert_eq!((config.server.data_dir, config.log.level), (PathBuf::from("flag"), "off".to_owned()));
    }

    #[test]
    fn secrets_among_the_arguments_are_not_shown() {
        let arguments = ["crawlcache", "stats", "--token", "5ec4e7", "--set", "5ec4e7"];
        let cli = Cli::try_parse_from(arguments).expect("valid");
        assert!(!format!("{cli:?}").contains("5ec4e7"), "{cli:?}");
        let failure = cli.global.load(Vec::new()).expect_err("no value");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(!failure.text(true).expect("text").contains("5ec4e7"));
    }
}
