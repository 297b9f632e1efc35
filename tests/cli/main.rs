//! The command line as its users meet it: the real binary, and a real service on a free port.

#[path = "../support/aws.rs"]
mod aws;
mod crawl4ai;
mod data;
mod doctor;
mod dynamodb;
mod failures;
mod host;
mod local;
mod migration;
mod routing;
mod service;
mod sessions;
mod tables;
