//! Leaders that apply what a quorum of the others has before their own disk has it.

use metastore_engine::{LogIndex, MembersChange, Role};

use super::cluster::{NodeNumber, TestCluster};
use crate::done;
use crate::harness::Answer;

/// Three nodes, of which the first leads; it applies so many entries ahead.
fn cluster(entries_max: Option<u64>) -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.apply_ahead_entries_max = entries_max;
    });
    cluster.elect(1);
    cluster
}

/// What the leader has to say reaches the others, who write it and say so. The leader writes nothing meanwhile.
fn let_others_write(cluster: &mut TestCluster, leader: NodeNumber) {
    for number in cluster.numbers().filter(|&number| number != leader) {
        cluster.deliver(leader, number);
        while cluster.complete_write(number) {}
        cluster.deliver(number, leader);
    }
}

/// Lets the leader write what it has to, and nobody else hear of it.
fn let_leader_write(cluster: &mut TestCluster, leader: NodeNumber) {
    while cluster.complete_write(leader) {}
}

fn applied(cluster: &mut TestCluster, number: NodeNumber) -> u64 {
    cluster.status(number).applied.0
}

fn waiting_bytes(cluster: &mut TestCluster, number: NodeNumber) -> usize {
    let status = cluster.node(number).cores[0].core.status();
    status.waiting.command_bytes
}

/// Everybody holds the same state.
fn assert_agreed(cluster: &mut TestCluster) {
    cluster.settle();
    for _ in 0..3 {
        for number in cluster.numbers() {
            cluster.tick(number);
        }
        cluster.settle();
    }
    let states: Vec<_> = cluster
        .numbers()
        .map(|number| {
            let status = cluster.status(number);
            (status.applied, status.state_hash, status.keys)
        })
        .collect();
    assert_eq!(states, vec![states[0]; states.len()]);
}

#[test]
fn a_put_is_answered_when_the_others_have_it_and_not_before() {
    let mut cluster = cluster(Some(100));
    cluster.put(1, 1, "/a", "1");
    assert_eq!(cluster.take_answers(1), []);
    cluster.deliver(1, 2);
    cluster.complete_write(2);
    cluster.deliver(2, 1);
    assert_eq!(cluster.take_answers(1), [], "the other one has not written");
    cluster.deliver(1, 3);
    cluster.complete_write(3);
    cluster.deliver(3, 1);
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
    assert_eq!(cluster.node(1).writes_in_flight(0), 1);
    // Its own write comes back, and nothing is done twice.
    assert_agreed(&mut cluster);
    assert_eq!(cluster.take_answers(1), []);
    assert_eq!(cluster.status(1).applied_commands, 1);
}

#[test]
fn a_put_waits_for_the_disk_of_a_leader_that_does_not_apply_ahead() {
    let mut cluster = cluster(None);
    cluster.put(1, 1, "/a", "1");
    let_others_write(&mut cluster, 1);
    assert_eq!(cluster.take_answers(1), []);
    assert!(cluster.status(1).committed > cluster.status(1).applied);
    let_leader_write(&mut cluster, 1);
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
}

/// While its disk stands still, each put is an entry of its own, and does not wait for the one before it to be durable here.
#[test]
fn a_leader_whose_disk_stands_still_goes_on_up_to_its_limit() {
    let mut cluster = cluster(Some(3));
    let before = applied(&mut cluster, 1);
    for request in 1..=5 {
        cluster.put(1, request, "/a", "1");
        let_others_write(&mut cluster, 1);
    }
    let answered = cluster.take_answers(1);
    assert_eq!(answered, [(1, done(1)), (2, done(2)), (3, done(3))]);
    assert_eq!(applied(&mut cluster, 1), before + 3);
    let_leader_write(&mut cluster, 1);
    assert_agreed(&mut cluster);
    assert_eq!(cluster.take_answers(1), [(4, done(4)), (5, done(5))]);
}

/// Commands that are answered and not durable here fill the queue of the log still.
#[test]
fn what_is_applied_ahead_counts_as_waiting_until_it_is_durable() {
    let mut cluster = cluster(Some(100));
    cluster.put(1, 1, "/a", &"v".repeat(1_000));
    let_others_write(&mut cluster, 1);
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
    // A tick, because it is counted at the end of a turn.
    cluster.tick(1);
    let waiting = waiting_bytes(&mut cluster, 1);
    assert!(waiting > 0, "{waiting}");
    let_leader_write(&mut cluster, 1);
    cluster.tick(1);
    assert_eq!(waiting_bytes(&mut cluster, 1), 0);
}

#[test]
fn a_read_sees_what_was_applied_ahead() {
    let mut cluster = cluster(Some(100));
    cluster.put(1, 1, "/a", "1");
    let_others_write(&mut cluster, 1);
    cluster.get(1, 2, "/a");
    let_others_write(&mut cluster, 1);
    let row = (b"/a".to_vec(), b"1".to_vec());
    assert_eq!(
        cluster.take_answers(1),
        [(1, done(1)), (2, Answer::Rows(vec![row]))]
    );
}

