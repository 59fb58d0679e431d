//! A replica's snapshots: its state on the way to a file, and what its log gives up when the file is durable.
//!
//! It decides neither when a snapshot is taken nor what is done with the file: the core does.

use metastore_bugs::{Mutant, is_planted};
use metastore_statemachine::{ExportProgress, SliceLimit, SnapshotExport};
use metastore_wal::{Holder, Identity, Log, LogIndex, Part, PartBody, Position, Term};

use super::recovering::is_initial;
use super::{Replica, to_log_entry, to_log_hard_state};
use crate::ids::{SnapshotId, Time};
use crate::membership::Membership;
use crate::settings::{SNAPSHOT_WRITE_ALIGN_BYTES, SnapshotSettings};
use crate::snapshot::{SnapshotIdentity, SnapshotWriter};

/// Entries are written again where they take less than one part in so many of the state.
const REWRITE_STATE_PART: u64 = 8;
/// Entries of so few bytes are always cheaper than a file with its flushes.
const REWRITE_BYTES_ALWAYS: usize = 64 << 10;

/// The newest snapshot that the log names, and what was written since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastSnapshot {
    /// Length of its file; 0 for the one with which every replica begins, which has none.
    pub(crate) bytes: u64,
    pub(crate) taken_at: Time,
    /// Bytes of entries that were written to the log since it was taken.
    pub(crate) log_bytes: u64,
}

/// The state on its way to a file.
#[derive(Debug)]
pub(super) struct Exporting {
    export: SnapshotExport,
    /// `None` when the file is complete.
    writer: Option<SnapshotWriter>,
    /// Items of one slice.
    items: Vec<u8>,
    /// Bytes of the file that are to be written next.
    file_bytes: Vec<u8>,
    write_bytes: usize,
    state: ExportState,
}

/// A snapshot that was begun.
#[derive(Debug, Clone)]
pub(crate) struct BegunSnapshot {
    pub(crate) id: SnapshotId,
    /// Who belonged to the group then.
    members: Membership,
    begun_at: Time,
    /// What had been written to the log since the snapshot before it.
    log_bytes: u64,
}

/// How far an export has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExportState {
    /// There is more to export.
    More,
    /// All of the file's bytes are there.
    Complete,
    /// The state no longer holds what was being exported.
    Lost,
}

/// What an export has for the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExportOutput {
    /// Not enough for a write yet.
    Nothing,
    /// Bytes to write next.
    Bytes(Vec<u8>),
    /// Every byte was handed out.
    Complete,
    /// It cannot be completed.
    Lost,
}

impl Replica {
    /// Whether enough has happened since the last snapshot for another.
    pub(crate) fn is_snapshot_due(&self, now: Time, settings: &SnapshotSettings) -> bool {
        let last = &self.last_snapshot;
        let entries = self.uncovered_entries();
        let log_bytes = last.log_bytes;
        let by_length = last
            .bytes
            .saturating_mul(settings.log_bytes_per_snapshot_byte);
        let is_due_by_log = log_bytes >= settings.log_bytes_min.max(by_length);
        let is_due_by_count = settings.entries.is_some_and(|count| entries >= count);
        let waited_ms = now.millis_since(last.taken_at);
        let is_due_by_time = settings.interval_ms.is_some_and(|limit| waited_ms >= limit);
        let is_due = is_due_by_log || is_due_by_count || is_due_by_time;
        // A newer one would take away what follows the one that is being fetched.
        let is_wanted = self.node.store().is_snapshot_wanted() || self.is_repair_snapshot_due();
        let is_due = is_due && !self.serves_snapshots() || is_wanted;
        entries > 0 && is_due && !self.is_quarantined()
    }

    /// Memory of what was exported and is not handed out yet.
    pub(super) fn export_bytes(&self) -> u64 {
        let exporting = self.exporting.as_ref();
        exporting.map_or(0, |exporting| {
            (exporting.items.capacity() + exporting.file_bytes.capacity()) as u64
        })
    }

