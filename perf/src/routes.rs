//! Who leads which keys of a cluster, as its map of shards last said.
//!
//! It does **not** ask anybody: whoever holds it hands it newer maps and what the answers of a store hint at.

use std::net::{SocketAddr, ToSocketAddrs};

use metastore_net::{ShardMapReply, ShardPlace};
use metastore_statemachine::{NamespaceId, NamespaceRule, Namespaces, SLOT_COUNT, slot_of};

/// The leaders of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routes {
    /// Per slot the place of its shard in `shards`.
    slots: Vec<u16>,
    /// In ascending order of their ids.
    shards: Vec<ShardRoute>,
    /// That of the default namespace, in which all load is.
    rule: NamespaceRule,
}

/// Where one shard is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ShardRoute {
    shard: u32,
    leader: SocketAddr,
    followers: Vec<SocketAddr>,
}

/// Why a map leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("the map of shards names the address {address:?}, which cannot be used")]
    Address { address: String },
    #[error("the map of shards has {found} slots, and this program computes {SLOT_COUNT}")]
    SlotCount { found: u32 },
    #[error("no shard of the map has slot {slot}")]
    NoShard { slot: usize },
}

/// A slot that no shard has.
const NOWHERE: u16 = u16::MAX;

impl Routes {
    /// The leaders that a map names. `None` where one node holds everything: each of its cores takes every request.
    pub(crate) fn of(map: &ShardMapReply) -> Result<Option<Routes>, RouteError> {
        let has_one_node = map
            .shards
            .windows(2)
            .all(|pair| pair[0].node_id == pair[1].node_id);
        if has_one_node && map.shards.iter().all(|place| place.followers.is_empty()) {
            return Ok(None);
        }
        if map.slot_count as usize != SLOT_COUNT {
            return Err(RouteError::SlotCount {
                found: map.slot_count,
            });
        }
        let shards = map.shards.iter().map(ShardRoute::of);
        let namespaces = Namespaces::default();
        Ok(Some(Routes {
            slots: slots_of(&map.shards)?,
            shards: shards.collect::<Result<_, _>>()?,
            rule: namespaces
                .rule(NamespaceId::DEFAULT)
                .expect("there is a default namespace"),
        }))
    }

    /// The place of the shard that has a key.
    pub(crate) fn shard_of(&self, key: &[u8]) -> usize {
        let slot = slot_of(NamespaceId::DEFAULT, self.rule.routing_part(key));
        usize::from(self.slots[usize::from(slot.0)])
    }

    /// How many shards there are.
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Whether keys belong to the same shards in both.
    pub(crate) fn has_slots_of(&self, other: &Routes) -> bool {
        self.slots == other.slots
    }

    /// Who leads the shard at a place.
    pub(crate) fn leader(&self, shard: usize) -> SocketAddr {
        self.shards[shard].leader
    }

    /// Everybody who leads something, each once, in the order of the shards.
    pub(crate) fn leaders(&self) -> Vec<SocketAddr> {
        distinct(self.shards.iter().map(|route| route.leader))
    }

    /// Everybody who holds a replica, each once, those that lead first.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let followers = self.shards.iter().flat_map(|route| route.followers.iter());
        distinct(self.leaders().into_iter().chain(followers.copied()))
    }

    /// The shard at a place is led from there now. Says whether that is news.
    pub(crate) fn lead_from(&mut self, shard: usize, leader: SocketAddr) -> bool {
        let route = &mut self.shards[shard];
        if route.leader == leader {
            return false;
        }
        route.followers.retain(|&follower| follower != leader);
        route.followers.push(route.leader);
        route.leader = leader;
        true
    }
}

impl ShardRoute {
    fn of(place: &ShardPlace) -> Result<ShardRoute, RouteError> {
        let followers = place.followers.iter().map(|address| resolve(address));
        Ok(ShardRoute {
            shard: place.shard,
            leader: resolve(&place.address)?,
            followers: followers.collect::<Result<_, _>>()?,
        })
    }
}

