//! The keys of the indexes in our own tables: which partition a session is in, and at which place.

use crate::domain::session::{SessionId, Status};
use crate::domain::{Namespace, Timestamp};

/// Over how many partitions the sessions of a status are spread, so that no partition takes every write.
pub(super) const SHARDS: u8 = 8;

/// What stands between parts of a key: neither names of namespaces nor ids contain it.
const BETWEEN: char = ' ';

/// The key of a session's item. In the default namespace it is the id, as in tables of other programs.
pub(super) fn item_key(namespace: &Namespace, id: &SessionId) -> String {
    if *namespace == Namespace::default() {
        return id.to_string();
    }
    format!("{id}{BETWEEN}{namespace}", namespace = namespace.as_str())
}

/// The namespace and id of an item; `None` if no session can have that key.
pub(super) fn parse_item_key(key: &str) -> Option<(Namespace, SessionId)> {
    let (id, namespace) = match key.split_once(BETWEEN) {
        None => (key, Namespace::default()),
        // The default one is never written out.
        Some((id, name)) => (id, Namespace::new(name).ok().filter(|it| *it != Namespace::default())?),
    };
    Some((namespace, SessionId::new(id).ok()?))
}

/// The partition of a project.
pub(super) fn project_key(namespace: &Namespace, project_id: &str) -> String {
    format!("{}{BETWEEN}{project_id}", namespace.as_str())
}

/// A partition of a status.
pub(super) fn status_shard(namespace: &Namespace, status: Status, shard: u8) -> String {
    format!("{}{BETWEEN}{status}{BETWEEN}{shard}", namespace.as_str())
}

/// The shard of a session.
pub(super) fn shard(id: &SessionId) -> u8 {
    blake3::hash(id.as_str().as_bytes()).as_bytes()[0] % SHARDS
}

/// The place of a session among others: by time, and among those of one time by id.
pub(super) fn place(at: Timestamp, id: &SessionId) -> String {
    format!("{at}{BETWEEN}{id}")
}

/// The session at a place; `None` if the text is no place.
pub(super) fn id_at(text: &str) -> Option<SessionId> {
    let (at, id) = text.split_once(BETWEEN)?;
    Timestamp::parse(at).ok().filter(|parsed| parsed.to_string() == at)?;
    SessionId::new(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_session() {
        let id = SessionId::new("s.1").expect("an id");
        let elsewhere = Namespace::new("b").expect("a name");
        assert_eq!(item_key(&Namespace::default(), &id), "s.1");
        assert_eq!(item_key(&elsewhere, &id), "s.1 b");
        for namespace in [Namespace::default(), elsewhere] {
            assert_eq!(parse_item_key(&item_key(&namespace, &id)), Some((namespace, id.clone())));
        }
        for foreign in ["", " ", "s ", "s default", "a/b", "s b c"] {
            assert_eq!(parse_item_key(foreign), None, "{foreign}");
        }
    }

    /// Frozen: sessions lie there.
    #[test]
    fn partitions_and_places_are_frozen() {
        let (namespace, id) = (Namespace::default(), SessionId::from_random(1));
        assert_eq!(project_key(&namespace, "p q"), "default p q");
        assert_eq!(status_shard(&namespace, Status::TimedOut, 7), "default TIMED_OUT 7");
        assert_eq!(shard(&id), 3);
        let place = place(Timestamp::from_secs(1_768_473_000), &id);
        assert_eq!(place, "2026-01-15T10:30:00.000Z sess_00000001");
        assert_eq!(id_at(&place), Some(id));
        for none in
            ["2026 a", "", "1768473000 a", "2026-01-15T10:30:00.000Z ", "2026-01-15T10:30:00.000Z a b"]
        {
            assert_eq!(id_at(none), None, "{none}");
        }
    }
}
