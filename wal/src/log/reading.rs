//! Reading entries back from the log while it is written: for a follower that lags behind what is in memory.
//!
//! It says where to look and what the bytes there are. It does **not** read files, and it does not know which of two
//! copies of an entry counts: the caller knows the term that the entry must have.

use super::Log;
use crate::format::{
    Entries, EntryRef, RECORD_HEADER_BYTES, RecordBody, RecordHeader, SubHeaderKind,
};
use crate::ids::{FileNumber, LogIndex, ReplicaId, SegmentSequence};

/// From where on an entry is to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPlace {
    /// The file.
    pub file: FileNumber,
    /// The segment in it. Once the segment is given up its file holds another.
    pub segment: SegmentSequence,
    /// Where a record begins.
    pub offset: u64,
    /// The length of the file.
    pub file_bytes: u64,
}

/// Where a reader of records came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The bytes end in or before a record, of which so many bytes are needed.
    More {
        /// Where it begins.
        offset: u64,
        /// How many bytes to read from there at least.
        bytes_min: usize,
    },
    /// There are no more records of the segment, or what is there is damaged.
    NoMore,
}

impl Log {
    /// From where on the durable entry of a replica at `index` is to be looked for; `None` when the log does not hold it.
    #[must_use]
    pub fn place_of(&self, replica: ReplicaId, index: LogIndex) -> Option<EntryPlace> {
        let place = self.placements.place_of(replica, index)?;
        let segment = self.segments.live(place.segment)?;
        Some(EntryPlace {
            file: segment.file.number,
            segment: place.segment,
            offset: place.offset,
            file_bytes: segment.file.bytes,
        })
    }

    /// Hands out the entries of a replica in the records that `bytes`, read at `place`, begin with.
    pub fn read_entries(
        &self,
        place: &EntryPlace,
        bytes: &[u8],
        replica: ReplicaId,
        on_entry: &mut dyn FnMut(LogIndex, EntryRef<'_>),
    ) -> ReadEnd {
        let (identity, seal) = (&self.options.identity, self.options.seal);
        let mut rest = bytes;
        loop {
            let offset = place.offset + (bytes.len() - rest.len()) as u64;
            if offset >= place.file_bytes {
                return ReadEnd::NoMore;
            }
            if rest.len() < RECORD_HEADER_BYTES {
                let bytes_min = RECORD_HEADER_BYTES;
                return ReadEnd::More { offset, bytes_min };
            }
            let Ok((header, _)) = RecordHeader::decode(rest, seal) else {
                return ReadEnd::NoMore;
            };
            if header.identity != *identity || header.segment != place.segment {
                return ReadEnd::NoMore;
            }
            let bytes_min = header.record_bytes as usize;
            let Some((record, after)) = rest.split_at_checked(bytes_min) else {
                return ReadEnd::More { offset, bytes_min };
            };
            let Ok(body) = RecordBody::decode(&header, record) else {
                return ReadEnd::NoMore;
            };
            for (sub_header, payload) in body.parts() {
                let has_entries = match sub_header.kind {
                    SubHeaderKind::Append | SubHeaderKind::Rewrite => sub_header.replica == replica,
                    SubHeaderKind::Snapshot
                    | SubHeaderKind::Tombstone
                    | SubHeaderKind::Checkpoint => false,
                };
                if has_entries
                    && let Some(entries) = Entries::check(payload, sub_header.entry_count)
                {
                    for (index, entry) in (sub_header.first_index.0..).zip(entries) {
                        on_entry(LogIndex(index), entry);
                    }
                }
            }
            rest = after;
        }
    }
}
