//! Items that keep the sweep of the bucket away from an object that a head is about to name.
//!
//! A writer pins its object before it looks whether the object is there, and writes the head that names it afterwards.
//! A sweep takes an object only by putting its mark in the place of the pin, on the condition that nothing was pinned
//! since a day before it began to look: what was pinned earlier is named by a head that the sweep has read, or by none.
//! A writer that meets the mark gives its object another name. Neither waits for the other, and no clock has to be
//! more exact than half a day.

use super::item::{Item, number, text};

/// What the keys of these items begin with: no url has a space.
pub(super) const PREFIX: &str = "object ";

/// When a writer has last pinned the object, in Unix seconds.
pub(super) const PINNED_AT: &str = "pinned_at";

/// When a sweep has taken the object, in Unix seconds.
pub(super) const TAKEN_AT: &str = "taken_at";

const DAY: u64 = 24 * 60 * 60;

/// How long before the beginning of a sweep a pin may be and still hold it up: the time from a pin to its head, and
/// what two clocks may differ by.
pub(super) const REACH_SECONDS: u64 = DAY;

/// How long these items stay: longer than any sweep takes.
pub(super) const LIFE_SECONDS: u64 = 30 * DAY;

/// The partition key of an object's item.
pub(super) fn key(object: &str) -> String {
    format!("{PREFIX}{object}")
}

/// The mark of a sweep.
pub(super) fn mark(object: &str, now: u64) -> Item {
    Item::from([
        ("url".to_owned(), text(key(object))),
        (TAKEN_AT.to_owned(), number(now)),
        ("ttl".to_owned(), number(now + LIFE_SECONDS)),
    ])
}
