//! Writes one entry: at best in one request, which carries its own conditions; otherwise against what was met.

use bytes::Bytes;

use super::super::item::{Item, number, read_text, text, time};
use super::super::pauses::Pauses;
use super::super::plain::{self, size};
use super::Inner;
use super::body::{BESIDE_FRAME_BYTES, PLACES, Parts, Place, Upkeep, frame_id};
use super::expression::Terms;
use super::head::{self, FACTS, OPTIONAL};
use super::key::{URL, partition};
use super::requests::{Seen, Tell, Written};
use super::stored::{Met, Stored, etag_of, salvaged};
use crate::config::ResultsLayout;
use crate::domain::{Etag, Key, Meta};
use crate::store::{Condition, Error, Placed, Put, PutOutcome, Result, Versioning};

/// How often a write is tried against what others have just written.
pub(super) const TRIES: usize = 16;

/// DynamoDB compares with up to 100 values.
const MOST_ETAGS: usize = 100;

/// As many attributes as a put names, more or less.
const ATTRIBUTES: usize = 40;

/// As many bytes as the expression of a put has, more or less.
const UPDATE_BYTES: usize = 1024;

/// How a document will be stored.
pub(super) enum Shape {
    /// The frame in the head.
    Inline,
    /// The frame beside the head, once it is there.
    Beside(Option<Place>),
    /// The attributes of the plain layout.
    Plain(Item),
}

/// How much a writer believes of a body that seems to be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// What the backend says of it.
    Usual,
    /// Nothing: it is known to be damaged.
    Repair,
}

/// What became of a write against what was met.
pub(super) enum Tried {
    Done,
    /// Something else is there meanwhile.
    Unmet(Seen),
    /// The body that was to stay is gone.
    Gone,
}

impl Inner {
    pub(super) async fn put(&self, mut put: Put, mut versioning: Versioning) -> Result<Placed<PutOutcome>> {
        let partition = partition(&put.meta.key);
        let mut shape = put.frame.as_ref().map(|frame| self.shape_of(&put.meta, frame));
        let first = match (&put.frame, &shape) {
            (None, _) => self.refresh_at_once(&partition, &put).await?,
            (Some(frame), Some(Shape::Inline)) => self.put_at_once(&partition, &put, frame).await?,
            // Too costly to fail: what is there decides.
            _ => None,
        };
        let mut seen = match first {
            Some(Ok(outcome)) => return Ok(Placed { outcome, version: put.meta.version }),
            Some(Err(seen)) => seen,
            None => Seen { item: self.get_item(&partition, true).await?, retried: false },
        };
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        let mut is_uncertain = false;
        for _ in 0..TRIES {
            let met = Met::of(seen.item, &put.meta.key);
            is_uncertain |= seen.retried;
            if is_uncertain {
                // What is met from here on may have come after it.
                versioning = Versioning::Fixed;
                if is_done(&put, &met) {
                    let created = matches!(put.condition, Condition::Absent(_));
                    let outcome = if created { PutOutcome::Created } else { PutOutcome::Replaced };
                    return Ok(Placed { outcome, version: put.meta.version });
                }
                if put.condition != Condition::Any && met.is_newer_than(put.meta.version) {
                    return Err(unknown(&put.meta.key));
                }
            }
            if let Some(newer) = met.version().filter(|stored| *stored >= put.meta.version) {
                let above = self.version_above(newer, &met);
                if versioning == Versioning::Newest {
                    put.meta.version = above;
                }
            }
            let mut outcome = decide(&put, &met, versioning);
            if outcome == PutOutcome::ConditionFailed && Box::pin(self.finds_damage(&put, &met)).await {
                outcome = PutOutcome::Replaced;
            }
            let version = put.meta.version;
            let tried = match (outcome, &put.frame, &mut shape) {
                (PutOutcome::Refreshed, frame, shape) => {
                    match (self.refresh(&partition, &put, &met).await?, frame, shape) {
                        (Tried::Gone, Some(frame), Some(shape)) => {
                            self.replace(&partition, &put.meta, frame, shape, &met).await?
                        }
                        (Tried::Gone, ..) => {
                            return Ok(Placed { outcome: PutOutcome::ConditionFailed, version });
                        }
                        (tried, ..) => tried,
                    }
                }
                (PutOutcome::Superseded, Some(frame), _) => {
                    match Box::pin(self.heal(&partition, &put.meta, frame, &met)).await? {
                        Some(tried) => {
                            outcome = PutOutcome::Refreshed;
                            tried
                        }
                        None => return Ok(Placed { outcome, version }),
                    }
                }
                (PutOutcome::Created | PutOutcome::Replaced, Some(frame), Some(shape)) => {
                    self.replace(&partition, &put.meta, frame, shape, &met).await?
                }
                _ => return Ok(Placed { outcome, version }),
            };
            match tried {
                Tried::Unmet(now) => seen = now,
                Tried::Done | Tried::Gone => return Ok(Placed { outcome, version }),
            }
            if !pauses.pause().await {
                break;
            }
        }
        Err(contended(&put.meta.key))
    }

