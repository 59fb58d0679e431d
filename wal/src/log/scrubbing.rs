//! Reading complete segments again while the log is written, to find what has decayed before it is needed.
//!
//! It says where to look, and whether what is there is what was written. It does **not** read files, and it mends nothing:
//! who holds entries in a damaged segment writes them again, or takes a snapshot that covers them.

use super::Log;
use crate::format::{RECORD_HEADER_BYTES, RecordBody, RecordHeader};
use crate::ids::{FileNumber, LogIndex, RecordSequence, ReplicaId, SegmentSequence};

/// Where a scrubber reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPlace {
    /// The file.
    pub file: FileNumber,
    /// The segment in it.
    pub segment: SegmentSequence,
    /// Where the next record begins.
    pub offset: u64,
    /// The length of the file.
    pub file_bytes: u64,
    next: RecordSequence,
    last: RecordSequence,
}

/// Where a scrubber came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubEnd {
    /// Everything so far is what was written. So many bytes are needed from there at least.
    More {
        /// Where to go on.
        place: ScrubPlace,
        /// How many bytes to read at least.
        bytes_min: usize,
    },
    /// The whole segment is what was written.
    Clean,
    /// What lies here is not what was written.
    Damaged {
        /// Where in the file.
        offset: u64,
    },
    /// The segment was given up meanwhile.
    Gone,
}

impl Log {
    /// The first complete segment behind `after`, or the first of all. The one that is being written is not complete.
    #[must_use]
    pub fn scrub_place(&self, after: Option<SegmentSequence>) -> Option<ScrubPlace> {
        let (segment, successor) = self.segments.complete_after(after)?;
        if successor.first_record > self.watermark {
            return None;
        }
        Some(ScrubPlace {
            file: segment.file.number,
            segment: segment.sequence,
            offset: 0,
            file_bytes: segment.file.bytes,
            next: segment.first_record,
            last: RecordSequence(successor.first_record.0 - 1),
        })
    }

    /// Checks the records that `bytes`, read at `place`, begin with.
    #[must_use]
    pub fn scrub(&self, place: &ScrubPlace, bytes: &[u8]) -> ScrubEnd {
        let is_live = self
            .segments
            .live(place.segment)
            .is_some_and(|segment| segment.file.number == place.file);
        if !is_live {
            return ScrubEnd::Gone;
        }
        let mut place = *place;
        let mut rest = bytes;
        while place.next <= place.last {
            let offset = place.offset;
            if offset + RECORD_HEADER_BYTES as u64 > place.file_bytes {
                return ScrubEnd::Damaged { offset };
            }
            if rest.len() < RECORD_HEADER_BYTES {
                let bytes_min = RECORD_HEADER_BYTES;
                return ScrubEnd::More { place, bytes_min };
            }
            let Ok((header, _)) = RecordHeader::decode(rest, self.options.seal) else {
                return ScrubEnd::Damaged { offset };
            };
            let is_it = header.identity == self.options.identity
                && header.segment == place.segment
                && header.sequence == place.next
                && offset + u64::from(header.record_bytes) <= place.file_bytes;
            if !is_it {
                return ScrubEnd::Damaged { offset };
            }
            let bytes_min = header.record_bytes as usize;
            let Some((record, after)) = rest.split_at_checked(bytes_min) else {
                return ScrubEnd::More { place, bytes_min };
            };
            if RecordBody::decode(&header, record).is_err() {
                return ScrubEnd::Damaged { offset };
            }
            rest = after;
            place.offset += u64::from(header.record_bytes);
            place.next = place.next.next();
        }
        ScrubEnd::Clean
    }

    /// Who holds entries in a segment, and the last of them.
    #[must_use]
    pub fn holders_in(&self, segment: SegmentSequence) -> Vec<(ReplicaId, LogIndex)> {
        let holders = self.placements.holders(segment).into_iter();
        holders.map(|(replica, _, last)| (replica, last)).collect()
    }
}
