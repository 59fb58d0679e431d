//! A change of a group's members, as it stands in the log.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use metastore_wal::ReplicaId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use thiserror::Error;

use super::{HEAD_BYTES, MEMBER_BYTES, MEMBERS_MAX, Member, Membership, put_member, split_member};

const VERSION: u16 = 1;

const AT_ONCE: u8 = 1;
const ENTER_JOINT: u8 = 2;
const LEAVE_JOINT: u8 = 3;

const VOTE: u8 = 1;
const LEARN: u8 = 2;
const REMOVE: u8 = 3;

/// How a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// In one step: who votes stays the same.
    AtOnce,
    /// From here on a quorum of the voters before and one of those after decide together.
    EnterJoint,
    /// From here on those after decide alone.
    LeaveJoint,
}

/// What becomes of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It votes.
    Vote,
    /// It joins, and learns.
    Learn,
    /// It is a member no more.
    Remove,
}

/// A change of a group's members, as it stands in the log.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  +-------+-------+-------+-------+-------+-------+-------+-------+
///  | version (u16) | step  | 0     | replicas (u32)                |
///  +-------------------------------+---------------+-------+-------+
///  | replica (u64)                                                 |   for each of them
///  +-------------------------------+---------------+-------+-------+
///  | node (u32)                    | core (u16)    | fate  | 0     |
///  +-------------------------------+---------------+-------+-------+
/// ```
///
/// * step: 1 in one step, 2 a joint state is entered, 3 it is left.
/// * fate: 1 it votes, 2 it joins and learns, 3 it is removed. Node and core say where it lives.
///
/// It says what changes and not what comes of it: that depends on the members at its index alone, which are the same
/// everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MembershipChange {
    pub(crate) step: Step,
    pub(crate) fates: Vec<(Member, Fate)>,
}

/// Why a change cannot follow the members before it. A committed one always can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadChange {
    /// The bytes are none.
    #[error("its bytes are not a change of members")]
    Unreadable,
    /// A joint state is entered in another, or left where there is none.
    #[error("it enters a joint state twice, or leaves none")]
    WrongStep,
    /// The step does not fit what becomes of the replicas.
    #[error("what becomes of replica {replica} does not fit its step")]
    WrongFate {
        /// The replica.
        replica: ReplicaId,
    },
    /// A replica joins whose id is not newer than all before.
    #[error("replica {replica} is not newer than replica {newest}, which was a member")]
    NotNewer {
        /// The replica.
        replica: ReplicaId,
        /// The newest.
        newest: ReplicaId,
    },
    /// A replica is none of the members that may become this.
    #[error("replica {replica} is not a member that this may happen to")]
    NoSuchMember {
        /// The replica.
        replica: ReplicaId,
    },
    /// A replica is said to be where it is not.
    #[error("replica {replica} lives elsewhere")]
    LivesElsewhere {
        /// The replica.
        replica: ReplicaId,
    },
    /// Nobody would vote.
    #[error("nobody would vote")]
    NoVoters,
    /// More members than a group may have.
    #[error("a group has at most {MEMBERS_MAX} members")]
    TooMany,
}

impl MembershipChange {
    /// The change that leaves a joint state.
    pub(crate) fn leave() -> MembershipChange {
        MembershipChange {
            step: Step::LeaveJoint,
            fates: Vec::new(),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + self.fates.len() * MEMBER_BYTES);
        bytes.put_u16_le(VERSION);
        bytes.put_u8(match self.step {
            Step::AtOnce => AT_ONCE,
            Step::EnterJoint => ENTER_JOINT,
            Step::LeaveJoint => LEAVE_JOINT,
        });
        bytes.put_u8(0);
        bytes.put_u32_le(u32::try_from(self.fates.len()).expect("a shard has few members"));
        for &(member, fate) in &self.fates {
            let code = match fate {
                Fate::Vote => VOTE,
                Fate::Learn => LEARN,
                Fate::Remove => REMOVE,
            };
            put_member(&mut bytes, member, code);
        }
        bytes.freeze()
    }

    /// Reads a change.
    pub(crate) fn decode(bytes: &[u8]) -> Result<MembershipChange, BadChange> {
        MembershipChange::try_decode(bytes).ok_or(BadChange::Unreadable)
    }

