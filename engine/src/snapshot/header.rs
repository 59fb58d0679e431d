//! The header of a snapshot file: whose it is.

use metastore_wal::{ClusterId, LogIndex, NodeId, ReplicaId, ShardId, Term};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::error::{SnapshotError, SnapshotPart};
use super::{SNAPSHOT_VERSION, SNAPSHOT_VERSION_READER_MIN};
use crate::fields::{array_at, length_u32, put, u16_at, u32_at, u64_at, u128_at};

/// Length of the fixed part of the header.
pub const SNAPSHOT_HEADER_BYTES: usize = 80;

/// Longest list of members.
pub const SNAPSHOT_MEMBERS_BYTES_MAX: usize = 64 * 1024;

const MAGIC: [u8; 8] = *b"MSSNAPSH";
const MEMBERS_CHECKSUM_OFFSET: usize = 64;
const CHECKSUM_OFFSET: usize = 72;

const _: () = assert!(CHECKSUM_OFFSET + 8 == SNAPSHOT_HEADER_BYTES);

/// Whose snapshot a file holds, and of which moment.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | magic "MSSNAPSH"                                              |
///  8 | version       | min reader    | node                          |
/// 16 | cluster                                                       |
/// 24 |                                                               |
/// 32 | shard                         | length of members             |
/// 40 | replica                                                       |
/// 48 | index                                                         |
/// 56 | term                                                          |
/// 64 | xxh3-64 of the members, seeded with the index                 |
/// 72 | xxh3-64 of everything above: the seed of the whole file       |
/// 80 | members ...                                                   |
/// ```
///
/// * `index`, `term`: the last log entry that is in the state, and its term.
/// * `node`: who wrote it; for people. A snapshot may be sent to another node.
/// * The fixed part has a checksum of its own, so that the length of the members is trusted before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that wrote it.
    pub node: NodeId,
    /// The raft group.
    pub shard: ShardId,
    /// The replica whose state it is.
    pub replica: ReplicaId,
    /// The last entry that is in the state.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
    /// The members of the shard at that index, as they stand in the log.
    pub members: Vec<u8>,
}

/// The fixed part, read.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Without the members.
    pub(super) identity: SnapshotIdentity,
    pub(super) members_bytes: usize,
    members_checksum: u64,
    pub(super) seed: FileSeed,
}

/// What every checksum of a file is seeded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSeed(pub(super) u64);

impl SnapshotIdentity {
    /// Appends header and members to `out`.
    ///
    /// # Panics
    /// When there are more members than a file can name.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) -> FileSeed {
        assert!(
            self.members.len() <= SNAPSHOT_MEMBERS_BYTES_MAX,
            "too many members for a snapshot"
        );
        let mut bytes = [0; SNAPSHOT_HEADER_BYTES];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, SNAPSHOT_VERSION.to_le_bytes());
        put(&mut bytes, 10, SNAPSHOT_VERSION_READER_MIN.to_le_bytes());
        put(&mut bytes, 12, self.node.0.to_le_bytes());
        put(&mut bytes, 16, self.cluster.0.to_le_bytes());
        put(&mut bytes, 32, self.shard.0.to_le_bytes());
        put(&mut bytes, 36, length_u32(self.members.len()).to_le_bytes());
        put(&mut bytes, 40, self.replica.0.to_le_bytes());
        put(&mut bytes, 48, self.index.0.to_le_bytes());
        put(&mut bytes, 56, self.term.0.to_le_bytes());
        let members = xxh3_64_with_seed(&self.members, self.index.0);
        put(&mut bytes, MEMBERS_CHECKSUM_OFFSET, members.to_le_bytes());
        let seed = xxh3_64(&bytes[..CHECKSUM_OFFSET]);
        put(&mut bytes, CHECKSUM_OFFSET, seed.to_le_bytes());
        out.extend_from_slice(&bytes);
        out.extend_from_slice(&self.members);
        FileSeed(seed)
    }

    /// Whether a file is the one that was asked for. Which replica wrote it does not matter: all of a
    /// shard have the same state at an index. Neither do the members, which the log names as of the same index.
    pub(super) fn check_same(&self, found: &SnapshotIdentity) -> Result<(), SnapshotError> {
        let fields = [
            ("cluster", self.cluster.0, found.cluster.0),
            ("shard", self.shard.0.into(), found.shard.0.into()),
            ("index", self.index.0.into(), found.index.0.into()),
            ("term", self.term.0.into(), found.term.0.into()),
        ];
        for (field, expected, found) in fields {
            if expected != found {
                return Err(SnapshotError::WrongIdentity {
                    field,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

impl Header {
    /// Reads the fixed part.
    pub(super) fn decode(bytes: &[u8; SNAPSHOT_HEADER_BYTES]) -> Result<Header, SnapshotError> {
        let part = SnapshotPart::Header;
        if array_at(bytes, 0) != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let seed = u64_at(bytes, CHECKSUM_OFFSET);
        if seed != xxh3_64(&bytes[..CHECKSUM_OFFSET]) {
            return Err(SnapshotError::Checksum { offset: 0, part });
        }
        let reader_min = u16_at(bytes, 10);
        if reader_min > SNAPSHOT_VERSION {
            return Err(SnapshotError::NewerFormat { reader_min });
        }
        let members_bytes = u32_at(bytes, 36) as usize;
        if members_bytes > SNAPSHOT_MEMBERS_BYTES_MAX {
            return Err(SnapshotError::Malformed {
                offset: 0,
                part,
                what: "the length of the members",
                found: members_bytes as u64,
            });
        }
        Ok(Header {
            identity: SnapshotIdentity {
                cluster: ClusterId(u128_at(bytes, 16)),
                node: NodeId(u32_at(bytes, 12)),
                shard: ShardId(u32_at(bytes, 32)),
                replica: ReplicaId(u64_at(bytes, 40)),
                index: LogIndex(u64_at(bytes, 48)),
                term: Term(u64_at(bytes, 56)),
                members: Vec::new(),
            },
            members_bytes,
            members_checksum: u64_at(bytes, MEMBERS_CHECKSUM_OFFSET),
            seed: FileSeed(seed),
        })
    }

    /// The identity with the members, which follow the fixed part.
    pub(super) fn with_members(self, members: &[u8]) -> Result<SnapshotIdentity, SnapshotError> {
        let checksum = xxh3_64_with_seed(members, self.identity.index.0);
        if checksum != self.members_checksum {
            return Err(SnapshotError::Checksum {
                offset: SNAPSHOT_HEADER_BYTES as u64,
                part: SnapshotPart::Members,
            });
        }
        Ok(SnapshotIdentity {
            members: members.to_vec(),
            ..self.identity
        })
    }
}
