//! Keys and values of the load.

use crate::random::Random;

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 8;

/// How many numbers seven hexadecimal digits hold.
const NUMBERS: u64 = 1 << 28;

/// Odd, so that multiplying by it permutes the numbers: neighbours in rank lie far apart in key order.
const SCATTER: u64 = 0x9e3_779b;

/// The keys that hold values of one size. Workloads with other sizes have keys of their own, so that a get finds what
/// was loaded for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeySpace {
    /// Bytes of every value in it.
    pub(crate) value_bytes: usize,
    tag: u8,
}

/// One key: the tag of its space and seven hexadecimal digits. No separator occurs in it, so that the default
/// namespace scatters keys over all shards.
pub(crate) type Key = [u8; KEY_BYTES];

impl KeySpace {
    /// Values of 16 bytes.
    pub(crate) const SMALL: KeySpace = KeySpace {
        value_bytes: 16,
        tag: b's',
    };
    /// Values of 256 bytes.
    pub(crate) const MEDIUM: KeySpace = KeySpace {
        value_bytes: 256,
        tag: b'm',
    };

    /// The key of a number. Different numbers have different keys.
    pub(crate) fn key(self, number: u64) -> Key {
        debug_assert!(number < NUMBERS, "seven digits hold the number");
        let scattered = number.wrapping_mul(SCATTER) % NUMBERS;
        let mut key = [self.tag; KEY_BYTES];
        for (position, digit) in key[1..].iter_mut().enumerate() {
            let nibble = (scattered >> (24 - 4 * position)) & 0xf;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        key
    }

    /// The key that says how far this space is loaded.
    pub(crate) fn marker(self) -> Vec<u8> {
        format!("metastore-perf.loaded.{}", self.tag as char).into_bytes()
    }
}

/// Values that do not compress: random bytes made once and handed out piece after piece, so that a batch never holds
/// the same bytes twice.
#[derive(Debug)]
pub(crate) struct ValuePool {
    bytes: Vec<u8>,
    next: usize,
}

/// Longer than any batch that a compressor sees at once.
const POOL_BYTES: usize = 8 << 20;

impl ValuePool {
    /// A pool of random bytes.
    pub(crate) fn new(random: &mut Random) -> ValuePool {
        let words = (0..POOL_BYTES / 8).map(|_| random.next_u64());
        ValuePool {
            bytes: words.flat_map(u64::to_le_bytes).collect(),
            next: 0,
        }
    }

    /// The next value.
    pub(crate) fn next(&mut self, value_bytes: usize) -> &[u8] {
        assert!(value_bytes <= POOL_BYTES, "a value fits the pool");
        if self.next + value_bytes > POOL_BYTES {
            self.next = 0;
        }
        let start = self.next;
        self.next += value_bytes;
        &self.bytes[start..self.next]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn different_numbers_have_different_keys() {
        let keys: BTreeSet<Key> = (0..100_000).map(|n| KeySpace::SMALL.key(n)).collect();
        assert_eq!(keys.len(), 100_000);
        assert!(
            keys.iter()
                .all(|key| key[0] == b's' && !key.contains(&b'/'))
        );
        assert_eq!(&KeySpace::MEDIUM.key(1), b"m9e3779b");
        assert_eq!(&KeySpace::MEDIUM.key(0), b"m0000000");
    }

    #[test]
    fn neighbours_are_scattered() {
        let first_digits: BTreeSet<u8> = (0..64).map(|n| KeySpace::SMALL.key(n)[1]).collect();
        assert_eq!(first_digits.len(), 16);
    }

    #[test]
    fn values_do_not_overlap_until_the_pool_is_used_up() {
        let mut pool = ValuePool::new(&mut Random::new(1));
        let first = pool.next(256).to_vec();
        let second = pool.next(256).to_vec();
        assert_ne!(first, second);
        let until_the_end = POOL_BYTES / 256 - 2;
        for _ in 0..until_the_end {
            assert_ne!(pool.next(256), first);
        }
        assert_eq!(pool.next(256), first, "and then it begins again");
    }
}
