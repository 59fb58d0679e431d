//! The header of a record.

use super::bytes::{array_at, put, seeded_crc32, u16_at, u32_at, u64_at, u128_at};
use super::{BLOCK_BYTES, FORMAT_VERSION, FORMAT_VERSION_READER_MIN, NUMBER_MAX, SUB_HEADER_BYTES};
use crate::ids::{
    ClusterId, CoreId, Identity, NodeId, RecordSequence, RecoveryEpoch, SealKey, SegmentSequence,
};

/// The length of a record's header.
pub const RECORD_HEADER_BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"MSWALREC";
const SEAL_OFFSET: usize = 120;

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(8) && RECORD_HEADER_BYTES < BLOCK_BYTES);

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Parts of replicas.
    Parts,
    /// The first record of a segment: the state of every replica of the core.
    Checkpoint,
}

/// The header of a record.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | magic "MSWALREC"                                              |
///   8 | version       | min reader    | node                          |
///  16 | cluster                                                       |
///  24 |                                                               |
///  32 | core          | kind  | 0     | sub-header count              |
///  40 | segment sequence                                              |
///  48 | record sequence                                               |
///  56 | oldest live segment                                           |
///  64 | recovery epoch                                                |
///  72 | cut                                                           |
///  80 | watermark                                                     |
///  88 | digest of the previous record                                 |
///  96 | record length                 | payload length                |
/// 104 | checksum of sub-headers and payloads                          |
/// 112 |                                                               |
/// 120 | seal                          | header crc32                  |
/// ```
///
/// * The header has a checksum of its own, so that a record with a damaged body still names its replicas. Seeded with
///   segment and record sequence, it refuses what an earlier use of the file left behind.
/// * `oldest live segment`: a released file may be reused only once a durable record or mark names a newer one;
///   otherwise a crash inside the reuse would look like a missing segment.
/// * `cut`: the last record that survived the recovery which began this epoch. Records of older epochs above it are
///   void for ever, however intact they look.
/// * `watermark`: the newest record known to be durable when this one was built. It is what separates a torn tail,
///   which is cut, from damage, which is never cut.
/// * `digest of the previous record`: the xxh3-64 of the previous record's header, and so of its body's checksum.
/// * `seal`: the low half of the xxh3-64 of bytes 0 to 119, seeded with the log's secret. Recovery looks for records at
///   every block, and where a header is damaged that is in the middle of what clients wrote: only the seal tells a
///   record from a value that imitates one.
/// * `record length` counts everything with the padding, `payload length` what follows the sub-headers without it.
///
/// After a crash a record is there, or not, or torn, as long as no later record or mark covers it with its watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Whose record it is.
    pub identity: Identity,
    /// The version that wrote it.
    pub version: u16,
    /// What it is.
    pub kind: RecordKind,
    /// How many sub-headers follow.
    pub sub_header_count: u32,
    /// The segment it belongs to.
    pub segment: SegmentSequence,
    /// Its place among all records of the core.
    pub sequence: RecordSequence,
    /// The oldest segment still needed when it was built.
    pub oldest_live_segment: SegmentSequence,
    /// The epoch it was written in.
    pub epoch: RecoveryEpoch,
    /// The last record that survived the recovery which began this epoch.
    pub cut: RecordSequence,
    /// The newest record known to be durable when it was built.
    pub watermark: RecordSequence,
    /// The digest of the previous record, 0 for the very first.
    pub previous_digest: u64,
    /// Its length with padding.
    pub record_bytes: u32,
    /// The length of the payloads.
    pub payload_bytes: u32,
    /// The xxh3-128 of sub-headers and payloads.
    pub body_checksum: u128,
}

/// Why bytes are not the header of a record of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// No checksum matches: no header, or a damaged one.
    Unreadable,
    /// The checksum matches, but the fields contradict each other.
    Malformed,
    /// The checksum matches and the seal does not: another log's record, or a client's imitation.
    Unsealed {
        /// Whose record it claims to be.
        identity: Identity,
    },
    /// A reader of a later version is needed.
    NewerFormat {
        /// The lowest reader it asks for.
        reader_min: u16,
    },
}

impl RecordHeader {
    /// Writes the header into the first [`RECORD_HEADER_BYTES`] of `bytes` and returns its digest.
    pub(crate) fn encode(&self, bytes: &mut [u8], seal: SealKey) -> u64 {
        let bytes = &mut bytes[..RECORD_HEADER_BYTES];
        bytes.fill(0);
        put(bytes, 0, MAGIC);
        put(bytes, 8, self.version.to_le_bytes());
        put(bytes, 10, FORMAT_VERSION_READER_MIN.to_le_bytes());
        put(bytes, 12, self.identity.node.0.to_le_bytes());
        put(bytes, 16, self.identity.cluster.0.to_le_bytes());
        put(bytes, 32, self.identity.core.0.to_le_bytes());
        bytes[34] = match self.kind {
            RecordKind::Parts => 0,
            RecordKind::Checkpoint => 1,
        };
        put(bytes, 36, self.sub_header_count.to_le_bytes());
        put(bytes, 40, self.segment.0.to_le_bytes());
        put(bytes, 48, self.sequence.0.to_le_bytes());
        put(bytes, 56, self.oldest_live_segment.0.to_le_bytes());
        put(bytes, 64, self.epoch.0.to_le_bytes());
        put(bytes, 72, self.cut.0.to_le_bytes());
        put(bytes, 80, self.watermark.0.to_le_bytes());
        put(bytes, 88, self.previous_digest.to_le_bytes());
        put(bytes, 96, self.record_bytes.to_le_bytes());
        put(bytes, 100, self.payload_bytes.to_le_bytes());
        put(bytes, 104, self.body_checksum.to_le_bytes());
        let sealed = seal_of(bytes, seal);
        put(bytes, SEAL_OFFSET, sealed.to_le_bytes());
        let crc = seeded_crc32(
            self.segment,
            self.sequence,
            &bytes[..RECORD_HEADER_BYTES - 4],
        );
        put(bytes, RECORD_HEADER_BYTES - 4, crc.to_le_bytes());
        digest(bytes)
    }

