//! Keys and values of the load.

use std::ops::Deref;

use clap::ValueEnum;
use serde::Serialize;

use crate::random::Random;

/// Bytes of a key that lies in one of many directories.
const LONG_KEY_BYTES: usize = 32;

/// How many numbers seven hexadecimal digits hold.
const SCATTERED_NUMBERS: u64 = 1 << 28;

/// How many keys a space may have: what six hexadecimal digits hold, all that a short key has left in a directory.
const NUMBERS: u64 = 1 << 24;

/// Odd, so that multiplying by it permutes the numbers, and their last six digits too: neighbours in rank lie far apart
/// in key order.
const SCATTER: u64 = 0x9e3_779b;

/// Directories that long keys are spread over, each with as many keys, the frequent ones dealt out evenly.
const DIRECTORIES: u64 = 1_000;

/// Where keys lie, which decides over their shards: the default namespace keeps the children of a directory together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Directories {
    /// Short keys are in no directory, so that each is placed by itself; long keys are in 1,000 directories.
    #[default]
    Spread,
    /// All keys are in one directory, and so in one shard.
    One,
}

/// The keys that hold values of one size. Workloads with other sizes have keys of their own, so that a get finds what
/// was loaded for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeySpace {
    /// Bytes of every key in it.
    pub(crate) key_bytes: usize,
    /// Bytes of every value in it.
    pub(crate) value_bytes: usize,
    tag: u8,
    directories: Directories,
}

/// One key.
///
/// ```text
/// short, spread     s 0 0 0 0 0 0 0                            the tag and seven digits, without a separator
/// short, in one     s / 0 0 0 0 0 0                            the tag as directory and six digits
/// long              l / 0 0 0 0 0 0 0 0 / f i l e . 0 .. 0     the directory's eight digits and sixteen of its own
/// wide              as a short key, and digits that do not compress up to its length
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Key(Vec<u8>);

impl KeySpace {
    /// Keys of 8 bytes, values of 16.
    pub(crate) const SMALL: KeySpace = KeySpace::new(8, 16, b's');
    /// Keys of 8 bytes, values of 256.
    pub(crate) const MEDIUM: KeySpace = KeySpace::new(8, 256, b'm');
    /// Keys of 32 bytes, values of 128.
    pub(crate) const LONG: KeySpace = KeySpace::new(LONG_KEY_BYTES, 128, b'l');
    /// Keys of 256 bytes, values of 1,024.
    pub(crate) const WIDE: KeySpace = KeySpace::new(256, 1_024, b'w');
    /// Keys of 8 bytes, values of 64, for batches.
    pub(crate) const BATCHED: KeySpace = KeySpace::new(8, 64, b'b');

    const fn new(key_bytes: usize, value_bytes: usize, tag: u8) -> KeySpace {
        KeySpace {
            key_bytes,
            value_bytes,
            tag,
            directories: Directories::Spread,
        }
    }

    /// Keys of the same sizes that lie elsewhere.
    pub(crate) const fn within(self, directories: Directories) -> KeySpace {
        KeySpace {
            directories,
            ..self
        }
    }

    /// The key of a number. Different numbers have different keys.
    pub(crate) fn key(self, number: u64) -> Key {
        let mut key = Key::default();
        self.write_key(number, &mut key);
        key
    }

    /// The same in place of another key.
    pub(crate) fn write_key(self, number: u64, key: &mut Key) {
        key.0.clear();
        self.append_key(number, &mut key.0);
    }

    /// The same behind other keys.
    pub(crate) fn append_key(self, number: u64, out: &mut Vec<u8>) {
        debug_assert!(number < NUMBERS, "six digits hold the number");
        let end = out.len() + self.key_bytes;
        let scattered = number.wrapping_mul(SCATTER) % SCATTERED_NUMBERS;
        out.push(self.tag);
        match (self.key_bytes == LONG_KEY_BYTES, self.directories) {
            (true, directories) => {
                let directory = match directories {
                    Directories::Spread => number % DIRECTORIES,
                    Directories::One => 0,
                };
                out.push(b'/');
                push_digits(directory, 8, out);
                out.extend_from_slice(b"/file.");
                push_digits(scattered, 16, out);
            }
            (false, Directories::Spread) => push_digits(scattered, 7, out),
            (false, Directories::One) => {
                out.push(b'/');
                push_digits(scattered, 6, out);
            }
        }
        let mut filling = Random::new(scattered);
        while out.len() < end {
            push_digits(filling.next_u64(), DIGITS_MAX.min(end - out.len()), out);
        }
        debug_assert_eq!(out.len(), end);
    }

    /// The key that says how far this space is loaded.
    pub(crate) fn marker(self) -> Vec<u8> {
        let where_words = match self.directories {
            Directories::Spread => "",
            Directories::One => ".one-directory",
        };
        format!("metastore-perf.loaded.{}{where_words}", self.tag as char).into_bytes()
    }
}

/// Hexadecimal digits of a number.
const DIGITS_MAX: usize = 16;

/// Appends the last `digits` hexadecimal digits of a number.
fn push_digits(number: u64, digits: usize, out: &mut Vec<u8>) {
    let mut text = [0; DIGITS_MAX];
    for (position, digit) in text.iter_mut().enumerate() {
        let nibble = (number >> (4 * (DIGITS_MAX - 1 - position))) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    out.extend_from_slice(&text[DIGITS_MAX - digits..]);
}

impl Key {
    /// The key up to and including its last separator: its directory. Empty without one.
    pub(crate) fn directory(&self) -> &[u8] {
        let end = self.iter().rposition(|&byte| byte == b'/');
        &self[..end.map_or(0, |position| position + 1)]
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
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

    const SPACES: [KeySpace; 5] = [
        KeySpace::SMALL,
        KeySpace::MEDIUM,
        KeySpace::LONG,
        KeySpace::WIDE,
        KeySpace::BATCHED,
    ];

    #[test]
    fn different_numbers_have_different_keys_of_one_length() {
        for space in SPACES {
            for directories in [Directories::Spread, Directories::One] {
                let space = space.within(directories);
                let keys: BTreeSet<Key> = (0..100_000).map(|n| space.key(n)).collect();
                assert_eq!(keys.len(), 100_000);
                assert!(keys.iter().all(|key| key.len() == space.key_bytes));
            }
        }
        assert_eq!(&*KeySpace::MEDIUM.key(0), b"m0000000");
        assert_eq!(&*KeySpace::MEDIUM.key(1), b"m9e3779b");
        let in_one = KeySpace::MEDIUM.within(Directories::One);
        assert_eq!(&*in_one.key(1), b"m/e3779b");
        assert_eq!(&*KeySpace::LONG.key(1), b"l/00000001/file.0000000009e3779b");
        let wide = KeySpace::WIDE.key(1);
        assert_eq!(wide.len(), 256);
        assert_eq!(wide[..24], *b"w9e3779bdcc4df854ac16e6b");
    }

    #[test]
    fn directories_hold_what_their_names_say() {
        let directories_of = |space: KeySpace| -> BTreeSet<Vec<u8>> {
            let keys = (0..10_000).map(|number| space.key(number));
            keys.map(|key| key.directory().to_vec()).collect()
        };
        for space in SPACES {
            assert_eq!(directories_of(space.within(Directories::One)).len(), 1);
        }
        assert_eq!(directories_of(KeySpace::LONG).len(), 1_000);
        // None at all: each key is placed by itself.
        assert_eq!(directories_of(KeySpace::SMALL), [Vec::new()].into());
        assert_ne!(
            KeySpace::SMALL.marker(),
            KeySpace::SMALL.within(Directories::One).marker()
        );
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
