//! Which keys a range may touch, and which of them stand together.

use crate::query::{Direction, RangeQuery, Scope};

/// The keys that a range may touch: from `low` to below `high`; without `high`, to the last of all.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) low: Vec<u8>,
    pub(super) high: Option<Vec<u8>>,
}

impl Region {
    pub(super) fn of(query: &RangeQuery<'_>) -> Region {
        let low = query.prefix.max(query.start);
        let past_prefix = past_prefix(query.prefix);
        let high = match (query.end, past_prefix) {
            ([], past_prefix) => past_prefix,
            (end, None) => Some(end.to_vec()),
            (end, Some(past_prefix)) => Some(past_prefix.min(end.to_vec())),
        };
        Region {
            low: low.to_vec(),
            high,
        }
    }

    /// Leaves out what slices before have covered.
    pub(super) fn resume(&mut self, from: &[u8], direction: Direction) {
        match direction {
            Direction::Forward => self.raise_low(from.to_vec()),
            Direction::Reverse => self.lower_high(from.to_vec()),
        }
    }

    /// Leaves out a subtree that the walk has come to, and what lies before it in the walk's order.
    pub(super) fn cut_off(&mut self, subtree: &[u8], direction: Direction) {
        match direction {
            Direction::Forward => match past_prefix(subtree) {
                Some(past) => self.raise_low(past),
                None => self.high = Some(self.low.clone()),
            },
            Direction::Reverse => self.lower_high(subtree.to_vec()),
        }
    }

    fn raise_low(&mut self, low: Vec<u8>) {
        if low > self.low {
            self.low = low;
        }
    }

    fn lower_high(&mut self, high: Vec<u8>) {
        if self.high.as_ref().is_none_or(|present| high < *present) {
            self.high = Some(high);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.high.as_ref().is_some_and(|high| *high <= self.low)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        key >= self.low.as_slice() && self.high.as_ref().is_none_or(|high| key < high.as_slice())
    }
}

/// How far a slice has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Covered<'a> {
    /// Nowhere yet.
    Nothing,
    /// To this key.
    Key(&'a [u8]),
    /// To the end of everything that begins with this.
    Subtree(&'a [u8]),
}

impl Covered<'_> {
    /// Where the next slice begins: the lowest key that is not covered, or in reverse the lowest that is. `None` when
    /// nothing is left.
    ///
    /// # Panics
    /// When nothing is covered.
    pub(super) fn resume(self, direction: Direction) -> Option<Vec<u8>> {
        match (self, direction) {
            (Covered::Nothing, _) => panic!("a slice covers at least one key"),
            (Covered::Key(key), Direction::Forward) => Some([key, &[0]].concat()),
            (Covered::Subtree(subtree), Direction::Forward) => past_prefix(subtree),
            (Covered::Key(place) | Covered::Subtree(place), Direction::Reverse) => {
                Some(place.to_vec())
            }
        }
    }
}

/// The subtree in which `key` lies: everything up to and including the first separator after the prefix. `None` for
/// keys that belong into the answer.
pub(super) fn subtree_of<'k>(query: &RangeQuery<'_>, key: &'k [u8]) -> Option<&'k [u8]> {
    match query.scope {
        Scope::Subtree => None,
        Scope::Children { separator } => up_to_first(query.prefix.len(), key, separator),
    }
}

/// The common prefix that stands for `key` in the answer: everything up to and including the first delimiter after the
/// prefix. `None` for keys that stand for themselves.
pub(super) fn common_prefix_of<'k>(query: &RangeQuery<'_>, key: &'k [u8]) -> Option<&'k [u8]> {
    up_to_first(query.prefix.len(), key, query.delimiter?)
}

fn up_to_first(depth: usize, key: &[u8], byte: u8) -> Option<&[u8]> {
    let length = key.get(depth..)?.iter().position(|other| *other == byte)?;
    Some(&key[..=depth + length])
}

/// The least key above every key that begins with `prefix`; `None` if there is none.
fn past_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut past = prefix[..=last].to_vec();
    past[last] += 1;
    Some(past)
}