    fn try_decode(bytes: &[u8]) -> Option<MembershipChange> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let (encoded, rest) = rest.as_chunks::<MEMBER_BYTES>();
        let [version_low, version_high, step, 0, count @ ..] = *head else {
            return None;
        };
        if u16::from_le_bytes([version_low, version_high]) != VERSION
            || u32::from_le_bytes(count) as usize != encoded.len()
            || encoded.len() > 2 * MEMBERS_MAX
            || !rest.is_empty()
        {
            return None;
        }
        let step = match step {
            AT_ONCE => Step::AtOnce,
            ENTER_JOINT => Step::EnterJoint,
            LEAVE_JOINT => Step::LeaveJoint,
            _ => return None,
        };
        let fate_of = |bytes| {
            let (member, code) = split_member(bytes)?;
            let fate = match code {
                VOTE => Fate::Vote,
                LEARN => Fate::Learn,
                REMOVE => Fate::Remove,
                _ => return None,
            };
            Some((member, fate))
        };
        let fates = encoded.iter().map(fate_of).collect::<Option<Vec<_>>>()?;
        Some(MembershipChange { step, fates })
    }

    /// The change as raft takes it. Joint states are left when the engine says so: what raft does by itself it forgets
    /// when the leader changes, and its entry says nothing.
    pub(crate) fn to_raft(&self) -> ConfChangeV2 {
        let mut change = ConfChangeV2::default();
        if self.step == Step::EnterJoint {
            change.set_transition(ConfChangeTransition::Explicit);
        }
        let single = |&(member, fate): &(Member, Fate)| {
            let mut single = ConfChangeSingle {
                node_id: member.replica.0,
                ..ConfChangeSingle::default()
            };
            single.set_change_type(match fate {
                Fate::Vote => ConfChangeType::AddNode,
                Fate::Learn => ConfChangeType::AddLearnerNode,
                Fate::Remove => ConfChangeType::RemoveNode,
            });
            single
        };
        let singles: Vec<ConfChangeSingle> = self.fates.iter().map(single).collect();
        change.set_changes(singles.into());
        change
    }

    /// What becomes of one replica where who votes stays the same.
    fn check_at_once(&self, members: &Membership) -> Result<(), BadChange> {
        let [(member, fate)] = self.fates[..] else {
            return Err(BadChange::WrongStep);
        };
        let replica = member.replica;
        match fate {
            Fate::Learn if replica <= members.newest => Err(BadChange::NotNewer {
                replica,
                newest: members.newest,
            }),
            Fate::Learn => Ok(()),
            Fate::Remove if !members.is_learner(replica) => {
                Err(BadChange::NoSuchMember { replica })
            }
            Fate::Remove => Ok(()),
            Fate::Vote => Err(BadChange::WrongFate { replica }),
        }
    }

    /// Learners begin to vote and members are removed; nobody joins, nobody has two fates.
    fn check_joint(&self, members: &Membership) -> Result<(), BadChange> {
        let mut seen = BTreeSet::new();
        for &(member, fate) in &self.fates {
            let replica = member.replica;
            let is_possible = match fate {
                Fate::Vote => members.is_learner(replica),
                Fate::Remove => members.is_learner(replica) || members.is_voter(replica),
                Fate::Learn => return Err(BadChange::WrongFate { replica }),
            };
            if !is_possible || !seen.insert(replica) {
                return Err(BadChange::NoSuchMember { replica });
            }
        }
        match self.fates.is_empty() {
            true => Err(BadChange::WrongStep),
            false => Ok(()),
        }
    }
}

impl Membership {
    /// The members after a change.
    pub(crate) fn after(&self, change: &MembershipChange) -> Result<Membership, BadChange> {
        let mut after = self.clone();
        let state = &mut after.conf_state;
        match change.step {
            Step::AtOnce | Step::EnterJoint if self.is_joint() => return Err(BadChange::WrongStep),
            Step::AtOnce => change.check_at_once(self)?,
            Step::EnterJoint => {
                change.check_joint(self)?;
                state.voters_outgoing = state.voters.clone();
            }
            Step::LeaveJoint if !self.is_joint() || !change.fates.is_empty() => {
                return Err(BadChange::WrongStep);
            }
            Step::LeaveJoint => {
                state.voters_outgoing.clear();
                state.learners.append(&mut state.learners_next);
                state.learners.sort_unstable();
            }
        }
        for &(member, fate) in &change.fates {
            let id = member.replica.0;
            state.voters.retain(|&voter| voter != id);
            state.learners.retain(|&learner| learner != id);
            match fate {
                Fate::Vote => insert(&mut state.voters, id),
                Fate::Learn => {
                    insert(&mut state.learners, id);
                    after.members.push(member);
                    after.newest = member.replica;
                }
                Fate::Remove => {}
            }
        }
        if after.conf_state.voters.is_empty() {
            return Err(BadChange::NoVoters);
        }
        let state = &after.conf_state;
        let parts = [&state.voters, &state.voters_outgoing, &state.learners];
        let is_left = |id: u64| parts.iter().any(|ids| ids.contains(&id));
        after.members.retain(|member| is_left(member.replica.0));
        match after.members.len() > MEMBERS_MAX {
            true => Err(BadChange::TooMany),
            false => Ok(after),
        }
    }
}

