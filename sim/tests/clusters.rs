//! Single stories of clusters, each from its beginning. The checkers look on in all of them: what a story asserts is
//! that the cluster goes on, or does not, and at the end that what clients saw has an order.

mod many_keys;
mod story;

use metastore_engine::{NodeId, PeerCore, SnapshotSettings};
use metastore_sim::clock::ClockRate;
use metastore_sim::cluster::shape::Shape;
use metastore_sim::disk::Latency;
use metastore_sim::network::{Partition, Site};

use story::{ELECTION_MS, NODES, SHARD, Story, config};

#[test]
fn a_follower_that_was_away_catches_up() {
    let mut story = Story::begin(config());
    let away = story.followers()[0];
    story.crash(away);
    (0..5).for_each(|_| story.put(0));
    story.start(away);
    story.end();
}

/// What a world that broke prints about its replicas.
#[test]
fn a_line_says_how_a_replica_stands_and_how_a_leader_sends_to_the_others() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    story.put(0);
    let lines = story.cluster.standing();
    let led: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains(": Leader"))
        .collect();
    assert!(lines.len() > led.len() && !led.is_empty(), "{lines:?}");
    for line in led {
        assert!(
            line.contains("streams to") && line.contains("matched"),
            "{line}"
        );
    }
    let of_leader = format!("on node {leader}: Leader");
    assert!(
        lines.iter().any(|line| line.contains(&of_leader)),
        "{lines:?}"
    );
    story.end();
}

#[test]
fn the_majority_goes_on_without_the_leader_and_the_minority_does_not() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    story.isolate(leader, &[1]);
    story.run_ms(ELECTION_MS);
    assert_ne!(story.leader(), leader);
    story.put(0);
    let before = story.cluster.tally();
    story.ask_put(1, 8);
    story.run_ms(ELECTION_MS);
    assert_eq!(story.cluster.tally().succeeded, before.succeeded);
    story.run_ms(ELECTION_MS);
    story.end();
}

#[test]
fn a_leader_that_was_cut_off_answers_no_read() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    // Its client keeps the connection that it has.
    story.get(1);
    story.isolate(leader, &[1]);
    story.ask_put(0, 8);
    story.run_ms(ELECTION_MS);
    let before = story.cluster.tally().succeeded;
    story.ask_get(1);
    story.run_ms(ELECTION_MS);
    assert_eq!(story.cluster.tally().succeeded, before);
    story.cluster.heal();
    story.run_ms(ELECTION_MS);
    story.end();
}

#[test]
fn all_nodes_lose_their_power_at_once_and_nothing_that_was_acknowledged() {
    let mut story = Story::begin(config());
    for _ in 0..5 {
        story.put(0);
        (1..4).for_each(|client| story.ask_put(client, 3_000));
        story.run_ms(1);
        NODES.iter().for_each(|&node| story.crash(node));
        NODES.iter().for_each(|&node| story.start(node));
        story.run_ms(ELECTION_MS);
        story.get(0);
    }
    story.end();
}

#[test]
fn a_leader_that_stood_still_does_not_answer_from_what_it_knew() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    story.get(1);
    let until = story.cluster.now().plus_ms(2 * ELECTION_MS);
    story.cluster.pause(leader, until);
    story.run_ms(ELECTION_MS);
    story.put(0);
    // The read waits at the old leader when it wakes up, if the client still asks there.
    story.ask_get(1);
    story.run_ms(2 * ELECTION_MS);
    story.end();
}

#[test]
fn nobody_leads_without_a_majority() {
    let mut story = Story::begin(config());
    let followers = story.followers();
    followers.iter().for_each(|&node| story.crash(node));
    let before = story.cluster.tally().succeeded;
    story.ask_put(0, 8);
    story.run_ms(ELECTION_MS);
    assert_eq!(story.cluster.tally().succeeded, before);
    story.start(followers[1]);
    story.run_ms(ELECTION_MS);
    story.put(1);
    story.start(followers[0]);
    story.end();
}

#[test]
fn a_leader_whose_disk_fails_stops_and_another_one_leads() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    for disk in story.cluster.disks(leader) {
        disk.faults.io_error_per_mille = 1_000;
    }
    story.ask_put(0, 8);
    story.run_ms(2 * ELECTION_MS);
    assert!(!story.cluster.is_running(leader));
    story.put(1);
    for disk in story.cluster.disks(leader) {
        disk.faults.io_error_per_mille = 0;
    }
    story.start(leader);
    story.end();
}

#[test]
fn a_leader_that_hears_nobody_gives_up() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    let others = NODES.into_iter().filter(|&node| node != leader);
    let cuts: Vec<(Site, Site)> = others
        .map(|node| (Site::Node(node), Site::Node(leader)))
        .collect();
    story.cluster.split(Partition::of_links(&cuts));
    story.run_ms(2 * ELECTION_MS);
    assert_ne!(story.leader(), leader);
    story.put(0);
    story.end();
}

