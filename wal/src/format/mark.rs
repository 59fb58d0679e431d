//! The mark: where the watermark is kept while no record carries it.

use super::bytes::{array_at, put, u16_at, u32_at, u64_at, u128_at};
use super::{BLOCK_BYTES, FORMAT_VERSION, FORMAT_VERSION_READER_MIN, NUMBER_MAX};
use crate::ids::{
    ClusterId, CoreId, Identity, NodeId, RecordSequence, RecoveryEpoch, SegmentSequence,
};

const MAGIC: [u8; 8] = *b"MSWALMRK";
const CRC_OFFSET: usize = BLOCK_BYTES - 4;

/// One of the two blocks of the mark file. They are written in turn, so that a torn write leaves the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkSlot {
    /// The block at offset 0.
    First,
    /// The block at offset 4096.
    Second,
}

impl MarkSlot {
    /// Both, in the order of the file.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// Where the block begins in the mark file.
    #[must_use]
    pub fn offset(self) -> u64 {
        match self {
            Self::First => 0,
            Self::Second => BLOCK_BYTES as u64,
        }
    }

    /// The other block.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A mark block.
///
/// ```text
///       0       1       2       3       4       5       6       7
///    0 | magic "MSWALMRK"                                              |
///    8 | version       | min reader    | node                          |
///   16 | cluster                                                       |
///   24 |                                                               |
///   32 | core          | 0                                             |
///   40 | generation                                                    |
///   48 | watermark                                                     |
///   56 | segment sequence                                              |
///   64 | oldest live segment                                           |
///   72 | recovery epoch                                                |
///   80 | 0 ...                                                         |
/// 4088 | 0                             | crc32 of all before           |
/// ```
///
/// * `generation` grows with every mark: the higher of two valid blocks is the newer, and the other is written next.
/// * `watermark`: every record up to it was durable when the mark was written.
/// * `segment sequence`: the segment that was being written, which tells a lost segment from one never begun.
///
/// After a crash one block may be torn. It then says nothing, and the other one still says what was true before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose mark it is.
    pub identity: Identity,
    /// Grows with every mark.
    pub generation: u64,
    /// Every record up to it is durable.
    pub watermark: RecordSequence,
    /// The segment being written.
    pub segment: SegmentSequence,
    /// The oldest segment still needed.
    pub oldest_live_segment: SegmentSequence,
    /// The epoch it was written in.
    pub epoch: RecoveryEpoch,
}

/// Why a block is not a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkFault {
    /// Torn or damaged, or it counts further than any log lives.
    Unreadable,
    /// A reader of a later version is needed.
    NewerFormat {
        /// The lowest reader it asks for.
        reader_min: u16,
    },
}

/// What one of the two blocks turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkState {
    /// There is no block, or it was never written.
    Unwritten,
    /// Torn or damaged: it says nothing.
    Unreadable,
    /// A mark.
    Valid(Mark),
}

impl Mark {
    /// Writes the block into `block`, which is one block long.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES, "a mark is one block");
        block.fill(0);
        put(block, 0, MAGIC);
        put(block, 8, FORMAT_VERSION.to_le_bytes());
        put(block, 10, FORMAT_VERSION_READER_MIN.to_le_bytes());
        put(block, 12, self.identity.node.0.to_le_bytes());
        put(block, 16, self.identity.cluster.0.to_le_bytes());
        put(block, 32, self.identity.core.0.to_le_bytes());
        put(block, 40, self.generation.to_le_bytes());
        put(block, 48, self.watermark.0.to_le_bytes());
        put(block, 56, self.segment.0.to_le_bytes());
        put(block, 64, self.oldest_live_segment.0.to_le_bytes());
        put(block, 72, self.epoch.0.to_le_bytes());
        let crc = crc32fast::hash(&block[..CRC_OFFSET]);
        put(block, CRC_OFFSET, crc.to_le_bytes());
    }

    /// Reads a block.
    ///
    /// # Errors
    /// Says why it is no mark. Whose log it belongs to is for the caller to check.
    pub fn decode(block: &[u8]) -> Result<Self, MarkFault> {
        if block.len() != BLOCK_BYTES
            || array_at(block, 0) != MAGIC
            || crc32fast::hash(&block[..CRC_OFFSET]) != u32_at(block, CRC_OFFSET)
        {
            return Err(MarkFault::Unreadable);
        }
        let reader_min = u16_at(block, 10);
        if reader_min > FORMAT_VERSION {
            return Err(MarkFault::NewerFormat { reader_min });
        }
        let mark = Self {
            identity: Identity {
                cluster: ClusterId(u128_at(block, 16)),
                node: NodeId(u32_at(block, 12)),
                core: CoreId(u16_at(block, 32)),
            },
            generation: u64_at(block, 40),
            watermark: RecordSequence(u64_at(block, 48)),
            segment: SegmentSequence(u64_at(block, 56)),
            oldest_live_segment: SegmentSequence(u64_at(block, 64)),
            epoch: RecoveryEpoch(u64_at(block, 72)),
        };
        let numbers = [
            mark.generation,
            mark.watermark.0,
            mark.segment.0,
            mark.oldest_live_segment.0,
            mark.epoch.0,
        ];
        if numbers.iter().all(|&number| number <= NUMBER_MAX) {
            Ok(mark)
        } else {
            Err(MarkFault::Unreadable)
        }
    }
}
