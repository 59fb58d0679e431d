//! The keys of a region in the order of a range.

use std::cmp::Ordering;

use super::history::ChangePosition;
use super::kept::{KeptVersion, KeptVersions, kept_version};
use super::key_map::{Backward, Forward, Head, KeyMap};
use super::record::Record;
use super::region::Region;
use crate::query::Direction;

/// Goes through the keys that are in the map and those that are only kept for a pin, side by side: a key that was
/// deleted after the pin was made may have left the map.
pub(super) struct Walk<'a> {
    heads: Heads<'a>,
    head: Option<&'a Head>,
    kept: Option<KeptWalk<'a>>,
}

/// What a walk finds at a key.
pub(super) struct Found<'a> {
    pub(super) key: &'a [u8],
    /// Its newest change, if that is remembered.
    pub(super) head: Option<&'a Head>,
    /// The version that the reader sees, if it is one that is kept for pins.
    pub(super) kept: Option<&'a Record>,
    /// How many places were looked at.
    pub(super) visits: u64,
}

enum Heads<'a> {
    Ascending(Forward<'a>),
    Descending(Backward<'a>),
}

/// The kept versions of the region, of which a reader sees those that stood at its bound.
struct KeptWalk<'a> {
    versions: KeptVersions<'a>,
    bound: ChangePosition,
    direction: Direction,
    next: Option<KeptVersion<'a>>,
}

impl<'a> Walk<'a> {
    /// `kept` are the region's, with the position before which the reader sees changes.
    pub(super) fn begin(
        keys: &'a KeyMap,
        kept: Option<(KeptVersions<'a>, ChangePosition)>,
        region: &Region,
        direction: Direction,
    ) -> Walk<'a> {
        let mut heads = match direction {
            Direction::Forward => Heads::Ascending(keys.forward_from(&region.low)),
            Direction::Reverse => Heads::Descending(keys.backward_before(region.high.as_deref())),
        };
        let head = heads.next(region);
        let kept = kept.map(|(versions, bound)| KeptWalk::begin(versions, bound, direction));
        Walk { heads, head, kept }
    }

    /// The next key in the region.
    pub(super) fn next(&mut self, region: &Region) -> Option<Found<'a>> {
        let head_key = self.head.map(Head::key);
        let kept_key = self.kept.as_ref().and_then(KeptWalk::key);
        let order = match (head_key, kept_key) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(head), Some(kept)) => match self.heads {
                Heads::Ascending(_) => head.cmp(kept),
                Heads::Descending(_) => kept.cmp(head),
            },
        };
        let (mut head, mut kept, mut visits) = (None, None, 1);
        if order.is_le() {
            head = std::mem::replace(&mut self.head, self.heads.next(region));
        }
        if order.is_ge()
            && let Some(versions) = &mut self.kept
        {
            let (seen, count) = versions.take_key();
            kept = seen;
            visits += count;
        }
        Some(Found {
            key: if order.is_le() { head_key } else { kept_key }?,
            head,
            kept,
            visits,
        })
    }
}

impl<'a> Heads<'a> {
    fn next(&mut self, region: &Region) -> Option<&'a Head> {
        let head = match self {
            Heads::Ascending(heads) => heads.next(),
            Heads::Descending(heads) => heads.next(),
        };
        head.filter(|head| region.contains(head.key()))
    }
}

impl<'a> KeptWalk<'a> {
    fn begin(
        versions: KeptVersions<'a>,
        bound: ChangePosition,
        direction: Direction,
    ) -> KeptWalk<'a> {
        let mut walk = KeptWalk {
            versions,
            bound,
            direction,
            next: None,
        };
        walk.advance();
        walk
    }

    fn key(&self) -> Option<&'a [u8]> {
        self.next.map(|next| next.record.key())
    }

    /// Takes all versions of the next key: the one that the reader sees, and how many there are.
    fn take_key(&mut self) -> (Option<&'a Record>, u64) {
        let key = self.key();
        let (mut seen, mut count) = (None, 0);
        while let Some(version) = self.next
            && self.key() == key
        {
            count += 1;
            if version.is_seen_by(self.bound) {
                seen = Some(version.record);
            }
            self.advance();
        }
        (seen, count)
    }

    fn advance(&mut self) {
        let next = match self.direction {
            Direction::Forward => self.versions.next(),
            Direction::Reverse => self.versions.next_back(),
        };
        self.next = next.map(kept_version);
    }
}
