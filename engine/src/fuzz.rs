//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.

use metastore_wal::{CoreId, NodeId, ReplicaId};

use crate::membership::{Member, Membership};
use crate::peer::PeerCore;
pub use crate::peer::fuzz::{fuzz_peer_batch, mend_peer_batch, peer_batch_seeds};
pub use crate::snapshot::fuzz::{fuzz_snapshot, mend_snapshot};

/// A membership that can be read is written back as it was.
pub fn fuzz_members(data: &[u8]) -> bool {
    let Some(found) = Membership::decode(data) else {
        return false;
    };
    assert_eq!(found.encode(), data);
    true
}

/// Memberships of one voter, and of several.
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
    [&voters[..1], &voters[..]]
        .map(|voters| Membership::of_voters(voters).encode().to_vec())
        .to_vec()
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
