//! The contract for results: what every store and wrapper does.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Error, Heat, Result, Status};
use crate::domain::{Entry, Etag, Key, Meta, Namespace, Timestamp, Version};

/// Keeps results.
///
/// Stores do not judge freshness: they return what they hold, expired or not, and the caller decides.
/// Every write carries a version, and a store holds the newest, so replays and races settle the same way
/// everywhere. An acknowledged write is durable and seen by every later read.
///
/// There are two kinds of writes. A *copy* ([`ResultStore::put`], [`ResultStore::delete`]) was decided earlier, and its
/// version says when: deliveries, migrations, imports, and writes under a lease, whose version is its fence. What is
/// newer stays. A *client's own write* ([`ResultStore::put_newest`], [`ResultStore::delete_newest`]) happens now, so it
/// comes after all that was there when it began, even what a process with a faster clock wrote.
///
/// What is damaged heals by being stored again, whatever the content. A put with a body takes nothing for granted that is
/// there: the same content is written anew, and so is the very version, or an earlier one of the same content, where what
/// is stored cannot be read ([`PutOutcome::Refreshed`]). One entry that cannot be read is [`super::Error::Corrupt`] to a
/// read of it; among many it counts as none, and is logged.
///
/// A store prints itself (`Display`), so that a composition can be shown.
#[async_trait]
pub trait ResultStore: fmt::Debug + fmt::Display + Send + Sync {
    /// The entry of a key; `None` if the store holds none.
    async fn get(&self, key: &Key, options: GetOptions) -> Result<Option<Hit>>;

    /// The metadata of many keys, in their order. An error where it cannot be told of one of them.
    async fn get_metas(&self, keys: &[Key]) -> Result<Vec<Option<Meta>>>;

    /// As [`ResultStore::get`], and tells a deleted entry from one that never was, where the store remembers.
    async fn look(&self, key: &Key, options: GetOptions) -> Result<Look<Hit>> {
        Ok(self.get(key, options).await?.into())
    }

    /// As [`ResultStore::get_metas`], and tells deleted entries from those that never were, where the store remembers.
    async fn look_metas(&self, keys: &[Key]) -> Result<Vec<Look<Meta>>> {
        Ok(self.get_metas(keys).await?.into_iter().map(Look::from).collect())
    }

    /// As [`ResultStore::look_metas`], as far as can be told just now: a key that cannot be asked for fails no other one. An
    /// error only where nothing can be told of any of them.
    async fn survey(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        Ok(self.look_metas(keys).await?.into_iter().map(Seen::Told).collect())
    }

    /// Stores an entry, or refreshes what is known about one, under exactly the version that it has.
    async fn put(&self, put: Put) -> Result<PutOutcome>;

    /// As [`ResultStore::put`] for a client's own write: where something newer is met the version is drawn anew, above
    /// that. It is superseded only by what was written at the same time: when the answer to a try was lost, its version
    /// is kept, and what is newer by then may have come after it.
    async fn put_newest(&self, put: Put) -> Result<Placed<PutOutcome>>;

    /// Removes an entry that is older than `version` and meets the condition.
    async fn delete(&self, key: &Key, version: Version, condition: Condition) -> Result<DeleteOutcome>;

    /// As [`ResultStore::delete`] for a client's own deletion, whose version is drawn anew above what it meets:
    /// [`DeleteOutcome::Deleted`] and [`DeleteOutcome::Absent`] both say that nothing is there any more.
    async fn delete_newest(
        &self,
        key: &Key,
        version: Version,
        condition: Condition,
    ) -> Result<Placed<DeleteOutcome>>;

    /// One page of metadata. Pages may be short before the last one: only a missing cursor means the end.
    async fn list(&self, query: &ListQuery) -> Result<Page>;

    /// How the store is, checked now.
    async fn status(&self) -> Result<Status>;

    /// Whether the variants of one url are found without a walk over others, so cheaply that each miss may ask.
    fn finds_variants(&self) -> bool {
        true
    }
}

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Read past every copy: what the answer shows was there when the read began.
    pub consistent: bool,
    /// One of many that are read once: past every copy too, and nobody keeps it or takes it for hot.
    pub scan: bool,
}

impl GetOptions {
    /// Past every copy, for a caller who asked for that.
    pub fn consistent(consistent: bool) -> Self {
        Self { consistent, scan: false }
    }

