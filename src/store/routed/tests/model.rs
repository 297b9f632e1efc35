//! Random sequences of writes, reads, changes of policy and outages against a model of what was promised.

use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{Street, Weather, policy};
use crate::domain::routing::{Force, OnOwnerFailure, Policy};
use crate::domain::{Key, Version};
use crate::store::conformance::{at, key, put, text_of};
use crate::store::{Condition, DeleteOutcome, GetOptions, Put, PutOutcome, ResultStore};

const KEYS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put { key: usize, conditional: bool },
    Delete { key: usize, conditional: bool },
    Get { key: usize },
    Lookup,
    Set { percent: u16, dual_write: bool, force: u8, reject: bool },
    Weather(u8),
    Relay,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS, prop::bool::weighted(0.3)).prop_map(|(key, conditional)| Step::Put { key, conditional }),
        2 => (0..KEYS, prop::bool::weighted(0.3)).prop_map(|(key, conditional)| Step::Delete { key, conditional }),
        6 => (0..KEYS).prop_map(|key| Step::Get { key }),
        1 => Just(Step::Lookup),
        3 => (prop::sample::select(vec![0_u16, 30, 70, 100]), any::<bool>(), 0..6_u8, prop::bool::weighted(0.2))
            .prop_map(|(percent, dual_write, force, reject)| Step::Set { percent, dual_write, force, reject }),
        2 => (0..6_u8).prop_map(Step::Weather),
        1 => Just(Step::Relay),
    ]
}

/// What was promised of a key: the last that was acknowledged, and what was asked for since without an answer.
#[derive(Clone, Debug, Default)]
struct Promise {
    kept: Option<u64>,
    maybe: Vec<Option<u64>>,
}

impl Promise {
    fn allows(&self, state: Option<u64>) -> bool {
        self.kept == state || self.maybe.contains(&state)
    }
}

fn key_of(number: usize) -> Key {
    // Their buckets are spread: some are below 30 %, some above 70 %.
    key(&format!("https://example.com/{number}"))
}

struct Run {
    street: Street,
    promises: Vec<Promise>,
    second: u64,
    weather: Weather,
}

impl Run {
    async fn step(&mut self, step: Step) {
        self.second += 1;
        let version = Version::first_of(at(2000 + self.second));
        match step {
            Step::Put { key, conditional } => {
                let new = put(&key_of(key), &self.second.to_string(), 2000 + self.second);
                let condition = if conditional { Condition::Present } else { Condition::Any };
                let outcome = self.street.routed.put(Put { condition, ..new }).await;
                self.wrote(
                    key,
                    Some(self.second),
                    outcome.map(|outcome| match outcome {
                        PutOutcome::ConditionFailed => false,
                        PutOutcome::Superseded => panic!("nobody else writes"),
                        _ => true,
                    }),
                );
            }
            Step::Delete { key, conditional } => {
                let condition = if conditional { Condition::Present } else { Condition::Any };
                let outcome = self.street.routed.delete(&key_of(key), version, condition).await;
                self.wrote(key, None, outcome.map(|outcome| outcome != DeleteOutcome::ConditionFailed));
            }
            Step::Get { key } => {
                let found = self.street.routed.get(&key_of(key), GetOptions::default()).await;
                if let Ok(found) = found {
                    let state = found.map(|hit| text_of(&hit.entry).parse().expect("a number"));
                    self.saw(key, state);
                }
            }
            Step::Lookup => {
                let keys: Vec<Key> = (0..KEYS).map(key_of).collect();
                let metas = self.street.routed.get_metas(&keys).await.expect("an answer");
                for (key, meta) in metas.into_iter().enumerate() {
                    // The second of its update is its number.
                    self.saw(key, meta.map(|meta| meta.updated_at.as_secs() - 2000));
                }
            }
            Step::Set { percent, dual_write, force, reject } => {
                let force =
                    [Force::None, Force::Sqlite, Force::Dynamodb][usize::from(force.saturating_sub(3))];
                let on_owner_failure = if reject { OnOwnerFailure::Reject } else { OnOwnerFailure::Queue };
                self.street.set(Policy { force, on_owner_failure, ..policy(percent, dual_write) }).await;
            }
            Step::Weather(weather) => {
                self.weather = match weather {
                    0 => Weather::Down,
                    1 => Weather::Lying,
                    _ => Weather::Fair,
                };
                self.street.across.set(self.weather);
            }
            Step::Relay => drop(self.street.relay().await),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is what the operation answered")]
    fn wrote(&mut self, key: usize, state: Option<u64>, done: crate::store::Result<bool>) {
        let promise = &mut self.promises[key];
        match done {
            Ok(true) => *promise = Promise { kept: state, maybe: Vec::new() },
            Ok(false) => {}
            Err(_) => promise.maybe.push(state),
        }
    }

    fn saw(&self, key: usize, state: Option<u64>) {
        let promise = &self.promises[key];
        // A key that SQLite owns and only DynamoDB has cannot be told from none while DynamoDB is away.
        let may_be_hidden = state.is_none() && self.weather != Weather::Fair;
        assert!(may_be_hidden || promise.allows(state), "{key}: {state:?} and not {promise:?}");
    }

    /// Everything is well again: both sides come to the same, and it is what was promised.
    async fn end(mut self) {
        self.weather = Weather::Fair;
        self.street.across.set(Weather::Fair);
        self.street.relay().await;
        let left = self.street.here.outbox_status().await.expect("read");
        assert_eq!((left.queued, left.parked), (0, 0), "the outbox is empty");
        let mut states = Vec::new();
        for percent in [0, 100, 0] {
            self.street.set(policy(percent, true)).await;
            let mut now = Vec::new();
            for key in 0..KEYS {
                let found = self.street.routed.get(&key_of(key), GetOptions::default()).await;
                let state =
                    found.expect("an answer").map(|hit| text_of(&hit.entry).parse().expect("a number"));
                self.saw(key, state);
                now.push(state);
            }
            self.street.rest().await;
            states.push(now);
        }
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "whoever owns them: {states:?}");
        for key in 0..KEYS {
            let (name, options) = (key_of(key), GetOptions::default());
            let here = self.street.here.get(&name, options).await.expect("read");
            let there = self.street.across.store.get(&name, options).await.expect("read");
            let version = |hit: &crate::store::Hit| hit.entry.meta.version;
            assert_eq!(
                here.as_ref().map(version),
                there.as_ref().map(version),
                "{key}: both sides are equal"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_deleted_comes_back(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let run = async {
            let mut run = Run {
                street: Street::new(policy(0, false)).await,
                promises: vec![Promise::default(); KEYS],
                second: 0,
                weather: Weather::Fair,
            };
            for step in steps {
                run.step(step).await;
            }
            run.end().await;
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), run).await }).expect("in time");
    }
}
