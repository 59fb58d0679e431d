//! How the log starts a write: gathering a record, or beginning a segment.

use metastore_bugs::{Mutant, is_planted};

use super::placement::Change;
use super::{InFlight, Log, LogEffect, Segment};
use crate::buffer::LogBuffer;
use crate::format::{
    RECORD_HEADER_BYTES, RecordEncoder, RecordFields, RecordKind, SUB_HEADER_BYTES, Standing,
    SubHeader, SubHeaderKind, round_up_to_blocks,
};
use crate::ids::{LogIndex, ReplicaId, SegmentSequence, Ticket};
use crate::part::{HardState, Part, PartBody, Position};
use crate::replica::{ReplicaState, SnapshotPoint};

use super::queue::Piece;

impl Log {
    /// The next record, if a write may start and there is something to write.
    pub(super) fn start_write(&mut self) -> Option<LogEffect> {
        self.is_stalled = false;
        if self.in_flight.len() >= self.options.writes_in_flight_max {
            return None;
        }
        if self.segments.current().is_none() {
            return self.start_segment();
        }
        if !self.is_ready() || self.queue.is_empty() {
            return None;
        }
        let remaining_bytes =
            usize::try_from(self.segments.remaining_bytes()).unwrap_or(usize::MAX);
        let pieces = self
            .queue
            .take_record(self.options.record_bytes_max.min(remaining_bytes));
        if pieces.is_empty() {
            return self.start_segment();
        }
        Some(self.start_record(pieces))
    }

    /// Begins the next segment with its checkpoint, or stalls when no spare is ready.
    fn start_segment(&mut self) -> Option<LogEffect> {
        let Some(segment) = self.segments.begin(self.next_sequence) else {
            self.is_stalled = true;
            return None;
        };
        if self.is_ready() {
            // The old segment gets no more records: what they do not say about the last of them, a mark says.
            self.marks.set_due();
        }
        let sub_headers: Vec<SubHeader> = self
            .replicas
            .values()
            .map(ReplicaState::checkpoint)
            .collect();
        let members_bytes: usize = self
            .replicas
            .values()
            .map(|state| state.snapshot.members.len())
            .sum();
        let used = RECORD_HEADER_BYTES + sub_headers.len() * SUB_HEADER_BYTES + members_bytes;
        assert!(
            used <= self.options.record_bytes_max,
            "the checkpoint of all replicas fits one record"
        );
        let (_, offset) = self.segments.reserve(round_up_to_blocks(used) as u64);
        let fields = self.record_fields(RecordKind::Checkpoint, segment);
        let mut encoder = RecordEncoder::new(self.take_buffer(), fields, &sub_headers);
        for state in self.replicas.values() {
            encoder.push_bytes(&state.snapshot.members);
        }
        Some(self.submit(encoder, segment, offset, None, Vec::new()))
    }

