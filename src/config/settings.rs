//! The typed configuration: one struct a section, one field a key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::load::{Options, load};
use super::secret::{EncryptionKey, OlderKeys};
use crate::domain::CanonicalForm;
use crate::domain::quality::Statuses;
use crate::domain::routing::{Configured, Force, OnOwnerFailure, Percent, Policy};

/// The whole configuration, checked. `config/default.toml` documents each key.
///
/// `Default` is what that file says, without any file, environment or command line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the service listens and keeps its data.
    pub server: Server,
    /// Bounds on what clients may send and hold.
    pub limits: Limits,
    /// How crawl results are kept.
    pub results: Results,
    /// Who fetches what.
    pub leases: Leases,
    /// The memory tier.
    pub memory: Memory,
    /// Which store.
    pub store: Store,
    /// The embedded store.
    pub sqlite: Sqlite,
    /// The store in DynamoDB.
    pub dynamodb: Dynamodb,
    /// How keys are spread over the two stores.
    pub routing: Routing,
    /// Where bodies too large for DynamoDB go.
    pub s3: S3,
    /// How sessions are kept.
    pub sessions: Sessions,
    /// Tokens.
    pub auth: Auth,
    /// Logs.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        let nothing: [(String, String); 0] = [];
        load(&Options::default(), nothing).expect("the compiled-in defaults are valid (tested)").config
    }
}

impl Config {
    /// The file that holds the tokens: `auth.tokens_file`, or `tokens.toml` in the data directory.
    pub fn tokens_path(&self) -> PathBuf {
        if self.auth.tokens_file.as_os_str().is_empty() {
            self.server.data_dir.join("tokens.toml")
        } else {
            self.auth.tokens_file.clone()
        }
    }
}

/// `[server]`: where the service listens and keeps its data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The directory of the database, the tokens and the lock file.
    pub data_dir: PathBuf,
    /// Whether an address that is not loopback is accepted although no token is configured.
    pub insecure: bool,
    /// How long requests under way may take to finish once the process is told to stop.
    pub shutdown_seconds: u64,
}

impl Server {
    /// [`Server::shutdown_seconds`] as a duration.
    pub const fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }

    /// Whether only this host can reach [`Server::listen`].
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

/// `[limits]`: bounds on what clients may send and hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The largest request body as sent.
    pub body_bytes: usize,
    /// The largest request body after its content coding is undone.
    pub decoded_bytes: u64,
    /// The most that all bodies being received may take together; at least `body_bytes`.
    pub body_memory_bytes: usize,
    /// How long a client may take to send the head of a request, and a connection may idle.
    pub header_seconds: u64,
    /// The largest request head; at least 8192, the least that hyper accepts.
    pub header_bytes: usize,
    /// How long a request may take.
    pub request_seconds: u64,
    /// How many requests are worked on at once.
    pub concurrency: usize,
    /// How many connections are open at once.
    pub connections: usize,
}

impl Limits {
    /// [`Limits::header_seconds`] as a duration.
    pub const fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    /// [`Limits::request_seconds`] as a duration.
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_seconds)
    }
}

/// `[results]`: how crawl results are kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// How long a result stays fresh when the request does not say; at most `max_ttl_seconds`.
    pub ttl_seconds: u64,
    /// The longest time to live that a request may ask for.
    pub max_ttl_seconds: u64,
    /// How long an expired result is kept for readers that accept it.
    pub keep_stale_seconds: u64,
    /// The zstd level of stored documents, 1 to 19.
    pub compression_level: i32,
    /// How urls become keys: `"off"` is [`CanonicalForm::Exact`], `"v1"` is [`CanonicalForm::V1`].
    #[serde(deserialize_with = "canonical_form")]
    pub canonical_urls: CanonicalForm,
    /// Whether failed results are kept apart from good ones.
    pub guard: bool,
    /// The status codes that make a result a failed one.
    #[serde(deserialize_with = "statuses")]
    pub failed_statuses: Statuses,
    /// How long a failed result answers at most.
    pub failed_ttl_seconds: u64,
    /// What the pages say on which a site turns a crawler away.
    pub block_markers: Vec<String>,
    /// Whether results stored without a time to live get one from how often the pages of their host change.
    pub learn_ttl: bool,
    /// The shortest learned time to live; at most `learn_max_seconds`.
    pub learn_min_seconds: u64,
    /// The longest learned time to live.
    pub learn_max_seconds: u64,
    /// The probability that a page is unchanged when its learned time to live ends.
    pub learn_confidence: f64,
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Statuses, D::Error> {
    Statuses::new(Vec::<String>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn canonical_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CanonicalForm, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "off" => Ok(CanonicalForm::Exact),
        "v1" => Ok(CanonicalForm::V1),
        _ => Err(serde::de::Error::custom("expected `off` or `v1`")),
    }
}

