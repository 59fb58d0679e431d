//! Walking a range while a command is applied.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use super::history::ChangePosition;
use super::key_map::{Backward, Forward, Head, KeyMap};
use super::record::Record;
use super::region::{Region, subtree_of};
use crate::ids::NamespaceId;
use crate::query::{Direction, Projection, RangeQuery};
use crate::structured::KeyRange;

/// What a transaction has made of keys so far; `None` where it removed one.
pub(super) type Overlay = BTreeMap<Vec<u8>, Option<Record>>;

/// The keys of a range, those of the state and over them those of an overlay, in order.
///
/// How many steps a walk takes decides what a command comes to, so every replica must take the same ones. Tombstones
/// below the history's floor are freed when a replica finds the time: they are passed over as if they were gone. All
/// others are steps, also those that are not live.
pub(super) struct KeyWalk<'a> {
    keys: &'a KeyMap,
    overlay: &'a Overlay,
    floor: ChangePosition,
    query: RangeQuery<'a>,
    region: Region,
    heads: Heads<'a>,
    drafts: Range<'a, Vec<u8>, Option<Record>>,
    /// The next of each, looked at and not taken.
    head: Option<&'a Head>,
    draft: Option<(&'a [u8], Option<&'a Record>)>,
}

enum Heads<'a> {
    Ascending(Forward<'a>),
    Descending(Backward<'a>),
}

impl<'a> Heads<'a> {
    fn begin(keys: &'a KeyMap, region: &Region, direction: Direction) -> Heads<'a> {
        match direction {
            Direction::Forward => Heads::Ascending(keys.forward_from(&region.low)),
            Direction::Reverse => Heads::Descending(keys.backward_before(region.high.as_deref())),
        }
    }
}

/// One step of a walk.
pub(super) struct Step<'a> {
    pub(super) key: &'a [u8],
    pub(super) found: Found<'a>,
}

/// What a step came to.
pub(super) enum Found<'a> {
    /// A key of the state: live, or deleted within the history.
    Head(&'a Head),
    /// A key of the overlay; `None` where it was removed.
    Draft(Option<&'a Record>),
    /// A key below the range's scope: the whole of its subtree was passed over.
    Subtree,
}

impl<'a> Step<'a> {
    /// The key's version, unless there is none.
    pub(super) fn live(&self) -> Option<&'a Record> {
        match self.found {
            Found::Head(head) => head.live(),
            Found::Draft(record) => record,
            Found::Subtree => None,
        }
    }
}

impl<'a> KeyWalk<'a> {
    pub(super) fn begin(
        (keys, floor): (&'a KeyMap, ChangePosition),
        overlay: &'a Overlay,
        range: &KeyRange<'a>,
        direction: Direction,
    ) -> KeyWalk<'a> {
        let query = RangeQuery {
            // Neither the keyspace nor what is told of a row matters for the order of keys.
            namespace: NamespaceId::DEFAULT,
            prefix: range.prefix,
            start: range.start,
            end: range.end,
            scope: range.scope,
            direction,
            projection: Projection::KeysAndValues,
            delimiter: None,
            at: None,
            limit: 0,
        };
        let region = Region::of(&query);
        let mut walk = KeyWalk {
            heads: Heads::begin(keys, &region, direction),
            drafts: drafts_of(overlay, &region, direction),
            keys,
            overlay,
            floor,
            query,
            region,
            head: None,
            draft: None,
        };
        walk.look_at_head();
        walk.look_at_draft();
        walk
    }

    fn look_at_head(&mut self) {
        let floor = self.floor;
        let is_wanted = |head: &Head| !head.is_tombstone() || head.position() >= floor;
        let head = match &mut self.heads {
            Heads::Ascending(heads) => heads.find(|head| is_wanted(head)),
            Heads::Descending(heads) => heads.find(|head| is_wanted(head)),
        };
        self.head = head.filter(|head| self.region.contains(head.key()));
    }

    fn look_at_draft(&mut self) {
        let draft = match self.query.direction {
            Direction::Forward => self.drafts.next(),
            Direction::Reverse => self.drafts.next_back(),
        };
        self.draft = draft
            .map(|(key, record)| (key.as_slice(), record.as_ref()))
            .filter(|(key, _)| self.region.contains(key));
    }

    fn take_next(&mut self) -> Option<Step<'a>> {
        let head = self.head.map(|head| (head.key(), head));
        let (takes_head, takes_draft) = match (head, self.draft) {
            (None, None) => return None,
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some((key, _)), Some((draft, _))) => match self.query.direction {
                Direction::Forward => (key <= draft, draft <= key),
                Direction::Reverse => (key >= draft, draft >= key),
            },
        };
        let draft = self.draft;
        if takes_head {
            self.look_at_head();
        }
        if takes_draft {
            self.look_at_draft();
        }
        match (head, draft) {
            // The overlay is what the transaction sees.
            (_, Some((key, record))) if takes_draft => Some(Step {
                key,
                found: Found::Draft(record),
            }),
            (Some((key, head)), _) => Some(Step {
                key,
                found: Found::Head(head),
            }),
            (None, _) => panic!("one of the two was taken"),
        }
    }
}

impl<'a> Iterator for KeyWalk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let step = self.take_next()?;
        let Some(subtree) = subtree_of(&self.query, step.key) else {
            return Some(step);
        };
        self.region.cut_off(subtree, self.query.direction);
        self.heads = Heads::begin(self.keys, &self.region, self.query.direction);
        self.drafts = drafts_of(self.overlay, &self.region, self.query.direction);
        self.look_at_head();
        self.look_at_draft();
        Some(Step {
            key: step.key,
            found: Found::Subtree,
        })
    }
}

/// The overlay's keys from where a region begins on; where it ends is looked at key by key.
fn drafts_of<'a>(
    overlay: &'a Overlay,
    region: &Region,
    direction: Direction,
) -> Range<'a, Vec<u8>, Option<Record>> {
    match (direction, &region.high) {
        (Direction::Forward, _) => {
            overlay.range::<[u8], _>((Bound::Included(region.low.as_slice()), Bound::Unbounded))
        }
        (Direction::Reverse, Some(high)) => {
            overlay.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(high.as_slice())))
        }
        (Direction::Reverse, None) => overlay.range::<[u8], _>(..),
    }
}
