//! What a replica asks the log to make durable.

use bytes::Bytes;

use crate::format::{ENTRY_HEADER_BYTES, SUB_HEADER_BYTES};
use crate::ids::{LogIndex, ReplicaId, ShardId, Term};

/// The part of raft's state that must survive a crash besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term the replica has seen.
    pub term: Term,
    /// For whom it voted in that term; 0 for nobody.
    pub vote: ReplicaId,
    /// The highest index it knows to be committed.
    pub commit: LogIndex,
}

/// What an entry means to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Data of the state machine.
    Normal,
    /// A change of the membership (raft's second form).
    ConfChange,
    /// What the leader that proposed it knows of the state at an earlier entry. It changes nothing.
    StateCheck,
}

/// One entry of a raft log. Its index follows from its place in its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term it was proposed in.
    pub term: Term,
    /// What it means to raft.
    pub kind: EntryKind,
    /// Its data; a clone shares the bytes.
    pub data: Bytes,
}

/// What happened to a replica's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartBody {
    /// Entries at the end. Whatever the replica held at `first_index` and above is replaced.
    /// Without entries it carries the hard state alone and replaces nothing.
    Append {
        /// The index of the first entry.
        first_index: LogIndex,
        /// The entries, in order.
        entries: Vec<Entry>,
    },
    /// Entries the replica holds already, written again so that an old segment can be released. Replaces nothing.
    Rewrite {
        /// The index of the first entry.
        first_index: LogIndex,
        /// The entries, in order.
        entries: Vec<Entry>,
    },
    /// A snapshot of the state machine is durable. When the replica holds the entry at `index` with `term`, its
    /// entries stay; otherwise the snapshot replaces them all, and the next entry is the one after `index`.
    Snapshot {
        /// The last index the snapshot covers.
        index: LogIndex,
        /// The term of the entry at that index.
        term: Term,
        /// The membership at that index, in the caller's encoding.
        members: Bytes,
    },
    /// The replica is gone for good; its id is never used again.
    Tombstone,
}

/// One thing a replica asks the log to make durable, together with its hard state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The replica.
    pub replica: ReplicaId,
    /// The shard it is a member of.
    pub shard: ShardId,
    /// Its hard state, durable together with the body.
    pub hard_state: HardState,
    /// What happened.
    pub body: PartBody,
}

/// The place of a part in the order of all parts staged since the log was opened. Grows by one with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Entry {
    /// How many bytes it takes in a record.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        ENTRY_HEADER_BYTES + self.data.len()
    }
}

impl Part {
    /// How many bytes it takes in a record, its sub-header included.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        SUB_HEADER_BYTES + self.body.payload_bytes()
    }
}

impl PartBody {
    /// How many bytes of payload it takes in a record.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } | Self::Rewrite { entries, .. } => {
                entries.iter().map(Entry::stored_bytes).sum()
            }
            Self::Snapshot { members, .. } => members.len(),
            Self::Tombstone => 0,
        }
    }
}