    fn start_record(&mut self, pieces: Vec<Piece>) -> LogEffect {
        let used: usize = pieces
            .iter()
            .map(|piece| piece.part.stored_bytes())
            .sum::<usize>()
            + RECORD_HEADER_BYTES;
        let record_bytes = round_up_to_blocks(used);
        let (segment, offset) = self.segments.reserve(record_bytes as u64);
        let completes = pieces.iter().rev().find_map(|piece| piece.completes);
        let mut changes = Vec::with_capacity(pieces.len());
        let mut sub_headers = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            sub_headers.push(self.apply(&piece.part, &mut changes));
        }
        for piece in &pieces {
            // Only now: all parts of a replica in this record name the record before it.
            if let Some(state) = self.replicas.get_mut(&piece.part.replica) {
                state.previous_sequence = self.next_sequence;
            }
        }
        let fields = self.record_fields(RecordKind::Parts, segment);
        let mut encoder = RecordEncoder::new(self.take_buffer(), fields, &sub_headers);
        for piece in &pieces {
            match &piece.part.body {
                PartBody::Append { entries, .. } | PartBody::Rewrite { entries, .. } => {
                    for entry in entries {
                        encoder.push_entry(entry);
                        self.entry_bytes += entry.data.len() as u64;
                    }
                }
                PartBody::Snapshot { members, .. } => encoder.push_bytes(members),
                PartBody::Tombstone => {}
            }
        }
        self.padding_bytes += (record_bytes - used) as u64;
        self.submit(encoder, segment, offset, completes, changes)
    }

    fn submit(
        &mut self,
        encoder: RecordEncoder,
        segment: Segment,
        offset: u64,
        completes: Option<Position>,
        changes: Vec<Change>,
    ) -> LogEffect {
        let (buffer, digest) = encoder.finish();
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        self.in_flight.push_back(InFlight {
            ticket,
            segment,
            offset,
            sequence: self.next_sequence,
            oldest_live_segment: self.segments.oldest_live(),
            completes,
            covers: self.durable_position,
            changes,
            is_written: false,
        });
        self.next_sequence = self.next_sequence.next();
        self.previous_digest = digest;
        self.record_bytes += buffer.len() as u64;
        LogEffect::Write {
            ticket,
            file: segment.file.number,
            offset,
            buffer,
        }
    }

    fn record_fields(&self, kind: RecordKind, segment: Segment) -> RecordFields {
        RecordFields {
            seal: self.options.seal,
            identity: self.options.identity,
            kind,
            segment: segment.sequence,
            sequence: self.next_sequence,
            oldest_live_segment: match is_planted(Mutant::ReleaseNotWritten) {
                true => SegmentSequence(1),
                false => self.segments.oldest_live(),
            },
            epoch: self.epoch,
            cut: self.cut,
            watermark: self.watermark,
            previous_digest: self.previous_digest,
        }
    }

    fn take_buffer(&mut self) -> LogBuffer {
        self.free_buffers
            .pop()
            .expect("there are as many buffers as writes in flight")
    }

    /// Moves the replica past `part` and says so in a sub-header. Asserts what a consensus protocol must never ask for.
    fn apply(&mut self, part: &Part, changes: &mut Vec<Change>) -> SubHeader {
        let replica = part.replica;
        let state = self
            .replicas
            .entry(replica)
            .or_insert_with(|| ReplicaState::new(replica, part.shard));
        assert_eq!(state.shard, part.shard, "a replica stays with its shard");
        let hard_state = next_hard_state(state, part.hard_state);
        let takes_the_place = matches!(part.body, PartBody::Snapshot { .. } | PartBody::Tombstone);
        assert!(
            state.standing == Standing::Whole || takes_the_place,
            "a damaged replica writes nothing but what takes its place"
        );
        assert!(
            state.standing != Standing::Lost || matches!(part.body, PartBody::Tombstone),
            "a replica whose promises are lost never comes back"
        );
        let sub_header = match &part.body {
            PartBody::Append {
                first_index,
                entries,
            } => {
                if !entries.is_empty() {
                    assert!(
                        *first_index > state.hard_state.commit,
                        "committed entries are never replaced"
                    );
                    assert!(
                        *first_index <= state.last_index.next(),
                        "a raft log has no holes"
                    );
                    state.append(*first_index, entries.iter().map(|entry| entry.term));
                    changes.push(Change::Append {
                        replica,
                        first: *first_index,
                        last: state.last_index,
                    });
                }
                with_entries(
                    state,
                    SubHeaderKind::Append,
                    *first_index,
                    entries.len(),
                    hard_state,
                )
            }
            PartBody::Rewrite {
                first_index,
                entries,
            } => {
                let last = LogIndex((first_index.0 + entries.len() as u64).saturating_sub(1));
                // Entries may have been given up since the part was staged.
                let first = state.first_index.max(*first_index);
                for (offset, entry) in (0..).zip(entries) {
                    let index = LogIndex(first_index.0 + offset);
                    let is_same = state.term_of(index) == Some(entry.term);
                    assert!(
                        index < first || is_same,
                        "a rewrite repeats what the replica holds"
                    );
                }
                if first <= last {
                    changes.push(Change::Rewrite {
                        replica,
                        first,
                        last,
                    });
                }
                with_entries(
                    state,
                    SubHeaderKind::Rewrite,
                    *first_index,
                    entries.len(),
                    hard_state,
                )
            }
            PartBody::Snapshot {
                index,
                term,
                members,
            } => {
                assert!(
                    *index >= state.snapshot.index,
                    "snapshots of a replica do not go back"
                );
                let is_held = state.term_of(*index) == Some(*term);
                assert!(
                    is_held || *index >= state.hard_state.commit,
                    "a snapshot never replaces committed entries"
                );
                let (first, last) = if is_held {
                    (state.first_index, state.last_index)
                } else {
                    (index.next(), *index)
                };
                let snapshot = SnapshotPoint {
                    index: *index,
                    term: *term,
                    members: members.clone(),
                };
                state.standing = Standing::Whole;
                state.set_snapshot(snapshot, first, last);
                changes.push(Change::Snapshot {
                    replica,
                    index: *index,
                    first,
                    last,
                });
                state.set_hard_state(bounded(hard_state, state));
                SubHeader {
                    first_index: state.first_index,
                    snapshot_index: *index,
                    snapshot_term: *term,
                    ..state.sub_header(SubHeaderKind::Snapshot)
                }
            }
            PartBody::Tombstone => {
                changes.push(Change::Tombstone { replica });
                state.set_hard_state(bounded(hard_state, state));
                state.sub_header(SubHeaderKind::Tombstone)
            }
        };
        let payload_bytes = u32::try_from(part.body.payload_bytes()).expect("a part fits a record");
        if matches!(part.body, PartBody::Tombstone) {
            self.replicas.remove(&replica);
        }
        SubHeader {
            payload_bytes,
            ..sub_header
        }
    }
}

/// The hard state after a part. Term, vote and commit never go back: the caller's raft would have lost its memory.
fn next_hard_state(state: &ReplicaState, asked: HardState) -> HardState {
    let before = state.hard_state;
    assert!(asked.term >= before.term, "a term never goes back");
    let keeps_vote =
        asked.vote == before.vote || before.vote == ReplicaId(0) || asked.term > before.term;
    assert!(keeps_vote, "a replica votes once in a term");
    HardState {
        commit: asked.commit.max(before.commit),
        ..asked
    }
}

/// A part may be one piece of a longer one: it must not claim to have committed what follows in a later record.
fn bounded(hard_state: HardState, state: &ReplicaState) -> HardState {
    let commit = hard_state
        .commit
        .min(state.last_index)
        .max(state.hard_state.commit);
    HardState {
        commit,
        ..hard_state
    }
}

fn with_entries(
    state: &mut ReplicaState,
    kind: SubHeaderKind,
    first_index: LogIndex,
    count: usize,
    hard_state: HardState,
) -> SubHeader {
    state.set_hard_state(bounded(hard_state, state));
    let entry_count = u32::try_from(count).expect("a part fits a record");
    SubHeader {
        entry_count,
        first_index,
        ..state.sub_header(kind)
    }
}
