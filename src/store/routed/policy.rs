//! The policy in force: read by every operation, changed while the service runs, kept over a restart.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::domain::Timestamp;
use crate::domain::routing::{Configured, Force, Policy};
use crate::metrics::Metrics;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::ledger::policy::Change;
use crate::store::{Error, Result};

/// A policy and since when it is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// Grows with each change; 0 for the one of the configuration.
    pub generation: u64,
    /// What counts.
    pub policy: Policy,
    /// When it was set; `None` for the one of the configuration.
    pub changed_at: Option<Timestamp>,
    /// What holds `force` as it is, such as the variable `FORCE_SQLITE`.
    pub pinned_by: Option<String>,
    /// What `force` is as soon as nothing holds it any more.
    pub own_force: Force,
    /// What the configuration says.
    pub configured: Configured,
}

/// A member of the policy that the configuration says otherwise, and on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct Overruled {
    /// Its name.
    pub member: String,
    /// What the configuration says.
    pub configured: Value,
    /// What counts.
    pub in_force: Value,
    /// What says it in the configuration.
    pub said_by: String,
}

impl InForce {
    /// Where what was set while the service ran overrules what the configuration says on purpose.
    pub fn overruled(&self) -> Vec<Overruled> {
        let members = |policy: &Policy| match serde_json::to_value(policy) {
            Ok(Value::Object(members)) => members,
            _ => serde_json::Map::new(),
        };
        let (mut configured, mut in_force) = (members(&self.configured.policy), members(&self.policy));
        let overruled = |(member, said_by): (&String, &String)| {
            let (configured, in_force) = (configured.remove(member)?, in_force.remove(member)?);
            let (member, said_by) = (member.clone(), said_by.clone());
            (configured != in_force).then_some(Overruled { member, configured, in_force, said_by })
        };
        self.configured.said.iter().filter_map(overruled).collect()
    }
}

/// Why a policy was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else has changed it.
    #[error("the policy has been changed meanwhile: it is number {current} by now")]
    Changed {
        /// The generation in force.
        current: u64,
    },
    /// `force` is held by something else.
    #[error("`force` is held by {by}: unset it and start again to change it here")]
    Pinned {
        /// What holds it.
        by: String,
    },
}

/// Who asks for a change, and why.
#[derive(Clone, Debug)]
pub struct Author {
    /// The name of a token, or what else.
    pub who: String,
    /// In their words; may be empty.
    pub reason: String,
}

type Hook = Box<dyn Fn(&InForce) + Send + Sync>;

/// The policy in force. Clones share it.
#[derive(Clone)]
pub struct Routing(Arc<Inner>);

struct Inner {
    store: SqliteStore,
    current: RwLock<Arc<InForce>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    changes: TaskTracker,
    metrics: Metrics,
    hooks: Mutex<Vec<Hook>>,
}

impl Routing {
    /// The policy that was kept, or else `start`; `pinned` holds `force` to a value, and names what does.
    ///
    /// # Errors
    /// As any read of the database.
    pub async fn open(
        store: &SqliteStore,
        start: impl Into<Configured>,
        pinned: Option<(Force, String)>,
        metrics: &Metrics,
    ) -> Result<Self> {
        let kept = store.policy().await?;
        let configured = start.into();
        let start = configured.policy;
        let mut current = InForce {
            generation: kept.map_or(0, |kept| kept.generation),
            policy: kept.map_or(start, |kept| kept.policy),
            changed_at: kept.map(|kept| kept.changed_at),
            pinned_by: None,
            own_force: kept.map_or(start, |kept| kept.policy).force,
            configured,
        };
        if let Some((force, by)) = pinned {
            current.policy.force = force;
            current.pinned_by = Some(by);
        }
        for Overruled { member, configured, in_force, said_by } in current.overruled() {
            tracing::warn!(
                member,
                %configured,
                said_by,
                %in_force,
                generation = current.generation,
                "the routing policy that was set while running counts, and not what the configuration says"
            );
        }
        show(metrics, &current);
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            current: RwLock::new(Arc::new(current)),
            changing: tokio::sync::Mutex::new(()),
            changes: TaskTracker::new(),
            metrics: metrics.clone(),
            hooks: Mutex::default(),
        })))
    }

    /// The policy in force now.
    pub fn current(&self) -> Arc<InForce> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has `hook` called after each change, before whoever asked for it is answered.
    pub fn on_change(&self, hook: impl Fn(&InForce) + Send + Sync + 'static) {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// Puts a policy in force: for the next operation, and after a restart. Only if `expected`, where given, is the
    /// generation in force.
    ///
    /// # Errors
    /// As any write of the database; [`Refused`] inside when the change is not made.
    pub async fn change(
        &self,
        expected: Option<u64>,
        policy: Policy,
        author: Author,
        now: Timestamp,
    ) -> Result<std::result::Result<Arc<InForce>, Refused>> {
        // Whoever hangs up meanwhile: what is in the database must be in force here.
        let routing = self.clone();
        let changing = async move { routing.change_now(expected, policy, author, now).await };
        match self.0.changes.spawn(changing).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {
                Err(Error::Unavailable { backend: "sqlite", detail: "the service is stopping".to_owned() })
            }
        }
    }

    async fn change_now(
        &self,
        expected: Option<u64>,
        policy: Policy,
        author: Author,
        now: Timestamp,
    ) -> Result<std::result::Result<Arc<InForce>, Refused>> {
        let _turn = self.0.changing.lock().await;
        let before = self.current();
        if expected.is_some_and(|expected| expected != before.generation) {
            return Ok(Err(Refused::Changed { current: before.generation }));
        }
        if let Some(by) = before.pinned_by.clone().filter(|_| policy.force != before.policy.force) {
            return Ok(Err(Refused::Pinned { by }));
        }
        let generation = before.generation + 1;
        // What holds `force` is not of this policy: it goes when it is unset.
        let own = |policy: Policy, pinned: &Option<String>| match pinned {
            Some(_) => Policy { force: before.own_force, ..policy },
            None => policy,
        };
        let kept = own(policy, &before.pinned_by);
        let change = Change {
            generation,
            changed_at: now,
            who: author.who,
            reason: author.reason,
            before: own(before.policy, &before.pinned_by),
            after: kept,
        };
        // From the commit on the database refuses what was planned under the policy before.
        if !self.0.store.change_policy(change).await? {
            return Ok(Err(Refused::Changed { current: before.generation }));
        }
        let after = Arc::new(InForce {
            generation,
            policy,
            changed_at: Some(now),
            pinned_by: before.pinned_by.clone(),
            own_force: kept.force,
            configured: before.configured.clone(),
        });
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        show(&self.0.metrics, &after);
        for hook in self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(&after);
        }
        tracing::info!(generation, policy = ?after.policy, "the routing policy was changed");
        Ok(Ok(after))
    }
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Routing").field(&self.current()).finish()
    }
}

fn show(metrics: &Metrics, current: &InForce) {
    let policy = &current.policy;
    metrics.routing_percent.set(policy.effective_percent().as_number());
    metrics.routing_dual_write.set(i64::from(policy.dual_write));
    metrics.routing_generation.set(i64::try_from(current.generation).unwrap_or(i64::MAX));
    for (side, force) in [("sqlite", Force::Sqlite), ("dynamodb", Force::Dynamodb)] {
        metrics.routing_forced.with_label_values(&[side]).set(i64::from(policy.force == force));
    }
}