fn slots_of(shards: &[ShardPlace]) -> Result<Vec<u16>, RouteError> {
    let mut slots = vec![NOWHERE; SLOT_COUNT];
    for (place, shard) in (0..NOWHERE).zip(shards) {
        for range in &shard.slots {
            let (first, last) = (usize::from(range.first), usize::from(range.last));
            let owned = slots.get_mut(first..=last.min(SLOT_COUNT - 1));
            owned.unwrap_or_default().fill(place);
        }
    }
    match slots.iter().position(|&place| place == NOWHERE) {
        Some(slot) => Err(RouteError::NoShard { slot }),
        None => Ok(slots),
    }
}

fn distinct(all: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for address in all {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The first socket that a name stands for.
pub(crate) fn resolve(address: &str) -> Result<SocketAddr, RouteError> {
    let unusable = || RouteError::Address {
        address: address.to_owned(),
    };
    let mut found = address.to_socket_addrs().map_err(|_| unusable())?;
    found.next().ok_or_else(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::SlotRange;

    fn place(shard: u32, (first, last): (u16, u16), leader: u16, followers: &[u16]) -> ShardPlace {
        let address = |port: &u16| format!("127.0.0.1:{port}");
        ShardPlace {
            shard,
            slots: vec![SlotRange { first, last }],
            node_id: u32::from(leader),
            core_index: 0,
            address: address(&leader),
            followers: followers.iter().map(address).collect(),
            follower_nodes: Vec::new(),
        }
    }

    fn map(shards: Vec<ShardPlace>) -> ShardMapReply {
        ShardMapReply {
            epoch: 1,
            slot_count: SLOT_COUNT as u32,
            shards,
        }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn keys_lead_to_whoever_leads_their_shard() {
        let shards = vec![
            place(0, (0, 8_191), 7_001, &[7_002, 7_003]),
            place(1, (8_192, 16_383), 7_002, &[7_001, 7_003]),
        ];
        let mut routes = Routes::of(&map(shards)).unwrap().unwrap();
        // Slot 8,897, by the table in docs/PROTOCOL.md.
        assert_eq!(routes.shard_of(b"/a/b"), 1);
        assert_eq!(routes.shard_of(b"/a/c"), 1, "children stay together");
        assert_eq!(routes.leader(1), at(7_002));
        assert_eq!(routes.leaders(), [at(7_001), at(7_002)]);
        assert_eq!(routes.addresses(), [7_001, 7_002, 7_003].map(at));

        assert!(routes.lead_from(1, at(7_003)));
        assert!(!routes.lead_from(1, at(7_003)));
        assert_eq!(routes.leaders(), [at(7_001), at(7_003)]);
        assert_eq!(routes.addresses(), [7_001, 7_003, 7_002].map(at));
    }

    #[test]
    fn a_node_alone_needs_no_routes() {
        let alone = map(vec![
            place(0, (0, 8_191), 7_001, &[]),
            place(1, (8_192, 16_383), 7_001, &[]),
        ]);
        assert_eq!(Routes::of(&alone), Ok(None));
        let apart = map(vec![
            place(0, (0, 8_191), 7_001, &[]),
            place(1, (8_192, 16_383), 7_002, &[]),
        ]);
        assert!(Routes::of(&apart).unwrap().is_some(), "nobody has a copy");
    }

    #[test]
    fn a_map_with_a_hole_or_a_bad_address_is_refused() {
        let hole = map(vec![place(0, (0, 16_382), 7_001, &[7_002])]);
        let missing = RouteError::NoShard { slot: 16_383 };
        assert_eq!(Routes::of(&hole), Err(missing));
        let mut nameless = map(vec![place(0, (0, 16_383), 7_001, &[7_002])]);
        nameless.shards[0].followers[0].clear();
        let address = String::new();
        assert_eq!(Routes::of(&nameless), Err(RouteError::Address { address }));
        let mut other = map(vec![place(0, (0, 16_383), 7_001, &[7_002])]);
        other.slot_count = 4_096;
        let count = RouteError::SlotCount { found: 4_096 };
        assert_eq!(Routes::of(&other), Err(count));
    }
}
