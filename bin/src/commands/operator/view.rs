//! The members of a shard as one of its replicas knows them.

use metastore_net::{AdminReply, MemberPart, ReplicaHome, ShardMember};

/// What a replica says of its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct ShardView {
    pub(in crate::commands) shard: u32,
    /// Who said so.
    pub(in crate::commands) at: ReplicaHome,
    pub(in crate::commands) reply: AdminReply,
}

impl ShardView {
    /// Whether whoever said so leads.
    pub(in crate::commands) fn is_of_leader(&self) -> bool {
        self.reply.replica != 0 && self.reply.leader == self.reply.replica
    }

    /// Whether a joint state is to be left.
    pub(in crate::commands) fn is_joint(&self) -> bool {
        let in_between = [MemberPart::Incoming, MemberPart::Outgoing];
        let mut members = self.reply.members.iter();
        members.any(|member| in_between.contains(&member.part))
    }

    /// The member that lives on a node.
    pub(in crate::commands) fn member_on(&self, node: u32) -> Option<&ShardMember> {
        let mut members = self.reply.members.iter();
        members.find(|member| member.home.node_id == node)
    }

    /// The member that has this id.
    pub(in crate::commands) fn member(&self, replica: u64) -> Option<&ShardMember> {
        let mut members = self.reply.members.iter();
        members.find(|member| member.replica == replica)
    }

    /// Where it is led from, as whoever said so knows.
    pub(in crate::commands) fn leader_home(&self) -> Option<ReplicaHome> {
        self.member(self.reply.leader).map(|leader| leader.home)
    }

    /// Where its members live.
    pub(super) fn homes_leader_first(&self) -> Vec<ReplicaHome> {
        let leader = self.leader_home();
        let homes = self.reply.members.iter().map(|member| member.home);
        let others = homes.filter(|&home| Some(home) != leader);
        leader.into_iter().chain(others).collect()
    }

    /// How many voters there would be, and how many of them are healthy now, without a replica.
    pub(in crate::commands) fn voters_without(&self, replica: u64) -> (usize, usize) {
        let stays = |member: &&ShardMember| {
            let votes = matches!(member.part, MemberPart::Voter | MemberPart::Incoming);
            votes && member.replica != replica
        };
        let voters: Vec<_> = self.reply.members.iter().filter(stays).collect();
        let healthy = voters.iter().filter(|voter| voter.is_healthy).count();
        (voters.len(), healthy)
    }
}

/// The name of a part, as commands print it.
pub(in crate::commands) fn part_name(part: MemberPart) -> &'static str {
    match part {
        MemberPart::Voter => "voter",
        MemberPart::Learner => "learner",
        MemberPart::Incoming => "incoming",
        MemberPart::Outgoing => "outgoing",
    }
}

#[cfg(test)]
pub(in crate::commands) mod tests {
    use super::super::home;
    use super::*;

    pub(in crate::commands) fn member(replica: u64, node: u32, part: MemberPart) -> ShardMember {
        ShardMember {
            replica,
            home: home(node, 0),
            part,
            matched: 10,
            is_healthy: true,
        }
    }

    /// What replica 1 on node 1, which leads, says of shard 7.
    pub(in crate::commands) fn view(members: Vec<ShardMember>) -> ShardView {
        ShardView {
            shard: 7,
            at: home(1, 0),
            reply: AdminReply {
                replica: 1,
                leader: 1,
                newest: members
                    .iter()
                    .map(|member| member.replica)
                    .max()
                    .unwrap_or(0),
                is_settled: true,
                members,
                ..AdminReply::default()
            },
        }
    }

    #[test]
    fn whoever_leads_is_named_first() {
        let mut view = view(vec![
            member(1, 1, MemberPart::Voter),
            member(2, 2, MemberPart::Voter),
        ]);
        assert!(view.is_of_leader());
        view.reply.leader = 2;
        assert!(!view.is_of_leader());
        assert_eq!(view.homes_leader_first(), [home(2, 0), home(1, 0)]);
        view.reply.leader = 0;
        assert_eq!(view.leader_home(), None);
        assert_eq!(view.homes_leader_first(), [home(1, 0), home(2, 0)]);
    }

    #[test]
    fn a_member_that_comes_or_goes_makes_a_joint_state() {
        let whole = view(vec![
            member(1, 1, MemberPart::Voter),
            member(4, 4, MemberPart::Learner),
        ]);
        assert!(!whole.is_joint());
        let joint = view(vec![
            member(1, 1, MemberPart::Voter),
            member(4, 4, MemberPart::Incoming),
        ]);
        assert!(joint.is_joint());
        assert_eq!(joint.voters_without(1), (1, 1));
    }
}
