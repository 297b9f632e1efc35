//! crawlcache: a standalone HTTP cache for web crawlers.

pub mod clock;
pub mod domain;
