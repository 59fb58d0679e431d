use super::*;

use metastore_engine::PeerCore;

/// Nodes with so many cores, numbered from 1, that do not meet.
pub(crate) fn nodes(cores: &[usize]) -> Vec<ClusterNode> {
    let node = |(index, &cores): (usize, &usize)| {
        let number = u32::try_from(index).expect("few") + 1;
        let endpoint = |port| HostPort {
            host: format!("10.0.0.{number}"),
            port,
        };
        ClusterNode {
            node: NodeId(number),
            clients: endpoint(7400),
            peers: endpoint(8500),
            cores,
        }
    };
    cores.iter().enumerate().map(node).collect()
}

/// What a cluster of these nodes is made of.
pub(crate) fn new_cluster(cores: &[usize]) -> NewCluster {
    NewCluster {
        id: ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        history: HistoryBounds {
            revisions_max: 100_000,
            age_ms_max: 300_000,
            bytes_max: 64 << 20,
        },
        nodes: nodes(cores),
        shards: None,
        replicas: None,
        recoveries: Vec::new(),
    }
}

fn refusal(change: impl Fn(&mut NewCluster)) -> String {
    let mut cluster = new_cluster(&[2, 2, 2]);
    change(&mut cluster);
    cluster.place().expect_err("it is refused").to_string()
}

#[test]
fn without_other_numbers_there_is_a_shard_for_each_core_and_three_voters() {
    for (cores, shards, replicas) in [
        (&[2, 2, 2][..], 6, 3),
        (&[1], 1, 1),
        (&[1, 3], 4, 2),
        (&[1, 1, 1, 1, 1], 5, 3),
    ] {
        let cluster = new_cluster(cores).place().expect("it can be");
        assert_eq!(cluster.members.len(), shards);
        assert!(
            cluster
                .members
                .values()
                .all(|voters| voters.len() == replicas)
        );
    }
}

#[test]
fn nodes_are_in_the_order_of_their_ids_however_they_were_written() {
    let mut reversed = new_cluster(&[1, 2, 3]);
    reversed.nodes.reverse();
    let cluster = new_cluster(&[1, 2, 3]).place().expect("it can be");
    assert_eq!(reversed.place().as_ref(), Ok(&cluster));
    assert_eq!(cluster.node(NodeId(2)).map(|node| node.cores), Some(2));
    assert_eq!(cluster.node(NodeId(4)), None);
}

#[test]
fn a_node_more_is_one_that_the_file_of_a_node_can_hold() {
    let cluster = new_cluster(&[1, 2, 3]).place().expect("it can be");
    let mut entry = nodes(&[1, 2, 3, 1]).remove(3);
    let joined = cluster.with_node(entry.clone()).expect("it can be");
    assert_eq!(joined.nodes.len(), 4);
    assert_eq!(joined.initial_map_hash(), cluster.initial_map_hash());
    let read = Cluster::from_parts(
        (joined.id, joined.history),
        (joined.nodes.clone(), BTreeSet::new()),
        joined.members.clone(),
    );
    assert_eq!(read.as_ref(), Ok(&joined));
    // It moves, but it keeps the cores that replicas were placed on.
    entry.clients.port = 9400;
    let moved = joined.with_node(entry.clone()).expect("it can move");
    assert_eq!(moved.node(NodeId(4)), Some(&entry));
    entry.cores = 3;
    let changed = ClusterError::CoresChanged {
        node: NodeId(4),
        known: 1,
        asked: 3,
    };
    assert_eq!(moved.with_node(entry.clone()), Err(changed));
    entry.node = NodeId(5);
    let twice = moved.with_node(entry);
    assert!(
        matches!(twice, Err(ClusterError::EndpointTwice { .. })),
        "{twice:?}"
    );
}

