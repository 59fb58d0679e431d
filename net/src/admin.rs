//! What operators ask: who the nodes and the members of shards are, and that they change.
//!
//! A request about a shard goes to a core that has a replica of it, or is to have one. Whoever asks gives replicas their
//! ids, which were never used before, and sees to the order of the steps. A request about nodes goes to any core.

use crate::body_error::BodyError;
use crate::generated::messages;
use crate::table::{TableBudget, append_root, read_root};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

/// Where a replica lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaHome {
    /// The node.
    pub node_id: u32,
    /// The core of that node.
    pub core_index: u16,
}

/// Whether a shard must be left with a voter that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpareVoter {
    /// It must.
    Kept,
    /// It need not.
    GivenUp,
}

/// A node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEntry<'a> {
    /// Its id.
    pub node_id: u32,
    /// How many cores it has.
    pub cores: u16,
    /// Where clients reach core 0, `host:port`; core `n` is at the port `n` above.
    pub clients: &'a str,
    /// Where other nodes reach core 0, likewise.
    pub peers: &'a str,
    /// Which data it has, a number that was drawn when it was formatted; 0 where that is not known.
    pub data_id: u64,
    /// Whether it is still one of the cluster's.
    pub standing: NodeStanding,
}

/// Whether a node is one of its cluster's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum NodeStanding {
    /// It is.
    #[default]
    Member,
    /// It was taken off the list. Its id is never used again.
    Gone,
}

/// A node of the cluster, of one's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedNodeEntry {
    /// Its id.
    pub node_id: u32,
    /// How many cores it has.
    pub cores: u16,
    /// Where clients reach core 0.
    pub clients: String,
    /// Where other nodes reach core 0.
    pub peers: String,
    /// Which data it has, 0 where that is not known.
    pub data_id: u64,
    /// Whether it is still one of the cluster's.
    pub standing: NodeStanding,
}

impl OwnedNodeEntry {
    /// The same, borrowed.
    #[must_use]
    pub fn as_entry(&self) -> NodeEntry<'_> {
        NodeEntry {
            node_id: self.node_id,
            cores: self.cores,
            clients: &self.clients,
            peers: &self.peers,
            data_id: self.data_id,
            standing: self.standing,
        }
    }
}

impl From<NodeEntry<'_>> for OwnedNodeEntry {
    fn from(entry: NodeEntry<'_>) -> OwnedNodeEntry {
        OwnedNodeEntry {
            node_id: entry.node_id,
            cores: entry.cores,
            clients: entry.clients.to_owned(),
            peers: entry.peers.to_owned(),
            data_id: entry.data_id,
            standing: entry.standing,
        }
    }
}

/// A request of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRequest<'a> {
    /// Who are the members of a shard? The leader knows most, and any replica answers.
    Members {
        /// The shard.
        shard: u32,
    },
    /// A replica is to live on this core, empty until the leader has it join. Asking twice does no harm.
    CreateReplica {
        /// Its shard.
        shard: u32,
        /// Its id.
        replica: u64,
    },
    /// A replica that was created joins and learns. Of the leader.
    AddLearner {
        /// The shard.
        shard: u32,
        /// The replica.
        replica: u64,
        /// Where it lives.
        home: ReplicaHome,
    },
    /// A replica that only learns is removed. Of the leader.
    RemoveLearner {
        /// The shard.
        shard: u32,
        /// The replica.
        replica: u64,
    },
    /// A learner begins to vote, a member goes, or both in one change, which is answered when it is over. Of the leader.
    ChangeVoters {
        /// The shard.
        shard: u32,
        /// The learner. It waits until that has caught up.
        promoted: Option<u64>,
        /// Who goes.
        removed: Option<u64>,
        /// Whether the shard must be left with a voter that can fail.
        spare: SpareVoter,
    },
    /// Another voter is to lead. Of the leader; it is answered before that has happened.
    TransferLeader {
        /// The shard.
        shard: u32,
        /// Who; whoever is best for it when `None`.
        to: Option<u64>,
    },
    /// A replica on this core is no member any more, as the leader of its shard has said: it goes with all it has.
    RemovedReplica {
        /// Its shard.
        shard: u32,
        /// The replica.
        replica: u64,
    },
    /// Which nodes does this one know?
    Nodes,
    /// A node is one of the cluster from now on, and is to be found there. Its replicas come later. Asking twice does no
    /// harm; asked again with other addresses it has moved.
    AddNode(NodeEntry<'a>),
    /// A node of which nothing is left is taken off the list for ever. Asking twice does no harm.
    ForgetNode {
        /// Its id.
        node_id: u32,
    },
}

