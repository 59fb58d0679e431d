//! Stories of groups that have nothing to do: they sleep, and wake when it matters. And of leaders that find their place.

mod story;

use metastore_engine::{IdleSettings, NodeId, Role, ShardId, TickTiming};
use metastore_sim::cluster::ClusterConfig;
use metastore_sim::cluster::shape::Shape;
use metastore_sim::cluster::shape::shard_of;
use metastore_sim::network::{Partition, Site};
use metastore_sim::operation::{Condition, Mutation, Operation, PreviousRow};
use metastore_statemachine::CommandKind;

use story::{ELECTION_MS, NODES, SHARD, Story, config};

/// Time for groups to fall asleep in.
const SLEEP_MS: u64 = 3_000;
/// Two election timeouts and a round of votes, with ticks of 50 ms.
const ELECTED_MS: u64 = 1_100;

/// Ticks are of one length, so that times can be compared.
fn sleepy() -> ClusterConfig {
    let mut config = config();
    config.settings.raft.timing = TickTiming::Fixed;
    config.settings.raft.idle = IdleSettings {
        sleep_ticks: Some(5),
        lead_ticks: None,
    };
    config
}

fn sleepless() -> ClusterConfig {
    let mut config = sleepy();
    config.settings.raft.idle.sleep_ticks = None;
    config
}

/// A cluster whose groups all sleep.
fn asleep(config: ClusterConfig) -> Story {
    let mut story = Story::begin(config);
    story.run_ms(SLEEP_MS);
    assert_eq!(awake(&story), []);
    story
}

/// Shards with a replica that is awake, as far as nodes that run tell.
fn awake(story: &Story) -> Vec<ShardId> {
    let replicas = story.cluster.replicas().into_iter();
    let awake = replicas.filter(|status| !status.is_asleep);
    awake.map(|status| status.shard).collect()
}

/// How long it takes until another node leads the shard in a newer term and answers.
fn time_to_another_leader_ms(story: &mut Story, before: NodeId) -> u64 {
    for passed_ms in 0..10 * ELECTED_MS {
        story.run_ms(1);
        let replicas = story.cluster.replicas();
        let leads = |status: &&metastore_engine::ReplicaStatus| {
            let shape = story.cluster.config().shape;
            status.shard == SHARD
                && status.role == Role::Leader
                && status.replica != shape.replica(SHARD, before)
        };
        if replicas.iter().any(|status| leads(&status)) {
            return passed_ms + 1;
        }
    }
    panic!("nobody leads");
}

/// Messages are then one for each pair of cores and tick, in both directions, however many shards there are.
#[test]
fn cores_whose_groups_sleep_say_nothing_but_that_they_are_there() {
    for shards in [2, 40] {
        let mut config = sleepy();
        config.shape.shards = shards;
        let mut story = asleep(config);
        let before = story.cluster.network.counters().sent;
        story.run_ms(10_000);
        let sent = story.cluster.network.counters().sent - before;
        // 200 ticks of each of three nodes to two others.
        assert!((1_190..=1_210).contains(&sent), "{sent} messages");
        story.end();
    }
}

#[test]
fn a_group_whose_leader_dies_while_it_sleeps_elects_as_soon_as_one_that_is_awake() {
    for config in [sleepy(), sleepless()] {
        let mut story = Story::begin(config);
        story.run_ms(SLEEP_MS);
        let leader = story.leader();
        story.crash(leader);
        let took_ms = time_to_another_leader_ms(&mut story, leader);
        assert!(took_ms <= ELECTED_MS, "{took_ms} ms");
        story.put(0);
        story.start(leader);
        story.end();
    }
}

/// Nobody is told that a connection ended: only silence says it.
#[test]
fn a_group_whose_leader_falls_silent_while_it_sleeps_elects_within_two_timeouts() {
    let mut story = asleep(sleepy());
    let leader = story.leader();
    let others = NODES.into_iter().filter(|&node| node != leader);
    let cuts: Vec<(Site, Site)> = others
        .map(|node| (Site::Node(leader), Site::Node(node)))
        .collect();
    story.cluster.split(Partition::of_links(&cuts));
    let took_ms = time_to_another_leader_ms(&mut story, leader);
    assert!((150..=ELECTED_MS).contains(&took_ms), "{took_ms} ms");
    story.end();
}

