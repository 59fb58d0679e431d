//! A whole record: how it is built in a buffer, and how its body is checked and read.

use metastore_bugs::{Mutant, is_planted};

use super::entry::encode_entry_header;
use super::{
    BLOCK_BYTES, Entries, FORMAT_VERSION, RECORD_HEADER_BYTES, RecordHeader, RecordKind,
    SUB_HEADER_BYTES, Standing, SubHeader, SubHeaderKind, round_up_to_blocks,
};
use crate::buffer::LogBuffer;
use crate::ids::{Identity, RecordSequence, RecoveryEpoch, SealKey, SegmentSequence};
use crate::part::Entry;

/// What a record says about the log as a whole.
pub(crate) struct RecordFields {
    pub(crate) identity: Identity,
    pub(crate) kind: RecordKind,
    pub(crate) segment: SegmentSequence,
    pub(crate) sequence: RecordSequence,
    pub(crate) oldest_live_segment: SegmentSequence,
    pub(crate) epoch: RecoveryEpoch,
    pub(crate) cut: RecordSequence,
    pub(crate) watermark: RecordSequence,
    pub(crate) previous_digest: u64,
    pub(crate) seal: SealKey,
}

/// Builds one record in a buffer: sub-headers first, then their payloads in the same order, then the header.
pub(crate) struct RecordEncoder {
    buffer: LogBuffer,
    sub_header_count: u32,
    fields: RecordFields,
}

impl RecordEncoder {
    pub(crate) fn new(
        mut buffer: LogBuffer,
        fields: RecordFields,
        sub_headers: &[SubHeader],
    ) -> Self {
        buffer.clear();
        let payload_start = RECORD_HEADER_BYTES + sub_headers.len() * SUB_HEADER_BYTES;
        buffer.extend_with_zeros(payload_start);
        for (index, sub_header) in sub_headers.iter().enumerate() {
            let offset = RECORD_HEADER_BYTES + index * SUB_HEADER_BYTES;
            sub_header.encode(
                fields.segment,
                fields.sequence,
                &mut buffer.as_mut_slice()[offset..],
            );
        }
        Self {
            buffer,
            sub_header_count: bounded_u32(sub_headers.len()),
            fields,
        }
    }

    pub(crate) fn push_entry(&mut self, entry: &Entry) {
        let header = encode_entry_header(entry.term, entry.kind, bounded_u32(entry.data.len()));
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(&entry.data);
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The finished record and its digest.
    pub(crate) fn finish(self) -> (LogBuffer, u64) {
        let Self {
            mut buffer,
            sub_header_count,
            fields,
        } = self;
        let used = buffer.len();
        let payload_bytes =
            used - RECORD_HEADER_BYTES - sub_header_count as usize * SUB_HEADER_BYTES;
        buffer.extend_with_zeros(round_up_to_blocks(used));
        let header = RecordHeader {
            identity: fields.identity,
            version: FORMAT_VERSION,
            kind: fields.kind,
            sub_header_count,
            segment: fields.segment,
            sequence: fields.sequence,
            oldest_live_segment: fields.oldest_live_segment,
            epoch: fields.epoch,
            cut: fields.cut,
            watermark: fields.watermark,
            previous_digest: fields.previous_digest,
            record_bytes: bounded_u32(buffer.len()),
            payload_bytes: bounded_u32(payload_bytes),
            body_checksum: xxhash_rust::xxh3::xxh3_128(
                &buffer.as_slice()[RECORD_HEADER_BYTES..used],
            ),
        };
        let digest = header.encode(buffer.as_mut_slice(), fields.seal);
        (buffer, digest)
    }
}

/// The body of a record whose checksums, padding and form have been found right.
#[derive(Debug)]
pub struct RecordBody<'a> {
    sub_headers: Vec<SubHeader>,
    payloads: &'a [u8],
}

/// What is wrong with the body of a record whose header is intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// Sub-headers or payloads are not what was written.
    Checksum,
    /// The padding is not zero.
    Padding,
    /// The checksums are right and yet the contents contradict each other: written by a faulty program.
    Malformed,
}