    /// For a walk over many entries.
    pub fn scan() -> Self {
        Self { consistent: true, scan: true }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The memory tier.
    Memory,
    /// The embedded store.
    Sqlite,
    /// The store in DynamoDB.
    Dynamodb,
}

impl Source {
    /// The word that `Cache-Status` and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Dynamodb => "dynamodb",
        }
    }
}

/// What there is under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// An entry.
    Entry(T),
    /// A tombstone: everything of the key up to this version was deleted.
    Deleted(Version),
    /// Nothing that the store knows of.
    Absent,
}

impl<T> Look<T> {
    /// The entry.
    pub fn entry(self) -> Option<T> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Deleted(_) | Self::Absent => None,
        }
    }
}

/// What can be told of one of many keys.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "what is told is what there is of nearly all keys")]
pub enum Seen {
    /// What there is, by the store that owns the key.
    Told(Look<Meta>),
    /// An entry that the owner could not confirm: it may have a newer one, or none. And where this one is. Boxed, so that
    /// this is no larger than what is told, and many looks become this where they are.
    Unconfirmed(Box<Meta>, Source),
    /// Nothing is known here, and a store that may have it could not be asked.
    Unknown,
}

impl Seen {
    /// The entry, whether or not its owner has confirmed it.
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Told(Look::Entry(meta)) => Some(meta),
            Self::Unconfirmed(meta, _) => Some(meta),
            Self::Told(Look::Deleted(_) | Look::Absent) | Self::Unknown => None,
        }
    }

    /// What there is under each key, for a caller who has no use for a part of them.
    ///
    /// # Errors
    /// [`Error::Unasked`] where something is unknown.
    pub fn all(seen: Vec<Self>, backend: &'static str) -> Result<Vec<Look<Meta>>> {
        let of = seen.len();
        let looks: Vec<Look<Meta>> = seen
            .into_iter()
            .filter_map(|seen| match seen {
                Self::Told(look) => Some(look),
                Self::Unconfirmed(meta, _) => Some(Look::Entry(*meta)),
                Self::Unknown => None,
            })
            .collect();
        if looks.len() == of {
            return Ok(looks);
        }
        let detail = format!("nothing is known of {} of {of} keys", of - looks.len());
        Err(Error::Unasked { backend, detail })
    }
}

impl<T> From<Option<T>> for Look<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Absent, Self::Entry)
    }
}

/// Why an answer came from where it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Via {
    /// The store that owns the key.
    #[default]
    Owner,
    /// The other side: the owner did not have it.
    Other,
    /// A write that the owner has yet to get.
    Queued,
    /// The other side: the owner could not be reached, and may have a newer one.
    Fallback,
    /// A copy in memory that is no longer trusted: the store behind could not be asked, and may have a newer one, or none.
    Outage,
}

/// An entry that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Who had it.
    pub source: Source,
    /// Why it was them.
    pub via: Via,
    /// Its bit in the store that evicts.
    pub heat: Heat,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// No entry, or one that has expired by then or cannot be read (`If-None-Match: *`).
    Absent(Timestamp),
    /// Some entry (`If-Match: *`).
    Present,
    /// An entry with one of these contents (`If-Match: "…"`).
    Matches(Vec<Etag>),
    /// The very entry that was read: nothing was written since, not even its metadata.
    Version(Version),
}

impl Condition {
    /// Whether it holds for what is stored.
    pub fn holds(&self, stored: Option<Stamp>) -> bool {
        match (self, stored) {
            (Self::Any | Self::Absent(_), None) | (Self::Any | Self::Present, Some(_)) => true,
            (Self::Absent(now), Some(stored)) => stored.expires_at < *now,
            (Self::Matches(etags), Some(stored)) => etags.contains(&stored.etag),
            (Self::Version(version), Some(stored)) => stored.version == *version,
            (Self::Present | Self::Matches(_) | Self::Version(_), None) => false,
        }
    }
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The content's hash.
    pub etag: Etag,
    /// The write that made the entry what it is.
    pub version: Version,
    /// When it stops being fresh.
    pub expires_at: Timestamp,
}

impl Stamp {
    /// That of an entry.
    pub fn of(meta: &Meta) -> Self {
        Self { etag: meta.etag, version: meta.version, expires_at: meta.expires_at }
    }
}

/// A write.
#[derive(Clone, Debug)]
pub struct Put {
    /// What will be known about the entry. When an entry is replaced, the earlier `created_at` of the two stays.
    pub meta: Meta,
    /// The body; `None` refreshes the metadata of an entry whose stored body has the same etag.
    pub frame: Option<Bytes>,
    /// What must hold.
    pub condition: Condition,
}

