//! Which core leads which keys, as the store last said.

use crate::shard_map::{ShardMapReply, ShardPlace};
use metastore_statemachine::{NamespaceId, Namespaces, SLOT_COUNT, Scope, Slot, slot_of};

/// Where a request is best sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To the core that leads this slot.
    Slot(Slot),
    /// To any core.
    Any,
}

impl Route {
    pub(super) fn of_key(namespaces: &Namespaces, namespace: NamespaceId, key: &[u8]) -> Route {
        match namespaces.rule(namespace) {
            Some(rule) => Route::Slot(slot_of(namespace, rule.routing_part(key))),
            None => Route::Any,
        }
    }

    pub(super) fn of_range(
        namespaces: &Namespaces,
        namespace: NamespaceId,
        prefix: &[u8],
        scope: Scope,
    ) -> Route {
        let rule = namespaces.rule(namespace);
        let shared = rule.and_then(|rule| rule.shared_routing_part(prefix, scope));
        shared.map_or(Route::Any, |part| Route::Slot(slot_of(namespace, part)))
    }
}

/// A shard map, turned the way a client asks it.
#[derive(Debug)]
pub(super) struct Placement {
    epoch: u64,
    /// Per slot the index of its shard, or [`NOWHERE`].
    slots: Vec<u16>,
    /// Per shard its id and who has a replica of it.
    shards: Vec<(u32, Vec<String>)>,
    map: ShardMapReply,
    /// Everybody who holds a replica, each once: those that lead first, in the order of the shards.
    addresses: Vec<String>,
}

const NOWHERE: u16 = u16::MAX;

