//! The layouts of tables that sessions are kept in, the names that attributes have in each, and how a table's is found.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    GlobalSecondaryIndexDescription, IndexStatus, KeySchemaElement, KeyType, ProjectionType,
    ScalarAttributeType, TableDescription,
};

use super::super::BACKEND;
use super::super::item::Item;
use super::field::Key;
use crate::store::{Error, Result};

/// Whose table it is, and so how its items look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Ours, or that of Crawl4AI's tool server: names in snake case.
    Own,
    /// That of Wallcrawler, in one of its two generations: names in camel case.
    Wallcrawler(Times),
}

/// How Wallcrawler writes times other than the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// As Unix seconds; `status` is where the session is in its life.
    Number,
    /// As RFC 3339 in whole seconds; `status` is one of the four words of its SDK, and where the session is in its
    /// life is in `internalStatus`.
    Text,
}

/// The names of attributes that no field of a session has.
#[derive(Debug)]
pub(super) struct Names {
    /// The key.
    pub(super) id: &'static str,
    /// The version of the last write by this service.
    pub(super) version: &'static str,
    /// The digest of the item as that write left it.
    pub(super) digest: &'static str,
    /// Fields whose attribute says something else than they do, as JSON texts by name.
    pub(super) json: &'static str,
    /// Fields that would make the item too large, compressed.
    pub(super) packed: &'static str,
    /// What there is besides, so that no unknown attribute may have the name.
    others: &'static [&'static str],
}

/// The namespace of a session that is not in the default one.
pub(super) const NAMESPACE: &str = "namespace";
/// Credentials, sealed.
pub(super) const SEALED: &str = "sealed";
/// When `DynamoDB` may delete the session, in Unix seconds.
pub(super) const TTL: &str = "ttl";
/// The key of the index of projects.
pub(super) const PROJECT_KEY: &str = "project_key";
/// The order within a project.
pub(super) const PROJECT_ORDER: &str = "project_order";
/// The key of the index of statuses.
pub(super) const STATUS_SHARD: &str = "status_shard";
/// The order within a status.
pub(super) const STATUS_ORDER: &str = "status_order";
/// Where a session is in its life, in Wallcrawler's younger tables.
pub(super) const INTERNAL_STATUS: &str = "internalStatus";
/// The status: in Wallcrawler's younger tables that of its SDK.
pub(super) const STATUS: &str = "status";

const OWN: Names = Names {
    id: "session_id",
    version: "version",
    digest: "cc_digest",
    json: "cc_json",
    packed: "cc_packed",
    others: &[NAMESPACE, SEALED, TTL, PROJECT_KEY, PROJECT_ORDER, STATUS_SHARD, STATUS_ORDER],
};

const WALLCRAWLER: Names = Names {
    id: "sessionId",
    version: "ccVersion",
    digest: "ccDigest",
    json: "ccJson",
    packed: "ccPacked",
    others: &[INTERNAL_STATUS, STATUS],
};

/// What members of a session's JSON and of a request's body mean something by, so that an attribute that has the
/// name by chance cannot be shown beside them.
const TAKEN: [&str; 8] =
    ["id", "profile", "ttl", "ttl_seconds", "version", "events", "event_count", "events_dropped"];

impl Layout {
    /// The names of attributes other than fields.
    pub(super) const fn names(self) -> &'static Names {
        match self {
            Self::Own => &OWN,
            Self::Wallcrawler(_) => &WALLCRAWLER,
        }
    }

    /// The names of a field's attribute: the one that is written, and others that are read in its place.
    pub(super) fn attributes_of(self, key: Key) -> (&'static str, &'static [&'static str]) {
        match (self, key) {
            (Self::Own, Key::Events) => ("event_history", &[]),
            (Self::Own, key) => (key.name(), &[]),
            (Self::Wallcrawler(Times::Text), Key::Status) => (INTERNAL_STATUS, &[]),
            (Self::Wallcrawler(Times::Text), Key::TerminatedAt) => ("endedAt", &["terminatedAt"]),
            (Self::Wallcrawler(Times::Number), Key::TerminatedAt) => ("terminatedAt", &["endedAt"]),
            (Self::Wallcrawler(_), key) => key.wallcrawler_names(),
        }
    }

    /// The attribute that a field of this item is in: the one that is written unless only another is there.
    pub(super) fn attribute_of(self, key: Key, item: &Item) -> &'static str {
        let (name, others) = self.attributes_of(key);
        if item.contains_key(name) {
            return name;
        }
        others.iter().find(|other| item.contains_key(**other)).unwrap_or(&name)
    }

    /// Whether an attribute of that name is no unknown one.
    pub(super) fn reserves(self, name: &str) -> bool {
        let Names { id, version, digest, json, packed, others } = self.names();
        [id, version, digest, json, packed].into_iter().any(|own| *own == name)
            || others.contains(&name)
            || Key::ALL.into_iter().any(|key| {
                let (own, read) = self.attributes_of(key);
                own == name || read.contains(&name)
            })
    }

    /// Whether an attribute of that name can be shown as an unknown one.
    pub(super) fn shows(self, name: &str) -> bool {
        !name.is_empty()
            && !self.reserves(name)
            && !TAKEN.contains(&name)
            && Key::ALL.into_iter().all(|key| key.name() != name)
    }
}

/// An index of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Whether it holds whole items.
    pub(super) is_whole: bool,
}