/// `[leases]`: who fetches what, and who waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    /// How long a lease lasts when the request does not say; at most `max_seconds`.
    pub seconds: u64,
    /// The longest lease that a request may ask for.
    pub max_seconds: u64,
    /// The longest wait for another's lease that a request may ask for; at most `limits.request_seconds`.
    pub max_wait_seconds: u64,
    /// How many requests wait at once.
    pub max_waiters: usize,
}

/// `[memory]`: the memory tier in front of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Its size; 0 turns it off.
    pub bytes: u64,
    /// The size of the ready-made answers for clients without zstd; 0 keeps none.
    pub decoded_bytes: u64,
    /// How long a copy answers without asking a store that other instances write too.
    pub trust_seconds: u64,
    /// How long after that a copy answers where the store cannot be asked.
    pub outage_seconds: u64,
}

impl Memory {
    /// [`Memory::trust_seconds`] as a duration.
    pub const fn trust(&self) -> Duration {
        Duration::from_secs(self.trust_seconds)
    }

    /// [`Memory::outage_seconds`] as a duration.
    pub const fn outage(&self) -> Duration {
        Duration::from_secs(self.outage_seconds)
    }
}

/// `[store]`: which store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Where results and sessions are kept.
    pub backend: Backend,
    /// Whether a service starts without SQLite although writes wait there that DynamoDB has yet to get.
    pub abandon_outbox: bool,
}

/// Where results and sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The embedded store.
    Sqlite,
    /// DynamoDB, at AWS or compatible.
    Dynamodb,
    /// Both, as `[routing]` says.
    Routed,
}

/// `[routing]`: how keys are spread over SQLite and DynamoDB. What the admin API has set goes before the policy here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// The share of keys that DynamoDB owns.
    pub percent: Percent,
    /// Whether one side owns everything all the same.
    pub force: Force,
    /// Whether the side that is not the owner gets every write, too.
    pub dual_write: bool,
    /// The share of reads, 0 to 1, after which both sides are compared.
    pub shadow_read: f64,
    /// What becomes of a write whose owner cannot be reached.
    pub on_owner_failure: OnOwnerFailure,
    /// Rows that the outbox may hold; 0 means any number.
    pub outbox_rows: u64,
    /// How many rows of the outbox are delivered at once.
    pub relay_concurrency: usize,
    /// How long a key's owner may take in DynamoDB, in milliseconds.
    pub owner_millis: u64,
    /// How long the side that does not own a key may take in DynamoDB, in milliseconds.
    pub other_millis: u64,
    /// So many failures in a row open the circuit.
    pub circuit_failures: u32,
    /// The longest pause between two trials of an open circuit, in seconds.
    pub circuit_seconds: u64,
    /// The variable that holds `force` as it is, if one does; no key of its own.
    #[serde(skip)]
    pub pinned_by: Option<String>,
    /// Where those members of the policy are said that do not only have their defaults; no key of its own.
    #[serde(skip)]
    pub said: BTreeMap<String, String>,
}

impl Routing {
    /// The policy to start with.
    pub fn policy(&self) -> Policy {
        Policy {
            percent: self.percent,
            force: self.force,
            dual_write: self.dual_write,
            shadow_read: self.shadow_read,
            on_owner_failure: self.on_owner_failure,
        }
    }

    /// [`Routing::policy`], and what of it is said on purpose.
    pub fn configured(&self) -> Configured {
        Configured { policy: self.policy(), said: self.said.clone() }
    }

    /// What `force` is held to, and the variable that does, if one does: the admin API cannot change it then.
    pub fn pinned(&self) -> Option<(Force, String)> {
        self.pinned_by.clone().map(|by| (self.force, by))
    }

    /// How long a key's owner may take.
    pub const fn owner_patience(&self) -> Duration {
        Duration::from_millis(self.owner_millis)
    }

    /// How long the side that does not own a key may take.
    pub const fn other_patience(&self) -> Duration {
        Duration::from_millis(self.other_millis)
    }

    /// The longest pause between two trials of an open circuit.
    pub const fn circuit_pause(&self) -> Duration {
        Duration::from_secs(self.circuit_seconds)
    }
}

/// `[dynamodb]`: the store in DynamoDB.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dynamodb {
    /// The URL of the service; empty for AWS itself.
    pub endpoint: String,
    /// The region; empty for the one that the AWS chain finds.
    pub region: String,
    /// Goes in front of both names. Use [`Dynamodb::results_table`] and [`Dynamodb::sessions_table`].
    pub table_prefix: String,
    /// The table of results, without its prefix.
    pub results_table: String,
    /// The table of sessions, without its prefix.
    pub sessions_table: String,
    /// Whether a start makes the tables that are missing.
    pub create_tables: bool,
    /// How results are written.
    pub results_layout: ResultsLayout,
    /// Whether every read is strongly consistent.
    pub consistent_reads: bool,
    /// Whether the table of results has an index by time.
    pub time_index: bool,
    /// Whether the table of results has an index by host.
    pub host_index: bool,
    /// The largest item in bytes.
    pub max_item_bytes: usize,
    /// How many parts of a body are written at once.
    pub batch_size: usize,
    /// How long a read waits for others to share a request with; 0 for not at all.
    pub batch_window_micros: u64,
    /// How many requests are under way at once.
    pub max_connections: usize,
    /// How many times a failed request is tried again.
    pub max_retries: u32,
    /// How long one try may take.
    pub attempt_millis: u64,
    /// How long an operation may take with all its tries.
    pub operation_millis: u64,
}