#[test]
fn a_read_and_a_put_wake_a_group_and_it_sleeps_again() {
    let mut story = asleep(sleepy());
    for client in [0, 1, 2] {
        let before = story.cluster.tally().succeeded;
        story.ask_get(client);
        story.run_ms(200);
        assert_eq!(story.cluster.tally().succeeded, before + 1, "it is read");
        story.ask_put(client, 100);
        story.run_ms(200);
        assert_eq!(story.cluster.tally().succeeded, before + 2, "it is put");
        assert!(awake(&story).contains(&SHARD));
        story.run_ms(SLEEP_MS);
        assert_eq!(awake(&story), []);
    }
    story.end();
}

#[test]
fn a_leader_that_is_cut_off_while_it_sleeps_finds_out() {
    let mut story = asleep(sleepy());
    let leader = story.leader();
    story.isolate(leader, &[1]);
    let took_ms = time_to_another_leader_ms(&mut story, leader);
    assert!(took_ms <= ELECTED_MS, "{took_ms} ms");
    story.run_ms(2 * ELECTED_MS);
    let replicas = story.cluster.replicas().into_iter();
    let leaders = replicas.filter(|status| status.shard == SHARD && status.role == Role::Leader);
    assert_eq!(leaders.count(), 1, "it leads no more");
    story.put(0);
    story.cluster.heal();
    story.run_ms(2 * SLEEP_MS);
    assert_eq!(awake(&story), []);
    story.end();
}

#[test]
fn a_group_sleeps_without_a_member_that_is_down_and_wakes_when_it_comes_back() {
    let mut story = asleep(sleepy());
    let away = story.followers()[0];
    story.crash(away);
    story.run_ms(200);
    story.put(0);
    story.run_ms(2 * SLEEP_MS);
    assert_eq!(awake(&story), [], "without the one that is down");
    story.start(away);
    story.run_ms(200);
    assert!(awake(&story).contains(&SHARD));
    story.run_ms(SLEEP_MS);
    assert_eq!(awake(&story), []);
    let shape = story.cluster.config().shape;
    let replicas = story.cluster.replicas();
    let mut of_shard = replicas.iter().filter(|status| status.shard == SHARD);
    let back = of_shard.clone();
    let mut back = back.filter(|status| status.replica == shape.replica(SHARD, away));
    let applied = back.next().expect("it runs").applied;
    assert!(of_shard.all(|status| status.applied == applied));
    story.end();
}

/// The network takes one of three messages, and repeats and delays others: who sleeps without the rest must be heard.
#[test]
fn groups_sleep_and_wake_over_a_network_that_loses_much() {
    let mut config = sleepy();
    config.network.loss_per_mille = 300;
    config.network.duplicate_per_mille = 300;
    config.network.reorder_per_mille = 300;
    let mut story = Story::begin(config);
    for _ in 0..8 {
        story.run_ms(1_500);
        story.put(0);
    }
    story.cluster.network.faults = metastore_sim::network::NetworkFaults::NONE;
    story.run_ms(2 * SLEEP_MS);
    assert_eq!(awake(&story), []);
    story.end();
}

/// A follower's answers stop: as long as it may be there nobody sleeps without it, and then they do.
#[test]
fn a_leader_does_not_sleep_before_all_do_who_are_there() {
    let mut story = asleep(sleepy());
    let (leader, deaf) = (story.leader(), story.followers()[0]);
    let cuts = [(Site::Node(deaf), Site::Node(leader))];
    story.ask_put(0, 8);
    story.run_ms(10);
    story.cluster.split(Partition::of_links(&cuts));
    story.run_ms(400);
    let shape = story.cluster.config().shape;
    let sleeps = |story: &Story| {
        let replicas = story.cluster.replicas().into_iter();
        let mut leads = replicas.filter(|status| status.replica == shape.replica(SHARD, leader));
        leads.next().expect("it runs").is_asleep
    };
    assert!(!sleeps(&story), "it has had nothing to do for 400 ms");
    story.run_ms(SLEEP_MS);
    assert!(sleeps(&story));
    assert_eq!(story.leader(), leader);
    story.end();
}

