//! What a receiver answers to a hello.

use std::fmt;

use crate::peer::fault::AnswerFault;
use crate::peer::fields::{put, u16_at, u32_at, u64_at, u128_at};
use crate::peer::hello::{PEER_MAGIC, PEER_VERSIONS, PeerHello, VersionRange};
use crate::peer::{LocalPeer, PeerCore};

/// Length of an answer.
pub const PEER_ANSWER_BYTES: usize = 64;

/// Everything before the checksum is covered by it.
const CRC_OFFSET: usize = 60;

/// Why a connection is refused. A number is never given to another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// 1: the hello was damaged, or said what this version does not know.
    Damaged,
    /// 2: no common version.
    Version,
    /// 3: another cluster.
    Cluster,
    /// 4: this is not the core that is meant.
    Receiver,
    /// 5: the sender has this node's identity.
    Sender,
    /// 6: the cluster was formatted with other shards.
    InitialMap,
    /// 7: no such lane.
    Lane,
    /// 8: there are too many connections.
    Full,
    /// 9: the sender's data was formatted anew under the id of a node that has other data.
    OtherData,
    /// 10: the cluster was recovered without the sender.
    LeftOut,
    /// 11: the cluster was recovered without the receiver.
    NotRecovered,
    /// One of a newer version.
    Other(u16),
}

impl RefusalCode {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            RefusalCode::Damaged => 1,
            RefusalCode::Version => 2,
            RefusalCode::Cluster => 3,
            RefusalCode::Receiver => 4,
            RefusalCode::Sender => 5,
            RefusalCode::InitialMap => 6,
            RefusalCode::Lane => 7,
            RefusalCode::Full => 8,
            RefusalCode::OtherData => 9,
            RefusalCode::LeftOut => 10,
            RefusalCode::NotRecovered => 11,
            RefusalCode::Other(code) => code,
        }
    }

    /// The refusal of this number, `None` for the number of consent.
    #[must_use]
    pub const fn of_code(code: u16) -> Option<RefusalCode> {
        Some(match code {
            0 => return None,
            1 => RefusalCode::Damaged,
            2 => RefusalCode::Version,
            3 => RefusalCode::Cluster,
            4 => RefusalCode::Receiver,
            5 => RefusalCode::Sender,
            6 => RefusalCode::InitialMap,
            7 => RefusalCode::Lane,
            8 => RefusalCode::Full,
            9 => RefusalCode::OtherData,
            10 => RefusalCode::LeftOut,
            11 => RefusalCode::NotRecovered,
            code => RefusalCode::Other(code),
        })
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            RefusalCode::Damaged => "the hello was damaged",
            RefusalCode::Version => "no common version",
            RefusalCode::Cluster => "it is of another cluster",
            RefusalCode::Receiver => "it is not the core that was meant",
            RefusalCode::Sender => "it has the identity of this node",
            RefusalCode::InitialMap => {
                "its cluster was formatted with other shards, or recovered apart from this one"
            }
            RefusalCode::Lane => "it does not know the lane",
            RefusalCode::Full => "it has too many connections",
            RefusalCode::OtherData => {
                "this node was formatted anew under an id that has served: format it with an id that was never used, and have it take the place of the old one (metastore member replace)"
            }
            RefusalCode::LeftOut => {
                "the cluster was recovered without this node, whose data must not be used again: format it with an id that was never used and the file of the cluster as it is now, and add it (metastore member add)"
            }
            RefusalCode::NotRecovered => {
                "the cluster was recovered without it, or its part of the recovery has still to be done (metastore recover)"
            }
            RefusalCode::Other(code) => return write!(formatter, "reason {code}"),
        })
    }
}

/// Whether a connection is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerVerdict {
    /// Batches may follow.
    Accepted {
        /// The version that both ends speak from now on.
        version: u16,
    },
    /// Nothing may follow.
    Refused(RefusalCode),
}

