//! What a node is.

use std::collections::BTreeMap;

use metastore_engine::{
    BootNonce, ClusterId, CoreConfig, CoreId, Identity, Member, Namespaces, NodeId, ReplicaId,
    Settings, ShardId, ShardLocation, ShardMap,
};
use metastore_statemachine::Parameters;
use metastore_wal::{LogOptions, SealKey};

/// How a write of the log is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMethod {
    /// The write itself is durable when it completes.
    DurableWrite,
    /// A flush follows the write.
    WriteThenFlush,
}

/// What a node is, through all its lives.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Which part of which cluster it is.
    pub placement: Placement,
    /// The log.
    pub log: LogOptions,
    /// The core's settings.
    pub settings: Settings,
    /// What must be free on the disk for more than deletes.
    pub disk_low_bytes: u64,
    /// How writes are flushed.
    pub flush: FlushMethod,
    /// Seed of the core.
    pub seed: u64,
}

/// The one core of a simulated cluster that has no other.
pub const IDENTITY: Identity = Identity {
    cluster: ClusterId(0x5eed_5eed_5eed_5eed_5eed_5eed_5eed_5eed),
    node: NodeId(1),
    core: CoreId(0),
};

/// The secret of its log.
pub const SEAL: SealKey = SealKey(0x5ea1_5ea1_5ea1_5ea1);

/// Which part of a cluster one core is, and what lives on it.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Cluster, node and core.
    pub identity: Identity,
    /// How many cores its node has.
    pub cores: usize,
    /// Its replicas, each with its shard, in the order of the shards.
    pub replicas: Vec<(ReplicaId, ShardId)>,
    /// The voters of each shard. A shard that is not in it has its replica here alone.
    pub members: BTreeMap<ShardId, Vec<Member>>,
    /// Where every shard is.
    pub shard_map: ShardMap,
}

impl Placement {
    /// A cluster of one core, with so many shards of one replica.
    #[must_use]
    pub fn alone(shards: u32) -> Placement {
        let locations = (0..shards).map(|shard| ShardLocation {
            shard: ShardId(shard),
            core: IDENTITY.core,
        });
        Placement {
            identity: IDENTITY,
            cores: 1,
            replicas: (0..shards)
                .map(|shard| (ReplicaId(u64::from(shard) + 1), ShardId(shard)))
                .collect(),
            members: BTreeMap::new(),
            shard_map: ShardMap::split_evenly(locations.collect()).expect("a few shards"),
        }
    }
}

impl NodeConfig {
    pub(super) fn core(&self, boot: u64) -> CoreConfig {
        let Placement {
            identity,
            cores,
            replicas,
            members,
            shard_map,
        } = self.placement.clone();
        CoreConfig {
            identity,
            cores,
            replicas,
            members,
            shard_map,
            namespaces: Namespaces::default(),
            settings: self.settings.clone(),
            log: self.log.clone(),
            parameters: Parameters::default(),
            seed: self.seed,
            boot: BootNonce(boot),
        }
    }
}
