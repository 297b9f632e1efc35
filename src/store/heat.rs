//! Which entries were asked for lately: one bit an entry, set on a hit, cleared as the evictor passes.
//!
//! The evictor walks entries in the order in which they were first stored and takes those whose bit is
//! clear, which is SIEVE (NSDI 2024): close to the best known hit ratios, without a write on a read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits in the map. Row numbers that share a bit share its second chance, which costs nothing but precision.
const BITS: u64 = 1 << 23;

/// The bits of one store: 1 MiB, whatever the number of entries.
#[derive(Debug)]
pub(crate) struct HeatMap(Box<[AtomicU64]>);

impl HeatMap {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self((0..BITS / 64).map(|_| AtomicU64::new(0)).collect()))
    }

    fn cell(&self, row: u64) -> (&AtomicU64, u64) {
        let bit = row % BITS;
        // BITS / 64 words fit in a usize on every platform that runs this.
        (&self.0[usize::try_from(bit / 64).unwrap_or(0)], 1 << (bit % 64))
    }

    fn mark(&self, row: u64) {
        let (word, mask) = self.cell(row);
        // Reading first keeps the cache line shared while an entry stays hot.
        if word.load(Ordering::Relaxed) & mask == 0 {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// Clears the bit of `row` and says whether it was set.
    pub(crate) fn take(&self, row: u64) -> bool {
        let (word, mask) = self.cell(row);
        word.fetch_and(!mask, Ordering::Relaxed) & mask != 0
    }
}

/// The bit of one entry, carried by hits so that a memory tier can keep an entry warm in the store behind it.
#[derive(Clone, Debug, Default)]
pub struct Heat(Option<(Arc<HeatMap>, u64)>);

impl Heat {
    pub(crate) fn new(map: &Arc<HeatMap>, row: u64) -> Self {
        Self(Some((Arc::clone(map), row)))
    }

    /// Notes that the entry was asked for.
    pub fn mark(&self) {
        if let Some((map, row)) = &self.0 {
            map.mark(*row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_taken_once() {
        let map = HeatMap::new();
        Heat::new(&map, 70).mark();
        Heat::new(&map, 70).mark();
        assert!(!map.take(71));
        assert!(map.take(70));
        assert!(!map.take(70));
        Heat::default().mark();
    }
}
