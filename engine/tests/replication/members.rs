//! Changes of members: replicas that join, take the place of others, and go.

use metastore_engine::{
    BadChange, ChangeRefused, ChangeTicket, CreateRefused, MemberPart, MembersChange,
    MembersEffect, ReplicaId, Role, ShardId, Spare,
};

use super::cluster::{NodeNumber, TestCluster};

/// Three nodes, the first leading, with more in the log than a replica that joins can be sent.
pub(super) fn three_nodes() -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.batch.compress_bytes_min = None;
    });
    cluster.elect(1);
    for request in 0..20 {
        cluster.put(1, request, &format!("/{request}"), "1");
        cluster.settle();
    }
    cluster
}

pub(super) fn add_learner(replica: u64, node: NodeNumber) -> MembersChange {
    MembersChange::AddLearner(TestCluster::member(replica, node))
}

pub(super) fn change_voters(promote: &[u64], remove: &[u64]) -> MembersChange {
    let ids = |ids: &[u64]| ids.iter().map(|&id| ReplicaId(id)).collect();
    MembersChange::ChangeVoters {
        promote: ids(promote),
        remove: ids(remove),
        spare: Spare::Kept,
    }
}

/// An answer may be lost, and until the replica is durable a crash takes it away: nobody may have it join before.
#[test]
fn whoever_asks_again_for_a_replica_is_answered_again_once_it_is_durable() {
    let mut cluster = three_nodes();
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.create(node, 4);
    assert_eq!(created(&cluster), []);
    cluster.settle();
    assert_eq!(created(&cluster), [Ok(())]);
    cluster.create(node, 4);
    assert_eq!(created(&cluster), [Ok(()), Ok(())]);
    cluster.create(node, 5);
    let replica = ReplicaId(4);
    let refused = CreateRefused::ShardIsHere { replica };
    assert_eq!(created(&cluster), [Ok(()), Ok(()), Err(refused)]);
}

/// The log, its recovery and the removal of a replica go by its id.
#[test]
fn an_id_names_one_replica_of_a_core() {
    let mut cluster = three_nodes();
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.settle();
    cluster.create_of(node, 4, 7);
    let taken = CreateRefused::IdTaken { shard: ShardId(0) };
    assert_eq!(created(&cluster), [Ok(()), Err(taken)]);
}

fn created(cluster: &TestCluster) -> Vec<Result<(), CreateRefused>> {
    let told = cluster.members_told().iter();
    let created = told.filter_map(|(_, effect)| match effect {
        MembersEffect::Created { result, .. } => Some(*result),
        MembersEffect::Changed { .. }
        | MembersEffect::Unlist { .. }
        | MembersEffect::Removed { .. } => None,
    });
    created.collect()
}

/// Replica 4 on a fourth node learns.
pub(super) fn with_a_learner() -> TestCluster {
    let mut cluster = three_nodes();
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.settle();
    let asked = cluster.change(1, add_learner(4, node));
    cluster.pass_ticks(30);
    assert_done(&cluster, asked);
    cluster
}

pub(super) fn assert_done(cluster: &TestCluster, asked: ChangeTicket) {
    let outcome = cluster.outcome(asked);
    assert!(matches!(outcome, Some(Ok(_))), "{outcome:?}");
}

/// The parts of the members as a node knows them.
pub(super) fn parts(cluster: &mut TestCluster, node: NodeNumber) -> Vec<(u64, MemberPart)> {
    let members = cluster.members(node);
    let part = |status: &metastore_engine::MemberStatus| (status.member.replica.0, status.part);
    members.iter().map(part).collect()
}

pub(super) fn leader_of(cluster: &mut TestCluster) -> NodeNumber {
    let mut leaders = Vec::new();
    for node in cluster.numbers() {
        if cluster.is_up(node) && cluster.replicas(node) > 0 {
            let status = cluster.status(node);
            leaders.push((status.role == Role::Leader, status.term, node));
        }
    }
    let newest = leaders.into_iter().max();
    newest.map(|(.., node)| node).expect("a node is up")
}

#[test]
fn a_replica_that_joins_fetches_a_snapshot_and_follows_without_a_vote() {
    let mut cluster = with_a_learner();
    let (leader, learner) = (cluster.status(1), cluster.status(4));
    assert_eq!(learner.applied, leader.applied);
    assert_eq!(learner.state_hash, leader.state_hash);
    assert_eq!(cluster.counters(4).snapshots_fetched, 1);
    assert_eq!((learner.members.voters, learner.members.learners), (3, 1));
    // It never campaigns, and the others need no word of it.
    cluster.partition(&[4], &[1, 2, 3]);
    let term = cluster.status(4).term;
    cluster.pass_ticks(60);
    assert_eq!(cluster.status(4).term, term);
    assert_eq!(cluster.status(4).role, Role::Follower);
    cluster.put(1, 100, "/after", "1");
    cluster.settle();
    assert_eq!(cluster.take_answers(1).len(), 21);
}