    /// Decides where a document goes. What the plain layout cannot hold is packed, counted and logged.
    pub(super) fn shape_of(&self, meta: &Meta, frame: &Bytes) -> Shape {
        if self.layout == ResultsLayout::Plain {
            match plain::write(meta, frame, self.max_item_bytes) {
                Ok(document) => return Shape::Plain(document),
                Err(refused) => {
                    let reason = refused.as_str();
                    self.packed_instead.with_label_values(&[reason]).inc();
                    tracing::warn!(key = %meta.key.id(), reason, "the plain layout cannot hold a document: packed");
                }
            }
        }
        let fits = |head: usize| head + BESIDE_FRAME_BYTES + frame.len() <= self.max_item_bytes;
        // Nearly always the first says so, which makes no item only to measure it.
        if fits(head::at_most(meta)) || fits(size::of_item(&self.form.packed(meta))) {
            Shape::Inline
        } else {
            Shape::Beside(None)
        }
    }

    /// Puts a packed item in one request, whatever is there, if that is nothing or packed and meets all conditions.
    /// Nothing if no such request can be made; else the outcome, or what was met.
    async fn put_at_once(
        &self,
        partition: &str,
        put: &Put,
        frame: &Bytes,
    ) -> Result<Option<std::result::Result<PutOutcome, Seen>>> {
        let (meta, mut terms) = (&put.meta, Terms::with_room(ATTRIBUTES));
        let Some(entry) = entry_clause(&mut terms, &put.condition) else { return Ok(None) };
        let older = terms.compare("version", "<", number(meta.version.as_u64()));
        let mut cases = vec![format!(
            "{} AND {older} AND {}{entry}",
            terms.exists("layout"),
            made_before(&mut terms, meta)
        )];
        if put.condition.holds(None) {
            cases.push(terms.lacks(URL));
            cases.push(format!("{} AND {older}", terms.exists("deleted")));
        }
        let condition = cases.iter().map(|case| format!("({case})")).collect::<Vec<_>>().join(" OR ");
        let mut item = self.form.packed(meta);
        item.extend(Place::inline(frame).attributes(meta));
        // A tombstone has no time of creation: what was deleted begins anew.
        let created_at = (terms.name("created_at"), terms.value(time(meta.created_at)));
        let kept = format!("{0} = if_not_exists({0}, {1})", created_at.0, created_at.1);
        item.remove("created_at");
        let absent = OPTIONAL.iter().chain(&FACTS).chain(&PLACES).chain(&["deleted"]);
        let update = update(&mut terms, item, vec![kept], absent);
        Ok(Some(match self.update_item(partition, update, condition, terms, Tell::Old).await? {
            Err(unmet) => Err(self.met(partition, unmet).await?),
            Ok(old) => Ok(outcome_of(&old.unwrap_or_default(), meta.etag)),
        }))
    }