    /// Reads the header at the start of `bytes`, and its digest.
    ///
    /// # Errors
    /// Says why it is none. Whose log it belongs to is for the caller to check.
    pub fn decode(bytes: &[u8], seal: SealKey) -> Result<(Self, u64), HeaderFault> {
        let Some(bytes) = bytes.get(..RECORD_HEADER_BYTES) else {
            return Err(HeaderFault::Unreadable);
        };
        if array_at(bytes, 0) != MAGIC {
            return Err(HeaderFault::Unreadable);
        }
        let segment = SegmentSequence(u64_at(bytes, 40));
        let sequence = RecordSequence(u64_at(bytes, 48));
        let crc = seeded_crc32(segment, sequence, &bytes[..RECORD_HEADER_BYTES - 4]);
        if crc != u32_at(bytes, RECORD_HEADER_BYTES - 4) {
            return Err(HeaderFault::Unreadable);
        }
        if seal_of(bytes, seal) != u32_at(bytes, SEAL_OFFSET) {
            let identity = identity_at(bytes);
            return Err(HeaderFault::Unsealed { identity });
        }
        let reader_min = u16_at(bytes, 10);
        if reader_min > FORMAT_VERSION {
            return Err(HeaderFault::NewerFormat { reader_min });
        }
        let kind = match bytes[34] {
            0 => RecordKind::Parts,
            1 => RecordKind::Checkpoint,
            _ => return Err(HeaderFault::Malformed),
        };
        let header = Self {
            identity: identity_at(bytes),
            version: u16_at(bytes, 8),
            kind,
            sub_header_count: u32_at(bytes, 36),
            segment,
            sequence,
            oldest_live_segment: SegmentSequence(u64_at(bytes, 56)),
            epoch: RecoveryEpoch(u64_at(bytes, 64)),
            cut: RecordSequence(u64_at(bytes, 72)),
            watermark: RecordSequence(u64_at(bytes, 80)),
            previous_digest: u64_at(bytes, 88),
            record_bytes: u32_at(bytes, 96),
            payload_bytes: u32_at(bytes, 100),
            body_checksum: u128_at(bytes, 104),
        };
        if header.is_consistent() {
            Ok((header, digest(bytes)))
        } else {
            Err(HeaderFault::Malformed)
        }
    }

    /// The length of sub-headers and payloads.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.sub_header_count as usize * SUB_HEADER_BYTES + self.payload_bytes as usize
    }

    fn is_consistent(&self) -> bool {
        let used = RECORD_HEADER_BYTES as u64
            + u64::from(self.sub_header_count) * SUB_HEADER_BYTES as u64
            + u64::from(self.payload_bytes);
        let numbers = [self.segment.0, self.sequence.0, self.epoch.0];
        numbers.iter().all(|&number| number <= NUMBER_MAX)
            && self.segment.0 > 0
            && self.sequence.0 > 0
            && self.watermark < self.sequence
            && self.cut < self.sequence
            && self.oldest_live_segment <= self.segment
            && u64::from(self.record_bytes) == used.next_multiple_of(BLOCK_BYTES as u64)
    }
}

/// A block that is no valid record but looks as if one had been there: what a torn or damaged header left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderRemains {
    /// The segment it claims.
    pub(crate) segment: SegmentSequence,
    /// The record sequence it claims.
    pub(crate) sequence: RecordSequence,
}

impl HeaderRemains {
    /// Two of magic, cluster and owner have survived. No decision about data rests on it: it only tells an operator
    /// where to look, and a torn tail from unused space.
    pub(crate) fn find(bytes: &[u8], identity: &Identity) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
        let found = identity_at(bytes);
        let has_magic = array_at(bytes, 0) == MAGIC;
        let has_cluster = found.cluster == identity.cluster && found.cluster.0 != 0;
        let has_owner = (found.node, found.core) == (identity.node, identity.core);
        let marks = usize::from(has_magic) + usize::from(has_cluster) + usize::from(has_owner);
        (marks >= 2 && (has_magic || has_cluster)).then(|| Self {
            segment: SegmentSequence(u64_at(bytes, 40)),
            sequence: RecordSequence(u64_at(bytes, 48)),
        })
    }
}

fn identity_at(bytes: &[u8]) -> Identity {
    Identity {
        cluster: ClusterId(u128_at(bytes, 16)),
        node: NodeId(u32_at(bytes, 12)),
        core: CoreId(u16_at(bytes, 32)),
    }
}

/// The seal of a header.
pub(super) fn seal_of(header: &[u8], key: SealKey) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&header[..SEAL_OFFSET], key.0);
    hash as u32
}

/// What the next record says about this one.
fn digest(header: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(header)
}
