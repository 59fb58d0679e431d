//! For tests: a disk in memory, and a driver that carries out what a log asks for.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;

use crate::format::{BLOCK_BYTES, MarkSlot};
use crate::recovery::{
    Entries, MarkBlocks, Recovered, RecoveredSnapshot, RecoveryError, ReplayEvent, SegmentSource,
    recover,
};
use crate::{
    ClusterId, CoreId, Entry, EntryKind, FileNumber, HardState, Identity, Log, LogBuffer,
    LogEffect, LogIndex, LogOptions, LogStart, NodeId, Part, PartBody, Position, ReplicaId,
    SealKey, SegmentFile, ShardId, Term, Ticket,
};

pub(crate) const IDENTITY: Identity = Identity {
    cluster: ClusterId(0x0123_4567_89ab_cdef_1122_3344_5566_7788),
    node: NodeId(7),
    core: CoreId(3),
};

/// The secret of the logs of tests.
pub(crate) const SEAL: SealKey = SealKey(0x6a09_e667_f3bc_c908);

/// Small enough that a few records fill a segment.
pub(crate) fn small_options() -> LogOptions {
    LogOptions {
        segment_bytes: 8 * BLOCK_BYTES as u64,
        record_bytes_max: 4 * BLOCK_BYTES,
        budget_bytes: 64 * BLOCK_BYTES as u64,
        spare_segments: 2,
        ..LogOptions::new(IDENTITY, SEAL)
    }
}

/// The files of a log, as they would be found by a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<FileNumber, Vec<u8>>,
    pub(crate) marks: Vec<u8>,
}

/// A write on its way, whose buffer the caller may still tear.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) ticket: Ticket,
    pub(crate) place: Place,
    pub(crate) buffer: LogBuffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Segment(FileNumber, u64),
    Mark(MarkSlot),
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            marks: vec![0; 2 * BLOCK_BYTES],
        }
    }

    /// The bytes that a write would replace.
    pub(crate) fn target(&mut self, place: Place, len: usize) -> &mut [u8] {
        match place {
            Place::Segment(file, offset) => {
                let offset = usize::try_from(offset).unwrap();
                &mut self.files.get_mut(&file).unwrap()[offset..offset + len]
            }
            Place::Mark(slot) => {
                let offset = usize::try_from(slot.offset()).unwrap();
                &mut self.marks[offset..offset + len]
            }
        }
    }

    pub(crate) fn write(&mut self, pending: &Pending) {
        let bytes = pending.buffer.as_slice();
        self.target(pending.place, bytes.len())
            .copy_from_slice(bytes);
    }

    pub(crate) fn recover(&self) -> Result<Recovered, RecoveryError<Infallible>> {
        recover(&mut self.clone(), &IDENTITY, SEAL, &mut |_| {})
    }

    pub(crate) fn replay(&self) -> Result<(Recovered, Model), RecoveryError<Infallible>> {
        let mut model = Model::default();
        let mut loader = Loader::default();
        let recovered = recover(&mut self.clone(), &IDENTITY, SEAL, &mut |event| {
            model.on_event(&event);
            loader.on_event(&event);
        })?;
        loader.check(&recovered, &model);
        Ok((recovered, model))
    }
}

impl SegmentSource for Disk {
    type Error = Infallible;

    fn files(&mut self) -> Result<Vec<SegmentFile>, Infallible> {
        let files = self.files.iter();
        Ok(files
            .map(|(&number, bytes)| SegmentFile {
                number,
                bytes: bytes.len() as u64,
            })
            .collect())
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), Infallible> {
        let offset = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.files[&file][offset..offset + into.len()]);
        Ok(())
    }

    fn marks(&mut self) -> Result<MarkBlocks, Infallible> {
        let block = |slot: MarkSlot| {
            let offset = usize::try_from(slot.offset()).unwrap();
            self.marks.get(offset..offset + BLOCK_BYTES).map(Box::from)
        };
        Ok(MarkSlot::BOTH.map(block))
    }
}

