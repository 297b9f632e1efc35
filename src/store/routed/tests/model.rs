//! Random sequences of writes, reads, changes of policy and outages against a model of what was promised.

use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::{Street, Weather, policy};
use crate::domain::routing::{Force, OnOwnerFailure, Policy};
use crate::domain::{Key, Meta, Version};
use crate::store::conformance::{at, key, put, text_of};
use crate::store::{Condition, DeleteOutcome, Error, GetOptions, Put, PutOutcome, ResultStore, Seen};

const KEYS: usize = 4;

/// What one caller does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Put { key: usize, conditional: bool },
    Delete { key: usize, conditional: bool },
    Get { key: usize },
    Lookup,
    Set { percent: u16, dual_write: bool, force: u8, reject: bool },
    Weather(u8),
    Relay,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Do(Action),
    /// The second while the first is held up behind one of its calls to a side.
    Amid(Action, usize, Action),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..KEYS, prop::bool::weighted(0.3)).prop_map(|(key, conditional)| Action::Put { key, conditional }),
        2 => (0..KEYS, prop::bool::weighted(0.3)).prop_map(|(key, conditional)| Action::Delete { key, conditional }),
        6 => (0..KEYS).prop_map(|key| Action::Get { key }),
        1 => Just(Action::Lookup),
        3 => (prop::sample::select(vec![0_u16, 30, 70, 100]), any::<bool>(), 0..6_u8, prop::bool::weighted(0.2))
            .prop_map(|(percent, dual_write, force, reject)| Action::Set { percent, dual_write, force, reject }),
        2 => (0..9_u8).prop_map(Action::Weather),
        1 => Just(Action::Relay),
    ]
}

/// What is done while something else is held up: mostly writes, so that they meet.
fn meanwhile() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..KEYS).prop_map(|key| Action::Put { key, conditional: false }),
        2 => (0..KEYS).prop_map(|key| Action::Delete { key, conditional: false }),
        1 => action(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => action().prop_map(Step::Do),
        2 => (action(), 1..5_usize, meanwhile()).prop_map(|(outer, calls, inner)| Step::Amid(outer, calls, inner)),
        1 => (1..4_usize, meanwhile()).prop_map(|(calls, inner)| Step::Amid(Action::Relay, calls, inner)),
    ]
}

/// What an action came to.
#[derive(Debug)]
enum Outcome {
    /// The state that a write asked for, and whether it was done.
    Wrote(usize, Option<u64>, Result<bool, Error>),
    Saw(Vec<(usize, Option<u64>)>),
    Nothing,
}

