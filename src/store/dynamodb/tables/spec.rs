//! What the tables are: their names, keys and indexes, and the attribute whose time ends an item.

use std::fmt;

use serde::Serialize;

use crate::config;
use crate::store::dynamodb::capacity::Table;

/// The type of an attribute that is part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum KeyType {
    /// Text.
    S,
    /// A number.
    N,
    /// Bytes.
    B,
}

/// An attribute that is part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyAttribute {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: KeyType,
}

impl fmt::Display for KeyAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.kind)
    }
}

/// The keys of a table or of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keys {
    /// What decides the partition.
    pub partition: KeyAttribute,
    /// What orders the items of a partition.
    pub sort: Option<KeyAttribute>,
}

impl Keys {
    fn partition(name: &str) -> Self {
        Self { partition: KeyAttribute { name: name.to_owned(), kind: KeyType::S }, sort: None }
    }

    fn sorted(partition: &str, sort: &str, kind: KeyType) -> Self {
        let sort = Some(KeyAttribute { name: sort.to_owned(), kind });
        Self { sort, ..Self::partition(partition) }
    }

    /// Both parts.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &KeyAttribute> {
        std::iter::once(&self.partition).chain(&self.sort)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.partition)?;
        self.sort.iter().try_for_each(|sort| write!(f, " and {sort}"))
    }
}

/// Which attributes an index copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Only keys.
    KeysOnly,
    /// Keys and some others.
    Include,
    /// All of them.
    All,
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeysOnly => "keys only",
            Self::Include => "some attributes",
            Self::All => "all attributes",
        })
    }
}

/// An index as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::dynamodb) struct IndexSpec {
    pub(in crate::store::dynamodb) name: &'static str,
    /// The keys that it is made with, and then others that do as well.
    pub(in crate::store::dynamodb) keys: Vec<Keys>,
    pub(in crate::store::dynamodb) projection: Projection,
}

impl IndexSpec {
    fn keys_only(name: &'static str, partition: &str, sort: &str) -> Self {
        Self { name, keys: vec![Keys::sorted(partition, sort, KeyType::S)], projection: Projection::KeysOnly }
    }

    /// The keys that it is made with.
    pub(in crate::store::dynamodb) fn made_keys(&self) -> &Keys {
        &self.keys[0]
    }
}

/// A table as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::dynamodb) struct TableSpec {
    pub(in crate::store::dynamodb) table: Table,
    pub(in crate::store::dynamodb) name: String,
    pub(in crate::store::dynamodb) keys: Keys,
    /// Those that the configuration asks for.
    pub(in crate::store::dynamodb) indexes: Vec<IndexSpec>,
    /// The attribute with the Unix seconds after which an item is removed.
    pub(in crate::store::dynamodb) ttl: &'static str,
    /// Whether it is somebody else's, which is used as it is and never changed.
    pub(in crate::store::dynamodb) is_adopted: bool,
}

impl TableSpec {
    /// The table of results.
    pub(in crate::store::dynamodb) fn results(config: &config::Dynamodb) -> Self {
        let mut indexes = Vec::new();
        if config.time_index {
            indexes.push(IndexSpec::keys_only("time-index", "time_shard", "listed_at"));
        }
        if config.host_index {
            indexes.push(IndexSpec::keys_only("host-index", "host_shard", "listed_at"));
        }
        Self {
            table: Table::Results,
            name: config.results_table(),
            keys: Keys::partition("url"),
            indexes,
            ttl: "ttl",
            is_adopted: false,
        }
    }

    /// The table of sessions.
    pub(in crate::store::dynamodb) fn sessions(config: &config::Dynamodb) -> Self {
        Self {
            table: Table::Sessions,
            name: config.sessions_table(),
            keys: Keys::partition("session_id"),
            indexes: vec![
                IndexSpec::keys_only("project-index", "project_key", "project_order"),
                IndexSpec::keys_only("status-index", "status_shard", "status_order"),
            ],
            ttl: "ttl",
            is_adopted: false,
        }
    }

    /// A table of sessions that Wallcrawler has made: one of its generations keeps numbers, the other text.
    fn wallcrawler(name: String) -> Self {
        let project = |kind| Keys::sorted("projectId", "createdAt", kind);
        Self {
            table: Table::Sessions,
            name,
            keys: Keys::partition("sessionId"),
            indexes: vec![
                IndexSpec {
                    name: "projectId-createdAt-index",
                    keys: vec![project(KeyType::S), project(KeyType::N)],
                    projection: Projection::All,
                },
                IndexSpec {
                    name: "status-expiresAt-index",
                    keys: vec![Keys::sorted("status", "expiresAt", KeyType::N)],
                    projection: Projection::KeysOnly,
                },
            ],
            ttl: "expiresAt",
            is_adopted: true,
        }
    }

    /// Both tables.
    pub(in crate::store::dynamodb) fn all(config: &config::Dynamodb) -> [Self; 2] {
        [Self::results(config), Self::sessions(config)]
    }

    /// What a table should be that has these keys: a table of sessions may be Wallcrawler's.
    pub(in crate::store::dynamodb) fn with_keys(self, keys: &Keys) -> Self {
        let adopted = Self::wallcrawler(self.name.clone());
        if self.table == Table::Sessions && adopted.keys == *keys { adopted } else { self }
    }

    /// Every attribute that is part of a key, once.
    pub(in crate::store::dynamodb) fn key_attributes(&self) -> Vec<&KeyAttribute> {
        let mut attributes: Vec<&KeyAttribute> = self.keys.attributes().collect();
        for attribute in self.indexes.iter().flat_map(|index| index.made_keys().attributes()) {
            if !attributes.contains(&attribute) {
                attributes.push(attribute);
            }
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> config::Dynamodb {
        config::Config::default().dynamodb
    }

    #[test]
    fn the_configuration_decides_on_names_and_indexes() {
        let plain = TableSpec::results(&config::Dynamodb { time_index: false, ..config() });
        assert_eq!((plain.name.as_str(), plain.indexes.len()), ("crawl4ai-results", 0));
        let full = config::Dynamodb { host_index: true, table_prefix: "prod-".to_owned(), ..config() };
        let full = TableSpec::results(&full);
        assert_eq!(full.name, "prod-crawl4ai-results");
        let names: Vec<_> = full.indexes.iter().map(|index| index.name).collect();
        assert_eq!(names, ["time-index", "host-index"]);
        let attributes: Vec<_> = full.key_attributes().iter().map(ToString::to_string).collect();
        assert_eq!(attributes, ["url (S)", "time_shard (S)", "listed_at (S)", "host_shard (S)"]);
    }

    #[test]
    fn only_a_table_of_sessions_can_be_adopted() {
        let keys = Keys::partition("sessionId");
        let sessions = TableSpec::sessions(&config());
        assert!(!sessions.clone().with_keys(&sessions.keys).is_adopted);
        let adopted = sessions.clone().with_keys(&keys);
        assert_eq!((adopted.name, adopted.ttl, adopted.is_adopted), (sessions.name, "expiresAt", true));
        let results = TableSpec::results(&config());
        assert_eq!(results.clone().with_keys(&keys), results);
    }
}