/// The answer to a hello.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | magic "MSP1"                  | refusal       | version       |
///   8 | cluster (u128)                                                |
///  16 |                                                               |
///  24 | receiver's node (u32)         | its core      | version min   |
///  32 | receiver's incarnation (u64)                                  |
///  40 | epoch of the receiver's shard map (u64)                       |
///  48 | hash of the initial shard map (u64)                           |
///  56 | version max   | 0     | 0     | crc32 of all before           |
/// ```
///
/// The refusal is 0 where the connection is accepted; the version is 0 where it is refused. In either case the rest says
/// who answers, which is what was expected of the sender. It keeps this form in all versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAnswer {
    /// Whether the connection is accepted.
    pub verdict: PeerVerdict,
    /// Who answers.
    pub receiver: LocalPeer,
    /// What it speaks.
    pub versions: VersionRange,
}

impl PeerAnswer {
    /// An answer of this crate's versions.
    #[must_use]
    pub fn new(receiver: LocalPeer, verdict: PeerVerdict) -> PeerAnswer {
        PeerAnswer {
            verdict,
            receiver,
            versions: PEER_VERSIONS,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PEER_ANSWER_BYTES] {
        let mut bytes = [0; PEER_ANSWER_BYTES];
        let receiver = &self.receiver;
        let (refusal, version) = match self.verdict {
            PeerVerdict::Accepted { version } => (0, version),
            PeerVerdict::Refused(code) => (code.code(), 0),
        };
        put(&mut bytes, 0, PEER_MAGIC.to_le_bytes());
        put(&mut bytes, 4, refusal.to_le_bytes());
        put(&mut bytes, 6, version.to_le_bytes());
        put(&mut bytes, 8, receiver.cluster_id.to_le_bytes());
        put(&mut bytes, 24, receiver.core.node.to_le_bytes());
        put(&mut bytes, 28, receiver.core.core.to_le_bytes());
        put(&mut bytes, 30, self.versions.min.to_le_bytes());
        put(&mut bytes, 32, receiver.incarnation.to_le_bytes());
        put(&mut bytes, 40, receiver.map_epoch.to_le_bytes());
        put(&mut bytes, 48, receiver.initial_map_hash.to_le_bytes());
        put(&mut bytes, 56, self.versions.max.to_le_bytes());
        mend_answer(&mut bytes);
        bytes
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(bytes: &[u8; PEER_ANSWER_BYTES]) -> Result<PeerAnswer, AnswerFault> {
        let magic = u32_at(bytes, 0);
        if magic != PEER_MAGIC {
            return Err(AnswerFault::Magic { found: magic });
        }
        let (expected, found) = (
            crc32fast::hash(&bytes[..CRC_OFFSET]),
            u32_at(bytes, CRC_OFFSET),
        );
        if expected != found {
            return Err(AnswerFault::Checksum { expected, found });
        }
        let version = u16_at(bytes, 6);
        let verdict = match RefusalCode::of_code(u16_at(bytes, 4)) {
            None => PeerVerdict::Accepted { version },
            Some(_) if version != 0 => return Err(AnswerFault::Reserved { offset: 6 }),
            Some(code) => PeerVerdict::Refused(code),
        };
        if let Some(offset) = [58, 59].into_iter().find(|&offset| bytes[offset] != 0) {
            return Err(AnswerFault::Reserved { offset });
        }
        Ok(PeerAnswer {
            verdict,
            receiver: LocalPeer {
                cluster_id: u128_at(bytes, 8),
                core: PeerCore {
                    node: u32_at(bytes, 24),
                    core: u16_at(bytes, 28),
                },
                incarnation: u64_at(bytes, 32),
                map_epoch: u64_at(bytes, 40),
                initial_map_hash: u64_at(bytes, 48),
                data_id: 0,
                cluster_epoch: 0,
            },
            versions: VersionRange {
                min: u16_at(bytes, 30),
                max: u16_at(bytes, 56),
            },
        })
    }

    /// Whether who accepts is who was meant by `hello`. Of a refusal nothing is checked: it says who answers.
    ///
    /// # Errors
    /// Why the connection is of no use although it is accepted.
    pub fn check(&self, hello: &PeerHello) -> Result<(), AnswerFault> {
        let PeerVerdict::Accepted { version } = self.verdict else {
            return Ok(());
        };
        let (sender, receiver) = (&hello.sender, &self.receiver);
        if version < hello.versions.min || version > hello.versions.max {
            return Err(AnswerFault::Version { chosen: version });
        }
        if receiver.cluster_id != sender.cluster_id {
            return Err(AnswerFault::Cluster {
                expected: sender.cluster_id,
                found: receiver.cluster_id,
            });
        }
        if receiver.core != hello.receiver {
            return Err(AnswerFault::Receiver {
                expected: hello.receiver,
                found: receiver.core,
            });
        }
        if receiver.initial_map_hash != sender.initial_map_hash {
            return Err(AnswerFault::InitialMap {
                expected: sender.initial_map_hash,
                found: receiver.initial_map_hash,
            });
        }
        Ok(())
    }
}

/// Writes the right checksum into an answer.
pub(crate) fn mend_answer(bytes: &mut [u8; PEER_ANSWER_BYTES]) {
    let crc = crc32fast::hash(&bytes[..CRC_OFFSET]);
    put(bytes, CRC_OFFSET, crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::samples::{sample_answer, sample_hello, sample_refusal};

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        for answer in [sample_answer(), sample_refusal()] {
            assert_eq!(PeerAnswer::decode(&answer.encode()), Ok(answer));
            assert_eq!(answer.check(&sample_hello()), Ok(()));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = sample_answer().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 0x10;
            assert!(PeerAnswer::decode(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn what_no_answer_says_is_refused() {
        let changed = |answer: PeerAnswer, offset: usize| {
            let mut bytes = answer.encode();
            bytes[offset] = 1;
            mend_answer(&mut bytes);
            PeerAnswer::decode(&bytes)
        };
        for offset in [58, 59] {
            let refused = changed(sample_answer(), offset);
            assert_eq!(refused, Err(AnswerFault::Reserved { offset }));
        }
        let refused = changed(sample_refusal(), 6);
        assert_eq!(refused, Err(AnswerFault::Reserved { offset: 6 }));
    }

    #[test]
    fn consent_of_somebody_else_is_not_believed() {
        let of = |change: fn(&mut PeerAnswer)| {
            let mut changed = sample_answer();
            change(&mut changed);
            changed.check(&sample_hello()).unwrap_err()
        };
        let cluster = of(|answer| answer.receiver.cluster_id = 1);
        assert!(matches!(cluster, AnswerFault::Cluster { found: 1, .. }));
        let node = of(|answer| answer.receiver.core.node += 1);
        assert!(matches!(node, AnswerFault::Receiver { .. }));
        let core = of(|answer| answer.receiver.core.core += 1);
        assert!(matches!(core, AnswerFault::Receiver { .. }));
        let map = of(|answer| answer.receiver.initial_map_hash = 5);
        assert!(matches!(map, AnswerFault::InitialMap { found: 5, .. }));
        for version in [0, 2] {
            let mut changed = sample_answer();
            changed.verdict = PeerVerdict::Accepted { version };
            let fault = AnswerFault::Version { chosen: version };
            assert_eq!(changed.check(&sample_hello()), Err(fault));
        }
    }

    #[test]
    fn refusals_keep_their_numbers() {
        for code in 1..=20 {
            let refusal = RefusalCode::of_code(code).unwrap();
            assert_eq!(refusal.code(), code);
            assert_eq!(matches!(refusal, RefusalCode::Other(_)), code > 11);
        }
    }
}
