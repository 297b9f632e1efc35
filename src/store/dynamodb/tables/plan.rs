//! What has to be done so that the tables are as they should be: a list of steps, made from what there is.

use std::fmt;

use serde::Serialize;
use serde::ser::SerializeStruct;

use super::describe::{Billing, Found, TableDescription, Told};
use super::spec::{IndexSpec, TableSpec};

/// Whose key encrypts a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// The service's own, which costs nothing.
    Owned,
    /// One that AWS manages in the account.
    Aws,
    /// This one of the account.
    Key(String),
}

/// How tables are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Whether they can be restored to any second of the last weeks, where the endpoint has that.
    pub point_in_time_recovery: bool,
    /// Whose key encrypts them.
    pub encryption: Encryption,
    /// Their tags.
    pub tags: Vec<(String, String)>,
    /// Whether they refuse to be deleted.
    pub deletion_protection: bool,
    /// Whether tables that exist get what they lack: indexes, expiry, recovery.
    pub update: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            point_in_time_recovery: true,
            encryption: Encryption::Owned,
            tags: Vec::new(),
            deletion_protection: false,
            update: false,
        }
    }
}

/// One thing to do with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub(super) table: String,
    pub(super) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Make the table with its indexes.
    Create(Box<(TableSpec, CreateOptions)>),
    /// Wait until the table and all its indexes are active.
    Wait,
    /// Have items expire by this attribute.
    Expire(&'static str),
    /// Switch point-in-time recovery on.
    Recover,
    /// Add an index; with these read and write units where the table has such.
    Index(Box<(TableSpec, IndexSpec)>, Option<(i64, i64)>),
    /// Have the table refuse to be deleted.
    Protect,
}

impl Step {
    /// The full name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// A word for programs.
    pub fn action(&self) -> &'static str {
        match self.action {
            Action::Create(..) => "create",
            Action::Wait => "wait",
            Action::Expire(_) => "time_to_live",
            Action::Recover => "point_in_time_recovery",
            Action::Index(..) => "index",
            Action::Protect => "deletion_protection",
        }
    }

    /// Whether the table cannot be used, nor its later steps be done, without it.
    pub fn is_needed(&self) -> bool {
        matches!(self.action, Action::Create(..) | Action::Wait)
    }
}

impl fmt::Display for Step {
    /// What it does, such as `make the table crawl4ai-results`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.table;
        match &self.action {
            Action::Create(made) => {
                let (spec, _) = &**made;
                write!(f, "make the table {table}, key {}", spec.keys)?;
                spec.indexes.iter().try_for_each(|index| write!(f, ", index {}", index.name))
            }
            Action::Wait => write!(f, "wait until {table} is active"),
            Action::Expire(attribute) => write!(f, "have items of {table} expire by `{attribute}`"),
            Action::Recover => write!(f, "switch point-in-time recovery of {table} on"),
            Action::Index(made, _) => {
                write!(f, "add the index {} to {table}, key {}", made.1.name, made.1.made_keys())
            }
            Action::Protect => write!(f, "protect {table} from deletion"),
        }
    }
}

impl Serialize for Step {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Step", 3)?;
        object.serialize_field("table", &self.table)?;
        object.serialize_field("action", self.action())?;
        object.serialize_field("text", &self.to_string())?;
        object.end()
    }
}

/// The steps for one table, given what there is.
pub(super) fn steps(spec: &TableSpec, there: &TableDescription, options: &CreateOptions) -> Vec<Step> {
    let actions = match &there.found {
        None => new_table(spec, options),
        // An earlier run may have been stopped while it waited.
        Some(found) if found.status == "CREATING" && found.keys == spec.keys => {
            let mut actions = vec![Action::Wait];
            finish(spec, options, &mut actions);
            actions
        }
        Some(found) if options.update => update(spec, found, options),
        Some(_) => Vec::new(),
    };
    actions.into_iter().map(|action| Step { table: spec.name.clone(), action }).collect()
}

fn new_table(spec: &TableSpec, options: &CreateOptions) -> Vec<Action> {
    let mut actions = vec![Action::Create(Box::new((spec.clone(), options.clone()))), Action::Wait];
    finish(spec, options, &mut actions);
    actions
}

/// What can be done only with a table that is active.
fn finish(spec: &TableSpec, options: &CreateOptions, actions: &mut Vec<Action>) {
    actions.push(Action::Expire(spec.ttl));
    if options.point_in_time_recovery {
        actions.push(Action::Recover);
    }
}

fn update(spec: &TableSpec, found: &Found, options: &CreateOptions) -> Vec<Action> {
    let mut actions = Vec::new();
    // Others rely on how an adopted table is, and one of other keys is not ours to change.
    if found.keys != spec.keys {
        return actions;
    }
    if found.status != "ACTIVE" || found.indexes.iter().any(|index| index.status != "ACTIVE") {
        actions.push(Action::Wait);
    }
    // Where it cannot be told whether it is on, to switch it on does no harm.
    let is_settled = match &found.time_to_live {
        Told::Known(ttl) => ttl.enabled,
        Told::Unsupported => true,
        Told::Unknown(_) => false,
    };
    if !is_settled {
        actions.push(Action::Expire(spec.ttl));
    }
    if options.point_in_time_recovery && found.point_in_time_recovery.known() == Some(&false) {
        actions.push(Action::Recover);
    }
    if options.deletion_protection && !found.deletion_protection {
        actions.extend([Action::Protect, Action::Wait]);
    }
    let units = match found.billing {
        Billing::OnDemand => None,
        Billing::Provisioned { read_units, write_units } => Some((read_units, write_units)),
    };
    for index in &spec.indexes {
        if found.indexes.iter().all(|found| found.name != index.name) {
            // One at a time: the service refuses the next as long as one is being built.
            let made = Box::new((spec.clone(), index.clone()));
            actions.extend([Action::Index(made, units), Action::Wait]);
        }
    }
    actions
}