impl<'a> RecordBody<'a> {
    /// Checks the whole record; `record` begins with its header and is as long as the header says.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn decode(header: &RecordHeader, record: &'a [u8]) -> Result<Self, BodyFault> {
        assert_eq!(
            record.len(),
            header.record_bytes as usize,
            "the caller reads as much as the header says"
        );
        if is_planted(Mutant::RecordBodyNotChecked) {
            return Self::decode_unchecked(header, record);
        }
        let end = RECORD_HEADER_BYTES + header.body_bytes();
        let body = &record[RECORD_HEADER_BYTES..end];
        if xxhash_rust::xxh3::xxh3_128(body) != header.body_checksum {
            return Err(BodyFault::Checksum);
        }
        if !is_zeroed(&record[end..]) {
            return Err(BodyFault::Padding);
        }
        let sub_headers: Vec<SubHeader> = Self::sub_headers_of(header, record)
            .into_iter()
            .collect::<Option<_>>()
            .ok_or(BodyFault::Malformed)?;
        Self::assemble(header, body, sub_headers).ok_or(BodyFault::Malformed)
    }

    /// As [`RecordBody::decode`] for a reader that trusts the header alone: whatever can be taken apart is taken for
    /// what was written.
    fn decode_unchecked(header: &RecordHeader, record: &'a [u8]) -> Result<Self, BodyFault> {
        let sub_headers: Option<Vec<SubHeader>> =
            Self::sub_headers_of(header, record).into_iter().collect();
        let body = &record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + header.body_bytes()];
        sub_headers
            .and_then(|sub_headers| Self::assemble(header, body, sub_headers))
            .ok_or(BodyFault::Checksum)
    }

    /// The body, if its contents do not contradict each other.
    fn assemble(
        header: &RecordHeader,
        body: &'a [u8],
        sub_headers: Vec<SubHeader>,
    ) -> Option<Self> {
        let payloads = &body[header.sub_header_count as usize * SUB_HEADER_BYTES..];
        let body = Self {
            sub_headers,
            payloads,
        };
        body.is_well_formed(header).then_some(body)
    }

    /// The sub-headers of a record whose body may be damaged: `None` in the place of an unreadable one.
    #[must_use]
    pub fn sub_headers_of(header: &RecordHeader, record: &[u8]) -> Vec<Option<SubHeader>> {
        (0..header.sub_header_count as usize)
            .map(|index| {
                let bytes = record.get(RECORD_HEADER_BYTES + index * SUB_HEADER_BYTES..)?;
                SubHeader::decode(header.segment, header.sequence, bytes)
            })
            .collect()
    }

    /// The parts in order, each with its payload.
    pub fn parts(&self) -> impl Iterator<Item = (&SubHeader, &'a [u8])> {
        let mut rest = self.payloads;
        self.sub_headers.iter().map(move |sub_header| {
            let (payload, after) = rest.split_at(sub_header.payload_bytes as usize);
            rest = after;
            (sub_header, payload)
        })
    }

    /// Whether a part takes a snapshot or removes a replica.
    pub(crate) fn moves_snapshots(&self) -> bool {
        self.sub_headers.iter().any(|sub_header| {
            matches!(
                sub_header.kind,
                SubHeaderKind::Snapshot | SubHeaderKind::Tombstone
            )
        })
    }

    /// Whether it is a checkpoint that calls a replica damaged.
    pub(crate) fn names_damage(&self) -> bool {
        let mut standings = self.sub_headers.iter().map(|head| head.standing);
        standings.any(|standing| standing != Standing::Whole)
    }

    fn is_well_formed(&self, header: &RecordHeader) -> bool {
        let total: u64 = self
            .sub_headers
            .iter()
            .map(|sub_header| u64::from(sub_header.payload_bytes))
            .sum();
        total == u64::from(header.payload_bytes)
            && self.parts().all(|(sub_header, payload)| {
                let is_checkpoint = sub_header.kind == SubHeaderKind::Checkpoint;
                let carries_bytes = matches!(
                    sub_header.kind,
                    SubHeaderKind::Snapshot | SubHeaderKind::Checkpoint
                );
                is_checkpoint == (header.kind == RecordKind::Checkpoint)
                    && sub_header.is_consistent()
                    && sub_header.previous_sequence < header.sequence
                    && (carries_bytes || Entries::check(payload, sub_header.entry_count).is_some())
            })
    }
}

/// Lengths within a record are bounded by the record, and a record by `u32`.
/// In runs that the compiler looks at as a whole: most of a short record is padding.
fn is_zeroed(bytes: &[u8]) -> bool {
    bytes
        .chunks(64)
        .all(|run| run.iter().fold(0, |seen, &byte| seen | byte) == 0)
}

fn bounded_u32(length: usize) -> u32 {
    const { assert!(BLOCK_BYTES <= u32::MAX as usize) };
    assert!(
        length <= u32::MAX as usize,
        "a record is measured before it is built"
    );
    length as u32
}
