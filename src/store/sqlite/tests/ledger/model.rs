//! Random writes against a small map that says what must be known of each key.

use proptest::prelude::*;

use super::*;

const KEYS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put { key: usize, second: u64, beside: Beside },
    Delete { key: usize, second: u64, beside: Beside },
    Supersede { key: usize, second: u64, deleted: bool },
    Deliver { key: usize, second: u64 },
    Park { key: usize },
    Reopen,
}

fn beside() -> impl Strategy<Value = Beside> {
    prop_oneof![
        2 => Just(Beside::Nothing),
        4 => Just(QUEUE),
        2 => Just(Beside::Floor),
        3 => Just(Beside::Settle),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // So few seconds that versions meet their equals.
    let (key, second) = (|| 0..KEYS, || 1..16_u64);
    prop_oneof![
        8 => (key(), second(), beside()).prop_map(|(key, second, beside)| Step::Put { key, second, beside }),
        4 => (key(), second(), beside()).prop_map(|(key, second, beside)| Step::Delete { key, second, beside }),
        3 => (key(), second(), any::<bool>())
            .prop_map(|(key, second, deleted)| Step::Supersede { key, second, deleted }),
        2 => (key(), second()).prop_map(|(key, second)| Step::Deliver { key, second }),
        1 => key().prop_map(|key| Step::Park { key }),
        1 => Just(Step::Reopen),
    ]
}

/// What must be known of a key, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Model {
    held: Option<u64>,
    dead: Option<(u64, bool)>,
    queued: Option<u64>,
}

impl Model {
    fn step(&mut self, step: Step) {
        let newest_dead = self.dead.map(|(second, _)| second);
        match step {
            Step::Put { second, beside, .. } => {
                let wins = self.held < Some(second) && newest_dead <= Some(second);
                if wins {
                    self.held = Some(second);
                    self.dead = if beside == Beside::Floor {
                        Some((second, false))
                    } else {
                        newest_dead.map(|dead| (dead, false))
                    };
                }
                self.beside(beside, second, wins);
            }
            Step::Delete { second, beside, .. } => {
                let wins = self.held < Some(second) && newest_dead <= Some(second);
                if wins {
                    (self.held, self.dead) = (None, Some((second, true)));
                }
                self.beside(beside, second, wins);
            }
            Step::Supersede { second, deleted, .. } => {
                self.beside(Beside::Settle, second, false);
                if self.held < Some(second) {
                    self.held = None;
                    if newest_dead <= Some(second) {
                        self.dead = Some((second, deleted));
                    }
                }
            }
            Step::Deliver { second, .. } => self.beside(Beside::Settle, second, false),
            Step::Park { .. } | Step::Reopen => {}
        }
    }

    fn beside(&mut self, beside: Beside, second: u64, wins: bool) {
        match beside {
            Beside::Queue { .. } if wins => self.queued = self.queued.max(Some(second)),
            Beside::Settle => self.queued = self.queued.filter(|queued| *queued > second),
            _ => {}
        }
    }

    fn known(self) -> Known {
        Known {
            held: self.held.map(version),
            tombstone: self.dead.map(|(second, deleted)| Tombstone { version: version(second), deleted }),
            queued: self.queued.map(version),
        }
    }
}

fn numbered(key: usize) -> Key {
    url(key as u64)
}

async fn take(store: &SqliteStore, step: Step) {
    match step {
        Step::Put { key, second, beside } => drop(put_key(store, key as u64, second, beside).await),
        Step::Delete { key, second, beside } => {
            let (key, version) = (numbered(key), version(second));
            store.delete_beside(&key, version, Condition::Any, None, beside).await.expect("a delete");
        }
        Step::Supersede { key, second, deleted } => {
            store.supersede(&numbered(key), version(second), deleted).await.expect("superseded");
        }
        Step::Deliver { key, second } => {
            let delivered = Tried::Delivered { version: version(second) };
            store.outbox_tried(vec![(numbered(key).id(), delivered)]).await.expect("noted");
        }
        Step::Park { key } => {
            let parked = Tried::Park { error: "no".into() };
            store.outbox_tried(vec![(numbered(key).id(), parked)]).await.expect("noted");
        }
        Step::Reopen => {}
    }
}

async fn run(steps: Vec<Step>) {
    let directory = directory();
    let mut store = remembering(directory.path());
    let own = connection(directory.path());
    let mut models = [Model::default(); KEYS];
    let ids: Vec<_> = (0..KEYS).map(|key| numbered(key).id()).collect();
    for step in steps {
        if let Step::Reopen = step {
            // Not closed: what was acknowledged needs no farewell.
            drop(store);
            store = remembering(directory.path());
        }
        let before = models;
        take(&store, step).await;
        if let Step::Put { key, .. }
        | Step::Delete { key, .. }
        | Step::Supersede { key, .. }
        | Step::Deliver { key, .. } = step
        {
            models[key].step(step);
        }
        let known = store.known(&ids).await.expect("a read");
        assert_eq!(known, models.map(Model::known), "{step:?} on {before:?}");
        for (known, before) in known.iter().zip(before.map(Model::known)) {
            let settled = |known: &Known| known.held.max(known.tombstone.map(|it| it.version));
            assert!(settled(known) >= settled(&before), "{step:?}: {before:?} {known:?}");
            assert!(known.held.is_none_or(|held| known.admits(held)), "{step:?}: {known:?}");
        }
        let mut queued: Vec<_> = store.outbox_rows(false, 0, 10).await.expect("rows");
        queued.sort_by_key(|row| row.what.id());
        let mut expected: Vec<_> = known
            .iter()
            .zip(&ids)
            .filter_map(|(known, id)| known.queued.map(|version| (*id, version)))
            .collect();
        expected.sort_unstable();
        assert_eq!(queued.iter().map(|row| (row.what.id(), row.version)).collect::<Vec<_>>(), expected);
        recount(&own);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_newest_version_wins_and_what_was_queued_stays_queued(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(run(steps));
    }
}
