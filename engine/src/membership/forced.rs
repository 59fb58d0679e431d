//! Members that were set without a vote, because those who could have voted are lost.

use bytes::{BufMut, Bytes, BytesMut};
use metastore_wal::{LogIndex, ReplicaId};

use super::{BadChange, MEMBER_BYTES, Member, Membership, put_member, split_member};

/// Changes that are decided by a group have version 1.
const VERSION: u16 = 2;
const HEAD_BYTES: usize = 48;
const VOTE: u8 = 1;

/// What stands in the log where a shard goes on with one copy, after most of its voters were lost for good.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  +-------+-------+-------+-------+-------+-------+-------+-------+
///  | version (u16), 2              | epoch of the cluster (u32)    |
///  +---------------+---------------+-------------------------------+
///  | recovery (u128)                                               |
///  |                                                               |
///  +---------------------------------------------------------------+
///  | newest replica (u64)                                          |
///  +---------------------------------------------------------------+
///  | revisions that are passed over (u64)                          |
///  +---------------------------------------------------------------+
///  | entry behind which they are passed over (u64)                 |
///  +---------------------------------------------------------------+
///  | replica (u64)                                                 |   the only one that is left
///  +-------------------------------+---------------+-------+-------+
///  | node (u32)                    | core (u16)    | 1     | 0     |
///  +-------------------------------+---------------+-------+-------+
/// ```
///
/// * epoch and recovery: how many times the cluster was recovered, this time included, and the number that was drawn for
///   it. They say where the entry is from; nothing is decided by them.
/// * newest replica: the newest that any copy knew of, so that those who are left out are known to be gone.
/// * revisions that are passed over: what was acknowledged and is lost had revisions of its own. None of them is ever
///   given to something else.
/// * entry behind which they are passed over: it and all before it are known to be decided, so what they made is what the
///   lost copies had too. What follows them here may be other than what followed there.
///
/// Nobody is sent it as an entry: whoever joins later begins with a snapshot that lies behind it. So raft never has to
/// make the change while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForcedMembers {
    pub(crate) epoch: u32,
    pub(crate) recovery: u128,
    pub(crate) newest: ReplicaId,
    pub(crate) revisions_passed: u64,
    pub(crate) passed_behind: LogIndex,
    pub(crate) voter: Member,
}

impl ForcedMembers {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + MEMBER_BYTES);
        bytes.put_u16_le(VERSION);
        bytes.put_u16_le(0);
        bytes.put_u32_le(self.epoch);
        bytes.put_u128_le(self.recovery);
        bytes.put_u64_le(self.newest.0);
        bytes.put_u64_le(self.revisions_passed);
        bytes.put_u64_le(self.passed_behind.0);
        put_member(&mut bytes, self.voter, VOTE);
        bytes.freeze()
    }

    /// Reads one; `None` when the bytes are something else, such as a change that a group has decided.
    pub(crate) fn decode(bytes: &[u8]) -> Option<ForcedMembers> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let member: &[u8; MEMBER_BYTES] = rest.try_into().ok()?;
        let (version, head) = head.split_first_chunk::<4>()?;
        let (epoch, head) = head.split_first_chunk::<4>()?;
        let (recovery, head) = head.split_first_chunk::<16>()?;
        let (newest, head) = head.split_first_chunk::<8>()?;
        let (revisions, head) = head.split_first_chunk::<8>()?;
        let passed_behind: &[u8; 8] = head.try_into().ok()?;
        let (voter, code) = split_member(member)?;
        let is_one = u32::from_le_bytes(*version) == u32::from(VERSION) && code == VOTE;
        is_one.then_some(ForcedMembers {
            epoch: u32::from_le_bytes(*epoch),
            recovery: u128::from_le_bytes(*recovery),
            newest: ReplicaId(u64::from_le_bytes(*newest)),
            revisions_passed: u64::from_le_bytes(*revisions),
            passed_behind: LogIndex(u64::from_le_bytes(*passed_behind)),
            voter,
        })
    }
}