impl Dynamodb {
    /// The full name of the table of results.
    pub fn results_table(&self) -> String {
        format!("{}{}", self.table_prefix, self.results_table)
    }

    /// The full name of the table of sessions.
    pub fn sessions_table(&self) -> String {
        format!("{}{}", self.table_prefix, self.sessions_table)
    }

    /// [`Dynamodb::attempt_millis`] as a duration.
    pub const fn attempt_timeout(&self) -> Duration {
        Duration::from_millis(self.attempt_millis)
    }

    /// [`Dynamodb::operation_millis`] as a duration.
    pub const fn operation_timeout(&self) -> Duration {
        Duration::from_millis(self.operation_millis)
    }

    /// [`Dynamodb::batch_window_micros`] as a duration.
    pub const fn batch_window(&self) -> Duration {
        Duration::from_micros(self.batch_window_micros)
    }
}

/// How results are written to DynamoDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultsLayout {
    /// The document as one binary attribute.
    Packed,
    /// An attribute a field, for other programs.
    Plain,
}

/// `[s3]`: where bodies too large for an item of DynamoDB go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The bucket; empty keeps such bodies in DynamoDB.
    pub bucket: String,
    /// What the keys of objects begin with.
    pub prefix: String,
    /// The URL of the service; empty for AWS itself.
    pub endpoint: String,
    /// The region; empty for that of DynamoDB.
    pub region: String,
    /// Whether the bucket is named in the path.
    pub path_style: bool,
    /// Whether uploads carry a checksum.
    pub checksums: Checksums,
    /// How long one try may take.
    pub attempt_millis: u64,
    /// How long an operation may take with all its tries.
    pub operation_millis: u64,
}

impl S3 {
    /// [`S3::attempt_millis`] as a duration.
    pub const fn attempt_timeout(&self) -> Duration {
        Duration::from_millis(self.attempt_millis)
    }

    /// [`S3::operation_millis`] as a duration.
    pub const fn operation_timeout(&self) -> Duration {
        Duration::from_millis(self.operation_millis)
    }
}

/// Whether uploads carry a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// Always.
    Always,
    /// Only where S3 demands one.
    WhenRequired,
}

/// `[sqlite]`: the embedded store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// How many threads read, 1 to 64.
    pub readers: usize,
    /// The page cache of each connection.
    pub cache_bytes: u64,
    /// What the database may take before the coldest results are evicted; 0 sets no bound.
    pub max_bytes: u64,
    /// From one sweep of what has expired, or is beyond the bound, to the next.
    pub sweep_seconds: u64,
    /// How many writes may wait for the writer.
    pub queue: usize,
}

impl Sqlite {
    /// [`Sqlite::sweep_seconds`] as a duration.
    pub const fn sweep_interval(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds)
    }
}

/// `[sessions]`: how sessions are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// How long a session of the browser profile lives, from its creation.
    pub browser_ttl_seconds: u64,
    /// How long a session of the mcp profile lives, from its last update.
    pub mcp_ttl_seconds: u64,
    /// The largest session as JSON.
    pub max_bytes: usize,
    /// How many events of its history a session keeps.
    pub max_events: usize,
    /// What the history of a session may take together as JSON, and so the largest event.
    pub max_event_bytes: usize,
    /// The key that encrypts sensitive fields at rest, if any.
    pub encryption_key: EncryptionKey,
    /// Those before it, which still open what they sealed.
    pub older_encryption_keys: OlderKeys,
}

impl Sessions {
    /// All keys: the one that encrypts, and those before it.
    pub fn keys(&self) -> EncryptionKey {
        self.encryption_key.with_older(&self.older_encryption_keys)
    }
}

/// `[auth]`: tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The file of the tokens as configured; empty for the default. Use [`Config::tokens_path`].
    pub tokens_file: PathBuf,
}

/// `[log]`: what is logged and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How log lines look.
    pub format: LogFormat,
    /// Tracing filter directives.
    pub level: String,
    /// The share of successful requests that get an access log line, 0 to 1.
    pub sample: f64,
    /// Requests slower than this get an access log line.
    pub slow_seconds: f64,
}

impl Log {
    /// [`Log::slow_seconds`] as a duration.
    pub fn slow_threshold(&self) -> Duration {
        Duration::try_from_secs_f64(self.slow_seconds).unwrap_or(Duration::MAX)
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}
