//! The segment files of a log: which are live, which may be reused and when.
//!
//! ```text
//!   prepare ──> spare ──begin──> live ──release──> released ──named durably──> spare, or removed
//! ```

use std::collections::VecDeque;

use metastore_bugs::{Mutant, is_planted};

use super::LogOptions;
use super::placement::Placements;
use crate::ids::{FileNumber, RecordSequence, SegmentSequence};

/// A segment file, whatever is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The n of its name.
    pub number: FileNumber,
    /// Its length.
    pub bytes: u64,
}

/// A segment that holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) sequence: SegmentSequence,
    pub(crate) file: SegmentFile,
    pub(crate) first_record: RecordSequence,
}

/// All segment files of a log.
#[derive(Debug)]
pub(super) struct Segments {
    segment_bytes: u64,
    segments_max: usize,
    spares_wanted: usize,
    is_disk_short: bool,
    /// Oldest first; the last is the one being written, once `offset` says so.
    live: VecDeque<Segment>,
    /// Not needed any more, but a crash could still bring back a log that believes so.
    released: VecDeque<Segment>,
    spares: VecDeque<FileNumber>,
    preparing: Option<FileNumber>,
    to_remove: VecDeque<FileNumber>,
    removing: usize,
    next_file: FileNumber,
    next_segment: SegmentSequence,
    /// Where the next record goes in the newest segment; `None` until this run began one.
    offset: Option<u64>,
    /// The newest oldest-live segment that a durable record or mark names.
    oldest_named: SegmentSequence,
}

/// Where a log left its segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentsStart {
    pub(crate) live: Vec<Segment>,
    /// Not needed, but no durable record or mark says so yet.
    pub(crate) released: Vec<Segment>,
    pub(crate) unused: Vec<SegmentFile>,
    pub(crate) next_segment: SegmentSequence,
    pub(crate) oldest_named: SegmentSequence,
}

impl Segments {
    pub(super) fn new(options: &LogOptions, start: SegmentsStart) -> Self {
        let used = start
            .live
            .iter()
            .chain(&start.released)
            .map(|segment| segment.file);
        let files = used.chain(start.unused.iter().copied());
        let next_file = files.map(|file| file.number.0 + 1).max().unwrap_or(1);
        let mut segments = Self {
            segment_bytes: options.segment_bytes,
            segments_max: options.segments_max(),
            spares_wanted: options.spare_segments,
            is_disk_short: false,
            live: start.live.into(),
            released: start.released.into(),
            spares: VecDeque::new(),
            preparing: None,
            to_remove: VecDeque::new(),
            removing: 0,
            next_file: FileNumber(next_file),
            next_segment: start.next_segment,
            offset: None,
            oldest_named: start.oldest_named,
        };
        for file in start.unused {
            segments.reuse(file);
        }
        segments
    }

    /// Begins the next segment in a spare file, if there is one. `first_record` will be its checkpoint.
    pub(super) fn begin(&mut self, first_record: RecordSequence) -> Option<Segment> {
        let number = self.spares.pop_front()?;
        let file = SegmentFile {
            number,
            bytes: self.segment_bytes,
        };
        let segment = Segment {
            sequence: self.next_segment,
            file,
            first_record,
        };
        self.next_segment.0 += 1;
        self.live.push_back(segment);
        self.offset = Some(0);
        Some(segment)
    }

    /// How many bytes are left in the segment being written.
    pub(super) fn remaining_bytes(&self) -> u64 {
        match (self.offset, self.live.back()) {
            (Some(offset), Some(segment)) => segment.file.bytes - offset,
            _ => 0,
        }
    }

    /// Reserves the next `bytes` of the segment being written: the segment and the offset in its file.
    pub(super) fn reserve(&mut self, bytes: u64) -> (Segment, u64) {
        assert!(
            bytes <= self.remaining_bytes(),
            "a record never straddles segments"
        );
        let offset = self.offset.expect("a segment is being written");
        self.offset = Some(offset + bytes);
        (
            *self.live.back().expect("a segment is being written"),
            offset,
        )
    }

    /// Releases what nobody needs, oldest first. The newest segment stays, and so does one whose successor's
    /// checkpoint is not durable: until then only it knows the hard states.
    pub(super) fn release(&mut self, placements: &Placements, watermark: RecordSequence) {
        while let [oldest, successor, ..] = *self.live.make_contiguous()
            && successor.first_record <= watermark
            && placements.is_free(oldest.sequence)
        {
            self.live.pop_front();
            if is_planted(Mutant::SegmentReusedBeforeNamed) {
                self.spares.push_front(oldest.file.number);
                continue;
            }
            self.released.push_back(oldest);
        }
    }