#[test]
fn a_dead_member_is_replaced_in_one_change() {
    let mut cluster = with_a_learner();
    cluster.crash(3);
    cluster.pass_ticks(30);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(3);
    assert_done(&cluster, asked);
    let voters = [1, 2, 4].map(|id| (id, MemberPart::Voter));
    for node in [1, 2, 4] {
        assert_eq!(parts(&mut cluster, node), voters);
    }
    // The old one may fail for good, and one more.
    cluster.crash(1);
    cluster.elect(4);
    cluster.put(4, 100, "/after", "1");
    cluster.settle();
    assert_eq!(cluster.take_answers(4).len(), 1);
}

#[test]
fn a_leader_that_is_removed_lets_one_lead_that_stays() {
    let mut cluster = with_a_learner();
    let asked = cluster.change(1, change_voters(&[4], &[1]));
    cluster.pass_ticks(20);
    let leader = leader_of(&mut cluster);
    assert!([2, 3, 4].contains(&leader), "node {leader}");
    assert!(!cluster.status(leader).members.is_joint());
    assert_eq!(cluster.replicas(1), 0);
    let lost = ChangeRefused::Lost {
        happened: metastore_engine::Happened::Unknown,
    };
    assert_eq!(cluster.outcome(asked), Some(&Err(lost)));
    cluster.put(leader, 100, "/after", "1");
    cluster.settle();
    assert!(!cluster.take_answers(leader).is_empty());
}

/// The leader is gone after each single thing that the nodes do while a change is under way. Whoever leads next finds
/// the joint state, if it was entered, and leaves it.
#[test]
fn no_joint_state_is_left_wherever_the_leader_is_lost() {
    let mut joint_seen = 0;
    for steps in 0..14 {
        let mut cluster = with_a_learner();
        cluster.pass_ticks(15);
        cluster.change(1, change_voters(&[4], &[3]));
        step_by_step(&mut cluster, steps);
        cluster.crash(1);
        joint_seen += u32::from(cluster.status(2).members.is_joint());
        for _ in 0..200 {
            cluster.pass_ticks(1);
        }
        let leader = leader_of(&mut cluster);
        assert!(!cluster.status(leader).members.is_joint(), "step {steps}");
        cluster.put(leader, 100, "/after", "1");
        cluster.settle();
        let answers = cluster.take_answers(leader);
        assert!(
            !answers.is_empty() && answers.iter().all(|(_, answer)| *answer == crate::done(21)),
            "step {steps}: {answers:?}"
        );
        cluster.start(1);
        cluster.pass_ticks(80);
        assert_same_members(&mut cluster, leader);
    }
    assert!(joint_seen > 2, "{joint_seen} times");
}

/// The leader says that the change is made, and is lost for good at once; the others lose their power. That the change
/// is committed must be in their logs: 3 is gone, and cannot help them.
#[test]
fn a_change_that_is_made_is_known_after_a_loss_of_power_without_the_leader() {
    let mut cluster = with_a_learner();
    cluster.pass_ticks(15);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    while cluster.outcome(asked).is_none() {
        step_by_step(&mut cluster, 4);
        for node in 2..=4 {
            cluster.deliver(node, 1);
        }
    }
    assert_done(&cluster, asked);
    for node in 1..=4 {
        cluster.crash(node);
    }
    cluster.start(2);
    cluster.start(4);
    cluster.pass_ticks(100);
    let leader = leader_of(&mut cluster);
    cluster.put(leader, 100, "/after", "1");
    cluster.settle();
    assert!(!cluster.take_answers(leader).is_empty());
}

/// One thing after the other: a write, a delivery, a tick.
pub(super) fn step_by_step(cluster: &mut TestCluster, steps: u32) {
    for step in 0..steps {
        match step % 4 {
            0 => {
                cluster.complete_write(1);
            }
            1 => (2..=4).for_each(|node| {
                cluster.deliver(1, node);
            }),
            2 => (2..=4).for_each(|node| {
                cluster.complete_write(node);
            }),
            _ => (2..=4).for_each(|node| {
                cluster.deliver(node, 1);
            }),
        }
    }
}