/// The leader loses its power before its own disk has what it answered.
#[test]
fn what_was_answered_ahead_outlives_the_leader() {
    let mut cluster = cluster(Some(100));
    for request in 1..=3 {
        cluster.put(1, request, "/a", &request.to_string());
        let_others_write(&mut cluster, 1);
    }
    assert_eq!(cluster.take_answers(1).len(), 3);
    let (state, last) = (cluster.status(1).state_hash, cluster.status(1).last);
    cluster.crash(1);
    cluster.start(1);
    assert!(cluster.status(1).last < last, "its own log has less");
    cluster.elect(2);
    assert_eq!(cluster.status(2).state_hash, state);
    assert_agreed(&mut cluster);
    assert_eq!(cluster.status(1).state_hash, state);
}

/// Another leads, and the log of the old one ends behind what it has applied: raft hands it out after its state has it.
#[test]
fn a_deposed_leader_applies_nothing_twice() {
    let mut cluster = cluster(Some(100));
    cluster.put(1, 1, "/a", "1");
    let_others_write(&mut cluster, 1);
    // This one nobody else hears of.
    cluster.put(1, 2, "/b", "lost");
    cluster.partition(&[1], &[2, 3]);
    cluster.elect(2);
    cluster.put(2, 3, "/c", "3");
    cluster.settle();
    cluster.heal();
    for _ in 0..3 {
        cluster.tick(2);
        cluster.settle();
    }
    assert_eq!(cluster.status(1).role, Role::Follower);
    assert_agreed(&mut cluster);
    assert_eq!(cluster.status(1).applied_commands, 2);
}

/// A new leader has served nobody before: the first entry of its term, too, need not wait for its disk.
#[test]
fn a_new_leader_serves_before_its_first_entry_is_durable_in_its_log() {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.apply_ahead_entries_max = Some(100);
    });
    cluster.campaign(1);
    // Pre-votes, then the vote for itself, then those of the others.
    let_others_write(&mut cluster, 1);
    let_leader_write(&mut cluster, 1);
    let_others_write(&mut cluster, 1);
    assert_eq!(cluster.status(1).role, Role::Leader);
    cluster.put(1, 1, "/a", "1");
    let_others_write(&mut cluster, 1);
    let_others_write(&mut cluster, 1);
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
    assert_eq!(cluster.node(1).writes_in_flight(0), 1);
    assert_agreed(&mut cluster);
}

/// raft counts quorums by the members that are applied.
#[test]
fn nothing_is_applied_ahead_from_a_change_of_members_on() {
    let mut cluster = cluster(Some(100));
    let node = cluster.add_node();
    cluster.create(node, 4);
    cluster.settle();
    cluster.put(1, 1, "/a", "1");
    let_others_write(&mut cluster, 1);
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
    let before = cluster.status(1);
    let learner = TestCluster::member(4, node);
    let asked = cluster.change(1, MembersChange::AddLearner(learner));
    cluster.put(1, 2, "/b", "2");
    for _ in 0..3 {
        let_others_write(&mut cluster, 1);
    }
    let status = cluster.status(1);
    assert!(status.committed > before.committed, "{status:?}");
    assert_eq!(status.applied, before.applied);
    assert_eq!(cluster.take_answers(1), []);
    assert_eq!(cluster.members(1).len(), 3);
    let_leader_write(&mut cluster, 1);
    assert_eq!(cluster.take_answers(1), [(2, done(2))]);
    assert_eq!(cluster.members(1).len(), 4);
    cluster.pass_ticks(20);
    assert!(matches!(cluster.outcome(asked), Some(Ok(_))));
    assert_agreed(&mut cluster);
}

/// A snapshot is taken of a state that goes further than the leader's log does durably.
fn with_a_snapshot_ahead(entries: u64) -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.apply_ahead_entries_max = Some(100);
        config.settings.snapshots.entries = Some(4);
        config.settings.snapshots.write_bytes = 4096;
    });
    cluster.elect(1);
    cluster.node(1).holds_snapshots = true;
    for request in 0..entries {
        cluster.put(1, request, "/a", &request.to_string());
        let_others_write(&mut cluster, 1);
    }
    cluster.tick(1);
    assert!(cluster.has_snapshot_work(1), "it is being written");
    cluster
}

#[test]
fn a_snapshot_of_what_was_applied_ahead_is_recorded_behind_it() {
    let mut cluster = with_a_snapshot_ahead(10);
    while cluster.do_snapshot_work(1) {}
    assert_eq!(
        cluster.counters(1).snapshots,
        0,
        "its record is not durable"
    );
    cluster.put(1, 77, "/b", "77");
    let_others_write(&mut cluster, 1);
    let state = cluster.status(1).state_hash;
    cluster.node(1).holds_snapshots = false;
    assert_agreed(&mut cluster);
    assert!(cluster.counters(1).snapshots > 0);
    // It starts from that snapshot, and what it holds is not applied again.
    cluster.crash(1);
    cluster.start(1);
    assert!(cluster.status(1).last > LogIndex(10));
    cluster.elect(2);
    assert_agreed(&mut cluster);
    assert_eq!(cluster.status(1).state_hash, state);
}

/// The file has its name, and neither its record nor what it covers is in the log.
#[test]
fn a_snapshot_of_what_was_applied_ahead_is_worth_nothing_without_its_record() {
    let mut cluster = with_a_snapshot_ahead(10);
    let state = cluster.status(1).state_hash;
    while cluster.do_snapshot_work(1) {}
    assert!(!cluster.has_snapshot_work(1));
    cluster.crash(1);
    cluster.start(1);
    assert!(cluster.status(1).applied < LogIndex(10));
    cluster.elect(3);
    assert_agreed(&mut cluster);
    assert_eq!(cluster.status(1).state_hash, state);
}
