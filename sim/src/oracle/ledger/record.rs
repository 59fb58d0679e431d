//! What goes into the log and what comes out of it.

use std::collections::BTreeMap;

use crate::node::SEAL;
use metastore_engine::{LogIndex, ReplicaId, ShardId, Term};
use metastore_wal::format::{Entries, RecordBody, RecordHeader, SubHeaderKind};
use metastore_wal::recovery::ReplayEvent;
use metastore_wal::{RecordSequence, SegmentSequence};

use crate::disk::FileName;

/// An entry of a replica, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenEntry {
    pub(super) replica: ReplicaId,
    pub(super) shard: ShardId,
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) data: Vec<u8>,
}

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct SubmittedRecord {
    pub(super) place: RecordPlace,
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<WrittenEntry>,
    pub(super) oldest_live_segment: SegmentSequence,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Its number.
    pub sequence: RecordSequence,
    /// The segment that it belongs to.
    pub segment: SegmentSequence,
    /// What it says is durable.
    pub watermark: RecordSequence,
    /// Its file.
    pub file: FileName,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes_len: usize,
}

impl SubmittedRecord {
    pub(super) fn parse(file: FileName, offset: u64, bytes: &[u8]) -> SubmittedRecord {
        let (header, _) = RecordHeader::decode(bytes, SEAL).expect("the log writes records");
        let body = RecordBody::decode(&header, bytes).expect("the log writes whole records");
        let mut entries = Vec::new();
        for (part, payload) in body.parts() {
            if part.kind != SubHeaderKind::Append {
                continue;
            }
            let parsed =
                Entries::check(payload, part.entry_count).expect("the log writes whole entries");
            for (index, entry) in (part.first_index.0..).map(LogIndex).zip(parsed) {
                entries.push(WrittenEntry {
                    replica: part.replica,
                    shard: part.shard,
                    index,
                    term: entry.term,
                    data: entry.data.to_vec(),
                });
            }
        }
        let place = RecordPlace {
            sequence: header.sequence,
            segment: header.segment,
            watermark: header.watermark,
            file,
            offset,
            bytes_len: bytes.len(),
        };
        SubmittedRecord {
            place,
            bytes: bytes.to_vec(),
            entries,
            oldest_live_segment: header.oldest_live_segment,
        }
    }
}

/// The entries that a recovery hands out.
#[derive(Debug, Default)]
pub struct Survivors {
    pub(super) entries: BTreeMap<ReplicaId, BTreeMap<LogIndex, WrittenEntry>>,
    /// Up to where snapshots cover what need not be handed out.
    pub(super) covered: BTreeMap<ReplicaId, LogIndex>,
}

impl Survivors {
    /// Takes an event of the replay.
    pub fn on_event(&mut self, event: &ReplayEvent<'_>) {
        match event {
            ReplayEvent::Snapshots { snapshots } => {
                let covered = snapshots
                    .iter()
                    .map(|known| (known.replica, known.snapshot.index));
                self.covered = covered.collect();
            }
            ReplayEvent::Append {
                replica,
                shard,
                first_index,
                entries,
                ..
            } => {
                if entries.len() > 0 {
                    // Whatever stood there and above is replaced.
                    let known = self.entries.entry(*replica).or_default();
                    known.split_off(first_index);
                }
                self.take((*replica, *shard), *first_index, entries);
            }
            ReplayEvent::Rewrite {
                replica,
                shard,
                first_index,
                entries,
                ..
            } => self.take((*replica, *shard), *first_index, entries),
            ReplayEvent::Checkpoint { .. }
            | ReplayEvent::Snapshot { .. }
            | ReplayEvent::Tombstone { .. } => {}
        }
    }

    fn take(
        &mut self,
        (replica, shard): (ReplicaId, ShardId),
        first_index: LogIndex,
        entries: &Entries<'_>,
    ) {
        let known = self.entries.entry(replica).or_default();
        for (index, entry) in (first_index.0..).map(LogIndex).zip(entries.clone()) {
            let written = WrittenEntry {
                replica,
                shard,
                index,
                term: entry.term,
                data: entry.data.to_vec(),
            };
            known.insert(index, written);
        }
    }
}