impl Membership {
    /// The members after they were set, whatever they were before: a joint state ends here, and a change that was not
    /// decided may have removed the one that is left.
    pub(crate) fn after_force(&self, forced: &ForcedMembers) -> Result<Membership, BadChange> {
        let replica = forced.voter.replica;
        let known = self.home_of(replica);
        if known.is_some_and(|home| home != forced.voter.home) {
            return Err(BadChange::LivesElsewhere { replica });
        }
        let mut after = Membership::of_voters(&[forced.voter]);
        after.newest = self.newest.max(forced.newest).max(replica);
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use metastore_wal::{CoreId, NodeId};

    use super::super::{Fate, MembershipChange, Standing, Step};
    use super::*;
    use crate::peer::PeerCore;

    fn member(replica: u64) -> Member {
        Member {
            replica: ReplicaId(replica),
            home: PeerCore {
                node: NodeId(u32::try_from(replica).expect("small") + 100),
                core: CoreId(3),
            },
        }
    }

    fn forced(replica: u64) -> ForcedMembers {
        ForcedMembers {
            epoch: 2,
            recovery: 0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100,
            newest: ReplicaId(9),
            revisions_passed: 5,
            passed_behind: LogIndex(7),
            voter: member(replica),
        }
    }

    /// The bytes, for good.
    #[test]
    fn the_golden_force_reads_and_writes_as_ever() {
        let golden = [
            2, 0, 0, 0, 2, 0, 0, 0, // version, epoch
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, // recovery
            9, 0, 0, 0, 0, 0, 0, 0, // newest
            5, 0, 0, 0, 0, 0, 0, 0, // revisions
            7, 0, 0, 0, 0, 0, 0, 0, // behind which entry
            3, 0, 0, 0, 0, 0, 0, 0, 103, 0, 0, 0, 3, 0, 1, 0, // replica 3
        ];
        assert_eq!(forced(3).encode()[..], golden);
        assert_eq!(ForcedMembers::decode(&golden), Some(forced(3)));
    }

    #[test]
    fn what_is_no_force_is_none() {
        let bytes = forced(3).encode();
        for length in 0..bytes.len() {
            assert_eq!(ForcedMembers::decode(&bytes[..length]), None);
        }
        assert_eq!(ForcedMembers::decode(&[&bytes[..], &[0]].concat()), None);
        // Its version, what is reserved, a replica 0, a part that is none.
        for (at, value) in [(0, 1), (2, 1), (48, 0), (62, 2), (63, 1)] {
            let mut changed = bytes.to_vec();
            changed[at] = value;
            assert_eq!(ForcedMembers::decode(&changed), None, "byte {at}");
        }
        let change = MembershipChange {
            step: Step::AtOnce,
            fates: vec![(member(4), Fate::Learn)],
        };
        assert_eq!(ForcedMembers::decode(&change.encode()), None);
        assert_eq!(
            MembershipChange::decode(&bytes),
            Err(BadChange::Unreadable),
            "nor is a force a change that a group decides"
        );
    }

    #[test]
    fn one_is_left_and_the_others_are_gone_for_good() {
        let three = Membership::of_voters(&[member(1), member(2), member(3)]);
        let after = three.after_force(&forced(3)).expect("it is a member");
        assert!(after.is_sole_voter(ReplicaId(3)));
        for gone in [1, 2, 9] {
            assert_eq!(after.standing_of(ReplicaId(gone)), Standing::Removed);
        }
        assert_eq!(after.standing_of(ReplicaId(10)), Standing::Unheard);
        assert_eq!(Membership::decode(&after.encode()), Some(after));
        let mut elsewhere = forced(3);
        elsewhere.voter.home = member(2).home;
        let replica = ReplicaId(3);
        assert_eq!(
            three.after_force(&elsewhere),
            Err(BadChange::LivesElsewhere { replica })
        );
    }

    /// Replica 4 was to take the place of replica 1. Nobody knows whether that was decided, and replica 1 is left.
    #[test]
    fn one_that_an_undecided_change_removes_may_be_left() {
        let learn = MembershipChange {
            step: Step::AtOnce,
            fates: vec![(member(4), Fate::Learn)],
        };
        let enter = MembershipChange {
            step: Step::EnterJoint,
            fates: vec![(member(4), Fate::Vote), (member(1), Fate::Remove)],
        };
        let mut members = Membership::of_voters(&[member(1), member(2), member(3)]);
        for change in [learn, enter, MembershipChange::leave()] {
            members = members.after(&change).expect("it may happen");
        }
        assert_eq!(members.home_of(ReplicaId(1)), None);
        let after = members.after_force(&forced(1)).expect("it may be left");
        assert!(after.is_sole_voter(ReplicaId(1)));
        assert_eq!(after.standing_of(ReplicaId(4)), Standing::Removed);
        assert_eq!(Membership::decode(&after.encode()), Some(after));
    }

    #[test]
    fn a_learner_may_be_left_and_a_joint_state_ends() {
        let learn = MembershipChange {
            step: Step::AtOnce,
            fates: vec![(member(4), Fate::Learn)],
        };
        let enter = MembershipChange {
            step: Step::EnterJoint,
            fates: vec![(member(4), Fate::Vote), (member(3), Fate::Remove)],
        };
        let three = Membership::of_voters(&[member(1), member(2), member(3)]);
        let learning = three.after(&learn).expect("it may learn");
        let joint = learning.after(&enter).expect("it may vote");
        for before in [learning, joint] {
            let after = before.after_force(&forced(4)).expect("it is a member");
            assert!(after.is_sole_voter(ReplicaId(4)) && !after.is_joint());
        }
    }
}
