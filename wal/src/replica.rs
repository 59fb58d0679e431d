//! What the log knows of one replica. The writer and recovery move it by the same methods, so that they cannot differ.

use bytes::Bytes;

use metastore_bugs::{Mutant, is_planted};

use crate::format::{Standing, SubHeader, SubHeaderKind};
use crate::ids::{LogIndex, RecordSequence, ReplicaId, ShardId, Term};
use crate::part::HardState;

/// Where a snapshot stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPoint {
    /// The last index it covers; 0 when there is none.
    pub index: LogIndex,
    /// The term of the entry at that index.
    pub term: Term,
    /// The membership at that index, in the caller's encoding.
    pub members: Bytes,
}

/// The state of one replica after the last of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaState {
    pub(crate) replica: ReplicaId,
    pub(crate) shard: ShardId,
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotPoint,
    /// The first entry that is still needed.
    pub(crate) first_index: LogIndex,
    pub(crate) last_index: LogIndex,
    /// The record that holds its newest part.
    pub(crate) previous_sequence: RecordSequence,
    pub(crate) standing: Standing,
    /// Where each term begins, lowest index first. After a recovery it may not know entries in released segments.
    terms: Vec<(LogIndex, Term)>,
}

impl ReplicaState {
    pub(crate) fn new(replica: ReplicaId, shard: ShardId) -> Self {
        Self {
            replica,
            shard,
            hard_state: HardState::default(),
            snapshot: SnapshotPoint::default(),
            first_index: LogIndex(1),
            last_index: LogIndex(0),
            previous_sequence: RecordSequence(0),
            standing: Standing::Whole,
            terms: Vec::new(),
        }
    }

    /// The state a checkpoint records.
    pub(crate) fn from_checkpoint(sub_header: &SubHeader, members: &[u8]) -> Self {
        Self {
            replica: sub_header.replica,
            shard: sub_header.shard,
            hard_state: sub_header.hard_state,
            snapshot: SnapshotPoint {
                index: sub_header.snapshot_index,
                term: sub_header.snapshot_term,
                members: Bytes::copy_from_slice(members),
            },
            first_index: sub_header.first_index,
            last_index: sub_header.last_index,
            previous_sequence: sub_header.previous_sequence,
            standing: sub_header.standing,
            terms: Vec::new(),
        }
    }

    /// The sub-header that records this state in a checkpoint; its payload is the membership of the snapshot.
    pub(crate) fn checkpoint(&self) -> SubHeader {
        SubHeader {
            kind: SubHeaderKind::Checkpoint,
            standing: self.standing,
            snapshot_index: self.snapshot.index,
            snapshot_term: self.snapshot.term,
            first_index: self.first_index,
            payload_bytes: u32::try_from(self.snapshot.members.len())
                .expect("the members fit a record"),
            ..self.sub_header(SubHeaderKind::Checkpoint)
        }
    }

    /// A sub-header without contents for a part that leaves the replica in this state.
    pub(crate) fn sub_header(&self, kind: SubHeaderKind) -> SubHeader {
        SubHeader {
            kind,
            standing: Standing::Whole,
            replica: self.replica,
            shard: self.shard,
            entry_count: 0,
            hard_state: self.hard_state,
            first_index: LogIndex(0),
            last_index: self.last_index,
            payload_bytes: 0,
            previous_sequence: self.previous_sequence,
            snapshot_index: LogIndex(0),
            snapshot_term: Term(0),
        }
    }

    /// The term of the entry at `index`, when it is known.
    pub(crate) fn term_of(&self, index: LogIndex) -> Option<Term> {
        if index > self.last_index || self.standing != Standing::Whole {
            return None;
        }
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        let after = self.terms.partition_point(|&(first, _)| first <= index);
        after.checked_sub(1).map(|run| self.terms[run].1)
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Entries from `first` on replace what was there. `terms` are those of the entries, in order.
    pub(crate) fn append(&mut self, first: LogIndex, terms: impl Iterator<Item = Term>) {
        self.truncate_terms(first);
        let mut index = first;
        for term in terms {
            if self
                .terms
                .last()
                .is_none_or(|&(_, last_term)| last_term != term)
            {
                self.terms.push((index, term));
            }
            index = index.next();
        }
        self.last_index = LogIndex(index.0 - 1);
    }

    /// Entries written again: a recovery that never saw the first copy learns their terms here.
    pub(crate) fn rewrite(&mut self, first: LogIndex, terms: impl Iterator<Item = Term>) {
        for (offset, term) in (0..).zip(terms) {
            let index = LogIndex(first.0 + offset);
            let place = self
                .terms
                .partition_point(|&(run_first, _)| run_first <= index);
            let covering_term = place.checked_sub(1).map(|run| self.terms[run].1);
            if covering_term != Some(term) {
                // The next run may be the same term, begun later only because its beginning had not been seen.
                match self.terms.get_mut(place) {
                    Some(run) if run.1 == term => run.0 = index,
                    _ => self.terms.insert(place, (index, term)),
                }
            }
        }
    }

    /// A snapshot, after which the replica holds the entries from `first_index` to `last_index` and no others.
    pub(crate) fn set_snapshot(
        &mut self,
        snapshot: SnapshotPoint,
        first_index: LogIndex,
        last_index: LogIndex,
    ) {
        if !is_planted(Mutant::CommitBelowSnapshot) {
            self.hard_state.commit = self.hard_state.commit.max(snapshot.index);
        }
        self.last_index = last_index;
        self.snapshot = snapshot;
        self.truncate_terms(last_index.next());
        self.set_first_index(first_index);
    }

    /// Entries below `first_needed` are not needed any more.
    pub(crate) fn set_first_index(&mut self, first_needed: LogIndex) {
        if first_needed <= self.first_index {
            return;
        }
        self.first_index = first_needed;
        if first_needed > self.last_index {
            self.terms.clear();
            return;
        }
        let after = self
            .terms
            .partition_point(|&(first, _)| first <= first_needed);
        if let Some(run) = after.checked_sub(1) {
            self.terms[run].0 = first_needed;
            self.terms.drain(..run);
        }
    }

    /// Nothing is known of the entries behind `certain`.
    pub(crate) fn forget_behind(&mut self, certain: LogIndex) {
        self.truncate_terms(certain.next());
    }

    /// Takes over the terms of the entries up to `certain` from what was known before.
    pub(crate) fn keep_terms_of(&mut self, before: ReplicaState, certain: LogIndex) {
        self.terms = before.terms;
        self.truncate_terms(certain.next());
    }

    fn truncate_terms(&mut self, first: LogIndex) {
        let kept = self
            .terms
            .partition_point(|&(run_first, _)| run_first < first);
        self.terms.truncate(kept);
    }
}
