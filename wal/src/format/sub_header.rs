//! The sub-header of a record: one part of one replica.

use super::NUMBER_MAX;
use super::bytes::{put, seeded_crc32, u32_at, u64_at};
use crate::ids::{LogIndex, RecordSequence, ReplicaId, SegmentSequence, ShardId, Term};
use crate::part::HardState;

/// The length of a sub-header.
pub const SUB_HEADER_BYTES: usize = 96;

const _: () = assert!(SUB_HEADER_BYTES.is_multiple_of(8));

/// What a sub-header stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubHeaderKind {
    /// Entries at the end; whatever was at the first index and above is replaced.
    Append,
    /// Entries written again; replaces nothing.
    Rewrite,
    /// A snapshot; the payload is its membership.
    Snapshot,
    /// The replica is gone.
    Tombstone,
    /// The state of the replica when the segment began; the payload is the membership of its snapshot.
    Checkpoint,
}

/// Whether what a log holds of a replica can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All of it.
    #[default]
    Whole,
    /// Entries are lost, or the snapshot is. Term, vote and last index are known: when a snapshot of another replica has
    /// taken the place of everything, it is whole again.
    Damaged,
    /// Nobody knows its newest term and vote, which it may have promised to others. It is never whole again.
    Lost,
}

/// One part of one replica, or its state in a checkpoint.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | kind  | stand | 0     | 0     | crc32                         |
///   8 | replica                                                       |
///  16 | shard                         | entry count                   |
///  24 | term                                                          |
///  32 | vote                                                          |
///  40 | commit                                                        |
///  48 | first index                                                   |
///  56 | last index                                                    |
///  64 | payload length                | 0                             |
///  72 | sequence of the replica's previous record                     |
///  80 | snapshot index                                                |
///  88 | snapshot term                                                 |
/// ```
///
/// * The crc32 covers the sub-header without itself and is seeded like the header's: with a damaged payload, or a
///   damaged neighbour, it still says whose data is concerned.
/// * `stand`: whether the replica's part of the log is whole, 0; damaged, 1; or has lost its promises, 2. Only checkpoints
///   say 1 or 2, and from there on it counts until a snapshot takes the place of everything.
/// * `first index` is that of the first entry; in snapshots and checkpoints the first the replica still needs.
/// * `last index` is the replica's last index **after** this part. A snapshot that replaces the log says so by these
///   two: nothing outside of them survives it.
/// * `previous record` attributes a hole exactly: a replica whose next record names one below the hole lost nothing.
///   Checkpoints repeat it and do not count as records of a replica.
/// * The snapshot fields are 0 except for snapshots and checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubHeader {
    /// What it stands for.
    pub kind: SubHeaderKind,
    /// Whether the replica's part of the log is whole.
    pub standing: Standing,
    /// The replica.
    pub replica: ReplicaId,
    /// Its shard.
    pub shard: ShardId,
    /// How many entries the payload holds.
    pub entry_count: u32,
    /// The replica's hard state after this part.
    pub hard_state: HardState,
    /// The index of the first entry, or of the first needed one in snapshots and checkpoints.
    pub first_index: LogIndex,
    /// The replica's last index after this part.
    pub last_index: LogIndex,
    /// The length of its payload.
    pub payload_bytes: u32,
    /// The replica's previous record, 0 for none.
    pub previous_sequence: RecordSequence,
    /// The index of the snapshot.
    pub snapshot_index: LogIndex,
    /// The term of the snapshot.
    pub snapshot_term: Term,
}

impl SubHeader {
    /// Writes the sub-header into the first [`SUB_HEADER_BYTES`] of `bytes`.
    pub(crate) fn encode(
        &self,
        segment: SegmentSequence,
        sequence: RecordSequence,
        bytes: &mut [u8],
    ) {
        let bytes = &mut bytes[..SUB_HEADER_BYTES];
        bytes.fill(0);
        bytes[0] = match self.kind {
            SubHeaderKind::Append => 1,
            SubHeaderKind::Rewrite => 2,
            SubHeaderKind::Snapshot => 3,
            SubHeaderKind::Tombstone => 4,
            SubHeaderKind::Checkpoint => 5,
        };
        bytes[1] = match self.standing {
            Standing::Whole => 0,
            Standing::Damaged => 1,
            Standing::Lost => 2,
        };
        put(bytes, 8, self.replica.0.to_le_bytes());
        put(bytes, 16, self.shard.0.to_le_bytes());
        put(bytes, 20, self.entry_count.to_le_bytes());
        put(bytes, 24, self.hard_state.term.0.to_le_bytes());
        put(bytes, 32, self.hard_state.vote.0.to_le_bytes());
        put(bytes, 40, self.hard_state.commit.0.to_le_bytes());
        put(bytes, 48, self.first_index.0.to_le_bytes());
        put(bytes, 56, self.last_index.0.to_le_bytes());
        put(bytes, 64, self.payload_bytes.to_le_bytes());
        put(bytes, 72, self.previous_sequence.0.to_le_bytes());
        put(bytes, 80, self.snapshot_index.0.to_le_bytes());
        put(bytes, 88, self.snapshot_term.0.to_le_bytes());
        // The checksum's own field is still zero here, and is taken as zero when it is checked.
        let crc = seeded_crc32(segment, sequence, bytes);
        put(bytes, 4, crc.to_le_bytes());
    }

