//! Numbers that only a seed decides, and ranks by Zipf's law.

/// The `SplitMix64` generator.
pub(crate) struct Dice(u64);

impl Dice {
    /// Neighbouring seeds have nothing in common: what begins there is a number of the generator, not its state.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Self(seed).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 up to 1, without 1.
    pub(crate) fn share(&mut self) -> f64 {
        let high = (self.next() >> 32) as u32;
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

/// Ranks from 0, where rank `r` has the weight `1 / (r + 1)^exponent`.
pub(crate) struct Zipf {
    /// The weight of each rank and all before it.
    cumulated: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 ranks")]
        let cumulated = (0..ranks)
            .map(|rank| {
                sum += ((rank + 1) as f64).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulated }
    }

    pub(crate) fn rank(&self, dice: &mut Dice) -> usize {
        let all = self.cumulated.last().copied().unwrap_or_default();
        let at = dice.share() * all;
        self.cumulated.partition_point(|&below| below <= at).min(self.cumulated.len() - 1)
    }
}
