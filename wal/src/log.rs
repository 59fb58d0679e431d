//! The writer of the log: from staged parts to aligned, durable records.
//!
//! It decides what is written where and when, and touches no file: each decision leaves as a [`LogEffect`], and the
//! caller reports back what has been done. It has no clock; nothing in it waits for a timer.

mod effect;
mod marks;
mod options;
pub(crate) mod placement;
mod queue;
mod reading;
mod scrubbing;
pub(crate) mod segments;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, VecDeque};

use metastore_bugs::{Mutant, is_planted};

use crate::buffer::LogBuffer;
use crate::format::{Mark, Standing};
use crate::ids::{
    FileNumber, LogIndex, RecordSequence, RecoveryEpoch, ReplicaId, SegmentSequence, Ticket,
};
use crate::part::{Part, PartBody, Position};
use crate::replica::ReplicaState;
pub use effect::{Holder, LogEffect, LogSpace, LogStatus};
use marks::Marks;
pub(crate) use marks::MarksStart;
pub use options::{LogOptions, LogOptionsError};
use placement::{Change, Placements, RecordPlace};
use queue::Queue;
pub use reading::{EntryPlace, ReadEnd};
pub use scrubbing::{ScrubEnd, ScrubPlace};
pub use segments::SegmentFile;
use segments::Segments;
pub(crate) use segments::{Segment, SegmentsStart};

/// On a disk that is nearly full, a log of so many segments should release some.
const LIVE_SEGMENTS_MANY: usize = 4;

/// Where a log begins: what recovery found, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    pub(crate) epoch: RecoveryEpoch,
    pub(crate) last_sequence: RecordSequence,
    pub(crate) last_digest: u64,
    pub(crate) replicas: BTreeMap<ReplicaId, ReplicaState>,
    pub(crate) placements: Placements,
    pub(crate) segments: SegmentsStart,
    pub(crate) marks: MarksStart,
}

/// A record on its way to the device.
#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    segment: Segment,
    offset: u64,
    sequence: RecordSequence,
    oldest_live_segment: SegmentSequence,
    completes: Option<Position>,
    /// What its watermark says is durable.
    covers: Position,
    changes: Vec<Change>,
    is_written: bool,
}

/// The one log of a core, shared by all its replicas.
///
/// ```text
///   stage ─> queue ──next_effect──> in flight ──on_written──> durable (contiguous prefix)
///                └ does not fit: checkpoint of a new segment first
/// ```
///
/// * [`Log::stage`] only queues. A record is gathered when a write can start, from everything that waits then: the
///   device clocks the group commits.
/// * The first write after a start is the checkpoint of a new segment. It makes the cut of the recovery durable, and
///   until it is, [`Log::is_ready`] is false and nothing else is written.
/// * What is durable grows without gaps: a record counts once every record before it counts.
#[derive(Debug)]
pub struct Log {
    options: LogOptions,
    epoch: RecoveryEpoch,
    cut: RecordSequence,
    /// As of the newest record built, durable or not: what a checkpoint records.
    replicas: BTreeMap<ReplicaId, ReplicaState>,
    /// As of the newest durable record: what decides about releasing segments.
    placements: Placements,
    queue: Queue,
    segments: Segments,
    marks: Marks,
    /// Oldest first.
    in_flight: VecDeque<InFlight>,
    free_buffers: Vec<LogBuffer>,
    next_ticket: Ticket,
    next_sequence: RecordSequence,
    previous_digest: u64,
    watermark: RecordSequence,
    durable_position: Position,
    /// What a durable record or mark says is durable.
    covered_position: Position,
    is_stalled: bool,
    durable_writes: u64,
    record_bytes: u64,
    entry_bytes: u64,
    padding_bytes: u64,
}

impl LogStart {
    /// A log in which nothing was ever written, and whose segment files are still to be prepared.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            epoch: RecoveryEpoch(0),
            last_sequence: RecordSequence(0),
            last_digest: 0,
            replicas: BTreeMap::new(),
            placements: Placements::default(),
            segments: SegmentsStart {
                next_segment: SegmentSequence(1),
                ..SegmentsStart::default()
            },
            marks: MarksStart::default(),
        }
    }
}

