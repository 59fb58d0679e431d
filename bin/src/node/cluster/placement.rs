//! Where the replicas of a new cluster live.

use std::collections::BTreeMap;

use metastore_engine::{CoreId, Member, PeerCore, ReplicaId, ShardId};

use super::ClusterNode;

/// Gives each of the `shards` as many voters as there are `replicas`, at most one on a node.
///
/// * Nodes take turns: shard `s` has its first voter on the `s`-th node, and the others on the nodes behind that one. The
///   replicas of two nodes differ by at most as many as a shard has.
/// * Cores take turns on each node, first with the first voters of their shards, then on with the second ones, and so
///   forth. So the cores of a node differ by at most one in their replicas, and by at most one in their first voters; and
///   when a node is lost, the second voters that stand in for it are spread over cores as well.
/// * Ids are given in the order of shards and of voters, from 1.
///
/// Nothing else has a say, so that every node finds the same.
pub(super) fn place(
    nodes: &[ClusterNode],
    shards: usize,
    replicas: usize,
) -> BTreeMap<ShardId, Vec<Member>> {
    assert!(
        (1..=nodes.len()).contains(&replicas),
        "a shard has at most one replica on a node"
    );
    // How many replicas each node has so far.
    let mut placed = vec![0; nodes.len()];
    let mut members: BTreeMap<ShardId, Vec<Member>> = BTreeMap::new();
    for rank in 0..replicas {
        for shard in 0..shards {
            let at = (shard + rank) % nodes.len();
            let node = &nodes[at];
            let core = placed[at] % node.cores;
            placed[at] += 1;
            let member = Member {
                replica: ReplicaId((shard * replicas + rank) as u64 + 1),
                home: PeerCore {
                    node: node.node,
                    core: CoreId(u16::try_from(core).expect("cores are bounded")),
                },
            };
            let shard = ShardId(u32::try_from(shard).expect("shards are bounded"));
            members.entry(shard).or_default().push(member);
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::super::tests::nodes;
    use super::*;

    use std::collections::BTreeSet;

    /// How many of `members` live on each core of each node, those without any included.
    fn count<'a>(
        nodes: &[ClusterNode],
        members: impl Iterator<Item = &'a Member>,
    ) -> Vec<Vec<usize>> {
        let mut counts: Vec<Vec<usize>> = nodes.iter().map(|node| vec![0; node.cores]).collect();
        for member in members {
            let at = nodes.iter().position(|node| node.node == member.home.node);
            counts[at.expect("a node")][usize::from(member.home.core.0)] += 1;
        }
        counts
    }

    fn spread(counts: impl Iterator<Item = usize> + Clone) -> usize {
        counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
    }

    #[test]
    fn three_nodes_of_two_cores_hold_six_shards() {
        let members = place(&nodes(&[2, 2, 2]), 6, 3);
        let shown: Vec<String> = members
            .iter()
            .map(|(shard, voters)| {
                let voters = voters.iter().map(|member| {
                    let PeerCore { node, core } = member.home;
                    format!("{}@{node}/{core}", member.replica)
                });
                format!("{shard}: {}", voters.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "0: 1@1/0 2@2/0 3@3/0",
                "1: 4@2/0 5@3/0 6@1/0",
                "2: 7@3/0 8@1/0 9@2/0",
                "3: 10@1/1 11@2/1 12@3/1",
                "4: 13@2/1 14@3/1 15@1/1",
                "5: 16@3/1 17@1/1 18@2/1",
            ]
        );
    }

    #[test]
    fn replicas_and_first_voters_are_spread_evenly_whatever_the_cluster() {
        for cores in [
            &[1][..],
            &[4],
            &[1, 1],
            &[2, 2, 2],
            &[1, 2, 3],
            &[8, 1, 1, 2],
            &[3, 3, 3, 3, 3],
            &[5, 4, 3, 2, 1, 1, 7],
        ] {
            let nodes = nodes(cores);
            for replicas in 1..=nodes.len() {
                for shards in [1, 2, 3, 5, 6, 7, 12, 64, 101] {
                    let members = place(&nodes, shards, replicas);
                    check(&nodes, &members, (shards, replicas));
                }
            }
        }
    }

    fn check(
        nodes: &[ClusterNode],
        members: &BTreeMap<ShardId, Vec<Member>>,
        (shards, replicas): (usize, usize),
    ) {
        assert_eq!(members.len(), shards);
        for (place, (shard, voters)) in members.iter().enumerate() {
            assert_eq!(voters[0].home.node, nodes[place % nodes.len()].node);
            let homes: BTreeSet<_> = voters.iter().map(|member| member.home.node).collect();
            assert_eq!(homes.len(), replicas, "shard {shard}");
        }
        let mut ids: Vec<u64> = members.values().flatten().map(|m| m.replica.0).collect();
        ids.sort_unstable();
        let expected = 1..=(shards * replicas) as u64;
        assert!(ids.iter().copied().eq(expected), "{ids:?}");
        let all = count(nodes, members.values().flatten());
        let first = count(nodes, members.values().filter_map(|voters| voters.first()));
        for (replicas, leaders) in all.iter().zip(&first) {
            assert!(spread(replicas.iter().copied()) <= 1, "{replicas:?}");
            assert!(spread(leaders.iter().copied()) <= 1, "{leaders:?}");
        }
        let of_node = |counts: &[Vec<usize>]| -> Vec<usize> {
            counts.iter().map(|cores| cores.iter().sum()).collect()
        };
        assert!(spread(of_node(&first).into_iter()) <= 1);
        assert!(spread(of_node(&all).into_iter()) <= replicas);
    }
}