/// Every node with a replica knows the same members, and every member lives.
fn assert_same_members(cluster: &mut TestCluster, leader: NodeNumber) {
    let expected = parts(cluster, leader);
    let mut living = 0;
    for node in cluster.numbers() {
        if cluster.replicas(node) > 0 {
            assert_eq!(parts(cluster, node), expected, "node {node}");
            living += 1;
        }
    }
    assert_eq!(living, expected.len());
}

/// Node 4 loses its power after every single thing that its devices do while its replica joins.
#[test]
fn a_loss_of_power_at_any_step_of_joining_leaves_a_replica_that_joins() {
    let mut steps = 0;
    loop {
        let mut cluster = three_nodes();
        let node = cluster.add_node();
        cluster.create(node, 4);
        cluster.settle();
        let asked = cluster.change(1, add_learner(4, node));
        let is_over = !cluster.fetch_until(node, steps);
        cluster.crash(node);
        cluster.start(node);
        assert_eq!(cluster.replicas(node), 1, "step {steps}");
        cluster.pass_ticks(60);
        assert_done(&cluster, asked);
        assert_eq!(
            cluster.status(node).state_hash,
            cluster.status(1).state_hash
        );
        if is_over {
            break;
        }
        steps += 1;
    }
    assert!(steps > 3, "{steps} steps");
}

#[test]
fn a_change_waits_until_its_learner_has_caught_up() {
    let mut cluster = with_a_learner();
    cluster.partition(&[4], &[1, 2, 3]);
    cluster.put(1, 100, "/more", "1");
    cluster.settle();
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(20);
    assert_eq!(cluster.outcome(asked), None);
    assert!(!cluster.status(1).members.is_joint());
    cluster.heal();
    cluster.pass_ticks(30);
    assert_done(&cluster, asked);
}

#[test]
fn a_change_whose_learner_never_catches_up_is_refused_in_the_end() {
    let mut cluster = with_a_learner();
    cluster.crash(4);
    cluster.put(1, 100, "/more", "1");
    cluster.settle();
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(120);
    let outcome = cluster.outcome(asked);
    let is_behind = |refused: &ChangeRefused| matches!(refused, ChangeRefused::Behind { replica, .. } if replica.0 == 4);
    assert!(
        matches!(outcome, Some(Err(refused)) if is_behind(refused)),
        "{outcome:?}"
    );
    assert!(!cluster.status(1).members.is_joint());
}

#[test]
fn a_change_after_which_no_voter_may_fail_is_refused() {
    let mut cluster = with_a_learner();
    // Of 1, 2 and 4 all would be needed.
    cluster.crash(2);
    cluster.pass_ticks(30);
    let asked = cluster.change(1, change_voters(&[4], &[3]));
    cluster.pass_ticks(120);
    let refused = ChangeRefused::NoSpare {
        healthy: 2,
        needed: 3,
    };
    assert_eq!(cluster.outcome(asked), Some(&Err(refused)));
    // Two voters of three are enough for who gives the spare one up.
    let given_up = MembersChange::ChangeVoters {
        promote: vec![ReplicaId(4)],
        remove: vec![ReplicaId(2)],
        spare: Spare::GivenUp,
    };
    let asked = cluster.change(1, given_up);
    cluster.pass_ticks(20);
    assert_done(&cluster, asked);
}

#[test]
fn a_group_shrinks_to_one_voter_and_grows_again() {
    let mut cluster = three_nodes();
    cluster.pass_ticks(15);
    let to_one = MembersChange::ChangeVoters {
        promote: vec![],
        remove: vec![ReplicaId(2), ReplicaId(3)],
        spare: Spare::GivenUp,
    };
    let asked = cluster.change(1, to_one);
    cluster.pass_ticks(10);
    assert_done(&cluster, asked);
    assert_eq!(parts(&mut cluster, 1), [(1, MemberPart::Voter)]);
    cluster.put(1, 100, "/alone", "1");
    cluster.pass_ticks(40);
    assert_eq!((cluster.replicas(2), cluster.replicas(3)), (0, 0));
    cluster.crash(1);
    cluster.start(1);
    cluster.pass_ticks(3);
    assert_eq!(cluster.status(1).role, Role::Leader);
    for (replica, node) in [(5, 2), (6, 3)] {
        cluster.create(node, replica);
        cluster.settle();
        let asked = cluster.change(1, add_learner(replica, node));
        cluster.pass_ticks(30);
        assert_done(&cluster, asked);
    }
    let asked = cluster.change(1, change_voters(&[5, 6], &[]));
    cluster.pass_ticks(10);
    assert_done(&cluster, asked);
    cluster.crash(1);
    cluster.elect(2);
    assert_eq!(cluster.status(2).keys, 21);
}

