//! Which segment holds which entries, as far as it is durable: what keeps a segment alive.

use std::collections::BTreeMap;

use crate::ids::{LogIndex, ReplicaId, SegmentSequence};

/// A change of what the segments hold. It counts once its record is durable, because until then
/// what it replaces is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Entries at the end, which replace what was there.
    Append {
        replica: ReplicaId,
        first: LogIndex,
        last: LogIndex,
    },
    /// Entries written again.
    Rewrite {
        replica: ReplicaId,
        first: LogIndex,
        last: LogIndex,
    },
    /// A snapshot, after which only the entries from `first` to `last` remain.
    Snapshot {
        replica: ReplicaId,
        index: LogIndex,
        first: LogIndex,
        last: LogIndex,
    },
    /// The replica is gone.
    Tombstone { replica: ReplicaId },
}

/// Entries that follow each other in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: LogIndex,
    last: LogIndex,
    segment: SegmentSequence,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Placement {
    /// In the order of their indexes, without overlap.
    runs: Vec<Run>,
    /// In the order of their indexes. They are hints: what they point to is checked when it is read.
    waypoints: Vec<Waypoint>,
    snapshot_index: LogIndex,
}

/// Where a record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    pub(crate) segment: SegmentSequence,
    /// In its file.
    pub(crate) offset: u64,
}

/// A record from which on to look for entries: one for each window of a segment, so that it is not read from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waypoint {
    first: LogIndex,
    place: RecordPlace,
}

/// How far waypoints of a replica lie apart in a segment, in bytes.
const WINDOW_BYTES: u64 = 256 << 10;

impl Waypoint {
    fn is_near(&self, place: RecordPlace) -> bool {
        self.place.segment == place.segment
            && self.place.offset / WINDOW_BYTES == place.offset / WINDOW_BYTES
    }
}

/// Which segment holds the newest durable copy of each entry of each replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placements {
    replicas: BTreeMap<ReplicaId, Placement>,
}

impl Placements {
    /// A replica whose snapshot is known from a checkpoint.
    pub(crate) fn insert(&mut self, replica: ReplicaId, snapshot_index: LogIndex) {
        self.replicas.insert(
            replica,
            Placement {
                snapshot_index,
                ..Placement::default()
            },
        );
    }

    /// The record at `place`, with this change, is durable.
    pub(crate) fn apply(&mut self, place: RecordPlace, change: Change) {
        let segment = place.segment;
        match change {
            Change::Append {
                replica,
                first,
                last,
            } => {
                let placement = self.replicas.entry(replica).or_default();
                placement.truncate(first);
                placement.push(Run {
                    first,
                    last,
                    segment,
                });
                placement.pass(first, place);
            }
            Change::Rewrite {
                replica,
                first,
                last,
            } => {
                let placement = self.replicas.entry(replica).or_default();
                placement.replace(Run {
                    first,
                    last,
                    segment,
                });
                placement.replace_waypoints(first, last, place);
            }
            Change::Snapshot {
                replica,
                index,
                first,
                last,
            } => {
                let placement = self.replicas.entry(replica).or_default();
                placement.snapshot_index = index;
                placement.truncate(last.next());
                placement.drop_below(first);
            }
            Change::Tombstone { replica } => {
                self.replicas.remove(&replica);
            }
        }
    }

    /// Entries of `replica` from `first` on are lost.
    pub(crate) fn forget_from(&mut self, replica: ReplicaId, first: LogIndex) {
        if let Some(placement) = self.replicas.get_mut(&replica) {
            placement.truncate(first);
        }
    }

    /// The snapshot of a replica is another than its records say.
    pub(crate) fn set_snapshot_index(&mut self, replica: ReplicaId, index: LogIndex) {
        self.replicas.entry(replica).or_default().snapshot_index = index;
    }

    /// A replica is gone.
    pub(crate) fn remove(&mut self, replica: ReplicaId) {
        self.replicas.remove(&replica);
    }

    /// Entries of `replica` below `first_needed` are not needed any more.
    pub(crate) fn set_first_index(&mut self, replica: ReplicaId, first_needed: LogIndex) {
        let Some(placement) = self.replicas.get_mut(&replica) else {
            return;
        };
        assert!(
            first_needed <= placement.snapshot_index.next(),
            "entries are given up only below a durable snapshot"
        );
        placement.drop_below(first_needed);
    }

    /// The replicas that need entries in `segment`, each with the first and last of them.
    pub(crate) fn holders(&self, segment: SegmentSequence) -> Vec<(ReplicaId, LogIndex, LogIndex)> {
        let of_replica = |(&replica, placement): (&ReplicaId, &Placement)| {
            let mut runs = placement.runs.iter().filter(|run| run.segment == segment);
            let first = runs.next()?;
            let last = runs.next_back().unwrap_or(first);
            Some((replica, first.first, last.last))
        };
        self.replicas.iter().filter_map(of_replica).collect()
    }