impl<'a> AdminRequest<'a> {
    /// The shard that it is about; 0 where it is about none.
    #[must_use]
    pub fn shard(&self) -> u32 {
        match *self {
            AdminRequest::Nodes | AdminRequest::AddNode(_) | AdminRequest::ForgetNode { .. } => 0,
            AdminRequest::Members { shard }
            | AdminRequest::CreateReplica { shard, .. }
            | AdminRequest::AddLearner { shard, .. }
            | AdminRequest::RemoveLearner { shard, .. }
            | AdminRequest::ChangeVoters { shard, .. }
            | AdminRequest::TransferLeader { shard, .. }
            | AdminRequest::RemovedReplica { shard, .. } => shard,
        }
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| {
            let fields = self.fields(builder);
            messages::AdminRequest::create(builder, &fields)
        });
    }

    fn fields<'b>(&self, builder: &mut FlatBufferBuilder<'b>) -> messages::AdminRequestArgs<'b> {
        let mut fields = messages::AdminRequestArgs {
            shard: self.shard(),
            ..messages::AdminRequestArgs::default()
        };
        match *self {
            AdminRequest::Members { .. } => fields.action = messages::AdminAction::Members,
            AdminRequest::CreateReplica { replica, .. } => {
                fields.action = messages::AdminAction::CreateReplica;
                fields.replica = replica;
            }
            AdminRequest::AddLearner { replica, home, .. } => {
                fields.action = messages::AdminAction::AddLearner;
                fields.replica = replica;
                fields.node_id = home.node_id;
                fields.core_index = home.core_index;
            }
            AdminRequest::RemoveLearner { replica, .. } => {
                fields.action = messages::AdminAction::RemoveLearner;
                fields.replica = replica;
            }
            AdminRequest::ChangeVoters {
                promoted,
                removed,
                spare,
                ..
            } => {
                fields.action = messages::AdminAction::ChangeVoters;
                fields.replica = promoted.unwrap_or(0);
                fields.removed = removed.unwrap_or(0);
                fields.keep_spare = spare == SpareVoter::Kept;
            }
            AdminRequest::TransferLeader { to, .. } => {
                fields.action = messages::AdminAction::TransferLeader;
                fields.replica = to.unwrap_or(0);
            }
            AdminRequest::RemovedReplica { replica, .. } => {
                fields.action = messages::AdminAction::RemovedReplica;
                fields.replica = replica;
            }
            AdminRequest::Nodes => fields.action = messages::AdminAction::Nodes,
            AdminRequest::AddNode(entry) => {
                fields.action = messages::AdminAction::AddNode;
                fields.node = Some(build_node(builder, entry));
            }
            AdminRequest::ForgetNode { node_id } => {
                fields.action = messages::AdminAction::ForgetNode;
                fields.node_id = node_id;
            }
        }
        fields
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<AdminRequest<'a>, BodyError> {
        let table = read_root::<messages::AdminRequest<'_>>(body, TableBudget::Small)?;
        let (shard, replica) = (table.shard(), table.replica());
        let some = |replica: u64| (replica != 0).then_some(replica);
        Ok(match table.action() {
            messages::AdminAction::Members => AdminRequest::Members { shard },
            messages::AdminAction::CreateReplica => AdminRequest::CreateReplica { shard, replica },
            messages::AdminAction::AddLearner => AdminRequest::AddLearner {
                shard,
                replica,
                home: ReplicaHome {
                    node_id: table.node_id(),
                    core_index: table.core_index(),
                },
            },
            messages::AdminAction::RemoveLearner => AdminRequest::RemoveLearner { shard, replica },
            messages::AdminAction::ChangeVoters => AdminRequest::ChangeVoters {
                shard,
                promoted: some(replica),
                removed: some(table.removed()),
                spare: match table.keep_spare() {
                    true => SpareVoter::Kept,
                    false => SpareVoter::GivenUp,
                },
            },
            messages::AdminAction::TransferLeader => AdminRequest::TransferLeader {
                shard,
                to: some(replica),
            },
            messages::AdminAction::RemovedReplica => {
                AdminRequest::RemovedReplica { shard, replica }
            }
            messages::AdminAction::Nodes => AdminRequest::Nodes,
            messages::AdminAction::AddNode => {
                let node = table.node().ok_or(BodyError::FieldValue {
                    field: "node",
                    found: 0,
                })?;
                AdminRequest::AddNode(node_from_wire(&node))
            }
            messages::AdminAction::ForgetNode => AdminRequest::ForgetNode {
                node_id: table.node_id(),
            },
            messages::AdminAction(found) => {
                return Err(BodyError::FieldValue {
                    field: "action",
                    found: u64::from(found),
                });
            }
        })
    }
}

fn build_node<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    entry: NodeEntry<'_>,
) -> WIPOffset<messages::Node<'b>> {
    let clients = Some(builder.create_string(entry.clients));
    let peers = Some(builder.create_string(entry.peers));
    let fields = messages::NodeArgs {
        node_id: entry.node_id,
        cores: entry.cores,
        clients,
        peers,
        data_id: entry.data_id,
        is_gone: entry.standing == NodeStanding::Gone,
    };
    messages::Node::create(builder, &fields)
}

fn node_from_wire<'a>(node: &messages::Node<'a>) -> NodeEntry<'a> {
    NodeEntry {
        node_id: node.node_id(),
        cores: node.cores(),
        clients: node.clients(),
        peers: node.peers(),
        data_id: node.data_id(),
        standing: match node.is_gone() {
            true => NodeStanding::Gone,
            false => NodeStanding::Member,
        },
    }
}

