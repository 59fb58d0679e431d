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

    /// The hash that had this value.
    pub(super) fn with_value(value: u64) -> StateHash {
        StateHash(value)
    }

    /// Folds in a word.
    pub(super) fn add(&mut self, word: u64) {
        self.0 = fold(self.0, word);
    }

    /// Folds in bytes and their length. Whole blocks run through four strands, which do not wait for each other.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        let (blocks, rest) = bytes.as_chunks::<32>();
        if !blocks.is_empty() {
            let mut strands = [SEED; 4];
            for block in blocks {
                let (words, _) = block.as_chunks::<8>();
                for (strand, word) in strands.iter_mut().zip(words) {
                    *strand = fold(*strand, u64::from_le_bytes(*word));
                }
            }
            strands.into_iter().for_each(|strand| self.add(strand));
        }
        let (words, rest) = rest.as_chunks::<8>();
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

fn fold(state: u64, word: u64) -> u64 {
    // The rotation keeps equal words that follow each other from cancelling out.
    let product = u128::from(state.rotate_left(23) ^ word) * u128::from(MULTIPLIER);
    (product as u64) ^ ((product >> 64) as u64) ^ word.wrapping_add(SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(parts: &[&[u8]]) -> u64 {
        let mut hash = StateHash::new();
        parts.iter().for_each(|part| hash.add_bytes(part));
        hash.value()
    }

    #[test]
    fn every_bit_and_every_border_counts() {
        for length in [1, 7, 8, 9, 31, 32, 33, 64, 100] {
            let bytes = vec![0; length];
            for bit in 0..length * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(
                    hash_of(&[&bytes]),
                    hash_of(&[&other]),
                    "bit {bit} of {length} bytes"
                );
            }
            assert_ne!(hash_of(&[&bytes]), hash_of(&[&bytes, &[]]));
            assert_ne!(hash_of(&[&bytes]), hash_of(&[&bytes[1..]]));
        }
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"a", b"bc"]));
        assert_ne!(hash_of(&[b"a", b"b"]), hash_of(&[b"b", b"a"]));
    }
}
