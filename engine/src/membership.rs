//! Who belongs to a shard's group, where each member lives, and who did once.

mod change;
mod forced;

use bytes::{BufMut, Bytes, BytesMut};
use metastore_wal::{CoreId, NodeId, ReplicaId};
use raft::eraftpb::ConfState;

pub use self::change::BadChange;
pub(crate) use self::change::{Fate, MembershipChange, Step};
pub(crate) use self::forced::ForcedMembers;
use crate::peer::PeerCore;

/// Every replica that there ever was is no newer than the newest member.
const VERSION: u16 = 1;
/// The newest replica is a member no more: its id is named.
const VERSION_WITH_NEWEST: u16 = 2;
const HEAD_BYTES: usize = 8;
const NEWEST_BYTES: usize = 8;
const MEMBER_BYTES: usize = 16;
/// A group has few members; whatever claims more is not a membership.
const MEMBERS_MAX: usize = 64;

const VOTER: u8 = 1;
const LEARNER: u8 = 2;
const OUTGOING_VOTER: u8 = 4;
const LEARNER_NEXT: u8 = 8;

/// A member of a shard's group: a replica, and the core of a node on which it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The replica: its id is allocated once and never reused.
    pub replica: ReplicaId,
    /// Where it lives.
    pub home: PeerCore,
}

/// How a replica stands to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is a member, and lives here.
    Member(PeerCore),
    /// It is none, and never will be again.
    Removed,
    /// It was not heard of yet: it joined later than the group is known here, or will.
    Unheard,
}

/// The members of a shard, as they stand in the log and in snapshots.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  +-------+-------+-------+-------+-------+-------+-------+-------+
///  | version (u16) | 0     | 0     | members (u32)                 |
///  +-------------------------------+---------------+-------+-------+
///  | newest replica (u64)                                          |   in version 2 alone
///  +-------------------------------+---------------+-------+-------+
///  | replica (u64)                                                 |   for each member, ascending
///  +-------------------------------+---------------+-------+-------+
///  | node (u32)                    | core (u16)    | parts | 0     |
///  +-------------------------------+---------------+-------+-------+
/// ```
///
/// * parts: 1 votes, 2 learns, 4 votes in the outgoing half of a joint state, 8 learns once that state is left.
/// * newest replica: the newest that ever was a member. Members are added in the order of their ids, so an id up to this
///   one that no member has is that of a removed replica, without a list of them. It is written where it is none of the
///   members; else version 1 says it, which every reader knows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Membership {
    members: Vec<Member>,
    conf_state: ConfState,
    newest: ReplicaId,
}

impl Membership {
    /// What a replica knows that waits for its first snapshot: nothing.
    pub(crate) fn unknown() -> Membership {
        Membership {
            members: Vec::new(),
            conf_state: ConfState::default(),
            newest: ReplicaId(0),
        }
    }

    /// Whether it is what a replica knows that waits for its first snapshot.
    pub(crate) fn is_unknown(&self) -> bool {
        self.newest == ReplicaId(0)
    }

    /// A group whose members all vote.
    pub(crate) fn of_voters(voters: &[Member]) -> Membership {
        let mut members = voters.to_vec();
        members.sort_unstable();
        let ids: Vec<u64> = members.iter().map(|member| member.replica.0).collect();
        Membership {
            newest: ReplicaId(ids.last().copied().unwrap_or(0)),
            members,
            conf_state: ConfState::from((ids, vec![])),
        }
    }

    /// Who votes, as raft says it.
    pub(crate) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// All members, in the order of their ids.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The newest replica that ever was a member.
    pub(crate) fn newest(&self) -> ReplicaId {
        self.newest
    }

    /// How a replica stands to the group.
    pub(crate) fn standing_of(&self, replica: ReplicaId) -> Standing {
        match self.home_of(replica) {
            Some(home) => Standing::Member(home),
            None if replica <= self.newest => Standing::Removed,
            None => Standing::Unheard,
        }
    }

    /// Whether a quorum of two sets of voters decides.
    pub(crate) fn is_joint(&self) -> bool {
        !self.conf_state.get_voters_outgoing().is_empty()
    }

    /// Whether a member votes, in a joint state in the half that will stay.
    pub(crate) fn is_voter(&self, replica: ReplicaId) -> bool {
        self.conf_state.get_voters().contains(&replica.0)
    }

    /// Whether a member only learns.
    pub(crate) fn is_learner(&self, replica: ReplicaId) -> bool {
        self.conf_state.get_learners().contains(&replica.0)
    }

    /// Where a replica lives; `None` when it is no member.
    pub(crate) fn home_of(&self, replica: ReplicaId) -> Option<PeerCore> {
        let at = self
            .members
            .binary_search_by_key(&replica, |member| member.replica);
        at.ok().map(|at| self.members[at].home)
    }