impl Log {
    /// A log that continues where `start` says. `buffers` are those of [`LogOptions::new_buffers`], possibly
    /// registered with a ring meanwhile. The options have been validated.
    #[must_use]
    pub fn new(options: LogOptions, start: LogStart, buffers: Vec<LogBuffer>) -> Self {
        assert_eq!(
            options.validate(),
            Ok(()),
            "options are validated where they are read"
        );
        let (records, marks): (Vec<_>, Vec<_>) = buffers
            .into_iter()
            .partition(|buffer| buffer.capacity() >= options.record_bytes_max);
        assert!(
            records.len() >= options.writes_in_flight_max,
            "each write in flight has a buffer"
        );
        let mark_buffer = marks
            .into_iter()
            .next()
            .expect("marks have a buffer of their own");
        Self {
            epoch: RecoveryEpoch(start.epoch.0 + 1),
            cut: start.last_sequence,
            replicas: start.replicas,
            placements: start.placements,
            queue: Queue::new(options.record_bytes_max),
            segments: Segments::new(&options, start.segments),
            marks: Marks::new(start.marks, mark_buffer),
            in_flight: VecDeque::new(),
            free_buffers: records,
            next_ticket: Ticket(1),
            next_sequence: start.last_sequence.next(),
            previous_digest: start.last_digest,
            watermark: start.last_sequence,
            durable_position: Position(0),
            covered_position: Position(0),
            is_stalled: false,
            durable_writes: 0,
            record_bytes: 0,
            entry_bytes: 0,
            padding_bytes: 0,
            options,
        }
    }

    // ---- What the caller wants written ----

    /// Queues a part. Cheap: entries share their bytes, which are copied once, when the write starts. A part that is
    /// longer than a record is divided; it is durable with its last piece.
    ///
    /// An entry longer than [`LogOptions::entry_bytes_max`] is a bug of the caller, whose limits are lower.
    pub fn stage(&mut self, part: Part) -> Position {
        assert!(part.replica.0 > 0, "0 names no replica");
        match &part.body {
            PartBody::Append { entries, .. } | PartBody::Rewrite { entries, .. } => {
                let longest = entries
                    .iter()
                    .map(|entry| entry.data.len())
                    .max()
                    .unwrap_or(0);
                assert!(
                    longest <= self.options.entry_bytes_max(),
                    "the caller's limits keep entries within a record"
                );
            }
            PartBody::Snapshot { members, .. } => {
                assert!(
                    members.len() <= self.options.entry_bytes_max(),
                    "a membership fits a record"
                );
            }
            PartBody::Tombstone => {}
        }
        self.queue.push(part)
    }

    /// Entries of `replica` below `first_needed` are not needed any more, because a durable snapshot replaced them.
    /// Segments that nobody needs are released, oldest first.
    pub fn set_first_index(&mut self, replica: ReplicaId, first_needed: LogIndex) {
        self.placements.set_first_index(replica, first_needed);
        if let Some(state) = self.replicas.get_mut(&replica) {
            state.set_first_index(first_needed);
        }
        self.segments.release(&self.placements, self.watermark);
    }

    /// What the log holds of a replica is of no use any more, whatever else says so: it counts as damaged until a snapshot
    /// takes the place of everything, durably from the next segment on.
    pub fn set_damaged(&mut self, replica: ReplicaId) {
        if let Some(state) = self.replicas.get_mut(&replica)
            && state.standing == Standing::Whole
        {
            state.standing = Standing::Damaged;
            self.placements.forget_from(replica, LogIndex(0));
        }
    }

    /// The caller saw no write for a while: a mark is due if it would say anything new.
    pub fn on_idle(&mut self) {
        if self.needs_mark() {
            self.marks.set_due();
        }
    }

    /// Says whether disk space is short: spares beyond [`LogOptions::spare_segments`] are then removed, and not kept
    /// for reuse.
    pub fn set_disk_short(&mut self, is_short: bool) {
        self.segments.set_disk_short(is_short);
    }

    // ---- What the caller must do, and what it has done ----