/// Which of the two kinds a write is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// A copy: its version says when it was written, and what is newer stays.
    Fixed,
    /// A client's own write: it comes after all that it meets.
    Newest,
}

/// What a client's own write did, and its place in the order of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// What it did.
    pub outcome: T,
    /// The version that it has, which may be later than the one it came with. Of a deletion that met nothing, that of
    /// the tombstone.
    pub version: Version,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// There was no entry.
    Created,
    /// An entry with other content was replaced.
    Replaced,
    /// The content was the same: only the metadata changed, and what was damaged is whole again.
    Refreshed,
    /// The store holds a newer version: nothing changed, and nothing needs to.
    Superseded,
    /// The condition does not hold, or the body to keep is not there: nothing changed.
    ConditionFailed,
    /// It is safe and every reader of this process sees it; the store that owns the key could not be reached, and will
    /// get it.
    Queued,
}

/// What a delete did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The entry is gone.
    Deleted,
    /// There was none.
    Absent,
    /// The condition does not hold: nothing changed.
    ConditionFailed,
    /// The entry is gone for every reader of this process; the store that owns the key could not be reached, and will
    /// be told.
    Queued,
}

/// Which entries to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Whose.
    pub namespace: Namespace,
    /// Which urls.
    pub filter: ListFilter,
    /// Only those stored or confirmed at or after this time.
    pub since: Option<Timestamp>,
    /// Only those stored or confirmed before this time.
    pub until: Option<Timestamp>,
    /// Only those whose document has this `status_code`.
    pub status_code: Option<u16>,
    /// Only those that have not expired by this time; `None` lists expired ones too.
    pub live_at: Option<Timestamp>,
    /// In which order.
    pub order: ListOrder,
    /// At most so many.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<Cursor>,
}

impl ListQuery {
    /// Everything of a namespace, newest first, a page of `limit`.
    pub fn all(namespace: &Namespace, limit: usize) -> Self {
        Self {
            namespace: namespace.clone(),
            filter: ListFilter::All,
            since: None,
            until: None,
            status_code: None,
            live_at: None,
            order: ListOrder::Newest,
            limit,
            after: None,
        }
    }

    /// Whether an entry is one of those asked for; the namespace and the cursor aside.
    pub fn admits(&self, meta: &Meta) -> bool {
        let url = match &self.filter {
            ListFilter::All => true,
            ListFilter::Host(host) => meta.key.host() == *host,
            ListFilter::Prefix(prefix) => meta.key.url().starts_with(prefix.as_str()),
            ListFilter::Url(url) => meta.key.url() == url,
        };
        url && self.since.is_none_or(|since| meta.updated_at >= since)
            && self.until.is_none_or(|until| meta.updated_at < until)
            && self.status_code.is_none_or(|status| meta.status_code == Some(status))
            && self.live_at.is_none_or(|now| meta.expires_at >= now)
    }
}

/// Which urls a listing holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// All.
    All,
    /// Those of this host, in lower case.
    Host(String),
    /// Those that begin so.
    Prefix(String),
    /// All variants of this one.
    Url(String),
}

impl ListFilter {
    /// The host that every url of the filter has, if its beginning alone fixes one.
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Host(host) => Some(host.clone()),
            Self::Prefix(prefix) => {
                // Only a prefix that reaches past the authority fixes the host; and that of a `file:` url depends on
                // its path, because one with a drive letter has none.
                let (_, rest) =
                    prefix.split_once("://").filter(|(scheme, _)| !scheme.eq_ignore_ascii_case("file"))?;
                let past = rest.contains(['/', '?', '#']);
                past.then(|| crate::domain::host_of(prefix)).filter(|host| !host.is_empty())
            }
            Self::All | Self::Url(_) => None,
        }
    }
}

/// The order of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListOrder {
    /// Last stored or confirmed first. An entry written meanwhile moves to the front and may be missed.
    Newest,
    /// Last stored or confirmed last. An entry written meanwhile moves to the end and is seen there, so what is
    /// there from the first page to the last is seen at least once: the order for exports and purges.
    Oldest,
}

/// Where a page ended, in the store's own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The metadata.
    pub items: Vec<Meta>,
    /// Where each of them is: a listing goes on behind it with this cursor. As bytes they ascend with the time by which
    /// the store has the entries in order, which may be earlier than what an entry says of itself.
    pub places: Vec<Cursor>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}
