//! What all nodes of a new cluster know of each other: where each can be reached, and which replicas it begins with.
//!
//! It is made once, from a file that all nodes share, and stays in the `node.toml` of each. It says how a cluster began;
//! it does **not** follow what becomes of its members later, which the logs say.

mod error;
mod host_port;
mod placement;

use std::collections::{BTreeMap, BTreeSet};

use metastore_engine::{ClusterId, CoreId, Member, NodeId, ReplicaId, SLOT_COUNT, ShardId};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::error::ClusterError;
pub(crate) use self::host_port::{HostPort, HostPortError};
use super::node_file::{HistoryBounds, ReplicaPlace};

/// Every node keeps connections to all others, from each of its cores to each of theirs.
pub(crate) const NODES_MAX: usize = 256;
/// Each recovery is a loss of data that somebody has accepted.
pub(crate) const RECOVERIES_MAX: usize = 1_024;
/// Nodes that ever were, those that are gone included: their ids are remembered.
const NODES_EVER_MAX: usize = 4_096;
/// More cores than any machine has.
pub(crate) const CORES_MAX: usize = 1_024;
/// Each further voter makes every write slower, and seven survive the loss of three.
pub(crate) const REPLICAS_MAX: usize = 7;
/// Voters of a shard where nobody says how many.
pub(crate) const REPLICAS_DEFAULT: usize = 3;

/// Of the encoding that is hashed.
const MAP_VERSION: u32 = 1;

/// A node of a cluster as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterNode {
    pub(crate) node: NodeId,
    /// Where clients reach core 0; core `n` is at the port `n` above.
    pub(crate) clients: HostPort,
    /// Where other nodes reach core 0, likewise.
    pub(crate) peers: HostPort,
    pub(crate) cores: usize,
}

/// How a cluster begins. Whoever has one knows that it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    /// What every replica of a shard must forget alike.
    pub(crate) history: HistoryBounds,
    /// Ascending by their ids.
    pub(crate) nodes: Vec<ClusterNode>,
    /// Those of the nodes that were taken off the list. Others may have their addresses, and none their ids.
    pub(crate) gone: BTreeSet<NodeId>,
    /// The voters with which each shard begins, ascending by their ids.
    pub(crate) members: BTreeMap<ShardId, Vec<Member>>,
    /// The numbers that were drawn each time it was recovered after most voters of a shard were lost, oldest first.
    pub(crate) recoveries: Vec<u128>,
}

/// What a cluster is made of, before anybody has looked whether it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewCluster {
    pub(crate) id: ClusterId,
    pub(crate) history: HistoryBounds,
    /// In any order.
    pub(crate) nodes: Vec<ClusterNode>,
    /// As many as there are cores when `None`.
    pub(crate) shards: Option<usize>,
    /// Voters of each shard; [`REPLICAS_DEFAULT`] when `None`, or one a node where there are fewer nodes.
    pub(crate) replicas: Option<usize>,
    /// None, but for nodes that join a cluster that was recovered.
    pub(crate) recoveries: Vec<u128>,
}

impl NewCluster {
    pub(crate) fn shards(&self) -> usize {
        let cores = self.nodes.iter().map(|node| node.cores).sum();
        self.shards.unwrap_or(cores)
    }

    pub(crate) fn replicas(&self) -> usize {
        let default = self.nodes.len().min(REPLICAS_DEFAULT);
        self.replicas.unwrap_or(default)
    }

    /// Checks everything, and gives every replica its place.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub(crate) fn place(mut self) -> Result<Cluster, ClusterError> {
        self.nodes.sort_by_key(|node| node.node);
        check_nodes(&self.nodes, &BTreeSet::new())?;
        let (shards, replicas) = (self.shards(), self.replicas());
        check_count("shards", shards, SLOT_COUNT)?;
        check_count("replicas", replicas, REPLICAS_MAX)?;
        if replicas > self.nodes.len() {
            return Err(ClusterError::TooFewNodes {
                replicas,
                nodes: self.nodes.len(),
            });
        }
        let members = placement::place(&self.nodes, shards, replicas);
        Ok(Cluster {
            id: self.id,
            history: self.history,
            nodes: self.nodes,
            gone: BTreeSet::new(),
            members,
            recoveries: self.recoveries,
        })
    }
}

