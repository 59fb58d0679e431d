//! Which nodes a range over several shards is read from: each shard from one that has a replica of it, with as few nodes
//! as a greedy choice finds.

use crate::shard_map::{ShardMapReply, ShardPlace};
use std::collections::{BTreeMap, BTreeSet};

/// What is asked of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShare {
    /// A core of it, `host:port`.
    pub address: String,
    /// The shards, ascending.
    pub shards: Vec<u32>,
}

/// A node by its id, or by its address where nobody told the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum NodeName {
    Id(u32),
    Address(String),
}

/// Shares the shards of a map out to the nodes that have replicas of them. Nodes of which `is_avoided` says so are used
/// only for what no other has; those that are as good as others take turns by `turn`. `None` where the map knows no address
/// for a shard: what is shared out would lack it.
pub fn share_out(
    map: &ShardMapReply,
    turn: usize,
    is_avoided: impl Fn(&str) -> bool,
) -> Option<Vec<NodeShare>> {
    let mut nodes: BTreeMap<NodeName, (String, BTreeSet<u32>)> = BTreeMap::new();
    for place in map.shards.iter().filter(|place| !place.slots.is_empty()) {
        replicas(place).next()?;
        for (name, address) in replicas(place) {
            let (_, shards) = nodes
                .entry(name)
                .or_insert_with(|| (address.to_owned(), BTreeSet::new()));
            shards.insert(place.shard);
        }
    }
    let mut nodes: Vec<_> = nodes
        .into_values()
        .map(|(address, shards)| (is_avoided(&address), address, shards))
        .collect();
    if !nodes.is_empty() {
        let middle = turn % nodes.len();
        nodes.rotate_left(middle);
    }
    let mut shares = Vec::new();
    loop {
        let best = nodes
            .iter()
            .enumerate()
            .filter(|(_, (_, _, left))| !left.is_empty())
            // Of equals the last is the greatest.
            .max_by_key(|(_, (is_avoided, _, left))| (!is_avoided, left.len()));
        let Some((best, _)) = best else {
            return Some(shares);
        };
        let (_, address, taken) = nodes.swap_remove(best);
        for (_, _, left) in &mut nodes {
            left.retain(|shard| !taken.contains(shard));
        }
        shares.push(NodeShare {
            address,
            shards: taken.into_iter().collect(),
        });
    }
}

/// The nodes that have a replica of a shard and an address.
fn replicas(place: &ShardPlace) -> impl Iterator<Item = (NodeName, &str)> {
    let leader = (NodeName::Id(place.node_id), place.address.as_str());
    let followers = place.followers.iter().enumerate().map(|(index, address)| {
        let name = match place.follower_nodes.get(index) {
            Some(&id) => NodeName::Id(id),
            None => NodeName::Address(address.clone()),
        };
        (name, address.as_str())
    });
    let all = std::iter::once(leader).chain(followers);
    all.filter(|(_, address)| !address.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::SlotRange;

    /// A map of which each shard has replicas on these nodes, the leader first.
    fn map(shards: &[&[u32]]) -> ShardMapReply {
        let places = shards.iter().zip(0..).map(|(nodes, shard)| ShardPlace {
            shard,
            slots: vec![SlotRange {
                first: shard as u16,
                last: shard as u16,
            }],
            node_id: nodes[0],
            core_index: 0,
            address: address(nodes[0]),
            followers: nodes[1..].iter().map(|&node| address(node)).collect(),
            follower_nodes: nodes[1..].to_vec(),
        });
        ShardMapReply {
            epoch: 1,
            slot_count: 16_384,
            shards: places.collect(),
        }
    }

    fn address(node: u32) -> String {
        format!("n{node}:1")
    }

    #[test]
    fn one_node_that_has_everything_is_asked_alone_and_each_has_its_turn() {
        let map = map(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]]);
        let mut asked = BTreeSet::new();
        for turn in 0..6 {
            let shares = share_out(&map, turn, |_| false).unwrap();
            assert_eq!(shares.len(), 1);
            assert_eq!(shares[0].shards, [0, 1, 2]);
            asked.insert(shares[0].address.clone());
        }
        assert_eq!(asked.len(), 3);
        let shares = share_out(&map, 0, |address| address != "n2:1").unwrap();
        assert_eq!(shares[0].address, "n2:1");
    }

    #[test]
    fn every_shard_is_asked_for_once() {
        let four: &[&[u32]] = &[&[1, 2, 3], &[2, 3, 4], &[3, 4, 1], &[4, 1, 2]];
        let map = map(four);
        for turn in 0..8 {
            for avoided in 0..5 {
                let shares = share_out(&map, turn, |one| one == address(avoided)).unwrap();
                assert_eq!(shares.len(), 2, "{shares:?}");
                let mut all: Vec<u32> = shares.iter().flat_map(|one| one.shards.clone()).collect();
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2, 3]);
                for share in &shares {
                    assert_ne!(share.address, address(avoided));
                    let has = |shard: &u32| {
                        let mut nodes = four[*shard as usize].iter();
                        nodes.any(|&node| address(node) == share.address)
                    };
                    assert!(share.shards.iter().all(has), "{share:?}");
                }
            }
        }
    }

    #[test]
    fn what_only_an_avoided_node_has_is_asked_there_and_what_nobody_has_of_nobody() {
        let mut map = map(&[&[1], &[2]]);
        let shares = share_out(&map, 0, |one| one == "n1:1").unwrap();
        assert_eq!(shares[0].address, "n2:1");
        assert_eq!(
            (shares[1].address.as_str(), &shares[1].shards[..]),
            ("n1:1", &[0][..])
        );
        assert_eq!(shares.len(), 2);
        // Of an older server, which tells no nodes.
        map.shards[1].followers = vec!["n1:1".to_owned()];
        map.shards[1].follower_nodes.clear();
        assert_eq!(share_out(&map, 0, |_| false).unwrap().len(), 2);
        // Rows of a shard of which nobody knows where it is would be missing.
        map.shards[0].address.clear();
        assert_eq!(share_out(&map, 0, |_| false), None);
    }
}
