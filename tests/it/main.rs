//! Black-box tests: the real binary, real sockets, nothing of the library but what writes a tokens file.

mod support;

#[path = "../support/aws.rs"]
mod aws;

#[path = "../support/proxy.rs"]
mod proxy;

mod bad_bodies;
mod bad_lines;
mod bad_parameters;
mod bucket;
mod clocks;
mod conditions;
mod dynamodb;
mod faults;
mod freshness;
mod kill;
mod large;
mod learning;
mod leases;
mod limits;
mod listing;
mod lockstep;
mod operations;
mod quality;
mod round_trips;
mod routing;
mod sessions;
mod tokens;
mod transfer;
mod views;