impl Cluster {
    /// Puts together what a file says of a cluster that was placed before.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub(crate) fn from_parts(
        (id, history): (ClusterId, HistoryBounds),
        (mut nodes, gone): (Vec<ClusterNode>, BTreeSet<NodeId>),
        mut members: BTreeMap<ShardId, Vec<Member>>,
    ) -> Result<Cluster, ClusterError> {
        nodes.sort_by_key(|node| node.node);
        check_nodes(&nodes, &gone)?;
        check_count("shards", members.len(), SLOT_COUNT)?;
        for voters in members.values_mut() {
            voters.sort_unstable();
        }
        check_members(&nodes, &members)?;
        Ok(Cluster {
            id,
            history,
            nodes,
            gone,
            members,
            recoveries: Vec::new(),
        })
    }

    /// The same cluster after these recoveries.
    pub(crate) fn with_recoveries(self, recoveries: Vec<u128>) -> Cluster {
        Cluster { recoveries, ..self }
    }

    /// How many times it was recovered.
    pub(crate) fn epoch(&self) -> u32 {
        u32::try_from(self.recoveries.len()).expect("recoveries are few")
    }

    /// The nodes that were not taken off the list.
    pub(crate) fn living(&self) -> impl Iterator<Item = &ClusterNode> {
        let nodes = self.nodes.iter();
        nodes.filter(|entry| !self.gone.contains(&entry.node))
    }

    /// The entry of a node, also of one that is gone.
    pub(crate) fn node(&self, node: NodeId) -> Option<&ClusterNode> {
        let at = self.nodes.binary_search_by_key(&node, |entry| entry.node);
        at.ok().map(|at| &self.nodes[at])
    }

    /// The same cluster with a node more, or with one that is to be found elsewhere.
    ///
    /// # Errors
    /// What cannot be, such as an address that another node has.
    pub(crate) fn with_node(&self, entry: ClusterNode) -> Result<Cluster, ClusterError> {
        if self.gone.contains(&entry.node) {
            return Err(ClusterError::Gone { node: entry.node });
        }
        if let Some(known) = self.node(entry.node)
            && known.cores != entry.cores
        {
            return Err(ClusterError::CoresChanged {
                node: entry.node,
                known: known.cores,
                asked: entry.cores,
            });
        }
        let mut changed = self.clone();
        changed.nodes.retain(|known| known.node != entry.node);
        changed.nodes.push(entry);
        changed.nodes.sort_by_key(|entry| entry.node);
        check_nodes(&changed.nodes, &changed.gone)?;
        Ok(changed)
    }

    /// The same cluster without a node. Its id stays used.
    ///
    /// # Errors
    /// [`ClusterError::NodeUnknown`].
    pub(crate) fn without_node(&self, node: NodeId) -> Result<Cluster, ClusterError> {
        if self.node(node).is_none() {
            return Err(ClusterError::NodeUnknown { node });
        }
        let mut changed = self.clone();
        changed.gone.insert(node);
        Ok(changed)
    }

    /// The replicas that live on a node, ascending by shard.
    pub(crate) fn replicas_of(&self, node: NodeId) -> Vec<ReplicaPlace> {
        let of_shard = self.members.iter().filter_map(|(&shard, voters)| {
            let here = voters.iter().find(|member| member.home.node == node)?;
            Some(ReplicaPlace {
                replica: here.replica,
                shard,
                core: here.home.core,
            })
        });
        of_shard.collect()
    }

    /// The XXH3-64, seed 0, of how the cluster begins: nodes that differ in it mean different replicas by the same
    /// numbers, or would come to different states by the same log, and must not talk. Where a node can be reached is no part of it, because that may change.
    ///
    /// ```text
    ///      0       1       2       3       4       5       6       7
    ///  +-------+-------+-------+-------+-------+-------+-------+-------+
    ///  | version (u32), 1              | shards (u32)                  |
    ///  +-------------------------------+-------------------------------+
    ///  | cluster (u128)                                                |
    ///  |                                                               |
    ///  +---------------------------------------------------------------+
    ///  | revisions that the history holds at most (u64)                |
    ///  +---------------------------------------------------------------+
    ///  | milliseconds that it goes back at most (u64)                  |
    ///  +---------------------------------------------------------------+
    ///  | bytes that it takes at most (u64)                             |
    ///  +-------------------------------+-------------------------------+
    ///  | shard (u32)                   | voters (u32)                  |   for each shard, ascending
    ///  +-------------------------------+-------------------------------+
    ///  | replica (u64)                                                 |   for each of its voters, ascending
    ///  +-------------------------------+---------------+---------------+
    ///  | node (u32)                    | core (u16)    | 0     | 0     |
    ///  +-------------------------------+---------------+---------------+
    ///  | recovery (u128)                                               |   for each, oldest first: nodes that were
    ///  |                                                               |   recovered apart from each other differ in
    ///  +---------------------------------------------------------------+   what happened since
    /// ```
    ///
    /// All numbers are little-endian.
    pub(crate) fn initial_map_hash(&self) -> u64 {
        xxh3_64(&self.encode_map())
    }

    fn encode_map(&self) -> Vec<u8> {
        let count = |count: usize| u32::try_from(count).expect("counts are bounded");
        let mut bytes = Vec::new();
        bytes.extend(MAP_VERSION.to_le_bytes());
        bytes.extend(count(self.members.len()).to_le_bytes());
        bytes.extend(self.id.0.to_le_bytes());
        bytes.extend(self.history.revisions_max.to_le_bytes());
        bytes.extend(self.history.age_ms_max.to_le_bytes());
        bytes.extend(self.history.bytes_max.to_le_bytes());
        for (shard, voters) in &self.members {
            bytes.extend(shard.0.to_le_bytes());
            bytes.extend(count(voters.len()).to_le_bytes());
            for member in voters {
                bytes.extend(member.replica.0.to_le_bytes());
                bytes.extend(member.home.node.0.to_le_bytes());
                bytes.extend(member.home.core.0.to_le_bytes());
                bytes.extend([0; 2]);
            }
        }
        for recovery in &self.recoveries {
            bytes.extend(recovery.to_le_bytes());
        }
        bytes
    }
}