    /// From which record on the entry of `replica` at `index` is to be looked for: one in its segment, at or before the
    /// one that holds it.
    pub(crate) fn place_of(&self, replica: ReplicaId, index: LogIndex) -> Option<RecordPlace> {
        let placement = self.replicas.get(&replica)?;
        let run = placement
            .runs
            .iter()
            .find(|run| run.first <= index && index <= run.last)?;
        let before = placement
            .waypoints
            .partition_point(|waypoint| waypoint.first <= index);
        let waypoint = placement.waypoints[..before]
            .iter()
            .rev()
            .find(|waypoint| waypoint.place.segment == run.segment);
        let start = RecordPlace {
            segment: run.segment,
            offset: 0,
        };
        Some(waypoint.map_or(start, |waypoint| waypoint.place))
    }

    /// Whether no replica needs anything in `segment`.
    pub(crate) fn is_free(&self, segment: SegmentSequence) -> bool {
        self.replicas
            .values()
            .all(|placement| placement.runs.iter().all(|run| run.segment != segment))
    }

    /// The first index from which on every entry up to `last` is held; `last + 1` when `last` itself is not.
    pub(crate) fn first_contiguous(&self, replica: ReplicaId, last: LogIndex) -> LogIndex {
        let mut first = last.next();
        let runs = self
            .replicas
            .get(&replica)
            .map_or(&[][..], |placement| &placement.runs);
        for run in runs.iter().rev() {
            if run.last.next() != first {
                break;
            }
            first = run.first;
        }
        first
    }
}

impl Placement {
    fn truncate(&mut self, first: LogIndex) {
        self.runs.retain(|run| run.first < first);
        if let Some(run) = self.runs.last_mut()
            && run.last >= first
        {
            run.last = LogIndex(first.0 - 1);
        }
        let is_replaced = |waypoint: &mut Waypoint| waypoint.first >= first;
        while self.waypoints.pop_if(is_replaced).is_some() {}
    }