    /// All members but one.
    pub(crate) fn others(&self, replica: ReplicaId) -> impl Iterator<Item = &Member> {
        let members = self.members.iter();
        members.filter(move |member| member.replica != replica)
    }

    /// Whether nobody else's vote counts.
    pub(crate) fn is_sole_voter(&self, replica: ReplicaId) -> bool {
        let state = &self.conf_state;
        state.get_voters() == [replica.0] && state.get_voters_outgoing().is_empty()
    }

    /// The members that live on a core.
    pub(crate) fn living_on(&self, core: PeerCore) -> impl Iterator<Item = ReplicaId> {
        let there = self
            .members
            .iter()
            .filter(move |member| member.home == core);
        there.map(|member| member.replica)
    }

    /// Where the members but one live.
    pub(crate) fn homes_of_others(&self, replica: ReplicaId) -> impl Iterator<Item = PeerCore> {
        let others = self.members.iter();
        let others = others.filter(move |member| member.replica != replica);
        others.map(|member| member.home)
    }

    fn parts_of(&self, replica: ReplicaId) -> u8 {
        let state = &self.conf_state;
        let parts = [
            (state.get_voters(), VOTER),
            (state.get_learners(), LEARNER),
            (state.get_voters_outgoing(), OUTGOING_VOTER),
            (state.get_learners_next(), LEARNER_NEXT),
        ];
        let has = parts.iter().filter(|(ids, _)| ids.contains(&replica.0));
        has.fold(0, |parts, (_, part)| parts | part)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let bytes_max = HEAD_BYTES + NEWEST_BYTES + self.members.len() * MEMBER_BYTES;
        let mut bytes = BytesMut::with_capacity(bytes_max);
        let is_newest_here = self.members.last().map(|member| member.replica) == Some(self.newest);
        bytes.put_u16_le(match is_newest_here {
            true => VERSION,
            false => VERSION_WITH_NEWEST,
        });
        bytes.put_u16_le(0);
        bytes.put_u32_le(u32::try_from(self.members.len()).expect("a shard has few members"));
        if !is_newest_here {
            bytes.put_u64_le(self.newest.0);
        }
        for &member in &self.members {
            put_member(&mut bytes, member, self.parts_of(member.replica));
        }
        bytes.freeze()
    }

    /// Reads a membership, `None` when the bytes are not one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Membership> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [version_low, version_high, 0, 0, count @ ..] = *head else {
            return None;
        };
        let (newest_named, rest) = match u16::from_le_bytes([version_low, version_high]) {
            VERSION => (None, rest),
            VERSION_WITH_NEWEST => {
                let (newest, rest) = rest.split_first_chunk::<NEWEST_BYTES>()?;
                (Some(ReplicaId(u64::from_le_bytes(*newest))), rest)
            }
            _ => return None,
        };
        let (encoded, rest) = rest.as_chunks::<MEMBER_BYTES>();
        let count = u32::from_le_bytes(count) as usize;
        if count != encoded.len() || count > MEMBERS_MAX || !rest.is_empty() {
            return None;
        }
        let mut members: Vec<Member> = Vec::with_capacity(count);
        let mut state = ConfState::default();
        for bytes in encoded {
            let (member, parts) = decode_member(bytes)?;
            let last = members.last();
            if last.is_some_and(|last| last.replica >= member.replica) {
                return None;
            }
            let id = member.replica.0;
            members.push(member);
            for (part, ids) in [
                (VOTER, &mut state.voters),
                (LEARNER, &mut state.learners),
                (OUTGOING_VOTER, &mut state.voters_outgoing),
                (LEARNER_NEXT, &mut state.learners_next),
            ] {
                if parts & part != 0 {
                    ids.push(id);
                }
            }
        }
        let last = members.last()?.replica;
        let newest = newest_named.unwrap_or(last);
        // One membership has one encoding.
        let is_named_needlessly = newest_named.is_some_and(|newest| newest <= last);
        (!state.voters.is_empty() && !is_named_needlessly).then_some(Membership {
            members,
            conf_state: state,
            newest,
        })
    }
}

fn put_member(bytes: &mut BytesMut, member: Member, code: u8) {
    bytes.put_u64_le(member.replica.0);
    bytes.put_u32_le(member.home.node.0);
    bytes.put_u16_le(member.home.core.0);
    bytes.put_u8(code);
    bytes.put_u8(0);
}

/// Takes a member and its code apart, whatever the code is.
fn split_member(bytes: &[u8; MEMBER_BYTES]) -> Option<(Member, u8)> {
    let (replica, rest) = bytes.split_first_chunk::<8>()?;
    let (node, rest) = rest.split_first_chunk::<4>()?;
    let [core_low, core_high, code, 0] = *rest else {
        return None;
    };
    let replica = ReplicaId(u64::from_le_bytes(*replica));
    let home = PeerCore {
        node: NodeId(u32::from_le_bytes(*node)),
        core: CoreId(u16::from_le_bytes([core_low, core_high])),
    };
    (replica.0 > 0).then_some((Member { replica, home }, code))
}

