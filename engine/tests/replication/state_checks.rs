//! Replicas of a shard compare their states.

use metastore_engine::{Quarantine, RequestError, Role};

use super::cluster::TestCluster;
use crate::done;
use crate::harness::Answer;

/// Three nodes that compare their states every 200 ms; the history of node `strange` has other limits, so that its state
/// becomes another one.
fn cluster(strange: Option<u32>) -> TestCluster {
    TestCluster::with(3, 1, |config| {
        config.settings.state_check_ms = Some(200);
        if Some(config.identity.node.0) == strange {
            config.parameters.history_revisions_max = 1;
        }
    })
}

/// Lets the leader write, and time pass, until its words about it are everywhere.
fn write_and_compare(cluster: &mut TestCluster, leader: u32) {
    for request in 0..5 {
        cluster.put(leader, request, "/a", &request.to_string());
        cluster.settle();
    }
    for _ in 0..30 {
        for node in cluster.numbers() {
            cluster.tick(node);
        }
        cluster.settle();
    }
}

#[test]
fn states_are_compared_until_there_is_nothing_new() {
    let mut cluster = cluster(None);
    cluster.elect(1);
    write_and_compare(&mut cluster, 1);
    let all: Vec<_> = (1..=3).map(|node| cluster.status(node)).collect();
    for status in &all {
        assert_eq!(status.quarantine, None);
        assert_eq!(status.states_compared, 2, "what was written, and the end");
        assert_eq!(status.applied, all[0].applied);
    }
    for _ in 0..30 {
        cluster.tick(1);
        cluster.settle();
    }
    assert_eq!(
        cluster.status(1).last,
        all[0].last,
        "idle shards say nothing"
    );
}

#[test]
fn a_group_of_one_has_nobody_to_compare_with() {
    let mut cluster = TestCluster::with(1, 1, |config| {
        config.settings.state_check_ms = Some(200);
    });
    cluster.settle();
    write_and_compare(&mut cluster, 1);
    assert_eq!(cluster.status(1).states_compared, 0);
}

#[test]
fn a_follower_whose_state_differs_takes_no_part_any_more() {
    let mut cluster = cluster(Some(3));
    cluster.elect(1);
    write_and_compare(&mut cluster, 1);
    let (leader, other) = (cluster.status(1), cluster.status(2));
    assert_eq!((leader.quarantine, other.quarantine), (None, None));
    let strange = cluster.status(3);
    let Some(Quarantine::StateDiffers { here, leader, .. }) = strange.quarantine else {
        panic!("{strange:?}");
    };
    assert_ne!(here, leader);
    assert_eq!(strange.leader, None);
    // The others are a quorum without it, and it serves nobody.
    cluster.take_answers(1);
    cluster.put(1, 100, "/b", "1");
    cluster.settle();
    assert!(matches!(
        cluster.take_answers(1)[..],
        [(100, Answer::Outcome(..))]
    ));
    cluster.get(3, 101, "/b");
    cluster.settle();
    let answers = cluster.take_answers(3);
    let [(101, Answer::Error(RequestError::NotLeader { leader, .. }))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(*leader, None);
    assert!(cluster.status(3).last < cluster.status(1).last);
    // Nor does it help others to a quorum.
    cluster.crash(2);
    cluster.put(1, 102, "/c", "1");
    cluster.settle();
    assert_eq!(cluster.take_answers(1), []);
}

/// Nobody knows who is right: a leader that differs stands alone, and nobody goes on silently.
#[test]
fn a_leader_whose_state_differs_loses_its_followers() {
    let mut cluster = cluster(Some(1));
    cluster.elect(1);
    write_and_compare(&mut cluster, 1);
    for node in [2, 3] {
        assert!(cluster.status(node).quarantine.is_some());
    }
    assert_ne!(cluster.status(1).role, Role::Leader, "no quorum is left");
}

/// What differed stands in the log: a start comes to the same, and says it again.
#[test]
fn a_start_finds_the_difference_again() {
    let mut cluster = cluster(Some(3));
    cluster.elect(1);
    write_and_compare(&mut cluster, 1);
    let before = cluster.status(3).quarantine;
    assert!(before.is_some());
    cluster.crash(3);
    cluster.start(3);
    // Whether the word is known to be committed stands in a later record only.
    for _ in 0..30 {
        cluster.tick(1);
        cluster.settle();
    }
    assert_eq!(cluster.status(3).quarantine, before);
}

#[test]
fn whoever_waits_for_a_replica_that_enters_quarantine_is_answered() {
    let mut cluster = cluster(Some(3));
    cluster.elect(3);
    cluster.put(3, 1, "/a", "1");
    cluster.settle();
    assert_eq!(cluster.take_answers(3), [(1, done(1))]);
    write_and_compare(&mut cluster, 3);
    // Its followers have left it; what it is asked for now is never committed, and it is deposed.
    cluster.put(3, 50, "/a", "2");
    let answers = cluster.take_answers(3);
    assert!(
        matches!(answers[..], [.., (50, Answer::Error(_))]),
        "{answers:?}"
    );
}