    /// The next thing to do; called until it returns `None`, after every call that changes the log.
    pub fn next_effect(&mut self) -> Option<LogEffect> {
        if let Some(effect) = self.start_write() {
            return Some(effect);
        }
        if let Some(effect) = self.start_mark() {
            return Some(effect);
        }
        if let Some(file) = self.segments.choose_preparation() {
            return Some(LogEffect::PrepareSegment {
                file: file.number,
                bytes: file.bytes,
            });
        }
        self.segments
            .take_removal()
            .map(|file| LogEffect::RemoveSegment { file })
    }

    /// The write with this ticket is durable. Returns the newest position that is durable now, if it advanced.
    pub fn on_written(&mut self, ticket: Ticket, buffer: LogBuffer) -> Option<Position> {
        let written = self
            .in_flight
            .iter_mut()
            .find(|record| record.ticket == ticket);
        let record = written.expect("a ticket comes back exactly once");
        assert!(!record.is_written, "a ticket comes back exactly once");
        record.is_written = true;
        self.free_buffers.push(buffer);
        let position_before = self.durable_position;
        while self
            .in_flight
            .front()
            .is_some_and(|record| record.is_written)
        {
            let record = self.in_flight.pop_front().expect("the front was just seen");
            self.on_durable(record);
        }
        self.segments.release(&self.placements, self.watermark);
        (self.durable_position > position_before).then_some(self.durable_position)
    }

    /// The mark with this ticket is durable.
    pub fn on_mark_written(&mut self, ticket: Ticket, buffer: LogBuffer) {
        let mark = self.marks.on_written(ticket, buffer);
        self.covered_position = self.covered_position.max(mark.covers);
        self.segments.on_oldest_named(mark.oldest_live_segment);
    }

    /// A segment file is zeroed and durable.
    pub fn on_segment_prepared(&mut self, file: FileNumber) {
        self.segments.on_prepared(file);
    }

    /// A segment file is gone.
    pub fn on_segment_removed(&mut self, _file: FileNumber) {
        self.segments.on_removed();
    }

    // ---- What the caller may ask ----

