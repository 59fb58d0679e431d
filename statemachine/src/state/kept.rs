//! Versions that the history has let go of and a pin has still to read.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;

use super::history::ChangePosition;
use super::pins::Pins;
use super::record::{RECORD_OVERHEAD_BYTES, Record};
use super::region::Region;
use super::unread::Unread;
use crate::ids::NamespaceId;

/// Old versions kept for pins alone, in the order of their keys. A version comes here when the history forgets the
/// change that replaced it, if a pin sees it and has not passed its key; it goes when no such pin is left. So a reader
/// that keeps up with the writers holds little, however many keys they change.
///
/// What pins leave behind is looked through piece by piece, whenever there is time for it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    versions: BTreeMap<Place, ChangePosition>,
    bytes: u64,
    /// Where versions may lie that nobody wants any more.
    sweeps: VecDeque<Unread>,
}

/// Where a version lies: by namespace, key, and the change that replaced it. The map's values are the changes that made
/// them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    namespace: NamespaceId,
    record: Record,
    replaced: ChangePosition,
}

/// A version that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptVersion<'a> {
    pub(super) record: &'a Record,
    made: ChangePosition,
    replaced: ChangePosition,
}

/// The versions of some keys in ascending order; from the back, descending.
pub(super) type KeptVersions<'a> = btree_map::Range<'a, Place, ChangePosition>;

/// What keeping a version costs beyond its record: its place in the map.
const PLACE_BYTES: u64 = 64;
/// Sweeps beyond which one over everything is simpler.
const SWEEPS_MAX: usize = 64;

impl KeptVersion<'_> {
    /// Whether a reader that sees the changes before `bound` sees it.
    pub(super) fn is_seen_by(&self, bound: ChangePosition) -> bool {
        self.made < bound && bound <= self.replaced
    }
}

impl Kept {
    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps what the change at `replaced` replaced, and the change at `made` had made.
    pub(super) fn add(
        &mut self,
        namespace: NamespaceId,
        record: Record,
        (made, replaced): (ChangePosition, ChangePosition),
    ) {
        self.bytes += held_bytes(&record);
        let place = Place {
            namespace,
            record,
            replaced,
        };
        let before = self.versions.insert(place, made);
        assert!(before.is_none(), "a change is forgotten once");
    }

    /// The versions of the keys of a region.
    pub(super) fn of_region(&self, namespace: NamespaceId, region: &Region) -> KeptVersions<'_> {
        if region.is_empty() || self.versions.is_empty() {
            return KeptVersions::default();
        }
        let low = (namespace, &region.low[..], ChangePosition(0));
        let high = match (&region.high, namespace.0.checked_add(1)) {
            (Some(high), _) => Some((namespace, &high[..])),
            (None, next) => next.map(|next| (NamespaceId(next), &[][..])),
        };
        self.between(low, high)
    }

    /// Whether something may lie here that nobody wants.
    pub(super) fn wants_sweep(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// A pin no longer wants what lies here.
    pub(super) fn sweep_later(&mut self, mut left: Unread) {
        if left.is_empty() || self.between_unread(&left).next().is_none() {
            return;
        }
        if self.sweeps.len() >= SWEEPS_MAX {
            self.sweeps.clear();
            left = Unread::everything();
        }
        self.sweeps.push_back(left);
    }

    /// Looks at up to `versions_max` versions and drops those that no pin wants. Returns how many it looked at.
    pub(super) fn sweep(&mut self, pins: &Pins, versions_max: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < versions_max
            && let Some(mut sweep) = self.sweeps.pop_front()
        {
            let mut unwanted = Vec::new();
            let mut stopped_at = None;
            let mut last_key: Option<&[u8]> = None;
            for (place, made) in self.between_unread(&sweep) {
                // All versions of a key are looked at together, because a sweep goes on at a key.
                if looked_at >= versions_max && last_key != Some(place.record.key()) {
                    stopped_at = Some(place);
                    break;
                }
                last_key = Some(place.record.key());
                looked_at += 1;
                let changes = (*made, place.replaced);
                if !pins.want(changes, place.namespace, place.record.key()) {
                    unwanted.push(place.clone());
                }
            }
            if let Some(place) = stopped_at {
                sweep.cut_to((place.namespace, place.record.key()));
                self.sweeps.push_front(sweep);
            }
            for place in unwanted {
                self.versions.remove(&place);
                self.bytes -= held_bytes(&place.record);
            }
        }
        looked_at
    }

    fn between_unread(&self, unread: &Unread) -> KeptVersions<'_> {
        if unread.is_empty() {
            return KeptVersions::default();
        }
        let (namespace, key) = unread.first();
        self.between((namespace, key, ChangePosition(0)), unread.end())
    }

    fn between(
        &self,
        low: (NamespaceId, &[u8], ChangePosition),
        high: Option<(NamespaceId, &[u8])>,
    ) -> KeptVersions<'_> {
        let high = high.map(|(namespace, key)| (namespace, key, ChangePosition(0)));
        let low: &dyn Placed = &low;
        let high = high.as_ref().map(|high| high as &dyn Placed);
        self.versions.range::<dyn Placed, _>((
            Bound::Included(low),
            high.map_or(Bound::Unbounded, Bound::Excluded),
        ))
    }
}

/// What [`Kept`] holds at one place of its map.
pub(super) fn kept_version<'a>((place, made): (&'a Place, &'a ChangePosition)) -> KeptVersion<'a> {
    KeptVersion {
        record: &place.record,
        made: *made,
        replaced: place.replaced,
    }
}

fn held_bytes(record: &Record) -> u64 {
    record.bytes_len() + RECORD_OVERHEAD_BYTES + PLACE_BYTES
}

/// The order of places, for places that are there and for those that are only looked for.
trait Placed {
    fn place(&self) -> (NamespaceId, &[u8], ChangePosition);
}

impl Placed for Place {
    fn place(&self) -> (NamespaceId, &[u8], ChangePosition) {
        (self.namespace, self.record.key(), self.replaced)
    }
}

impl Placed for (NamespaceId, &[u8], ChangePosition) {
    fn place(&self) -> (NamespaceId, &[u8], ChangePosition) {
        *self
    }
}

impl<'a> Borrow<dyn Placed + 'a> for Place {
    fn borrow(&self) -> &(dyn Placed + 'a) {
        self
    }
}

impl PartialEq for dyn Placed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Placed + '_ {}

impl PartialOrd for dyn Placed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Placed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