#[test]
fn every_replica_is_on_one_node_and_no_node_knows_of_one_that_is_none() {
    let cluster = new_cluster(&[1, 2, 3, 1]).place().expect("it can be");
    let all: usize = (1..=4)
        .map(|node| cluster.replicas_of(NodeId(node)).len())
        .sum();
    assert_eq!(all, 7 * 3);
    let here = cluster.replicas_of(NodeId(2));
    assert!(here.is_sorted_by_key(|place| place.shard));
    assert_eq!(cluster.replicas_of(NodeId(9)), []);
}

#[test]
fn what_cannot_be_is_refused_with_key_node_and_bounds() {
    type Change = fn(&mut NewCluster);
    let cases: [(Change, &str); 12] = [
        (
            |cluster| cluster.shards = Some(0),
            "shards is 0, it must lie between 1 and 16384",
        ),
        (
            |cluster| cluster.shards = Some(16_385),
            "shards is 16385, it must lie between 1 and 16384",
        ),
        (
            |cluster| cluster.replicas = Some(8),
            "replicas is 8, it must lie between 1 and 7",
        ),
        (
            |cluster| cluster.replicas = Some(4),
            "replicas is 4, and there are 3 nodes",
        ),
        (
            |cluster| cluster.nodes.clear(),
            "[[node]] entries is 0, it must lie between 1 and 256",
        ),
        (|cluster| cluster.nodes[2].node = NodeId(0), "id = 0"),
        (
            |cluster| cluster.nodes[2].node = NodeId(1),
            "two nodes have id = 1",
        ),
        (
            |cluster| cluster.nodes[1].cores = 0,
            "node 2: cores is 0, it must lie between 1 and 1024",
        ),
        (
            |cluster| cluster.nodes[1].peers.port = 65_535,
            "node 2: peers = \"10.0.0.2:65535\" is too high for 2 cores",
        ),
        (
            |cluster| cluster.nodes[1].peers.port = 7_401,
            "node 2: peers of its cores include 10.0.0.2:7401, which clients of node 2 include too",
        ),
        (
            |cluster| cluster.nodes[2].clients = cluster.nodes[0].clients.clone(),
            "node 3: clients of its cores include 10.0.0.1:7400, which clients of node 1 include",
        ),
        (
            |cluster| cluster.nodes[2].clients = cluster.nodes[0].peers.of_core(CoreId(1)),
            "node 3: clients of its cores include 10.0.0.1:8501, which peers of node 1 include",
        ),
    ];
    for (change, expected) in cases {
        let found = refusal(change);
        assert!(found.contains(expected), "{found:?}, not {expected:?}");
    }
}

#[test]
fn members_that_cannot_be_are_refused() {
    type Change = fn(&mut BTreeMap<ShardId, Vec<Member>>);
    let cases: [(Change, &str); 8] = [
        (
            |members| drop(members.remove(&ShardId(2))),
            "shard 2 has no members",
        ),
        (|members| members.clear(), "shards is 0"),
        (
            |members| members.entry(ShardId(1)).or_default().clear(),
            "shard 1 has 0 members, it must have between 1 and 7",
        ),
        (
            |members| at(members, 1, 0).replica = ReplicaId(0),
            "shard 1 has a member with replica = 0",
        ),
        (
            |members| at(members, 1, 0).replica = ReplicaId(1),
            "replica 1 is a member of shard 1 and of shard 0",
        ),
        (
            |members| at(members, 0, 2).home.core = CoreId(2),
            "replica 3 of shard 0 is on core 2 of node 3, which has 2 cores",
        ),
        (
            |members| at(members, 0, 2).home.node = NodeId(4),
            "replica 3 of shard 0 is on core 0 of node 4, which has 0 cores",
        ),
        (
            |members| at(members, 0, 2).home.node = NodeId(1),
            "shard 0 has two members on node 1",
        ),
    ];
    let cluster = new_cluster(&[2, 2, 2]).place().expect("it can be");
    for (change, expected) in cases {
        let mut members = cluster.members.clone();
        change(&mut members);
        let error = Cluster::from_parts(
            (cluster.id, cluster.history),
            (cluster.nodes.clone(), BTreeSet::new()),
            members,
        );
        let found = error.expect_err(expected).to_string();
        assert!(found.contains(expected), "{found:?}, not {expected:?}");
    }
    let again = Cluster::from_parts(
        (cluster.id, cluster.history),
        (cluster.nodes.clone(), BTreeSet::new()),
        cluster.members.clone(),
    );
    assert_eq!(again, Ok(cluster));
}

