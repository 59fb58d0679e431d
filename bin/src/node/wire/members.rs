//! Members of shards, between the protocol's messages and the core's.

use metastore_engine::{
    ChangeRefused, CoreId, CreateRefused, Happened, Member, MemberPart, MemberStatus,
    MembersChange, NodeId, PeerCore, ReplicaId, ReplicaStatus, ShardId, Spare,
};
use metastore_net::{
    self as net, AdminReply, AdminRequest, ErrorCode, NodeEntry, NodeStanding, OwnedNodeEntry,
    ReplicaHome, ShardMember, SpareVoter, WireError,
};

use super::{CoreFacts, not_leader};
use crate::node::cluster::{ClusterNode, HostPort};
use crate::node::node_file::NodeFile;
use crate::node::places::KnownNode;

/// The change of members that an operator asks for, if it is one.
pub(crate) fn members_change(request: &AdminRequest) -> Option<MembersChange> {
    Some(match *request {
        AdminRequest::AddLearner { replica, home, .. } => MembersChange::AddLearner(Member {
            replica: ReplicaId(replica),
            home: PeerCore {
                node: NodeId(home.node_id),
                core: CoreId(home.core_index),
            },
        }),
        AdminRequest::RemoveLearner { replica, .. } => {
            MembersChange::RemoveLearner(ReplicaId(replica))
        }
        AdminRequest::ChangeVoters {
            promoted,
            removed,
            spare,
            ..
        } => MembersChange::ChangeVoters {
            promote: promoted.into_iter().map(ReplicaId).collect(),
            remove: removed.into_iter().map(ReplicaId).collect(),
            spare: match spare {
                SpareVoter::Kept => Spare::Kept,
                SpareVoter::GivenUp => Spare::GivenUp,
            },
        },
        AdminRequest::Members { .. }
        | AdminRequest::CreateReplica { .. }
        | AdminRequest::TransferLeader { .. }
        | AdminRequest::RemovedReplica { .. }
        | AdminRequest::Nodes
        | AdminRequest::AddNode(_)
        | AdminRequest::ForgetNode { .. } => return None,
    })
}

/// The members of a shard as the replica that is `here` knows them.
pub(crate) fn members_reply(here: Option<&ReplicaStatus>, members: &[MemberStatus]) -> AdminReply {
    let members = members.iter().map(|status| ShardMember {
        replica: status.member.replica.0,
        home: ReplicaHome {
            node_id: status.member.home.node.0,
            core_index: status.member.home.core.0,
        },
        part: match status.part {
            MemberPart::Voter => net::MemberPart::Voter,
            MemberPart::Learner => net::MemberPart::Learner,
            MemberPart::Incoming => net::MemberPart::Incoming,
            MemberPart::Outgoing => net::MemberPart::Outgoing,
        },
        matched: status.matched.map_or(0, |matched| matched.0),
        is_healthy: status.is_healthy.unwrap_or(false),
    });
    let members = members.collect();
    match here {
        Some(here) => AdminReply {
            index: 0,
            replica: here.replica.0,
            leader: here.leader.map_or(0, |leader| leader.0),
            newest: here.members.newest.0,
            is_settled: here.members.is_settled,
            members,
            nodes: Vec::new(),
        },
        None => AdminReply::default(),
    }
}

/// All nodes that this one knows, those included that are gone; places say where they are now.
pub(crate) fn nodes_reply(places: &[KnownNode], node: &NodeFile) -> AdminReply {
    let entry_of = |entry: &ClusterNode, standing| OwnedNodeEntry {
        node_id: entry.node.0,
        cores: u16::try_from(entry.cores).expect("cores are bounded"),
        clients: entry.clients.to_string(),
        peers: entry.peers.to_string(),
        data_id: node.data_ids.get(&entry.node).copied().unwrap_or(0),
        standing,
    };
    let mut nodes: Vec<_> = places
        .iter()
        .map(|known| entry_of(&known.entry, NodeStanding::Member))
        .collect();
    if let Some(plan) = &node.cluster_plan {
        let gone = plan.gone.iter().filter_map(|&gone| plan.node(gone));
        nodes.extend(gone.map(|entry| entry_of(entry, NodeStanding::Gone)));
    }
    AdminReply {
        nodes,
        ..AdminReply::default()
    }
}

