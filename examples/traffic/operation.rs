//! What can be done, and how often.

use std::str::FromStr;

use crate::dice::Dice;
use crate::keys::below;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// A get of an entry, by a client that accepts zstd.
    Get,
    /// A get of an entry, by one that does not.
    Plain,
    /// A get of what was never there.
    Miss,
    /// A put under a key that is new.
    New,
    /// A put of what the entry began with.
    Put,
    /// A put of another document.
    Change,
    /// A put that soon expires, under keys of its own.
    Short,
    /// A delete of an entry.
    Delete,
    /// The next step in the life of a session.
    Session,
    /// A listing.
    List,
    /// A look-up of many keys.
    Lookup,
    /// A get of many results.
    Batch,
}

impl Operation {
    const ALL: [(&str, Self); 12] = [
        ("get", Self::Get),
        ("plain", Self::Plain),
        ("miss", Self::Miss),
        ("new", Self::New),
        ("put", Self::Put),
        ("change", Self::Change),
        ("short", Self::Short),
        ("delete", Self::Delete),
        ("session", Self::Session),
        ("list", Self::List),
        ("lookup", Self::Lookup),
        ("batch", Self::Batch),
    ];

    /// Its name in arguments and reports.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, operation)| *operation == self).map_or("", |(name, _)| name)
    }
}

/// An operation and its share, such as `get=85`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    operation: Operation,
    weight: usize,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let known = Operation::ALL.iter().find(|(known, _)| *known == name);
        let (_, operation) = known.ok_or_else(|| format!("there is no operation `{name}`"))?;
        let weight = weight.parse().map_err(|error| format!("the share of {name}: {error}"))?;
        Ok(Self { operation: *operation, weight })
    }
}

/// What is done, with shares.
pub(crate) struct Mix {
    shares: Vec<Share>,
    sum: usize,
}

impl Mix {
    /// A mix of at least one operation.
    pub(crate) fn new(shares: &[Share]) -> Result<Self, &'static str> {
        let sum = shares.iter().map(|share| share.weight).sum();
        if sum == 0 { Err("the shares are all 0") } else { Ok(Self { shares: shares.to_vec(), sum }) }
    }

    /// Whether an operation is among them.
    pub(crate) fn has(&self, operation: Operation) -> bool {
        self.shares.iter().any(|share| share.operation == operation)
    }

    /// The next operation.
    pub(crate) fn choose(&self, dice: &mut Dice) -> Operation {
        let mut place = below(self.sum, dice);
        for share in &self.shares {
            match place.checked_sub(share.weight) {
                Some(rest) => place = rest,
                None => return share.operation,
            }
        }
        unreachable!("the place is below the sum of the shares")
    }
}
