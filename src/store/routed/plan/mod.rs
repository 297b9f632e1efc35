//! What to do, by policy and by the state of the backends: tables without I/O.

use crate::domain::routing::{OnOwnerFailure, Side};

/// What the database knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// It holds an entry that the other side has, too, or need not have.
    Held,
    /// It holds the newest there is: the other side has yet to get it.
    Newest,
    /// The newest it knows of is a deletion.
    Deleted,
    /// The newest is a deletion that the other side has yet to be told of.
    DeletedNewest,
    /// Nothing, or nothing that would be an answer.
    Absent,
}

impl Local {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Held, Self::Newest, Self::Deleted, Self::DeletedNewest, Self::Absent];
}

/// How to read a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// SQLite's entry is the answer.
    Local,
    /// SQLite's entry is the answer, for DynamoDB has yet to get it.
    LocalQueued,
    /// SQLite's entry is the answer, for DynamoDB cannot be reached.
    LocalFallback,
    /// There is none.
    Absent,
    /// DynamoDB is asked for want of anything in SQLite; when it cannot answer, whether there is one is unknown.
    RemoteElseUnasked,
    /// DynamoDB is asked, and the newer of the two is the answer; when it cannot answer, SQLite's is.
    NewerElseLocal,
    /// SQLite has none, and DynamoDB, which may have one, cannot be reached.
    Unasked,
    /// DynamoDB is asked; when it cannot answer, nobody can.
    RemoteElseError,
    /// Nobody can answer: DynamoDB owns the key and cannot be reached.
    Unreachable,
}

/// How to read a key of this owner, of which SQLite knows this, while DynamoDB answers or not.
pub const fn read(owner: Side, local: Local, is_reachable: bool) -> Read {
    match (owner, local) {
        (Side::Sqlite, Local::Held | Local::Newest) => Read::Local,
        (Side::Dynamodb, Local::Newest) => Read::LocalQueued,
        (Side::Dynamodb, Local::Held) if is_reachable => Read::NewerElseLocal,
        (Side::Dynamodb, Local::Held) => Read::LocalFallback,
        // Of what DynamoDB owns, another instance may have stored it anew.
        (Side::Sqlite, Local::Absent) | (Side::Dynamodb, Local::Deleted) if is_reachable => {
            Read::RemoteElseUnasked
        }
        (Side::Sqlite, Local::Absent) | (Side::Dynamodb, Local::Deleted) => Read::Unasked,
        (_, Local::Deleted | Local::DeletedNewest) => Read::Absent,
        (Side::Dynamodb, Local::Absent) if is_reachable => Read::RemoteElseError,
        (Side::Dynamodb, Local::Absent) => Read::Unreachable,
    }
}

/// How to write a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Into SQLite, with a row in the outbox.
    LocalAndQueue,
    /// Into SQLite, and what DynamoDB has of it is dead.
    LocalAndFloor,
    /// Into SQLite with a row in the outbox, which is delivered before the answer: what is lost on the way is delivered
    /// later.
    LocalThenDeliver,
    /// Into DynamoDB, which judges the condition, and then into SQLite.
    RemoteThenMirror,
    /// Into DynamoDB, and what SQLite has of it goes.
    RemoteThenSupersede {
        /// Whether it is queued when DynamoDB fails.
        else_queue: bool,
    },
    /// Into SQLite with a row in the outbox: DynamoDB, which owns it, cannot be reached.
    QueueOnly,
    /// Not at all.
    Refuse,
}

/// What decides about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// Who owns the key.
    pub owner: Side,
    /// Whether the other side gets it as well. A deletion always goes to both.
    pub to_both: bool,
    /// Whether it has a condition, which only the owner can judge.
    pub is_conditional: bool,
    /// What becomes of it when the owner cannot be reached.
    pub on_owner_failure: OnOwnerFailure,
    /// Whether DynamoDB answers.
    pub is_reachable: bool,
}

/// How to write.
pub const fn write(writing: Writing) -> Write {
    let Writing { owner, to_both, is_conditional, on_owner_failure, is_reachable } = writing;
    let may_queue = !is_conditional && matches!(on_owner_failure, OnOwnerFailure::Queue);
    match owner {
        Side::Sqlite if to_both => Write::LocalAndQueue,
        Side::Sqlite => Write::LocalAndFloor,
        Side::Dynamodb if !is_reachable && may_queue => Write::QueueOnly,
        Side::Dynamodb if !is_reachable => Write::Refuse,
        Side::Dynamodb if to_both && may_queue => Write::LocalThenDeliver,
        Side::Dynamodb if to_both => Write::RemoteThenMirror,
        Side::Dynamodb => Write::RemoteThenSupersede { else_queue: may_queue },
    }
}

#[cfg(test)]
mod tests;
