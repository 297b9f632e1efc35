//! Results and sessions in DynamoDB: on AWS, or on anything that speaks its protocol.
//!
//! [`Aws`] is the connection that both stores share: clients, retry budget, timeouts, the bound on requests under
//! way, and what is counted about them. [`DynamodbResults`] keeps results, [`DynamodbSessions`] sessions; [`Tables`]
//! makes and checks their tables.

mod answers;
mod batch;
mod bucket;
mod capacity;
mod clock_offset;
mod connect;
mod failure;
mod item;
mod pauses;
mod pins;
mod plain;
pub mod probe;
mod results;
mod scan;
mod sessions;
pub mod tables;
#[cfg(test)]
pub(crate) mod testing;

pub use bucket::Bucket;
pub use capacity::{Bill, Table};
pub use clock_offset::Ahead;
pub use connect::Aws;
pub use results::{DynamodbResults, Inserted, Scanned};
pub use scan::{Page as ScanPage, Segment};
pub use sessions::{DynamodbSessions, ScannedSession};
pub use tables::Tables;

/// The backend's name in errors, metrics and health reports.
pub const BACKEND: &str = "dynamodb";

/// The name of the bucket for large bodies in errors, metrics and health reports.
pub const S3: &str = "s3";
