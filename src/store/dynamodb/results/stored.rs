//! Reading items: what the table has under the key of a result, whoever wrote it.

use aws_sdk_dynamodb::types::AttributeValue;

use super::super::item::{Item, read_number, read_text, read_time};
use super::super::plain::{self, PLAIN_ETAG};
use super::body::{DIGEST, Place, digest_of};
use super::expression::telling;
use crate::domain::{Entry, Etag, Key, Layout, Meta, Validators, Version};
use crate::store::{Error, Stamp};

/// What is wrong with an item.
pub(super) type Wrong = &'static str;

/// What an item is.
#[derive(Debug)]
pub(super) enum Stored {
    /// A deletion.
    Tombstone(Version),
    /// A head in the packed layout.
    Packed(Meta, Place),
    /// A document in the plain layout, ours or another's.
    Plain(Entry),
}

impl Stored {
    /// Reads a whole item, and takes its frame out of it.
    pub(super) fn read(item: &mut Item, key: &Key) -> Result<Self, Wrong> {
        if let Some(version) = tombstone(item) {
            Ok(Self::Tombstone(version))
        } else if is_packed(item) {
            let meta = meta(item, key)?;
            let place = Place::take(item).ok_or("what says where its body is cannot be read")?;
            Ok(Self::Packed(meta, place))
        } else {
            plain::read(item, key).map(Self::Plain)
        }
    }

    /// The metadata of an entry.
    pub(super) fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Tombstone(_) => None,
            Self::Packed(meta, _) => Some(meta),
            Self::Plain(entry) => Some(&entry.meta),
        }
    }

    /// The version of an entry or a deletion.
    pub(super) fn version(&self) -> Version {
        match self {
            Self::Tombstone(version) => *version,
            Self::Packed(meta, _) => meta.version,
            Self::Plain(entry) => entry.meta.version,
        }
    }
}

/// What a write meets: an item, and what it means.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// What tells whether the item has changed since; nothing if there is none.
    pub(super) told: Option<Item>,
    /// What it is; nothing too where it cannot be read: then a write puts it right.
    pub(super) stored: Option<Stored>,
    /// A packed item that cannot be read.
    pub(super) damaged: Option<Item>,
}

impl Met {
    /// What is under `key`.
    pub(super) fn of(item: Option<Item>, key: &Key) -> Self {
        let Some(mut item) = item else { return Self::default() };
        let mut met = Self { told: Some(telling(&item)), ..Self::default() };
        match Stored::read(&mut item, key) {
            Ok(stored) => met.stored = Some(stored),
            Err(wrong) => {
                tracing::error!(key = %key.id(), wrong, "a damaged item counts as none for a write");
                met.damaged = is_packed(&item).then_some(item);
            }
        }
        met
    }

    /// What a condition looks at.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stored.as_ref().and_then(Stored::meta).map(Stamp::of)
    }

    /// Whether it was written after `version`, be it an entry or a deletion.
    pub(super) fn is_newer_than(&self, version: Version) -> bool {
        self.version().is_some_and(|met| met > version)
    }

    /// Whether its version was given by a clock, and not read from the times of another program.
    pub(super) fn has_own_version(&self) -> bool {
        let is_plain = matches!(self.stored, Some(Stored::Plain(_)));
        let told = self.told.as_ref();
        told.is_some_and(|told| told.contains_key("version") && (!is_plain || told.contains_key(PLAIN_ETAG)))
    }

    /// The version that a write has to exceed.
    pub(super) fn version(&self) -> Option<Version> {
        let damaged = || read_number(self.told.as_ref()?, "version").map(Version::from_u64);
        self.stored.as_ref().map(Stored::version).or_else(damaged)
    }
}

/// An error that names the key and not the url, which may be private.
pub(super) fn corrupt(key: &Key, wrong: &str) -> Error {
    Error::Corrupt { backend: super::BACKEND, detail: format!("the item of {}: {wrong}", key.id()) }
}

/// The version of a deletion, if the item is one.
pub(super) fn tombstone(item: &Item) -> Option<Version> {
    let deleted = item.get("deleted").is_some_and(|value| matches!(value, AttributeValue::Bool(true)));
    // A document may have such a field: in a table that others write too, only a version makes a deletion of it.
    read_number(item, "version").filter(|_| deleted).map(Version::from_u64)
}

/// Whether the item is a packed head: no field of a document is binary.
pub(super) fn is_packed(item: &Item) -> bool {
    item.get("layout").is_some_and(AttributeValue::is_b)
}

/// The metadata of a packed head.
pub(super) fn meta(item: &Item, key: &Key) -> Result<Meta, Wrong> {
    let time = |name| read_time(item, name);
    let text = |name| read_text(item, name).map(str::to_owned);
    let layout = item.get("layout").and_then(|value| value.as_b().ok()).ok_or("it has no layout")?;
    let layout = Layout::from_bytes(layout.as_ref()).map_err(|_| "its layout cannot be read")?;
    if read_number(item, "frame_bytes") != Some(layout.stored_size()) {
        return Err("its layout is not that of its frame");
    }
    let status_code = match item.get("status_code") {
        None => None,
        Some(_) => {
            let number = read_number(item, "status_code").and_then(|number| u16::try_from(number).ok());
            Some(number.ok_or("its status code cannot be read")?)
        }
    };
    let meta = Meta {
        key: key.clone(),
        version: read_number(item, "version").map(Version::from_u64).ok_or("it has no version")?,
        etag: etag_of(item).ok_or("it has no etag")?,
        created_at: time("created_at").ok_or("it has no time of creation")?,
        updated_at: time("updated_at").ok_or("it has no time of update")?,
        expires_at: time("expires_at").ok_or("it has no time of expiry")?,
        status_code,
        success: item.get("success").and_then(|value| value.as_bool().ok().copied()),
        validators: Validators {
            etag: text("origin_etag"),
            last_modified: text("origin_last_modified"),
            head_fingerprint: text("head_fingerprint"),
        },
        layout,
    };
    // Both are there or neither is: an older release that writes over the frame removes its hash alone.
    match (read_text(item, DIGEST), read_text(item, "frame_id")) {
        (Some(digest), Some(frame)) if digest_of(&meta, frame) != digest => {
            Err("what it says of its body is not what was written")
        }
        _ => Ok(meta),
    }
}

/// The hash of the content that a packed head names, whatever else of it cannot be read.
pub(super) fn etag_of(item: &Item) -> Option<Etag> {
    read_text(item, "etag").and_then(etag)
}

/// What can be read of the times and validators of a packed head, around the body of `meta`: for an entry that is
/// stored again and whose head says more than it can show.
pub(super) fn salvaged(item: &Item, meta: &Meta) -> Meta {
    let mut meta = meta.clone();
    let time = |name| read_time(item, name);
    let text = |name| read_text(item, name).map(str::to_owned);
    meta.version = read_number(item, "version").map_or(meta.version, Version::from_u64);
    meta.created_at = time("created_at").unwrap_or(meta.created_at);
    meta.updated_at = time("updated_at").unwrap_or(meta.updated_at);
    meta.expires_at = time("expires_at").unwrap_or(meta.expires_at);
    meta.validators = Validators {
        etag: text("origin_etag"),
        last_modified: text("origin_last_modified"),
        head_fingerprint: text("head_fingerprint"),
    };
    meta
}

fn etag(hex: &str) -> Option<Etag> {
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok().map(|number| Etag::from_bytes(number.to_be_bytes()))
}
