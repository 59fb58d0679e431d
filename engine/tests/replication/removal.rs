//! Replicas that are members no more: they are told, and go.

use metastore_engine::{MembersChange, MembersEffect, ReplicaId, Role, Spare};

use super::cluster::{NodeNumber, TestCluster};
use super::members::{
    add_learner, assert_done, change_voters, leader_of, parts, step_by_step, three_nodes,
    with_a_learner,
};

#[test]
fn a_replica_that_was_removed_while_it_was_away_is_told_and_goes_with_all_it_had() {
    let mut cluster = with_a_learner();
    cluster.crash(3);
    cluster.pass_ticks(30);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(3);
    assert_done(&cluster, asked);
    let term = cluster.status(1).term;
    cluster.start(3);
    cluster.pass_ticks(80);
    assert_eq!(cluster.status(1).term, term, "it disturbs nobody");
    assert_eq!(cluster.replicas(3), 0);
    assert_eq!(cluster.counters(3).replicas_removed, 1);
    assert!(cluster.counters(1).peer_removed + cluster.counters(2).peer_removed > 0);
    cluster.crash(3);
    cluster.start(3);
    assert_eq!(cluster.replicas(3), 0, "it does not come back");
    assert!(cluster.node(3).cores[0].files.snapshots.named.is_empty());
    // Another replica of the shard may live there.
    cluster.create(3, 5);
    cluster.settle();
    let asked = cluster.change(1, add_learner(5, 3));
    cluster.pass_ticks(30);
    assert_done(&cluster, asked);
    assert_eq!(cluster.status(3).state_hash, cluster.status(1).state_hash);
}

/// The leader is lost for good when it alone has applied that 4 takes the place of 3, and nothing reached anybody but 3
/// since. The two voters that are left need the vote of 3, because they do not know yet that it is gone.
#[test]
fn who_is_gone_votes_until_most_of_the_others_know_that_it_is() {
    let mut cluster = with_a_learner();
    cluster.pass_ticks(15);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    let has_left = |cluster: &mut TestCluster| {
        let members = cluster.status(1).members;
        !members.is_joint() && parts(cluster, 1).iter().all(|&(replica, _)| replica != 3)
    };
    for _ in 0..100 {
        if has_left(&mut cluster) {
            break;
        }
        step_by_step(&mut cluster, 4);
        for node in 2..=4 {
            if !has_left(&mut cluster) {
                cluster.deliver(node, 1);
            }
        }
    }
    assert!(has_left(&mut cluster));
    assert_eq!(cluster.outcome(asked), None, "most do not know it yet");
    cluster.deliver(1, 3);
    cluster.crash(1);
    cluster.pass_ticks(100);
    let leader = leader_of(&mut cluster);
    assert!([2, 4].contains(&leader));
    cluster.put(leader, 100, "/after", "1");
    cluster.settle();
    assert!(!cluster.take_answers(leader).is_empty());
    cluster.pass_ticks(100);
    assert_eq!(cluster.replicas(3), 0, "it is told in the end");
}

/// All whom it knows may be gone themselves. Whoever keeps the map of shards tells it.
#[test]
fn who_is_gone_and_hears_of_nobody_goes_when_its_core_is_told() {
    let mut cluster = with_a_learner();
    cluster.partition(&[3], &[1, 2, 4]);
    cluster.pass_ticks(30);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(60);
    assert_done(&cluster, asked);
    assert_eq!(cluster.replicas(3), 1);
    cluster.tell_removed(3, 3);
    cluster.pass_ticks(10);
    assert_eq!(cluster.replicas(3), 0);
}

/// Node 3 loses its power after every single thing that its devices do while its replica is removed. It comes to the
/// same end.
#[test]
fn a_loss_of_power_at_any_step_of_a_removal_leaves_nothing_behind() {
    let mut steps = 0;
    loop {
        let mut cluster = with_a_learner();
        cluster.pass_ticks(15);
        let asked = cluster.change(1, change_voters(&[4], &[3]));
        for _ in 0..40 {
            for node in [1, 2, 4] {
                cluster.complete_write(node);
                for to in cluster.numbers() {
                    cluster.deliver(node, to);
                    cluster.deliver(to, node);
                }
            }
            cluster.tick(1);
        }
        let is_over = !cluster.fetch_until(3, steps);
        cluster.crash(3);
        cluster.start(3);
        cluster.pass_ticks(80);
        assert_done(&cluster, asked);
        assert_eq!(cluster.replicas(3), 0, "step {steps}");
        assert!(cluster.node(3).cores[0].files.snapshots.named.is_empty());
        if is_over {
            break;
        }
        steps += 1;
    }
    assert!(steps > 2, "{steps} steps");
}

