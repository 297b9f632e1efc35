//! A fleet at work while ownership moves, DynamoDB goes away and the process is killed: nothing acknowledged is lost,
//! nothing deleted comes back, and both sides are equal in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::fleet::{Client, Counts};
use super::{drain, is_due, routed, set, try_set, work};
use crate::proxy::{Proxy, Weather};
use crate::support::dynamodb_local;

/// How the share of DynamoDB moves, one step a round.
const PERCENTS: [u32; 10] = [0, 10, 25, 50, 100, 50, 0, 25, 100, 50];

/// How DynamoDB goes away, in every second round.
const OUTAGES: [Weather; 5] =
    [Weather::Cut, Weather::Reset, Weather::Silent, Weather::Slow(Duration::from_millis(400)), Weather::Cut];

/// How long a part of a round takes.
const PART: Duration = Duration::from_millis(700);

#[test]
fn a_fleet_loses_nothing_while_everything_goes_wrong() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start(&local);
    let prefix = format!("faults{}-", std::process::id());
    let counts = Counts::default();
    let mut clients = Client::fleet(1);
    for (round, percent) in PERCENTS.into_iter().enumerate() {
        proxy.set(Weather::Fair);
        let mut server = routed(directory.path(), &proxy, &prefix, &[]);
        let address = server.address();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in &mut clients {
                let (stop, counts) = (&stop, &counts);
                scope.spawn(move || client.work(address, stop, counts));
            }
            std::thread::sleep(PART);
            let _ = try_set(address, &json!({"percent": percent, "reason": "a step"}));
            std::thread::sleep(PART);
            if round % 2 == 1 {
                proxy.set(OUTAGES[round / 2]);
                std::thread::sleep(PART);
            }
            let _ = try_set(address, &json!({"dual_write": round % 3 != 2}));
            std::thread::sleep(PART);
            if round % 4 == 1 {
                proxy.set(Weather::Fair);
                std::thread::sleep(PART);
            }
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }

    // The end: all is well again, both sides are brought to the same state, and compared.
    proxy.set(Weather::Fair);
    let server = routed(directory.path(), &proxy, &prefix, &[]);
    set(&server, &json!({"percent": 0, "dual_write": true}));
    let parked = drain(&server);
    assert_eq!(parked, 0, "nothing is refused for its own sake");
    let there: usize = clients.iter().map(|client| client.check_all(&server)).sum();
    let up = work(&server, "migrate", &json!({"to": "dynamodb"}));
    let down = work(&server, "migrate", &json!({"to": "sqlite"}));
    let verified = work(&server, "verify", &json!({"content": true}));
    let of = |outcome: &str| verified["counts"][outcome].as_u64().unwrap_or(0);
    for outcome in ["missing_dynamodb", "missing_sqlite", "different", "deleted", "unreadable"] {
        assert_eq!(of(outcome), 0, "{outcome}: {verified}");
    }
    // Whoever owns a key, the answer is the same.
    for percent in [100, 50, 0] {
        set(&server, &json!({"percent": percent}));
        let now: usize = clients.iter().map(|client| client.check_all(&server)).sum();
        assert_eq!(now, there, "at {percent} %");
    }
    eprintln!(
        "{}; {} connections through the proxy, {} kills, {} outages; {there} keys are there; \
         migrated up {}, down {}; verified {}",
        counts.line(),
        proxy.connections(),
        PERCENTS.len(),
        OUTAGES.len(),
        up["counts"],
        down["counts"],
        verified["counts"]
    );
}