/// The core of a node where a replica of a shard lives that comes to it later: its other cores know that without being
/// told.
pub(crate) fn core_of_newcomer(shard: ShardId, cores: usize) -> CoreId {
    let core = shard.0 as usize % cores;
    CoreId(u16::try_from(core).expect("cores are bounded"))
}

fn check_count(key: &'static str, actual: usize, max: usize) -> Result<(), ClusterError> {
    match (1..=max).contains(&actual) {
        true => Ok(()),
        false => Err(ClusterError::Count { key, actual, max }),
    }
}

/// Checks nodes that are in the order of their ids. Those that are `gone` have no addresses any more.
fn check_nodes(nodes: &[ClusterNode], gone: &BTreeSet<NodeId>) -> Result<(), ClusterError> {
    let is_gone = |entry: &&ClusterNode| gone.contains(&entry.node);
    let living = nodes.len() - nodes.iter().filter(is_gone).count();
    check_count("the number of [[node]] entries", living, NODES_MAX)?;
    check_count(
        "the number of nodes that ever were",
        nodes.len(),
        NODES_EVER_MAX,
    )?;
    if nodes[0].node == NodeId(0) {
        return Err(ClusterError::NodeZero);
    }
    if let Some(pair) = nodes.windows(2).find(|pair| pair[0].node == pair[1].node) {
        return Err(ClusterError::NodeTwice { node: pair[0].node });
    }
    // Which node has which endpoint, and under which key.
    let mut endpoints: BTreeMap<HostPort, (NodeId, &'static str)> = BTreeMap::new();
    for entry in nodes {
        let node = entry.node;
        if !(1..=CORES_MAX).contains(&entry.cores) {
            return Err(ClusterError::Cores {
                node,
                actual: entry.cores,
                max: CORES_MAX,
            });
        }
        if is_gone(&entry) {
            continue;
        }
        for (key, first) in [("clients", &entry.clients), ("peers", &entry.peers)] {
            for core in 0..entry.cores {
                let core = CoreId(u16::try_from(core).expect("cores are bounded"));
                let Some(endpoint) = first.checked_of_core(core) else {
                    return Err(ClusterError::Ports {
                        node,
                        key,
                        first: first.clone(),
                        cores: entry.cores,
                    });
                };
                if let Some((other, other_key)) = endpoints.insert(endpoint.clone(), (node, key)) {
                    return Err(ClusterError::EndpointTwice {
                        endpoint,
                        node,
                        key,
                        other,
                        other_key,
                    });
                }
            }
        }
    }
    Ok(())
}

/// Checks voters that are in the order of their ids.
fn check_members(
    nodes: &[ClusterNode],
    members: &BTreeMap<ShardId, Vec<Member>>,
) -> Result<(), ClusterError> {
    let cores: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (node.node, node.cores)).collect();
    let mut replicas: BTreeMap<ReplicaId, ShardId> = BTreeMap::new();
    for (expected, (&shard, voters)) in members.iter().enumerate() {
        // Slots are split over shards in their order, and a hole would be a shard that nobody holds.
        if usize::try_from(shard.0) != Ok(expected) {
            return Err(ClusterError::ShardMissing {
                shard: ShardId(u32::try_from(expected).expect("shards are bounded")),
            });
        }
        if !(1..=REPLICAS_MAX).contains(&voters.len()) {
            return Err(ClusterError::Voters {
                shard,
                actual: voters.len(),
                max: REPLICAS_MAX,
            });
        }
        let mut homes = BTreeSet::new();
        for member in voters {
            let (replica, home) = (member.replica, member.home);
            if replica == ReplicaId(0) {
                return Err(ClusterError::ReplicaZero { shard });
            }
            if let Some(other) = replicas.insert(replica, shard) {
                return Err(ClusterError::ReplicaTwice {
                    replica,
                    shard,
                    other,
                });
            }
            match cores.get(&home.node) {
                Some(&cores) if usize::from(home.core.0) < cores => {}
                found => {
                    return Err(ClusterError::Home {
                        shard,
                        replica,
                        node: home.node,
                        core: home.core,
                        cores: found.copied().unwrap_or(0),
                    });
                }
            }
            if !homes.insert(home.node) {
                return Err(ClusterError::NodeHasTwo {
                    shard,
                    node: home.node,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