    fn drop_below(&mut self, first_needed: LogIndex) {
        self.runs.retain(|run| run.last >= first_needed);
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(first_needed);
        }
        let after = self
            .waypoints
            .partition_point(|waypoint| waypoint.first <= first_needed);
        self.waypoints.drain(..after.saturating_sub(1));
    }

    /// Entries from `first` on were appended at `place`.
    fn pass(&mut self, first: LogIndex, place: RecordPlace) {
        if !self
            .waypoints
            .last()
            .is_some_and(|last| last.is_near(place))
        {
            self.waypoints.push(Waypoint { first, place });
        }
    }

    /// Entries were written again at `place`.
    fn replace_waypoints(&mut self, first: LogIndex, last: LogIndex, place: RecordPlace) {
        self.waypoints
            .retain(|waypoint| waypoint.first < first || waypoint.first > last);
        let at = self
            .waypoints
            .partition_point(|waypoint| waypoint.first < first);
        self.waypoints.insert(at, Waypoint { first, place });
    }

    fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.segment == run.segment && last.last.next() == run.first => {
                last.last = run.last
            }
            _ => self.runs.push(run),
        }
    }

    /// Puts `new` in the place of whatever covered its indexes.
    fn replace(&mut self, new: Run) {
        let mut runs = Vec::with_capacity(self.runs.len() + 2);
        for run in self.runs.drain(..) {
            if run.first < new.first {
                runs.push(Run {
                    last: run.last.min(LogIndex(new.first.0 - 1)),
                    ..run
                });
            }
            if run.last > new.last {
                runs.push(Run {
                    first: run.first.max(new.last.next()),
                    ..run
                });
            }
        }
        let place = runs.partition_point(|run| run.first < new.first);
        runs.insert(place, new);
        self.runs = runs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: ReplicaId = ReplicaId(1);

    fn start_of(segment: u64) -> RecordPlace {
        RecordPlace {
            segment: SegmentSequence(segment),
            offset: 0,
        }
    }

    fn append(placements: &mut Placements, segment: u64, first: u64, last: u64) {
        let change = Change::Append {
            replica: REPLICA,
            first: LogIndex(first),
            last: LogIndex(last),
        };
        placements.apply(start_of(segment), change);
    }

    fn held(placements: &Placements, segment: u64) -> Option<(u64, u64)> {
        placements
            .holders(SegmentSequence(segment))
            .first()
            .map(|&(_, first, last)| (first.0, last.0))
    }

    #[test]
    fn an_append_takes_over_what_it_replaces() {
        let mut placements = Placements::default();
        append(&mut placements, 1, 1, 10);
        append(&mut placements, 2, 6, 7);
        assert_eq!(
            (held(&placements, 1), held(&placements, 2)),
            (Some((1, 5)), Some((6, 7)))
        );
        append(&mut placements, 3, 1, 3);
        assert!(placements.is_free(SegmentSequence(1)) && placements.is_free(SegmentSequence(2)));
        assert_eq!(
            placements.first_contiguous(REPLICA, LogIndex(3)),
            LogIndex(1)
        );
    }

    #[test]
    fn a_rewrite_in_the_middle_leaves_both_ends_where_they_were() {
        let mut placements = Placements::default();
        append(&mut placements, 1, 1, 10);
        let change = Change::Rewrite {
            replica: REPLICA,
            first: LogIndex(4),
            last: LogIndex(6),
        };
        placements.apply(start_of(2), change);
        assert_eq!(
            (held(&placements, 1), held(&placements, 2)),
            (Some((1, 10)), Some((4, 6)))
        );
        assert_eq!(
            placements.first_contiguous(REPLICA, LogIndex(10)),
            LogIndex(1)
        );
        append(&mut placements, 3, 5, 5);
        assert_eq!(
            (
                held(&placements, 1),
                held(&placements, 2),
                held(&placements, 3)
            ),
            (Some((1, 3)), Some((4, 4)), Some((5, 5)))
        );
    }

    #[test]
    fn a_snapshot_that_replaces_the_log_frees_every_segment() {
        let mut placements = Placements::default();
        append(&mut placements, 1, 1, 10);
        let change = Change::Snapshot {
            replica: REPLICA,
            index: LogIndex(8),
            first: LogIndex(9),
            last: LogIndex(8),
        };
        placements.apply(start_of(2), change);
        assert!(placements.is_free(SegmentSequence(1)));
    }

    #[test]
    #[should_panic(expected = "below a durable snapshot")]
    fn entries_are_not_given_up_before_a_snapshot_covers_them() {
        let mut placements = Placements::default();
        append(&mut placements, 1, 1, 10);
        placements.set_first_index(REPLICA, LogIndex(2));
    }

    #[test]
    fn a_hole_ends_what_is_contiguous() {
        let mut placements = Placements::default();
        append(&mut placements, 1, 1, 3);
        append(&mut placements, 1, 6, 8);
        assert_eq!(
            placements.first_contiguous(REPLICA, LogIndex(8)),
            LogIndex(6)
        );
        assert_eq!(
            placements.first_contiguous(REPLICA, LogIndex(9)),
            LogIndex(10)
        );
    }

    fn append_at(placements: &mut Placements, segment: u64, offset: u64, first: u64, last: u64) {
        let change = Change::Append {
            replica: REPLICA,
            first: LogIndex(first),
            last: LogIndex(last),
        };
        let segment = SegmentSequence(segment);
        placements.apply(RecordPlace { segment, offset }, change);
    }

    fn place(placements: &Placements, index: u64) -> Option<(u64, u64)> {
        let place = placements.place_of(REPLICA, LogIndex(index))?;
        Some((place.segment.0, place.offset))
    }

    #[test]
    fn entries_are_looked_for_from_the_last_waypoint_before_them() {
        let mut placements = Placements::default();
        append_at(&mut placements, 1, 4096, 1, 10);
        append_at(&mut placements, 1, 8192, 11, 20);
        append_at(&mut placements, 1, WINDOW_BYTES, 21, 30);
        append_at(&mut placements, 2, 4096, 31, 40);
        assert_eq!(place(&placements, 1), Some((1, 4096)));
        assert_eq!(place(&placements, 20), Some((1, 4096)));
        assert_eq!(place(&placements, 21), Some((1, WINDOW_BYTES)));
        assert_eq!(place(&placements, 40), Some((2, 4096)));
        assert_eq!(place(&placements, 41), None);
        placements.set_first_index(REPLICA, LogIndex(1));
        assert_eq!(place(&placements, 15), Some((1, 4096)));
    }

    #[test]
    fn what_was_written_again_is_looked_for_there_and_its_neighbours_where_they_were() {
        let mut placements = Placements::default();
        append_at(&mut placements, 1, 4096, 1, 30);
        let change = Change::Rewrite {
            replica: REPLICA,
            first: LogIndex(11),
            last: LogIndex(20),
        };
        let again = RecordPlace {
            segment: SegmentSequence(2),
            offset: 8192,
        };
        placements.apply(again, change);
        assert_eq!(place(&placements, 10), Some((1, 4096)));
        assert_eq!(place(&placements, 11), Some((2, 8192)));
        assert_eq!(place(&placements, 20), Some((2, 8192)));
        assert_eq!(place(&placements, 21), Some((1, 4096)));
    }

    #[test]
    fn what_was_replaced_is_looked_for_in_its_replacement() {
        let mut placements = Placements::default();
        append_at(&mut placements, 1, 4096, 1, 10);
        append_at(&mut placements, 1, WINDOW_BYTES, 11, 20);
        append_at(&mut placements, 1, 2 * WINDOW_BYTES, 6, 8);
        assert_eq!(place(&placements, 5), Some((1, 4096)));
        assert_eq!(place(&placements, 6), Some((1, 2 * WINDOW_BYTES)));
        assert_eq!(place(&placements, 9), None);
    }
}