#[test]
fn the_addresses_of_a_node_that_is_gone_are_free_and_its_id_is_not() {
    let cluster = new_cluster(&[1, 1, 1]).place().expect("it can be");
    let mut newcomer = cluster.nodes[2].clone();
    newcomer.node = NodeId(9);
    assert!(cluster.with_node(newcomer.clone()).is_err());
    let without = cluster.without_node(NodeId(3)).expect("it is known");
    assert_eq!(without.living().count(), 2);
    assert!(without.node(NodeId(3)).is_some(), "it began with it");
    assert_eq!(without.initial_map_hash(), cluster.initial_map_hash());
    let with = without.with_node(newcomer).expect("the addresses are free");
    let read = Cluster::from_parts(
        (with.id, with.history),
        (with.nodes.clone(), with.gone.clone()),
        with.members.clone(),
    );
    assert_eq!(read.as_ref(), Ok(&with));
    assert_eq!(
        with.with_node(cluster.nodes[2].clone()),
        Err(ClusterError::Gone { node: NodeId(3) })
    );
    assert_eq!(
        with.without_node(NodeId(7)),
        Err(ClusterError::NodeUnknown { node: NodeId(7) })
    );
}

fn at(members: &mut BTreeMap<ShardId, Vec<Member>>, shard: u32, place: usize) -> &mut Member {
    &mut members.get_mut(&ShardId(shard)).expect("a shard")[place]
}

/// The bytes and their hash, for good: nodes of different versions compare it.
#[test]
fn the_golden_map_is_hashed_as_ever() {
    let cluster = new_cluster(&[1, 1]).place().expect("it can be");
    let golden = [
        1, 0, 0, 0, 2, 0, 0, 0, // version, shards
        0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, // cluster
        0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, //
        0xa0, 0x86, 1, 0, 0, 0, 0, 0, // revisions
        0xe0, 0x93, 4, 0, 0, 0, 0, 0, // milliseconds
        0, 0, 0, 4, 0, 0, 0, 0, // bytes
        0, 0, 0, 0, 2, 0, 0, 0, // shard 0 and its voters
        1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // replica 1 on node 1
        2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // replica 2 on node 2
        1, 0, 0, 0, 2, 0, 0, 0, // shard 1 and its voters
        3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, // replica 3 on node 2
        4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // replica 4 on node 1
    ];
    assert_eq!(cluster.encode_map(), golden);
    assert_eq!(cluster.initial_map_hash(), 0x7d74_a893_e9a6_beb1);
}

#[test]
fn the_hash_tells_beginnings_apart_and_not_addresses() {
    let cluster = new_cluster(&[2, 2, 2]).place().expect("it can be");
    let hash = cluster.initial_map_hash();
    let recovered = |id| cluster.clone().with_recoveries(vec![id]).initial_map_hash();
    assert_ne!(recovered(1), hash);
    assert_ne!(
        recovered(1),
        recovered(2),
        "recovered apart from each other"
    );
    let mut moved = cluster.clone();
    moved.nodes[0].clients.host = "elsewhere".to_owned();
    assert_eq!(moved.initial_map_hash(), hash);
    let mut other = cluster.clone();
    other.history.age_ms_max += 1;
    assert_ne!(other.initial_map_hash(), hash);
    let mut other = cluster.clone();
    other.id = ClusterId(1);
    assert_ne!(other.initial_map_hash(), hash);
    let mut other = cluster.clone();
    at(&mut other.members, 3, 1).home = PeerCore {
        node: NodeId(2),
        core: CoreId(0),
    };
    assert_ne!(other.initial_map_hash(), hash);
    let mut other = cluster;
    other.members.remove(&ShardId(5));
    assert_ne!(other.initial_map_hash(), hash);
}
