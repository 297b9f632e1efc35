//! The service over SQLite and DynamoDB, which real clients use while it is broken on purpose.

mod faults;
mod fleet;
mod operators;
mod outages;
mod pair;
mod runbooks;
mod way_back;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::proxy::{Proxy, Weather};
use crate::support::server::Setting;
use crate::support::{Server, eventually, on_sqlite};

/// Whether this suite runs: it brings its own stores, so once is enough.
pub(crate) fn is_due() -> bool {
    on_sqlite()
}

/// A service over both, on tables of its own behind a proxy.
pub(crate) fn routed(directory: &Path, proxy: &Proxy, prefix: &str, more: &[Setting<'_>]) -> Server {
    let url = proxy.url();
    let settings = [
        ("store.backend", "routed"),
        ("dynamodb.endpoint", url.as_str()),
        ("dynamodb.table_prefix", prefix),
        ("dynamodb.create_tables", "true"),
        ("dynamodb.consistent_reads", "true"),
        ("dynamodb.max_retries", "1"),
        ("dynamodb.attempt_millis", "3000"),
        ("dynamodb.operation_millis", "5000"),
        // A busy machine is no outage.
        ("routing.owner_millis", "5000"),
        ("routing.other_millis", "5000"),
        ("routing.circuit_seconds", "1"),
        ("memory.trust_seconds", "0"),
    ];
    let server = Server::on(directory, &[&settings[..], more].concat());
    if proxy.weather() == Weather::Fair {
        // On a busy machine the start does not wait until the tables are made.
        eventually("DynamoDB is in use", || {
            (server.metrics().of(r#"circuit_state{backend="dynamodb"}"#) == 0).then_some(())
        });
    }
    server
}

/// Changes the members of the policy that a patch names.
#[track_caller]
pub(crate) fn set(server: &Server, patch: &Value) -> Value {
    try_set(server.address(), patch).expect("the policy is changed")
}

/// As [`set`], for when the server may be gone.
pub(crate) fn try_set(address: SocketAddr, patch: &Value) -> std::io::Result<Value> {
    let request = crate::support::Request::new(address, "PATCH", "/v1/admin/routing")
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string());
    let answer = request.try_send()?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(answer.json())
}

/// Waits until nothing is queued for DynamoDB any more; says how many rows are parked.
pub(crate) fn drain(server: &Server) -> u64 {
    let rows = |state: &str| server.metrics().of(&format!("outbox_rows{{state=\"{state}\"}}"));
    eventually("the outbox is empty", || (rows("queued") == 0).then_some(()));
    rows("parked")
}

/// Has a piece of work done to its end.
#[track_caller]
pub(crate) fn work(server: &Server, kind: &str, options: &Value) -> Value {
    let begun = server.post("/v1/admin/work", &json!({"kind": kind, "options": options})).is(202).json();
    let target = format!("/v1/admin/work/{}", begun["id"].as_str().expect("an id"));
    let done = eventually("the work is done", || {
        let status = server.get(&target).is(200).json();
        (status["state"] != "running").then_some(status)
    });
    assert_eq!(done["state"], "done", "{done}");
    done
}
