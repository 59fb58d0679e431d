//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.

use metastore_wal::{CoreId, LogIndex, NodeId, ReplicaId};

use crate::membership::{ForcedMembers, Member, Membership};
use crate::peer::PeerCore;
pub use crate::peer::fuzz::{fuzz_peer_batch, mend_peer_batch, peer_batch_seeds};
pub use crate::snapshot::fuzz::{fuzz_snapshot, mend_snapshot};

/// A membership that can be read is written back as it was, and so are members that were set by force.
pub fn fuzz_members(data: &[u8]) -> bool {
    let forced = ForcedMembers::decode(data).map(|forced| forced.encode());
    let found = Membership::decode(data).map(|found| found.encode());
    match forced.or(found) {
        Some(encoded) => {
            assert_eq!(encoded, data);
            true
        }
        None => false,
    }
}

/// Memberships of one voter, of several, and of one that was set by force.
#[must_use]
pub fn members_seeds() -> Vec<Vec<u8>> {
    let member = |replica: u32| Member {
        replica: ReplicaId(u64::from(replica)),
        home: PeerCore {
            node: NodeId(replica),
            core: CoreId(0),
        },
    };
    let voters = [1, 2, 9].map(member);
    let forced = ForcedMembers {
        epoch: 1,
        recovery: 2,
        newest: ReplicaId(9),
        revisions_passed: 3,
        passed_behind: LogIndex(4),
        voter: voters[0],
    };
    let groups = [&voters[..1], &voters[..]];
    let groups = groups.map(|voters| Membership::of_voters(voters).encode());
    let seeds = groups.into_iter().chain([forced.encode()]);
    seeds.map(|seed| seed.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_are_read_or_refused() {
        for seed in members_seeds() {
            assert!(fuzz_members(&seed));
            for length in 0..seed.len() {
                assert!(!fuzz_members(&seed[..length]));
            }
        }
    }
}