    /// Bytes that wait for a record.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.queue.staged_bytes()
    }

    /// Everything staged up to this position is durable.
    #[must_use]
    pub fn durable_position(&self) -> Position {
        self.durable_position
    }

    /// Everything staged up to this position is not only durable: a later record or a mark says so, and no damage to
    /// one record makes a recovery forget it. What a part replaces outside the log is kept until then.
    #[must_use]
    pub fn covered_position(&self) -> Position {
        self.covered_position
    }

    /// Whether the cut of the recovery is durable. Until then nothing may be answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.watermark > self.cut
    }

    /// Whether nothing is staged and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_ready()
            && self.queue.is_empty()
            && self.in_flight.is_empty()
            && !self.marks.is_in_flight()
    }

    /// Whether no record is on its way and none waits: what is staged now is written at once. Marks do not count.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty()
    }

    /// The position of the newest part that was staged.
    #[must_use]
    pub fn staged_position(&self) -> Position {
        self.queue.newest()
    }

    /// Whether a mark would say more than the newest one: a reason to call [`Log::on_idle`] after 10 ms without a write.
    #[must_use]
    pub fn needs_mark(&self) -> bool {
        self.is_ready() && (self.marks.is_behind(self.watermark) || self.segments.has_unnamed())
    }

    /// Whether a record waits for a segment to be prepared.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Whether the present segment is half full and no other is ready but the one that is kept for the next start: what
    /// prepares one should hurry.
    #[must_use]
    pub fn is_segment_urgent(&self) -> bool {
        self.is_spare_missing() && self.segments.remaining_bytes() < self.options.segment_bytes / 2
    }

    /// Whether there is room for what clients want to write.
    #[must_use]
    pub fn space(&self) -> LogSpace {
        let remaining_bytes = self.segments.remaining_bytes();
        if self.segments.is_budget_spent() {
            let used_bytes = self.segments.live_count() as u64 * self.options.segment_bytes;
            return LogSpace::Exhausted {
                budget_bytes: self.options.budget_bytes,
                used_bytes,
            };
        }
        if self.is_spare_missing() && remaining_bytes < self.options.segment_bytes / 4 {
            return LogSpace::SpareMissing { remaining_bytes };
        }
        LogSpace::Ok
    }

    /// Whether what gives space back, a delete or a compaction, still fits where [`Log::space`] refuses the rest: there
    /// would be no way out of a full disk otherwise. Where no other segment may be begun, the last part of this one
    /// belongs to raft and to the record of the snapshot that releases others.
    #[must_use]
    pub fn has_room_to_free(&self) -> bool {
        let is_next_ready = !self.is_spare_missing() && !self.segments.is_budget_spent();
        is_next_ready || self.segments.remaining_bytes() >= self.options.segment_bytes / 16
    }

    /// Whether releasing segments would help a disk that is nearly full: because the log holds more of them than it
    /// needs to go on, or because it soon needs one and has none but the last.
    #[must_use]
    pub fn can_relieve_disk(&self) -> bool {
        self.segments.live_count() >= LIVE_SEGMENTS_MANY
            || (self.is_segment_urgent() && self.segments.live_count() > 1)
    }

    /// Whether so much of the budget is in use that the oldest segment should be released: those whom
    /// [`Log::oldest_holders`] names should take a snapshot, or write again what they hold there.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.segments.is_short()
    }

    /// Whose entries keep the oldest segment alive. Empty when it is the one being written.
    #[must_use]
    pub fn oldest_holders(&self) -> Vec<Holder> {
        if self.segments.live_count() < 2 {
            return Vec::new();
        }
        let holders = self
            .placements
            .holders(self.segments.oldest_live())
            .into_iter();
        holders
            .map(|(replica, first_index, last_index)| Holder {
                replica,
                first_index,
                last_index,
            })
            .collect()
    }

    /// Counters and places.
    #[must_use]
    pub fn status(&self) -> LogStatus {
        let current = self.segments.current();
        LogStatus {
            durable_writes: self.durable_writes,
            record_bytes: self.record_bytes,
            entry_bytes: self.entry_bytes,
            padding_bytes: self.padding_bytes,
            marks: self.marks.written(),
            segments_live: self.segments.live_count(),
            spares: self.segments.spare_count(),
            files: self.segments.files(),
            segment: current.map_or(SegmentSequence(0), |(segment, _)| segment.sequence),
            offset: current.map_or(0, |(_, offset)| offset),
            watermark: self.watermark,
            epoch: self.epoch,
        }
    }

    // ---- Helpers ----

    /// The record is durable, and so is every record before it.
    fn on_durable(&mut self, record: InFlight) {
        assert_eq!(
            record.sequence,
            self.watermark.next(),
            "the durable prefix has no gap"
        );
        self.watermark = record.sequence;
        self.durable_writes += 1;
        let place = RecordPlace {
            segment: record.segment.sequence,
            offset: record.offset,
        };
        for change in record.changes {
            self.placements.apply(place, change);
        }
        if let Some(position) = record.completes {
            assert!(
                position > self.durable_position,
                "positions become durable in order"
            );
            self.durable_position = position;
        }
        self.covered_position = self.covered_position.max(record.covers);
        self.segments.on_oldest_named(record.oldest_live_segment);
    }

    fn is_spare_missing(&self) -> bool {
        self.segments.spare_count() <= self.reserved_spares()
    }

    /// The last spare belongs to the next start: it must begin a segment before it answers anything, and the disk may
    /// be full by then. Who wants a single spare has none to reserve.
    fn reserved_spares(&self) -> usize {
        usize::from(self.options.spare_segments > 1)
    }

    fn start_mark(&mut self) -> Option<LogEffect> {
        if self.is_stalled && self.segments.has_unnamed() {
            // Only a mark can name the segments that were released, since no record fits any more.
            self.marks.set_due();
        }
        let ticket = self.next_ticket;
        let covers = self.durable_position;
        let (slot, buffer) = self.marks.start(ticket, covers, |generation| Mark {
            identity: self.options.identity,
            generation,
            watermark: self.watermark,
            segment: self.segments.newest_sequence(),
            oldest_live_segment: match is_planted(Mutant::ReleaseNotWritten) {
                true => SegmentSequence(1),
                false => self.segments.oldest_live(),
            },
            epoch: self.epoch,
        })?;
        self.next_ticket.0 += 1;
        Some(LogEffect::WriteMark {
            ticket,
            slot,
            buffer,
        })
    }
}
