//! What a sender says first.

use crate::peer::fault::HelloFault;
use crate::peer::fields::{put, u16_at, u32_at, u64_at, u128_at};
use crate::peer::{LocalPeer, PeerCore, PeerLane};

/// The first four bytes of a hello and of its answer, `MSP1`.
pub const PEER_MAGIC: u32 = u32::from_le_bytes(*b"MSP1");

/// The versions of the connection between cores that this crate speaks.
pub const PEER_VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// Length of a hello.
pub const PEER_HELLO_BYTES: usize = 80;

/// Everything before the checksum is covered by it.
const CRC_OFFSET: usize = 76;

/// Versions that one end speaks, both ends of the range included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl VersionRange {
    /// The highest version that both speak.
    #[must_use]
    pub fn choose_common(self, other: VersionRange) -> Option<u16> {
        let highest = self.max.min(other.max);
        (highest >= self.min.max(other.min)).then_some(highest)
    }
}

/// Who connects, and whom it means to reach.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | magic "MSP1"                  | version min   | version max   |
///   8 | cluster (u128)                                                |
///  16 |                                                               |
///  24 | sender's node (u32)           | receiver's node (u32)         |
///  32 | sender's core | receiver's    | lane  | 0     | 0     | 0     |
///  40 | sender's incarnation (u64)                                    |
///  48 | epoch of the sender's shard map (u64)                         |
///  56 | hash of the initial shard map (u64)                           |
///  64 | data id of the sender's node (u64)                            |
///  72 | epoch of the cluster (u32)    | crc32 of all before           |
/// ```
///
/// It keeps this form in all versions, so that ends without a common one can say so. The epoch is for people: maps of
/// different age are no reason not to talk. Initial maps that differ are, because then the ends mean different replicas
/// by the same numbers. Epochs of the cluster that differ are, because one of the ends was left out when the cluster was
/// recovered, and remembers a past that the other has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHello {
    /// What the sender speaks.
    pub versions: VersionRange,
    /// Who connects.
    pub sender: LocalPeer,
    /// Whom it means to reach.
    pub receiver: PeerCore,
    /// What the connection is to carry.
    pub lane: PeerLane,
}