#[test]
fn a_leader_that_stood_still_while_it_slept_does_not_answer_from_what_it_knew() {
    let mut story = asleep(sleepy());
    let leader = story.leader();
    story.get(1);
    story.run_ms(SLEEP_MS);
    let until = story.cluster.now().plus_ms(2 * ELECTION_MS);
    story.cluster.pause(leader, until);
    story.run_ms(ELECTION_MS);
    story.put(0);
    story.ask_get(1);
    story.run_ms(2 * ELECTION_MS);
    story.end();
}

/// The other shard writes to the same disk. Nothing is asked of the one that sleeps, and its leader's core is there.
#[test]
fn a_group_that_sleeps_is_led_by_another_when_the_disk_of_its_leader_hangs() {
    let mut story = asleep(sleepy());
    let leader = story.leader();
    for disk in story.cluster.disks(leader) {
        disk.latency.min_ns = 8_000_000_000;
        disk.latency.usual_max_ns = 8_000_000_000;
        disk.latency.slow_max_ns = 8_000_000_000;
    }
    let map = story.cluster.shard_map();
    let mut names = (0..).map(|number| format!("/d{number}/k").into_bytes());
    let key = names.find(|key| shard_of(map, key) != SHARD);
    let put = Mutation {
        kind: CommandKind::Put,
        key: key.expect("every shard has keys"),
        value: vec![1; 8],
        condition: Condition::Always,
        previous: PreviousRow::NotWanted,
    };
    story.cluster.ask(0, Operation::Mutate(put));
    story.run_ms(7_000);
    assert_ne!(story.leader(), leader);
}

#[test]
fn leaders_are_spread_and_come_back_after_a_restart() {
    let mut config = config();
    config.shape = Shape {
        nodes: 3,
        cores: 2,
        shards: 12,
    };
    let mut story = Story::begin(config);
    story.run_ms(30_000);
    assert_eq!(leads_of_nodes(&story), [4, 4, 4]);
    assert_eq!(awake(&story), [], "what has found its place sleeps");
    story.crash(NodeId(2));
    story.run_ms(ELECTION_MS);
    let [first, second, third] = leads_of_nodes(&story);
    assert_eq!((first + third, second), (12, 0));
    story.start(NodeId(2));
    story.run_ms(1_000);
    assert_eq!(leads_of_nodes(&story)[1], 0, "not at once");
    story.run_ms(30_000);
    assert_eq!(leads_of_nodes(&story), [4, 4, 4]);
    story.end();
}

/// How many shards each node leads.
fn leads_of_nodes(story: &Story) -> [usize; 3] {
    let shape = story.cluster.config().shape;
    let replicas = story.cluster.replicas();
    NODES.map(|node| {
        let leads = replicas.iter().filter(|status| {
            status.role == Role::Leader && status.replica == shape.replica(status.shard, node)
        });
        leads.count()
    })
}

#[test]
fn ticks_grow_with_the_way_between_nodes_and_nobody_is_deposed_for_it() {
    let mut config = config();
    config.settings.raft.idle.lead_ticks = None;
    config.network.delay_min_ns = 60_000_000;
    config.network.delay_max_ns = 70_000_000;
    config.timeout_ns = 2_000_000_000;
    let mut story = Story::begin(config);
    story.run_ms(10_000);
    let before = story.cluster.observer.reigns();
    for client in 0..4 {
        story.put(client);
        story.run_ms(5_000);
    }
    assert_eq!(story.cluster.observer.reigns(), before);
    story.end();
}