    /// Refreshes a packed item in one request, if its body needs no care.
    async fn refresh_at_once(
        &self,
        partition: &str,
        put: &Put,
    ) -> Result<Option<std::result::Result<PutOutcome, Seen>>> {
        let (meta, mut terms) = (&put.meta, Terms::default());
        let Some(entry) = entry_clause(&mut terms, &put.condition) else { return Ok(None) };
        let lasting = number(Upkeep::needed(self.form.ttl(meta.expires_at)));
        let condition = [
            terms.exists("layout"),
            terms.compare("version", "<", number(meta.version.as_u64())),
            terms.compare("etag", "=", text(meta.etag.to_string())),
            made_before(&mut terms, meta),
            terms.lacks("object"),
            format!("({} OR {})", terms.lacks("parts"), terms.compare("parts_until", ">=", lasting)),
        ];
        let condition = format!("{}{entry}", condition.join(" AND "));
        let mut item = self.form.renewed(meta);
        item.remove("created_at");
        let update = update(&mut terms, item, Vec::new(), &OPTIONAL);
        Ok(Some(match self.update_item(partition, update, condition, terms, Tell::Met).await? {
            Err(unmet) => Err(self.met(partition, unmet).await?),
            Ok(_) => Ok(PutOutcome::Refreshed),
        }))
    }

    /// Puts a document in place of exactly what was met. What other writers had in the item goes with it.
    async fn replace(
        &self,
        partition: &str,
        meta: &Meta,
        frame: &Bytes,
        shape: &mut Shape,
        met: &Met,
    ) -> Result<Tried> {
        let meta = with_earlier_creation(meta, met);
        self.replace_exactly(partition, &meta, frame, shape, met, Care::Usual).await
    }

    /// As [`Inner::replace`], whatever the time of creation of what was met.
    pub(super) async fn replace_exactly(
        &self,
        partition: &str,
        meta: &Meta,
        frame: &Bytes,
        shape: &mut Shape,
        met: &Met,
        care: Care,
    ) -> Result<Tried> {
        let item = match shape {
            Shape::Plain(document) => self.form.plain(meta, document.clone()),
            Shape::Inline => {
                let mut item = self.form.packed(meta);
                item.extend(Place::inline(frame).attributes(meta));
                item
            }
            Shape::Beside(place) => {
                let place = match place {
                    Some(place) => place,
                    None => place.insert(Box::pin(self.write_beside(meta, frame, care)).await?),
                };
                let mut item = self.form.packed(meta);
                item.extend(place.attributes(meta));
                item
            }
        };
        let mut terms = Terms::default();
        let condition = terms.unchanged(met.told.as_ref());
        let written = self.put_item(item, condition, terms, Tell::Met).await?;
        self.tried(partition, written).await
    }

    /// Writes a frame where the head can name it.
    async fn write_beside(&self, meta: &Meta, frame: &Bytes, care: Care) -> Result<Place> {
        match &self.objects {
            Some(objects) => {
                let mut object = objects.object_of(frame);
                if !self.pin(&object.key).await? {
                    // It is being swept: what is written under this name may go with it.
                    object = objects.renamed(object, self.clock.next_version());
                    self.pin(&object.key).await?;
                }
                objects.write(&object, frame, care).await?;
                Ok(Place::Object(object))
            }
            None => {
                let until = self.upkeep.granted(self.form.ttl(meta.expires_at));
                self.write_parts(frame, until).await.map(Place::Parts)
            }
        }
    }

    /// Renews what is known about exactly what was met. Its body stays, if it is what it should be.
    async fn refresh(&self, partition: &str, put: &Put, met: &Met) -> Result<Tried> {
        let meta = with_earlier_creation(&put.meta, met);
        let (mut terms, mut item) = (Terms::default(), self.form.renewed(&meta));
        match &met.stored {
            Some(Stored::Plain(entry)) => {
                // The attributes of the document may be anybody's: the item is written as a whole.
                let meta = Meta { layout: entry.meta.layout.clone(), ..meta };
                let mut shape = self.shape_of(&meta, &entry.frame);
                return self.replace(partition, &meta, &entry.frame, &mut shape, met).await;
            }
            Some(Stored::Packed(stored, place)) => {
                let until = match place {
                    Place::Parts(parts) => self.lasting(&meta, parts),
                    Place::Inline(_) | Place::Object(_) => 0,
                };
                if !Box::pin(self.keep_body(stored, place, put.frame.as_ref(), until)).await? {
                    return Ok(Tried::Gone);
                }
                if matches!(place, Place::Parts(parts) if parts.until < until) {
                    item.insert("parts_until".to_owned(), number(until));
                }
            }
            Some(Stored::Tombstone(_)) | None => {}
        }
        let condition = terms.unchanged(met.told.as_ref());
        let update = update(&mut terms, item, Vec::new(), &OPTIONAL);
        let written = self.update_item(partition, update, condition, terms, Tell::Met).await?;
        self.tried(partition, written).await
    }

