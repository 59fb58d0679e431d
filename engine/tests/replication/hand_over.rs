//! To whom a leader hands over, and to whom not.

use metastore_engine::{MembersChange, ReplicaId, Role, Spare, TickTiming};

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

/// Lets time pass in steps of 50 ms while the leader is asked to write, in each step or in one of many. A write of a
/// node takes as many steps as `write_steps` says. Every node hears the others at once.
fn write_for(
    cluster: &mut TestCluster,
    steps: u64,
    steps_between: u64,
    write_steps: impl Fn(NodeNumber) -> u64,
) {
    for step in 0..steps {
        for number in cluster.numbers() {
            cluster.tick(number);
            let is_due = step % steps_between == 0;
            if is_due && cluster.status(number).role == Role::Leader {
                cluster.put(number, step, "/a", "1");
            }
            if step % write_steps(number) == 0 {
                cluster.complete_write(number);
            }
        }
        for _ in 0..2 {
            for from in cluster.numbers() {
                for to in cluster.numbers() {
                    cluster.deliver(from, to);
                }
            }
        }
    }
}

fn slow_disk_hand_overs(cluster: &mut TestCluster) -> u64 {
    let numbers = cluster.numbers();
    numbers
        .map(|number| cluster.counters(number).slow_disk_hand_overs)
        .sum()
}

/// The first node leads, and is the one that should.
fn timed(timing: TickTiming) -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.timing = timing;
        config.settings.raft.idle.lead_ticks = Some(4);
    });
    cluster.carries_beats = true;
    cluster.elect(1);
    write_for(&mut cluster, 200, 1, |_| 1);
    assert_eq!(slow_disk_hand_overs(&mut cluster), 0);
    assert_eq!(cluster.status(1).role, Role::Leader);
    cluster
}

/// Every disk takes 600 ms from some moment on.
#[test]
fn where_all_disks_become_slow_the_lead_stays() {
    let mut cluster = timed(TickTiming::default());
    write_for(&mut cluster, 1_200, 1, |_| 12);
    // One who has not written yet may seem better once.
    let hand_overs = slow_disk_hand_overs(&mut cluster);
    assert!(hand_overs <= 1, "{hand_overs} in a minute");
}

/// Nothing is known of others where ticks are not measured. After a minute the disks have always been so.
#[test]
fn where_all_disks_become_slow_and_nothing_is_measured_each_leads_for_a_while() {
    let mut cluster = timed(TickTiming::Fixed);
    write_for(&mut cluster, 400, 1, |_| 12);
    let hand_overs = slow_disk_hand_overs(&mut cluster);
    assert!(hand_overs <= 4, "{hand_overs} in twenty seconds");
    write_for(&mut cluster, 1_000, 1, |_| 12);
    let hand_overs = slow_disk_hand_overs(&mut cluster);
    write_for(&mut cluster, 300, 1, |_| 12);
    assert_eq!(slow_disk_hand_overs(&mut cluster), hand_overs);
}

/// It has never been otherwise.
#[test]
fn where_all_disks_were_always_slow_the_lead_stays() {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.timing = TickTiming::default();
    });
    cluster.carries_beats = true;
    write_for(&mut cluster, 1_200, 1, |_| 12);
    let hand_overs = slow_disk_hand_overs(&mut cluster);
    assert!(hand_overs <= 1, "{hand_overs} in a minute");
}

#[test]
fn a_leader_whose_disk_alone_becomes_slow_hands_over_once_and_does_not_ask_for_it_again() {
    let is_slow = |number| if number == 1 { 12 } else { 1 };
    for timing in [TickTiming::default(), TickTiming::Fixed] {
        let mut cluster = timed(timing);
        write_for(&mut cluster, 100, 1, is_slow);
        assert_eq!(cluster.counters(1).slow_disk_hand_overs, 1);
        assert_ne!(cluster.status(1).role, Role::Leader);
        // It catches up, and seems to be as good as any.
        write_for(&mut cluster, 600, 40, is_slow);
        assert_eq!(slow_disk_hand_overs(&mut cluster), 1);
        assert_ne!(cluster.status(1).role, Role::Leader);
        // Its disk is as before.
        write_for(&mut cluster, 600, 5, |_| 1);
        assert_eq!(cluster.status(1).role, Role::Leader);
    }
}

/// Nothing comes back any more, from one moment to the next.
#[test]
fn a_leader_whose_disk_hangs_hands_over_within_two_seconds() {
    let hangs = |number| if number == 1 { 10_000 } else { 1 };
    for timing in [TickTiming::default(), TickTiming::Fixed] {
        let mut cluster = timed(timing);
        // The first step is one of those in which all writes come back.
        write_for(&mut cluster, 40, 1, hangs);
        assert_eq!(cluster.counters(1).slow_disk_hand_overs, 1);
        let leads = (2..=3).any(|number| cluster.status(number).role == Role::Leader);
        assert!(leads, "another leads");
    }
}
