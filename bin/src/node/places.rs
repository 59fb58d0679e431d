//! Where everybody is: the nodes of the cluster, where the replicas of each shard live and who leads it.
//!
//! All cores of a node share it. A core notes what its replicas know, and reads what others have noted; clients are told
//! it, and connections to other nodes are made by it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use metastore_engine::{CoreId, NodeId, PeerCore, ShardId, ShardMap};
use metastore_net::{ShardMapReply, ShardPlace, SlotRange};

use super::cluster::ClusterNode;

/// The places of a cluster; clones are handles to the same.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    epoch: u64,
    nodes: Mutex<BTreeMap<NodeId, KnownNode>>,
    /// Grows whenever a node comes or is found elsewhere.
    moves: AtomicU64,
    /// In ascending order of shards.
    shards: Vec<Place>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownNode {
    pub(crate) entry: ClusterNode,
    /// The address for other nodes, once its name is resolved.
    pub(crate) address: Option<IpAddr>,
}

#[derive(Debug)]
struct Place {
    shard: ShardId,
    /// The core of this node where its replica lives, or would.
    core_here: CoreId,
    slots: Vec<SlotRange>,
    now: Mutex<PlaceNow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PlaceNow {
    /// Where its replicas live, as far as it is known here.
    homes: Vec<PeerCore>,
    /// Where it is led from, as far as it was ever known here.
    leader: PeerCore,
}

impl PlaceNow {
    fn is_on(&self, node: NodeId) -> bool {
        self.homes.iter().any(|home| home.node == node)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the process")
}

impl Places {
    /// The places of the shards of `map`, of which `homes_of` says where the replicas live: whoever leads in the
    /// beginning first.
    pub(crate) fn new(
        map: &ShardMap,
        homes_of: impl Fn(ShardId) -> Vec<PeerCore>,
        nodes: impl IntoIterator<Item = ClusterNode>,
    ) -> Places {
        let shards = map.shards().iter().map(|location| {
            let shard = location.shard;
            let slots = map.slot_ranges(shard).into_iter();
            let homes = homes_of(shard);
            let now = PlaceNow {
                leader: *homes.first().expect("a shard has a replica"),
                homes,
            };
            Place {
                shard,
                core_here: location.core,
                slots: slots
                    .map(|(first, last)| SlotRange {
                        first: first.0,
                        last: last.0,
                    })
                    .collect(),
                now: Mutex::new(now),
            }
        });
        let shards = shards.collect();
        let known = |entry: ClusterNode| {
            let address = entry.peers.address();
            (entry.node, KnownNode { entry, address })
        };
        Places(Arc::new(Shared {
            epoch: map.epoch(),
            nodes: Mutex::new(nodes.into_iter().map(known).collect()),
            moves: AtomicU64::new(0),
            shards,
        }))
    }

    // ---- Nodes ----

    /// All nodes that are known, ascending by their ids.
    pub(crate) fn nodes(&self) -> Vec<KnownNode> {
        lock(&self.0.nodes).values().cloned().collect()
    }

    /// A node has come, or is to be found elsewhere.
    pub(crate) fn set_node(&self, entry: ClusterNode) {
        let address = entry.peers.address();
        let known = KnownNode { entry, address };
        let mut nodes = lock(&self.0.nodes);
        if nodes.get(&known.entry.node).map(|old| &old.entry) != Some(&known.entry) {
            nodes.insert(known.entry.node, known);
            self.0.moves.fetch_add(1, Ordering::Release);
        }
    }