    /// Until when the parts of a stored body have to live for an entry.
    fn lasting(&self, meta: &Meta, parts: &Parts) -> u64 {
        let ttl = self.form.ttl(meta.expires_at);
        if parts.until < Upkeep::needed(ttl) { self.upkeep.granted(ttl) } else { parts.until }
    }

    /// Makes sure that a stored body stays, parts until that Unix second; false if it is not what it should be. Given
    /// the frame that it should be, puts right what lies beside the head.
    async fn keep_body(
        &self,
        stored: &Meta,
        place: &Place,
        frame: Option<&Bytes>,
        until: u64,
    ) -> Result<bool> {
        let same = frame.filter(|frame| place.frame_id() == Some(frame_id(frame).as_str()));
        let is_inline = matches!(place, Place::Inline(_));
        // Of the same content in another frame, nothing can be put right: then all of it is written, if need be.
        if (is_inline || (frame.is_some() && same.is_none())) && !self.is_sound(stored, place).await? {
            tracing::warn!(key = %stored.key.id(), "a body is not what was stored: it is not kept");
            return Ok(false);
        }
        match (place, same) {
            (Place::Parts(parts), Some(frame)) => {
                let written = self.write_parts(frame, until).await?;
                Ok(written.count == parts.count)
            }
            (Place::Parts(parts), None) if parts.until < until => self.prolong_parts(parts, until).await,
            (Place::Inline(_), _) | (Place::Parts(_), None) => Ok(true),
            (Place::Object(object), frame) => match (&self.objects, frame) {
                (Some(objects), Some(frame)) => {
                    objects.write(object, frame, Care::Usual).await?;
                    Ok(true)
                }
                (Some(objects), None) => objects.keep(object, stored.layout.stored_size()).await,
                (None, _) => Ok(false),
            },
        }
    }

    /// Whether a write that asks for no entry meets only one that cannot be read.
    async fn finds_damage(&self, put: &Put, met: &Met) -> bool {
        match &met.stored {
            Some(Stored::Packed(stored, place))
                if matches!(put.condition, Condition::Absent(_))
                    && put.frame.is_some()
                    && stored.version < put.meta.version =>
            {
                self.is_known_damaged(stored, place).await
            }
            _ => false,
        }
    }

    /// Stores the body of an entry again that is damaged and that this write is, or is of the same content as. What is
    /// known since of the same content stays. Nothing if nothing is wrong.
    async fn heal(&self, partition: &str, meta: &Meta, frame: &Bytes, met: &Met) -> Result<Option<Tried>> {
        let is_it = met.version() == Some(meta.version);
        let healed = match (&met.stored, &met.damaged) {
            (Some(Stored::Packed(stored, place)), _) if is_it || stored.etag == meta.etag => {
                if !self.is_known_damaged(stored, place).await {
                    return Ok(None);
                }
                let Meta { etag, status_code, success, layout, .. } = meta.clone();
                Meta { etag, status_code, success, layout, ..stored.clone() }
            }
            (None, Some(item)) if is_it || etag_of(item) == Some(meta.etag) => salvaged(item, meta),
            _ => return Ok(None),
        };
        tracing::warn!(key = %meta.key.id(), "a damaged body is stored again");
        let mut shape = self.shape_of(&healed, frame);
        self.replace_exactly(partition, &healed, frame, &mut shape, met, Care::Repair).await.map(Some)
    }

    /// Whether a stored body has been read and is not what it should be. What keeps it from being read is no reason to
    /// refuse a write that changes nothing.
    async fn is_known_damaged(&self, stored: &Meta, place: &Place) -> bool {
        matches!(self.is_sound(stored, place).await, Ok(false))
    }

    /// Whether a stored body is what it should be.
    async fn is_sound(&self, stored: &Meta, place: &Place) -> Result<bool> {
        let frame = self.frame_at(stored, place, true).await?;
        Ok(frame.is_some_and(|frame| place.check(stored, &frame).is_ok()))
    }

    async fn tried(&self, partition: &str, written: Written) -> Result<Tried> {
        match written {
            Ok(_) => Ok(Tried::Done),
            Err(unmet) => self.met(partition, unmet).await.map(Tried::Unmet),
        }
    }
}

