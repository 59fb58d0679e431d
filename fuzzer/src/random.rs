//! Random numbers that follow from a seed and the number of an execution.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of one execution. Those of neighbours have nothing in common.
    #[must_use]
    pub fn of(seed: u64, number: u64) -> Random {
        let mut random = Random(seed);
        let start = random.number() ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut random = Random(start);
        random.number();
        random
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is no number below 0");
        // The high half of the product: no division, and a bias far below one in a million for what is asked here.
        ((u128::from(self.number()) * bound as u128) >> 64) as usize
    }

    /// One of several things.
    pub fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}
