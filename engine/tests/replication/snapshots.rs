//! Followers that lag so far that they need a snapshot.

use metastore_engine::{Quarantine, Role};

use super::cluster::TestCluster;

/// A cluster whose leader has taken snapshots and released the log before them while node 3 was away. The newest is
/// several chunks long.
fn with_a_node_that_needs_a_snapshot() -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.tail_bytes_max = 0;
        config.settings.snapshots.entries = Some(40);
        config.settings.batch.compress_bytes_min = None;
    });
    cluster.elect(1);
    cluster.put(1, 1, "/before", "1");
    settle_with_time(&mut cluster, 1);
    cluster.partition(&[3], &[1, 2]);
    for request in 0..100 {
        // Values that differ, so that they are not compressed away.
        let value: String = (0..8_000_u32)
            .map(|at| char::from(b'a' + ((at * at + request * 7919 + at * request) % 26) as u8))
            .collect();
        cluster.put(1, 10, &format!("/{request}"), &value);
        cluster.settle();
        for node in [1, 2] {
            cluster.tick(node);
        }
        cluster.settle();
    }
    assert!(cluster.counters(1).snapshots > 1);
    cluster.heal();
    cluster
}

fn settle_with_time(cluster: &mut TestCluster, ticks: u32) {
    for _ in 0..ticks {
        for node in cluster.numbers() {
            if cluster.is_up(node) {
                cluster.tick(node);
            }
        }
        cluster.settle();
    }
}

fn assert_all_equal(cluster: &mut TestCluster) {
    let leader = cluster.status(1);
    for node in cluster.numbers() {
        let status = cluster.status(node);
        assert_eq!(status.applied, leader.applied, "node {node}");
        assert_eq!(status.state_hash, leader.state_hash, "node {node}");
    }
}

#[test]
fn a_follower_that_lags_too_far_fetches_a_snapshot_and_goes_on_from_there() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    settle_with_time(&mut cluster, 3);
    assert_eq!(cluster.counters(3).snapshots_fetched, 1);
    assert_all_equal(&mut cluster);
    cluster.put(1, 20, "/after", "1");
    settle_with_time(&mut cluster, 3);
    assert_all_equal(&mut cluster);
}

#[test]
fn what_was_fetched_is_there_after_a_loss_of_power() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    settle_with_time(&mut cluster, 3);
    let before = cluster.status(3);
    cluster.crash(3);
    cluster.start(3);
    let after = cluster.status(3);
    assert_eq!(after.state_hash, before.state_hash);
    assert_eq!(after.applied, before.applied);
    settle_with_time(&mut cluster, 3);
    assert_eq!(cluster.counters(3).snapshots_fetched, 0, "it has it");
    assert_all_equal(&mut cluster);
}

/// Node 3 loses its power after every single thing that its devices do while it fetches a snapshot. It starts from its
/// old state or from the new one, and comes to the same end.
#[test]
fn a_loss_of_power_at_any_step_leaves_the_old_state_or_the_new_one() {
    let mut steps = 0;
    loop {
        let mut cluster = with_a_node_that_needs_a_snapshot();
        let before = cluster.status(3).applied;
        let is_over = !cluster.fetch_until(3, steps);
        cluster.crash(3);
        cluster.start(3);
        // What was committed last is not in its log yet: it learns of it again.
        let after = cluster.status(3).applied;
        let is_old = after == before || after.next() == before;
        assert!(is_old || after.0 > before.0 + 70, "step {steps}: {after}");
        settle_with_time(&mut cluster, 60);
        assert_all_equal(&mut cluster);
        if is_over {
            break;
        }
        steps += 1;
    }
    assert!(steps > 5, "{steps} steps");
}

#[test]
fn chunks_that_are_lost_are_asked_for_again() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    cluster.tick(1);
    for round in 0..400 {
        for (from, to) in [(1, 2), (2, 1), (2, 3), (3, 2), (1, 3), (3, 1)] {
            let is_lost = round % 3 != 0 && (from == 3 || to == 3);
            if is_lost {
                cluster.lose(from, to);
            } else {
                cluster.deliver(from, to);
            }
        }
        for node in 1..=3 {
            cluster.tick(node);
            cluster.complete_write(node);
            cluster.do_snapshot_work(node);
        }
    }
    settle_with_time(&mut cluster, 60);
    assert_eq!(cluster.counters(3).snapshots_fetched, 1);
    assert_all_equal(&mut cluster);
}

/// It campaigns, its term is durable, and it loses its power before anybody hears of it. Its snapshot is damaged, and
/// the leader is of an earlier term, which cannot say what it has promised since.
#[test]
fn a_damaged_replica_whose_term_is_later_than_its_leaders_is_repaired() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    settle_with_time(&mut cluster, 3);
    assert_eq!(cluster.counters(3).snapshots_fetched, 1);
    let term = cluster.status(1).term;
    cluster.hand_over(1, 3);
    cluster.deliver(1, 3);
    while cluster.complete_write(3) {}
    cluster.crash(3);
    cluster.damage_snapshots(3);
    cluster.start(3);
    let damaged = cluster.status(3);
    assert_eq!(damaged.quarantine, Some(Quarantine::SnapshotDamaged));
    settle_with_time(&mut cluster, 100);
    let repaired = cluster.status(3);
    assert_eq!((repaired.quarantine, repaired.repairs), (None, 1));
    let leader = cluster.status(2);
    assert_eq!(leader.role, Role::Leader);
    assert_eq!(leader.term.0, term.0 + 1, "one later term is enough");
    settle_with_time(&mut cluster, 3);
    assert_all_equal(&mut cluster);
}

