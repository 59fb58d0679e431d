//! To whom a leader hands over, and to whom not.

use metastore_engine::{MembersChange, ReplicaId, Role, Spare};

use super::cluster::{NodeNumber, TestCluster};

fn three_nodes() -> TestCluster {
    let mut cluster = TestCluster::new(3, 1);
    cluster.elect(1);
    cluster.put(1, 1, "/a", "1");
    cluster.settle();
    cluster
}

/// Its connections end and come again, and nothing is written meanwhile: raft probes followers that have everything
/// until there is more to send.
fn reset(cluster: &mut TestCluster, leader: NodeNumber) {
    cluster.reset_connections(leader);
    cluster.tick(leader);
    cluster.settle();
}

#[test]
fn an_idle_group_is_handed_over_after_its_connections_were_reset() {
    let mut cluster = three_nodes();
    reset(&mut cluster, 1);
    let term = cluster.status(1).term;
    cluster.drain(1);
    cluster.settle();
    let status = cluster.status(2);
    assert_eq!((status.role, status.term.0), (Role::Leader, term.0 + 1));
}

#[test]
fn an_outgoing_leader_lets_others_leave_the_joint_state_after_its_connections_were_reset() {
    let mut cluster = three_nodes();
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.settle();
    let learner = TestCluster::member(4, node);
    cluster.change(1, MembersChange::AddLearner(learner));
    cluster.pass_ticks(20);
    let replace = MembersChange::ChangeVoters {
        promote: vec![ReplicaId(4)],
        remove: vec![ReplicaId(1)],
        spare: Spare::Kept,
    };
    cluster.change(1, replace);
    // The leader's word that another is to campaign is lost with its connections.
    while cluster.status(1).members.outgoing == 0 {
        for number in cluster.numbers() {
            cluster.complete_write(number);
            cluster.deliver(1, number);
            if cluster.status(1).members.outgoing == 0 {
                cluster.deliver(number, 1);
            }
        }
    }
    for number in cluster.numbers() {
        cluster.complete_write(1);
        cluster.lose(1, number);
    }
    cluster.settle();
    assert_eq!(cluster.status(1).role, Role::Leader);
    reset(&mut cluster, 1);
    for _ in 0..40 {
        cluster.tick(1);
        cluster.settle();
    }
    let led = (2..=4).find(|&number| cluster.status(number).role == Role::Leader);
    let leader = led.expect("one that stays leads");
    assert_eq!(cluster.status(leader).members.outgoing, 0);
}

/// Who is asked for by name and cannot lead is not replaced by somebody else.
#[test]
fn a_leader_stays_where_the_one_that_shall_lead_cannot() {
    let mut cluster = three_nodes();
    cluster.crash(3);
    // Longer than an election timeout, so that it is missed.
    for _ in 0..25 {
        cluster.tick(1);
        cluster.tick(2);
        cluster.settle();
    }
    let term = cluster.status(1).term;
    for nobody in [3, 1, 77] {
        cluster.hand_over_to_replica(1, nobody);
        cluster.settle();
        let status = cluster.status(1);
        assert_eq!((status.role, status.term), (Role::Leader, term), "{nobody}");
    }
    cluster.hand_over_to_replica(1, 2);
    cluster.settle();
    assert_eq!(cluster.status(2).role, Role::Leader);
}

/// A lone voter writes without a pause. It leads, and learners must hear of it.
#[test]
fn a_lone_voter_under_load_sends_heartbeats_to_its_learners() {
    let mut cluster = TestCluster::new(1, 1);
    cluster.settle();
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.settle();
    let learner = TestCluster::member(4, node);
    cluster.change(1, MembersChange::AddLearner(learner));
    cluster.pass_ticks(20);
    let mut heartbeats = 0;
    for request in 0..20 {
        cluster.put(1, request, "/a", "1");
        cluster.tick(1);
        let lines = cluster
            .on_the_way()
            .flat_map(|(_, _, batch)| metastore_engine::describe_batch(batch).expect("intact"));
        heartbeats += lines.filter(|line| line.contains("1->4 heartbeat")).count();
        cluster.lose(1, node);
    }
    assert!(cluster.node(1).writes_in_flight(0) > 0, "it writes still");
    assert!(heartbeats > 3, "{heartbeats}");
}
