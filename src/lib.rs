//! crawlcache: a standalone HTTP cache for web crawlers.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod jobs;
pub mod metrics;
pub mod store;
pub mod telemetry;
