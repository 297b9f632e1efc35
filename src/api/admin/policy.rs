//! The routing policy as JSON: what is in force, what would change, and what to mind about it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::problem::{Problem, Result};
use crate::domain::Timestamp;
use crate::domain::routing::{BUCKETS, Force, OnOwnerFailure, Percent, Policy};
use crate::store::routed::policy::{InForce, Overruled};

/// How results and sessions are spread over SQLite and DynamoDB.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RoutingPolicy)]
pub(super) struct PolicyDocument {
    /// The share of keys that DynamoDB owns, 0 to 100 with at most two decimals.
    #[schema(value_type = f64, example = 25)]
    percent: Percent,
    /// Whether one side owns everything all the same: `none`, `sqlite` or `dynamodb`.
    #[schema(value_type = String, example = "none")]
    force: Force,
    /// Whether the side that is not the owner gets every write, too.
    #[schema(example = true)]
    dual_write: bool,
    /// The share of reads, 0 to 1, after which both sides are compared.
    #[schema(example = 0.05)]
    shadow_read: f64,
    /// What becomes of a write whose owner, DynamoDB, cannot be reached: `queue` or `reject`.
    #[schema(value_type = String, example = "queue")]
    on_owner_failure: OnOwnerFailure,
}

impl PolicyDocument {
    pub(super) const fn of(policy: &Policy) -> Self {
        let Policy { percent, force, dual_write, shadow_read, on_owner_failure } = *policy;
        Self { percent, force, dual_write, shadow_read, on_owner_failure }
    }
}

/// The policy in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Routing)]
pub(super) struct RoutingDocument {
    /// Grows with each change; the `ETag` without its quotes. 0 for the one of the configuration.
    #[schema(example = 7)]
    pub(super) generation: u64,
    /// What counts.
    policy: PolicyDocument,
    /// The share of keys that DynamoDB owns, `force` considered.
    #[schema(value_type = f64, example = 25)]
    effective_percent: Percent,
    /// When it was set, RFC 3339; null for the one of the configuration.
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Timestamp>,
    /// What holds `force` as it is, such as `FORCE_SQLITE`; null where nothing does.
    pinned_by: Option<String>,
    /// What the configuration says otherwise: what was set while the service ran counts.
    overruled: Vec<OverruledMember>,
}

/// A member of the policy that the configuration says otherwise.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OverruledMember {
    /// Its name.
    #[schema(example = "percent")]
    member: String,
    /// What the configuration says.
    #[schema(example = 50)]
    configured: Value,
    /// What counts.
    #[schema(example = 25)]
    in_force: Value,
    /// What says it in the configuration.
    #[schema(example = "environment DYNAMODB_MIGRATION_PCT")]
    said_by: String,
}

impl From<Overruled> for OverruledMember {
    fn from(Overruled { member, configured, in_force, said_by }: Overruled) -> Self {
        Self { member, configured, in_force, said_by }
    }
}

impl RoutingDocument {
    pub(super) fn of(in_force: &InForce) -> Self {
        Self {
            generation: in_force.generation,
            policy: PolicyDocument::of(&in_force.policy),
            effective_percent: in_force.policy.effective_percent(),
            changed_at: in_force.changed_at,
            pinned_by: in_force.pinned_by.clone(),
            overruled: in_force.overruled().into_iter().map(OverruledMember::from).collect(),
        }
    }
}

/// A whole policy, and why it is set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WholePolicy {
    /// The share of keys that DynamoDB owns, 0 to 100 with at most two decimals.
    #[schema(value_type = f64, minimum = 0, maximum = 100)]
    percent: Percent,
    /// Whether one side owns everything all the same: `none`, `sqlite` or `dynamodb`.
    #[schema(value_type = String)]
    force: Force,
    /// Whether the side that is not the owner gets every write, too.
    dual_write: bool,
    /// The share of reads, 0 to 1, after which both sides are compared.
    #[schema(minimum = 0, maximum = 1)]
    shadow_read: f64,
    /// What becomes of a write whose owner, DynamoDB, cannot be reached: `queue` or `reject`.
    #[schema(value_type = String)]
    on_owner_failure: OnOwnerFailure,
    /// Why, for the log.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

impl WholePolicy {
    pub(super) fn policy(&self) -> Result<Policy> {
        let Self { percent, force, dual_write, shadow_read, on_owner_failure, .. } = *self;
        checked(Policy { percent, force, dual_write, shadow_read, on_owner_failure })
    }
}

/// The members of a policy that change, and why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyPatch {
    /// The share of keys that DynamoDB owns, 0 to 100 with at most two decimals.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = f64, minimum = 0, maximum = 100)]
    percent: Option<Percent>,
    /// Whether one side owns everything all the same: `none`, `sqlite` or `dynamodb`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String)]
    force: Option<Force>,
    /// Whether the side that is not the owner gets every write, too.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = bool)]
    dual_write: Option<bool>,
    /// The share of reads, 0 to 1, after which both sides are compared.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    shadow_read: Option<f64>,
    /// What becomes of a write whose owner, DynamoDB, cannot be reached: `queue` or `reject`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(value_type = String)]
    on_owner_failure: Option<OnOwnerFailure>,
    /// Why, for the log.
    pub(super) reason: Option<String>,
}

