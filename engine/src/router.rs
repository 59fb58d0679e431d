//! Where a slot lives: slot -> shard -> core. How a key finds its slot is the state machine's crate's, which clients use too.

pub use metastore_statemachine::{NamespaceRule, Namespaces, SLOT_COUNT, Slot, slot_of};
use thiserror::Error;

use crate::{CoreId, ShardId};

/// Where a shard is on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLocation {
    /// The shard.
    pub shard: ShardId,
    /// The core of this node that holds its replica, or answers that there is none here.
    pub core: CoreId,
}

/// The assignment of slots to shards and of shards to cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    epoch: u64,
    slots: Vec<ShardId>,
    shards: Vec<ShardLocation>,
}

/// Why a shard map is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShardMapError {
    /// No shard at all.
    #[error("a shard map needs at least one shard")]
    Empty,
    /// More shards than slots: some shard would own nothing.
    #[error("{shards} shards cannot share {SLOT_COUNT} slots")]
    TooManyShards {
        /// How many were asked for.
        shards: usize,
    },
}

impl ShardMap {
    /// Splits the slots evenly over `shards`, in order: the initial map of a cluster.
    ///
    /// # Errors
    /// Refuses no shards and more shards than slots.
    pub fn split_evenly(shards: Vec<ShardLocation>) -> Result<ShardMap, ShardMapError> {
        if shards.is_empty() {
            return Err(ShardMapError::Empty);
        }
        if shards.len() > SLOT_COUNT {
            return Err(ShardMapError::TooManyShards {
                shards: shards.len(),
            });
        }
        let slots = (0..SLOT_COUNT)
            .map(|slot| shards[slot * shards.len() / SLOT_COUNT].shard)
            .collect();
        Ok(ShardMap {
            epoch: 1,
            slots,
            shards,
        })
    }

    /// The map's epoch; it grows with every change.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The shards in ascending order.
    #[must_use]
    pub fn shards(&self) -> &[ShardLocation] {
        &self.shards
    }

    /// The shard that owns `slot`.
    #[must_use]
    pub fn shard_of(&self, slot: Slot) -> ShardId {
        self.slots[usize::from(slot.0)]
    }

    /// The core that holds `shard`, `None` when the map does not know it.
    #[must_use]
    pub fn core_of(&self, shard: ShardId) -> Option<CoreId> {
        let index = self
            .shards
            .binary_search_by_key(&shard, |location| location.shard)
            .ok()?;
        Some(self.shards[index].core)
    }

    /// The slots of `shard` as ranges of first and last slot.
    #[must_use]
    pub fn slot_ranges(&self, shard: ShardId) -> Vec<(Slot, Slot)> {
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for (index, _) in self
            .slots
            .iter()
            .enumerate()
            .filter(|&(_, owner)| *owner == shard)
        {
            let slot = Slot(u16::try_from(index).expect("a slot fits into 16 bits"));
            match ranges.last_mut() {
                Some((_, last)) if last.0 + 1 == slot.0 => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_an_owner_and_the_split_is_even() {
        for count in [1, 2, 3, 7, 64] {
            let shards = (0..count)
                .map(|shard| ShardLocation {
                    shard: ShardId(shard),
                    core: CoreId(0),
                })
                .collect();
            let map = ShardMap::split_evenly(shards).expect("a valid map");
            for shard in 0..count {
                let ranges = map.slot_ranges(ShardId(shard));
                assert_eq!(ranges.len(), 1);
                let owned = usize::from(ranges[0].1.0 - ranges[0].0.0) + 1;
                let fair = SLOT_COUNT / count as usize;
                assert!(
                    owned == fair || owned == fair + 1,
                    "shard {shard} of {count}: {owned}"
                );
            }
        }
    }
}
