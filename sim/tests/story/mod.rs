//! A cluster that a test plays with, step by step.

#![allow(dead_code, reason = "each program of tests uses a part of it")]

use metastore_engine::{NodeId, Role, Settings, ShardId, Time};
use metastore_sim::cluster::shape::{Shape, shard_of};
use metastore_sim::cluster::{Cluster, ClusterConfig, ClusterStepped};
use metastore_sim::disk::{CrashKind, Latency};
use metastore_sim::network::{NetworkFaults, Partition, Site};
use metastore_sim::node::{FlushMethod, IDENTITY, SEAL};
use metastore_sim::operation::{Condition, Mutation, Operation, PreviousRow};
use metastore_sim::oracle::Checkers;
use metastore_sim::random::Random;
use metastore_statemachine::CommandKind;
use metastore_wal::LogOptions;

pub(crate) const SHARD: ShardId = ShardId(0);
pub(crate) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Longer than two election timeouts.
pub(crate) const ELECTION_MS: u64 = 3_000;
pub(crate) const SEGMENT_BYTES: u64 = 256 << 10;

/// Three nodes of one core, which hold two shards.
pub(crate) fn config() -> ClusterConfig {
    ClusterConfig {
        shape: Shape {
            nodes: 3,
            cores: 1,
            shards: 2,
        },
        clients: 4,
        timeout_ns: 500_000_000,
        settings: Settings {
            batch: metastore_engine::BatchSettings {
                bytes_max: 40 << 10,
                ..Default::default()
            },
            command_bytes_max: 40 << 10,
            ..Settings::default()
        },
        log: LogOptions {
            segment_bytes: SEGMENT_BYTES,
            record_bytes_max: 128 << 10,
            budget_bytes: 64 * SEGMENT_BYTES,
            spare_segments: 2,
            ..LogOptions::new(IDENTITY, SEAL)
        },
        flush: FlushMethod::DurableWrite,
        latency: Latency {
            min_ns: 20_000,
            usual_max_ns: 60_000,
            slow_per_mille: 0,
            slow_max_ns: 60_000,
        },
        network: NetworkFaults::NONE,
        checkers: Checkers::All,
    }
}

/// A cluster and what is done to it.
pub(crate) struct Story {
    pub(crate) cluster: Cluster<u64>,
    pub(crate) bell: u64,
    values: u64,
}

impl Story {
    /// A cluster that has its leaders.
    pub(crate) fn begin(config: ClusterConfig) -> Story {
        let mut story = Story {
            cluster: Cluster::new(config, Random::new(1)),
            bell: 0,
            values: 0,
        };
        NODES.iter().for_each(|&node| story.start(node));
        story.run_ms(ELECTION_MS);
        story.put(0);
        story
    }

    pub(crate) fn start(&mut self, node: NodeId) {
        let started = self.cluster.start(node);
        assert!(started.unwrap_or_else(|broken| panic!("{broken}")));
    }

    pub(crate) fn run_ms(&mut self, milliseconds: u64) {
        self.run_us(1_000 * milliseconds);
    }

    pub(crate) fn run_us(&mut self, microseconds: u64) {
        self.bell += 1;
        let until = Time(self.cluster.now().0 + 1_000 * microseconds);
        self.cluster.at(until, self.bell);
        loop {
            let stepped = self.cluster.step();
            let stepped = stepped.unwrap_or_else(|broken| panic!("{broken}"));
            if stepped.expect("a bell is to ring") == ClusterStepped::Own(self.bell) {
                return;
            }
        }
    }

    /// Until a node stops by itself, or so much time has passed.
    pub(crate) fn run_until_stop(&mut self, milliseconds: u64) -> Option<NodeId> {
        self.bell += 1;
        let until = self.cluster.now().plus_ms(milliseconds);
        self.cluster.at(until, self.bell);
        loop {
            let stepped = self.cluster.step();
            let stepped = stepped.unwrap_or_else(|broken| panic!("{broken}"));
            match stepped.expect("a bell is to ring") {
                ClusterStepped::Own(bell) if bell == self.bell => return None,
                ClusterStepped::Stopped(node) => return Some(node),
                ClusterStepped::Own(_) | ClusterStepped::WentOn => {}
            }
        }
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        let names = (0..).map(|number| format!("/d{number}/k").into_bytes());
        let map = self.cluster.shard_map();
        let mut here = names.filter(|key| shard_of(map, key) == SHARD);
        here.next().expect("every shard has keys")
    }

