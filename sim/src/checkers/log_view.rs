//! What a log says of its replicas, read from the bytes that go to the disk and from what a recovery hands out.

use std::collections::BTreeMap;
use std::fmt;

use metastore_engine::{LogIndex, ReplicaId, ShardId, Term};
use metastore_wal::SealKey;
use metastore_wal::format::{Entries, RecordBody, RecordHeader, SubHeader, SubHeaderKind};
use metastore_wal::recovery::{RecoveredReplica, ReplayEvent};
use metastore_wal::{EntryKind, HardState, RecordSequence};
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::FileName;

/// An entry, told by its term and a hash of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMark {
    /// Its term.
    pub term: Term,
    /// A hash of its data.
    pub hash: u64,
}

/// What a log says of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its shard.
    pub shard: ShardId,
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// The last index that its snapshot covers.
    pub covered: LogIndex,
    /// Its entries behind that, and some before.
    pub entries: BTreeMap<LogIndex, EntryMark>,
}

/// All replicas of a log.
pub type LogView = BTreeMap<ReplicaId, ReplicaView>;

/// What one part of a record says.
#[derive(Clone, Debug)]
pub struct PartSeen {
    /// Of which replica.
    pub replica: ReplicaId,
    /// Of which shard.
    pub shard: ShardId,
    /// Its hard state after this.
    pub hard_state: HardState,
    /// What happened.
    pub body: PartBodySeen,
}

/// What happened to a replica's log.
#[derive(Clone, Debug)]
pub enum PartBodySeen {
    /// Entries at the end, from here on; none of what stood there is left.
    Append(LogIndex, Vec<EntrySeen>),
    /// Entries written once more.
    Rewrite(LogIndex, Vec<EntrySeen>),
    /// A snapshot up to `covered`; entries outside of `first..=last` are void.
    Snapshot {
        /// The last index that it covers.
        covered: LogIndex,
        /// The term of the entry there.
        term: Term,
        /// The first entry that is left.
        first: LogIndex,
        /// The last entry that is left.
        last: LogIndex,
    },
    /// Nothing new.
    Checkpoint {
        /// The last index that its snapshot covers.
        covered: LogIndex,
    },
    /// It is gone.
    Tombstone,
}

/// An entry with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySeen {
    /// Its term.
    pub term: Term,
    /// What it means to raft.
    pub kind: EntryKind,
    /// Its data.
    pub data: Vec<u8>,
}

/// A record on its way to the disk, or there.
#[derive(Clone, Debug)]
pub struct RecordSeen {
    /// Its number.
    pub sequence: RecordSequence,
    /// Its file.
    pub file: FileName,
    /// Where in it.
    pub offset: u64,
    /// All of it.
    pub bytes: Vec<u8>,
    /// What it says.
    pub parts: Vec<PartSeen>,
}

impl EntrySeen {
    /// Its term and hash.
    #[must_use]
    pub fn mark(&self) -> EntryMark {
        EntryMark {
            term: self.term,
            hash: xxh3_64(&self.data),
        }
    }
}

impl RecordSeen {
    /// Takes a record apart that the log has written.
    #[must_use]
    pub fn parse(seal: SealKey, (file, offset): (FileName, u64), bytes: &[u8]) -> RecordSeen {
        let (header, _) = RecordHeader::decode(bytes, seal).expect("the log writes records");
        let body = RecordBody::decode(&header, bytes).expect("the log writes whole records");
        RecordSeen {
            sequence: header.sequence,
            file,
            offset,
            bytes: bytes.to_vec(),
            parts: body
                .parts()
                .map(|(head, payload)| PartSeen::parse(head, payload))
                .collect(),
        }
    }
}

impl fmt::Display for PartSeen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HardState { term, vote, commit } = self.hard_state;
        let (replica, shard) = (self.replica, self.shard);
        write!(
            formatter,
            "replica {replica} shard {shard} term {term} vote {vote} commit {commit}: "
        )?;
        let list = |formatter: &mut fmt::Formatter<'_>, entries: &[EntrySeen]| {
            entries.iter().try_for_each(|entry| {
                let EntryMark { term, hash } = entry.mark();
                let bytes = entry.data.len();
                write!(formatter, " ({term}: {bytes} bytes {hash:016x})")
            })
        };
        match &self.body {
            PartBodySeen::Append(first, entries) => {
                write!(formatter, "append from {first}")?;
                list(formatter, entries)
            }
            PartBodySeen::Rewrite(first, entries) => {
                write!(formatter, "rewrite from {first}")?;
                list(formatter, entries)
            }
            PartBodySeen::Snapshot {
                covered,
                first,
                last,
                ..
            } => write!(formatter, "snapshot at {covered}, {first} to {last} stay"),
            PartBodySeen::Checkpoint { covered } => {
                write!(formatter, "checkpoint, snapshot at {covered}")
            }
            PartBodySeen::Tombstone => formatter.write_str("tombstone"),
        }
    }
}

