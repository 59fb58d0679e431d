//! What a node is.

use std::collections::BTreeMap;

use metastore_engine::{
    BootNonce, ClusterId, CoreConfig, CoreId, Identity, Namespaces, NodeId, ReplicaId, Settings,
    ShardId, ShardLocation, ShardMap,
};
use metastore_statemachine::Parameters;
use metastore_wal::{LogOptions, SealKey};

use crate::mutants::Mutant;

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
    /// Shards, each with one replica.
    pub shards: u32,
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
    /// The bug planted in the driver or the device, if any.
    pub mutant: Option<Mutant>,
}

/// The one node of a simulated cluster.
pub const IDENTITY: Identity = Identity {
    cluster: ClusterId(0x5eed_5eed_5eed_5eed_5eed_5eed_5eed_5eed),
    node: NodeId(1),
    core: CoreId(0),
};

/// The secret of its log.
pub const SEAL: SealKey = SealKey(0x5ea1_5ea1_5ea1_5ea1);

impl NodeConfig {
    /// Every replica with its shard, in the order of the shards.
    #[must_use]
    pub fn replicas(&self) -> Vec<(ReplicaId, ShardId)> {
        (0..self.shards)
            .map(|shard| (ReplicaId(u64::from(shard) + 1), ShardId(shard)))
            .collect()
    }

    pub(super) fn core(&self, boot: u64) -> CoreConfig {
        let locations = (0..self.shards).map(|shard| ShardLocation {
            shard: ShardId(shard),
            core: IDENTITY.core,
            address: String::from("simulated:1"),
        });
        CoreConfig {
            identity: IDENTITY,
            cores: 1,
            replicas: self.replicas(),
            members: BTreeMap::new(),
            shard_map: ShardMap::split_evenly(locations.collect()).expect("a few shards"),
            namespaces: Namespaces::default(),
            settings: self.settings.clone(),
            log: self.log.clone(),
            parameters: Parameters::default(),
            seed: self.seed,
            boot: BootNonce(boot),
        }
    }
}