/// What was promised of a key: the last that was acknowledged, and what was asked for since without an answer.
#[derive(Clone, Debug, Default)]
struct Promise {
    kept: Option<u64>,
    maybe: Vec<Option<u64>>,
    /// How many writes were acknowledged.
    began: u64,
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

/// What changes in the course of a run.
struct Run {
    street: Street,
    promises: Vec<Promise>,
    second: u64,
    relays: u64,
}

/// Does one action at a second, which becomes the number of what it writes.
async fn act(street: &Street, action: Action, second: u64) -> Outcome {
    let condition = |conditional| if conditional { Condition::Present } else { Condition::Any };
    match action {
        Action::Put { key, conditional } => {
            let new = put(&key_of(key), &second.to_string(), 2000 + second);
            let outcome = street.routed.put(Put { condition: condition(conditional), ..new }).await;
            Outcome::Wrote(key, Some(second), outcome.map(|outcome| outcome != PutOutcome::ConditionFailed))
        }
        Action::Delete { key, conditional } => {
            let version = Version::first_of(at(2000 + second));
            let outcome = street.routed.delete(&key_of(key), version, condition(conditional)).await;
            Outcome::Wrote(key, None, outcome.map(|outcome| outcome != DeleteOutcome::ConditionFailed))
        }
        Action::Get { key } => match street.routed.get(&key_of(key), GetOptions::default()).await {
            Ok(found) => {
                let number = found.map(|hit| text_of(&hit.entry).parse().expect("a number"));
                Outcome::Saw(vec![(key, number)])
            }
            Err(_) => Outcome::Nothing,
        },
        Action::Lookup => {
            let keys: Vec<Key> = (0..KEYS).map(key_of).collect();
            let seen = street.routed.survey(&keys).await.expect("an answer");
            // The second of its update is its number.
            let number = |meta: Meta| meta.updated_at.as_secs() - 2000;
            let told = seen.into_iter().enumerate().filter_map(|(key, seen)| match seen {
                Seen::Told(look) => Some((key, look.entry().map(number))),
                Seen::Unconfirmed(meta, _) => Some((key, Some(number(*meta)))),
                Seen::Unknown => None,
            });
            Outcome::Saw(told.collect())
        }
        Action::Set { percent, dual_write, force, reject } => {
            let force = [Force::None, Force::Sqlite, Force::Dynamodb][usize::from(force.saturating_sub(3))];
            let on_owner_failure = if reject { OnOwnerFailure::Reject } else { OnOwnerFailure::Queue };
            street.set(Policy { force, on_owner_failure, ..policy(percent, dual_write) }).await;
            Outcome::Nothing
        }
        Action::Weather(weather) => {
            street.across.set(weather_of(weather));
            Outcome::Nothing
        }
        Action::Relay => {
            street.relay_now().await;
            Outcome::Nothing
        }
    }
}

const fn weather_of(number: u8) -> Weather {
    match number {
        0 => Weather::Down,
        1 => Weather::Lying,
        2 => Weather::Late,
        _ => Weather::Fair,
    }
}

impl Run {
    fn next(&mut self) -> u64 {
        self.second += 1;
        self.second
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Do(action) => {
                self.before(action).await;
                let second = self.next();
                let outcome = act(&self.street, action, second).await;
                let before = self.promises.clone();
                self.enter(outcome, &before);
            }
            Step::Amid(outer, calls, inner) => {
                self.before(outer).await;
                let (first, second) = (self.next(), self.next());
                let (street, mut before) = (&self.street, self.promises.clone());
                // What is under way may be seen.
                match outer {
                    Action::Put { key, .. } => before[key].maybe.push(Some(first)),
                    Action::Delete { key, .. } => before[key].maybe.push(None),
                    _ => {}
                }
                let mut came = Outcome::Nothing;
                let meanwhile = async { came = act(street, inner, second).await };
                let outcome = Box::pin(street.amid(calls, act(street, outer, first), meanwhile)).await;
                self.enter(came, &before);
                self.enter(outcome, &before);
            }
        }
    }

    /// Some time passes before each round of the relay. A write that is on its way is missed by one of them at most.
    async fn before(&mut self, action: Action) {
        if matches!(action, Action::Relay) {
            self.street.rest().await;
            self.street.clock.set(self.street.clock.now().plus_secs(4));
            self.relays += 1;
            if self.relays.is_multiple_of(2) {
                self.street.across.arrive().await;
            }
        }
    }

    /// Enters what came of an action, which began under the promises `before`.
    fn enter(&mut self, outcome: Outcome, before: &[Promise]) {
        match outcome {
            Outcome::Wrote(key, state, done) => {
                // What was acknowledged while this was under way may count as later or as earlier.
                let since =
                    (self.promises[key].began != before[key].began).then(|| self.promises[key].clone());
                let promise = &mut self.promises[key];
                match done {
                    Ok(true) => {
                        let maybe = since.map(|since| [&[since.kept][..], &since.maybe].concat());
                        let began = promise.began + 1;
                        *promise = Promise { kept: state, maybe: maybe.unwrap_or_default(), began };
                    }
                    Ok(false) => {}
                    Err(_) => promise.maybe.push(state),
                }
            }
            Outcome::Saw(states) => {
                for (key, state) in states {
                    if !before[key].allows(state) {
                        self.saw(key, state);
                    }
                }
            }
            Outcome::Nothing => {}
        }
    }

    fn saw(&self, key: usize, state: Option<u64>) {
        let promise = &self.promises[key];
        assert!(promise.allows(state), "{key}: {state:?} and not {promise:?}");
    }

    /// Everything is well again: both sides come to the same, and it is what was promised.
    async fn end(self) {
        self.street.across.set(Weather::Fair);
        self.street.rest().await;
        self.street.relay_now().await;
        self.street.across.arrive().await;
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
                relays: 0,
            };
            for step in steps {
                Box::pin(run.step(step)).await;
            }
            run.end().await;
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), Box::pin(run)).await }).expect("in time");
    }
}