/// A merge patch removes a member by null, and a policy has none that may be missing.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl PolicyPatch {
    /// A policy with the members changed that are named.
    pub(super) fn applied(&self, policy: &Policy) -> Result<Policy> {
        checked(Policy {
            percent: self.percent.unwrap_or(policy.percent),
            force: self.force.unwrap_or(policy.force),
            dual_write: self.dual_write.unwrap_or(policy.dual_write),
            shadow_read: self.shadow_read.unwrap_or(policy.shadow_read),
            on_owner_failure: self.on_owner_failure.unwrap_or(policy.on_owner_failure),
        })
    }
}

fn checked(policy: Policy) -> Result<Policy> {
    if (0.0..=1.0).contains(&policy.shadow_read) {
        return Ok(policy);
    }
    let detail = format!("shadow_read: {} is not a share from 0 to 1", policy.shadow_read);
    Err(Problem::new("invalid_field", detail).with("field", "shadow_read"))
}

/// A member of the policy that has changed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PolicyChange)]
pub(super) struct MemberChange {
    /// Its name.
    #[schema(example = "percent")]
    member: String,
    /// What it was.
    #[schema(example = 10)]
    before: Value,
    /// What it is.
    #[schema(example = 25)]
    after: Value,
}

/// What differs between two policies.
pub(super) fn changes(before: &Policy, after: &Policy) -> Vec<MemberChange> {
    let members = |policy: &Policy| match serde_json::to_value(PolicyDocument::of(policy)) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let (mut before, after) = (members(before), members(after));
    let change = |(member, after): (String, Value)| {
        let before = before.remove(&member)?;
        (before != after).then_some(MemberChange { member, before, after })
    };
    after.into_iter().filter_map(change).collect()
}

/// How many of the buckets, into which all keys fall evenly, change their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Moves {
    /// From SQLite to DynamoDB.
    #[schema(example = 1500)]
    to_dynamodb: u16,
    /// From DynamoDB to SQLite.
    #[schema(example = 0)]
    to_sqlite: u16,
    /// How many there are.
    #[schema(example = 10_000)]
    buckets: u16,
}

impl Moves {
    pub(super) const fn between(before: &Policy, after: &Policy) -> Self {
        let (before, after) =
            (before.effective_percent().hundredths(), after.effective_percent().hundredths());
        Self {
            to_dynamodb: after.saturating_sub(before),
            to_sqlite: before.saturating_sub(after),
            buckets: BUCKETS,
        }
    }
}

/// What to mind about a change.
pub(super) fn warnings(before: &Policy, after: &Policy) -> Vec<&'static str> {
    let (was, is) = (before.effective_percent(), after.effective_percent());
    let mut warnings = Vec::new();
    if is < was {
        warnings.push(
            "what only DynamoDB has stays readable for as long as DynamoDB answers: keys that SQLite owns and does not \
             have are looked for there; `crawlcache migrate --to sqlite` copies all of them",
        );
    }
    if is > was && !after.dual_write {
        warnings.push(
            "without `dual_write` SQLite does not get what is written to DynamoDB from now on, so that a way back needs \
             DynamoDB to answer",
        );
    }
    if before.percent != after.percent && after.force != Force::None {
        warnings.push("`force` is set: the percentage counts as soon as it is `none`");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(percent: u16, force: Force) -> Policy {
        let percent = Percent::from_hundredths(percent).expect("a share");
        Policy { percent, force, dual_write: true, ..Policy::default() }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let before = policy(1000, Force::None);
        let patch: PolicyPatch =
            serde_json::from_value(json!({"percent": 12.5, "shadow_read": 1})).expect("a patch");
        let after = patch.applied(&before).expect("allowed");
        assert_eq!(
            changes(&before, &after),
            [("percent", json!(10), json!(12.5)), ("shadow_read", json!(0.0), json!(1.0))]
                .map(|(member, before, after)| MemberChange { member: member.to_owned(), before, after })
        );
        assert_eq!(PolicyPatch::default().applied(&before).expect("allowed"), before);
        for refused in [
            json!({"percent": null}),
            json!({"percent": 12.345}),
            json!({"percent": 101}),
            json!({"percent": "10"}),
            json!({"force": "both"}),
            json!({"dual_write": 1}),
            json!({"on_owner_failure": "drop"}),
            json!({"percentage": 10}),
        ] {
            serde_json::from_value::<PolicyPatch>(refused.clone()).expect_err(&refused.to_string());
        }
        let beyond: PolicyPatch = serde_json::from_value(json!({"shadow_read": 1.5})).expect("a number");
        assert_eq!(beyond.applied(&before).expect_err("refused").to_json()["field"], "shadow_read");
    }

    #[test]
    fn buckets_move_by_what_is_effective() {
        let ten = policy(1000, Force::None);
        for (after, to_dynamodb, to_sqlite) in [
            (policy(2500, Force::None), 1500, 0),
            (policy(0, Force::None), 0, 1000),
            (policy(1000, Force::Sqlite), 0, 1000),
            (policy(1000, Force::Dynamodb), 9000, 0),
            (ten, 0, 0),
        ] {
            let moves = Moves::between(&ten, &after);
            assert_eq!(moves, Moves { to_dynamodb, to_sqlite, buckets: 10_000 }, "{after:?}");
            let warnings = warnings(&ten, &after);
            assert_eq!(warnings.iter().any(|text| text.contains("stays readable")), to_sqlite > 0);
        }
        let alone = Policy { dual_write: false, ..policy(2500, Force::None) };
        assert!(warnings(&ten, &alone).iter().any(|text| text.contains("way back")));
        assert!(
            warnings(&ten, &policy(50, Force::Sqlite)).iter().any(|text| text.contains("`force` is set"))
        );
    }
}
