//! Which connections lead to whoever leads each of the keys that are asked for, without hashing at every request.

use crate::keys::{Key, KeySpace};
use crate::routes::Routes;

/// The keys of a space with the lanes that lead to them. What a lane is, is up to whoever sends.
#[derive(Debug)]
pub(crate) struct KeyLeaders {
    space: KeySpace,
    /// What the table was made by.
    routes: Routes,
    /// Per number of a key the place of its shard.
    shards: Vec<u16>,
    /// Per shard its lane.
    lanes: Vec<u16>,
}

impl KeyLeaders {
    /// Finds the shards of the keys 0 to `keys` - 1. Until lanes are named all keys are in the first.
    pub(crate) fn new(routes: &Routes, space: KeySpace, keys: u64) -> KeyLeaders {
        let mut key = Key::default();
        let shards = (0..keys).map(|number| {
            space.write_key(number, &mut key);
            u16::try_from(routes.shard_of(&key)).expect("there are fewer shards than slots")
        });
        KeyLeaders {
            space,
            shards: shards.collect(),
            lanes: vec![0; routes.shard_count()],
            routes: routes.clone(),
        }
    }

    /// Whether these are the same keys in the same shards, whoever leads those.
    pub(crate) fn is_of(&self, routes: &Routes, space: KeySpace) -> bool {
        self.space == space && self.routes.has_slots_of(routes)
    }

    /// From now on each shard is led at the end of its lane.
    pub(crate) fn set_lanes(&mut self, lanes: &[u16]) {
        self.lanes.clear();
        self.lanes.extend_from_slice(lanes);
    }

    /// The shard of a key.
    pub(crate) fn shard(&self, number: u64) -> usize {
        usize::from(self.shards[number as usize])
    }

    /// The lane that leads to a key.
    pub(crate) fn lane(&self, number: u64) -> u16 {
        self.lanes[self.shard(number)]
    }

    /// How many keys the lane with the fewest leads to, of those that lead to any.
    pub(crate) fn fewest_keys(&self) -> usize {
        let last = self.lanes.iter().max().copied().unwrap_or(0);
        let mut counts = vec![0; usize::from(last) + 1];
        for &shard in &self.shards {
            counts[usize::from(self.lanes[usize::from(shard)])] += 1;
        }
        let led = counts.into_iter().filter(|&count| count > 0);
        led.min().unwrap_or(0)
    }
}