fn decode_member(bytes: &[u8; MEMBER_BYTES]) -> Option<(Member, u8)> {
    let (member, parts) = split_member(bytes)?;
    // What raft allows: a voter of either half does not learn at the same time, and who learns once a joint state is
    // left votes in its outgoing half.
    let is_possible = matches!(parts, VOTER | LEARNER | OUTGOING_VOTER)
        || parts == VOTER | OUTGOING_VOTER
        || parts == OUTGOING_VOTER | LEARNER_NEXT;
    is_possible.then_some((member, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(replica: u64) -> Member {
        Member {
            replica: ReplicaId(replica),
            home: PeerCore {
                node: NodeId(u32::try_from(replica).expect("small") + 100),
                core: CoreId(3),
            },
        }
    }

    #[test]
    fn a_membership_survives_the_round_trip() {
        let members = Membership::of_voters(&[member(3), member(1), member(2)]);
        let bytes = members.encode();
        assert_eq!(bytes.len(), HEAD_BYTES + 3 * MEMBER_BYTES);
        assert_eq!(Membership::decode(&bytes), Some(members.clone()));
        assert_eq!(members.conf_state().get_voters(), [1, 2, 3]);
        assert_eq!(members.home_of(ReplicaId(2)), Some(member(2).home));
        assert_eq!(members.home_of(ReplicaId(4)), None);
    }

    #[test]
    fn a_joint_membership_survives_the_round_trip() {
        let mut members = Membership::of_voters(&[member(1), member(2), member(3), member(4)]);
        members.conf_state = ConfState::from((vec![1, 4], vec![]));
        members.conf_state.voters_outgoing = vec![1, 2, 3];
        members.conf_state.learners_next = vec![3];
        assert_eq!(Membership::decode(&members.encode()), Some(members));
    }

    /// The bytes of version 1, for good.
    #[test]
    fn the_golden_membership_reads_and_writes_as_ever() {
        let golden = [
            1, 0, 0, 0, 2, 0, 0, 0, // version, flags, count
            1, 0, 0, 0, 0, 0, 0, 0, 101, 0, 0, 0, 3, 0, 1, 0, // replica 1
            9, 0, 0, 0, 0, 0, 0, 0, 109, 0, 0, 0, 3, 0, 1, 0, // replica 9
        ];
        let members = Membership::of_voters(&[member(9), member(1)]);
        assert_eq!(members.encode()[..], golden);
        assert_eq!(Membership::decode(&golden), Some(members));
    }

    /// The bytes of version 2, for good.
    #[test]
    fn the_golden_membership_without_its_newest_reads_and_writes_as_ever() {
        let golden = [
            2, 0, 0, 0, 2, 0, 0, 0, // version, count
            12, 0, 0, 0, 0, 0, 0, 0, // newest
            1, 0, 0, 0, 0, 0, 0, 0, 101, 0, 0, 0, 3, 0, 1, 0, // replica 1
            9, 0, 0, 0, 0, 0, 0, 0, 109, 0, 0, 0, 3, 0, 1, 0, // replica 9
        ];
        let mut members = Membership::of_voters(&[member(9), member(1)]);
        members.newest = ReplicaId(12);
        assert_eq!(members.encode()[..], golden);
        assert_eq!(Membership::decode(&golden), Some(members));
        let mut needless = golden;
        needless[8] = 9;
        assert_eq!(Membership::decode(&needless), None, "version 1 says it");
    }

    #[test]
    fn a_replica_is_known_for_what_it_is() {
        let mut members = Membership::of_voters(&[member(2), member(5)]);
        let standing = |members: &Membership, replica| members.standing_of(ReplicaId(replica));
        assert_eq!(standing(&members, 5), Standing::Member(member(5).home));
        assert_eq!(standing(&members, 3), Standing::Removed);
        assert_eq!(standing(&members, 6), Standing::Unheard);
        members.newest = ReplicaId(7);
        assert_eq!(standing(&members, 6), Standing::Removed);
        assert_eq!(standing(&Membership::unknown(), 1), Standing::Unheard);
    }

    #[test]
    fn what_is_no_membership_is_refused() {
        let bytes = Membership::of_voters(&[member(1), member(2)]).encode();
        for length in 0..bytes.len() {
            assert_eq!(Membership::decode(&bytes[..length]), None);
        }
        assert_eq!(Membership::decode(&[&bytes[..], &[0]].concat()), None);
        // Its version, a flag, the count, a replica 0, one that comes twice, a part that there is not, two that exclude
        // each other.
        for (at, value) in [(0, 3), (2, 2), (4, 3), (8, 0), (24, 1), (22, 16), (22, 3)] {
            let mut changed = bytes.to_vec();
            changed[at] = value;
            assert_eq!(Membership::decode(&changed), None, "byte {at}");
        }
    }
}