fn insert(ids: &mut Vec<u64>, id: u64) {
    ids.push(id);
    ids.sort_unstable();
}

#[cfg(test)]
mod tests {
    use metastore_wal::{CoreId, NodeId};
    use raft::{Changer, ProgressTracker};

    use super::super::Standing;
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

    fn change(step: Step, fates: &[(u64, Fate)]) -> MembershipChange {
        let fates = fates.iter().map(|&(replica, fate)| (member(replica), fate));
        MembershipChange {
            step,
            fates: fates.collect(),
        }
    }

    fn three() -> Membership {
        Membership::of_voters(&[member(1), member(2), member(3)])
    }

    /// Node 3 is replaced: replica 4 learns, then has its place.
    fn replacement() -> [MembershipChange; 3] {
        [
            change(Step::AtOnce, &[(4, Fate::Learn)]),
            change(Step::EnterJoint, &[(4, Fate::Vote), (3, Fate::Remove)]),
            MembershipChange::leave(),
        ]
    }

    #[test]
    fn a_dead_member_is_replaced_in_one_joint_change_behind_a_learner() {
        let [learn, enter, leave] = replacement();
        let learning = three().after(&learn).expect("it may learn");
        assert_eq!(learning.conf_state().get_learners(), [4]);
        assert_eq!(learning.home_of(ReplicaId(4)), Some(member(4).home));
        let joint = learning.after(&enter).expect("it may vote");
        assert!(joint.is_joint());
        assert_eq!(joint.conf_state().get_voters(), [1, 2, 4]);
        assert_eq!(joint.conf_state().get_voters_outgoing(), [1, 2, 3]);
        assert_eq!(joint.home_of(ReplicaId(3)), Some(member(3).home));
        let after = joint.after(&leave).expect("it may be left");
        assert_eq!(after.conf_state().get_voters(), [1, 2, 4]);
        assert_eq!(after.standing_of(ReplicaId(3)), Standing::Removed);
        for members in [learning, joint, after] {
            assert_eq!(Membership::decode(&members.encode()), Some(members));
        }
    }

    #[test]
    fn an_id_is_never_used_again() {
        let mut members = three();
        for fate in [Fate::Learn, Fate::Remove] {
            let one = change(Step::AtOnce, &[(7, fate)]);
            members = members.after(&one).expect("it joins, and goes");
        }
        assert_eq!(members.newest(), ReplicaId(7));
        assert_eq!(Membership::decode(&members.encode()), Some(members.clone()));
        for replica in [2, 5, 7] {
            let again = change(Step::AtOnce, &[(replica, Fate::Learn)]);
            let refused = BadChange::NotNewer {
                replica: ReplicaId(replica),
                newest: ReplicaId(7),
            };
            assert_eq!(members.after(&again), Err(refused));
        }
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        let [learn, enter, leave] = replacement();
        let learning = three().after(&learn).expect("it may learn");
        let joint = learning.after(&enter).expect("it may vote");
        let no_such = |replica| {
            let replica = ReplicaId(replica);
            Err(BadChange::NoSuchMember { replica })
        };
        let wrong_fate = |replica| {
            let replica = ReplicaId(replica);
            Err(BadChange::WrongFate { replica })
        };
        let wrong_step = Err(BadChange::WrongStep);
        assert_eq!(three().after(&leave), wrong_step);
        assert_eq!(joint.after(&enter), wrong_step);
        assert_eq!(joint.after(&learn), wrong_step);
        assert_eq!(three().after(&enter), no_such(4), "it does not learn");
        let cases = [
            (change(Step::EnterJoint, &[]), wrong_step.clone()),
            (change(Step::AtOnce, &[]), wrong_step.clone()),
            (change(Step::AtOnce, &[(4, Fate::Vote)]), wrong_fate(4)),
            (change(Step::AtOnce, &[(3, Fate::Remove)]), no_such(3)),
            (change(Step::EnterJoint, &[(5, Fate::Learn)]), wrong_fate(5)),
            (change(Step::EnterJoint, &[(9, Fate::Remove)]), no_such(9)),
            (
                change(Step::EnterJoint, &[(4, Fate::Vote), (4, Fate::Remove)]),
                no_such(4),
            ),
            (
                change(
                    Step::EnterJoint,
                    &[(1, Fate::Remove), (2, Fate::Remove), (3, Fate::Remove)],
                ),
                Err(BadChange::NoVoters),
            ),
        ];
        for (change, refused) in cases {
            assert_eq!(learning.after(&change), refused, "{change:?}");
        }
    }

