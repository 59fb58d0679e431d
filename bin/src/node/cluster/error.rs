//! Why a cluster cannot be.

use metastore_engine::{CoreId, NodeId, ReplicaId, ShardId};
use thiserror::Error;

use super::HostPort;

/// Why a cluster cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ClusterError {
    /// A node is to have another number of cores than it was formatted with.
    #[error("node {node} has {known} cores, not {asked}: that is fixed when it is formatted")]
    CoresChanged {
        /// Which.
        node: NodeId,
        /// What it has.
        known: usize,
        /// What was asked for.
        asked: usize,
    },
    /// A node was taken off the list.
    #[error("node {node} was taken off the list of nodes, and its id is never used again")]
    Gone {
        /// Which.
        node: NodeId,
    },
    /// Nobody knows a node.
    #[error("there is no node {node}")]
    NodeUnknown {
        /// Which.
        node: NodeId,
    },
    /// Too few or too many of something.
    #[error("{key} is {actual}, it must lie between 1 and {max}")]
    Count {
        /// Of what.
        key: &'static str,
        /// How many.
        actual: usize,
        /// The most.
        max: usize,
    },
    /// A shard cannot have two voters on a node.
    #[error(
        "replicas is {replicas}, and there are {nodes} nodes: a shard has at most one replica on a node"
    )]
    TooFewNodes {
        /// Voters of a shard.
        replicas: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Zero names no node.
    #[error("a node has id = 0, it must lie between 1 and {}", u32::MAX)]
    NodeZero,
    /// Two nodes have one id.
    #[error("two nodes have id = {node}: each has one of its own")]
    NodeTwice {
        /// The id.
        node: NodeId,
    },
    /// A node without cores, or with more than any machine has.
    #[error("node {node}: cores is {actual}, it must lie between 1 and {max}")]
    Cores {
        /// The node.
        node: NodeId,
        /// How many.
        actual: usize,
        /// The most.
        max: usize,
    },
    /// The last core's port does not exist.
    #[error(
        "node {node}: {key} = \"{first}\" is too high for {cores} cores: the last one would need a port above 65535"
    )]
    Ports {
        /// The node.
        node: NodeId,
        /// Which of its endpoints.
        key: &'static str,
        /// That of core 0.
        first: HostPort,
        /// How many.
        cores: usize,
    },
    /// Two sockets cannot have one address.
    #[error(
        "node {node}: {key} of its cores include {endpoint}, which {other_key} of node {other} include too: core n is at the port n above the first"
    )]
    EndpointTwice {
        /// What there is twice.
        endpoint: HostPort,
        /// The node that comes second.
        node: NodeId,
        /// Which of its endpoints.
        key: &'static str,
        /// The node that comes first, possibly the same.
        other: NodeId,
        /// Which of its endpoints.
        other_key: &'static str,
    },
    /// The shards are not those from 0 on.
    #[error("shard {shard} has no members, and there are shards behind it")]
    ShardMissing {
        /// The first that is missing.
        shard: ShardId,
    },
    /// Too few or too many voters.
    #[error("shard {shard} has {actual} members, it must have between 1 and {max}")]
    Voters {
        /// The shard.
        shard: ShardId,
        /// How many.
        actual: usize,
        /// The most.
        max: usize,
    },
    /// Zero names no replica.
    #[error("shard {shard} has a member with replica = 0, they begin with 1")]
    ReplicaZero {
        /// The shard.
        shard: ShardId,
    },
    /// Two members have one id.
    #[error(
        "replica {replica} is a member of shard {shard} and of shard {other}: each has an id of its own"
    )]
    ReplicaTwice {
        /// The id.
        replica: ReplicaId,
        /// Where it comes second.
        shard: ShardId,
        /// Where it comes first, possibly the same.
        other: ShardId,
    },
    /// A member lives on a core that there is not.
    #[error(
        "replica {replica} of shard {shard} is on core {core} of node {node}, which has {cores} cores"
    )]
    Home {
        /// The shard.
        shard: ShardId,
        /// The member.
        replica: ReplicaId,
        /// Its node.
        node: NodeId,
        /// Its core.
        core: CoreId,
        /// How many that node has; 0 for a node that is none of the cluster's.
        cores: usize,
    },
    /// The loss of a node must not cost a shard two votes.
    #[error("shard {shard} has two members on node {node}: at most one is allowed")]
    NodeHasTwo {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
    },
}