#[test]
fn a_learner_that_is_removed_is_told() {
    let mut cluster = with_a_learner();
    cluster.partition(&[4], &[1, 2, 3]);
    let asked = cluster.change(1, MembersChange::RemoveLearner(ReplicaId(4)));
    cluster.pass_ticks(3);
    assert_done(&cluster, asked);
    cluster.heal();
    assert_eq!(cluster.replicas(4), 1);
    // Nobody speaks to it: it asks.
    cluster.pass_ticks(80);
    assert_eq!(cluster.replicas(4), 0);
    let removed = cluster.members_told().iter().any(|(node, effect)| {
        *node == 4 && matches!(effect, MembersEffect::Removed { replica, .. } if replica.0 == 4)
    });
    assert!(removed);
}

#[test]
fn a_replica_that_never_joined_goes_when_it_is_not_wanted() {
    let mut cluster = three_nodes();
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.settle();
    cluster.crash(node);
    cluster.start(node);
    assert_eq!(cluster.replicas(node), 1);
    cluster.discard(node, 4);
    cluster.pass_ticks(3);
    assert_eq!(cluster.replicas(node), 0);
    cluster.discard(1, 1);
    cluster.pass_ticks(3);
    assert_eq!(cluster.replicas(1), 1, "a member stays");
}

/// Found by the simulator: a member that learned of a new term and was asked by one that is gone, in one turn, answered
/// with the new term before that was durable.
#[test]
fn who_is_gone_is_told_in_no_term_that_is_not_durable() {
    let mut cluster = with_a_learner();
    cluster.crash(3);
    cluster.pass_ticks(30);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(30);
    assert_done(&cluster, asked);
    cluster.partition(&[2], &[1, 3, 4]);
    cluster.hand_over_to_replica(1, 4);
    cluster.settle();
    assert_eq!(cluster.status(4).role, Role::Leader);
    cluster.heal();
    cluster.tick(4);
    cluster.start(3);
    cluster.campaign(3);
    let durable = cluster.status(2).term;
    let batches: Vec<(NodeNumber, Vec<u8>)> = cluster
        .on_the_way()
        .filter(|&(_, to, _)| to == 2)
        .map(|(from, _, batch)| (from, batch.to_vec()))
        .collect();
    for sender in [4, 3] {
        for (_, batch) in batches.iter().filter(|(from, _)| *from == sender) {
            cluster.hand_bytes(sender, 2, batch);
        }
    }
    cluster.node(2).turn();
    assert!(
        cluster.status(2).term > durable,
        "it has learned of the new term"
    );
    let sent = cluster.node(2).sent.iter();
    let lines = sent.flat_map(|(_, _, batch)| metastore_engine::describe_batch(batch));
    let told: Vec<String> = lines
        .flatten()
        .filter(|line| line.contains("2->3"))
        .collect();
    assert_eq!(
        told,
        [format!("shard 0 2->3 no member any more term {durable}")]
    );
}

/// A core tells all others that it is there, whatever becomes of one of its shards: a follower that slept through its own
/// removal is woken by nobody. It asks.
#[test]
fn a_sleeper_that_was_removed_and_not_told_goes() {
    let mut cluster = TestCluster::with(4, 2, |config| {
        config.settings.raft.idle.sleep_ticks = Some(2);
    });
    cluster.carries_beats = true;
    cluster.elect(1);
    cluster.pass_ticks(30);
    assert!(cluster.status(4).is_asleep);
    cluster.partition(&[4], &[1, 2, 3]);
    let asked = cluster.change(1, change_voters(&[], &[4]));
    for _ in 0..5 {
        (1..=3).for_each(|node| cluster.tick(node));
        cluster.settle();
    }
    assert_done(&cluster, asked);
    cluster.heal();
    cluster.pass_ticks(20);
    assert_eq!(cluster.replicas(4), 2);
    assert!(cluster.status(4).is_asleep, "nobody wakes it");
    cluster.pass_ticks(150);
    assert_eq!(cluster.replicas(4), 1);
}

/// It is not ticked, campaigns for nothing and hears nobody: it has to ask whether it is a member still.
#[test]
fn a_replica_in_quarantine_that_was_removed_and_not_told_goes() {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.state_check_ms = Some(200);
        if config.identity.node.0 == 3 {
            config.parameters.history_revisions_max = 1;
        }
    });
    cluster.elect(1);
    for request in 0..5 {
        cluster.put(1, request, "/a", &request.to_string());
        cluster.settle();
    }
    cluster.pass_ticks(30);
    assert!(cluster.status(3).quarantine.is_some());
    cluster.partition(&[3], &[1, 2]);
    let remove = MembersChange::ChangeVoters {
        promote: Vec::new(),
        remove: vec![ReplicaId(3)],
        spare: Spare::GivenUp,
    };
    let asked = cluster.change(1, remove);
    cluster.pass_ticks(5);
    assert_done(&cluster, asked);
    cluster.heal();
    assert_eq!(cluster.replicas(3), 1);
    cluster.pass_ticks(80);
    assert_eq!(cluster.replicas(3), 0);
}
