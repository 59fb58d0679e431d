//! A rolling hash of everything applied.

/// Folds what apply decided into 64 bits, in order: replicas that applied the same batches and hold different
/// hashes have diverged. It guards against bugs and bad memory, not against an adversary.
///
/// Each word is folded in by the high and low half of a 128-bit product, as in wyhash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateHash(u64);

/// Odd, with as many ones as zeros and no pattern: digits of pi.
const MULTIPLIER: u64 = 0x243f_6a88_85a3_08d3;
const SEED: u64 = 0x1319_8a2e_0370_7345;

impl StateHash {
    pub(super) fn new() -> StateHash {
        StateHash(SEED)
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }

    pub(super) fn add(&mut self, word: u64) {
        // The rotation keeps equal words that follow each other from cancelling out.
        let product = u128::from(self.0.rotate_left(23) ^ word) * u128::from(MULTIPLIER);
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.wrapping_add(SEED);
    }

    /// Folds in bytes and their length.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_le_bytes(word));
        }
    }
}