/// A log with its disk.
pub(crate) struct Machine {
    pub(crate) log: Log,
    pub(crate) disk: Disk,
    pub(crate) pending: Vec<Pending>,
    pub(crate) durable: Position,
    /// While there is no space, preparations wait here.
    pub(crate) space: Space,
}

/// Whether the disk has room for another segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Free,
    Full { waiting: Option<(FileNumber, u64)> },
}

impl Machine {
    pub(crate) fn fresh(options: LogOptions) -> Self {
        Self::start(options, LogStart::empty(), Disk::new())
    }

    /// Recovers `disk` and goes on with it.
    pub(crate) fn restart(options: LogOptions, disk: Disk) -> Self {
        let recovered = disk.recover().unwrap();
        Self::start(options, recovered.start, disk)
    }

    pub(crate) fn start(options: LogOptions, start: LogStart, disk: Disk) -> Self {
        let buffers = options.new_buffers();
        Self {
            log: Log::new(options, start, buffers),
            disk,
            pending: Vec::new(),
            durable: Position(0),
            space: Space::Free,
        }
    }

    /// Takes all effects. Files are prepared and removed at once, writes become pending.
    pub(crate) fn collect(&mut self) {
        while let Some(effect) = self.log.next_effect() {
            match effect {
                LogEffect::Write {
                    ticket,
                    file,
                    offset,
                    buffer,
                } => {
                    self.pending.push(Pending {
                        ticket,
                        place: Place::Segment(file, offset),
                        buffer,
                    });
                }
                LogEffect::WriteMark {
                    ticket,
                    slot,
                    buffer,
                } => {
                    self.pending.push(Pending {
                        ticket,
                        place: Place::Mark(slot),
                        buffer,
                    });
                }
                LogEffect::PrepareSegment { file, bytes } => match &mut self.space {
                    Space::Free => self.prepare(file, bytes),
                    Space::Full { waiting } => *waiting = Some((file, bytes)),
                },
                LogEffect::RemoveSegment { file } => {
                    self.disk.files.remove(&file).unwrap();
                    self.log.on_segment_removed(file);
                }
            }
        }
    }

    fn prepare(&mut self, file: FileNumber, bytes: u64) {
        let zeros = vec![0; usize::try_from(bytes).unwrap()];
        assert_eq!(
            self.disk.files.insert(file, zeros),
            None,
            "a file is prepared once"
        );
        self.log.on_segment_prepared(file);
    }

    /// Space returns, and what waited for it is prepared.
    pub(crate) fn free_space(&mut self) {
        if let Space::Full {
            waiting: Some((file, bytes)),
        } = std::mem::replace(&mut self.space, Space::Free)
        {
            self.prepare(file, bytes);
        }
    }

    /// The pending write `index` becomes durable.
    pub(crate) fn complete(&mut self, index: usize) {
        let pending = self.pending.remove(index);
        self.disk.write(&pending);
        match pending.place {
            Place::Segment(..) => {
                if let Some(position) = self.log.on_written(pending.ticket, pending.buffer) {
                    assert!(position > self.durable);
                    self.durable = position;
                }
            }
            Place::Mark(_) => self.log.on_mark_written(pending.ticket, pending.buffer),
        }
    }

    /// Carries out everything there is to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.collect();
            if self.pending.is_empty() {
                break;
            }
            self.complete(0);
        }
    }

    /// Writes the mark that a driver would write after 10 ms of idleness.
    pub(crate) fn idle(&mut self) {
        self.settle();
        self.log.on_idle();
        self.settle();
        assert!(!self.log.needs_mark());
    }

    /// A crash in which everything pending is lost, a recovery, and a mark.
    pub(crate) fn idle_after_loss(&mut self) {
        *self = Self::restart(small_options(), self.disk.clone());
        self.idle();
    }

    /// Stages a part and makes it durable.
    pub(crate) fn write(&mut self, part: Part) {
        let position = self.log.stage(part);
        self.settle();
        assert_eq!(self.durable, position);
    }
}

