//! How soon others lead when the process of a leader is dead, of which the ends of its connections tell.

use metastore_engine::{ReplicaId, Role};

use super::cluster::TestCluster;

/// Three nodes that hear of each other, of which the first leads and dies.
fn without_its_leader() -> TestCluster {
    let mut cluster = TestCluster::new(3, 1);
    cluster.carries_beats = true;
    cluster.elect(1);
    cluster.pass_ticks(2);
    cluster.put(1, 1, "/a", "1");
    cluster.settle();
    cluster.crash(1);
    cluster
}

/// Time passes for the second node alone, as on a machine whose processors are taken.
fn let_second_wait(cluster: &mut TestCluster, ticks: u32) -> Role {
    for _ in 0..ticks {
        cluster.tick(2);
        cluster.settle();
    }
    cluster.status(2).role
}

#[test]
fn who_has_seen_the_connections_end_votes_before_its_own_patience_is_over() {
    let mut cluster = without_its_leader();
    cluster.reset_connections_to(2, 1);
    cluster.reset_connections_to(3, 1);
    cluster.tick(3);
    assert_eq!(let_second_wait(&mut cluster, 3), Role::Leader);
}

#[test]
fn who_has_had_no_time_to_hear_of_its_leader_keeps_it() {
    let mut cluster = without_its_leader();
    cluster.reset_connections_to(2, 1);
    cluster.reset_connections_to(3, 1);
    assert_ne!(let_second_wait(&mut cluster, 3), Role::Leader);
}

#[test]
fn whose_connections_are_whole_keeps_its_leader() {
    let mut cluster = without_its_leader();
    cluster.reset_connections_to(2, 1);
    assert_ne!(let_second_wait(&mut cluster, 3), Role::Leader);
    assert_eq!(cluster.status(3).leader, Some(ReplicaId(1)));
    cluster.reset_connections_to(3, 1);
    cluster.pass_ticks(8);
    let roles = [2, 3].map(|number| cluster.status(number).role);
    assert!(roles.contains(&Role::Leader), "{roles:?}");
}
