//! Random sequences of writes, reads, listings, changes of policy and outages against a model of what was promised.

use std::time::Duration;

use proptest::prelude::*;

use super::super::super::testing::{Street, Weather, policy};
use super::{all, id, put_of};
use crate::domain::routing::{Force, OnOwnerFailure, Policy};
use crate::domain::session::SessionRecord;
use crate::domain::{Namespace, Version};
use crate::store::conformance::{at, session};
use crate::store::{
    Result, SessionCondition, SessionDeleteOutcome, SessionFilter, SessionPutOutcome, SessionQuery,
    SessionStore,
};

const KEYS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Creates the session, or changes what was read last.
    Put {
        key: usize,
        create: bool,
    },
    Delete {
        key: usize,
        conditional: bool,
    },
    Get {
        key: usize,
    },
    GetMany,
    List {
        limit: usize,
        ascending: bool,
    },
    Set {
        percent: u16,
        dual_write: bool,
        force: u8,
        reject: bool,
    },
    Weather(u8),
    Relay,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    prop_oneof![
        8 => (key(), prop::bool::weighted(0.4)).prop_map(|(key, create)| Step::Put { key, create }),
        2 => (key(), any::<bool>()).prop_map(|(key, conditional)| Step::Delete { key, conditional }),
        5 => key().prop_map(|key| Step::Get { key }),
        1 => Just(Step::GetMany),
        3 => (1..8_usize, any::<bool>()).prop_map(|(limit, ascending)| Step::List { limit, ascending }),
        3 => (prop::sample::select(vec![0_u16, 30, 70, 100]), any::<bool>(), 0..6_u8, prop::bool::weighted(0.2))
            .prop_map(|(percent, dual_write, force, reject)| Step::Set { percent, dual_write, force, reject }),
        2 => (0..8_u8).prop_map(Step::Weather),
        1 => Just(Step::Relay),
    ]
}

/// What was promised of a session: what was acknowledged last, and what was asked for since without an answer.
#[derive(Clone, Debug, Default)]
struct Promise {
    kept: Option<Version>,
    maybe: Vec<Option<Version>>,
}

struct Run {
    street: Street,
    promises: Vec<Promise>,
    second: u64,
    weather: Weather,
}

fn version(record: &SessionRecord) -> Version {
    record.session.version
}