/// What a reader of the log rebuilds from the events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) replicas: BTreeMap<ReplicaId, ModelReplica>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelReplica {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: (LogIndex, Term),
    pub(crate) members: Bytes,
    pub(crate) entries: BTreeMap<u64, Entry>,
}

impl Model {
    pub(crate) fn on_event(&mut self, event: &ReplayEvent<'_>) {
        let collect =
            |entries: &crate::recovery::Entries<'_>, first: LogIndex| -> BTreeMap<u64, Entry> {
                let owned = entries.clone().map(|entry| Entry {
                    term: entry.term,
                    kind: entry.kind,
                    data: Bytes::copy_from_slice(entry.data),
                });
                (first.0..).zip(owned).collect()
            };
        match event {
            ReplayEvent::Snapshots { .. } => {
                assert!(self.replicas.is_empty(), "snapshots come first");
            }
            ReplayEvent::Checkpoint { replicas, .. } => {
                for known in *replicas {
                    let replica = self.replicas.entry(known.replica).or_default();
                    replica.hard_state = known.hard_state;
                    replica.snapshot = (known.snapshot.index, known.snapshot.term);
                    replica.members = known.snapshot.members.clone();
                    replica
                        .entries
                        .retain(|&index, _| index >= known.first_index.0);
                }
            }
            ReplayEvent::Append {
                replica,
                hard_state,
                first_index,
                entries,
                ..
            } => {
                let replica = self.replicas.entry(*replica).or_default();
                replica.hard_state = *hard_state;
                if entries.len() > 0 {
                    replica.entries.split_off(&first_index.0);
                    replica.entries.extend(collect(entries, *first_index));
                }
            }
            ReplayEvent::Rewrite {
                replica,
                hard_state,
                first_index,
                entries,
                ..
            } => {
                let replica = self.replicas.get_mut(replica).unwrap();
                replica.hard_state = *hard_state;
                for (index, entry) in collect(entries, *first_index) {
                    let known = replica.entries.insert(index, entry.clone());
                    assert!(
                        known.is_none_or(|known| known == entry),
                        "a rewrite changes nothing"
                    );
                }
            }
            ReplayEvent::Snapshot {
                replica,
                hard_state,
                index,
                term,
                members,
                first_index,
                last_index,
                ..
            } => {
                let replica = self.replicas.entry(*replica).or_default();
                replica.hard_state = *hard_state;
                replica.snapshot = (*index, *term);
                replica.members = Bytes::copy_from_slice(members);
                replica
                    .entries
                    .retain(|&index, _| first_index.0 <= index && index <= last_index.0);
            }
            ReplayEvent::Tombstone { replica, .. } => {
                self.replicas.remove(replica);
            }
        }
    }
}

/// A reader that begins with the snapshots it is told of first and keeps nothing that they cover: what a server does.
#[derive(Debug, Default)]
struct Loader {
    snapshots: Vec<RecoveredSnapshot>,
    is_told: bool,
    entries: BTreeMap<ReplicaId, BTreeMap<u64, (Term, Bytes)>>,
}

