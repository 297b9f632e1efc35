//! The command line as its users meet it: the real binary, and a real service on a free port.

mod data;
mod failures;
mod host;
mod local;
mod service;
