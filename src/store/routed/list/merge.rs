//! Two streams as one, in order.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use super::cursor::Cursors;
use crate::domain::Timestamp;

/// One entry of a stream.
#[derive(Debug)]
pub(super) struct Placed<T> {
    /// The time by which the listing is ordered.
    pub(super) at: Timestamp,
    /// The cursor with which its side goes on behind it.
    pub(super) place: Vec<u8>,
    /// What is shown; nothing for what the other side shows, or nobody.
    pub(super) shown: Option<T>,
}

/// A page of one side.
#[derive(Debug)]
pub(super) struct Stream<T> {
    entries: VecDeque<Placed<T>>,
    /// Where to go on behind the page; nothing at the end.
    next: Option<Vec<u8>>,
    /// The time of the last entry of the page.
    last: Option<Timestamp>,
}

/// What was merged.
#[derive(Debug)]
pub(super) struct Merged<T> {
    /// What is shown, and the cursor behind each.
    pub(super) shown: Vec<(T, Cursors)>,
    /// The cursor behind all that was used; nothing at the end of both sides.
    pub(super) next: Option<Cursors>,
}

impl<T> Stream<T> {
    /// A page whose entries come in the order of their places.
    ///
    /// An entry may have changed since the index was read that has its place: it is later than that then. Its time
    /// counts as no later than that of its neighbours, so that it holds up nobody.
    pub(super) fn new(mut entries: Vec<Placed<T>>, next: Option<Vec<u8>>, descends: bool) -> Self {
        let mut bound = Timestamp::MAX;
        let mut clamp = |entry: &mut Placed<T>| {
            bound = bound.min(entry.at);
            entry.at = bound;
        };
        if descends {
            entries.iter_mut().for_each(&mut clamp);
        } else {
            entries.iter_mut().rev().for_each(&mut clamp);
        }
        let last = entries.last().map(|entry| entry.at);
        Self { entries: entries.into(), next, last }
    }

    /// The page of a side that is left out.
    pub(super) fn none() -> Self {
        Self { entries: VecDeque::new(), next: None, last: None }
    }

    /// Whether all of the page was used, and there is another.
    fn is_short(&self) -> bool {
        self.entries.is_empty() && self.next.is_some()
    }

    fn is_over(&self) -> bool {
        self.entries.is_empty() && self.next.is_none()
    }

    /// Whether nothing behind the page can come before an entry of this time.
    fn reaches(&self, at: Timestamp, descends: bool) -> bool {
        let is_within = |last: Timestamp| if descends { at >= last } else { at <= last };
        self.next.is_none() || self.last.is_some_and(is_within)
    }
}

/// Merges two pages that begin at `cursors`, up to `limit` shown entries, of each key one.
///
/// Of entries of one time, SQLite's come first when times ascend and last when they descend. An entry that is copied to
/// SQLite while it is DynamoDB's next lands at the same time in a later row, and so is still ahead.
pub(super) fn merge<T, K: Eq + Hash>(
    mut cursors: Cursors,
    mut local: Stream<T>,
    mut remote: Stream<T>,
    descends: bool,
    limit: usize,
    key: impl Fn(&T) -> K,
) -> Merged<T> {
    let mut shown: Vec<(T, Cursors)> = Vec::new();
    let mut keys = HashSet::new();
    while shown.len() < limit {
        let is_local = match (local.entries.front(), remote.entries.front()) {
            (Some(local), Some(remote)) if descends => local.at > remote.at,
            (Some(local), Some(remote)) => local.at <= remote.at,
            (Some(local), None) if remote.reaches(local.at, descends) => true,
            (None, Some(remote)) if local.reaches(remote.at, descends) => false,
            // Only another page can tell what comes next.
            _ => break,
        };
        let (stream, after) =
            if is_local { (&mut local, &mut cursors.local) } else { (&mut remote, &mut cursors.remote) };
        let Some(entry) = stream.entries.pop_front() else { break };
        *after = Some(entry.place);
        if let Some(item) = entry.shown.filter(|item| keys.insert(key(item))) {
            shown.push((item, cursors.clone()));
        }
    }
    for (stream, after) in [(&local, &mut cursors.local), (&remote, &mut cursors.remote)] {
        if stream.is_short() {
            after.clone_from(&stream.next);
        }
    }
    let is_over = local.is_over() && remote.is_over();
    Merged { shown, next: (!is_over).then_some(cursors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of numbers that are their own times and places.
    fn stream(numbers: &[u64], next: Option<u8>, descends: bool) -> Stream<u64> {
        let placed = |number: &u64| Placed {
            at: Timestamp::from_secs(*number),
            place: number.to_be_bytes().to_vec(),
            shown: Some(*number),
        };
        Stream::new(numbers.iter().map(placed).collect(), next.map(|next| vec![next]), descends)
    }

    fn merged(
        local: Stream<u64>,
        remote: Stream<u64>,
        descends: bool,
        limit: usize,
    ) -> (Vec<u64>, Option<Cursors>) {
        let Merged { shown, next } =
            merge(Cursors::default(), local, remote, descends, limit, |number| *number);
        (shown.into_iter().map(|(number, _)| number).collect(), next)
    }

    #[test]
    fn both_in_order() {
        let (shown, next) = merged(stream(&[1, 4], None, false), stream(&[2, 3, 9], None, false), false, 10);
        assert_eq!((shown.as_slice(), next), (&[1, 2, 3, 4, 9][..], None));
        let (shown, next) = merged(stream(&[4, 1], None, true), stream(&[9, 3, 2], None, true), true, 3);
        assert_eq!(shown, [9, 4, 3]);
        let place = |number: u64| Some(number.to_be_bytes().to_vec());
        assert_eq!(next, Some(Cursors { local: place(4), remote: place(3), without_remote: false }));
    }

    #[test]
    fn nothing_is_shown_beyond_a_page_that_goes_on() {
        let (shown, next) = merged(stream(&[1, 2], Some(7), false), stream(&[3], None, false), false, 10);
        assert_eq!(shown, [1, 2]);
        assert_eq!(next, Some(Cursors { local: Some(vec![7]), ..Cursors::default() }));
        for descends in [false, true] {
            let (here, there) = (stream(&[1], Some(7), descends), stream(&[1], Some(8), descends));
            let (shown, next) = merged(here, there, descends, 10);
            assert_eq!(shown, [1], "what has the time of the last is shown");
            let both = Cursors { local: Some(vec![7]), remote: Some(vec![8]), without_remote: false };
            assert_eq!(next, Some(both));
        }
        let (shown, next) = merged(stream(&[1], None, false), stream(&[], Some(7), false), false, 10);
        assert!(shown.is_empty(), "{shown:?}");
        assert_eq!(next, Some(Cursors { remote: Some(vec![7]), ..Cursors::default() }));
    }

    #[test]
    fn what_has_moved_holds_up_nobody() {
        // The row at 1 is of an entry that is of 50 by now.
        let (shown, _) = merged(stream(&[2, 20], None, false), stream(&[50, 3, 4], None, false), false, 10);
        assert_eq!(shown, [2, 50, 3, 4, 20]);
        let (shown, _) = merged(stream(&[20, 2], None, true), stream(&[4, 50, 3], None, true), true, 10);
        assert_eq!(shown, [20, 4, 50, 3, 2]);
    }

    #[test]
    fn a_key_is_shown_once() {
        let (shown, next) = merged(stream(&[1, 5], None, false), stream(&[1, 5], None, false), false, 10);
        assert_eq!((shown.as_slice(), next), (&[1, 5][..], None));
    }
}
