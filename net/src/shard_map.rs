//! Which core serves which slots.

use crate::body_error::BodyError;
use crate::generated::messages;
use crate::table::{TableBudget, append_root, read_root};

/// Slots from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    /// The first slot.
    pub first: u16,
    /// The last slot.
    pub last: u16,
}

/// One shard of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlace {
    /// The shard's id.
    pub shard: u32,
    /// Its slots.
    pub slots: Vec<SlotRange>,
    /// The node that leads it.
    pub node_id: u32,
    /// The core of that node.
    pub core_index: u16,
    /// Where that core listens, `host:port`.
    pub address: String,
    /// Where the cores listen that hold its other replicas.
    pub followers: Vec<String>,
    /// The nodes of those, in the same order; none where they are not told.
    pub follower_nodes: Vec<u32>,
}

/// The answer to `shard_map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMapReply {
    /// Grows with every change of the map.
    pub epoch: u64,
    /// How many slots there are.
    pub slot_count: u32,
    /// All shards, in order of their ids.
    pub shards: Vec<ShardPlace>,
}

impl ShardMapReply {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| {
            let mut shards = Vec::with_capacity(self.shards.len());
            for place in &self.shards {
                let slots: Vec<_> = place
                    .slots
                    .iter()
                    .map(|range| messages::SlotRange::new(range.first, range.last))
                    .collect();
                let slots = Some(builder.create_vector(&slots));
                let address = Some(builder.create_string(&place.address));
                let followers = (!place.followers.is_empty()).then(|| {
                    let followers = place.followers.iter();
                    let followers: Vec<_> =
                        followers.map(|one| builder.create_string(one)).collect();
                    builder.create_vector(&followers)
                });
                let nodes = &place.follower_nodes;
                let follower_nodes = (!nodes.is_empty()).then(|| builder.create_vector(nodes));
                let arguments = messages::ShardArgs {
                    shard: place.shard,
                    slots,
                    node_id: place.node_id,
                    core_index: place.core_index,
                    address,
                    followers,
                    follower_nodes,
                };
                shards.push(messages::Shard::create(builder, &arguments));
            }
            let shards = Some(builder.create_vector(&shards));
            let arguments = messages::ShardMapReplyArgs {
                epoch: self.epoch,
                slot_count: self.slot_count,
                shards,
            };
            messages::ShardMapReply::create(builder, &arguments)
        });
    }

    pub(crate) fn decode(body: &[u8]) -> Result<ShardMapReply, BodyError> {
        let table = read_root::<messages::ShardMapReply<'_>>(body, TableBudget::Lists)?;
        let shards = table.shards().map_or(Vec::new(), |shards| {
            shards.iter().map(|shard| place_from_wire(&shard)).collect()
        });
        Ok(ShardMapReply {
            epoch: table.epoch(),
            slot_count: table.slot_count(),
            shards,
        })
    }
}

fn place_from_wire(shard: &messages::Shard<'_>) -> ShardPlace {
    let slots = shard.slots().map_or(Vec::new(), |slots| {
        let range = |range: &messages::SlotRange| SlotRange {
            first: range.first(),
            last: range.last(),
        };
        slots.iter().map(range).collect()
    });
    ShardPlace {
        shard: shard.shard(),
        slots,
        node_id: shard.node_id(),
        core_index: shard.core_index(),
        address: shard.address().to_owned(),
        followers: shard.followers().map_or(Vec::new(), |followers| {
            followers.iter().map(str::to_owned).collect()
        }),
        follower_nodes: shard
            .follower_nodes()
            .map_or(Vec::new(), |nodes| nodes.iter().collect()),
    }
}