impl Run {
    async fn step(&mut self, step: Step) {
        self.second += 1;
        let sessions = self.street.routed.sessions();
        let namespace = Namespace::default();
        match step {
            Step::Put { key, create } => {
                let condition = match self.promises[key].kept {
                    Some(read) if !create => SessionCondition::Version(read),
                    _ => SessionCondition::Absent(at(2000)),
                };
                // Of one time all their life, each of another; the versions grow.
                let mut record = session(&format!("s{key}"), 2000 + key as u64);
                record.session.expires_at = at(2_000_000_000);
                record.session.version = self.street.clock.next_version();
                let new = version(&record);
                let outcome = sessions.put(put_of(record, condition)).await;
                let stored = [SessionPutOutcome::Created, SessionPutOutcome::Replaced];
                let done = outcome.map(|outcome| stored.contains(&outcome));
                self.wrote(key, Some(new), &done);
            }
            Step::Delete { key, conditional } => {
                let condition = match self.promises[key].kept {
                    Some(read) if conditional => SessionCondition::Version(read),
                    _ => SessionCondition::Any,
                };
                let outcome = sessions.delete(&namespace, &id(&format!("s{key}")), condition).await;
                {
                    let done = outcome.map(|outcome| outcome != SessionDeleteOutcome::ConditionFailed);
                    self.wrote(key, None, &done);
                };
            }
            Step::Get { key } => {
                if let Ok(found) = sessions.get(&namespace, &id(&format!("s{key}"))).await {
                    self.saw(key, found.as_ref().map(version));
                }
            }
            Step::GetMany => {
                let ids: Vec<_> = (0..KEYS).map(|key| id(&format!("s{key}"))).collect();
                if let Ok(found) = sessions.get_many(&namespace, &ids).await {
                    for (key, found) in found.iter().enumerate() {
                        self.saw(key, found.as_ref().expect("readable").as_ref().map(version));
                    }
                }
            }
            Step::List { limit, ascending } => {
                if self.weather == Weather::Fair {
                    self.lists(limit, ascending).await;
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

    /// A listing in pages shows what single reads show, once each and in order.
    async fn lists(&self, limit: usize, ascending: bool) {
        self.street.rest().await;
        let sessions = self.street.routed.sessions();
        let mut expected = Vec::new();
        for key in 0..KEYS {
            let found =
                sessions.get(&Namespace::default(), &id(&format!("s{key}"))).await.expect("an answer");
            expected.extend(found.map(|record| (record.session.id.to_string(), record.session.version)));
        }
        self.street.rest().await;
        let mut query = all(limit);
        if let SessionFilter::Project { ascending: order, .. } = &mut query.filter {
            *order = ascending;
        }
        if !ascending {
            expected.reverse();
        }
        let (mut listed, mut places) = (Vec::new(), Vec::new());
        loop {
            let page = sessions.list(&query).await.expect("a page");
            assert!(page.items.len() <= limit && page.items.len() == page.places.len());
            listed.extend(page.items.iter().map(|record| (record.session.id.to_string(), version(record))));
            places.extend(page.places);
            match page.next {
                None => break,
                next => query.after = next,
            }
        }
        assert_eq!(listed, expected, "in pages of {limit}");
        // Every place goes on behind its session.
        for (number, place) in places.into_iter().enumerate() {
            let query = SessionQuery { after: Some(place), limit: 100, ..query.clone() };
            let rest = sessions.list(&query).await.expect("a page").items;
            let rest: Vec<_> = rest.iter().map(version).collect();
            let expected: Vec<_> = listed[number + 1..].iter().map(|(_, version)| *version).collect();
            assert_eq!(rest, expected, "behind {number}");
        }
    }

    fn wrote(&mut self, key: usize, state: Option<Version>, done: &Result<bool>) {
        let promise = &mut self.promises[key];
        match done {
            Ok(true) => *promise = Promise { kept: state, maybe: Vec::new() },
            Ok(false) => {}
            Err(_) => promise.maybe.push(state),
        }
    }

    fn saw(&self, key: usize, state: Option<Version>) {
        let promise = &self.promises[key];
        // One that SQLite owns and only DynamoDB has cannot be told from none while DynamoDB is away.
        let may_be_hidden = state.is_none() && self.weather != Weather::Fair;
        let is_promised = promise.kept == state || promise.maybe.contains(&state);
        assert!(may_be_hidden || is_promised, "{key}: {state:?} and not {promise:?}");
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
                let found =
                    self.street.routed.sessions().get(&Namespace::default(), &id(&format!("s{key}"))).await;
                let state = found.expect("an answer").as_ref().map(version);
                self.saw(key, state);
                now.push(state);
            }
            self.street.rest().await;
            self.lists(2, percent == 0).await;
            states.push(now);
        }
        assert_eq!(states[0], states[1], "whoever owns them");
        assert_eq!(states[0], states[2], "whoever owns them");
    }
}

async fn run(steps: Vec<Step>) {
    let street = Street::new(policy(0, false)).await;
    let mut run = Run { street, promises: vec![Promise::default(); KEYS], second: 0, weather: Weather::Fair };
    for step in steps {
        run.step(step).await;
    }
    run.end().await;
}

#[tokio::test]
async fn a_session_that_is_created_anew_without_an_answer_is_settled() {
    let set = Step::Set { percent: 70, dual_write: false, force: 0, reject: false };
    let put = Step::Put { key: 0, create: false };
    let lying = Step::Weather(1);
    run(vec![put, set, Step::Delete { key: 0, conditional: false }, lying, put]).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_was_promised_is_kept(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_mins(1), run(steps)).await.expect("it ends");
        });
    }
}