/// Its disk is full, say. The leader would offer the snapshot again only after it has waited for word of this one.
#[test]
fn a_follower_that_could_not_write_a_snapshot_tries_again_by_itself() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    while !cluster.has_snapshot_work(3) {
        settle_but_for_snapshots_of(&mut cluster, 3);
        cluster.tick(1);
    }
    cluster.fail_snapshot_work(3);
    // Its pause is a second of twenty ticks; four election timeouts are forty.
    settle_with_time(&mut cluster, 25);
    assert_eq!(cluster.counters(3).snapshots_fetched, 1);
    assert_all_equal(&mut cluster);
}

fn settle_but_for_snapshots_of(cluster: &mut TestCluster, node: u32) {
    for from in cluster.numbers() {
        for to in cluster.numbers() {
            cluster.deliver(from, to);
        }
        cluster.complete_write(from);
        if from != node {
            cluster.do_snapshot_work(from);
        }
    }
}

/// The files of its snapshots take their time. What its leader sends must leave room for their records.
#[test]
fn a_follower_whose_log_is_full_takes_entries_again_once_a_snapshot_has_relieved_it() {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.batch.compress_bytes_min = None;
        if config.identity.node.0 == 3 {
            config.log.segment_bytes = 256 << 10;
            config.log.budget_bytes = 8 * config.log.segment_bytes;
        }
    });
    cluster.elect(1);
    let value = "v".repeat(12 << 10);
    for request in 0.. {
        if cluster.counters(3).peer_appends_refused > 0 {
            break;
        }
        assert!(request < 400, "its log is full long before");
        cluster.put(1, request, &format!("/{request}"), &value);
        settle_but_for_snapshots_of(&mut cluster, 3);
    }
    assert!(cluster.has_snapshot_work(3), "it has begun to relieve it");
    let (leader, follower) = (cluster.status(1), cluster.status(3));
    assert!(follower.last < leader.last);
    settle_with_time(&mut cluster, 60);
    assert!(cluster.counters(3).snapshots > 0);
    assert_all_equal(&mut cluster);
}

/// All of it is there when nobody leads any more. Its core could fetch nothing else meanwhile, and not stop.
#[test]
fn a_snapshot_of_which_no_leader_hears_is_given_up_and_fetched_again() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    while !cluster.names_snapshot(3) {
        cluster.do_snapshot_work(3);
        settle_but_for_snapshots_of(&mut cluster, 3);
        cluster.tick(1);
    }
    cluster.partition(&[3], &[1, 2]);
    while cluster.status(3).leader.is_some() {
        cluster.tick(3);
    }
    cluster.do_snapshot_work(3);
    assert!(!cluster.has_snapshot_work(3), "it waits for a leader");
    for _ in 0..100 {
        cluster.tick(3);
    }
    assert!(cluster.has_snapshot_work(3), "the file is removed");
    assert_eq!(cluster.counters(3).snapshots_fetched, 0);
    cluster.heal();
    settle_with_time(&mut cluster, 60);
    assert_eq!(cluster.counters(3).snapshots_fetched, 1);
    assert_all_equal(&mut cluster);
}

/// The leader is gone in the middle. The next one has taken a snapshot too, and offers its own.
#[test]
fn a_snapshot_of_a_leader_that_is_gone_is_given_up_for_that_of_the_next() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    cluster.fetch_until(3, 2);
    cluster.crash(1);
    cluster.elect(2);
    settle_with_time(&mut cluster, 150);
    let (leader, follower) = (cluster.status(2), cluster.status(3));
    assert_eq!(leader.role, Role::Leader);
    assert_eq!(follower.applied, leader.applied);
    assert_eq!(follower.state_hash, leader.state_hash);
}

#[test]
fn a_snapshot_whose_bytes_are_damaged_is_not_installed() {
    let mut cluster = with_a_node_that_needs_a_snapshot();
    let state_before = cluster.status(3).state_hash;
    let files = &mut cluster.node(1).cores[0].files.snapshots.named;
    let newest = files.values_mut().next_back().expect("it took some");
    let middle = newest.len() / 2;
    newest[middle] ^= 1;
    settle_with_time(&mut cluster, 3);
    assert_eq!(cluster.counters(3).snapshots_fetched, 0);
    assert_eq!(cluster.status(3).state_hash, state_before);
}

/// The log of the leader cannot be read: the follower gets a snapshot though the log still holds what it lacks.
#[test]
fn a_follower_gets_a_snapshot_where_the_log_cannot_be_read() {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.raft.tail_bytes_max = 0;
    });
    cluster.elect(1);
    cluster.partition(&[3], &[1, 2]);
    for request in 0..20 {
        cluster.put(1, request, &format!("/{request}"), "1");
        cluster.settle();
    }
    assert_eq!(cluster.counters(1).snapshots, 0);
    cluster.node(1).cores[0].fails_log_reads = true;
    cluster.heal();
    settle_with_time(&mut cluster, 10);
    assert_eq!(cluster.counters(1).snapshots, 1);
    assert_eq!(cluster.counters(3).snapshots_fetched, 1);
    assert_all_equal(&mut cluster);
}
