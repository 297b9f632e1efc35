//! The tables, cell by cell.

use super::*;

#[test]
fn reads_by_owner_knowledge_and_reach() {
    use Local::{Absent, Deleted, DeletedNewest, Held, Newest};
    let table = [
        (Side::Sqlite, Held, true, Read::Local),
        (Side::Sqlite, Held, false, Read::Local),
        (Side::Sqlite, Newest, true, Read::Local),
        (Side::Sqlite, Newest, false, Read::Local),
        (Side::Sqlite, Deleted, true, Read::Absent),
        (Side::Sqlite, Deleted, false, Read::Absent),
        (Side::Sqlite, DeletedNewest, true, Read::Absent),
        (Side::Sqlite, DeletedNewest, false, Read::Absent),
        (Side::Sqlite, Absent, true, Read::RemoteElseUnasked),
        (Side::Sqlite, Absent, false, Read::Unasked),
        (Side::Dynamodb, Held, true, Read::NewerElseLocal),
        (Side::Dynamodb, Held, false, Read::LocalFallback),
        (Side::Dynamodb, Newest, true, Read::LocalQueued),
        (Side::Dynamodb, Newest, false, Read::LocalQueued),
        (Side::Dynamodb, Deleted, true, Read::RemoteElseUnasked),
        (Side::Dynamodb, Deleted, false, Read::Unasked),
        (Side::Dynamodb, DeletedNewest, true, Read::Absent),
        (Side::Dynamodb, DeletedNewest, false, Read::Absent),
        (Side::Dynamodb, Absent, true, Read::RemoteElseError),
        (Side::Dynamodb, Absent, false, Read::Unreachable),
    ];
    assert_eq!(table.len(), Side::ALL.len() * Local::ALL.len() * 2, "every combination");
    for (at, (owner, local, is_reachable, expected)) in table.into_iter().enumerate() {
        assert_eq!(read(owner, local, is_reachable), expected, "{owner} {local:?} reachable {is_reachable}");
        let earlier = table[..at].iter().any(|row| (row.0, row.1, row.2) == (owner, local, is_reachable));
        assert!(!earlier, "{owner} {local:?} {is_reachable} is there twice");
    }
}

#[test]
fn writes_by_owner_policy_and_reach() {
    use OnOwnerFailure::{Queue, Reject};
    // owner, to both sides, conditional, on failure, reachable
    let table = [
        (Side::Sqlite, true, false, Queue, true, Write::LocalAndQueue),
        (Side::Sqlite, true, false, Queue, false, Write::LocalAndQueue),
        (Side::Sqlite, true, false, Reject, true, Write::LocalAndQueue),
        (Side::Sqlite, true, false, Reject, false, Write::LocalAndQueue),
        (Side::Sqlite, true, true, Queue, true, Write::LocalAndQueue),
        (Side::Sqlite, true, true, Queue, false, Write::LocalAndQueue),
        (Side::Sqlite, true, true, Reject, true, Write::LocalAndQueue),
        (Side::Sqlite, true, true, Reject, false, Write::LocalAndQueue),
        (Side::Sqlite, false, false, Queue, true, Write::LocalAndFloor),
        (Side::Sqlite, false, false, Queue, false, Write::LocalAndFloor),
        (Side::Sqlite, false, false, Reject, true, Write::LocalAndFloor),
        (Side::Sqlite, false, false, Reject, false, Write::LocalAndFloor),
        (Side::Sqlite, false, true, Queue, true, Write::LocalAndFloor),
        (Side::Sqlite, false, true, Queue, false, Write::LocalAndFloor),
        (Side::Sqlite, false, true, Reject, true, Write::LocalAndFloor),
        (Side::Sqlite, false, true, Reject, false, Write::LocalAndFloor),
        (Side::Dynamodb, true, false, Queue, true, Write::LocalThenDeliver),
        (Side::Dynamodb, true, false, Queue, false, Write::QueueOnly),
        (Side::Dynamodb, true, false, Reject, true, Write::RemoteThenMirror),
        (Side::Dynamodb, true, false, Reject, false, Write::Refuse),
        (Side::Dynamodb, true, true, Queue, true, Write::RemoteThenMirror),
        (Side::Dynamodb, true, true, Queue, false, Write::Refuse),
        (Side::Dynamodb, true, true, Reject, true, Write::RemoteThenMirror),
        (Side::Dynamodb, true, true, Reject, false, Write::Refuse),
        (Side::Dynamodb, false, false, Queue, true, Write::RemoteThenSupersede { else_queue: true }),
        (Side::Dynamodb, false, false, Queue, false, Write::QueueOnly),
        (Side::Dynamodb, false, false, Reject, true, Write::RemoteThenSupersede { else_queue: false }),
        (Side::Dynamodb, false, false, Reject, false, Write::Refuse),
        (Side::Dynamodb, false, true, Queue, true, Write::RemoteThenSupersede { else_queue: false }),
        (Side::Dynamodb, false, true, Queue, false, Write::Refuse),
        (Side::Dynamodb, false, true, Reject, true, Write::RemoteThenSupersede { else_queue: false }),
        (Side::Dynamodb, false, true, Reject, false, Write::Refuse),
    ];
    assert_eq!(table.len(), 2 * 2 * 2 * 2 * 2, "every combination");
    for (owner, to_both, is_conditional, on_owner_failure, is_reachable, expected) in table {
        let writing = Writing { owner, to_both, is_conditional, on_owner_failure, is_reachable };
        assert_eq!(write(writing), expected, "{writing:?}");
    }
    let distinct: std::collections::HashSet<_> =
        table.iter().map(|row| (row.0, row.1, row.2, row.3, row.4)).collect();
    assert_eq!(distinct.len(), table.len());
}