    /// A client puts a value that no other has.
    pub(crate) fn ask_put(&mut self, client: usize, value_bytes: usize) {
        self.values += 1;
        let mut value = self.values.to_le_bytes().to_vec();
        value.resize(value_bytes.max(8), 0);
        Random::new(self.values).fill(&mut value[8..]);
        let put = Mutation {
            kind: CommandKind::Put,
            key: self.key(),
            value,
            condition: Condition::Always,
            previous: PreviousRow::NotWanted,
        };
        self.cluster.ask(client, Operation::Mutate(put));
    }

    pub(crate) fn ask_get(&mut self, client: usize) {
        let key = self.key();
        self.cluster.ask(client, Operation::Get { key, at: None });
    }

    /// Puts until one is done: of the first ones the client may have to learn that nobody knows.
    pub(crate) fn put(&mut self, client: usize) {
        let before = self.cluster.tally().succeeded;
        for _ in 0..3 {
            if !self.cluster.is_asking(client) {
                self.ask_put(client, 8);
            }
            self.run_ms(ELECTION_MS);
            if self.cluster.tally().succeeded > before {
                return;
            }
        }
        panic!("it is done");
    }

    pub(crate) fn get(&mut self, client: usize) {
        let before = self.cluster.tally().succeeded;
        self.ask_get(client);
        self.run_ms(ELECTION_MS);
        assert_eq!(self.cluster.tally().succeeded, before + 1, "it is answered");
    }

    /// Waits until somebody leads the shard, and nobody is in the middle of a turn.
    pub(crate) fn await_leader(&mut self) -> NodeId {
        let has_leader = |story: &Story| {
            let replicas = story.cluster.replicas();
            let mut here = replicas.iter().filter(|status| status.shard == SHARD);
            here.any(|status| status.role == Role::Leader)
        };
        for _ in 0..50_000 {
            if has_leader(self) {
                return self.leader();
            }
            self.run_us(100);
        }
        panic!("somebody leads");
    }

    /// The node that leads the shard, in the newest term.
    pub(crate) fn leader(&self) -> NodeId {
        let replicas = self.cluster.replicas();
        let leads = replicas
            .iter()
            .filter(|status| status.shard == SHARD && status.role == Role::Leader);
        let newest = leads.max_by_key(|status| status.term);
        let replica = newest.expect("somebody leads").replica;
        let shape = self.cluster.config().shape;
        let lives = |node: &NodeId| shape.replica(SHARD, *node) == replica;
        NODES.into_iter().find(lives).expect("it lives somewhere")
    }

    pub(crate) fn followers(&self) -> Vec<NodeId> {
        let leader = self.leader();
        NODES.into_iter().filter(|&node| node != leader).collect()
    }

    /// Parts a node from the others, with these clients on its side.
    pub(crate) fn isolate(&mut self, node: NodeId, clients: &[usize]) {
        let there = clients.iter().map(|&client| Site::Client(client));
        let inside = std::iter::once(Site::Node(node)).chain(there).collect();
        let others = NODES.into_iter().filter(|&other| other != node);
        let clients_there = (0..4).filter(|client| !clients.contains(client));
        let outside = others
            .map(Site::Node)
            .chain(clients_there.map(Site::Client))
            .collect();
        self.cluster.split(Partition::of_groups(&[inside, outside]));
    }

    pub(crate) fn crash(&mut self, node: NodeId) {
        self.cluster.crash(node, CrashKind::PowerLoss);
    }

    /// Everybody has applied the same, and what clients saw has an order.
    pub(crate) fn end(mut self) {
        self.cluster.heal();
        self.run_ms(ELECTION_MS);
        self.put(0);
        self.get(1);
        let applied = |story: &Story| {
            let replicas = story.cluster.replicas();
            let here = replicas.iter().filter(|status| status.shard == SHARD);
            here.map(|status| status.applied).collect::<Vec<_>>()
        };
        // A node in the middle of a turn does not tell how it stands.
        let patience = (0..100).find(|_| {
            let all_tell = applied(&self).len() == NODES.len();
            if !all_tell {
                self.run_ms(1);
            }
            all_tell
        });
        assert!(patience.is_some(), "all of them tell how they stand");
        let applied = applied(&self);
        assert!(
            applied.iter().all(|&index| index == applied[0]),
            "{applied:?}"
        );
        for status in self.cluster.replicas() {
            self.cluster
                .observer
                .on_status(&status)
                .expect("equal states");
        }
        let checked = self.cluster.observer.check_histories();
        checked.unwrap_or_else(|broken| panic!("{broken}"));
    }
}
