//! Making a snapshot file, chunk by chunk.

use std::collections::VecDeque;

use metastore_statemachine::SectionTag;

use super::chunk::{
    CHUNK_HEADER_BYTES, ChunkContent, ChunkEncoder, ChunkKind, SNAPSHOT_BLOCK_BYTES,
};
use super::header::{FileSeed, SnapshotIdentity};
use super::totals::{ChunkLength, SnapshotSummary, Totals};

/// Turns the bytes of sections into the bytes of a file.
///
/// Bytes go in with [`push`](SnapshotWriter::push), which only copies them. [`write_block`](SnapshotWriter::write_block)
/// makes one chunk of what waits: compressing and checksumming 64 KiB, which is one slice of background work. So a row
/// of megabytes is pushed in one go, and turned into chunks in many slices.
///
/// ```text
///    new --> ( push --> write_block while has_block )* --> finish
/// ```
#[derive(Debug)]
pub struct SnapshotWriter {
    seed: FileSeed,
    encoder: ChunkEncoder,
    totals: Totals,
    /// What was pushed and is in no chunk yet; all but the last are of sections that are complete.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    section: SectionTag,
    bytes: Vec<u8>,
    /// How many of `bytes` are in chunks.
    written_bytes: usize,
}

/// The section number of a trailer.
const NO_SECTION: SectionTag = SectionTag(0);

impl SnapshotWriter {
    /// Begins a file: appends its header to `out`.
    ///
    /// # Panics
    /// When there are more members than a file can name.
    #[must_use]
    pub fn new(identity: &SnapshotIdentity, out: &mut Vec<u8>) -> SnapshotWriter {
        let start = out.len();
        let seed = identity.encode_into(out);
        SnapshotWriter {
            seed,
            encoder: ChunkEncoder::new(),
            totals: Totals::new(&out[start..]),
            waiting: VecDeque::new(),
        }
    }

    /// Takes the next bytes of a section, cut anywhere. The bytes of one section come after each other: a section that
    /// another has followed is complete.
    pub fn push(&mut self, section: SectionTag, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.waiting.back_mut() {
            Some(last) if last.section == section => last.push(bytes),
            Some(_) | None => self.waiting.push_back(Waiting {
                section,
                bytes: bytes.to_vec(),
                written_bytes: 0,
            }),
        }
    }

    /// Bytes that were pushed and are in no chunk yet.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting
            .iter()
            .map(|waiting| waiting.left().len())
            .sum()
    }

    /// Whether there is enough for a chunk: a whole block, or the end of a section that another has followed.
    #[must_use]
    pub fn has_block(&self) -> bool {
        self.waiting.len() > 1
            || self
                .waiting
                .front()
                .is_some_and(|front| front.left().len() >= SNAPSHOT_BLOCK_BYTES)
    }

    /// Appends one chunk to `out`, if there is enough for one; tells whether it did.
    pub fn write_block(&mut self, out: &mut Vec<u8>) -> bool {
        let has_block = self.has_block();
        if has_block {
            self.write_waiting(out);
        }
        has_block
    }

    /// Appends what is left, and the trailer. When [`has_block`](SnapshotWriter::has_block) says no, that is one chunk
    /// and the trailer; otherwise it can be a long slice.
    #[must_use]
    pub fn finish(mut self, out: &mut Vec<u8>) -> SnapshotSummary {
        while !self.waiting.is_empty() {
            self.write_waiting(out);
        }
        let start = out.len();
        let raw = self.totals.encode();
        let content = ChunkContent {
            kind: ChunkKind::Trailer,
            section: NO_SECTION,
            number: self.totals.next_chunk(),
            raw: &raw,
        };
        self.encoder.encode_into(content, self.seed, out);
        self.totals.summary(out.len() - start)
    }

    /// Makes a chunk of the front of what waits.
    fn write_waiting(&mut self, out: &mut Vec<u8>) {
        let Some(front) = self.waiting.front_mut() else {
            panic!("a chunk is made of something");
        };
        let start = out.len();
        let left = front.left();
        let raw = &left[..left.len().min(SNAPSHOT_BLOCK_BYTES)];
        let raw_bytes = raw.len();
        let content = ChunkContent {
            kind: ChunkKind::Block,
            section: front.section,
            number: self.totals.next_chunk(),
            raw,
        };
        let header = self.encoder.encode_into(content, self.seed, out);
        let length = ChunkLength {
            raw_bytes,
            stored_bytes: out.len() - start - CHUNK_HEADER_BYTES,
        };
        let is_counted = self.totals.add(front.section, &header, length);
        assert!(is_counted, "more sections than a file can have");
        front.written_bytes += raw_bytes;
        if front.left().is_empty() {
            self.waiting.pop_front();
        }
    }
}

impl Waiting {
    fn left(&self) -> &[u8] {
        &self.bytes[self.written_bytes..]
    }

    /// Adds to the end. What has been written is dropped first, so that the buffer is as long as what waits.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.written_bytes);
        self.written_bytes = 0;
        self.bytes.extend_from_slice(bytes);
    }
}
