//! Caches as the versions of Crawl4AI have left them, written here and read back.

mod fixture;
mod live;
mod shapes;
