//! Results and sessions in DynamoDB: on AWS, or on anything that speaks its protocol.
//!
//! [`Aws`] is the connection that both stores share: clients, retry budget, timeouts, the bound on requests under
//! way, and what is counted about them.

mod capacity;
mod connect;
mod failure;
mod item;
#[cfg(test)]
pub(crate) mod testing;

pub use connect::Aws;

/// The backend's name in errors, metrics and health reports.
pub const BACKEND: &str = "dynamodb";
