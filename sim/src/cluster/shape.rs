//! How large a cluster is, and where its replicas live.

use std::collections::BTreeMap;

use metastore_engine::{
    ClusterId, CoreId, Identity, Member, NodeId, PeerCore, ReplicaId, ShardId, ShardLocation,
    ShardMap,
};
use metastore_statemachine::{Namespaces, slot_of};

use crate::checkers::replication::Voters;
use crate::node::{IDENTITY, Placement};
use crate::operation::NAMESPACE;

/// How large a cluster is when it begins. Every shard has a replica on every node, always on the core of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Nodes, numbered from 1.
    pub nodes: u32,
    /// Cores of each node.
    pub cores: u16,
    /// Shards.
    pub shards: u32,
}

impl Shape {
    /// All nodes.
    pub fn nodes(self) -> impl Iterator<Item = NodeId> {
        (1..=self.nodes).map(NodeId)
    }

    /// The cores of a node.
    pub fn cores(self) -> impl Iterator<Item = CoreId> {
        (0..self.cores).map(CoreId)
    }

    /// All shards.
    pub fn shards(self) -> impl Iterator<Item = ShardId> {
        (0..self.shards).map(ShardId)
    }

    /// The core that a shard lives on, on every node.
    #[must_use]
    pub fn core_of(self, shard: ShardId) -> CoreId {
        CoreId(u16::try_from(shard.0 % u32::from(self.cores)).expect("it is below a u16"))
    }

    /// The replica of a shard with which a node begins.
    #[must_use]
    pub fn replica(self, shard: ShardId, node: NodeId) -> ReplicaId {
        ReplicaId(u64::from(shard.0) * u64::from(self.nodes) + u64::from(node.0))
    }

    /// The newest of the replicas with which the cluster begins.
    #[must_use]
    pub fn newest_replica(self) -> ReplicaId {
        ReplicaId(u64::from(self.shards) * u64::from(self.nodes))
    }

    /// The voters with which every shard begins.
    #[must_use]
    pub fn voters(self) -> BTreeMap<ShardId, Voters> {
        let of_shard = |shard| {
            let voters = self
                .nodes()
                .map(move |node| (self.replica(shard, node), node));
            (shard, voters.collect())
        };
        self.shards().map(of_shard).collect()
    }

    /// The voters of every shard, as cores are told of them.
    fn members(self) -> BTreeMap<ShardId, Vec<Member>> {
        let of_shard = |shard| {
            let core = self.core_of(shard);
            let members = self.nodes().map(|node| Member {
                replica: self.replica(shard, node),
                home: PeerCore { node, core },
            });
            (shard, members.collect())
        };
        self.shards().map(of_shard).collect()
    }

    /// Where every shard is.
    #[must_use]
    pub fn shard_map(self) -> ShardMap {
        let locations = self.shards().map(|shard| ShardLocation {
            shard,
            core: self.core_of(shard),
        });
        ShardMap::split_evenly(locations.collect()).expect("a few shards")
    }

    /// Which part of the cluster a core is. On a node that joins later nothing lives.
    #[must_use]
    pub fn placement(self, place: PeerCore) -> Placement {
        let is_of_the_beginning = place.node.0 <= self.nodes;
        let here = self
            .shards()
            .filter(|&shard| is_of_the_beginning && self.core_of(shard) == place.core);
        Placement {
            identity: Identity {
                cluster: ClusterId(IDENTITY.cluster.0),
                node: place.node,
                core: place.core,
            },
            cores: usize::from(self.cores),
            replicas: here
                .map(|shard| (self.replica(shard, place.node), shard))
                .collect(),
            members: self.members(),
            shard_map: self.shard_map(),
        }
    }
}

/// The shard that a key belongs to.
#[must_use]
pub fn shard_of(map: &ShardMap, key: &[u8]) -> ShardId {
    let rule = Namespaces::default().rule(NAMESPACE);
    let part = rule.expect("the default namespace").routing_part(key);
    map.shard_of(slot_of(NAMESPACE, part))
}
