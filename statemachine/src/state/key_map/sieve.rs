//! The words that stand for a node's keys.

use std::cmp::Ordering;
use std::ops::Range;

use super::NODE_ENTRIES_MAX;

/// For a sorted list of keys, the eight bytes of each that follow what all of them share. Where two words differ,
/// they order the keys; where they are equal, the keys must be looked at.
///
/// The keys stay with the node, which passes a function from index to key.
#[derive(Debug)]
pub(super) struct Sieve {
    /// Bytes at the front that every key of the list has in common with the first; not necessarily all of them.
    shared_bytes: usize,
    count: usize,
    /// In place, not behind a pointer: the words are the first that a search reads of a node.
    words: [u64; NODE_ENTRIES_MAX],
}

impl Sieve {
    pub(super) fn new() -> Sieve {
        Sieve {
            shared_bytes: 0,
            count: 0,
            words: [0; NODE_ENTRIES_MAX],
        }
    }

    /// The index of `key`, if it is in the list. Looks at keys only where words are equal, even if `key` does not
    /// begin with what the list shares: then none is equal to it in the end.
    pub(super) fn find<'k>(&self, key: &[u8], key_at: impl Fn(usize) -> &'k [u8]) -> Option<usize> {
        let rest = key.get(self.shared_bytes..)?;
        let equal = self.narrow(rest);
        let index = partition_point(equal.clone(), |index| key_at(index) < key);
        (equal.contains(&index) && key_at(index) == key).then_some(index)
    }

    /// The index of `key`, or the one at which it belongs.
    pub(super) fn search<'k>(
        &self,
        key: &[u8],
        key_at: impl Fn(usize) -> &'k [u8],
    ) -> Result<usize, usize> {
        if self.count == 0 {
            return Err(0);
        }
        let shared = &key_at(0)[..self.shared_bytes];
        let front = &key[..key.len().min(shared.len())];
        match front.cmp(shared) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.count),
            Ordering::Equal => {}
        }
        let equal = self.narrow(&key[self.shared_bytes..]);
        let index = partition_point(equal.clone(), |index| key_at(index) < key);
        if equal.contains(&index) && key_at(index) == key {
            Ok(index)
        } else {
            Err(index)
        }
    }

    /// To be called after a key was put into the list at `index`.
    pub(super) fn inserted<'k>(&mut self, index: usize, key_at: impl Fn(usize) -> &'k [u8]) {
        let count = self.count + 1;
        let is_outermost = index == 0 || index + 1 == count;
        let is_less_shared =
            is_outermost && shared_bytes(key_at(0), key_at(count - 1)) < self.shared_bytes;
        if is_less_shared || count <= 2 {
            self.rebuild(count, key_at);
        } else {
            self.words.copy_within(index..self.count, index + 1);
            self.words[index] = word_of(&key_at(index)[self.shared_bytes..]);
            self.count = count;
        }
    }

    /// To be called after the key at `index` was taken out. What is shared can only become more, so it still holds.
    pub(super) fn removed(&mut self, index: usize) {
        self.words.copy_within(index + 1..self.count, index);
        self.count -= 1;
    }

    /// Takes a new look at the whole list.
    pub(super) fn rebuild<'k>(&mut self, count: usize, key_at: impl Fn(usize) -> &'k [u8]) {
        // The keys between the first and the last share at least what these two share.
        self.shared_bytes = if count == 0 {
            0
        } else {
            shared_bytes(key_at(0), key_at(count - 1))
        };
        self.count = count;
        for (index, word) in self.words[..count].iter_mut().enumerate() {
            *word = word_of(&key_at(index)[self.shared_bytes..]);
        }
    }

    /// The indexes whose words are equal to the word of `rest`, a key without what is shared.
    fn narrow(&self, rest: &[u8]) -> Range<usize> {
        let word = word_of(rest);
        let words = &self.words[..self.count];
        let start = words.partition_point(|other| *other < word);
        let equal = words[start..]
            .iter()
            .take_while(|other| **other == word)
            .count();
        start..start + equal
    }
}

/// Length of what two keys begin with in common.
pub(super) fn shared_bytes(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count()
}

/// The first eight bytes as a number that orders as the bytes do. A shorter rest is filled with zeros, which puts
/// it not above any longer one that begins with it.
#[expect(
    clippy::big_endian_bytes,
    reason = "numbers must order as bytes do; nothing is stored"
)]
fn word_of(rest: &[u8]) -> u64 {
    if let Some(word) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*word);
    }
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(word)
}

/// The first index of a range for which `is_before` does not hold, by bisection.
fn partition_point(range: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
    let Range {
        start: mut low,
        end: mut high,
    } = range;
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