    /// Applied entries that the last snapshot does not cover.
    pub(crate) fn uncovered_entries(&self) -> u64 {
        let (snapshot_index, _) = self.node.store().snapshot();
        // While a snapshot of another replica is being installed it is ahead of what is applied.
        self.state_index.0.saturating_sub(snapshot_index)
    }

    /// Begins to export the state as it is applied now.
    ///
    /// What it covers is committed, and stands in the log before anything that says so: its record, which comes later,
    /// is durable only when all of it is.
    pub(crate) fn begin_snapshot(
        &mut self,
        now: Time,
        settings: &SnapshotSettings,
        writer: Identity,
    ) -> BegunSnapshot {
        assert!(self.exporting.is_none(), "one snapshot at a time");
        let raft_log = &self.node.raft.raft_log;
        let index = match is_planted(Mutant::SnapshotLabelledAsHandedOut) {
            true => raft_log.applied(),
            false => self.state_index.0,
        };
        assert!(
            index <= raft_log.committed,
            "only what is committed was applied"
        );
        let index = if is_planted(Mutant::SnapshotLabelledBehindState) {
            let (snapshot_index, _) = self.node.store().snapshot();
            (index - 1).max(snapshot_index + 1)
        } else {
            index
        };
        let term = raft_log.term(index).expect("the term of an applied entry");
        let id = SnapshotId {
            shard: self.shard,
            term: Term(term),
            index: LogIndex(index),
        };
        let members = self.node.store().members().clone();
        let identity = SnapshotIdentity {
            cluster: writer.cluster,
            node: writer.node,
            shard: id.shard,
            replica: self.id,
            index: id.index,
            term: id.term,
            members: members.encode().to_vec(),
        };
        let mut file_bytes = Vec::new();
        let writer = SnapshotWriter::new(&identity, &mut file_bytes);
        self.exporting = Some(Exporting {
            export: self.state.begin_export(),
            writer: Some(writer),
            items: Vec::new(),
            file_bytes,
            write_bytes: settings.write_bytes,
            state: ExportState::More,
        });
        BegunSnapshot {
            id,
            members,
            begun_at: now,
            log_bytes: self.last_snapshot.log_bytes,
        }
    }

    /// Whether a slice of the export can be done: its output does not wait to be taken.
    pub(super) fn has_snapshot_slice(&self) -> bool {
        self.exporting.as_ref().is_some_and(|exporting| {
            exporting.state == ExportState::More
                && exporting.file_bytes.len() < exporting.write_bytes
        })
    }

    /// Does a slice of the export: makes one chunk of the file of what was copied out of the state, or copies more.
    pub(super) fn run_snapshot_slice(&mut self, slice: SliceLimit) {
        let Some(exporting) = &mut self.exporting else {
            return;
        };
        let Exporting {
            export,
            writer,
            items,
            file_bytes,
            state,
            ..
        } = exporting;
        if let Some(writer) = writer
            && writer.write_block(file_bytes)
        {
            return;
        }
        items.clear();
        match self.state.export_slice(export, slice, items) {
            Ok(ExportProgress::More { section }) => {
                let writer = writer.as_mut().expect("it is not complete");
                writer.push(section, items);
            }
            Ok(ExportProgress::Finished) => {
                let writer = writer.take().expect("it is completed once");
                let _summary = writer.finish(file_bytes);
                *state = ExportState::Complete;
            }
            Err(_lost) => *state = ExportState::Lost,
        }
    }