impl Loader {
    fn on_event(&mut self, event: &ReplayEvent<'_>) {
        assert_eq!(
            matches!(event, ReplayEvent::Snapshots { .. }),
            !std::mem::replace(&mut self.is_told, true),
            "snapshots come first, once"
        );
        match event {
            ReplayEvent::Snapshots { snapshots } => self.snapshots = snapshots.to_vec(),
            ReplayEvent::Checkpoint { .. } => {}
            ReplayEvent::Append {
                replica,
                first_index,
                entries,
                ..
            } => {
                if entries.len() > 0 {
                    let known = self.entries.entry(*replica).or_default();
                    known.split_off(&first_index.0);
                }
                self.keep(*replica, *first_index, entries);
            }
            ReplayEvent::Rewrite {
                replica,
                first_index,
                entries,
                ..
            } => self.keep(*replica, *first_index, entries),
            ReplayEvent::Snapshot {
                replica,
                first_index,
                last_index,
                ..
            } => {
                let known = self.entries.entry(*replica).or_default();
                known.retain(|&index, _| first_index.0 <= index && index <= last_index.0);
            }
            ReplayEvent::Tombstone { replica, .. } => {
                self.entries.remove(replica);
            }
        }
    }

    fn keep(&mut self, replica: ReplicaId, first: LogIndex, entries: &Entries<'_>) {
        let snapshot_index = self.snapshot_index(replica);
        let known = self.entries.entry(replica).or_default();
        for (index, entry) in (first.0..).zip(entries.clone()) {
            if index > snapshot_index {
                let kept = (entry.term, Bytes::copy_from_slice(entry.data));
                known.insert(index, kept);
            }
        }
    }

    fn snapshot_index(&self, replica: ReplicaId) -> u64 {
        let of_replica = |snapshot: &&RecoveredSnapshot| snapshot.replica == replica;
        let snapshot = self.snapshots.iter().find(of_replica);
        snapshot.map_or(0, |snapshot| snapshot.snapshot.index.0)
    }

    /// It was told the snapshots that recovery ends with, and holds every entry above them.
    fn check(&self, recovered: &Recovered, model: &Model) {
        let mut snapshots = self.snapshots.iter();
        for replica in &recovered.replicas {
            if replica.snapshot.index.0 > 0 {
                let told = snapshots.next().expect("every snapshot is told");
                assert_eq!(
                    (told.replica, told.shard, &told.snapshot),
                    (replica.replica, replica.shard, &replica.snapshot)
                );
            }
            let held = self.entries.get(&replica.replica);
            let held: Vec<u64> = held.into_iter().flat_map(BTreeMap::keys).copied().collect();
            let needed = replica.snapshot.index.0 + 1..=replica.last_index.0;
            assert!(held.iter().copied().eq(needed), "{held:?} of {replica:?}");
            let entries = &model.replicas[&replica.replica].entries;
            for (index, (term, data)) in self.entries.get(&replica.replica).into_iter().flatten() {
                let expected = &entries[index];
                assert_eq!((*term, data), (expected.term, &expected.data));
            }
        }
        assert_eq!(snapshots.next(), None, "a replica that is gone has none");
    }
}

/// An entry whose data repeats one byte.
pub(crate) fn entry(term: u64, fill: u8, data_bytes: usize) -> Entry {
    Entry {
        term: Term(term),
        kind: EntryKind::Normal,
        data: Bytes::from(vec![fill; data_bytes]),
    }
}

/// Entries of replica `replica`, which belongs to the shard ten times its number.
pub(crate) fn append(
    replica: u64,
    term: u64,
    commit: u64,
    first: u64,
    entries: Vec<Entry>,
) -> Part {
    part(
        replica,
        term,
        commit,
        PartBody::Append {
            first_index: LogIndex(first),
            entries,
        },
    )
}

pub(crate) fn snapshot(replica: u64, term: u64, index: u64) -> Part {
    let members = Bytes::from(format!("members at {index}"));
    part(
        replica,
        term,
        index,
        PartBody::Snapshot {
            index: LogIndex(index),
            term: Term(term),
            members,
        },
    )
}

pub(crate) fn part(replica: u64, term: u64, commit: u64, body: PartBody) -> Part {
    Part {
        replica: ReplicaId(replica),
        shard: ShardId(u32::try_from(replica).unwrap() * 10),
        hard_state: HardState {
            term: Term(term),
            vote: ReplicaId(replica),
            commit: LogIndex(commit),
        },
        body,
    }
}