impl Placement {
    /// A map that contradicts itself places what it can: any core takes any request, so a gap costs a hop and nothing
    /// else.
    pub(super) fn new(map: &ShardMapReply) -> Placement {
        let mut slots = vec![NOWHERE; SLOT_COUNT];
        let replicas = |place: &ShardPlace| {
            let mut replicas = vec![place.address.clone()];
            for follower in &place.followers {
                if !follower.is_empty() && !replicas.contains(follower) {
                    replicas.push(follower.clone());
                }
            }
            (place.shard, replicas)
        };
        let shards = map.shards.iter().take(usize::from(NOWHERE));
        let shards = shards.map(replicas).collect();
        let leaders = map.shards.iter().map(|place| &place.address);
        let followers = map.shards.iter().flat_map(|place| &place.followers);
        let mut addresses: Vec<String> = Vec::new();
        for address in leaders.chain(followers) {
            // Where a node is may not be known to whoever answers.
            if !address.is_empty() && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        // Another number of slots is another way to compute them.
        if map.slot_count as usize == SLOT_COUNT {
            for (index, place) in (0..NOWHERE).zip(&map.shards) {
                for range in &place.slots {
                    let last = usize::from(range.last).min(SLOT_COUNT - 1);
                    let owned = slots.get_mut(usize::from(range.first)..=last);
                    owned.unwrap_or_default().fill(index);
                }
            }
        }
        Placement {
            epoch: map.epoch,
            slots,
            shards,
            map: map.clone(),
            addresses,
        }
    }

    /// Whether there are several nodes, so that one of them may not have all shards.
    pub(super) fn is_spread(&self) -> bool {
        let mut nodes = self.map.shards.iter().flat_map(|place| {
            let followers = place.follower_nodes.iter().copied();
            std::iter::once(place.node_id).chain(followers)
        });
        let first = nodes.next();
        nodes.any(|node| Some(node) != first)
    }

    /// The map as the store told it.
    pub(super) fn map(&self) -> &ShardMapReply {
        &self.map
    }

    /// Every shard that has slots, with one of them.
    pub(super) fn shards(&self) -> Vec<(u32, Slot)> {
        let mut shards = Vec::with_capacity(self.shards.len());
        for (index, (shard, _)) in (0..NOWHERE).zip(&self.shards) {
            let slot = self.slots.iter().position(|owner| *owner == index);
            if let Some(slot) = slot.and_then(|slot| u16::try_from(slot).ok()) {
                shards.push((*shard, Slot(slot)));
            }
        }
        shards
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The shard that owns a slot and the address that leads it.
    pub(super) fn leader(&self, slot: Slot) -> Option<(u32, &str)> {
        let (shard, replicas) = self.shard_of(slot)?;
        let leader = replicas.first()?;
        (!leader.is_empty()).then_some((*shard, leader))
    }

    /// Who has a replica of the shard that owns a slot: who leads first, if that is known.
    pub(super) fn replicas(&self, slot: Slot) -> &[String] {
        let replicas = self.shard_of(slot).map(|(_, replicas)| replicas.as_slice());
        match replicas.unwrap_or_default() {
            [leader, followers @ ..] if leader.is_empty() => followers,
            replicas => replicas,
        }
    }

    fn shard_of(&self, slot: Slot) -> Option<&(u32, Vec<String>)> {
        let index = *self.slots.get(usize::from(slot.0))?;
        self.shards.get(usize::from(index))
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// All addresses, each once: those that lead first, in the order of the shards.
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::SlotRange;

    fn place(shard: u32, first: u16, last: u16, address: &str) -> ShardPlace {
        ShardPlace {
            shard,
            slots: vec![SlotRange { first, last }],
            node_id: 1,
            core_index: 0,
            address: address.to_owned(),
            followers: vec!["b:2".to_owned(), "f:9".to_owned()],
            follower_nodes: Vec::new(),
        }
    }

    fn map(slot_count: u32, shards: Vec<ShardPlace>) -> ShardMapReply {
        ShardMapReply {
            epoch: 7,
            slot_count,
            shards,
        }
    }

    #[test]
    fn slots_lead_to_the_address_of_their_shard() {
        let shards = vec![
            place(3, 0, 8191, "a:1"),
            place(9, 8192, 16383, "b:2"),
            place(11, 1, 1, "a:1"),
        ];
        let placement = Placement::new(&map(16_384, shards));
        assert_eq!(placement.leader(Slot(0)), Some((3, "a:1")));
        assert_eq!(placement.leader(Slot(1)), Some((11, "a:1")));
        assert_eq!(placement.leader(Slot(8191)), Some((3, "a:1")));
        assert_eq!(placement.leader(Slot(16383)), Some((9, "b:2")));
        assert_eq!(placement.replicas(Slot(0)), ["a:1", "b:2", "f:9"]);
        assert_eq!(placement.replicas(Slot(16383)), ["b:2", "f:9"]);
        assert_eq!(placement.addresses(), ["a:1", "b:2", "f:9"]);
        assert_eq!(placement.epoch(), 7);
    }

    #[test]
    fn a_map_that_contradicts_itself_places_what_it_can() {
        let shards = vec![
            place(1, 5, 60_000, "a:1"),
            place(2, 40_000, 50_000, "b:2"),
            place(3, 9, 8, "c:3"),
        ];
        let placement = Placement::new(&map(16_384, shards));
        assert_eq!(placement.leader(Slot(4)), None);
        assert_eq!(placement.leader(Slot(9)), Some((1, "a:1")));
        assert_eq!(placement.leader(Slot(16383)), Some((1, "a:1")));
        assert_eq!(placement.leader(Slot(u16::MAX)), None);
        let other = Placement::new(&map(4096, vec![place(1, 0, 4095, "a:1")]));
        assert_eq!(other.leader(Slot(0)), None);
        assert_eq!(other.addresses(), ["a:1", "b:2", "f:9"]);
    }

    #[test]
    fn keys_and_ranges_of_known_namespaces_have_a_slot() {
        let namespaces = Namespaces::default();
        let children = Scope::Children { separator: b'/' };
        let key = Route::of_key(&namespaces, NamespaceId::DEFAULT, b"/a/b");
        // Of the table in docs/PROTOCOL.md.
        assert_eq!(key, Route::Slot(Slot(8897)));
        let range = Route::of_range(&namespaces, NamespaceId::DEFAULT, b"/a/", children);
        assert_eq!(range, key);
        let subtree = Route::of_range(&namespaces, NamespaceId::DEFAULT, b"/a/", Scope::Subtree);
        assert_eq!(subtree, Route::Any);
        let unknown = Route::of_key(&namespaces, NamespaceId(9), b"/a/b");
        assert_eq!(unknown, Route::Any);
    }
}