    /// Reads the sub-header at the start of `bytes`, or `None` when its checksum or its kind is wrong.
    #[must_use]
    pub fn decode(
        segment: SegmentSequence,
        sequence: RecordSequence,
        bytes: &[u8],
    ) -> Option<Self> {
        let bytes = bytes.get(..SUB_HEADER_BYTES)?;
        let mut checked = [0; SUB_HEADER_BYTES];
        checked.copy_from_slice(bytes);
        put(&mut checked, 4, [0; 4]);
        if seeded_crc32(segment, sequence, &checked) != u32_at(bytes, 4) {
            return None;
        }
        let kind = match bytes[0] {
            1 => SubHeaderKind::Append,
            2 => SubHeaderKind::Rewrite,
            3 => SubHeaderKind::Snapshot,
            4 => SubHeaderKind::Tombstone,
            5 => SubHeaderKind::Checkpoint,
            _ => return None,
        };
        let standing = match bytes[1] {
            0 => Standing::Whole,
            1 => Standing::Damaged,
            2 => Standing::Lost,
            _ => return None,
        };
        Some(Self {
            kind,
            standing,
            replica: ReplicaId(u64_at(bytes, 8)),
            shard: ShardId(u32_at(bytes, 16)),
            entry_count: u32_at(bytes, 20),
            hard_state: HardState {
                term: Term(u64_at(bytes, 24)),
                vote: ReplicaId(u64_at(bytes, 32)),
                commit: LogIndex(u64_at(bytes, 40)),
            },
            first_index: LogIndex(u64_at(bytes, 48)),
            last_index: LogIndex(u64_at(bytes, 56)),
            payload_bytes: u32_at(bytes, 64),
            previous_sequence: RecordSequence(u64_at(bytes, 72)),
            snapshot_index: LogIndex(u64_at(bytes, 80)),
            snapshot_term: Term(u64_at(bytes, 88)),
        })
    }

    /// The indexes of the entries in its payload, first and last, or `None` when it has none.
    #[must_use]
    pub fn entry_range(&self) -> Option<(LogIndex, LogIndex)> {
        let beyond_first = u64::from(self.entry_count).checked_sub(1)?;
        Some((
            self.first_index,
            LogIndex(self.first_index.0.checked_add(beyond_first)?),
        ))
    }

    /// Whether its fields fit each other, as far as the sub-header alone can tell.
    pub(crate) fn is_consistent(&self) -> bool {
        let committed_is_held = self.hard_state.commit <= self.last_index;
        let entries_are_numbered =
            self.entry_count == 0 || (self.first_index.0 > 0 && self.entry_range().is_some());
        let kind_fits = match self.kind {
            SubHeaderKind::Append => self
                .entry_range()
                .is_none_or(|(_, last)| last == self.last_index),
            SubHeaderKind::Rewrite => self
                .entry_range()
                .is_none_or(|(_, last)| last <= self.last_index),
            SubHeaderKind::Snapshot => {
                self.entry_count == 0
                    && self.first_index.0 > 0
                    && self.snapshot_index.0 > 0
                    && self.snapshot_index <= self.last_index
                    && self.first_index.0 <= self.snapshot_index.0.saturating_add(1)
            }
            SubHeaderKind::Tombstone => self.entry_count == 0 && self.payload_bytes == 0,
            SubHeaderKind::Checkpoint => {
                self.entry_count == 0
                    && self.first_index.0 > 0
                    && self.snapshot_index <= self.last_index
                    && self.first_index.0 <= self.snapshot_index.0.saturating_add(1)
            }
        };
        let numbers_are_possible =
            self.last_index.0 <= NUMBER_MAX && self.first_index.0 <= NUMBER_MAX;
        let standing_fits =
            self.standing == Standing::Whole || self.kind == SubHeaderKind::Checkpoint;
        numbers_are_possible
            && standing_fits
            && self.replica.0 > 0
            && committed_is_held
            && entries_are_numbered
            && kind_fits
    }
}