    /// A node is none of the cluster's any more.
    pub(crate) fn remove_node(&self, node: NodeId) {
        if lock(&self.0.nodes).remove(&node).is_some() {
            self.0.moves.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether a replica of some shard lives on a node, as far as it is known here.
    pub(crate) fn lives_on(&self, node: NodeId) -> Option<ShardId> {
        let mut places = self.0.shards.iter();
        let found = places.find(|place| lock(&place.now).is_on(node));
        found.map(|place| place.shard)
    }

    /// The name of a node was resolved.
    pub(crate) fn set_address(&self, node: NodeId, address: IpAddr) {
        if let Some(known) = lock(&self.0.nodes).get_mut(&node)
            && known.address != Some(address)
        {
            known.address = Some(address);
            self.0.moves.fetch_add(1, Ordering::Release);
        }
    }

    /// A number that grows whenever [`Places::nodes`] says something new.
    pub(crate) fn moves(&self) -> u64 {
        self.0.moves.load(Ordering::Acquire)
    }

    // ---- Shards ----

    /// A core knows where a shard is led from.
    pub(crate) fn note_leader(&self, shard: ShardId, leader: PeerCore) {
        if let Some(place) = self.place(shard) {
            lock(&place.now).leader = leader;
        }
    }

    /// A core knows where the replicas of a shard live.
    pub(crate) fn note_homes(&self, shard: ShardId, homes: Vec<PeerCore>) {
        if let Some(place) = self.place(shard)
            && !homes.is_empty()
        {
            lock(&place.now).homes = homes;
        }
    }

    /// No replica of a shard lives on this core any more.
    pub(crate) fn forget_home(&self, shard: ShardId, gone: PeerCore) {
        if let Some(place) = self.place(shard) {
            lock(&place.now).homes.retain(|&home| home != gone);
        }
    }

    /// Whether some shard has no replica on a node.
    pub(crate) fn lacks_any(&self, node: NodeId) -> bool {
        let mut places = self.0.shards.iter();
        places.any(|place| !lock(&place.now).is_on(node))
    }

    /// Takes over where shards are that have no replica on the node `here`, from what `told` says, a node that has.
    pub(crate) fn learn(&self, here: NodeId, told: NodeId, map: &ShardMapReply) {
        for of_shard in &map.shards {
            let Some(place) = self.place(ShardId(of_shard.shard)) else {
                continue;
            };
            let leader = PeerCore {
                node: NodeId(of_shard.node_id),
                core: CoreId(of_shard.core_index),
            };
            let followers = of_shard.followers.iter().zip(&of_shard.follower_nodes);
            let followers =
                followers.filter_map(|(address, &node)| self.core_at(NodeId(node), address));
            let homes: Vec<PeerCore> = std::iter::once(leader).chain(followers).collect();
            // Who has no replica itself has it from others, and may be the one that is wrong.
            let knows = homes.iter().any(|home| home.node == told);
            let mut now = lock(&place.now);
            if knows && !now.is_on(here) && homes.iter().all(|home| home.node != here) {
                *now = PlaceNow { homes, leader };
            }
        }
    }

    /// The core of a node that clients reach at an address.
    fn core_at(&self, node: NodeId, address: &str) -> Option<PeerCore> {
        let cores = lock(&self.0.nodes).get(&node)?.entry.cores;
        let cores = (0..cores).filter_map(|core| u16::try_from(core).ok());
        let mut cores = cores.map(|core| PeerCore {
            node,
            core: CoreId(core),
        });
        cores.find(|&core| self.address(core).as_deref() == Some(address))
    }

    /// The core of this node where the replica of a shard lives, or would; `None` where there is no such shard.
    pub(crate) fn core_here(&self, shard: ShardId) -> Option<CoreId> {
        self.place(shard).map(|place| place.core_here)
    }

    fn place(&self, shard: ShardId) -> Option<&Place> {
        let shards = &self.0.shards;
        let position = shards.binary_search_by_key(&shard, |place| place.shard);
        position.ok().map(|position| &shards[position])
    }

    /// Where clients reach a core, as `host:port`.
    pub(crate) fn address(&self, core: PeerCore) -> Option<String> {
        let nodes = lock(&self.0.nodes);
        let clients = &nodes.get(&core.node)?.entry.clients;
        clients
            .checked_of_core(core.core)
            .map(|place| place.to_string())
    }

    /// Where a client asks that came to the wrong node: who leads as `known` by the replica here, or, where none lives
    /// here, somebody who will know.
    pub(crate) fn hint(&self, shard: ShardId, known: Option<PeerCore>, asked: NodeId) -> String {
        let elsewhere = |place: &Place| {
            let now = lock(&place.now);
            (!now.is_on(asked)).then_some(now.leader)
        };
        let leader = known.or_else(|| self.place(shard).and_then(elsewhere));
        let address = leader.and_then(|leader| self.address(leader));
        address.unwrap_or_default()
    }

    /// The map as clients see it.
    pub(crate) fn shard_map(&self) -> ShardMapReply {
        let places = self.0.shards.iter().map(|place| {
            let PlaceNow { homes, leader } = lock(&place.now).clone();
            let address = |core| self.address(core).unwrap_or_default();
            let followers = homes.iter().filter(|&&home| home != leader);
            let follower_nodes = followers.clone().map(|home| home.node.0).collect();
            ShardPlace {
                shard: place.shard.0,
                slots: place.slots.clone(),
                node_id: leader.node.0,
                core_index: leader.core.0,
                address: address(leader),
                followers: followers.map(|&home| address(home)).collect(),
                follower_nodes,
            }
        });
        ShardMapReply {
            epoch: self.0.epoch,
            slot_count: u32::try_from(metastore_engine::SLOT_COUNT).expect("a small constant"),
            shards: places.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use metastore_engine::ShardLocation;

    use super::super::cluster::HostPort;
    use super::*;

    fn home(node: u32, core: u16) -> PeerCore {
        PeerCore {
            node: NodeId(node),
            core: CoreId(core),
        }
    }

    fn places() -> Places {
        let locations = (0..2).map(|shard| ShardLocation {
            shard: ShardId(shard),
            core: CoreId(0),
        });
        let map = ShardMap::split_evenly(locations.collect()).expect("two shards");
        let homes = |shard: ShardId| match shard.0 {
            0 => vec![home(1, 0), home(2, 1)],
            _ => vec![home(2, 0), home(3, 0)],
        };
        Places::new(&map, homes, (1..=3).map(|node| entry(node, 7400)))
    }

    fn entry(node: u32, port: u16) -> ClusterNode {
        let place = |port| HostPort {
            host: format!("n{node}"),
            port,
        };
        ClusterNode {
            node: NodeId(node),
            clients: place(port),
            peers: place(port + 100),
            cores: 2,
        }
    }

    #[test]
    fn nodes_come_and_move_and_names_are_resolved() {
        let places = places();
        let before = places.moves();
        places.set_node(entry(3, 7400));
        assert_eq!(places.moves(), before, "it is there already");
        places.set_node(entry(4, 7400));
        places.note_leader(ShardId(0), home(4, 1));
        places.note_homes(ShardId(0), vec![home(1, 0), home(4, 1)]);
        assert_eq!(places.shard_map().shards[0].address, "n4:7401");
        assert_eq!(places.shard_map().shards[0].followers, ["n1:7400"]);
        places.set_node(entry(4, 7500));
        assert_eq!(places.shard_map().shards[0].address, "n4:7501");
        let address = "10.0.0.4".parse().expect("an address");
        places.set_address(NodeId(4), address);
        assert_eq!(places.nodes()[3].address, Some(address));
        assert_eq!(places.moves(), before + 3);
    }

    #[test]
    fn clients_see_who_led_last_and_where_the_others_are() {
        let places = places();
        let map = places.shard_map();
        assert_eq!(map.shards[0].address, "n1:7400");
        assert_eq!(map.shards[0].followers, ["n2:7401"]);
        places.note_leader(ShardId(0), home(2, 1));
        let map = places.shard_map();
        assert_eq!((map.shards[0].node_id, map.shards[0].core_index), (2, 1));
        assert_eq!(map.shards[0].address, "n2:7401");
        assert_eq!(map.shards[0].followers, ["n1:7400"]);
        assert_eq!(map.shards[1].address, "n2:7400");
        assert_eq!(map.shards[1].slots[0].last, 16_383);
    }

    #[test]
    fn what_others_say_of_shards_that_are_not_here_is_believed() {
        let places = places();
        assert!(places.lacks_any(NodeId(1)) && !places.lacks_any(NodeId(2)));
        let others = self::places();
        others.note_homes(ShardId(1), vec![home(2, 0), home(3, 1)]);
        others.note_leader(ShardId(1), home(3, 1));
        others.note_leader(ShardId(0), home(2, 1));
        let told = others.shard_map();
        // Node 1 has no replica of shard 1, and knows better of shard 0.
        places.learn(NodeId(1), NodeId(3), &told);
        assert_eq!(places.hint(ShardId(1), None, NodeId(1)), "n3:7401");
        let now = lock(&places.0.shards[1].now).clone();
        assert_eq!(now.homes, [home(3, 1), home(2, 0)]);
        assert_eq!(places.shard_map().shards[0].node_id, 1);
        // Who has none either is not believed.
        others.note_leader(ShardId(1), home(2, 0));
        places.learn(NodeId(1), NodeId(1), &others.shard_map());
        assert_eq!(places.hint(ShardId(1), None, NodeId(1)), "n3:7401");
        // A node where a replica comes to live is told by its own cores.
        places.learn(NodeId(3), NodeId(2), &others.shard_map());
        assert_eq!(places.shard_map().shards[1].node_id, 3);
    }

    #[test]
    fn who_came_to_the_wrong_node_is_sent_on() {
        let places = places();
        let hint = |known, asked| places.hint(ShardId(1), known, NodeId(asked));
        assert_eq!(hint(Some(home(3, 0)), 2), "n3:7400");
        assert_eq!(hint(None, 2), "", "the replica here knows of no leader");
        assert_eq!(hint(None, 1), "n2:7400", "none lives on node 1");
        assert_eq!(hint(Some(home(9, 0)), 2), "", "nobody knows where 9 is");
        assert_eq!(places.hint(ShardId(7), None, NodeId(1)), "");
        // What lived here is gone, and others lead.
        places.note_homes(ShardId(1), vec![home(1, 0), home(3, 0)]);
        assert_eq!(hint(None, 1), "");
        places.forget_home(ShardId(1), home(1, 0));
        assert_eq!(hint(None, 1), "n2:7400");
    }
}