#[test]
fn what_cannot_be_done_is_refused_at_once() {
    let mut cluster = with_a_learner();
    let impossible = |bad| Some(Err(ChangeRefused::Impossible(bad)));
    let newest = ReplicaId(4);
    let replica = ReplicaId(9);
    let cases = [
        (
            add_learner(3, 7),
            impossible(BadChange::NotNewer {
                replica: ReplicaId(3),
                newest,
            }),
        ),
        (
            add_learner(9, 2),
            Some(Err(ChangeRefused::HomeTaken {
                replica: ReplicaId(2),
            })),
        ),
        (
            MembersChange::RemoveLearner(ReplicaId(2)),
            impossible(BadChange::NoSuchMember {
                replica: ReplicaId(2),
            }),
        ),
        (
            change_voters(&[9], &[]),
            impossible(BadChange::NoSuchMember { replica }),
        ),
        (change_voters(&[], &[]), impossible(BadChange::WrongStep)),
        (
            change_voters(&[], &[1, 2, 3]),
            impossible(BadChange::NoVoters),
        ),
    ];
    for (change, refused) in cases {
        let asked = cluster.change(1, change.clone());
        assert_eq!(cluster.outcome(asked).cloned(), refused, "{change:?}");
    }
    let asked = cluster.change(2, change_voters(&[4], &[3]));
    let elsewhere = cluster.outcome(asked);
    assert!(
        matches!(elsewhere, Some(Err(ChangeRefused::NotLeader { leader: Some(home) })) if home.node.0 == 1)
    );
}

#[test]
fn a_second_change_is_refused_while_one_is_under_way() {
    let mut cluster = with_a_learner();
    cluster.pass_ticks(15);
    let first = cluster.change(1, change_voters(&[4], &[3]));
    let second = cluster.change(1, MembersChange::RemoveLearner(ReplicaId(4)));
    assert_eq!(
        cluster.outcome(second),
        Some(&Err(ChangeRefused::InProgress))
    );
    cluster.pass_ticks(3);
    assert_done(&cluster, first);
}

/// A disk was wiped, and somebody lets the replica be made again under its old id. It may have voted and promised: it
/// takes part in nothing.
#[test]
fn a_voter_that_has_lost_everything_does_not_come_back_under_its_id() {
    let mut cluster = three_nodes();
    cluster.crash(3);
    cluster.put(1, 100, "/more", "1");
    cluster.settle();
    let node = cluster.add_node();
    // The fourth node takes the place of the third on the network, with empty disks.
    cluster.take_place(node, 3);
    cluster.create(node, 3);
    cluster.settle();
    cluster.partition(&[1], &[2]);
    cluster.pass_ticks(80);
    assert_eq!(cluster.counters(node).snapshots_fetched, 0);
    for candidate in [1, 2] {
        let status = cluster.status(candidate);
        assert_ne!(status.role, Role::Leader, "its vote counts for nobody");
    }
}

/// A member was away while all others were replaced. It does not know who leads, and learns it.
#[test]
fn a_member_that_was_away_follows_a_leader_that_it_has_never_heard_of() {
    let mut cluster = three_nodes();
    cluster.crash(3);
    for (old, new) in [(1, 4), (2, 5)] {
        let node = cluster.add_node();
        cluster.create(node, new);
        cluster.settle();
        let leader = leader_of(&mut cluster);
        let asked = cluster.change(leader, add_learner(new, node));
        cluster.pass_ticks(40);
        assert_done(&cluster, asked);
        let leader = leader_of(&mut cluster);
        let change = MembersChange::ChangeVoters {
            promote: vec![ReplicaId(new)],
            remove: vec![ReplicaId(old)],
            spare: Spare::GivenUp,
        };
        cluster.change(leader, change);
        cluster.pass_ticks(60);
    }
    let leader = leader_of(&mut cluster);
    assert!(leader > 3, "node {leader}");
    let voters = [3, 4, 5].map(|id| (id, MemberPart::Voter));
    assert_eq!(parts(&mut cluster, leader), voters);
    cluster.crash(1);
    cluster.crash(2);
    cluster.start(3);
    cluster.pass_ticks(60);
    assert_eq!(parts(&mut cluster, 3), voters);
    assert_eq!(
        cluster.status(3).state_hash,
        cluster.status(leader).state_hash
    );
}