/// What part a member plays in the quorums of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberPart {
    /// It votes.
    Voter,
    /// It holds the log and does not vote.
    Learner,
    /// It votes in the half of a joint state that stays, and did not before.
    Incoming,
    /// It votes in the half of a joint state that goes.
    Outgoing,
}

/// A member of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardMember {
    /// Its id.
    pub replica: u64,
    /// Where it lives.
    pub home: ReplicaHome,
    /// What part it plays.
    pub part: MemberPart,
    /// Up to where the leader knows it to hold the log; 0 where another replica answered.
    pub matched: u64,
    /// Whether the leader has heard of it lately; false where another replica answered.
    pub is_healthy: bool,
}

/// The answer to a request of an operator. What a request does not ask for is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdminReply {
    /// The index of the entry that completed a change.
    pub index: u64,
    /// The replica that answered; 0 where none of the shard lives there.
    pub replica: u64,
    /// The one that leads; 0 where that is not known.
    pub leader: u64,
    /// The newest replica that ever was a member.
    pub newest: u64,
    /// Whether most of the voters know of the newest change; only the leader can say so.
    pub is_settled: bool,
    /// The members.
    pub members: Vec<ShardMember>,
    /// The nodes.
    pub nodes: Vec<OwnedNodeEntry>,
}

impl AdminReply {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| {
            let mut members = Vec::with_capacity(self.members.len());
            for member in &self.members {
                let part = match member.part {
                    MemberPart::Voter => messages::MemberPart::Voter,
                    MemberPart::Learner => messages::MemberPart::Learner,
                    MemberPart::Incoming => messages::MemberPart::Incoming,
                    MemberPart::Outgoing => messages::MemberPart::Outgoing,
                };
                let fields = messages::MemberArgs {
                    replica: member.replica,
                    node_id: member.home.node_id,
                    core_index: member.home.core_index,
                    part,
                    matched: member.matched,
                    is_healthy: member.is_healthy,
                };
                members.push(messages::Member::create(builder, &fields));
            }
            let members = (!members.is_empty()).then(|| builder.create_vector(&members));
            let nodes = self.nodes.iter();
            let nodes: Vec<_> = nodes
                .map(|node| build_node(builder, node.as_entry()))
                .collect();
            let nodes = (!nodes.is_empty()).then(|| builder.create_vector(&nodes));
            let fields = messages::AdminReplyArgs {
                index: self.index,
                replica: self.replica,
                leader: self.leader,
                newest: self.newest,
                is_settled: self.is_settled,
                members,
                nodes,
            };
            messages::AdminReply::create(builder, &fields)
        });
    }

    pub(crate) fn decode(body: &[u8]) -> Result<AdminReply, BodyError> {
        let table = read_root::<messages::AdminReply<'_>>(body, TableBudget::Lists)?;
        let members = table.members().into_iter().flatten();
        let members: Result<_, _> = members.map(|member| member_from_wire(&member)).collect();
        let nodes = table.nodes().into_iter().flatten();
        let nodes = nodes.map(|node| OwnedNodeEntry::from(node_from_wire(&node)));
        Ok(AdminReply {
            index: table.index(),
            replica: table.replica(),
            leader: table.leader(),
            newest: table.newest(),
            is_settled: table.is_settled(),
            members: members?,
            nodes: nodes.collect(),
        })
    }
}

fn member_from_wire(member: &messages::Member<'_>) -> Result<ShardMember, BodyError> {
    Ok(ShardMember {
        replica: member.replica(),
        home: ReplicaHome {
            node_id: member.node_id(),
            core_index: member.core_index(),
        },
        part: match member.part() {
            messages::MemberPart::Voter => MemberPart::Voter,
            messages::MemberPart::Learner => MemberPart::Learner,
            messages::MemberPart::Incoming => MemberPart::Incoming,
            messages::MemberPart::Outgoing => MemberPart::Outgoing,
            messages::MemberPart(found) => {
                return Err(BodyError::FieldValue {
                    field: "part",
                    found: u64::from(found),
                });
            }
        },
        matched: member.matched(),
        is_healthy: member.is_healthy(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{sample_admin_reply, sample_admin_requests};

    #[test]
    fn requests_and_answers_are_read_as_they_were_written() {
        for request in sample_admin_requests() {
            let mut body = Vec::new();
            request.encode_into(&mut body);
            assert_eq!(AdminRequest::decode(&body), Ok(request));
        }
        for reply in [AdminReply::default(), sample_admin_reply()] {
            let mut body = Vec::new();
            reply.encode_into(&mut body);
            assert_eq!(AdminReply::decode(&body), Ok(reply));
        }
    }

    #[test]
    fn an_action_that_is_not_known_is_refused_by_name() {
        let mut body = Vec::new();
        append_root(&mut body, |builder| {
            let fields = messages::AdminRequestArgs {
                action: messages::AdminAction(99),
                ..messages::AdminRequestArgs::default()
            };
            messages::AdminRequest::create(builder, &fields)
        });
        let refused = AdminRequest::decode(&body);
        let expected = BodyError::FieldValue {
            field: "action",
            found: 99,
        };
        assert_eq!(refused, Err(expected));
    }
}
