//! Groups of several voters: what their replicas say to each other, and when.

mod ahead;
pub(crate) mod cluster;
mod hand_over;
mod leader_gone;
mod members;
mod removal;
mod script;
mod scrubbing;
mod snapshots;
mod state_checks;

use std::path::Path;

use cluster::TestCluster;
use metastore_engine::{
    CoreId, LogHistory, Member, NodeId, PeerCore, ReplicaId, ShardId, StartError, Time,
};

use crate::done;
use crate::harness::{Answer, Files, config, start};

/// Every script leads to what it says.
#[test]
fn scripts_lead_to_what_they_say() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"));
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .expect("the scripts are in the repository")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for path in scripts {
        script::run(&path);
    }
}

#[test]
fn a_put_is_on_every_node_once_it_is_answered_and_a_heartbeat_has_come() {
    let mut cluster = TestCluster::new(3, 1);
    cluster.elect(1);
    cluster.put(1, 1, "/a", "1");
    cluster.settle();
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
    cluster.tick(1);
    cluster.settle();
    let states: Vec<_> = (1..=3)
        .map(|node| {
            let status = cluster.status(node);
            (status.applied, status.state_hash, status.keys)
        })
        .collect();
    assert_eq!(states, vec![states[0]; 3]);
    assert_eq!(states[0].2, 1);
}

#[test]
fn a_lone_voter_sleeps_and_answers_at_once_when_it_is_asked() {
    let mut cluster = TestCluster::with(1, 1, |config| {
        config.settings.raft.idle.sleep_ticks = Some(2);
    });
    cluster.settle();
    for request in [1, 3] {
        (0..3).for_each(|_| cluster.tick(1));
        assert!(cluster.status(1).is_asleep);
        let ticks = cluster.counters(1).replica_ticks;
        (0..50).for_each(|_| cluster.tick(1));
        assert_eq!(cluster.counters(1).replica_ticks, ticks);
        cluster.get(1, request, "/a");
        cluster.put(1, request + 1, "/a", "1");
        cluster.settle();
        let answers = cluster.take_answers(1);
        let answered: Vec<u64> = answers.iter().map(|&(request, _)| request).collect();
        assert_eq!(answered, [request, request + 1]);
        cluster.tick(1);
        assert!(!cluster.status(1).is_asleep);
    }
}

#[test]
fn a_request_on_a_follower_says_where_the_leader_lives() {
    let mut cluster = TestCluster::new(3, 1);
    cluster.elect(2);
    cluster.put(1, 1, "/a", "1");
    let answers = cluster.take_answers(1);
    let [(1, Answer::Error(metastore_engine::RequestError::NotLeader { leader, .. }))] =
        &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(leader.map(|leader| leader.node.0), Some(2));
}

#[test]
fn voters_that_make_no_sense_are_refused_at_the_start() {
    let member = |replica, node| Member {
        replica: ReplicaId(replica),
        home: PeerCore {
            node: NodeId(node),
            core: CoreId(0),
        },
    };
    let start_with = |voters: Vec<Member>| {
        let mut config = config(0, 1, 1);
        config.members.insert(ShardId(0), voters);
        start(config, Files::default(), Time(0), LogHistory::New).err()
    };
    let refused = Some(StartError::StrangeVoters {
        replica: ReplicaId(1),
        shard: ShardId(0),
    });
    let here = member(1, 1);
    assert_eq!(start_with(vec![here, member(2, 2), member(3, 3)]), None);
    assert_eq!(start_with(vec![]), refused, "nobody");
    assert_eq!(
        start_with(vec![member(1, 2)]),
        refused,
        "it lives elsewhere"
    );
    assert_eq!(start_with(vec![here, member(2, 2), member(2, 3)]), refused);
    assert_eq!(start_with(vec![here, member(0, 2)]), refused, "no replica");
    let many = (1..=65).map(|node| member(u64::from(node), node));
    assert_eq!(start_with(many.collect()), refused, "too many");
}

/// A cluster that keeps nothing in memory that it has applied, and whose third node misses 300 entries over several
/// segments and the elections of others.
fn with_a_node_that_missed_much() -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.tail_bytes_max = 0;
        config.settings.batch.compress_bytes_min = None;
        config.log.budget_bytes = 64 << 20;
    });
    cluster.elect(1);
    cluster.partition(&[3], &[1, 2]);
    for (leader, deposed) in [(1, 2), (2, 1), (1, 2)] {
        cluster.crash(deposed);
        cluster.start(deposed);
        cluster.elect(leader);
        for request in 0..100 {
            let key = format!("/{leader}/{request}");
            cluster.put(leader, request, &key, &"v".repeat(12_000));
            cluster.settle();
        }
    }
    let log = cluster.node(1).cores[0].core.status().log;
    assert!(log.segments_live > 3, "{log:?}");
    cluster.heal();
    cluster
}

#[test]
fn a_follower_that_lags_is_sent_what_its_leader_reads_back_from_the_log() {
    let mut cluster = with_a_node_that_missed_much();
    cluster.tick(1);
    cluster.settle();
    let (leader, follower) = (cluster.status(1), cluster.status(3));
    assert_eq!(follower.applied, leader.applied);
    assert_eq!(follower.state_hash, leader.state_hash);
    let reads = cluster.node(1).cores[0].log_reads;
    assert!(
        (4..20).contains(&reads),
        "{reads} reads of 1 MiB for 3.6 MB"
    );
}

/// The leader starts anew: what it knows of the places of its entries comes from the recovery of its log.
#[test]
fn a_leader_that_started_anew_reads_back_what_it_wrote_before() {
    let mut cluster = with_a_node_that_missed_much();
    cluster.crash(1);
    cluster.start(1);
    cluster.elect(1);
    cluster.tick(1);
    cluster.settle();
    let (leader, follower) = (cluster.status(1), cluster.status(3));
    assert_eq!(follower.applied, leader.applied);
    assert_eq!(follower.state_hash, leader.state_hash);
    assert!(cluster.node(1).cores[0].log_reads >= 4);
}