    /// Takes what is to be written next: whole blocks, the end of the file excepted. `spare` is an empty vector whose
    /// memory is used again.
    pub(crate) fn take_snapshot_output(&mut self, spare: &mut Vec<u8>) -> ExportOutput {
        let Some(exporting) = &mut self.exporting else {
            return ExportOutput::Lost;
        };
        let available = exporting.file_bytes.len();
        let length = match exporting.state {
            ExportState::Lost => return ExportOutput::Lost,
            ExportState::Complete if available == 0 => return ExportOutput::Complete,
            ExportState::More if available < exporting.write_bytes => return ExportOutput::Nothing,
            ExportState::Complete => available,
            ExportState::More => available - available % SNAPSHOT_WRITE_ALIGN_BYTES,
        };
        let mut rest = std::mem::take(spare);
        rest.clear();
        rest.extend_from_slice(&exporting.file_bytes[length..]);
        exporting.file_bytes.truncate(length);
        ExportOutput::Bytes(std::mem::replace(&mut exporting.file_bytes, rest))
    }

    /// Ends the export, complete or not.
    pub(crate) fn end_export(&mut self) {
        if let Some(Exporting { export, .. }) = self.exporting.take() {
            self.state.end_export(export);
        }
    }

    // ---- The log ----

    /// Says in the log that the file of a snapshot is complete and durable.
    pub(crate) fn stage_snapshot(&self, log: &mut Log, begun: &BegunSnapshot) -> Position {
        let store = self.node.store();
        let BegunSnapshot { id, members, .. } = begun;
        let members = match is_planted(Mutant::SnapshotOfOlderMembers) {
            true => store.snapshot_members(),
            false => members,
        };
        let mut hard_state = to_log_hard_state(store.hard_state());
        if is_planted(Mutant::CommitBelowSnapshot) {
            // It stays at what the log says already.
            hard_state.commit = LogIndex(0);
        }
        log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state,
            body: PartBody::Snapshot {
                index: id.index,
                term: id.term,
                members: members.encode(),
            },
        })
    }

    /// The record of a snapshot is durable: the log begins behind it now. Returns the snapshot that it replaces, if
    /// that has a file.
    pub(crate) fn on_snapshot_durable(
        &mut self,
        log: &mut Log,
        begun: &BegunSnapshot,
        bytes: u64,
    ) -> Option<SnapshotId> {
        let replaced = self.last_snapshot_id();
        let id = begun.id;
        let members = begun.members.clone();
        self.node
            .mut_store()
            .compact(id.index.0, id.term.0, members, bytes);
        log.set_first_index(self.id, id.index.next());
        self.last_snapshot = LastSnapshot {
            bytes,
            taken_at: begun.begun_at,
            log_bytes: self.last_snapshot.log_bytes - begun.log_bytes,
        };
        replaced
    }

    /// The newest snapshot that the log names, if it has a file.
    pub(crate) fn last_snapshot_id(&self) -> Option<SnapshotId> {
        let (index, term) = self.node.store().snapshot();
        let (index, term) = (LogIndex(index), Term(term));
        (!is_initial(index, term)).then_some(SnapshotId {
            shard: self.shard,
            term,
            index,
        })
    }

    /// Writes again what the replica holds in the oldest segment, where that is cheaper than a snapshot: when it and
    /// what follows it is little, in memory, and less than a part of the state.
    pub(crate) fn rewrite(
        &self,
        log: &mut Log,
        holder: &Holder,
        bytes_max: usize,
    ) -> Option<Position> {
        let store = self.node.store();
        // A replay must come to the entry that has set the members by force before it hears that what is before it is
        // committed: revisions are passed over behind an entry that lies further back.
        if LogIndex(store.snapshot().0) < self.forced_at {
            return None;
        }
        let state_bytes = self.state.memory().state_bytes / REWRITE_STATE_PART;
        let worth_bytes = usize::try_from(state_bytes)
            .unwrap_or(usize::MAX)
            .max(REWRITE_BYTES_ALWAYS);
        let entries = store.few_entries(
            holder.first_index.0,
            holder.last_index.0,
            bytes_max.min(worth_bytes),
        )?;
        Some(log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: to_log_hard_state(store.hard_state()),
            body: PartBody::Rewrite {
                first_index: holder.first_index,
                entries: entries.map(to_log_entry).collect(),
            },
        }))
    }
}