/// A node as it was told.
///
/// # Errors
/// Which of its addresses is none, and why.
pub(crate) fn to_cluster_node(entry: &NodeEntry<'_>) -> Result<ClusterNode, WireError> {
    let parse = |text: &str| {
        let parsed: Result<HostPort, _> = text.parse();
        parsed
            .map_err(|error| WireError::new(ErrorCode::BadRequest).with_message(error.to_string()))
    };
    Ok(ClusterNode {
        node: NodeId(entry.node_id),
        clients: parse(entry.clients)?,
        peers: parse(entry.peers)?,
        cores: usize::from(entry.cores),
    })
}

/// Why members are not changed.
pub(crate) fn change_refused(
    facts: &CoreFacts,
    shard: ShardId,
    refused: &ChangeRefused,
) -> WireError {
    let code = match refused {
        ChangeRefused::NotLeader { leader } => return not_leader(facts, shard, *leader),
        ChangeRefused::Impossible(_) | ChangeRefused::HomeTaken { .. } => ErrorCode::BadRequest,
        ChangeRefused::InProgress
        | ChangeRefused::Behind { .. }
        | ChangeRefused::NoSpare { .. }
        | ChangeRefused::Busy
        | ChangeRefused::Rejected
        | ChangeRefused::Lost { .. } => ErrorCode::Unavailable,
    };
    let mut error = WireError::new(code);
    if let ChangeRefused::Lost {
        happened: Happened::Unknown,
    } = refused
    {
        error = error.outcome_unknown();
    }
    error.with_message(refused.to_string())
}

/// Whether a replica of a shard belongs on this core: the others of the node look for it there.
///
/// # Errors
/// Where it belongs.
pub(crate) fn check_core(facts: &CoreFacts, shard: ShardId) -> Result<(), WireError> {
    let refused = WireError::new(ErrorCode::BadRequest);
    let Some(core) = facts.places.core_here(shard) else {
        return Err(refused.with_message(format!("there is no shard {shard}")));
    };
    if core.0 == facts.hello.core_index {
        return Ok(());
    }
    let node = NodeId(facts.hello.node_id);
    let hint = facts.places.address(PeerCore { node, core });
    Err(WireError {
        hint: hint.unwrap_or_default(),
        ..refused.with_message(format!(
            "replicas of shard {shard} live on core {core} of node {node}"
        ))
    })
}

/// Why a replica is not created.
pub(crate) fn create_refused(refused: &CreateRefused) -> WireError {
    let code = match refused {
        CreateRefused::ShardIsHere { .. } | CreateRefused::IdTaken { .. } => ErrorCode::Conflict,
        CreateRefused::NoReplica => ErrorCode::BadRequest,
        CreateRefused::Draining => ErrorCode::ShuttingDown,
    };
    WireError::new(code).with_message(refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_is_one_change_of_voters() {
        let asked = AdminRequest::ChangeVoters {
            shard: 1,
            promoted: Some(9),
            removed: Some(3),
            spare: SpareVoter::Kept,
        };
        let expected = MembersChange::ChangeVoters {
            promote: vec![ReplicaId(9)],
            remove: vec![ReplicaId(3)],
            spare: Spare::Kept,
        };
        assert_eq!(members_change(&asked), Some(expected));
        assert_eq!(members_change(&AdminRequest::Members { shard: 1 }), None);
    }

    #[test]
    fn who_has_no_replica_says_so_with_zeros() {
        assert_eq!(members_reply(None, &[]), AdminReply::default());
    }
}
