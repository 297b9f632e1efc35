//! Layered configuration: compiled-in defaults, a file, the environment and the command line.
//!
//! ```text
//! config/default.toml  <  --config PATH or CRAWLCACHE_CONFIG  <  CRAWLCACHE_SECTION__KEY  <  command line
//! ```
//!
//! [`load()`] returns the typed [`Config`] and the [`Effective`] listing of where each value came from, or every
//! mistake of every layer at once. `rules` says what each key may be, `settings` what it becomes.

mod effective;
mod elsewhere;
mod environment;
mod load;
mod mistake;
mod rules;
mod secret;
mod settings;

pub use effective::{Effective, Setting, Source};
pub use environment::process_environment;
pub use load::{Loaded, Options, load};
pub use mistake::{ConfigError, Mistake};
pub use secret::{EncryptionKey, OlderKeys};
pub use settings::{
    Auth, Backend, Checksums, Config, Dynamodb, Limits, Log, LogFormat, Memory, Results, ResultsLayout,
    Routing, S3, Server, Sessions, Sqlite, Store,
};

pub(crate) use mistake::describe_toml_error;

/// The documented defaults of every key, as TOML: `config/default.toml`.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

#[cfg(test)]
mod tests;
