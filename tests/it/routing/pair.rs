//! Two services over one DynamoDB, each with a SQLite file of its own: what they share is what DynamoDB owns, and what
//! one of them has done is seen by the other as soon as DynamoDB owns it.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::fleet::{Client, Counts};
use super::{drain, is_due, routed, set, try_set, work};
use crate::proxy::{Proxy, Weather};
use crate::support::{Server, dynamodb_local};

/// How long a part of a round takes.
const PART: Duration = Duration::from_millis(600);

/// A fleet of which every client keeps to one of two services, while both move and DynamoDB goes away; in the end
/// everybody asks the other service.
#[test]
fn two_services_over_one_dynamodb_agree_in_the_end() {
    if !is_due() {
        return;
    }
    let Some(local) = dynamodb_local() else { return };
    let directories = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let proxy = Proxy::start(&local);
    let prefix = format!("pair{}-", std::process::id());
    let start = |number: usize| routed(directories[number].path(), &proxy, &prefix, &[]);
    let counts = Counts::default();
    let mut clients = Client::fleet(2);
    for (round, percent) in [0, 25, 50, 100].into_iter().enumerate() {
        proxy.set(Weather::Fair);
        let mut servers: Vec<Server> = (0..2).map(start).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (number, client) in clients.iter_mut().enumerate() {
                let (address, stop, counts) = (servers[number % 2].address(), &stop, &counts);
                scope.spawn(move || client.work(address, stop, counts));
            }
            std::thread::sleep(PART);
            for server in &servers {
                let dual_write = round % 2 == 0;
                let _ = try_set(server.address(), &json!({"percent": percent, "dual_write": dual_write}));
            }
            std::thread::sleep(PART);
            if round % 2 == 1 {
                proxy.set(Weather::Reset);
                std::thread::sleep(PART);
                proxy.set(Weather::Fair);
                std::thread::sleep(PART);
            }
            for server in &mut servers {
                server.kill();
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    let servers: Vec<Server> = (0..2).map(start).collect();
    for server in &servers {
        set(server, &json!({"percent": 100, "dual_write": true}));
        assert_eq!(drain(server), 0, "nothing is parked");
        work(server, "migrate", &json!({"to": "dynamodb"}));
    }
    let there: Vec<usize> = [1, 0]
        .into_iter()
        .map(|other| {
            let asking = clients.iter().enumerate().filter(|(number, _)| number % 2 != other);
            asking.map(|(_, client)| client.check_all(&servers[other])).sum()
        })
        .collect();
    eprintln!("{}; {there:?} keys seen through the other service", counts.line());
}
