//! Which keys: evenly spread or by a Zipf distribution, the same in each run.

use crate::dice::{Dice, Zipf};

/// Steps from one rank to the next: a prime, so that popular keys lie all over the store.
const STRIDE: usize = 15_485_863;

/// A number below `bound`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of entries is between 0 and that number"
)]
pub(crate) fn below(bound: usize, dice: &mut Dice) -> usize {
    ((dice.share() * bound as f64) as usize).min(bound.saturating_sub(1))
}

/// How keys are chosen.
pub(crate) struct Spread {
    entries: usize,
    /// None where all are alike.
    zipf: Option<Zipf>,
}

impl Spread {
    /// Keys below `entries`; an exponent of 0 makes them all alike.
    pub(crate) fn new(entries: usize, exponent: f64) -> Self {
        Self { entries, zipf: (exponent > 0.0).then(|| Zipf::new(entries, exponent)) }
    }

    /// The number of a key.
    pub(crate) fn choose(&self, dice: &mut Dice) -> usize {
        match &self.zipf {
            None => below(self.entries, dice),
            Some(zipf) => zipf.rank(dice).wrapping_mul(STRIDE) % self.entries,
        }
    }
}
