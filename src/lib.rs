//! crawlcache: a standalone HTTP cache for web crawlers.

pub mod auth;
pub mod clock;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod store;
pub mod telemetry;