    /// What is computed here and what raft makes of it must be the same, or replicas would part after a start.
    #[test]
    fn raft_comes_to_the_same_members() {
        let mut members = three();
        let mut tracker = ProgressTracker::new(8);
        raft_restore(&mut tracker, &members);
        let [learn, enter, leave] = replacement();
        let remove_learner = [
            change(Step::AtOnce, &[(5, Fate::Learn)]),
            change(Step::AtOnce, &[(5, Fate::Remove)]),
        ];
        let to_one = [
            change(Step::EnterJoint, &[(1, Fate::Remove), (2, Fate::Remove)]),
            MembershipChange::leave(),
        ];
        let all = [learn, enter, leave].into_iter();
        for change in all.chain(remove_learner).chain(to_one) {
            members = members.after(&change).expect("it follows");
            let raft_change = change.to_raft();
            let mut changer = Changer::new(&tracker);
            let (conf, changes) = match change.step {
                Step::AtOnce => changer.simple(&raft_change.changes),
                Step::EnterJoint => changer.enter_joint(false, &raft_change.changes),
                Step::LeaveJoint => changer.leave_joint(),
            }
            .expect("raft takes it");
            tracker.apply_conf(conf, changes, 1);
            let mut state = tracker.conf().to_conf_state();
            for ids in [
                &mut state.voters,
                &mut state.learners,
                &mut state.voters_outgoing,
                &mut state.learners_next,
            ] {
                ids.sort_unstable();
            }
            assert_eq!(&state, members.conf_state(), "{change:?}");
        }
    }

    fn raft_restore(tracker: &mut ProgressTracker, members: &Membership) {
        for &id in members.conf_state().get_voters() {
            let mut single = ConfChangeSingle {
                node_id: id,
                ..ConfChangeSingle::default()
            };
            single.set_change_type(ConfChangeType::AddNode);
            let changed = Changer::new(tracker).simple(&[single]);
            let (conf, changes) = changed.expect("raft takes it");
            tracker.apply_conf(conf, changes, 1);
        }
    }

    /// The bytes of version 1, for good.
    #[test]
    fn the_golden_change_reads_and_writes_as_ever() {
        let golden = [
            1, 0, 2, 0, 2, 0, 0, 0, // version, step, count
            4, 0, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0, 3, 0, 1, 0, // replica 4 votes
            3, 0, 0, 0, 0, 0, 0, 0, 103, 0, 0, 0, 3, 0, 3, 0, // replica 3 is removed
        ];
        let [_, enter, leave] = replacement();
        assert_eq!(enter.encode()[..], golden);
        assert_eq!(MembershipChange::decode(&golden), Ok(enter));
        let golden = [1, 0, 3, 0, 0, 0, 0, 0];
        assert_eq!(leave.encode()[..], golden);
        assert_eq!(MembershipChange::decode(&golden), Ok(leave));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        let unreadable = Err(BadChange::Unreadable);
        let [_, enter, _] = replacement();
        let bytes = enter.encode();
        for length in 0..bytes.len() {
            assert_eq!(MembershipChange::decode(&bytes[..length]), unreadable);
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(MembershipChange::decode(&longer), unreadable);
        // Version, step, a byte that is 0, the count, a replica 0, a fate that there is not, another 0.
        for (at, value) in [(0, 2), (2, 4), (3, 1), (4, 3), (8, 0), (22, 4), (23, 1)] {
            let mut changed = bytes.to_vec();
            changed[at] = value;
            assert_eq!(MembershipChange::decode(&changed), unreadable, "byte {at}");
        }
    }
}