impl PeerHello {
    /// A hello of this crate's versions.
    #[must_use]
    pub fn new(sender: LocalPeer, receiver: PeerCore, lane: PeerLane) -> PeerHello {
        PeerHello {
            versions: PEER_VERSIONS,
            sender,
            receiver,
            lane,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PEER_HELLO_BYTES] {
        let mut bytes = [0; PEER_HELLO_BYTES];
        let sender = &self.sender;
        put(&mut bytes, 0, PEER_MAGIC.to_le_bytes());
        put(&mut bytes, 4, self.versions.min.to_le_bytes());
        put(&mut bytes, 6, self.versions.max.to_le_bytes());
        put(&mut bytes, 8, sender.cluster_id.to_le_bytes());
        put(&mut bytes, 24, sender.core.node.to_le_bytes());
        put(&mut bytes, 28, self.receiver.node.to_le_bytes());
        put(&mut bytes, 32, sender.core.core.to_le_bytes());
        put(&mut bytes, 34, self.receiver.core.to_le_bytes());
        put(&mut bytes, 36, [self.lane.code()]);
        put(&mut bytes, 40, sender.incarnation.to_le_bytes());
        put(&mut bytes, 48, sender.map_epoch.to_le_bytes());
        put(&mut bytes, 56, sender.initial_map_hash.to_le_bytes());
        put(&mut bytes, 64, sender.data_id.to_le_bytes());
        put(&mut bytes, 72, sender.cluster_epoch.to_le_bytes());
        mend_hello(&mut bytes);
        bytes
    }

    /// Reads a hello, or says what it is instead. Whether its sender is welcome is another question:
    /// [`PeerHello::check`].
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(bytes: &[u8; PEER_HELLO_BYTES]) -> Result<PeerHello, HelloFault> {
        let magic = u32_at(bytes, 0);
        if magic != PEER_MAGIC {
            return Err(HelloFault::Magic { found: magic });
        }
        let (expected, found) = (
            crc32fast::hash(&bytes[..CRC_OFFSET]),
            u32_at(bytes, CRC_OFFSET),
        );
        if expected != found {
            return Err(HelloFault::Checksum { expected, found });
        }
        let offered = VersionRange {
            min: u16_at(bytes, 4),
            max: u16_at(bytes, 6),
        };
        // What else a newer version means by its fields is not known here.
        if offered.choose_common(PEER_VERSIONS).is_none() {
            return Err(HelloFault::Version { offered });
        }
        let reserved = [37, 38, 39];
        if let Some(offset) = reserved.into_iter().find(|&offset| bytes[offset] != 0) {
            return Err(HelloFault::Reserved { offset });
        }
        let lane = PeerLane::of_code(bytes[36]).ok_or(HelloFault::Lane { code: bytes[36] })?;
        Ok(PeerHello {
            versions: offered,
            sender: LocalPeer {
                cluster_id: u128_at(bytes, 8),
                core: PeerCore {
                    node: u32_at(bytes, 24),
                    core: u16_at(bytes, 32),
                },
                incarnation: u64_at(bytes, 40),
                map_epoch: u64_at(bytes, 48),
                initial_map_hash: u64_at(bytes, 56),
                data_id: u64_at(bytes, 64),
                cluster_epoch: u32_at(bytes, 72),
            },
            receiver: PeerCore {
                node: u32_at(bytes, 28),
                core: u16_at(bytes, 34),
            },
            lane,
        })
    }

    /// Whether `local` is whom the sender means, and the sender one of its cluster. Tells the version to speak.
    ///
    /// # Errors
    /// Why the sender is not welcome.
    pub fn check(&self, local: &LocalPeer) -> Result<u16, HelloFault> {
        let version = self.versions.choose_common(PEER_VERSIONS);
        let version = version.ok_or(HelloFault::Version {
            offered: self.versions,
        })?;
        if self.sender.cluster_id != local.cluster_id {
            return Err(HelloFault::Cluster {
                expected: local.cluster_id,
                found: self.sender.cluster_id,
            });
        }
        if self.receiver != local.core {
            return Err(HelloFault::Receiver {
                expected: local.core,
                found: self.receiver,
            });
        }
        // Cores of one node have their mesh; who claims to be of this node is another node with its identity.
        if self.sender.core.node == local.core.node {
            return Err(HelloFault::Sender {
                found: self.sender.core,
            });
        }
        if self.sender.cluster_epoch != local.cluster_epoch {
            return Err(HelloFault::Epoch {
                expected: local.cluster_epoch,
                found: self.sender.cluster_epoch,
            });
        }
        if self.sender.initial_map_hash != local.initial_map_hash {
            return Err(HelloFault::InitialMap {
                expected: local.initial_map_hash,
                found: self.sender.initial_map_hash,
            });
        }
        Ok(version)
    }
}

/// Writes the right checksum into a hello.
pub(crate) fn mend_hello(bytes: &mut [u8; PEER_HELLO_BYTES]) {
    let crc = crc32fast::hash(&bytes[..CRC_OFFSET]);
    put(bytes, CRC_OFFSET, crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::samples::{receiver, sample_hello};

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        for lane in PeerLane::ALL {
            let hello = PeerHello {
                lane,
                ..sample_hello()
            };
            assert_eq!(PeerHello::decode(&hello.encode()), Ok(hello));
            assert_eq!(hello.check(&receiver()), Ok(1));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = sample_hello().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 0x10;
            let fault = PeerHello::decode(&changed).unwrap_err();
            let is_magic = matches!(fault, HelloFault::Magic { .. });
            let is_checksum = matches!(fault, HelloFault::Checksum { .. });
            assert!(if at < 4 { is_magic } else { is_checksum }, "{at}: {fault}");
        }
    }

    #[test]
    fn what_no_hello_says_is_refused_by_name() {
        let changed = |offset: usize, value: u8| {
            let mut bytes = sample_hello().encode();
            bytes[offset] = value;
            mend_hello(&mut bytes);
            PeerHello::decode(&bytes).unwrap_err()
        };
        assert_eq!(changed(36, 0), HelloFault::Lane { code: 0 });
        assert_eq!(changed(36, 4), HelloFault::Lane { code: 4 });
        for offset in [37, 38, 39] {
            assert_eq!(changed(offset, 1), HelloFault::Reserved { offset });
        }
        // From 257 on, and none at all.
        let of = |min, max| HelloFault::Version {
            offered: VersionRange { min, max },
        };
        assert_eq!(changed(5, 1), of(257, 1));
        assert_eq!(changed(6, 0), of(1, 0));
    }

    #[test]
    fn who_is_not_meant_or_not_of_the_cluster_is_refused() {
        let (hello, local) = (sample_hello(), receiver());
        let of = |change: fn(&mut PeerHello)| {
            let mut changed = hello;
            change(&mut changed);
            changed.check(&local).unwrap_err()
        };
        let cluster = of(|hello| hello.sender.cluster_id = 1);
        assert!(matches!(cluster, HelloFault::Cluster { found: 1, .. }));
        let node = of(|hello| hello.receiver.node += 1);
        assert!(matches!(node, HelloFault::Receiver { .. }));
        let core = of(|hello| hello.receiver.core += 1);
        assert!(matches!(core, HelloFault::Receiver { .. }));
        let sender = of(|hello| hello.sender.core.node = hello.receiver.node);
        assert!(matches!(sender, HelloFault::Sender { .. }));
        let map = of(|hello| hello.sender.initial_map_hash = 5);
        assert!(matches!(map, HelloFault::InitialMap { found: 5, .. }));
        // Whoever was left out of a recovery, or was in one that this end was left out of.
        let epoch =
            of(|hello| (hello.sender.cluster_epoch, hello.sender.initial_map_hash) = (1, 5));
        assert!(matches!(epoch, HelloFault::Epoch { found: 1, .. }));
        let version = of(|hello| hello.versions = VersionRange { min: 2, max: 9 });
        assert!(matches!(version, HelloFault::Version { .. }));
        // A map of another age is none of these.
        let mut newer = hello;
        newer.sender.map_epoch += 7;
        assert_eq!(newer.check(&local), Ok(1));
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).choose_common(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).choose_common(range(1, 3)), Some(3));
        assert_eq!(range(4, 5).choose_common(range(1, 3)), None);
        assert_eq!(range(3, 2).choose_common(range(1, 9)), None);
    }
}