/// Whether what is there is what the put has written. Only for one that was tried again: to another writer the same
/// entry is one that was there before.
fn is_done(put: &Put, met: &Met) -> bool {
    met.version() == Some(put.meta.version) && met.stamp().is_some_and(|stamp| stamp.etag == put.meta.etag)
}

/// What a put comes to, against what is there.
fn decide(put: &Put, met: &Met, versioning: Versioning) -> PutOutcome {
    let stamp = met.stamp();
    let is_late = met.version().is_some_and(|version| version >= put.meta.version);
    if !put.condition.holds(stamp) {
        PutOutcome::ConditionFailed
    } else if is_late && versioning == Versioning::Fixed {
        PutOutcome::Superseded
    } else if stamp.is_some_and(|stamp| stamp.etag == put.meta.etag) {
        PutOutcome::Refreshed
    } else if put.frame.is_none() {
        PutOutcome::ConditionFailed
    } else if stamp.is_some() {
        PutOutcome::Replaced
    } else {
        PutOutcome::Created
    }
}

/// What a put has come to, by the attributes that it has changed.
fn outcome_of(old: &Item, etag: Etag) -> PutOutcome {
    match read_text(old, "etag") {
        Some(old) if old == etag.to_string() => PutOutcome::Refreshed,
        Some(_) => PutOutcome::Replaced,
        None => PutOutcome::Created,
    }
}

/// What a condition asks of an entry, to follow other clauses; nothing if no expression can say it.
pub(super) fn entry_clause(terms: &mut Terms, condition: &Condition) -> Option<String> {
    Some(match condition {
        Condition::Any | Condition::Present => String::new(),
        Condition::Absent(now) => format!(" AND {}", terms.compare("expires_at", "<", time(*now))),
        Condition::Version(version) => {
            format!(" AND {}", terms.compare("version", "=", number(version.as_u64())))
        }
        Condition::Matches(etags) if etags.is_empty() || etags.len() > MOST_ETAGS => return None,
        Condition::Matches(etags) => {
            let values: Vec<String> = etags.iter().map(|etag| terms.value(text(etag.to_string()))).collect();
            format!(" AND {} IN ({})", terms.name("etag"), values.join(", "))
        }
    })
}

/// That the stored entry is not younger than the one to come: then its time of creation is the one to keep.
fn made_before(terms: &mut Terms, meta: &Meta) -> String {
    terms.compare("created_at", "<=", time(meta.created_at))
}

/// The expression that sets `item` (its key aside) and `more`, and removes those of `absent` that it lacks.
fn update<'a>(
    terms: &mut Terms,
    item: Item,
    more: Vec<String>,
    absent: impl IntoIterator<Item = &'a &'a str>,
) -> String {
    let removed: Vec<&str> = absent.into_iter().copied().filter(|name| !item.contains_key(*name)).collect();
    let mut text = String::with_capacity(UPDATE_BYTES);
    let mut lead = "SET ";
    for clause in more {
        text.extend([lead, &clause]);
        lead = ", ";
    }
    for (name, value) in item {
        if name != URL {
            text.push_str(lead);
            terms.write_comparison(&mut text, &name, "=", value);
            lead = ", ";
        }
    }
    lead = " REMOVE ";
    for name in removed {
        text.push_str(lead);
        terms.write_name(&mut text, name);
        lead = ", ";
    }
    text
}

fn with_earlier_creation(meta: &Meta, met: &Met) -> Meta {
    let stored = met.stored.as_ref().and_then(Stored::meta).map(|stored| stored.created_at);
    let created_at = stored.map_or(meta.created_at, |stored| stored.min(meta.created_at));
    Meta { created_at, ..meta.clone() }
}

/// The answer to a try was lost, and what is there now is later than it.
pub(super) fn unknown(key: &Key) -> Error {
    let detail = format!(
        "the answer to a write of {} was lost, and others have written it since: it may have happened",
        key.id()
    );
    Error::Overloaded { backend: super::BACKEND, detail }
}

pub(super) fn contended(key: &Key) -> Error {
    let detail = format!("contended: others keep writing {}", key.id());
    Error::Overloaded { backend: super::BACKEND, detail }
}