impl PartSeen {
    fn parse(head: &SubHeader, payload: &[u8]) -> PartSeen {
        let entries = || {
            let entries = Entries::check(payload, head.entry_count);
            entries_of(&entries.expect("the log writes whole entries"))
        };
        let body = match head.kind {
            SubHeaderKind::Append => PartBodySeen::Append(head.first_index, entries()),
            SubHeaderKind::Rewrite => PartBodySeen::Rewrite(head.first_index, entries()),
            SubHeaderKind::Snapshot => PartBodySeen::Snapshot {
                covered: head.snapshot_index,
                term: head.snapshot_term,
                first: head.first_index,
                last: head.last_index,
            },
            SubHeaderKind::Checkpoint => PartBodySeen::Checkpoint {
                covered: head.snapshot_index,
            },
            SubHeaderKind::Tombstone => PartBodySeen::Tombstone,
        };
        PartSeen {
            replica: head.replica,
            shard: head.shard,
            hard_state: head.hard_state,
            body,
        }
    }
}

fn entries_of(entries: &Entries<'_>) -> Vec<EntrySeen> {
    let owned = entries.clone().map(|entry| EntrySeen {
        term: entry.term,
        kind: entry.kind,
        data: entry.data.to_vec(),
    });
    owned.collect()
}

impl ReplicaView {
    fn new(shard: ShardId) -> ReplicaView {
        ReplicaView {
            shard,
            hard_state: HardState::default(),
            covered: LogIndex(0),
            entries: BTreeMap::new(),
        }
    }

    /// Whether it holds what was at `index` with this term, as an entry or in its snapshot.
    #[must_use]
    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        let entry = self.entries.get(&index);
        entry.map_or(index <= self.covered, |entry| entry.term == term)
    }

    /// The last index that it holds.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        let last = self.entries.last_key_value().map(|(&index, _)| index);
        last.unwrap_or_default().max(self.covered)
    }

    /// Whether two logs say the same of a replica. Entries before the snapshot may be gone from one of them.
    #[must_use]
    pub fn is_same(&self, other: &ReplicaView) -> bool {
        let needed = self.covered.next()..;
        self.hard_state == other.hard_state
            && self.covered == other.covered
            && self
                .entries
                .range(needed.clone())
                .eq(other.entries.range(needed))
    }

    fn insert(&mut self, first: LogIndex, entries: &[EntrySeen]) {
        let marks = entries.iter().map(EntrySeen::mark);
        self.entries.extend((first.0..).map(LogIndex).zip(marks));
    }
}

/// Adds what a part says.
pub fn apply(view: &mut LogView, part: &PartSeen) {
    if let PartBodySeen::Tombstone = part.body {
        view.remove(&part.replica);
        return;
    }
    let replica = view
        .entry(part.replica)
        .or_insert_with(|| ReplicaView::new(part.shard));
    replica.hard_state = part.hard_state;
    match &part.body {
        PartBodySeen::Append(first, entries) => {
            if !entries.is_empty() {
                replica.entries.split_off(first);
            }
            replica.insert(*first, entries);
        }
        PartBodySeen::Rewrite(first, entries) => replica.insert(*first, entries),
        PartBodySeen::Snapshot {
            covered,
            first,
            last,
            ..
        } => {
            replica.covered = *covered;
            replica
                .entries
                .retain(|index, _| (first..=last).contains(&index));
        }
        PartBodySeen::Checkpoint { covered } => replica.covered = *covered,
        PartBodySeen::Tombstone => unreachable!("it was removed"),
    }
}

/// Adds an event of a recovery.
pub fn apply_event(view: &mut LogView, event: &ReplayEvent<'_>) {
    for part in parts_of_event(event) {
        apply(view, &part);
    }
}

/// What an event of a recovery says, part by part.
#[must_use]
pub fn parts_of_event(event: &ReplayEvent<'_>) -> Vec<PartSeen> {
    let (replica, shard, hard_state, body) = match event {
        ReplayEvent::Snapshots { .. } => return Vec::new(),
        ReplayEvent::Checkpoint { replicas, .. } => {
            let part = |known: &RecoveredReplica| PartSeen {
                replica: known.replica,
                shard: known.shard,
                hard_state: known.hard_state,
                body: PartBodySeen::Checkpoint {
                    covered: known.snapshot.index,
                },
            };
            return replicas.iter().map(part).collect();
        }
        ReplayEvent::Append {
            replica,
            shard,
            hard_state,
            first_index,
            entries,
        } => {
            let body = PartBodySeen::Append(*first_index, entries_of(entries));
            (*replica, *shard, *hard_state, body)
        }
        ReplayEvent::Rewrite {
            replica,
            shard,
            hard_state,
            first_index,
            entries,
        } => {
            let body = PartBodySeen::Rewrite(*first_index, entries_of(entries));
            (*replica, *shard, *hard_state, body)
        }
        ReplayEvent::Snapshot {
            replica,
            shard,
            hard_state,
            index,
            term,
            first_index,
            last_index,
            ..
        } => {
            let body = PartBodySeen::Snapshot {
                covered: *index,
                term: *term,
                first: *first_index,
                last: *last_index,
            };
            (*replica, *shard, *hard_state, body)
        }
        ReplayEvent::Tombstone { replica, shard } => {
            let body = PartBodySeen::Tombstone;
            (*replica, *shard, HardState::default(), body)
        }
    };
    vec![PartSeen {
        replica,
        shard,
        hard_state,
        body,
    }]
}
