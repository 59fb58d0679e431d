//! Background work in slices: each is short enough that whoever comes meanwhile does not notice.

use super::Core;
use super::moves::Move;
use crate::effect::Effects;
use crate::ids::Time;
use crate::stages::{StageSummary, Summaries};

/// What kind of background work a slice did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SliceKind {
    /// A part of a range, or of a count.
    Range,
    /// Export of the state for a snapshot.
    Snapshot,
    /// Freeing of history that nobody reads any more.
    Reclaim,
}

impl SliceKind {
    /// All kinds, in the order of their turns.
    pub const ALL: [SliceKind; 3] = [SliceKind::Range, SliceKind::Snapshot, SliceKind::Reclaim];

    /// The name in status reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SliceKind::Range => "slice range",
            SliceKind::Snapshot => "slice snapshot",
            SliceKind::Reclaim => "slice reclaim",
        }
    }
}

/// Whose turn is next, and how long slices took.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// Position in [`SliceKind::ALL`] of the kind that is asked first.
    kind_next: usize,
    /// For each kind, the replica that is asked first.
    replica_next: [usize; SliceKind::ALL.len()],
    times: Summaries<{ SliceKind::ALL.len() }>,
}

impl Slices {
    pub(super) fn follow(&mut self, moved: Move, replicas: usize) {
        for next in &mut self.replica_next {
            *next = moved.of_turn(*next, replicas);
        }
    }

    pub(super) fn summaries(&self) -> Vec<StageSummary> {
        self.times.summaries(SliceKind::ALL.map(SliceKind::name))
    }
}

impl Core {
    /// Whether background work waits.
    #[must_use]
    pub fn has_slice(&self) -> bool {
        self.find_slice().is_some()
    }

    /// Does one slice of background work, sized for 500 us; `None` when there is none. Kinds take turns, and so do
    /// the replicas within a kind. What it leads to comes out of the next [`Core::finish_turn`].
    pub fn run_slice(&mut self, now: Time, out: &mut Effects) -> Option<SliceKind> {
        let (kind, replica) = self.find_slice()?;
        self.slices.kind_next = (kind as usize + 1) % SliceKind::ALL.len();
        self.execute_slice(kind, replica, now, out);
        Some(kind)
    }

    /// As [`Core::run_slice`], of this kind alone and without taking its turn among the kinds; whether there was one.
    pub fn run_slice_of(&mut self, kind: SliceKind, now: Time, out: &mut Effects) -> bool {
        let found = self.replica_with_slice(kind);
        if let Some(replica) = found {
            self.execute_slice(kind, replica, now, out);
        }
        found.is_some()
    }

    fn execute_slice(&mut self, kind: SliceKind, replica: usize, now: Time, out: &mut Effects) {
        self.slices.replica_next[kind as usize] = (replica + 1) % self.replicas.len();
        let (target, mut turn) = self.turn_of(replica, now, out);
        target.run_slice(&mut turn, kind);
    }

    /// Tells how long a slice took.
    pub fn on_slice_executed(&mut self, kind: SliceKind, began: Time, ended: Time) {
        self.slices
            .times
            .record(kind as usize, ended.nanos_since(began), 1);
    }

    /// The next slice's kind and replica.
    fn find_slice(&self) -> Option<(SliceKind, usize)> {
        let kinds = SliceKind::ALL.len();
        (0..kinds).find_map(|step| {
            let kind = SliceKind::ALL[(self.slices.kind_next + step) % kinds];
            Some((kind, self.replica_with_slice(kind)?))
        })
    }

    /// The replica whose turn it is within a kind.
    fn replica_with_slice(&self, kind: SliceKind) -> Option<usize> {
        let first = self.slices.replica_next[kind as usize];
        let mut replicas = (first..self.replicas.len()).chain(0..first);
        replicas.find(|&replica| self.replicas[replica].has_slice(kind))
    }
}