/// What the service says about the table.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) layout: Layout,
    /// The index by project, if there is one that can be asked.
    pub(super) by_project: Option<Index>,
    /// The index by status, if there is one that can be asked.
    pub(super) by_status: Option<Index>,
    /// The types that the keys of the table and of all its indexes must have.
    pub(super) key_types: HashMap<String, ScalarAttributeType>,
    /// How many items there are, or were some hours ago.
    pub(super) items: u64,
    /// How many bytes they have.
    pub(super) bytes: u64,
}

impl Schema {
    /// Reads a description.
    ///
    /// # Errors
    /// [`Error::WrongSchema`] for the keys of some other table.
    pub(super) fn of(table: &str, described: &TableDescription) -> Result<Self> {
        let key_types: HashMap<_, _> = described
            .attribute_definitions()
            .iter()
            .map(|one| (one.attribute_name.clone(), one.attribute_type.clone()))
            .collect();
        let is_text = |name: &str| key_types.get(name) == Some(&ScalarAttributeType::S);
        let layout = match keys(described.key_schema()) {
            (Some("session_id"), None) if is_text("session_id") => Layout::Own,
            (Some("sessionId"), None) if is_text("sessionId") => {
                // Without that index nothing prescribes a type: the younger generation's is the one that is made today.
                let times = match key_types.get("createdAt") {
                    Some(ScalarAttributeType::N) => Times::Number,
                    _ => Times::Text,
                };
                Layout::Wallcrawler(times)
            }
            found => {
                let detail = format!(
                    "the table {table} has the key ({}), and a table of sessions has `session_id` or `sessionId`, a \
                     string, and no sort key",
                    shown(found, &key_types)
                );
                return Err(Error::WrongSchema { backend: BACKEND, detail });
            }
        };
        let (by_project, by_status) = layout.indexes();
        let index = |wanted: IndexKeys| {
            let found = described.global_secondary_indexes().iter().find(|found| wanted.is(found))?;
            let projection = found.projection()?.projection_type()?;
            Some(Index { is_whole: *projection == ProjectionType::All })
        };
        let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        Ok(Self {
            layout,
            by_project: index(by_project),
            by_status: index(by_status),
            key_types,
            items: count(described.item_count()),
            bytes: count(described.table_size_bytes()),
        })
    }
}

/// An index that is looked for: its name and keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexKeys {
    pub(super) name: &'static str,
    pub(super) hash: &'static str,
    pub(super) range: &'static str,
}

impl IndexKeys {
    fn is(self, found: &GlobalSecondaryIndexDescription) -> bool {
        let usable = matches!(found.index_status(), Some(IndexStatus::Active | IndexStatus::Updating) | None);
        usable
            && found.index_name() == Some(self.name)
            && keys(found.key_schema()) == (Some(self.hash), Some(self.range))
    }
}

impl Layout {
    /// The index by project and that by status.
    pub(super) const fn indexes(self) -> (IndexKeys, IndexKeys) {
        match self {
            Self::Own => (
                IndexKeys { name: "project-index", hash: PROJECT_KEY, range: PROJECT_ORDER },
                IndexKeys { name: "status-index", hash: STATUS_SHARD, range: STATUS_ORDER },
            ),
            Self::Wallcrawler(_) => (
                IndexKeys { name: "projectId-createdAt-index", hash: "projectId", range: "createdAt" },
                IndexKeys { name: "status-expiresAt-index", hash: STATUS, range: "expiresAt" },
            ),
        }
    }
}

fn keys(schema: &[KeySchemaElement]) -> (Option<&str>, Option<&str>) {
    let of = |kind: KeyType| {
        schema.iter().find(|one| *one.key_type() == kind).map(KeySchemaElement::attribute_name)
    };
    (of(KeyType::Hash), of(KeyType::Range))
}

fn shown(
    (hash, range): (Option<&str>, Option<&str>),
    types: &HashMap<String, ScalarAttributeType>,
) -> String {
    let described = |name: &str| {
        format!("`{name}` {}", types.get(name).map_or("of unknown type", ScalarAttributeType::as_str))
    };
    [hash, range].into_iter().flatten().map(described).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_are_reserved_and_those_of_members_are_not_shown() {
        let text = Layout::Wallcrawler(Times::Text);
        for reserved in
            ["sessionId", "ccDigest", "endedAt", "terminatedAt", "status", "publicIp", "ccTtlMode"]
        {
            assert!(text.reserves(reserved) && !text.shows(reserved), "{reserved}");
        }
        for hidden in ["id", "created_at", "ttl", "events", "version"] {
            assert!(!text.reserves(hidden) && !text.shows(hidden), "{hidden}");
        }
        assert!(text.shows("keepAlive") && text.shows("session_id"));
        assert!(Layout::Own.shows("sessionId") && !Layout::Own.shows("project_key"));
    }

    #[test]
    fn an_attribute_under_another_name_is_found() {
        let text = Layout::Wallcrawler(Times::Text);
        let item = |name: &str| Item::from([(name.to_owned(), super::super::super::item::text("x"))]);
        assert_eq!(text.attribute_of(Key::TerminatedAt, &Item::new()), "endedAt");
        assert_eq!(text.attribute_of(Key::TerminatedAt, &item("terminatedAt")), "terminatedAt");
        assert_eq!(text.attribute_of(Key::PublicIp, &item("publicIp")), "publicIp");
    }
}