    /// A durable record or mark names `oldest_live`: the files of older segments may be used again.
    pub(super) fn on_oldest_named(&mut self, oldest_live: SegmentSequence) {
        self.oldest_named = self.oldest_named.max(oldest_live);
        while let Some(segment) = self.released.front().copied()
            && segment.sequence < self.oldest_named
        {
            self.released.pop_front();
            self.reuse(segment.file);
        }
    }

    /// The file to prepare next: one at a time, so that the device is left to the log.
    pub(super) fn choose_preparation(&mut self) -> Option<SegmentFile> {
        let spares_coming = self.spares.len() + self.released.len();
        let is_wanted = self.preparing.is_none() && spares_coming < self.spares_wanted;
        if !is_wanted || !self.has_room_for_a_spare() {
            return None;
        }
        let number = self.next_file;
        self.next_file.0 += 1;
        self.preparing = Some(number);
        Some(SegmentFile {
            number,
            bytes: self.segment_bytes,
        })
    }

    pub(super) fn on_prepared(&mut self, file: FileNumber) {
        assert_eq!(
            self.preparing.take(),
            Some(file),
            "only the file that was asked for is prepared"
        );
        self.spares.push_back(file);
    }

    pub(super) fn take_removal(&mut self) -> Option<FileNumber> {
        let file = self.to_remove.pop_front()?;
        self.removing += 1;
        Some(file)
    }

    pub(super) fn on_removed(&mut self) {
        self.removing = self
            .removing
            .checked_sub(1)
            .expect("only a file that was given up is removed");
    }

    /// The oldest segment still needed, which the next record names.
    pub(super) fn oldest_live(&self) -> SegmentSequence {
        self.live
            .front()
            .map_or(self.next_segment, |segment| segment.sequence)
    }

    /// Whether files wait for a durable record or mark that lets them be used again.
    pub(super) fn has_unnamed(&self) -> bool {
        !self.released.is_empty()
    }

    pub(super) fn current(&self) -> Option<(Segment, u64)> {
        Some((*self.live.back()?, self.offset?))
    }

    /// The first live segment behind `after` that another one follows, and that one.
    pub(super) fn complete_after(
        &self,
        after: Option<SegmentSequence>,
    ) -> Option<(Segment, Segment)> {
        let pairs = self.live.iter().zip(self.live.iter().skip(1));
        let mut complete = pairs.filter(|(segment, _)| Some(segment.sequence) > after);
        complete
            .next()
            .map(|(segment, successor)| (*segment, *successor))
    }

    /// A segment that is needed.
    pub(super) fn live(&self, sequence: SegmentSequence) -> Option<Segment> {
        let mut live = self.live.iter();
        live.find(|segment| segment.sequence == sequence).copied()
    }

    pub(super) fn newest_sequence(&self) -> SegmentSequence {
        SegmentSequence(self.next_segment.0 - 1)
    }

    pub(super) fn live_count(&self) -> usize {
        self.live.len()
    }

    pub(super) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Every file there is, in use or not.
    pub(super) fn files(&self) -> usize {
        let unused = self.spares.len() + usize::from(self.preparing.is_some());
        self.live.len() + self.released.len() + unused + self.to_remove.len() + self.removing
    }

    /// Whether only the reserve is left: what raft itself must write may still use it, clients may not.
    pub(super) fn is_budget_spent(&self) -> bool {
        self.live.len() + 1 >= self.segments_max
    }

    /// Whether three quarters of the budget are in use, and in a small budget so much that only one segment is left
    /// before it is spent.
    pub(super) fn is_short(&self) -> bool {
        let three_quarters = self.segments_max / 4 * 3;
        let limit = three_quarters.min(self.segments_max.saturating_sub(2));
        self.live.len() >= limit.max(2)
    }

    /// While the disk is short, only those spares are kept that are wanted in any case.
    pub(super) fn set_disk_short(&mut self, is_short: bool) {
        self.is_disk_short = is_short;
        while is_short && self.spares.len() > self.spares_wanted {
            self.to_remove.extend(self.spares.pop_back());
        }
    }

    /// A file of the right length becomes a spare, on a disk with room even beyond those that are wanted: a log that once needed so many
    /// will need them again, and to fill others with zeros would cost the device as much as the log itself. It is
    /// not zeroed again either: nothing in it passes for a record of its next segment.
    fn reuse(&mut self, file: SegmentFile) {
        let may_be_kept = !self.is_disk_short || self.spares.len() < self.spares_wanted;
        if file.bytes == self.segment_bytes && may_be_kept && self.has_room_for_a_spare() {
            self.spares.push_back(file.number);
        } else {
            self.to_remove.push_back(file.number);
        }
    }

    /// Whether the budget allows one more file. The segment that a start must begin is allowed in any case:
    /// without it nothing could be written that shrinks the log.
    fn has_room_for_a_spare(&self) -> bool {
        let is_start_without_spare = self.offset.is_none() && self.spares.is_empty();
        self.files() < self.segments_max || is_start_without_spare
    }
}