#[test]
fn a_shard_is_led_by_whom_it_is_handed_over_to() {
    let mut story = Story::begin(config());
    let (leader, follower) = (story.leader(), story.followers()[0]);
    let to = story.cluster.config().shape.replica(SHARD, follower);
    let told = story.cluster.hand_over(leader, SHARD, Some(to));
    told.unwrap_or_else(|broken| panic!("{broken}"));
    story.run_ms(200);
    assert_eq!(story.leader(), follower);
    story.put(0);
    story.end();
}

#[test]
fn clocks_that_run_a_tenth_apart_change_nothing() {
    let mut story = Story::begin(config());
    for (node, rate) in NODES.into_iter().zip([900_000, 1_000_000, 1_100_000]) {
        let set = story.cluster.set_clock_rate(node, ClockRate(rate));
        set.unwrap_or_else(|broken| panic!("{broken}"));
    }
    for _ in 0..5 {
        story.put(0);
        story.get(1);
    }
    story.end();
}

#[test]
fn a_follower_that_was_away_for_long_gets_what_the_log_still_has() {
    let mut config = config();
    config.settings.raft.tail_bytes_max = 4 << 10;
    let mut story = Story::begin(config);
    let away = story.followers()[0];
    story.crash(away);
    for _ in 0..100 {
        story.ask_put(0, 4_000);
        story.run_ms(20);
    }
    let before = story.cluster.counters().log_reads;
    story.start(away);
    story.run_ms(ELECTION_MS);
    assert!(story.cluster.counters().log_reads > before);
    story.end();
}

#[test]
fn a_follower_whose_entries_are_gone_gets_a_snapshot() {
    let mut config = config();
    config.settings.raft.tail_bytes_max = 4 << 10;
    config.settings.snapshots = SnapshotSettings {
        log_bytes_min: 64 << 10,
        log_bytes_per_snapshot_byte: 0,
        ..SnapshotSettings::default()
    };
    let mut story = Story::begin(config);
    let away = story.followers()[0];
    story.crash(away);
    for _ in 0..200 {
        story.ask_put(0, 8_000);
        story.run_ms(20);
    }
    let before = story.cluster.counters().snapshot_reads;
    story.start(away);
    story.run_ms(ELECTION_MS);
    assert!(story.cluster.counters().snapshot_reads > before);
    story.end();
}

#[test]
fn requests_that_come_to_the_wrong_core_of_a_node_are_passed_on() {
    let mut config = config();
    config.shape = Shape {
        nodes: 3,
        cores: 2,
        shards: 4,
    };
    let mut story = Story::begin(config);
    for client in 0..4 {
        story.put(client);
        story.get(client);
    }
    let shape = story.cluster.config().shape;
    let place = PeerCore {
        node: NODES[0],
        core: shape.core_of(SHARD),
    };
    assert_eq!(shape.placement(place).replicas.len(), 2);
    story.end();
}

/// How long clients may have to wait until somebody leads whose disk is well.
const EVACUATION_MS: u64 = 3_000;

/// The disks of a node take so long for everything from now on.
fn slow_down(story: &mut Story, node: NodeId, latency_ns: u64) {
    for disk in story.cluster.disks(node) {
        disk.latency = Latency {
            min_ns: latency_ns,
            usual_max_ns: latency_ns,
            slow_per_mille: 0,
            slow_max_ns: latency_ns,
        };
    }
}

/// A hung disk takes nothing any more, a slow one takes a thousand times as long as it did.
#[test]
fn others_lead_in_time_when_the_disk_of_a_leader_hangs_or_becomes_slow() {
    for latency_ns in [8_000_000_000, 400_000_000] {
        let mut story = Story::begin(config());
        // Where nobody says how fast he is, a slow leader goes only when it has led for a while.
        story.run_ms(6_000);
        let leader = story.leader();
        slow_down(&mut story, leader, latency_ns);
        // Something to be written: one slow write alone is none.
        for write in 0..4 {
            story.ask_put(write, 100);
            story.run_ms(EVACUATION_MS / 4);
        }
        assert_ne!(story.leader(), leader, "{latency_ns}");
        story.put(0);
        assert!(story.cluster.is_running(leader));
    }
}

#[test]
fn a_node_whose_disk_never_comes_back_stops() {
    let mut story = Story::begin(config());
    let leader = story.leader();
    slow_down(&mut story, leader, 60_000_000_000);
    story.ask_put(1, 100);
    let stopped = story.run_until_stop(12_000);
    assert_eq!(stopped, Some(leader));
    story.put(0);
}
